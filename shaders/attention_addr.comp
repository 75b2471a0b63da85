#version 450
// attention at device addresses: as attention_row.comp for several tokens; one subgroup of LANES
// takes a head (y) and LANES tokens of a sequence (x), a query a lane. Keys and values are loaded a row at a
// time, a word a lane, and passed around by constant shuffles. A row is a multiple of LANES words.
//
//   q (tokens, heads, head_dim) f32, keys, values (cache.glsl) at addresses; slopes (heads)
//   dst (tokens, heads, head_dim) f32
//
// Reads the live keys and values once a head and LANES tokens.
#extension GL_EXT_control_flow_attributes : require
#extension GL_KHR_shader_subgroup_shuffle : require
#define STEP_BINDING 0
#include "step.glsl"
#include "seen.glsl"

layout(constant_id = 0) const uint LANES = 8u;
layout(local_size_x_id = 0) in;
layout(constant_id = 1) const uint HEAD_DIM = 64u;
#include "lane_words.glsl"
layout(std430, binding = 2) writeonly buffer Out { vec4 dst[]; };
#define SLOPES_BINDING 1
#define ADDRESSES uint64_t q, keys, values;
#include "score.glsl"
#include "cache_words.glsl"
#define PAGES_BINDING 3
#include "pages.glsl"

#define KEYS 8u // taken at a time

// Word `word` of the rows of KEYS positions, a word a lane; positions after `tail` may never have
// been written and are read as that one.
void load_rows(uint64_t side, uint row, uint tail, uint word, out uint rows[KEYS]) {
    [[unroll]] for (uint j = 0u; j < KEYS; j++)
        rows[j] = lane_word(side + uint64_t((row + min(j, tail)) * ROW_WORDS + word) * 4ul);
}

void main() {
    uint h = gl_WorkGroupID.y;
    read_lane();
    uint t0;
    if (!set_tile(gl_WorkGroupID.x, LANES, 1u, t0)) return; // uniform
    uint t = min(t0 + lane, token_count - 1u);
    uint start = step.tokens[first_token + t].start;
    uint length = position + last_seen(first_token + t) - first_token - start + 1u; // of this lane's ending, what it sees
    uint end = min(t0 + LANES, token_count);
    uint last = position + last_seen(first_token + end - 1u) - first_token + 1u; // of what any lane sees in the cache
    // Other endings' keys, between those that all share and those of the first lane's, are
    // skipped as far as whole blocks of KEYS go.
    uint start_any = step.tokens[first_token + t0].start;
    uint resume = (position + start_any) & ~(KEYS - 1u);
    bool one = step.tokens[first_token + end - 1u].start == start_any;
    uint first = first_key(one ? position + t0 - start_any + 1u : position + 1u);
    first = cache_position(first, start_any) & ~(KEYS - 1u);
    uint kv = h / (p.heads / p.kv_heads);
    float minus_inf = uintBitsToFloat(0xff800000u);

    float query[HEAD_DIM], sums[HEAD_DIM];
    [[unroll]] for (uint d = 0u; d < HEAD_DIM; d++) {
        query[d] = 0.0;
        sums[d] = 0.0;
    }
    [[unroll]] for (uint l = 0u; l < LANES; l++) {
        uint64_t from = p.q + uint64_t(((first_token + min(t0 + l, token_count - 1u)) * p.heads + h) * HEAD_DIM) * 4ul;
        [[unroll]] for (uint d = 0u; d < HEAD_DIM; d++) {
            float v = Floats(from).f[d];
            query[d] = mix(query[d], v, lane == l);
        }
    }
    [[unroll]] for (uint d = 0u; d < HEAD_DIM; d++) query[d] *= p.scale;
    float slope = head_slope(h);
    uint first_seen = first_key(length);
    uint own_from = max(first_seen, position);
    float running_max = -3.0e38, running_sum = 0.0; // below every score and finite, as in cache_row.glsl
    do {
        uint row = cache_row(kv, first);
        uint tail = last - 1u - first;
        float score[KEYS];
        [[unroll]] for (uint j = 0u; j < KEYS; j++) score[j] = 0.0;
        [[unroll]] for (uint w = 0u; w < ROW_WORDS; w += LANES) {
            uint rows[KEYS];
            load_rows(p.keys, row, tail, w, rows);
            [[unroll]] for (uint i = 0u; i < WORD_DIMS; i++)
                [[unroll]] for (uint l = 0u; l < LANES; l++)
                    [[unroll]] for (uint j = 0u; j < KEYS; j++)
                        score[j] += subgroupShuffle(component(rows[j], i), l) * query[(w + l) * WORD_DIMS + i];
        }
        [[unroll]] for (uint j = 0u; j < KEYS; j++) {
            bool shared_key = first + j < position;
            uint place = shared_key ? first + j : first + j - start;
            score[j] = finish_score(score[j], slope, int(place) - int(length) + 1);
            score[j] = place >= (shared_key ? first_seen : own_from) && place < length ? score[j] : minus_inf;
        }
        float m = running_max;
        [[unroll]] for (uint j = 0u; j < KEYS; j++) m = max(m, score[j]);
        float rescale = exp(running_max - m);
        running_max = m;
        running_sum *= rescale;
        [[unroll]] for (uint j = 0u; j < KEYS; j++) {
            score[j] = exp(score[j] - m);
            running_sum += score[j];
        }
        [[unroll]] for (uint w = 0u; w < ROW_WORDS; w += LANES) {
            uint rows[KEYS];
            load_rows(p.values, row, tail, w, rows);
            [[unroll]] for (uint i = 0u; i < WORD_DIMS; i++)
                [[unroll]] for (uint l = 0u; l < LANES; l++) {
                    uint d = (w + l) * WORD_DIMS + i;
                    float sum = sums[d] * rescale;
                    [[unroll]] for (uint j = 0u; j < KEYS; j++) sum += score[j] * subgroupShuffle(component(rows[j], i), l);
                    sums[d] = sum;
                }
        }
        first = first + KEYS < position ? first + KEYS : max(first + KEYS, resume);
    } while (first < last);
    if (t0 + lane >= token_count) return;
    [[unroll]] for (uint d = 0u; d < HEAD_DIM; d += 4u)
        dst[(((first_token + t) * p.heads + h) * HEAD_DIM + d) / 4u] = vec4(sums[d], sums[d + 1u], sums[d + 2u], sums[d + 3u]) / running_sum;
}
