// Weight matrices in the device layout of pipeline.Matrix.
//
// A row of `cols` weights is cut into units of 16 bytes; one unit holds UNIT_COLS
// weights. Quantised types keep their scales in a second plane, one entry per
// block of 32 columns: a half d (Q8_0, Q4_0; two to a word) or the halves d, m
// (Q4_1; one word). Rows are interleaved in groups of `group` rows, so that a
// workgroup that owns a group reads one contiguous stream; group = 1 is plain
// row-major order.
//
//   unit(row, u)  = ((row / group) * units  + u) * group + row % group
//   scale(row, b) = ((row / group) * blocks + b) * group + row % group
//
// Q4_x: nibble n of word j is column 8j + n of the block. Q8_0: byte n of word j
// is column 4j + n of the unit, stored as q + 128 so that it is unsigned.
//
// The includer defines one of W_F32, W_F16, W_BF16, W_Q8_0, W_Q4_0, W_Q4_1, and the
// functions uvec4 load_unit(uint i) and uint load_scale(uint word).

#if defined(W_F32)
#define UNIT_COLS 4u
#elif defined(W_F16) || defined(W_BF16)
#define UNIT_COLS 8u
#elif defined(W_Q8_0)
#define UNIT_COLS 16u
#define QUANTISED
#define OFFSET 128.0
#elif defined(W_Q4_0)
#define UNIT_COLS 32u
#define QUANTISED
#define OFFSET 8.0
#elif defined(W_Q4_1)
#define UNIT_COLS 32u
#define QUANTISED
#endif

#define BLOCK_COLS 32u
#define BLOCK_UNITS (BLOCK_COLS / UNIT_COLS)

// The scale d and the constant m of a block: weight = d * q + m, q unsigned.
#ifdef QUANTISED
vec2 load_dm(uint index) {
#ifdef W_Q4_1
    return unpackHalf2x16(load_scale(index));
#else
    uint word = load_scale(index >> 1u);
    float d = unpackHalf2x16((index & 1u) == 0u ? word : word >> 16u).x;
    return vec2(d, -OFFSET * d);
#endif
}
#endif

// The UNIT_COLS weights of a unit, as floats; dm is ignored by plain types.
void decode_unit(uvec4 q, vec2 dm, out float w[UNIT_COLS]) {
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
#elif defined(W_Q8_0)
    [[unroll]] for (uint j = 0u; j < 4u; j++)
        [[unroll]] for (uint n = 0u; n < 4u; n++)
            w[4u * j + n] = float(int((q[j] >> (8u * n)) & 0xffu)) * dm.x + dm.y;
#else
    [[unroll]] for (uint j = 0u; j < 4u; j++)
        [[unroll]] for (uint n = 0u; n < 8u; n++)
            w[8u * j + n] = float(int((q[j] >> (4u * n)) & 0xfu)) * dm.x + dm.y;
#endif
}
