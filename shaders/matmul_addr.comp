#version 450
// matmul at device addresses: as matmul_row.comp, but for the norm; one subgroup of LANES computes a tile of
// LANES * LANE_ROWS rows by TILE_TOKENS tokens. Each block of weights is decoded once a tile; cols
// is a multiple of 32. Token tiles are on x, as there.
//
// Reads the weights once for every TILE_TOKENS tokens, x once for every LANES * LANE_ROWS rows.
#extension GL_EXT_control_flow_attributes : require
#define STEP_BINDING 0
#include "step.glsl"

layout(constant_id = 0) const uint LANES = 8u;
layout(local_size_x_id = 0) in;
layout(constant_id = 1) const uint LANE_ROWS = 2u;
layout(constant_id = 2) const uint TILE_TOKENS = 8u;
layout(constant_id = 3) const bool HAS_BIAS = false;
layout(constant_id = 4) const bool ACCUMULATE = false;
layout(constant_id = 5) const bool ACTIVATE = false;
layout(constant_id = 6) const bool GATED = false;
layout(constant_id = 7) const uint ACTIVATION = 0u;
#include "weights_addr.glsl"
layout(std430, binding = 1) readonly buffer Bias { float bias[]; };
layout(std430, binding = 2) buffer Y { float y[]; };
layout(push_constant) uniform Push {
    uint rows;
    uint cols;
    uint group;
    uint y_first;
    uint bias_first;
    uint y_stride;
    uint64_t units;
    uint64_t metas;
    uint64_t x;
} p;
#include "activation.glsl"

float acc[LANE_ROWS * TILE_TOKENS];
uint64_t tokens[TILE_TOKENS]; // where their columns are

// Adds block b's products.
void block(uint b) {
    Meta m[LANE_ROWS];
    load_block_metas(b, p.group, m);
    [[unroll]] for (uint i = 0u; i < BLOCK_UNITS; i++) {
        uint u = b * BLOCK_UNITS + i;
        vec4 w[LANE_ROWS * UNIT_QUADS];
        [[unroll]] for (uint r = 0u; r < LANE_ROWS; r++) {
            vec4 unit[UNIT_QUADS];
            load_quads(u, r, p.group, m[r], unit);
            [[unroll]] for (uint j = 0u; j < UNIT_QUADS; j++) {
#ifdef MASKED
                vec2 dm = m[r].dm[quad_column(j, 0u) / SCALE_COLS];
                unit[j] = unit[j] * (field_scale(j) * dm.x) + dm.y;
#endif
                [[unroll]] for (uint n = 0u; n < 4u; n++) {
                    uint c = quad_column(j, n);
                    w[r * UNIT_QUADS + c / 4u][c % 4u] = unit[j][n];
                }
            }
        }
        [[unroll]] for (uint t = 0u; t < TILE_TOKENS; t++)
            [[unroll]] for (uint j = 0u; j < UNIT_QUADS; j++) {
                vec4 xs = load_floats(tokens[t] + uint64_t(u) * (4ul * UNIT_COLS), j);
                // One product at a time, not dot(): LLVM spills fewer partial sums.
                [[unroll]] for (uint n = 0u; n < 4u; n++)
                    [[unroll]] for (uint r = 0u; r < LANE_ROWS; r++)
                        acc[r * TILE_TOKENS + t] += w[r * UNIT_QUADS + j][n] * xs[n];
            }
    }
}

// The lane's product of its row r, which is row `row`, with token t.
float product(uint row, uint r, uint t) {
    float sum = acc[r * TILE_TOKENS + t];
    return HAS_BIAS ? sum + bias[p.bias_first + row] : sum;
}

void main() {
    uint t0 = gl_WorkGroupID.x * TILE_TOKENS;
    if (t0 >= step.count) return; // uniform
    uint first = gl_WorkGroupID.y * LANES * LANE_ROWS;
    open_rows(p.units, p.metas, first, p.cols, p.group);
    [[unroll]] for (uint t = 0u; t < TILE_TOKENS; t++)
        tokens[t] = p.x + uint64_t(min(t0 + t, step.count - 1u) * p.cols) * 4ul;
    [[unroll]] for (uint i = 0u; i < LANE_ROWS * TILE_TOKENS; i++) acc[i] = 0.0;
    uint b = 0u;
    do block(b); while (++b < p.cols / BLOCK_COLS);

    [[unroll]] for (uint t = 0u; t < TILE_TOKENS; t++) {
        if (t0 + t >= step.count) break;
        [[unroll]] for (uint r = 0u; r < LANE_ROWS; r += GATED ? 2u : 1u) {
            uint row = first + lane_row(r);
            if (row >= p.rows) continue;
            float result = product(row, r, t);
            if (ACTIVATE) result = activate(result);
            if (GATED) result *= product(row + 1u, r + 1u, t);
            uint at = (t0 + t) * p.y_stride + (p.y_first + row) / (GATED ? 2u : 1u);
            if (ACCUMULATE) result += y[at];
            y[at] = result;
        }
    }
}
