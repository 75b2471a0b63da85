#version 450
// matmul by cooperative matrices of any size (VK_NV_cooperative_matrix2): as matmul.comp; both operands are float16,
// scaled into its range (linear.glsl), and products are summed in float32.
//
// One workgroup computes a tile of TILE_ROWS rows by TILE_TOKENS tokens as one matrix, TILE_COLS columns at a time. The
// matrices are the workgroup's: the driver puts operands in shared memory, divides the product among the subgroups, and
// asks for weights by calls of decode. Where a tile is within rows, tokens and columns, loads don't look for their ends.
//
// With RAW the weights are float16 numbers in memory too, and are taken as they are.
//
// With ELEMENTS the matrices are a subgroup's, which is the workgroup, and a function of each element loads and stores: the
// same but for addressing, on drivers that have no tensors. It is there to check the rest, and is not fast.
//
// Reads the weights once for every tile's tokens, x, 2 bytes a column, once for every tile's rows.
#extension GL_EXT_control_flow_attributes : require
#extension GL_EXT_shader_explicit_arithmetic_types_float16 : require
#extension GL_KHR_cooperative_matrix : require
#extension GL_KHR_memory_scope_semantics : require
#extension GL_NV_cooperative_matrix2 : require
#ifndef ELEMENTS
#extension GL_EXT_buffer_reference : require
#extension GL_EXT_shader_16bit_storage : require
#endif
#pragma use_vulkan_memory_model
#define STEP_BINDING 0
#include "step.glsl"

layout(local_size_x_id = 3) in;
layout(constant_id = 3) const uint WORKGROUP = 128u;
layout(constant_id = 4) const uint TILE_ROWS = 64u;
layout(constant_id = 5) const uint TILE_TOKENS = 64u;
layout(constant_id = 6) const uint TILE_COLS = 64u;
#define X_HALVES
#include "linear.glsl"
#ifdef RAW
#define W_EXPONENT 0
#else
#define W_EXPONENT p.w_exponent
#include "weights_one.glsl"
#endif

#ifdef ELEMENTS
#define SCOPE gl_ScopeSubgroup
#else
#define SCOPE gl_ScopeWorkgroup
#endif
#define WEIGHTS coopmat<float16_t, SCOPE, TILE_ROWS, TILE_COLS, gl_MatrixUseA>
#define ACTS coopmat<float16_t, SCOPE, TILE_COLS, TILE_TOKENS, gl_MatrixUseB>
#define SUMS coopmat<float, SCOPE, TILE_ROWS, TILE_TOKENS, gl_MatrixUseAccumulator>

uint row_units() { return (p.cols + UNIT_COLS - 1u) / UNIT_COLS; }
uint x_pitch() { return (p.cols + 3u) / 4u * 4u; } // columns of a token that are in memory

bool stored(uint t, uint row) { return row < p.rows && t < step.count; }
uint y_place(uint t, uint row) { return t * p.y_stride + p.y_first + row; }

// Functions of the element in row r and column c of a matrix. A driver may call one more than once for an element, so that
// what reads y is apart from what writes it: together they are store_y of linear.glsl.
float finish_element(const in uint r, const in uint c, const in float sum, const in uint row0, const in uint t0) {
    uint row = row0 + r, t = t0 + c;
    if (!stored(t, row)) return 0.0;
    float v = scaled(sum, W_EXPONENT + x_exponents[t]);
    if (HAS_BIAS) v += bias[p.bias_first + row];
    if (ACCUMULATE) v += y[y_place(t, row)];
    return v;
}

#ifdef ELEMENTS
float store_element(const in uint r, const in uint c, const in float v, const in uint row0, const in uint t0) {
    uint row = row0 + r, t = t0 + c;
    if (stored(t, row)) y[y_place(t, row)] = v;
    return v;
}

float16_t load_weight(const in uint r, const in uint c, const in float16_t none, const in uint row0, const in uint c0) {
    uint row = row0 + r, column = c0 + c, at = column % UNIT_COLS;
    if (row >= p.rows || column >= p.cols) return none;
    uvec4 unit = load_unit(row * row_units() + column / UNIT_COLS);
#ifdef RAW
    return unpackFloat2x16(unit[at / 2u])[at % 2u];
#else
    return decode_one(unit[at / UNIT_WORD_COLS], row, column / UNIT_COLS, at);
#endif
}

float16_t load_x(const in uint r, const in uint c, const in float16_t none, const in uint c0, const in uint t0) {
    uint t = t0 + c, column = c0 + r;
    if (t >= step.count || column >= p.cols) return none;
    return unpackFloat2x16(x_halves[(t * x_pitch() + column) / 4u][column % 4u / 2u])[column % 2u];
}
#else
layout(std430, binding = 3) readonly buffer XOnes { float16_t x_ones[]; };
#ifdef RAW
layout(std430, binding = 1) readonly buffer WeightOnes { float16_t w_ones[]; };
#define LOAD_WEIGHTS(a, layout) coopMatLoadTensorNV(a, w_ones, 0u, layout)
#define W_BLOCK_COLS 1u
#define W_PITCH (row_units() * UNIT_COLS)
#else
layout(buffer_reference, std430, buffer_reference_align = 16) readonly buffer Unit { uint words[4]; };

// The weight of a unit's column at[1]; block is its row and which of the row's units it is.
float16_t decode(const in Unit unit, const in uint block[2], const in uint at[2]) {
    return decode_one(unit.words[at[1] / UNIT_WORD_COLS], block[0], block[1], at[1]);
}
#define LOAD_WEIGHTS(a, layout) coopMatLoadTensorNV(a, units, 0u, layout, decode)
#define W_BLOCK_COLS UNIT_COLS
#define W_PITCH row_units()
#endif

#define WHOLE tensorLayoutNV<2, gl_CooperativeMatrixClampModeUndefinedNV>
#define CLAMPED tensorLayoutNV<2, gl_CooperativeMatrixClampModeConstantNV> // loads zeros beyond its ends, and stores nothing there

// Adds the product to sums. x is (tokens, columns), the other way round than its matrix.
#define MULTIPLY(LAYOUT, MODE)                                                                                               \
    {                                                                                                                        \
        LAYOUT w_layout = setTensorLayoutBlockSizeNV(createTensorLayoutNV(2, MODE), 1u, W_BLOCK_COLS);                       \
        w_layout = setTensorLayoutStrideNV(setTensorLayoutDimensionNV(w_layout, p.rows, p.cols), W_PITCH, 1u);               \
        LAYOUT x_layout = setTensorLayoutDimensionNV(createTensorLayoutNV(2, MODE), step.count, x_pitch());                  \
        [[dont_unroll]] for (uint c0 = 0u; c0 < p.cols; c0 += TILE_COLS) {                                                   \
            WEIGHTS a = WEIGHTS(0.0);                                                                                        \
            ACTS b = ACTS(0.0);                                                                                              \
            LOAD_WEIGHTS(a, sliceTensorLayoutNV(w_layout, row0, TILE_ROWS, c0, TILE_COLS));                                  \
            coopMatLoadTensorNV(b, x_ones, 0u, sliceTensorLayoutNV(x_layout, t0, TILE_TOKENS, c0, TILE_COLS), transposed);   \
            sums = coopMatMulAdd(a, b, sums);                                                                                \
        }                                                                                                                    \
    }
#endif

void main() {
    uint row0 = gl_WorkGroupID.x * TILE_ROWS, t0 = gl_WorkGroupID.y * TILE_TOKENS;
    if (t0 >= step.count) return; // uniform over the workgroup
    SUMS sums = SUMS(0.0);
#ifdef ELEMENTS
    [[dont_unroll]] for (uint c0 = 0u; c0 < p.cols; c0 += TILE_COLS) {
        WEIGHTS a = WEIGHTS(0.0);
        ACTS b = ACTS(0.0);
        coopMatPerElementNV(a, a, load_weight, row0, c0);
        coopMatPerElementNV(b, b, load_x, c0, t0);
        sums = coopMatMulAdd(a, b, sums);
    }
    coopMatPerElementNV(sums, sums, finish_element, row0, t0);
    coopMatPerElementNV(sums, sums, store_element, row0, t0);
#else
    const tensorViewNV<2, false, 1, 0> transposed = createTensorViewNV(2, false, 1, 0);
    if (row0 + TILE_ROWS <= p.rows && t0 + TILE_TOKENS <= step.count && p.cols % TILE_COLS == 0u)
        MULTIPLY(WHOLE, gl_CooperativeMatrixClampModeUndefinedNV)
    else
        MULTIPLY(CLAMPED, gl_CooperativeMatrixClampModeConstantNV)
    coopMatPerElementNV(sums, sums, finish_element, row0, t0);
    if (ACCUMULATE) barrier(); // y has been read
    CLAMPED y_layout = createTensorLayoutNV(2, gl_CooperativeMatrixClampModeConstantNV);
    y_layout = setTensorLayoutDimensionNV(y_layout, step.count, p.y_first + p.rows);
    y_layout = setTensorLayoutStrideNV(y_layout, p.y_stride, 1u);
    coopMatStoreTensorNV(sums, y, 0u, sliceTensorLayoutNV(y_layout, t0, TILE_TOKENS, p.y_first + row0, TILE_ROWS), transposed);
#endif
}
