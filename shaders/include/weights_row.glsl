// Weights as the `row` kernels read them: uniform texel buffers, one block of 32 columns
// at a time, for the LANE_ROWS adjacent rows of each of the eight lanes.
//
// A lane loads one vec4 of x for the block (lane l: columns 4l to 4l + 3) and the
// subgroup passes them around by constant shuffles. Packed integers are masked in place
// instead of shifted, so field n of a word is 2^(bits n) times too large, which x
// prepared by lane_scale takes back exactly; the top field alone is shifted.
layout(binding = UNITS_BINDING) uniform utextureBuffer units;
layout(binding = SCALES_BINDING) uniform utextureBuffer scales;
uvec4 load_unit(uint i) { return texelFetch(units, int(i)); }
uint load_scale(uint word) { return texelFetch(scales, int(word)).x; }
#include "weights.glsl"

// Where this lane's rows start in the two planes.
struct Rows {
    uint unit;  // unit 0 of the first row; unit u of row r is at unit + u * group + r
    uint scale; // block 0 of the first row, likewise
};

Rows lane_rows(uint row, uint rows, uint cols, uint group) {
    // A lane past the end reads the first lane's rows again and stores nothing.
    row = row < rows ? row : subgroupShuffle(row, 0u);
    uint nunits = (cols + UNIT_COLS - 1u) / UNIT_COLS;
    return Rows(row / group * nunits * group + row % group,
                row / group * (cols / BLOCK_COLS) * group + row % group);
}

#ifdef QUANTISED
// d and m of block b of the lane's rows. Two halves share a word, and LANE_ROWS is even.
void load_row_scales(Rows at, uint b, uint group, out vec2 dm[LANE_ROWS]) {
    uint i = at.scale + b * group;
#ifdef W_Q4_1
    [[unroll]] for (uint r = 0u; r < LANE_ROWS; r++) dm[r] = unpackHalf2x16(load_scale(i + r));
#else
    [[unroll]] for (uint r = 0u; r < LANE_ROWS; r += 2u) {
        vec2 d = unpackHalf2x16(load_scale((i + r) >> 1u));
        dm[r] = vec2(d.x, -OFFSET * d.x);
        dm[r + 1u] = vec2(d.y, -OFFSET * d.y);
    }
#endif
}
#endif

// What a lane multiplies its four columns of x by before in-place masking.
vec4 lane_scale(uint lane) {
#if defined(W_Q8_0)
    return vec4(1.0, 1.0 / 256.0, 1.0 / 65536.0, 1.0);
#elif defined(W_Q4_0) || defined(W_Q4_1)
    return (lane & 1u) == 0u ? vec4(1.0, 1.0 / 16.0, 1.0 / 256.0, 1.0 / 4096.0)
                             : vec4(1.0 / 65536.0, 1.0 / 1048576.0, 1.0 / 16777216.0, 1.0);
#else
    return vec4(1.0);
#endif
}

float masked(uint word, uint mask) { return float(int(word & mask)); }

// Four consecutive columns, xv[4 of the block], of unit q of block-relative unit number i:
// the raw (unscaled, still multiplied) values of columns 4j to 4j + 3 of the unit.
vec4 quad(uvec4 q, uint j) {
#if defined(W_F32)
    return uintBitsToFloat(q);
#elif defined(W_F16)
    return vec4(unpackHalf2x16(q[2u * j]), unpackHalf2x16(q[2u * j + 1u]));
#elif defined(W_BF16)
    return uintBitsToFloat(uvec4(q[2u * j] << 16u, q[2u * j] & 0xffff0000u, q[2u * j + 1u] << 16u, q[2u * j + 1u] & 0xffff0000u));
#elif defined(W_Q8_0)
    uint w = q[j];
    return vec4(masked(w, 0xffu), masked(w, 0xff00u), masked(w, 0xff0000u), float(int(w >> 24u)));
#else
    uint w = q[j >> 1u];
    return (j & 1u) == 0u
        ? vec4(masked(w, 0xfu), masked(w, 0xf0u), masked(w, 0xf00u), masked(w, 0xf000u))
        : vec4(masked(w, 0xf0000u), masked(w, 0xf00000u), masked(w, 0xf000000u), float(int(w >> 28u)));
#endif
}
#define UNIT_QUADS (UNIT_COLS / 4u)
