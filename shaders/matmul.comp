#version 450
// matmul: y = x times the transpose of w (linear.glsl).
//
// One workgroup of 128 computes a tile of 64 rows by 16 * TOKENS tokens, 8 rows by TOKENS
// tokens an invocation. 32 columns of both operands at a time go through registers (tiles.glsl) to
// shared memory, 8192 and 2048 * TOKENS bytes (half of that with FP16), as vectors of four columns;
// vector k of a row is at place k ^ (row % 8), so that eight rows are read from different banks.
// Reads the weights once for every 16 * TOKENS tokens, x once for every 64 rows.
//
// With FP16 both operands are float16, scaled into its range (linear.glsl). That halves the shared memory and
// what is read from it, and x is half as large; products are exact and summed in float32 as without, by one
// multiply-add and up to one conversion each, or two by an instruction where a device has it (docs/design/0026).
// Sums of float16 would need half as many instructions on other devices that compute two at a time, but have room for
// neither large nor small rows of a matrix.
#extension GL_EXT_control_flow_attributes : require
#ifdef FP16
#extension GL_EXT_shader_explicit_arithmetic_types_float16 : require
#define X_HALVES
#define QUAD f16vec4
#else
#define QUAD vec4
#endif
#define STEP_BINDING 0
#include "step.glsl"

layout(local_size_x = 128) in;
layout(constant_id = 3) const uint TOKENS = 4u;
#include "linear.glsl"

#define WORKGROUP 128u
#define ROWS 8u
#define TILE_ROWS 64u
#define TILE_TOKENS (16u * TOKENS)
#define TILE_COLS 32u
shared QUAD w_tile[TILE_ROWS * TILE_COLS / 4u];
shared QUAD x_tile[TILE_TOKENS * TILE_COLS / 4u];

uint place(uint line, uint quad) { return line * (TILE_COLS / 4u) + (quad ^ (line % 8u)); }
#define W_PLACE(to, row, quad) place(row, quad)
#define X_PLACE(to, token, quad) place(token, quad)
#include "tiles.glsl"
#ifdef FP16
#define PARTS_BINDING 7
#else
#define PARTS_BINDING 6
#endif
#include "split_k.glsl"
#define SUM_OF(i, j) ((i * TOKENS + j) * WORKGROUP + gl_LocalInvocationID.x)

// The sum and the products of two quads: in this order, of which FloatDots of package shaders makes two instructions.
float add_products(float sum, QUAD a, QUAD b) {
    sum += float(a.x) * float(b.x);
    sum += float(a.y) * float(b.y);
    sum += float(a.z) * float(b.z);
    return sum + float(a.w) * float(b.w);
}

void main() {
    uint row0 = gl_WorkGroupID.x * TILE_ROWS, t0 = gl_WorkGroupID.y * TILE_TOKENS;
    if (t0 >= step.count) return; // uniform over the workgroup
    uint tr = gl_LocalInvocationID.x % 8u, tt = gl_LocalInvocationID.x / 8u;
    float acc[ROWS * TOKENS];
    [[unroll]] for (uint i = 0u; i < ROWS * TOKENS; i++) acc[i] = 0.0;
    uint first = first_column(), end = column_end();
    load_ahead(row0, t0, first, 0u, true);
    for (uint c0 = first; c0 < end; c0 += TILE_COLS) {
        store_ahead(row0, span_of(c0), phase_of(c0), phase_of(c0) == 0u, 0u);
        barrier(); // the tiles are written
        uint next = c0 + TILE_COLS;
        if (next < end) load_ahead(row0, t0, span_of(next), phase_of(next), phase_of(next) == 0u);
        for (uint k = 0u; k < TILE_QUADS; k++) {
            uint w_first = place(tr, k), x_first = place(tt, k); // lines that are eight apart have a quad at the same place
            QUAD b[TOKENS];
            [[unroll]] for (uint j = 0u; j < TOKENS; j++) b[j] = x_tile[x_first + 16u * j * TILE_QUADS];
            [[unroll]] for (uint i = 0u; i < ROWS; i++) {
                QUAD a = w_tile[w_first + 8u * i * TILE_QUADS];
                [[unroll]] for (uint j = 0u; j < TOKENS; j++) acc[i * TOKENS + j] = add_products(acc[i * TOKENS + j], a, b[j]);
            }
        }
        barrier(); // the tiles are read before the next ones overwrite them
    }
    [[unroll]] for (uint j = 0u; j < TOKENS; j++)
        [[unroll]] for (uint i = 0u; i < ROWS; i++)
            store_sum(t0 + tt + 16u * j, row0 + tr + 8u * i, SUM_OF(i, j), acc[i * TOKENS + j]);
    if (!joins()) return; // uniform over the workgroup
    [[unroll]] for (uint i = 0u; i < ROWS * TOKENS; i++) acc[i] = 0.0;
    for (uint s = 0u; s < SPLITS; s++)
        [[unroll]] for (uint j = 0u; j < TOKENS; j++)
            [[unroll]] for (uint i = 0u; i < ROWS; i++) acc[i * TOKENS + j] += parts[part_of(s, SUM_OF(i, j))];
    [[unroll]] for (uint j = 0u; j < TOKENS; j++)
        [[unroll]] for (uint i = 0u; i < ROWS; i++)
            store_y(t0 + tt + 16u * j, row0 + tr + 8u * i, acc[i * TOKENS + j]);
}
