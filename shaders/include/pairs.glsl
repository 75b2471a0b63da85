// Quantised weights as float16 numbers, two at a time and without conversions: fields of a word that are 16 bits apart are
// put into the lowest bits of two numbers' fractions, from which a constant is subtracted (Kim et al. 2022,
// arXiv:2211.10017, section 3).
//
// Pair f of a word of up to eight columns has columns f and f + WORD_COLS / 2. So the columns of a word are in the order 0,
// WORD_COLS / 2, 1, WORD_COLS / 2 + 1 and so on, which paired_octet makes of x too. Words of sixteen columns, more than an
// invocation has of x, are paired in the order of columns: every other field of half a word is moved 16 bits up before.
//
// The numbers begin at 2^PAIR_POWER, where an integer q in the fraction is q / 2^(PAIR_BITS - 1). Scales are multiplied
// by that power, so that they fit float16 as the largest weight does.
//
// d q is rounded once if d is a half, as it is in float32. Where d is computed, or there is an m, it is rounded too.
//
// The includer has weights_part.glsl and p.w_exponent.
#define PAIR_BITS (FIELD_BITS + HIGH_BITS)
#define PAIR_POWER (11 - PAIR_BITS)
#define BOTH(v) ((v) * 0x00010001u)
#ifdef OFFSET
#define PAIR_BASE (float(1 << PAIR_POWER) * (1.0 + float(OFFSET) / 1024.0))
#else
#define PAIR_BASE float(1 << PAIR_POWER)
#endif

// Of each half of a word, fields of so many bits with every other one 16 bits above the one before it.
uvec2 neighbours(uint word, uint bits) {
    return uvec2((word & 0xffffu) | ((word << (16u - bits)) & 0xffff0000u), (word >> 16u) | ((word >> bits) & 0xffff0000u));
}

// The weights of a part, divided by 2^w_exponent, four at a time.
void decode_pairs(uvec4 q, Meta m, uint part, out uvec2 w[PART_QUADS]) {
    vec2 dm = part_scale(m, part % UNIT_PARTS);
    f16vec2 d = f16vec2(float16_t(dm.x * power(PAIR_BITS - 1 - p.w_exponent)));
#ifndef OFFSET
    f16vec2 constant = f16vec2(float16_t(dm.y * power(-p.w_exponent)));
#endif
    uvec4 words = part_words(q, part % UNIT_PARTS);
#ifdef HAS_HIGH_BITS
    uint high = part_high(m, part % UNIT_PARTS);
#endif
    [[unroll]] for (uint j = 0u; j < PART_COLS / WORD_COLS; j++) {
#if WORD_COLS == 16
        uvec2 low_halves = neighbours(words[j], FIELD_BITS);
#ifdef HAS_HIGH_BITS
        uvec2 high_halves = neighbours(high, HIGH_BITS);
#endif
#endif
        [[unroll]] for (uint f = 0u; f < WORD_COLS / 2u; f++) {
#if WORD_COLS == 16
            uint k = f % 4u; // of its half's pairs
            uint v = (low_halves[f / 4u] >> (2u * FIELD_BITS * k)) & BOTH((1u << FIELD_BITS) - 1u);
#ifdef HAS_HIGH_BITS
            v |= above_field(high_halves[f / 4u], 8u * (k / 2u) + high_at(j, 2u * (k % 2u))) & BOTH(((1u << HIGH_BITS) - 1u) << FIELD_BITS);
#endif
#else
            uint v = (words[j] >> (FIELD_BITS * f)) & BOTH((1u << FIELD_BITS) - 1u);
#ifdef HAS_HIGH_BITS
            // Those of the two columns are two bytes apart, as the fields are.
            v |= above_field(high, 8u * (f / FIELDS) + high_at(j, f % FIELDS)) & BOTH(((1u << HIGH_BITS) - 1u) << FIELD_BITS);
#endif
#endif
            f16vec2 n = unpackFloat2x16(v | BOTH(uint(PAIR_POWER + 15) << 10u)) - f16vec2(float16_t(PAIR_BASE));
#ifdef OFFSET
            n *= d;
#else
            n = fma(n, d, constant);
#endif
            uint at = WORD_COLS / 2u * j + f;
            w[at / 2u][at % 2u] = packFloat2x16(n);
        }
    }
}

uint pair(float16_t a, float16_t b) { return packFloat2x16(f16vec2(a, b)); }

// Eight neighbouring columns of x in the order of the weights.
uvec4 paired_octet(uvec4 v) {
#if WORD_COLS == 16
    return v;
#else
    f16vec4 a = f16vec4(unpackFloat2x16(v.x), unpackFloat2x16(v.y));
    f16vec4 b = f16vec4(unpackFloat2x16(v.z), unpackFloat2x16(v.w));
#if WORD_COLS == 4
    return uvec4(pair(a.x, a.z), pair(a.y, a.w), pair(b.x, b.z), pair(b.y, b.w));
#else
    return uvec4(pair(a.x, b.x), pair(a.y, b.y), pair(a.z, b.z), pair(a.w, b.w));
#endif
#endif
}
