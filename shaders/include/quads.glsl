// Four columns at a time of the units that the barrier-free kernels read, a block of 32 columns
// after another. Where a type is MASKED, packed integers are masked in place instead of shifted,
// so field n of a word is 2^(bits n) times too large, which x prepared by field_scale takes back
// exactly; the top field alone is shifted. Other types are decoded to floats. The includer that defines MASK_HIGH masks types
// with high bits and several scales too: the bytes that field_bytes makes of a word, whose columns are not adjacent.
#include "weights.glsl"

#if defined(QUANTISED) && !defined(LEVELS) && (defined(MASK_HIGH) || !defined(HAS_HIGH_BITS) && SCALES == 1)
#define MASKED
#endif
#if defined(MASKED) && defined(HAS_HIGH_BITS)
#define BYTE_FIELDS
#endif
#define BLOCK_UNITS (BLOCK_COLS / UNIT_COLS)
#define UNIT_QUADS (UNIT_COLS / 4u)

// The column of a unit that component n of quad j is.
uint quad_column(uint j, uint n) {
#ifdef BYTE_FIELDS
    return WORD_COLS * (j / FIELDS) + FIELDS * n + j % FIELDS;
#else
    return 4u * j + n;
#endif
}

// What quad j of x is multiplied by before in-place masking.
vec4 field_scale(uint j) {
#if defined(MASKED) && (FIELD_BITS == 8 || defined(BYTE_FIELDS))
    return vec4(1.0, 1.0 / 256.0, 1.0 / 65536.0, 1.0);
#elif defined(MASKED)
    return (j & 1u) == 0u ? vec4(1.0, 1.0 / 16.0, 1.0 / 256.0, 1.0 / 4096.0)
                          : vec4(1.0 / 65536.0, 1.0 / 1048576.0, 1.0 / 16777216.0, 1.0);
#else
    return vec4(1.0);
#endif
}

float masked(uint word, uint mask) { return float(int(word & mask)); }

vec4 masked_bytes(uint w) { return vec4(masked(w, 0xffu), masked(w, 0xff00u), masked(w, 0xff0000u), float(int(w >> 24u))); }

// Quad j of unit q, whose high bits are in `high`: for a MASKED type raw, unscaled and still multiplied; for a
// plain type the weights.
vec4 quad(uvec4 q, uvec2 high, uint j) {
#ifndef QUANTISED
    return plain_quad(q, j);
#elif defined(BYTE_FIELDS)
    return masked_bytes(unit_bytes(q, high, j / FIELDS, j % FIELDS));
#elif FIELD_BITS == 8
    return masked_bytes(q[j]);
#else
    uint w = q[j >> 1u];
    return (j & 1u) == 0u
        ? vec4(masked(w, 0xfu), masked(w, 0xf0u), masked(w, 0xf00u), masked(w, 0xf000u))
        : vec4(masked(w, 0xf0000u), masked(w, 0xf00000u), masked(w, 0xf000000u), float(int(w >> 28u)));
#endif
}
