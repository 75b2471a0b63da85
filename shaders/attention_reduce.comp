#version 450
// attention_reduce: joins the splits that attention of one token leaves (split.glsl).
//
//   m = max_s m_s,  dst[h] = sum_s exp(m_s - m) sums[h, s] / sum_s exp(m_s - m) total[h, s]
//   over the splits that had keys
//
//   parts  (tokens, heads, SPLITS, head_dim + 4) f32: sums, then maximum and total
//   dst    (tokens, heads, head_dim) f32
//
// One invocation a quad of dst, of a sequence's token (y), no shared memory. Reads every live split once.
#define STEP_BINDING 0
#include "step.glsl"

layout(local_size_x_id = 0) in;
layout(std430, binding = 1) readonly buffer Parts { vec4 parts[]; };
layout(std430, binding = 2) writeonly buffer Out { vec4 dst[]; };
layout(push_constant) uniform Push {
    uint heads;
    uint head_dim;
    uint window; // as in score.glsl
} p;
#include "split.glsl"

void main() {
    uint quads = p.head_dim / 4u;
    uint i = gl_GlobalInvocationID.x;
    if (i >= p.heads * quads || gl_WorkGroupID.y >= step.singles) return;
    StepSequence own = step.sequence[gl_WorkGroupID.y];
    uint length = own.position + 1u;
    uint start = length > p.window ? length - p.window : 0u;
    uint size = split_keys(start, length);
    uint live = (length - first_counted(start) + size - 1u) / size;
    uint base = (own.first * p.heads + i / quads) * SPLITS * (quads + 1u);

    float m = parts[base + quads].x;
    for (uint s = 1u; s < live; s++) m = max(m, parts[base + s * (quads + 1u) + quads].x);
    vec4 sum = vec4(0.0);
    float total = 0.0;
    for (uint s = 0u; s < live; s++) {
        uint at = base + s * (quads + 1u);
        float w = exp(parts[at + quads].x - m);
        sum += w * parts[at + i % quads];
        total += w * parts[at + quads].y;
    }
    dst[own.first * p.heads * quads + i] = sum / total;
}
