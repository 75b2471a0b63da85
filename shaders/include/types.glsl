// What the bytes of each weight type mean: one entry a type, chosen by the includer's W_ and the type's name. A row is
// units of 16 bytes and, of a quantised type, records (weights.glsl says where they lie; pipeline/kernels/layout.go writes
// them). Kernels and the other includes name no type; they ask for what an entry defines.
//
// A plain type:
//
//   UNIT_COLS      columns of a unit
//   plain_quad     the weights of columns 4j to 4j + 3 of a unit
//
// A quantised type, whose weight is d * q + m. The unit has the low FIELD_BITS = 128 / UNIT_COLS bits of each q in
// the order of columns: field n of word j is column (32 / FIELD_BITS) j + n.
//
//   UNIT_COLS      columns of a unit: 16, 32 or 64
//   META_COLS      columns of a record; UNIT_COLS divides it
//   HEAD_WORDS     words of a record that say what d and m are. 0: the record is one half, d, and a word has two
//   HEAD_NEEDED    how many of them the d and m of a unit are made of, at least 1
//   HIGH_BITS      bits of q above those in the unit, 0 to 2: they follow the head. Those of the fields in byte i of the
//                  unit's words are in byte i of these, from the lowest field of the lowest word on (high_at of weights.glsl)
//   SCALES         how many d and m a unit has, each for UNIT_COLS / SCALES columns
//   OFFSET         m is -OFFSET * d. Without it, a type has an m of its own
//   LEVELS         q is the place of a number in a table of 16 signed bytes, four words (weights.glsl)
//   head_word      which word of the record is number i of HEAD_NEEDED, for unit number `part` of the record
//   unit_scale     number i of the unit's SCALES, from the words v: d, or without OFFSET d and m. Not of HEAD_WORDS 0
//
// h0 and h1 are the halves of a word. Bytes and words count from the lowest.

// Halves of a word as numbers, and one byte of it.
vec2 halves(uint word) { return unpackHalf2x16(word); }
uint byte_of(uint word, uint i) { return (word >> (8u * i)) & 0xffu; }

// Number `part` of ggml's eight six-bit scales and minima in 12 bytes, times d and -dmin. The upper two bits of the last
// four are in the top of the first four's bytes. Only how far words are shifted depends on the number.
vec2 scale_minimum(vec2 d, uvec3 v, uint part) {
    uint at = 8u * (part & 3u), both = v.z >> at;
    uvec2 first = (v.xy >> at) & 0xffu;
    uvec2 last = (uvec2(both, both >> 4u) & 15u) | ((first >> 6u) << 4u);
    uvec2 sm = mix(last, first & 63u, bvec2(part < 4u));
    return vec2(d.x * float(sm.x), -d.y * float(sm.y));
}

// ggml's kvalues_iq4nl: -127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89 and 113.
#define IQ4_LEVELS 0xbfad9881u, 0xf6eaddcfu, 0x26190d01u, 0x71594535u

// What follows from an entry.
#define FIELD_BITS (128 / UNIT_COLS)
#define META_UNITS (META_COLS / UNIT_COLS)
#define HIGH_WORDS (UNIT_COLS * HIGH_BITS / 32)           // of a unit
#define META_WORDS (HEAD_WORDS + META_UNITS * HIGH_WORDS) // of a record
#define NEEDED (HEAD_NEEDED + HIGH_WORDS)                 // words of a record that a unit needs
#define SCALE_COLS (UNIT_COLS / SCALES)

#if defined(W_F32)
#define UNIT_COLS 4
vec4 plain_quad(uvec4 unit, uint j) { return uintBitsToFloat(unit); }

#elif defined(W_F16)
#define UNIT_COLS 8
vec4 plain_quad(uvec4 unit, uint j) { return vec4(unpackHalf2x16(unit[2u * j]), unpackHalf2x16(unit[2u * j + 1u])); }

#elif defined(W_BF16)
#define UNIT_COLS 8
vec4 plain_quad(uvec4 unit, uint j) {
    uint a = unit[2u * j], b = unit[2u * j + 1u];
    return uintBitsToFloat(uvec4(a << 16u, a & 0xffff0000u, b << 16u, b & 0xffff0000u));
}

#elif defined(W_Q8_0) // stored as q + 128
#define UNIT_COLS 16
#define META_COLS 32
#define HEAD_WORDS 0
#define HEAD_NEEDED 1
#define HIGH_BITS 0
#define SCALES 1
#define OFFSET 128

#elif defined(W_Q4_0)
#define UNIT_COLS 32
#define META_COLS 32
#define HEAD_WORDS 0
#define HEAD_NEEDED 1
#define HIGH_BITS 0
#define SCALES 1
#define OFFSET 8

#elif defined(W_Q4_1) // h0 d, h1 m
#define UNIT_COLS 32
#define META_COLS 32
#define HEAD_WORDS 1
#define HEAD_NEEDED 1
#define HIGH_BITS 0
#define SCALES 1
uint head_word(uint i, uint part) { return i; }
vec2 unit_scale(uint v[NEEDED], uint part, uint i) { return halves(v[0]); }

#elif defined(W_Q5_0) // h0 and h1: d of two blocks
#define UNIT_COLS 32
#define META_COLS 64
#define HEAD_WORDS 1
#define HEAD_NEEDED 1
#define HIGH_BITS 1
#define SCALES 1
#define OFFSET 16
uint head_word(uint i, uint part) { return i; }
float unit_scale(uint v[NEEDED], uint part, uint i) {
    vec2 d = halves(v[0]); // before the choice, which is a branch
    return part == 0u ? d.x : d.y;
}

#elif defined(W_Q5_1) // h0 d, h1 m
#define UNIT_COLS 32
#define META_COLS 32
#define HEAD_WORDS 1
#define HEAD_NEEDED 1
#define HIGH_BITS 1
#define SCALES 1
uint head_word(uint i, uint part) { return i; }
vec2 unit_scale(uint v[NEEDED], uint part, uint i) { return halves(v[0]); }

#elif defined(W_Q2_K) // h0 d, h1 dmin; 16 bytes of scale (low nibble) and minimum (high) of 16 columns
#define UNIT_COLS 64
#define META_COLS 256
#define HEAD_WORDS 5
#define HEAD_NEEDED 2
#define HIGH_BITS 0
#define SCALES 4
uint head_word(uint i, uint part) { return i == 0u ? 0u : 1u + part; }
vec2 unit_scale(uint v[NEEDED], uint part, uint i) {
    uint s = byte_of(v[1], i);
    vec2 d = halves(v[0]);
    return vec2(d.x * float(s & 15u), -d.y * float(s >> 4u));
}

#elif defined(W_Q3_K) // h0 d; ggml's 12 bytes of 6-bit scales, less 32, of 16 columns
#define UNIT_COLS 64
#define META_COLS 256
#define HEAD_WORDS 4
#define HEAD_NEEDED 3
#define HIGH_BITS 1
#define SCALES 4
#define OFFSET 4
uint head_word(uint i, uint part) { return i == 0u ? 0u : i == 1u ? 1u + (part & 1u) : 3u; }
float unit_scale(uint v[NEEDED], uint part, uint i) {
    uint low = v[1] >> (4u * (part / 2u)), top = v[2] >> (2u * part);
    uint s = (byte_of(low, i) & 15u) | ((byte_of(top, i) & 3u) << 4u);
    return halves(v[0]).x * float(int(s) - 32);
}

#elif defined(W_Q4_K) // h0 d, h1 dmin; ggml's 12 bytes of 6-bit scales and minima of 32 columns
#define UNIT_COLS 32
#define META_COLS 256
#define HEAD_WORDS 4
#define HEAD_NEEDED 4
#define HIGH_BITS 0
#define SCALES 1
uint head_word(uint i, uint part) { return i; }
vec2 unit_scale(uint v[NEEDED], uint part, uint i) { return scale_minimum(halves(v[0]), uvec3(v[1], v[2], v[3]), part); }

#elif defined(W_Q5_K) // as Q4_K
#define UNIT_COLS 32
#define META_COLS 256
#define HEAD_WORDS 4
#define HEAD_NEEDED 4
#define HIGH_BITS 1
#define SCALES 1
uint head_word(uint i, uint part) { return i; }
vec2 unit_scale(uint v[NEEDED], uint part, uint i) { return scale_minimum(halves(v[0]), uvec3(v[1], v[2], v[3]), part); }

#elif defined(W_Q6_K) // h0 d; 16 signed bytes of scale of 16 columns
#define UNIT_COLS 32
#define META_COLS 256
#define HEAD_WORDS 5
#define HEAD_NEEDED 2
#define HIGH_BITS 2
#define SCALES 2
#define OFFSET 32
uint head_word(uint i, uint part) { return i == 0u ? 0u : 1u + part / 2u; }
float unit_scale(uint v[NEEDED], uint part, uint i) {
    return halves(v[0]).x * float(bitfieldExtract(int(v[1]), int(16u * (part & 1u) + 8u * i), 8));
}

#elif defined(W_IQ4_NL)
#define UNIT_COLS 32
#define META_COLS 32
#define HEAD_WORDS 0
#define HEAD_NEEDED 1
#define HIGH_BITS 0
#define SCALES 1
#define OFFSET 0
#define LEVELS IQ4_LEVELS

#elif defined(W_IQ4_XS) // h0 d, h1 two high bits of each scale, which is less 32; low nibbles of the scales
#define UNIT_COLS 32
#define META_COLS 256
#define HEAD_WORDS 2
#define HEAD_NEEDED 2
#define HIGH_BITS 0
#define SCALES 1
#define OFFSET 0
#define LEVELS IQ4_LEVELS
uint head_word(uint i, uint part) { return i; }
float unit_scale(uint v[NEEDED], uint part, uint i) {
    uint low = (v[1] >> (4u * part)) & 15u, top = (v[0] >> (16u + 2u * part)) & 3u;
    return halves(v[0]).x * float(int(low | (top << 4u)) - 32);
}

#elif defined(W_TQ2_0)
#define UNIT_COLS 64
#define META_COLS 256
#define HEAD_WORDS 0
#define HEAD_NEEDED 1
#define HIGH_BITS 0
#define SCALES 1
#define OFFSET 1
#endif

#ifdef META_COLS
#define QUANTISED
#if HEAD_WORDS == 0
#define HALF_META
#endif
#if HIGH_BITS > 0
#define HAS_HIGH_BITS
#endif
#endif
