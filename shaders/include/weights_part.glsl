// Weights as tiled products decode them: a part at a time, PART_COLS columns of a unit of one
// row, so that the invocations of a workgroup share a tile evenly. The includer has what
// weights.glsl asks for, `p` with rows and cols, and GROUP.
#include "weights.glsl"

#if defined(W_F32)
#define PART_COLS 4u
#elif defined(W_F16) || defined(W_BF16)
#define PART_COLS 8u
#else
#define PART_COLS 16u
#endif
#define PART_QUADS (PART_COLS / 4u)
#define UNIT_PARTS (UNIT_COLS / PART_COLS)

uint row_parts() { return (p.cols + UNIT_COLS - 1u) / UNIT_COLS * UNIT_PARTS; }

uvec4 part_unit(uint row, uint part) {
    uint nunits = (p.cols + UNIT_COLS - 1u) / UNIT_COLS;
    return load_unit((row / GROUP * nunits + part / UNIT_PARTS) * GROUP + row % GROUP);
}

#ifdef QUANTISED
Record part_record(uint row, uint part) { return row_record(row, part / UNIT_PARTS, p.cols, GROUP); }

// Scale and constant of part i of a unit.
vec2 part_scale(Meta m, uint i) {
    vec2 dm = m.dm[0];
    [[unroll]] for (uint s = 1u; s < SCALES; s++) dm = i == s ? m.dm[s] : dm;
    return dm;
}

// Two bits for each of four bytes.
uint spread2(uint v) {
    v = (v | v << 12u) & 0x000f000fu;
    return (v | v << 6u) & 0x03030303u;
}

// The fields of part i of a unit, unsigned, in the order of columns: four bytes a word.
uvec4 part_bytes(uvec4 q, Meta m, uint i) {
    uvec4 v;
#if defined(W_Q8_0)
    v = q;
#elif defined(W_Q2_K) || defined(W_Q3_K)
    uint word = i < 2u ? (i == 0u ? q.x : q.y) : (i == 2u ? q.z : q.w);
    [[unroll]] for (uint j = 0u; j < 4u; j++) v[j] = spread2((word >> (8u * j)) & 0xffu);
#else
    uvec2 words = i == 0u ? q.xy : q.zw;
    [[unroll]] for (uint j = 0u; j < 4u; j++) {
        uint n = (words[j / 2u] >> (16u * (j % 2u))) & 0xffffu;
        n = (n | n << 8u) & 0x00ff00ffu;
        v[j] = (n | n << 4u) & 0x0f0f0f0fu;
    }
#endif
#if defined(W_Q6_K)
    uint high = i == 0u ? m.high.x : m.high.y;
    [[unroll]] for (uint j = 0u; j < 4u; j++) v[j] |= spread2((high >> (8u * j)) & 0xffu) << 4u;
#elif defined(HIGH_BITS)
    // One bit a column: the product moves bit n of four to bit 8n.
    uint high = (i < 2u ? m.high.x : m.high.y) >> (16u * (i & 1u));
    [[unroll]] for (uint j = 0u; j < 4u; j++)
        v[j] |= ((((high >> (4u * j)) & 15u) * 0x00204081u) & 0x01010101u) << UNIT_BITS;
#endif
    return v;
}
#endif

// The weights of a part, in unit q, four at a time; m is ignored by plain types.
void decode_part(uvec4 q, Meta m, uint part, out vec4 w[PART_QUADS]) {
#if defined(W_F32)
    w[0] = uintBitsToFloat(q);
#elif defined(W_F16)
    w[0] = vec4(unpackHalf2x16(q.x), unpackHalf2x16(q.y));
    w[1] = vec4(unpackHalf2x16(q.z), unpackHalf2x16(q.w));
#elif defined(W_BF16)
    w[0] = uintBitsToFloat(uvec4(q.x << 16u, q.x & 0xffff0000u, q.y << 16u, q.y & 0xffff0000u));
    w[1] = uintBitsToFloat(uvec4(q.z << 16u, q.z & 0xffff0000u, q.w << 16u, q.w & 0xffff0000u));
#else
    vec2 dm = part_scale(m, part % UNIT_PARTS);
    uvec4 v = part_bytes(q, m, part % UNIT_PARTS);
    [[unroll]] for (uint j = 0u; j < 4u; j++) {
        uvec4 b = (uvec4(v[j]) >> uvec4(0u, 8u, 16u, 24u)) & 0xffu;
#ifdef LOOKUP
        w[j] = vec4(level(b.x), level(b.y), level(b.z), level(b.w)) * dm.x;
#else
        w[j] = vec4(b) * dm.x + dm.y;
#endif
    }
#endif
}
