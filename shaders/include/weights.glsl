// Weight matrices in the device layout of pipeline.Matrix.
//
// A row of `cols` weights is cut into units of 16 bytes; one unit holds UNIT_COLS weights.
// What else a quantised type has (scales, minima, high bits) is in a second plane, one
// record of META_WORDS words for META_COLS columns; a type with nothing but a half d for 32
// columns keeps two to a word.
//
// Where group = 1, units are in row-major order, and the words of the records of ROW_QUAD adjacent
// rows lie side by side, so that one load of 16 bytes has a word of each:
//
//   unit(row, u) = row * units + u
//   word(row, k) = ((row / ROW_QUAD) * words + k) * ROW_QUAD + row % ROW_QUAD
//
// words are those of a row's records; of halves, word k has blocks 2k and 2k + 1. Otherwise rows
// are interleaved in groups of `group` rows, so that a workgroup that owns a group reads one
// contiguous stream:
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
// uint load_meta_word(uint i); with META_QUADS, instead of the latter,
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
#define OFFSET 16.0
#define NEEDED 2u
#elif defined(W_Q5_1)
#define UNIT_COLS 32u
#define META_WORDS 2u
#define META_COLS 32u
#define HIGH_BITS 1u
#define NEEDED 2u
#elif defined(W_Q2_K)
#define UNIT_COLS 64u
#define META_WORDS 5u
#define META_COLS 256u
#define SCALES 4u
#define NEEDED 2u
#elif defined(W_Q3_K)
#define UNIT_COLS 64u
#define META_WORDS 12u
#define META_COLS 256u
#define SCALES 4u
#define HIGH_BITS 1u
#define OFFSET 4.0
#define NEEDED 5u
#elif defined(W_Q4_K)
#define UNIT_COLS 32u
#define META_WORDS 4u
#define META_COLS 256u
#define NEEDED 4u
#elif defined(W_Q5_K)
#define UNIT_COLS 32u
#define META_WORDS 12u
#define META_COLS 256u
#define HIGH_BITS 1u
#define NEEDED 5u
#elif defined(W_Q6_K)
#define UNIT_COLS 32u
#define META_WORDS 21u
#define META_COLS 256u
#define SCALES 2u
#define HIGH_BITS 2u
#define OFFSET 32.0
#define NEEDED 4u
#elif defined(W_IQ4_XS)
#define UNIT_COLS 32u
#define META_WORDS 2u
#define META_COLS 256u
#define LOOKUP
#define OFFSET 0.0
#define NEEDED 2u
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
#ifndef NEEDED
#define NEEDED 1u // words of a record that a unit's Meta is made of
#endif
#ifndef SCALES
#define SCALES 1u
#endif
#define BLOCK_COLS 32u
#define ROW_QUAD 4u // kernels.rowQuad

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
// Where the record of a unit is.
struct Record {
    uint first; // its first word, or the word of its half
    uint step;  // from a word to the next
    uint part;  // which of the record's META_UNITS units, or which half
};

// The record of unit u, when record 0 of the row is number record0 and words are step apart.
Record group_record(uint record0, uint u, uint group, uint step) {
    uint n = record0 + u / META_UNITS * group;
#ifdef HALF_META
    return Record(n >> 1u, step, n & 1u);
#else
    return Record(n * META_WORDS, step, u % META_UNITS);
#endif
}

// The record of unit u of a row.
Record row_record(uint row, uint u, uint cols, uint group) {
    if (group != 1u) return group_record(row / group * row_records(cols) * group + row % group, u, group, 1u);
    uint n = u / META_UNITS, first = row / ROW_QUAD * ROW_QUAD;
#ifdef HALF_META
    return Record(first * ((row_records(cols) + 1u) / 2u) + row % ROW_QUAD + (n >> 1u) * ROW_QUAD, ROW_QUAD, n & 1u);
#else
    return Record((first * row_records(cols) + n * ROW_QUAD) * META_WORDS + row % ROW_QUAD, ROW_QUAD, u % META_UNITS);
#endif
}

// Which of a record's words number i of the NEEDED is.
uint needed(uint i, uint part) {
#if defined(W_Q5_0) || defined(W_Q2_K)
    return i == 0u ? 0u : 1u + part;
#elif defined(W_Q3_K)
    if (i < 2u) return i == 0u ? 0u : 1u + (part & 1u);
    return i == 2u ? 3u : 1u + 2u * part + i;
#elif defined(W_Q5_K)
    return i < 4u ? i : 4u + part;
#elif defined(W_Q6_K)
    if (i < 2u) return i == 0u ? 0u : 1u + part / 2u;
    return 3u + 2u * part + i;
#else
    return i;
#endif
}

#ifdef OFFSET
// The dm of a type whose q is OFFSET too large.
vec2 offset_scale(float d) { return vec2(d, -OFFSET * d); }
#endif

uint byte_of(uint word, uint i) { return (word >> (8u * i)) & 0xffu; }

// The Meta of a unit whose record has the words v.
Meta decode_meta(uint v[NEEDED], uint part) {
    Meta m;
    m.high = uvec2(0u);
    vec2 d = unpackHalf2x16(v[0]);
#if defined(HALF_META)
    m.dm[0] = offset_scale(unpackHalf2x16(v[0] >> (16u * part)).x);
#elif defined(W_Q4_1)
    m.dm[0] = d;
#elif defined(W_Q5_0)
    m.dm[0] = offset_scale(part == 0u ? d.x : d.y);
    m.high.x = v[1];
#elif defined(W_Q5_1)
    m.dm[0] = d;
    m.high.x = v[1];
#elif defined(W_Q2_K)
    [[unroll]] for (uint i = 0u; i < 4u; i++) {
        uint s = byte_of(v[1], i);
        m.dm[i] = vec2(d.x * float(s & 15u), -d.y * float(s >> 4u));
    }
#elif defined(W_Q3_K)
    uint low = v[1] >> (4u * (part / 2u)), top = v[2] >> (2u * part);
    [[unroll]] for (uint i = 0u; i < 4u; i++) {
        uint s = (byte_of(low, i) & 15u) | ((byte_of(top, i) & 3u) << 4u);
        m.dm[i] = offset_scale(d.x * float(int(s) - 32));
    }
    m.high = uvec2(v[3], v[4]);
#elif defined(W_Q4_K) || defined(W_Q5_K)
    // Six bits each of scale and minimum, the upper two of the last four units' in the top of the
    // first four's bytes. Only how far they are shifted depends on the unit.
    uint at = 8u * (part & 3u), both = v[3] >> at;
    uvec2 first = (uvec2(v[1], v[2]) >> at) & 0xffu;
    uvec2 last = (uvec2(both, both >> 4u) & 15u) | ((first >> 6u) << 4u);
    uvec2 sm = mix(last, first & 63u, bvec2(part < 4u));
    m.dm[0] = vec2(d.x * float(sm.x), -d.y * float(sm.y));
#ifdef W_Q5_K
    m.high.x = v[4];
#endif
#elif defined(W_Q6_K)
    [[unroll]] for (uint i = 0u; i < 2u; i++) {
        m.dm[i] = offset_scale(d.x * float(bitfieldExtract(int(v[1]), int(16u * (part & 1u) + 8u * i), 8)));
    }
    m.high = uvec2(v[2], v[3]);
#elif defined(W_IQ4_XS)
    uint low = (v[1] >> (4u * part)) & 15u;
    uint top = (v[0] >> (16u + 2u * part)) & 3u;
    m.dm[0] = offset_scale(d.x * float(int(low | (top << 4u)) - 32));
#endif
    return m;
}

#ifdef META_QUADS
// The words that the Metas of a unit of ROW_QUAD rows are made of; at is the first row's, of group 1.
void load_meta_quads(Record at, out uvec4 v[NEEDED]) {
    [[unroll]] for (uint i = 0u; i < NEEDED; i++) v[i] = load_meta_quad(at.first / ROW_QUAD + needed(i, at.part));
}

// The Meta of row r of the four.
Meta quad_meta(uvec4 v[NEEDED], uint r, uint part) {
    uint words[NEEDED];
    [[unroll]] for (uint i = 0u; i < NEEDED; i++) words[i] = v[i][r];
    return decode_meta(words, part);
}
#else
// The words that the Meta of a unit is made of.
void load_words(Record at, out uint v[NEEDED]) {
    [[unroll]] for (uint i = 0u; i < NEEDED; i++) v[i] = load_meta_word(at.first + needed(i, at.part) * at.step);
}

Meta load_meta(Record at) {
    uint v[NEEDED];
    load_words(at, v);
    return decode_meta(v, at.part);
}
#endif

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
