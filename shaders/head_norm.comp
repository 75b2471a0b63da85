#version 450
// head_norm: RMS normalisation of every query and key head of qkv, in place, each kind with
// its own weights (Qwen3, Gemma 3).
//
//   qkv     (tokens, heads + 2 kv_heads, head_dim) f32: query heads, key heads, value heads
//   qw, kw  (head_dim) f32
//
// One workgroup a head (x) and token (y); the sum of squares goes through shared memory
// (4 * WORKGROUP bytes). Reads 12 bytes and writes 4 an element.
#define STEP_BINDING 0
#include "step.glsl"

layout(local_size_x_id = 0) in;
layout(constant_id = 0) const uint WORKGROUP = 64u;
layout(std430, binding = 1) buffer QKV { float qkv[]; };
layout(std430, binding = 2) readonly buffer QW { float qw[]; };
layout(std430, binding = 3) readonly buffer KW { float kw[]; };
layout(push_constant) uniform Push {
    uint heads;
    uint kv_heads;
    uint head_dim;
    float eps;
} p;
#include "reduce.glsl"

void main() {
    uint h = gl_WorkGroupID.x, t = gl_WorkGroupID.y;
    if (t >= step.count) return; // uniform over the workgroup
    uint base = (t * (p.heads + 2u * p.kv_heads) + h) * p.head_dim;
    float sum = 0.0;
    for (uint d = gl_LocalInvocationID.x; d < p.head_dim; d += WORKGROUP) sum += qkv[base + d] * qkv[base + d];
    float scale = inversesqrt(workgroup_sum(sum) / float(p.head_dim) + p.eps);
    for (uint d = gl_LocalInvocationID.x; d < p.head_dim; d += WORKGROUP)
        qkv[base + d] *= scale * (h < p.heads ? qw[d] : kw[d]);
}
