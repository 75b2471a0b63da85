#version 450
// matmul: y[t, r] = sum_c w[r, c] * x[t, c] (+ bias[r]) (+ y[t, r])
//
//   units, meta    w, (rows, cols), or one part of its rows (weights.glsl)
//   x (tokens, cols) f32   bias (rows) f32
//   y (tokens, y_stride) f32, written from column y_first
//
// One workgroup of 64 computes a tile of 32 rows by 32 tokens, 4 by 4 an invocation;
// TILE_COLS columns of both operands at a time go through shared memory: 32, or the 64 of a
// unit that has more (2 * 32 * 33 * 4 bytes, or twice that; rows are padded by a word so
// that a column is read from different banks).
// Reads the weights once for every 32 tokens, x once for every 32 rows.
#extension GL_EXT_control_flow_attributes : require
#define STEP_BINDING 0
#include "step.glsl"

layout(local_size_x = 64) in;
layout(constant_id = 0) const bool HAS_BIAS = false;
layout(constant_id = 1) const bool ACCUMULATE = false;
layout(std430, binding = 1) readonly buffer Units { uvec4 units[]; };
layout(std430, binding = 2) readonly buffer Metas { uint meta[]; };
layout(std430, binding = 3) readonly buffer X { float x[]; };
layout(std430, binding = 4) readonly buffer Bias { float bias[]; };
layout(std430, binding = 5) buffer Y { float y[]; };
layout(push_constant) uniform Push {
    uint rows;
    uint cols;
    uint group;
    uint y_first;
    uint bias_first;
    uint y_stride;
} p;

uvec4 load_unit(uint i) { return units[i]; }
uint load_meta_word(uint i) { return meta[i]; }
#include "weights.glsl"

#define TILE 32u
#if defined(W_Q2_K) || defined(W_Q3_K)
#define TILE_COLS 64u
#else
#define TILE_COLS 32u
#endif
#define TILE_UNITS (TILE_COLS / UNIT_COLS)
#define PITCH (TILE_COLS + 1u)
shared float w_tile[TILE * PITCH];
shared float x_tile[TILE * PITCH];

void load_weights(uint row0, uint c0) {
    uint nunits = (p.cols + UNIT_COLS - 1u) / UNIT_COLS;
    for (uint i = gl_LocalInvocationID.x; i < TILE * TILE_UNITS; i += 64u) {
        uint r = i / TILE_UNITS, unit_in_tile = i % TILE_UNITS;
        uint row = row0 + r, u = c0 / UNIT_COLS + unit_in_tile;
        float w[UNIT_COLS];
        bool inside = row < p.rows && u < nunits;
        if (inside) {
            uint group_row = row / p.group, in_group = row % p.group;
            Meta m;
#ifdef QUANTISED
            m = load_meta(group_row * row_records(p.cols) * p.group + in_group, u, p.group);
#endif
            decode_unit(load_unit((group_row * nunits + u) * p.group + in_group), m, w);
        }
        [[unroll]] for (uint k = 0u; k < UNIT_COLS; k++)
            w_tile[r * PITCH + unit_in_tile * UNIT_COLS + k] = inside ? w[k] : 0.0;
    }
}

void load_x(uint t0, uint c0) {
    for (uint i = gl_LocalInvocationID.x; i < TILE * TILE_COLS; i += 64u) {
        uint t = t0 + i / TILE_COLS, c = c0 + i % TILE_COLS;
        x_tile[i / TILE_COLS * PITCH + i % TILE_COLS] = t < step.count && c < p.cols ? x[t * p.cols + c] : 0.0;
    }
}

void main() {
    uint row0 = gl_WorkGroupID.x * TILE, t0 = gl_WorkGroupID.y * TILE;
    if (t0 >= step.count) return; // uniform over the workgroup
    uint tr = gl_LocalInvocationID.x % 8u, tt = gl_LocalInvocationID.x / 8u;
    float acc[16];
    [[unroll]] for (uint i = 0u; i < 16u; i++) acc[i] = 0.0;
    for (uint c0 = 0u; c0 < p.cols; c0 += TILE_COLS) {
        load_weights(row0, c0);
        load_x(t0, c0);
        barrier(); // the tiles are written
        for (uint k = 0u; k < TILE_COLS; k++) {
            float a[4], b[4];
            [[unroll]] for (uint i = 0u; i < 4u; i++) {
                a[i] = w_tile[(tr + 8u * i) * PITCH + k];
                b[i] = x_tile[(tt + 8u * i) * PITCH + k];
            }
            [[unroll]] for (uint i = 0u; i < 4u; i++)
                [[unroll]] for (uint j = 0u; j < 4u; j++) acc[i * 4u + j] += a[i] * b[j];
        }
        barrier(); // the tiles are read before the next ones overwrite them
    }
    [[unroll]] for (uint j = 0u; j < 4u; j++) {
        uint t = t0 + tt + 8u * j;
        if (t >= step.count) continue;
        [[unroll]] for (uint i = 0u; i < 4u; i++) {
            uint row = row0 + tr + 8u * i;
            if (row >= p.rows) continue;
            uint at = t * p.y_stride + p.y_first + row;
            float sum = acc[i * 4u + j];
            if (HAS_BIAS) sum += bias[p.bias_first + row];
            if (ACCUMULATE) sum += y[at];
            y[at] = sum;
        }
    }
}
