// Weights one at a time, as float16 numbers: for matrices whose elements a driver asks for.
//
// A number of a quantised type is what pairs.glsl makes of two, with the same rounding. Rows are those of group 1.
//
// The includer has weights_part.glsl and p with cols and w_exponent.
#define UNIT_WORD_COLS (UNIT_COLS / 4u) // columns of a word of a unit, of plain types too
#ifdef QUANTISED
#include "pairs.glsl"
#endif

// The weight of column c of unit u of a row, divided by 2^w_exponent; word is the one of the unit's words that has it.
float16_t decode_one(uint word, uint row, uint u, uint c) {
#ifndef QUANTISED
    return float16_t(plain_quad(uvec4(word), 0u)[c % UNIT_WORD_COLS] * power(-p.w_exponent));
#else
    Record at = row_record(row, u, p.cols, 1u);
    uint v[NEEDED];
    load_words(at, v);
    vec2 dm = scale_constant(v, at.part, c / SCALE_COLS);
    uint n = c % WORD_COLS, q = bitfieldExtract(word, int(FIELD_BITS * n), FIELD_BITS);
#ifdef HAS_HIGH_BITS
    uint bit = high_at(c / WORD_COLS, n % FIELDS), high = v[HEAD_NEEDED];
#if HIGH_WORDS == 2
    high = bit < 8u ? high : v[HEAD_NEEDED + 1];
#endif
    q |= bitfieldExtract(high, int(8u * (n / FIELDS) + bit % 8u), HIGH_BITS) << FIELD_BITS;
#endif
#ifdef LEVELS
    return float16_t(float(level(q)) * dm.x * power(-p.w_exponent));
#else
    float16_t d = float16_t(dm.x * power(PAIR_BITS - 1 - p.w_exponent));
    float16_t number = unpackFloat2x16(q | uint(PAIR_POWER + 15) << 10u).x - float16_t(PAIR_BASE);
#ifdef OFFSET
    return number * d;
#else
    return fma(number, d, float16_t(dm.y * power(-p.w_exponent)));
#endif
#endif
#endif
}
