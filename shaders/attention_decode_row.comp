#version 450
// attention_decode, barrier-free: attention of one token of each sequence (z), as attention.comp has it; one
// subgroup of eight lanes takes GROUP heads that share keys (y). Eight keys at a time, a key a lane, for the
// scores; then each lane adds up its own components of the values, a texel of 16 bytes at a time.
//
//   q (tokens, heads, head_dim) f32 and keys, values (cache_row.glsl) as texels; slopes (heads)
//   dst (tokens, heads, head_dim) f32
//
// With ROPE it is rope.comp too: q is qkv, (tokens, heads + 2 kv_heads, head_dim), as yet to be
// rotated; the first of the groups that share a key and value moves them into the cache, and
// each takes its own position's from qkv. HEAD_TEXELS is a multiple of eight then.
//
// Reads the live keys and values once for GROUP heads.
#extension GL_EXT_control_flow_attributes : require
#extension GL_EXT_samplerless_texture_functions : require
#define STEP_BINDING 0
#include "step.glsl"
#include "lane8.glsl"

layout(local_size_x = 8) in;
layout(constant_id = 0) const uint HEAD_DIM = 64u;
layout(constant_id = 1) const uint GROUP = 1u;
#ifdef ROPE
layout(constant_id = 2) const bool INTERLEAVED = false;
layout(binding = 1) uniform textureBuffer qkv;
layout(binding = 7) uniform textureBuffer table;
layout(std430, binding = 8) writeonly buffer NewKeys { uvec4 new_keys[]; };
layout(std430, binding = 9) writeonly buffer NewValues { uvec4 new_values[]; };
#else
layout(binding = 1) uniform textureBuffer q;
#endif
layout(binding = 2) uniform utextureBuffer keys;
layout(binding = 3) uniform utextureBuffer values;
layout(std430, binding = 5) writeonly buffer Out { vec4 dst[]; };
#define SLOPES_BINDING 4
#include "score.glsl"
#include "cache_row.glsl"
#define PAGES_BINDING 6
#include "pages.glsl"
#ifdef ROPE
#include "rotate_row.glsl"

vec4 turned(uint i, uint d) {
    vec4 v = load(i);
    return d < p.rotary_dim / 4u ? rotated(v, i, d, position) : v;
}
#endif

// Of one load of the values: the positions it spans, and a lane's loads a position.
#define SPAN (HEAD_TEXELS < LANES ? LANES / HEAD_TEXELS : 1u)
#define LANE_TEXELS (HEAD_TEXELS < LANES ? 1u : HEAD_TEXELS / LANES)
#define LANE_QUADS (LANE_TEXELS * TEXEL_QUADS)
#define QUERY_LOADS ((GROUP * HEAD_QUADS + LANES - 1u) / LANES)

void main() {
    uint lane = gl_SubgroupInvocationID;
    uint sharing = p.heads / p.kv_heads;
    uint groups = (sharing + GROUP - 1u) / GROUP;
    uint kv = gl_WorkGroupID.y / groups;
    uint h0 = kv * sharing + gl_WorkGroupID.y % groups * GROUP;
    uint last_head = kv * sharing + sharing - 1u; // what comes after it in a group is thrown away
    float minus_inf = uintBitsToFloat(0xff800000u);

    if (gl_WorkGroupID.z >= step.singles) return; // uniform
    set_sequence(gl_WorkGroupID.z);
    uint length = position + 1u;
    uint start = first_key(length);

#ifdef ROPE
    uint q0 = first_token * (p.heads + 2u * p.kv_heads) * HEAD_QUADS;
    uint cached = position; // keys to be read from the cache
    vec4 query[GROUP * HEAD_QUADS];
    vec4 own[GROUP * LANE_QUADS], key[LANE_QUADS], value[LANE_QUADS]; // texel i * LANES + lane
    [[unroll]] for (uint i = 0u; i < LANE_TEXELS; i++) {
        uint texel = i * LANES + lane;
        uvec4 k, v;
        [[unroll]] for (uint n = 0u; n < TEXEL_QUADS; n++) {
            uint d = texel * TEXEL_QUADS + n, at = i * TEXEL_QUADS + n;
            [[unroll]] for (uint g = 0u; g < GROUP; g++) {
                own[g * LANE_QUADS + at] = p.scale * turned(q0 + min(h0 + g, last_head) * HEAD_QUADS + d, d);
                [[unroll]] for (uint l = 0u; l < LANES; l++)
                    query[g * HEAD_QUADS + (i * LANES + l) * TEXEL_QUADS + n] = subgroupShuffle(own[g * LANE_QUADS + at], l);
            }
            store_quad(k, n, turned(q0 + (p.heads + kv) * HEAD_QUADS + d, d));
            store_quad(v, n, load(q0 + (p.heads + p.kv_heads + kv) * HEAD_QUADS + d));
            key[at] = texel_quad(k, n);
            value[at] = texel_quad(v, n);
        }
        if (gl_WorkGroupID.y % groups == 0u) {
            uint at = cache_row(kv, position) * HEAD_TEXELS + texel;
            new_keys[at] = k;
            new_values[at] = v;
        }
    }
#else
    uint q0 = first_token * p.heads * HEAD_QUADS;
    uint cached = length;
    vec4 query[QUERY_LOADS * LANES]; // (GROUP, HEAD_QUADS), the same in every lane
    [[unroll]] for (uint i = 0u; i < QUERY_LOADS; i++) {
        uint at = q0 + min(h0 * HEAD_QUADS + i * LANES + lane, p.heads * HEAD_QUADS - 1u);
        vec4 mine = p.scale * texelFetch(q, int(at));
        [[unroll]] for (uint l = 0u; l < LANES; l++) query[i * LANES + l] = subgroupShuffle(mine, l);
    }
#endif
    vec4 sums[GROUP * LANE_QUADS];
    float slope[GROUP], running_max[GROUP], running_sum[GROUP]; // the sum: of this lane's keys
    [[unroll]] for (uint g = 0u; g < GROUP; g++) {
        [[unroll]] for (uint i = 0u; i < LANE_QUADS; i++) sums[g * LANE_QUADS + i] = vec4(0.0);
        slope[g] = head_slope(min(h0 + g, last_head));
        running_max[g] = LOWEST;
        running_sum[g] = 0.0;
    }
    // Blocks of eight start at multiples of eight, so that each is in one page.
    for (uint first = start & ~7u; first < cached; first += LANES) {
        uint row = cache_row(kv, first); // of the block's first place
        uint tail = cached - 1u - first;
        uint own = row + min(lane, tail);
        float score[GROUP];
        [[unroll]] for (uint g = 0u; g < GROUP; g++) score[g] = 0.0;
        [[unroll]] for (uint i = 0u; i < HEAD_TEXELS; i++) {
            uvec4 k = texelFetch(keys, int(own * HEAD_TEXELS + i));
            float scale = TEXEL_SCALE(keys, own, i);
            float product[GROUP];
            [[unroll]] for (uint g = 0u; g < GROUP; g++) product[g] = 0.0;
            [[unroll]] for (uint n = 0u; n < TEXEL_QUADS; n++) {
                vec4 quad = texel_quad(k, n);
                [[unroll]] for (uint g = 0u; g < GROUP; g++)
                    product[g] += dot(quad, query[g * HEAD_QUADS + i * TEXEL_QUADS + n]);
            }
            [[unroll]] for (uint g = 0u; g < GROUP; g++) score[g] += scale * product[g];
        }
        [[unroll]] for (uint g = 0u; g < GROUP; g++) {
            float s = finish_score(score[g], slope[g], int(first + lane) - int(length) + 1);
            s = first + lane >= start && lane <= tail ? s : minus_inf;
            float m = max(running_max[g], lanes_max(s));
            float rescale = exp(running_max[g] - m);
            score[g] = exp(s - m); // a weight from here on
            running_sum[g] = running_sum[g] * rescale + score[g];
            running_max[g] = m;
            [[unroll]] for (uint i = 0u; i < LANE_QUADS; i++) sums[g * LANE_QUADS + i] *= rescale;
        }
        [[unroll]] for (uint j = 0u; j < LANES; j += SPAN) {
            uint in_span = SPAN == 1u ? 0u : lane / HEAD_TEXELS;
            uint at = row + min(j + in_span, tail);
            float w[GROUP];
            [[unroll]] for (uint g = 0u; g < GROUP; g++) {
                w[g] = subgroupShuffle(score[g], j);
                [[unroll]] for (uint a = 1u; a < SPAN; a++) {
                    float other = subgroupShuffle(score[g], j + a);
                    w[g] = in_span == a ? other : w[g];
                }
            }
            [[unroll]] for (uint i = 0u; i < LANE_TEXELS; i++) {
                uint texel = (i * LANES + lane) % HEAD_TEXELS;
                uvec4 v = texelFetch(values, int(at * HEAD_TEXELS + texel));
                float scale = TEXEL_SCALE(values, at, texel);
                [[unroll]] for (uint n = 0u; n < TEXEL_QUADS; n++) {
                    vec4 quad = scale * texel_quad(v, n);
                    [[unroll]] for (uint g = 0u; g < GROUP; g++) sums[g * LANE_QUADS + i * TEXEL_QUADS + n] += w[g] * quad;
                }
            }
        }
    }
#ifdef ROPE
    [[unroll]] for (uint g = 0u; g < GROUP; g++) {
        float s = 0.0;
        [[unroll]] for (uint i = 0u; i < LANE_QUADS; i++) s += dot(key[i], own[g * LANE_QUADS + i]);
        s = finish_score(lanes_sum(s), slope[g], 0);
        float m = max(running_max[g], s);
        float e = exp(s - m), rescale = exp(running_max[g] - m);
        running_sum[g] = running_sum[g] * rescale + (lane == 0u ? e : 0.0);
        [[unroll]] for (uint i = 0u; i < LANE_QUADS; i++) sums[g * LANE_QUADS + i] = sums[g * LANE_QUADS + i] * rescale + e * value[i];
    }
#endif
    [[unroll]] for (uint g = 0u; g < GROUP; g++) {
        float total = lanes_sum(running_sum[g]);
        uint h = h0 + g;
        [[unroll]] for (uint i = 0u; i < LANE_QUADS; i++) {
            vec4 s = sums[g * LANE_QUADS + i];
            if (HEAD_TEXELS <= 4u) s += subgroupShuffleXor(s, 4u);
            if (HEAD_TEXELS <= 2u) s += subgroupShuffleXor(s, 2u);
            if (HEAD_TEXELS == 1u) s += subgroupShuffleXor(s, 1u);
            uint texel = i / TEXEL_QUADS * LANES + lane;
            if (texel < HEAD_TEXELS && h <= last_head)
                dst[(first_token * p.heads + h) * HEAD_QUADS + texel * TEXEL_QUADS + i % TEXEL_QUADS] = s / total;
        }
    }
}
