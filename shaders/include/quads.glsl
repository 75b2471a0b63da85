// Four columns at a time of the units that the barrier-free kernels read, a block of 32 columns
// after another. Where a type is MASKED, packed integers are masked in place instead of shifted,
// so field n of a word is 2^(bits n) times too large, which x prepared by field_scale takes back
// exactly; the top field alone is shifted. Other types are decoded to floats.
#include "weights.glsl"

#if defined(QUANTISED) && !defined(HAS_HIGH_BITS) && !defined(LEVELS) && SCALES == 1
#define MASKED
#endif
#define BLOCK_UNITS (BLOCK_COLS / UNIT_COLS)
#define UNIT_QUADS (UNIT_COLS / 4u)

// What columns 4j to 4j + 3 of x are multiplied by before in-place masking.
vec4 field_scale(uint j) {
#if defined(MASKED) && FIELD_BITS == 8
    return vec4(1.0, 1.0 / 256.0, 1.0 / 65536.0, 1.0);
#elif defined(MASKED)
    return (j & 1u) == 0u ? vec4(1.0, 1.0 / 16.0, 1.0 / 256.0, 1.0 / 4096.0)
                          : vec4(1.0 / 65536.0, 1.0 / 1048576.0, 1.0 / 16777216.0, 1.0);
#else
    return vec4(1.0);
#endif
}

float masked(uint word, uint mask) { return float(int(word & mask)); }

// Columns 4j to 4j + 3 of unit q: for a MASKED type raw, unscaled and still multiplied; for a
// plain type the weights.
vec4 quad(uvec4 q, uint j) {
#ifndef QUANTISED
    return plain_quad(q, j);
#elif FIELD_BITS == 8
    uint w = q[j];
    return vec4(masked(w, 0xffu), masked(w, 0xff00u), masked(w, 0xff0000u), float(int(w >> 24u)));
#else
    uint w = q[j >> 1u];
    return (j & 1u) == 0u
        ? vec4(masked(w, 0xfu), masked(w, 0xf0u), masked(w, 0xf00u), masked(w, 0xf000u))
        : vec4(masked(w, 0xf0000u), masked(w, 0xf00000u), masked(w, 0xf000000u), float(int(w >> 28u)));
#endif
}
