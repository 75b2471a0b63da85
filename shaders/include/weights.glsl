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
// What the bits of a unit and of a record mean: types.glsl.
//
// The includer defines W_ and the type's name, and the functions uvec4 load_unit(uint i) and
// uint load_meta_word(uint i); with META_QUADS, instead of the latter,
// uvec4 load_meta_quad(uint i) of words 4i to 4i + 3. It may define LEVEL(v), number v of a type's LEVELS as a float.
#include "types.glsl"

#define BLOCK_COLS 32u
#define ROW_QUAD 4u // kernels.rowQuad
#ifndef QUANTISED
#define SCALES 1
#endif

// What decodes a unit: weight = dm.x * q + dm.y for each SCALE_COLS columns; high
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

// Which of its record's units unit u is.
uint unit_part(uint u) { return META_UNITS > 1 ? u % META_UNITS : 0u; }

// The record of unit u, when record 0 of the row is number record0 and words are step apart.
Record group_record(uint record0, uint u, uint group, uint step) {
    uint n = record0 + u / META_UNITS * group;
#ifdef HALF_META
    return Record(n >> 1u, step, n & 1u);
#else
    return Record(n * META_WORDS, step, unit_part(u));
#endif
}

// The record of unit u of a row.
Record row_record(uint row, uint u, uint cols, uint group) {
    if (group != 1u) return group_record(row / group * row_records(cols) * group + row % group, u, group, 1u);
    uint n = u / META_UNITS, first = row / ROW_QUAD * ROW_QUAD;
#ifdef HALF_META
    return Record(first * ((row_records(cols) + 1u) / 2u) + row % ROW_QUAD + (n >> 1u) * ROW_QUAD, ROW_QUAD, n & 1u);
#else
    return Record((first * row_records(cols) + n * ROW_QUAD) * META_WORDS + row % ROW_QUAD, ROW_QUAD, unit_part(u));
#endif
}

// Which of a record's words number i of the NEEDED is.
uint needed(uint i, uint part) {
#ifdef HALF_META
    return 0u;
#else
#ifdef HAS_HIGH_BITS
    if (i >= HEAD_NEEDED) return HEAD_WORDS + HIGH_WORDS * part + (i - HEAD_NEEDED);
#endif
    return head_word(i, part);
#endif
}

// Number i of a unit's scales and constants, from the words v of its record.
vec2 scale_constant(uint v[NEEDED], uint part, uint i) {
#if defined(HALF_META)
    float d = halves(v[0] >> (16u * part)).x;
#elif defined(OFFSET)
    float d = unit_scale(v, part, i);
#endif
#ifdef OFFSET
    return vec2(d, -float(OFFSET) * d);
#else
    return unit_scale(v, part, i);
#endif
}

// The Meta of a unit whose record has the words v.
Meta decode_meta(uint v[NEEDED], uint part) {
    Meta m;
    [[unroll]] for (uint i = 0u; i < SCALES; i++) m.dm[i] = scale_constant(v, part, i);
    m.high = uvec2(0u);
#ifdef HAS_HIGH_BITS
    [[unroll]] for (uint i = 0u; i < HIGH_WORDS; i++) m.high[i] = v[HEAD_NEEDED + i];
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

#ifdef LEVELS
// Number v & 15 of the type's LEVELS. Not an array: NVIDIA's open driver copies a constant array to memory in each
// invocation. mix and not ?:, which glslang makes branches of.
int level(uint v) {
    const uvec4 levels = uvec4(LEVELS);
    bool third = (v & 4u) != 0u, fourth = (v & 8u) != 0u;
    uint word = mix(mix(levels.x, levels.y, third), mix(levels.z, levels.w, third), fourth);
    return bitfieldExtract(int(word), int((v << 3u) & 24u), 8);
}
#endif

#define FIELDS (8 / FIELD_BITS) // words of bytes that a word of a unit becomes
#define WORD_COLS (4 * FIELDS)  // columns of a word of a unit

// Where the high bits of field_bytes(f) of word j of a unit, or of a part of it, are: bit high_at % 8 of each byte of word
// high_at / 8.
uint high_at(uint j, uint f) { return uint(HIGH_BITS) * (FIELDS * j + f); }

// Moves the bits of `high` from bit `at` on, a constant, to where they are above a field.
uint above_field(uint high, uint at) {
    return at < FIELD_BITS ? high << (FIELD_BITS - at) : high >> (at - FIELD_BITS);
}

// q of columns f, f + FIELDS, f + 2 FIELDS and f + 3 FIELDS of a word of a unit, a byte each; the bytes of `high` have their
// high bits from bit `at` on.
uint field_bytes(uint word, uint high, uint at, uint f) {
#if defined(LEVELS) && !defined(LEVEL) && FIELD_BITS == 4
    return word >> (FIELD_BITS * f); // of each byte, level takes four bits
#endif
    uint v = (word >> (FIELD_BITS * f)) & (0x01010101u * ((1u << FIELD_BITS) - 1u));
#ifdef HAS_HIGH_BITS
    v |= above_field(high, at) & (0x01010101u * (((1u << HIGH_BITS) - 1u) << FIELD_BITS));
#endif
    return v;
}

// field_bytes of field f of word j of unit q.
uint unit_bytes(uvec4 q, uvec2 high, uint j, uint f) {
#ifdef HAS_HIGH_BITS
    uint at = high_at(j, f);
    return field_bytes(q[j], high[at / 8u], at % 8u, f);
#else
    return field_bytes(q[j], 0u, 0u, f);
#endif
}

// What the bytes of v stand for, but for scale and constant.
vec4 numbers(uint v) {
#if defined(LEVELS) && !defined(LEVEL)
    return vec4(float(level(v)), float(level(v >> 8u)), float(level(v >> 16u)), float(level(v >> 24u)));
#else
    uvec4 b = uvec4(v & 0xffu, (v >> 8u) & 0xffu, (v >> 16u) & 0xffu, v >> 24u);
#ifdef LEVELS
    return vec4(LEVEL(b.x), LEVEL(b.y), LEVEL(b.z), LEVEL(b.w));
#else
    return vec4(ivec4(b));
#endif
#endif
}

// The weights of numbers to which dm applies.
vec4 weights(vec4 numbers, vec2 dm) {
#ifdef LEVELS
    return numbers * dm.x;
#else
    return numbers * dm.x + dm.y;
#endif
}
#endif

// The UNIT_COLS weights of a unit, as floats; m is ignored by plain types.
void decode_unit(uvec4 q, Meta m, out float w[UNIT_COLS]) {
#ifndef QUANTISED
    [[unroll]] for (uint j = 0u; j < UNIT_COLS / 4; j++) {
        vec4 v = plain_quad(q, j);
        [[unroll]] for (uint n = 0u; n < 4u; n++) w[4u * j + n] = v[n];
    }
#else
    [[unroll]] for (uint j = 0u; j < 4u; j++)
        [[unroll]] for (uint f = 0u; f < FIELDS; f++) {
            uint c = WORD_COLS * j + f;
            vec4 v = weights(numbers(unit_bytes(q, m.high, j, f)), m.dm[c / SCALE_COLS]);
            [[unroll]] for (uint n = 0u; n < 4u; n++) w[c + FIELDS * n] = v[n];
        }
#endif
}
