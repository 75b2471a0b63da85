#version 450
// attention_decode at device addresses, attention of one token of each sequence (z) as attention.comp has it: one subgroup
// of LANES takes GROUP heads that share keys. A lane has some of a row's words, of keys and
// values alike, LANES words apart. It adds up its part of the scores of KEYS keys; the parts meet so
// that each lane gets the score of one key. A row is a multiple of LANES words.
//
//   q (tokens, heads, head_dim) f32; slopes (heads); keys, values (cache.glsl) at addresses
//   dst (tokens, heads, head_dim) f32
//
// With ROPE it is rope.comp too: q is qkv, (tokens, heads + 2 kv_heads, head_dim), as yet to be
// rotated; the first of the groups that share a key and value moves them into the cache, and
// each takes its own position's from qkv.
//
// Reads the live keys and values once for GROUP heads.
#extension GL_EXT_control_flow_attributes : require
#extension GL_KHR_shader_subgroup_shuffle : require
#define STEP_BINDING 0
#include "step.glsl"

layout(constant_id = 0) const uint LANES = 8u;
layout(local_size_x_id = 0) in;
layout(constant_id = 1) const uint HEAD_DIM = 64u;
layout(constant_id = 2) const uint GROUP = 1u;
#include "lane_words.glsl"
layout(std430, binding = 1) readonly buffer QKV { float qkv[]; };
layout(std430, binding = 3) writeonly buffer Out { float dst[]; };
#define SLOPES_BINDING 2
#define ADDRESSES uint64_t keys, values;
#include "score.glsl"
#include "cache_words.glsl"
#define PAGES_BINDING 4
#include "pages.glsl"
#ifdef ROPE
layout(constant_id = 3) const bool INTERLEAVED = false;
layout(std430, binding = 5) readonly buffer Table { vec2 table[]; };
layout(std430, binding = 6) writeonly buffer NewKeys { uint new_keys[]; };
layout(std430, binding = 7) writeonly buffer NewValues { uint new_values[]; };
#include "rotate.glsl"
#endif

#define MOST_KEYS 8u
const uint KEYS = LANES < MOST_KEYS ? LANES : MOST_KEYS; // taken at a time
#define LANE_WORDS (ROW_WORDS / LANES)
#define LANE_DIMS (HEAD_DIM / LANES)

// The component of a row that is component i of a lane's word w.
uint dimension(uint w, uint i) { return (w * LANES + lane) * WORD_DIMS + i; }

uint load_word(uint64_t side, uint row, uint w) {
    return lane_word(side + uint64_t(row * ROW_WORDS + w * LANES) * 4ul);
}

// The parts of lanes that are `apart` lanes apart meet. Where the lanes between are fewer than
// KEYS, each keeps those of half of the keys: of the upper half if its number has that bit.
void meet(inout float part[MOST_KEYS], uint apart) {
    if (apart >= LANES) return;
    bool upper = (lane & apart) != 0u;
    [[unroll]] for (uint k = 0u; k < (apart < KEYS ? apart : KEYS); k++) {
        float mine = part[k], other = part[k];
        if (apart < KEYS) {
            mine = mix(part[k], part[k + apart], upper);
            other = mix(part[k + apart], part[k], upper);
        }
        part[k] = mine + subgroupShuffleXor(other, apart);
    }
}

float lanes_sum(float v) {
    [[unroll]] for (uint apart = 1u; apart < LANES; apart *= 2u) v += subgroupShuffleXor(v, apart);
    return v;
}

float lanes_max(float v) {
    [[unroll]] for (uint apart = 1u; apart < LANES; apart *= 2u) v = max(v, subgroupShuffleXor(v, apart));
    return v;
}

void main() {
    read_lane();
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
    float query[GROUP * LANE_DIMS], sums[GROUP * LANE_DIMS];
#ifdef ROPE
    uint q0 = first_token * (p.heads + 2u * p.kv_heads) * HEAD_DIM;
    uint cached = position; // keys to be read from the cache
    bool writes = gl_WorkGroupID.y % groups == 0u;
    float key[LANE_DIMS], value[LANE_DIMS];
#else
    uint q0 = first_token * p.heads * HEAD_DIM;
    uint cached = length;
#endif
    [[unroll]] for (uint w = 0u; w < LANE_WORDS; w++) {
        [[unroll]] for (uint i = 0u; i < WORD_DIMS; i++) {
            uint d = dimension(w, i), at = w * WORD_DIMS + i;
            [[unroll]] for (uint g = 0u; g < GROUP; g++) {
                uint base = q0 + min(h0 + g, last_head) * HEAD_DIM;
#ifdef ROPE
                query[g * LANE_DIMS + at] = p.scale * rotated(base, d, position);
#else
                query[g * LANE_DIMS + at] = p.scale * qkv[base + d];
#endif
                sums[g * LANE_DIMS + at] = 0.0;
            }
#ifdef ROPE
            key[at] = rotated(q0 + (p.heads + kv) * HEAD_DIM, d, position);
            value[at] = load(q0 + (p.heads + p.kv_heads + kv) * HEAD_DIM + d);
#endif
        }
#ifdef ROPE
        uint at = w * WORD_DIMS;
        uint to = cache_row(kv, position) * ROW_WORDS + w * LANES + lane;
        uint k = STORED_WORD(key, at), v = STORED_WORD(value, at);
        if (writes) {
            new_keys[to] = k;
            new_values[to] = v;
        }
        [[unroll]] for (uint i = 0u; i < WORD_DIMS; i++) {
            key[at + i] = component(k, i);
            value[at + i] = component(v, i);
        }
#endif
    }
    float slope[GROUP], running_max[GROUP], running_sum[GROUP]; // the sum: of this lane's keys
    [[unroll]] for (uint g = 0u; g < GROUP; g++) {
        slope[g] = head_slope(min(h0 + g, last_head));
        running_max[g] = -3.0e38; // below every score and finite, as in cache_row.glsl
        running_sum[g] = 0.0;
    }
    uint mine = lane % KEYS; // the key of the lane, which the first KEYS lanes count
    // Blocks of KEYS start at multiples of it, so that each is in one page.
    uint first = start & ~(KEYS - 1u);
    // Loads are not switched off with the lanes (lane_words.glsl): with nothing cached they read place 0.
    if (first < cached) do {
        uint row = cache_row(kv, first);          // of the block's first place
        uint tail = max(cached, 1u) - 1u - first; // positions after it may never have been written
        float part[GROUP][MOST_KEYS];
        [[unroll]] for (uint j = 0u; j < KEYS; j++) {
            [[unroll]] for (uint g = 0u; g < GROUP; g++) part[g][j] = 0.0;
            [[unroll]] for (uint w = 0u; w < LANE_WORDS; w++) {
                uint word = load_word(p.keys, row + min(j, tail), w);
                [[unroll]] for (uint i = 0u; i < WORD_DIMS; i++)
                    [[unroll]] for (uint g = 0u; g < GROUP; g++)
                        part[g][j] += component(word, i) * query[g * LANE_DIMS + w * WORD_DIMS + i];
            }
        }
        float weight[GROUP];
        [[unroll]] for (uint g = 0u; g < GROUP; g++) {
            meet(part[g], 8u);
            meet(part[g], 4u);
            meet(part[g], 2u);
            meet(part[g], 1u);
            float s = finish_score(part[g][0], slope[g], int(first + mine) - int(length) + 1);
            s = first + mine >= start && mine <= tail ? s : minus_inf;
            float m = max(running_max[g], lanes_max(s));
            float rescale = exp(running_max[g] - m);
            running_max[g] = m;
            weight[g] = exp(s - m);
            running_sum[g] = running_sum[g] * rescale + (lane < KEYS ? weight[g] : 0.0);
            [[unroll]] for (uint i = 0u; i < LANE_DIMS; i++) sums[g * LANE_DIMS + i] *= rescale;
        }
        [[unroll]] for (uint j = 0u; j < KEYS; j++) {
            float share[GROUP];
            [[unroll]] for (uint g = 0u; g < GROUP; g++) share[g] = subgroupShuffle(weight[g], j);
            [[unroll]] for (uint w = 0u; w < LANE_WORDS; w++) {
                uint word = load_word(p.values, row + min(j, tail), w);
                [[unroll]] for (uint i = 0u; i < WORD_DIMS; i++)
                    [[unroll]] for (uint g = 0u; g < GROUP; g++)
                        sums[g * LANE_DIMS + w * WORD_DIMS + i] += share[g] * component(word, i);
            }
        }
        first += KEYS;
    } while (first < cached);
    [[unroll]] for (uint g = 0u; g < GROUP; g++) {
        float total = lanes_sum(running_sum[g]);
#ifdef ROPE
        float s = 0.0;
        [[unroll]] for (uint i = 0u; i < LANE_DIMS; i++) s += key[i] * query[g * LANE_DIMS + i];
        s = finish_score(lanes_sum(s), slope[g], 0);
        float m = max(running_max[g], s);
        float own = exp(s - m), rescale = exp(running_max[g] - m);
        total = total * rescale + own;
        [[unroll]] for (uint i = 0u; i < LANE_DIMS; i++) sums[g * LANE_DIMS + i] = sums[g * LANE_DIMS + i] * rescale + own * value[i];
#endif
        if (h0 + g > last_head) continue;
        [[unroll]] for (uint w = 0u; w < LANE_WORDS; w++)
            [[unroll]] for (uint i = 0u; i < WORD_DIMS; i++)
                dst[(first_token * p.heads + h0 + g) * HEAD_DIM + dimension(w, i)] = sums[g * LANE_DIMS + w * WORD_DIMS + i] / total;
    }
}
