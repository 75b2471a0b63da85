#version 450
// matvec at device addresses: as matvec_row.comp, with what may be fused to it; one subgroup of
// LANES owns LANES * LANE_ROWS rows and reads them as one stream. cols is a multiple of 32.
//
// Reads each weight once; x once a workgroup.
#extension GL_EXT_control_flow_attributes : require
#extension GL_KHR_shader_subgroup_arithmetic : require

layout(constant_id = 0) const uint LANES = 8u;
layout(local_size_x_id = 0) in;
layout(constant_id = 1) const uint LANE_ROWS = 4u;
layout(constant_id = 2) const bool HAS_BIAS = false;
layout(constant_id = 3) const bool ACCUMULATE = false;
layout(constant_id = 4) const bool NORM = false;
layout(constant_id = 5) const bool ACTIVATE = false;
layout(constant_id = 6) const bool GATED = false;
layout(constant_id = 7) const uint ACTIVATION = 0u;
#include "weights_addr.glsl"
layout(std430, binding = 0) readonly buffer Bias { float bias[]; };
layout(std430, binding = 1) buffer Y { float y[]; };
layout(push_constant) uniform Push {
    uint rows;
    uint cols;
    uint group;
    uint y_first;
    uint bias_first;
    float eps;
    uint64_t units;
    uint64_t metas;
    uint64_t x;
    uint64_t gain;
} p;
#include "activation.glsl"

float acc[LANE_ROWS];
float squares = 0.0; // of this lane's share of x

#define BLOCK_QUADS (BLOCK_COLS / 4u)

// Adds block b's products.
void block(uint b) {
    uint64_t x = p.x + uint64_t(b) * (4ul * BLOCK_COLS);
    vec4 xs[BLOCK_QUADS];
    [[unroll]] for (uint j = 0u; j < BLOCK_QUADS; j++) xs[j] = load_floats(x, j);
    if (NORM) {
        [[unroll]] for (uint c = 0u; c < BLOCK_COLS; c += LANES) {
            float v = uintBitsToFloat(lane_word(x + 4ul * c));
            squares += v * v;
        }
        uint64_t gain = p.gain + uint64_t(b) * (4ul * BLOCK_COLS);
        [[unroll]] for (uint j = 0u; j < BLOCK_QUADS; j++) xs[j] *= load_floats(gain, j);
    }
    Meta m[LANE_ROWS];
    load_block_metas(b, p.group, m);
#ifdef MASKED
    float xsum[SCALES];
    [[unroll]] for (uint s = 0u; s < SCALES; s++) {
        vec4 sums = vec4(0.0);
        [[unroll]] for (uint j = 0u; j < BLOCK_QUADS / SCALES; j++) sums += xs[s * (BLOCK_QUADS / SCALES) + j];
        xsum[s] = sums.x + sums.y + sums.z + sums.w;
    }
    float dots[LANE_ROWS * SCALES];
    [[unroll]] for (uint i = 0u; i < LANE_ROWS * SCALES; i++) dots[i] = 0.0;
#else
#define dots acc
#endif
    [[unroll]] for (uint i = 0u; i < BLOCK_UNITS; i++) {
        vec4 unit_x[UNIT_QUADS]; // in the order of quads
        [[unroll]] for (uint j = 0u; j < UNIT_QUADS; j++) {
            [[unroll]] for (uint n = 0u; n < 4u; n++) {
                uint c = i * UNIT_COLS + quad_column(j, n);
                unit_x[j][n] = xs[c / 4u][c % 4u];
            }
            unit_x[j] *= field_scale(j);
        }
        [[unroll]] for (uint r = 0u; r < LANE_ROWS; r++) {
            vec4 w[UNIT_QUADS];
            load_quads(b * BLOCK_UNITS + i, r, p.group, m[r], w);
            [[unroll]] for (uint j = 0u; j < UNIT_QUADS; j++) {
#ifdef MASKED
                uint at = r * SCALES + quad_column(j, 0u) / SCALE_COLS;
#else
                uint at = r;
#endif
                dots[at] += dot(w[j], unit_x[j]);
            }
        }
    }
#ifdef MASKED
    [[unroll]] for (uint r = 0u; r < LANE_ROWS; r++)
        [[unroll]] for (uint s = 0u; s < SCALES; s++) acc[r] += m[r].dm[s].x * dots[r * SCALES + s] + m[r].dm[s].y * xsum[s];
#endif
}

void main() {
    uint tile = gl_WorkGroupID.y * gl_NumWorkGroups.x + gl_WorkGroupID.x;
    uint tiles = (p.rows + LANES * LANE_ROWS - 1u) / (LANES * LANE_ROWS);
    bool mine = tile < tiles; // else the last tile is computed again and nothing stored
    uint first = min(tile, tiles - 1u) * (LANES * LANE_ROWS);
    open_rows(p.units, p.metas, first, p.cols, p.group);
    [[unroll]] for (uint r = 0u; r < LANE_ROWS; r++) acc[r] = 0.0;
    uint b = 0u;
    do block(b); while (++b < p.cols / BLOCK_COLS);

    // The norm scales every product alike, so it is applied to the sums.
    float scale = NORM ? inversesqrt(subgroupAdd(squares) / float(p.cols) + p.eps) : 1.0;
    [[unroll]] for (uint r = 0u; r < LANE_ROWS; r++) {
        uint row = first + lane_row(r);
        acc[r] *= scale;
        if (HAS_BIAS && row < p.rows) acc[r] += bias[p.bias_first + row];
        if (ACTIVATE && (!GATED || r % 2u == 0u)) acc[r] = activate(acc[r]);
    }
    [[unroll]] for (uint r = 0u; r < LANE_ROWS; r += GATED ? 2u : 1u) {
        uint row = first + lane_row(r);
        if (!mine || row >= p.rows) continue;
        if (GATED) y[(p.y_first + row) / 2u] = acc[r] * acc[r + 1u];
        else y[p.y_first + row] = ACCUMULATE ? y[p.y_first + row] + acc[r] : acc[r];
    }
}
