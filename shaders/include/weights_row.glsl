// Weights as the `row` kernels read them: uniform texel buffers, one block of 32 columns
// at a time, for the LANE_ROWS adjacent rows of each of the eight lanes.
//
// A lane loads one vec4 of x for the block (lane l: columns 4l to 4l + 3) and the subgroup
// passes them around by constant shuffles.
layout(binding = UNITS_BINDING) uniform utextureBuffer units;
layout(binding = META_BINDING) uniform utextureBuffer meta;
uvec4 load_unit(uint i) { return texelFetch(units, int(i)); }
uint load_meta_word(uint i) { return texelFetch(meta, int(i)).x; }
#include "quads.glsl"
#define NO_HIGH uvec2(0u) // what quad() takes: here it reads no type that has high bits

#if defined(MASKED) && HEAD_WORDS <= 1
#define QUAD_META // the binding's texels are 16 bytes, and not a word: the records of several rows
#endif

// Where this lane's rows start in the two planes.
struct Rows {
    uint unit;   // unit 0 of the first row; unit u of row r is at unit + u * group + r
    uint record; // record 0 of the first row, likewise
};

Rows lane_rows(uint row, uint rows, uint cols, uint group) {
    // A lane past the end reads the first lane's rows again and stores nothing.
    row = row < rows ? row : subgroupShuffle(row, 0u);
    uint nunits = (cols + UNIT_COLS - 1u) / UNIT_COLS;
    return Rows(row / group * nunits * group + row % group,
                row / group * row_records(cols) * group + row % group);
}

#ifdef MASKED
// d and m of block b of the lane's rows.
void load_block_scales(Rows at, uint b, uint group, out vec2 dm[LANE_ROWS]) {
#ifdef QUAD_META
    // LANE_ROWS is a multiple of four, and so is the number of the first row.
    [[unroll]] for (uint r = 0u; r < LANE_ROWS; r += 4u) {
        uint i = at.record + b * group + r;
#ifdef HALF_META
        uvec4 v = texelFetch(meta, int(i >> 3u));
        uvec2 halves = mix(v.xy, v.zw, bvec2((i & 4u) != 0u));
        vec4 d = vec4(unpackHalf2x16(halves.x), unpackHalf2x16(halves.y));
        [[unroll]] for (uint n = 0u; n < 4u; n++) dm[r + n] = vec2(d[n], -float(OFFSET) * d[n]);
#else
        uvec4 v = texelFetch(meta, int(i >> 2u));
        [[unroll]] for (uint n = 0u; n < 4u; n++) dm[r + n] = unpackHalf2x16(v[n]);
#endif
    }
#else
    [[unroll]] for (uint r = 0u; r < LANE_ROWS; r++)
        dm[r] = load_meta(group_record(at.record + r, b * BLOCK_UNITS, group, 1u)).dm[0];
#endif
}
#endif

#if defined(QUANTISED) && !defined(MASKED)
// The weights of unit u of the lane's row r, four at a time.
void decode_quads(Rows at, uint u, uint r, uint group, out vec4 w[UNIT_QUADS]) {
    float f[UNIT_COLS];
    decode_unit(load_unit(at.unit + u * group + r), load_meta(group_record(at.record + r, u, group, 1u)), f);
    [[unroll]] for (uint j = 0u; j < UNIT_QUADS; j++)
        w[j] = vec4(f[4u * j], f[4u * j + 1u], f[4u * j + 2u], f[4u * j + 3u]);
}
#endif
