#version 450
// attention: causal attention of a run's queries over the KV cache, grouped-query heads.
//
//   out[t, h] = sum_j softmax_j(score(q[t, h], k[h / G, j])) * v[h / G, j],
//   j the last `window` places of t's sequence up to its own, G = heads / kv_heads
//   score(q, k) is scale * q . k, as include/score.glsl completes it
//
//   q, dst        (tokens, heads, head_dim) f32
//   keys, values  (kv_heads, context, head_dim), as cache.glsl stores them
//   slopes        (heads) f32, of ALiBi
//
// One workgroup a head (x) and token (y). Keys are taken WORKGROUP at a time, a key an
// invocation; the running maximum and sum of Milakov and Gimelshein 2018 (arXiv:1805.02867)
// keep one pass, then each invocation accumulates some of the head's dimensions.
// Shared memory: 4 * (2 * WORKGROUP + 2 * 256) bytes; head_dim is at most 256 and a multiple of four.
// Reads the live keys and values once a head and token.
#define STEP_BINDING 0
#include "step.glsl"

layout(local_size_x_id = 0) in;
layout(constant_id = 0) const uint WORKGROUP = 64u;
layout(std430, binding = 1) readonly buffer Q { vec4 q[]; };
#define SLOPES_BINDING 4
#include "score.glsl"
#include "cache.glsl"
layout(std430, binding = 2) readonly buffer Keys { CACHE_QUAD keys[]; };
layout(std430, binding = 3) readonly buffer Values { CACHE_QUAD values[]; };
layout(std430, binding = 5) writeonly buffer Out { vec4 dst[]; };
#include "reduce.glsl"

#define MAX_HEAD_DIM 256u
shared vec4 query[MAX_HEAD_DIM / 4u];
shared vec4 sums[MAX_HEAD_DIM / 4u];
shared float weight[WORKGROUP];

void main() {
    uint h = gl_WorkGroupID.x, t = gl_WorkGroupID.y, lane = gl_LocalInvocationID.x;
    if (t >= step.count) return; // uniform over the workgroup
    uint quads = p.head_dim / 4u;
    uint q_base = (t * p.heads + h) * quads;
    uint row0 = h / (p.heads / p.kv_heads) * p.context;
    uint start = step.tokens[t].start;
    uint length = step.position + t - start + 1u;
    float slope = head_slope(h);

    for (uint d = lane; d < quads; d += WORKGROUP) {
        query[d] = p.scale * q[q_base + d];
        sums[d] = vec4(0.0);
    }
    barrier(); // the query is complete

    float running_max = uintBitsToFloat(0xff800000u); // -inf
    float running_sum = 0.0;
    for (uint first = first_key(length); first < length; first += WORKGROUP) {
        uint j = first + lane;
        float score = uintBitsToFloat(0xff800000u);
        if (j < length) {
            uint row = row0 + cache_position(j, start) % p.context;
            score = 0.0;
            for (uint d = 0u; d < quads; d++) score += dot(query[d], KEY_QUAD(row, d));
            score = finish_score(score, slope, int(j) - int(length) + 1);
        }
        float m = max(running_max, workgroup_max(score));
        float e = exp(score - m);
        float rescale = exp(running_max - m);
        weight[lane] = e;
        running_sum = running_sum * rescale + workgroup_sum(e); // its barriers publish weight
        running_max = m;
        uint live = min(WORKGROUP, length - first);
        for (uint d = lane; d < quads; d += WORKGROUP) {
            vec4 s = sums[d] * rescale;
            for (uint i = 0u; i < live; i++) s += weight[i] * VALUE_QUAD(row0 + cache_position(first + i, start) % p.context, d);
            sums[d] = s;
        }
    }
    for (uint d = lane; d < quads; d += WORKGROUP) dst[q_base + d] = sums[d] / running_sum;
}
