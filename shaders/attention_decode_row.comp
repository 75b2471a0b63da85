#version 450
// attention_decode, barrier-free: as attention.comp for one token; one subgroup of eight
// lanes a head (y). Eight keys at a time, a key a lane, for the scores; then each lane adds
// up its own HEAD_DIM / 8 dimensions of the values.
//
//   q (heads, head_dim) f32 and keys, values (kv_heads, context, head_dim) as texels; slopes (heads)
//   dst (heads, head_dim) f32; HEAD_DIM is a multiple of 64 (f16) or 32 (f32)
//
// Reads the live keys and values once a head.
#extension GL_EXT_control_flow_attributes : require
#extension GL_EXT_samplerless_texture_functions : require
#define STEP_BINDING 0
#include "step.glsl"
#include "lane8.glsl"

layout(local_size_x = 8) in;
layout(constant_id = 0) const uint HEAD_DIM = 64u;
layout(binding = 1) uniform textureBuffer q;
layout(binding = 2) uniform utextureBuffer keys;
layout(binding = 3) uniform utextureBuffer values;
layout(std430, binding = 5) writeonly buffer Out { vec4 dst[]; };
#define SLOPES_BINDING 4
#include "score.glsl"
#include "cache_row.glsl"

void main() {
    uint h = gl_WorkGroupID.y, lane = gl_SubgroupInvocationID;
    uint length = step.position + 1u;
    uint base = h / (p.heads / p.kv_heads) * p.context * HEAD_TEXELS;
    float minus_inf = uintBitsToFloat(0xff800000u);

    vec4 query[HEAD_QUADS]; // the same in every lane
    [[unroll]] for (uint i = 0u; i < HEAD_QUADS / LANES; i++) {
        vec4 mine = p.scale * texelFetch(q, int(h * HEAD_QUADS + i * LANES + lane));
        [[unroll]] for (uint j = 0u; j < LANES; j++) query[i * LANES + j] = subgroupShuffle(mine, j);
    }
    vec4 sums[LANE_TEXELS * TEXEL_QUADS];
    [[unroll]] for (uint i = 0u; i < LANE_TEXELS * TEXEL_QUADS; i++) sums[i] = vec4(0.0);

    float slope = head_slope(h);
    uint start = first_key(length);
    // Blocks of eight start at multiples of eight, so that none wraps around the cache.
    float running_max = LOWEST, running_sum = 0.0;
    for (uint first = start & ~7u; first < length; first += LANES) {
        uint slot = first % p.context; // of the block's first position
        uint tail = length - 1u - first;
        uint key = slot + min(lane, tail);
        float score = 0.0;
        [[unroll]] for (uint i = 0u; i < HEAD_TEXELS; i++) {
            uvec4 k = texelFetch(keys, int(base + key * HEAD_TEXELS + i));
            [[unroll]] for (uint n = 0u; n < TEXEL_QUADS; n++)
                score += dot(texel_quad(k, n), query[i * TEXEL_QUADS + n]);
        }
        score = finish_score(score, slope, int(first + lane) - int(length) + 1);
        score = first + lane >= start && lane <= tail ? score : minus_inf;
        float m = max(running_max, lanes_max(score));
        float e = exp(score - m);
        float rescale = exp(running_max - m);
        running_sum = running_sum * rescale + lanes_sum(e);
        running_max = m;
        [[unroll]] for (uint i = 0u; i < LANE_TEXELS * TEXEL_QUADS; i++) sums[i] *= rescale;
        [[unroll]] for (uint j = 0u; j < LANES; j++) {
            float w = subgroupShuffle(e, j);
            uint at = base + (slot + min(j, tail)) * HEAD_TEXELS + lane;
            [[unroll]] for (uint i = 0u; i < LANE_TEXELS; i++) {
                uvec4 v = texelFetch(values, int(at + i * LANES));
                [[unroll]] for (uint n = 0u; n < TEXEL_QUADS; n++) sums[i * TEXEL_QUADS + n] += w * texel_quad(v, n);
            }
        }
    }
    [[unroll]] for (uint i = 0u; i < LANE_TEXELS; i++)
        [[unroll]] for (uint n = 0u; n < TEXEL_QUADS; n++)
            dst[h * HEAD_QUADS + (i * LANES + lane) * TEXEL_QUADS + n] = sums[i * TEXEL_QUADS + n] / running_sum;
}
