#version 450
// attention, barrier-free: as attention.comp for several tokens; one subgroup of eight lanes
// takes a head (y) and eight tokens of a sequence (x), a query a lane. Keys and values are loaded
// eight positions at a time, one texel a lane, converted there and passed around by constant
// shuffles.
//
//   q (tokens, heads, head_dim) f32 and keys, values (cache_row.glsl) as texels; slopes (heads)
//   dst (tokens, heads, head_dim) f32
//
// Reads the live keys and values once a head and eight tokens.
#extension GL_EXT_control_flow_attributes : require
#extension GL_EXT_samplerless_texture_functions : require
#define STEP_BINDING 0
#include "step.glsl"
#include "seen.glsl"
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
#define PAGES_BINDING 6
#include "pages.glsl"

// A row is whole blocks of eight texels, and there are so many that eight rows unrolled take LLVM seconds: a row at a time then.
const bool LONG = HEAD_DIM > 128u;

void main() {
    uint h = gl_WorkGroupID.y, lane = gl_SubgroupInvocationID;
    uint t0;
    if (!set_tile(gl_WorkGroupID.x, LANES, 1u, t0)) return; // uniform
    uint t = min(t0 + lane, token_count - 1u);
    uint start = step.tokens[first_token + t].start;
    uint length = position + last_seen(first_token + t) - first_token - start + 1u; // of this lane's ending, what it sees
    uint end = min(t0 + LANES, token_count);
    uint last = position + last_seen(first_token + end - 1u) - first_token + 1u; // of what any lane sees in the cache
    // Other endings' keys, between those that all share and those of the first lane's, are
    // skipped as far as whole blocks of eight go.
    uint start_any = step.tokens[first_token + t0].start;
    uint resume = (position + start_any) & ~7u;
    bool one = step.tokens[first_token + end - 1u].start == start_any;
    uint first_any = first_key(one ? position + t0 - start_any + 1u : position + 1u);
    first_any = cache_position(first_any, start_any) & ~7u;
    uint kv = h / (p.heads / p.kv_heads);
    float minus_inf = uintBitsToFloat(0xff800000u);

    vec4 query[HEAD_QUADS], sums[HEAD_QUADS];
    [[unroll]] for (uint i = 0u; i < HEAD_QUADS; i++) {
        query[i] = p.scale * texelFetch(q, int(((first_token + t) * p.heads + h) * HEAD_QUADS + i));
        sums[i] = vec4(0.0);
    }
    float slope = head_slope(h);
    uint first_seen = first_key(length);
    uint own_from = max(first_seen, position);
    float running_max = LOWEST, running_sum = 0.0;
    for (uint first = first_any; first < last; first = first + LANES < position ? first + LANES : max(first + LANES, resume)) {
        // Texel n of these eight rows is loaded by lane n % 8; positions from `last` on may
        // never have been written and are read as the last one, with weight zero.
        uint row = cache_row(kv, first);
        uint tail = last - 1u - first;
        float score[LANES];
        [[unroll]] for (uint j = 0u; j < LANES; j++) score[j] = 0.0;
        if (LONG) {
            for (uint j = 0u; j < LANES; j++) {
                uint at = row + min(j, tail);
                float sum = 0.0;
                [[unroll]] for (uint i = 0u; i < HEAD_TEXELS / LANES; i++) {
                    uint n = i * LANES + lane;
                    uvec4 k = texelFetch(keys, int(at * HEAD_TEXELS + n));
                    float scale = TEXEL_SCALE(keys, at, n);
                    [[unroll]] for (uint c = 0u; c < TEXEL_QUADS; c++) {
                        vec4 mine = scale * texel_quad(k, c);
                        [[unroll]] for (uint l = 0u; l < LANES; l++)
                            sum += dot(subgroupShuffle(mine, l), query[(i * LANES + l) * TEXEL_QUADS + c]);
                    }
                }
                [[unroll]] for (uint l = 0u; l < LANES; l++) score[l] = l == j ? sum : score[l];
            }
        } else {
            [[unroll]] for (uint i = 0u; i < HEAD_TEXELS; i++) {
                uint n = i * LANES + lane, at = row + min(n / HEAD_TEXELS, tail);
                uvec4 k = texelFetch(keys, int(at * HEAD_TEXELS + n % HEAD_TEXELS));
                float scale = TEXEL_SCALE(keys, at, n % HEAD_TEXELS);
                [[unroll]] for (uint c = 0u; c < TEXEL_QUADS; c++) {
                    vec4 mine = scale * texel_quad(k, c);
                    [[unroll]] for (uint l = 0u; l < LANES; l++) {
                        uint m = i * LANES + l;
                        score[m / HEAD_TEXELS] += dot(subgroupShuffle(mine, l), query[m % HEAD_TEXELS * TEXEL_QUADS + c]);
                    }
                }
            }
        }
        [[unroll]] for (uint j = 0u; j < LANES; j++) {
            bool shared_key = first + j < position;
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
        if (LONG) {
            for (uint j = 0u; j < LANES; j++) {
                uint at = row + min(j, tail);
                float w = score[0];
                [[unroll]] for (uint l = 1u; l < LANES; l++) w = l == j ? score[l] : w;
                [[unroll]] for (uint i = 0u; i < HEAD_TEXELS / LANES; i++) {
                    uint n = i * LANES + lane;
                    uvec4 v = texelFetch(values, int(at * HEAD_TEXELS + n));
                    float scale = TEXEL_SCALE(values, at, n);
                    [[unroll]] for (uint c = 0u; c < TEXEL_QUADS; c++) {
                        vec4 mine = scale * texel_quad(v, c);
                        [[unroll]] for (uint l = 0u; l < LANES; l++)
                            sums[(i * LANES + l) * TEXEL_QUADS + c] += w * subgroupShuffle(mine, l);
                    }
                }
            }
        } else {
            [[unroll]] for (uint i = 0u; i < HEAD_TEXELS; i++) {
                uint n = i * LANES + lane, at = row + min(n / HEAD_TEXELS, tail);
                uvec4 v = texelFetch(values, int(at * HEAD_TEXELS + n % HEAD_TEXELS));
                float scale = TEXEL_SCALE(values, at, n % HEAD_TEXELS);
                [[unroll]] for (uint c = 0u; c < TEXEL_QUADS; c++) {
                    vec4 mine = scale * texel_quad(v, c);
                    [[unroll]] for (uint l = 0u; l < LANES; l++) {
                        uint m = i * LANES + l;
                        sums[m % HEAD_TEXELS * TEXEL_QUADS + c] += score[m / HEAD_TEXELS] * subgroupShuffle(mine, l);
                    }
                }
            }
        }
    }
    if (t0 + lane >= token_count) return;
    [[unroll]] for (uint i = 0u; i < HEAD_QUADS; i++)
        dst[((first_token + t) * p.heads + h) * HEAD_QUADS + i] = sums[i] / running_sum;
}
