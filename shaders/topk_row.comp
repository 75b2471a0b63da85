#version 450
// topk of k = 1, barrier-free: as the first pass of topk.comp, one subgroup of eight lanes a chunk.
//
//   values  (rows, n) f32 as RGBA texels; n is a multiple of 4
//   dst     (rows, chunks) pairs of value bits and id
//
// Workgroup y is the row. Each lane strides over the chunk's 256 texels and keeps its best;
// the eight are compared through shuffles. NaN counts as +inf. Reads each value once.
#extension GL_EXT_control_flow_attributes : require
#extension GL_EXT_samplerless_texture_functions : require
#include "lane8.glsl"
#include "best.glsl"

layout(local_size_x = 8) in;
layout(binding = 0) uniform textureBuffer values;
layout(std430, binding = 1) writeonly buffer Out { uvec2 dst[]; };
layout(push_constant) uniform Push {
    uint n;
    uint k; // 1
} p;

void main() {
    uint texels = p.n / 4u;
    uint first = gl_WorkGroupID.x * 256u;
    uint end = min(first + 256u, texels);
    float best = MINUS_INF;
    uint id = NONE;
    for (uint i = first + gl_SubgroupInvocationID; i < end; i += LANES) {
        vec4 v = texelFetch(values, int(gl_WorkGroupID.y * texels + i));
        [[unroll]] for (int c = 0; c < 4; c++) {
            float x = isnan(v[c]) ? PLUS_INF : v[c];
            // A lane's ids rise, so only a larger value is better than the first.
            if (x > best || id == NONE) { best = x; id = 4u * i + uint(c); }
        }
    }
    float all = best;
    uint which = id;
    [[unroll]] for (uint i = 0u; i < LANES; i++) {
        float w = subgroupShuffle(best, i);
        uint jd = subgroupShuffle(id, i);
        if (better(w, jd, all, which)) { all = w; which = jd; }
    }
    if (gl_SubgroupInvocationID == 0u)
        dst[gl_WorkGroupID.y * ((p.n + 1023u) / 1024u) + gl_WorkGroupID.x] = uvec2(floatBitsToUint(all), which);
}
