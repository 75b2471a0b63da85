#version 450
// topk of k = 1 or 2, barrier-free: as the first pass of topk.comp, one subgroup of eight lanes a chunk.
//
//   values  (rows, n) f32 as RGBA texels; n is a multiple of 4
//   dst     (rows, chunks, k) pairs of value bits and id
//
// Workgroup y is the row. Each lane strides over the chunk's 256 texels and keeps its best, and
// its second if K is 2; the lanes' are compared through shuffles. NaN counts as +inf. Reads each
// value once. MASKED leaves out the tokens that a row's mask does not allow.
#extension GL_EXT_control_flow_attributes : require
#extension GL_EXT_samplerless_texture_functions : require
#include "lane8.glsl"
#include "best.glsl"

layout(local_size_x = 8) in;
layout(constant_id = 0) const uint K = 1u;
layout(binding = 0) uniform textureBuffer values;
layout(std430, binding = 1) writeonly buffer Out { uvec2 dst[]; };
layout(push_constant) uniform Push {
    uint n;
    uint k; // K
} p;
#ifdef MASKED
#define MASK_BINDING 2
#include "mask.glsl"
#define WHERE_ALLOWED(c) if ((allowed >> c & 1u) != 0u) // a component of a texel whose bits are allowed's lowest
#else
#define WHERE_ALLOWED(c)
#endif

float best, next; // the lane's, or of all lanes
uint best_id, next_id;

void insert(float v, uint id) {
    if (better(v, id, best, best_id)) {
        if (K > 1u) { next = best; next_id = best_id; }
        best = v;
        best_id = id;
    } else if (K > 1u && better(v, id, next, next_id)) {
        next = v;
        next_id = id;
    }
}

void main() {
    uint texels = p.n / 4u;
    uint first = gl_WorkGroupID.x * (CHUNK / 4u);
    uint end = min(first + CHUNK / 4u, texels);
    best = MINUS_INF;
    next = MINUS_INF;
    best_id = NONE;
    next_id = NONE;
    for (uint i = first + gl_SubgroupInvocationID; i < end; i += LANES) {
        vec4 v = texelFetch(values, int(gl_WorkGroupID.y * texels + i));
#ifdef MASKED
        uint allowed = allowed_word(gl_WorkGroupID.y, p.n, 4u * i) >> (4u * i % 32u);
#endif
        [[unroll]] for (int c = 0; c < 4; c++)
            WHERE_ALLOWED(c) insert(isnan(v[c]) ? PLUS_INF : v[c], 4u * i + uint(c));
    }
    float lane_best = best, lane_next = next;
    uint lane_best_id = best_id, lane_next_id = next_id;
    [[unroll]] for (uint i = 1u; i < LANES; i++) { // the others', in turn: lane 0 ends with the best of all
        insert(subgroupShuffle(lane_best, i), subgroupShuffle(lane_best_id, i));
        if (K > 1u) insert(subgroupShuffle(lane_next, i), subgroupShuffle(lane_next_id, i));
    }
    if (gl_SubgroupInvocationID != 0u) return;
    uint at = (gl_WorkGroupID.y * ((p.n + (CHUNK - 1u)) / CHUNK) + gl_WorkGroupID.x) * K;
    dst[at] = uvec2(floatBitsToUint(best), best_id);
    if (K > 1u) dst[at + 1u] = uvec2(floatBitsToUint(next), next_id);
}
