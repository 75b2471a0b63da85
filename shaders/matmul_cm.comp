#version 450
// matmul by cooperative matrices: as matmul.comp; both operands are float16, scaled into its range
// (linear.glsl), and products are summed in float32.
//
// One workgroup computes a tile of rows by tokens; each of its SUBGROUPS_M x SUBGROUPS_N
// subgroups MATRICES_M x MATRICES_N matrices of the device's shape CM_M x CM_N x CM_K. 32 columns
// of both operands at a time go through shared memory, 80 bytes a row or token: 64 of columns
// and 16 so that eight rows are read from different banks. While one such tile is multiplied, the next is on its way
// (tiles.glsl): with two BUFFERS to the other one, else to registers, from where it follows when all have read the first.
// For 128 x 64 two are 30720 bytes, for 128 x 128 one is 20480.
// In the end each subgroup passes its results through 4 * CM_M * CM_N bytes of the weights' tiles, since only the
// driver knows which invocation holds which; with one buffer SUBGROUPS_N * CM_N is at most 20 * MATRICES_M, so that they
// have room.
// Reads the weights once for every tile's tokens, x, 2 bytes a column, once for every tile's rows.
#extension GL_EXT_control_flow_attributes : require
#extension GL_EXT_shader_explicit_arithmetic_types_float16 : require
#extension GL_KHR_cooperative_matrix : require
#extension GL_KHR_memory_scope_semantics : require
#extension GL_KHR_shader_subgroup_basic : require
#pragma use_vulkan_memory_model
#define STEP_BINDING 0
#include "step.glsl"

layout(local_size_x_id = 3) in;
layout(constant_id = 3) const uint WORKGROUP = 128u;
layout(constant_id = 4) const uint CM_M = 16u;
layout(constant_id = 5) const uint CM_N = 16u;
layout(constant_id = 6) const uint CM_K = 16u;
layout(constant_id = 7) const uint SUBGROUPS_M = 2u;
layout(constant_id = 8) const uint SUBGROUPS_N = 2u;
layout(constant_id = 9) const uint MATRICES_M = 2u;
layout(constant_id = 10) const uint MATRICES_N = 2u;
layout(constant_id = 12) const uint BUFFERS = 2u;       // tiles of each operand in shared memory
layout(constant_id = 13) const bool WHOLE_ROWS = false; // rows are whole tiles of columns
// The tiles of columns that a trip of the main loop takes. With two, which spans need, places in shared memory are constants.
layout(constant_id = 14) const uint TRIP_TILES = 1u;
#define WHOLE WHOLE_ROWS
#define X_HALVES
#include "linear.glsl"

const uint SUBGROUP_ROWS = MATRICES_M * CM_M, SUBGROUP_TOKENS = MATRICES_N * CM_N;
const uint TILE_ROWS = SUBGROUPS_M * SUBGROUP_ROWS, TILE_TOKENS = SUBGROUPS_N * SUBGROUP_TOKENS;
const uint SUBGROUP = WORKGROUP / (SUBGROUPS_M * SUBGROUPS_N);
#define TILE_COLS 32u
#define PITCH (TILE_COLS / 8u + 1u)
const uint W_SIZE = TILE_ROWS * PITCH, X_SIZE = TILE_TOKENS * PITCH;
shared uvec4 w_tile[BUFFERS * W_SIZE]; // eight columns each
shared uvec4 x_tile[BUFFERS * X_SIZE];
#define TILE_OCTETS
// Eight invocations store 128 bytes of 80-byte lines: of lines i, i + 1, i + 4 and i + 5 if two have one, else of i and i + 4,
// which begin in different banks.
uint tile_line(uint i, uint lanes) {
    uint low = lanes == 2u ? 1u : 0u; // the bit of i that changes places with bit 2
    return (i & ~(4u | 1u << low)) | (i >> low & 1u) << 2u | (i >> 2u & 1u) << low;
}
#define TILE_LINE(i, lanes) (TILE_TOKENS % 8u == 0u ? tile_line(i, lanes) : (i))
#include "tiles.glsl"
#define PARTS_BINDING 7
#include "split_k.glsl"

#define ACCUMULATOR coopmat<float, gl_ScopeSubgroup, CM_M, CM_N, gl_MatrixUseAccumulator>
#define LEFT coopmat<float16_t, gl_ScopeSubgroup, CM_M, CM_K, gl_MatrixUseA>
#define RIGHT coopmat<float16_t, gl_ScopeSubgroup, CM_K, CM_N, gl_MatrixUseB>

const uint SHARE = CM_M * CM_N / SUBGROUP; // results of a matrix that an invocation stores

// The row and the token of result e of a subgroup's matrix i, j, in columns, and its number among the tile's sums.
uint row_of(uint i, uint e) {
    return gl_WorkGroupID.x * TILE_ROWS + gl_SubgroupID % SUBGROUPS_M * SUBGROUP_ROWS + i * CM_M + e % CM_M;
}
uint token_of(uint j, uint e) {
    return gl_WorkGroupID.y * TILE_TOKENS + gl_SubgroupID / SUBGROUPS_M * SUBGROUP_TOKENS + j * CM_N + e / CM_M;
}
uint sum_of(uint i, uint j, uint e) { return ((gl_SubgroupID * MATRICES_M + i) * MATRICES_N + j) * (CM_M * CM_N) + e; }

ACCUMULATOR acc[MATRICES_M * MATRICES_N];
uint row0 = gl_WorkGroupID.x * TILE_ROWS, t0 = gl_WorkGroupID.y * TILE_TOKENS, end = column_end();

// Multiplies tile n of those of a trip, which is in shared memory as number `tile`, and puts the next one there.
void multiply(uint c0, uint n, uint tile) {
    uint first_row = gl_SubgroupID % SUBGROUPS_M * SUBGROUP_ROWS;
    uint first_token = gl_SubgroupID / SUBGROUPS_M * SUBGROUP_TOKENS;
    uint next = c0 + (n + 1u) * TILE_COLS; // column
    bool more = PHASES > 1u && n == 0u || next < end, units = PHASES == 1u || n == 1u;
    uint c = (PHASES == 1u || n == 1u) && more ? next : c0; // the first of its trip, or if it has one of its span
    uint phase = PHASES > 1u ? 1u - n : 0u;
    if (PHASES > 2u) { // a span is two trips
        phase += phase_of(c);
        c = span_of(c);
    }
    load_ahead(row0, t0, c, phase, units); // without a branch, at whose end a compiler copies what was loaded
    if (BUFFERS == 1u) tile = 0u; // a compiler sees how large this is, so that it puts constants into instructions
    [[unroll]] for (uint k = 0u; k < TILE_COLS; k += CM_K) {
        LEFT a[MATRICES_M];
        [[unroll]] for (uint i = 0u; i < MATRICES_M; i++)
            coopMatLoad(a[i], w_tile, tile * W_SIZE + (first_row + i * CM_M) * PITCH + k / 8u, PITCH, gl_CooperativeMatrixLayoutRowMajor);
        [[unroll]] for (uint j = 0u; j < MATRICES_N; j++) {
            RIGHT b;
            coopMatLoad(b, x_tile, tile * X_SIZE + (first_token + j * CM_N) * PITCH + k / 8u, PITCH, gl_CooperativeMatrixLayoutColumnMajor);
            [[unroll]] for (uint i = 0u; i < MATRICES_M; i++)
                acc[i * MATRICES_N + j] = coopMatMulAdd(a[i], b, acc[i * MATRICES_N + j]);
        }
    }
    if (BUFFERS == 1u) barrier(); // this tile has been read
    if (more) store_ahead(row0, c, phase, units, BUFFERS == 1u ? 0u : tile ^ 1u);
    barrier(); // the next tile is written, and this one has been read
}

void main() {
    if (t0 >= step.count) return; // uniform over the workgroup
    // A product is what later sums are too: from constants Mesa takes each of a matrix's numbers for a variable of its own, and
    // copies all in every trip on Intel's GPUs.
    [[unroll]] for (uint i = 0u; i < MATRICES_M * MATRICES_N; i++) acc[i] = coopMatMulAdd(LEFT(0.0), RIGHT(0.0), ACCUMULATOR(0.0));
    uint first = first_column();
    load_ahead(row0, t0, first, 0u, true);
#ifdef LEVELS
    write_levels();
    barrier(); // levels are written
#endif
    store_ahead(row0, first, 0u, true, 0u);
    barrier(); // the first tile is written
    for (uint c0 = first, trip = 0u; c0 < end; c0 += TRIP_TILES * TILE_COLS, trip++) {
        multiply(c0, 0u, TRIP_TILES > 1u ? 0u : trip & 1u);
        if (TRIP_TILES > 1u && (PHASES > 1u || c0 + TILE_COLS < end)) multiply(c0, 1u, 1u);
    }
    uint own = gl_SubgroupID * CM_M * CM_N / 4u;
    [[unroll]] for (uint i = 0u; i < MATRICES_M; i++)
        [[unroll]] for (uint j = 0u; j < MATRICES_N; j++) {
            coopMatStore(acc[i * MATRICES_N + j], w_tile, own, CM_M / 4u, gl_CooperativeMatrixLayoutColumnMajor);
            subgroupBarrier(); // the results are written
            [[unroll]] for (uint n = 0u; n < SHARE; n++) {
                uint e = gl_SubgroupInvocationID + n * SUBGROUP;
                store_sum(token_of(j, e), row_of(i, e), sum_of(i, j, e), uintBitsToFloat(w_tile[own + e / 4u][e % 4u]));
            }
            subgroupBarrier(); // the results are read before the next ones overwrite them
        }
    if (!joins()) return; // uniform over the workgroup
    for (uint m = 0u; m < MATRICES_M * MATRICES_N; m++) {
        uint i = m / MATRICES_N, j = m % MATRICES_N;
        float sums[SHARE];
        [[unroll]] for (uint n = 0u; n < SHARE; n++) sums[n] = 0.0;
        for (uint s = 0u; s < SPLITS; s++)
            [[unroll]] for (uint n = 0u; n < SHARE; n++)
                sums[n] += parts[part_of(s, sum_of(i, j, gl_SubgroupInvocationID + n * SUBGROUP))];
        [[unroll]] for (uint n = 0u; n < SHARE; n++) {
            uint e = gl_SubgroupInvocationID + n * SUBGROUP;
            store_y(token_of(j, e), row_of(i, e), sums[n]);
        }
    }
}
