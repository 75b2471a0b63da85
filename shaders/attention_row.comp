#version 450
// attention, barrier-free: as attention.comp for a run of tokens; one subgroup of eight
// lanes takes a head (y) and eight tokens (x), a query a lane. Keys and values are loaded
// eight positions at a time, one texel a lane, and passed around by constant shuffles.
//
//   q (tokens, heads, head_dim) f32 and keys, values (kv_heads, context, head_dim) as texels; slopes (heads)
//   dst (tokens, heads, head_dim) f32; HEAD_DIM is a multiple of 64 (f16) or 32 (f32)
//
// Reads the live keys and values once a head and eight tokens.
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
    uint t0 = gl_WorkGroupID.x * LANES;
    if (t0 >= step.count) return; // uniform
    uint t = min(t0 + lane, step.count - 1u);
    uint start = step.tokens[t].start;
    uint length = step.position + t - start + 1u;            // of this lane's sequence up to its token
    uint end = min(t0 + LANES, step.count);
    uint last = step.position + end;                         // of what any lane sees in the cache
    // Other sequences' keys, between those that all share and those of the first lane's
    // sequence, are skipped as far as whole blocks of eight go.
    uint start_any = step.tokens[t0].start;
    uint resume = (step.position + start_any) & ~7u;
    bool one = step.tokens[end - 1u].start == start_any;
    uint first_any = first_key(one ? step.position + t0 - start_any + 1u : step.position + 1u);
    first_any = cache_position(first_any, start_any) & ~7u;
    uint base = h / (p.heads / p.kv_heads) * p.context * HEAD_TEXELS;
    float minus_inf = uintBitsToFloat(0xff800000u);

    vec4 query[HEAD_QUADS], sums[HEAD_QUADS];
    [[unroll]] for (uint i = 0u; i < HEAD_QUADS; i++) {
        query[i] = p.scale * texelFetch(q, int((t * p.heads + h) * HEAD_QUADS + i));
        sums[i] = vec4(0.0);
    }
    float slope = head_slope(h);
    uint first_seen = first_key(length);
    uint own_from = max(first_seen, step.position);
    float running_max = LOWEST, running_sum = 0.0;
    for (uint first = first_any; first < last; first = first + LANES < step.position ? first + LANES : max(first + LANES, resume)) {
        // Texel n of these eight positions is loaded by lane n % 8; positions from `last`
        // on may never have been written and are read as the last one, with weight zero.
        uint slot = first % p.context;
        uint tail = last - 1u - first;
        float score[LANES];
        [[unroll]] for (uint j = 0u; j < LANES; j++) {
            score[j] = 0.0;
            [[unroll]] for (uint i = 0u; i < LANE_TEXELS; i++) {
                uvec4 mine = texelFetch(keys, int(base + (slot + min(j, tail)) * HEAD_TEXELS + i * LANES + lane));
                [[unroll]] for (uint l = 0u; l < LANES; l++) {
                    uvec4 k = subgroupShuffle(mine, l);
                    [[unroll]] for (uint n = 0u; n < TEXEL_QUADS; n++)
                        score[j] += dot(texel_quad(k, n), query[(i * LANES + l) * TEXEL_QUADS + n]);
                }
            }
            bool shared_key = first + j < step.position;
            uint place = shared_key ? first + j : first + j - start;
            score[j] = finish_score(score[j], slope, int(place) - int(length) + 1);
            score[j] = place >= (shared_key ? first_seen : own_from) && place < length ? score[j] : minus_inf;
        }
        float m = running_max;
        [[unroll]] for (uint j = 0u; j < LANES; j++) m = max(m, score[j]);
        float rescale = exp(running_max - m);
        running_max = m;
        running_sum *= rescale;
        [[unroll]] for (uint j = 0u; j < LANES; j++) {
            score[j] = exp(score[j] - m);
            running_sum += score[j];
        }
        [[unroll]] for (uint i = 0u; i < HEAD_QUADS; i++) sums[i] *= rescale;
        [[unroll]] for (uint j = 0u; j < LANES; j++)
            [[unroll]] for (uint i = 0u; i < LANE_TEXELS; i++) {
                uvec4 mine = texelFetch(values, int(base + (slot + min(j, tail)) * HEAD_TEXELS + i * LANES + lane));
                [[unroll]] for (uint l = 0u; l < LANES; l++) {
                    uvec4 v = subgroupShuffle(mine, l);
                    [[unroll]] for (uint n = 0u; n < TEXEL_QUADS; n++)
                        sums[(i * LANES + l) * TEXEL_QUADS + n] += score[j] * texel_quad(v, n);
                }
            }
    }
    if (t0 + lane >= step.count) return;
    [[unroll]] for (uint i = 0u; i < HEAD_QUADS; i++)
        dst[(t * p.heads + h) * HEAD_QUADS + i] = sums[i] / running_sum;
}
