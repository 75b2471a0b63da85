// How attention of one token divides the keys it sees between SPLITS workgroups: each takes
// split_keys consecutive ones, a multiple of SPLIT_KEYS, and those that find none left
// leave at once. The order of sums depends on position alone.
//
// Where more than one has keys, each leaves, for each of its heads, the sums of weighted values and behind them a quad
// (maximum, sum of weights). The last to arrive joins what all have left, in the order of the splits:
//
//   m = max_s m_s,  dst[h] = sum_s exp(m_s - m) sums[h, s] / sum_s exp(m_s - m) total[h, s]
//
//   parts     (tokens, heads, SPLITS, head_dim + 4) f32: sums, then maximum and total
//   arrivals  (tokens, groups of heads) u32: arrive.glsl
//
// The includer has QUADS, the quads of a head, and dst. It defines PARTS_BINDING, behind which is the binding of arrivals.
#define SPLIT_KEYS 64u
#define JOINED 4u // splits that are loaded at a time
layout(constant_id = 2) const uint SPLITS = 1u;
// coherent: workgroups read what others write.
layout(std430, binding = PARTS_BINDING) coherent buffer Parts { vec4 parts[]; };
#include "arrive.glsl"

// Keys are counted from a multiple of eight, so that a block of eight is in one page.
uint first_counted(uint start) { return start & ~7u; }

uint split_keys(uint start, uint length) {
    uint n = (length - first_counted(start) + SPLITS - 1u) / SPLITS;
    return (n + SPLIT_KEYS - 1u) / SPLIT_KEYS * SPLIT_KEYS;
}

// How many splits have keys.
uint live_splits(uint start, uint length) {
    uint size = split_keys(start, length);
    return (length - first_counted(start) + size - 1u) / size;
}

// Where split s of head h (of all tokens) leaves its part.
uint part_of(uint h, uint s) { return (h * SPLITS + s) * (QUADS + 1u); }

// Joins quad i of head h.
void join_parts(uint h, uint i, uint live) {
    float m = -3.0e38, total = 0.0; // below every maximum
    vec4 sum = vec4(0.0);
    for (uint first = 0u; first < live; first += JOINED) {
        vec4 sums[JOINED], of[JOINED];
        float before = m;
        for (uint s = 0u; s < JOINED; s++) { // a split beyond the last is the last, without weight
            uint at = part_of(h, min(first + s, live - 1u));
            sums[s] = parts[at + i];
            of[s] = parts[at + QUADS];
            m = max(m, of[s].x);
        }
        sum *= exp(before - m);
        total *= exp(before - m);
        for (uint s = 0u; s < JOINED; s++) {
            float w = first + s < live ? exp(of[s].x - m) : 0.0;
            sum += w * sums[s];
            total += w * of[s].y;
        }
    }
    dst[h * QUADS + i] = sum / total;
}
