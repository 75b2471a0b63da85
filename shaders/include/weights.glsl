// Weight matrices in the device layout of pipeline.Matrix.
//
// A row of `cols` weights is cut into units of 16 bytes; one unit holds UNIT_COLS weights.
// What else a quantised type has (scales, minima, high bits) is in a second plane, one
// record of META_WORDS words for META_COLS columns; a type with nothing but a half d for 32
// columns keeps two to a word. Rows are interleaved in groups of `group` rows, so that a
// workgroup that owns a group reads one contiguous stream; group = 1 is plain row-major
// order.
//
//   unit(row, u)   = ((row / group) * units   + u) * group + row % group
//   record(row, i) = ((row / group) * records + i) * group + row % group
//
// Fields of a unit are in the order of columns: a nibble n of word j is column 8j + n, a byte
// n of word j column 4j + n, a pair of bits n of word j column 16j + n. Q8_0 is stored as
// q + 128 so that every field is unsigned. Records, in words (h0 and h1 are the halves of a
// word):
//
//   Q4_1        h0 d, h1 m
//   Q5_0        h0 and h1: d of two blocks; the fifth bits of each, a bit a column
//   Q5_1        h0 d, h1 m; fifth bits
//   Q2_K        h0 d, h1 dmin; 16 bytes of scale (low nibble) and minimum (high) of 16 columns
//   Q3_K        h0 d; ggml's 12 bytes of 6-bit scales; 8 words of third bits
//   Q4_K        h0 d, h1 dmin; ggml's 12 bytes of 6-bit scales and minima of 32 columns
//   Q5_K        as Q4_K; 8 words of fifth bits
//   Q6_K        h0 d; 16 signed bytes of scale of 16 columns; 16 words of bits 5 and 6
//   IQ4_XS      h0 d, h1 two high bits of each scale; low nibbles of the scales
//
// The includer defines W_ and the type's name, and the functions uvec4 load_unit(uint i) and
// uint load_meta_word(uint i); for Q4_K and Q5_K, with META_QUADS, also
// uvec4 load_meta_quad(uint i) of words 4i to 4i + 3.

#if defined(W_F32)
#define UNIT_COLS 4u
#elif defined(W_F16) || defined(W_BF16)
#define UNIT_COLS 8u
#elif defined(W_Q8_0)
#define UNIT_COLS 16u
#define HALF_META
#define OFFSET 128.0
#elif defined(W_Q4_0)
#define UNIT_COLS 32u
#define HALF_META
#define OFFSET 8.0
#elif defined(W_IQ4_NL)
#define UNIT_COLS 32u
#define HALF_META
#define OFFSET 0.0
#define LOOKUP
#elif defined(W_Q4_1)
#define UNIT_COLS 32u
#define META_WORDS 1u
#define META_COLS 32u
#elif defined(W_Q5_0)
#define UNIT_COLS 32u
#define META_WORDS 3u
#define META_COLS 64u
#define HIGH_BITS 1u
#elif defined(W_Q5_1)
#define UNIT_COLS 32u
#define META_WORDS 2u
#define META_COLS 32u
#define HIGH_BITS 1u
#elif defined(W_Q2_K)
#define UNIT_COLS 64u
#define META_WORDS 5u
#define META_COLS 256u
#define SCALES 4u
#elif defined(W_Q3_K)
#define UNIT_COLS 64u
#define META_WORDS 12u
#define META_COLS 256u
#define SCALES 4u
#define HIGH_BITS 1u
#elif defined(W_Q4_K)
#define UNIT_COLS 32u
#define META_WORDS 4u
#define META_COLS 256u
#elif defined(W_Q5_K)
#define UNIT_COLS 32u
#define META_WORDS 12u
#define META_COLS 256u
#define HIGH_BITS 1u
#elif defined(W_Q6_K)
#define UNIT_COLS 32u
#define META_WORDS 21u
#define META_COLS 256u
#define SCALES 2u
#define HIGH_BITS 2u
#elif defined(W_IQ4_XS)
#define UNIT_COLS 32u
#define META_WORDS 2u
#define META_COLS 256u
#define LOOKUP
#endif

#ifdef HALF_META
#define META_COLS 32u
#endif
#ifdef META_COLS
#define QUANTISED
#define META_UNITS (META_COLS / UNIT_COLS)
#else
#define META_UNITS 1u
#endif
#ifndef SCALES
#define SCALES 1u
#endif
#ifndef RECORD_WORD
#define RECORD_WORD(first, i) first + i // the number of word i of a record that starts at `first`
#endif

#define BLOCK_COLS 32u

// What decodes a unit: weight = dm.x * q + dm.y for each UNIT_COLS / SCALES columns; high
// holds the bits of q beyond those in the unit.
struct Meta {
    vec2 dm[SCALES];
    uvec2 high;
};

// The records of a row of `cols` weights.
uint row_records(uint cols) {
#ifdef QUANTISED
    return (cols + META_COLS - 1u) / META_COLS;
#else
    return 0u;
#endif
}

#ifdef QUANTISED
// Byte i of a record's bytes that start at word `first`.
uint meta_byte(uint first, uint i) { return (load_meta_word(RECORD_WORD(first, i / 4u)) >> (8u * (i % 4u))) & 0xffu; }

#if defined(W_Q4_K) || defined(W_Q5_K)
// Scale and minimum of block b of 8: six bits each, the upper two of the last four blocks in
// the top of the first four's bytes.
#ifdef META_QUADS
// Of the record's first four words: only how far they are shifted depends on b.
uvec2 scale_min(uvec4 record, uint b) {
    uint at = 8u * (b & 3u), both = record.w >> at;
    uvec2 first = (record.yz >> at) & 0xffu;
    uvec2 last = (uvec2(both, both >> 4u) & 15u) | ((first >> 6u) << 4u);
    return mix(last, first & 63u, bvec2(b < 4u));
}
#else
uvec2 scale_min(uint first, uint b) {
    if (b < 4u) return uvec2(meta_byte(first, b), meta_byte(first, b + 4u)) & 63u;
    uint both = meta_byte(first, b + 4u);
    return uvec2(both & 15u, both >> 4u) | ((uvec2(meta_byte(first, b - 4u), meta_byte(first, b)) >> 6u) << 4u);
}
#endif
#endif

#ifdef HALF_META
// The Meta of a scale.
Meta half_meta(float d) {
    Meta m;
    m.dm[0] = vec2(d, -OFFSET * d);
    m.high = uvec2(0u);
    return m;
}
#endif

// The Meta of unit u of a row whose record 0 has the number `record0`.
Meta load_meta(uint record0, uint u, uint group) {
    uint record = record0 + u / META_UNITS * group;
#ifdef HALF_META
    return half_meta(unpackHalf2x16(load_meta_word(record >> 1u) >> (16u * (record & 1u))).x);
#else
    Meta m;
    m.high = uvec2(0u);
    uint at = record * META_WORDS;
    uint b = u % META_UNITS;
#ifdef META_QUADS
    uvec4 quad = load_meta_quad(at / 4u);
    vec2 d = unpackHalf2x16(quad.x);
#else
    vec2 d = unpackHalf2x16(load_meta_word(at));
#endif
#if defined(W_Q4_1)
    m.dm[0] = d;
#elif defined(W_Q5_0)
    float scale = b == 0u ? d.x : d.y;
    m.dm[0] = vec2(scale, -16.0 * scale);
    m.high.x = load_meta_word(RECORD_WORD(at, 1u + b));
#elif defined(W_Q5_1)
    m.dm[0] = d;
    m.high.x = load_meta_word(RECORD_WORD(at, 1u));
#elif defined(W_Q2_K)
    [[unroll]] for (uint i = 0u; i < 4u; i++) {
        uint s = meta_byte(RECORD_WORD(at, 1u), 4u * b + i);
        m.dm[i] = vec2(d.x * float(s & 15u), -d.y * float(s >> 4u));
    }
#elif defined(W_Q3_K)
    [[unroll]] for (uint i = 0u; i < 4u; i++) {
        uint s = 4u * b + i;
        uint low = (meta_byte(RECORD_WORD(at, 1u), s & 7u) >> (4u * (s / 8u))) & 15u;
        uint top = (meta_byte(RECORD_WORD(at, 1u), 8u + (s & 3u)) >> (2u * (s / 4u))) & 3u;
        float scale = d.x * float(int(low | (top << 4u)) - 32);
        m.dm[i] = vec2(scale, -4.0 * scale);
    }
    m.high = uvec2(load_meta_word(RECORD_WORD(at, 4u + 2u * b)), load_meta_word(RECORD_WORD(at, 5u + 2u * b)));
#elif defined(W_Q4_K) || defined(W_Q5_K)
#ifdef META_QUADS
    uvec2 sm = scale_min(quad, b);
#else
    uvec2 sm = scale_min(RECORD_WORD(at, 1u), b);
#endif
    m.dm[0] = vec2(d.x * float(sm.x), -d.y * float(sm.y));
#ifdef W_Q5_K
    m.high.x = load_meta_word(RECORD_WORD(at, 4u + b));
#endif
#elif defined(W_Q6_K)
    [[unroll]] for (uint i = 0u; i < 2u; i++) {
        float scale = d.x * float(int(meta_byte(RECORD_WORD(at, 1u), 2u * b + i) << 24u) >> 24);
        m.dm[i] = vec2(scale, -32.0 * scale);
    }
    m.high = uvec2(load_meta_word(RECORD_WORD(at, 5u + 2u * b)), load_meta_word(RECORD_WORD(at, 6u + 2u * b)));
#elif defined(W_IQ4_XS)
    uint low = (load_meta_word(RECORD_WORD(at, 1u)) >> (4u * b)) & 15u;
    uint top = (load_meta_word(at) >> (16u + 2u * b)) & 3u;
    m.dm[0] = vec2(d.x * float(int(low | (top << 4u)) - 32), 0.0);
#endif
    return m;
#endif
}

#ifdef LOOKUP
// ggml's kvalues_iq4nl: four bits stand for one of -127, -104, -83, -65, -49, -35, -22, -10,
// 1, 13, 25, 38, 53, 69, 89 and 113. Four bytes a word, and not an array: NVIDIA's open driver
// copies a constant array to memory in each invocation. mix and not ?:, which glslang makes
// branches of.
int level(uint v) {
    bool third = (v & 4u) != 0u, fourth = (v & 8u) != 0u;
    uint word = mix(mix(0xbfad9881u, 0xf6eaddcfu, third), mix(0x26190d01u, 0x71594535u, third), fourth);
    return bitfieldExtract(int(word), int((v << 3u) & 24u), 8);
}
#endif
#endif

// The UNIT_COLS weights of a unit, as floats; m is ignored by plain types.
void decode_unit(uvec4 q, Meta m, out float w[UNIT_COLS]) {
#if defined(W_F32)
    vec4 f = uintBitsToFloat(q);
    w[0] = f.x; w[1] = f.y; w[2] = f.z; w[3] = f.w;
#elif defined(W_F16)
    [[unroll]] for (uint j = 0u; j < 4u; j++) {
        vec2 f = unpackHalf2x16(q[j]);
        w[2u * j] = f.x;
        w[2u * j + 1u] = f.y;
    }
#elif defined(W_BF16)
    [[unroll]] for (uint j = 0u; j < 4u; j++) {
        w[2u * j] = uintBitsToFloat(q[j] << 16u);
        w[2u * j + 1u] = uintBitsToFloat(q[j] & 0xffff0000u);
    }
#else
#define UNIT_BITS (128u / UNIT_COLS)
#define WORD_COLS (UNIT_COLS / 4u)
    [[unroll]] for (uint j = 0u; j < 4u; j++)
        [[unroll]] for (uint n = 0u; n < WORD_COLS; n++) {
            uint c = WORD_COLS * j + n;
            uint v = (q[j] >> (UNIT_BITS * n)) & ((1u << UNIT_BITS) - 1u);
#ifdef HIGH_BITS
            uint per_word = 32u / HIGH_BITS;
            v |= ((m.high[c / per_word] >> (HIGH_BITS * (c % per_word))) & ((1u << HIGH_BITS) - 1u)) << UNIT_BITS;
#endif
            vec2 dm = m.dm[c / (UNIT_COLS / SCALES)];
#ifdef LOOKUP
            w[c] = float(level(v)) * dm.x;
#else
            w[c] = float(int(v)) * dm.x + dm.y;
#endif
        }
#endif
}
