#version 450
// matvec: y[r] = sum_c w[r, c] * n(x)[c] (+ bias[r]) (+ y[r]), and what may be fused to it:
// n is RMS normalisation with NORM, else nothing; ACTIVATE applies an MLP's nonlinearity; with
// GATED as well, y[r / 2] = act(row r) * (row r + 1) for even r.
//
//   units, meta    w, (rows, cols), or one part of its rows (weights.glsl)
//   x (cols) f32   gain (cols) f32, of the norm   bias (rows) f32
//   y (rows) f32, or (rows / 2) with GATED, written from row y_first of the whole matrix on
//
// One workgroup takes ROWS adjacent rows; each invocation strides over their units and the
// partial sums meet in shared memory (4 * WORKGROUP bytes). Reads each weight once, in
// consecutive 16-byte units; x is 4 * cols bytes, shared by all rows through the cache. The
// norm costs each workgroup a sum of squares, and saves a dispatch and a barrier.
#extension GL_EXT_control_flow_attributes : require
layout(local_size_x_id = 0) in;
layout(constant_id = 0) const uint WORKGROUP = 64u;
layout(constant_id = 1) const bool HAS_BIAS = false;
layout(constant_id = 2) const bool ACCUMULATE = false;
layout(constant_id = 3) const bool NORM = false;
layout(constant_id = 4) const bool ACTIVATE = false;
layout(constant_id = 5) const bool GATED = false;
layout(constant_id = 6) const uint ACTIVATION = 0u;
layout(std430, binding = 0) readonly buffer Units { uvec4 units[]; };
layout(std430, binding = 1) readonly buffer Metas { uint meta[]; };
layout(std430, binding = 2) readonly buffer X { float x[]; };
layout(std430, binding = 3) readonly buffer Gain { float gain[]; };
layout(std430, binding = 4) readonly buffer Bias { float bias[]; };
layout(std430, binding = 5) buffer Y { float y[]; };
layout(push_constant) uniform Push {
    uint rows;
    uint cols;
    uint group;
    uint y_first;
    uint bias_first;
    float eps;
} p;
#include "reduce.glsl"
#include "activation.glsl"

uvec4 load_unit(uint i) { return units[i]; }
uint load_meta_word(uint i) { return meta[i]; }
#include "weights.glsl"

#define ROWS 2u // kernels.matvecRows

void main() {
    // Workgroups are spread over x and y because x alone is limited to 65535.
    uint row0 = (gl_WorkGroupID.y * gl_NumWorkGroups.x + gl_WorkGroupID.x) * ROWS;
    if (row0 >= p.rows) return; // uniform over the workgroup
    uint nunits = (p.cols + UNIT_COLS - 1u) / UNIT_COLS;
    float sums[ROWS];
    [[unroll]] for (uint r = 0u; r < ROWS; r++) sums[r] = 0.0;
    float squares = 0.0;
    for (uint u = gl_LocalInvocationID.x; u < nunits; u += WORKGROUP) {
        uint c = u * UNIT_COLS;
        float xs[UNIT_COLS];
        for (uint i = 0u; i < UNIT_COLS; i++) {
            bool inside = c + i < p.cols;
            float v = inside ? x[c + i] : 0.0;
            if (NORM) squares += v * v;
            xs[i] = NORM && inside ? v * gain[c + i] : v;
        }
        // Not unrolled: a row's body is long, and drivers without a limit of their own compile
        // it as often as it stands.
        for (uint r = 0u; r < ROWS; r++) {
            uint row = min(row0 + r, p.rows - 1u);
            uint group_row = row / p.group, in_group = row % p.group;
            Meta m;
#ifdef QUANTISED
            m = load_meta(row_record(row, u, p.cols, p.group));
#endif
            float w[UNIT_COLS];
            decode_unit(load_unit((group_row * nunits + u) * p.group + in_group), m, w);
            float sum = 0.0;
            for (uint i = 0u; i < UNIT_COLS; i++) sum += w[i] * xs[i];
            sums[r] += sum;
        }
    }
    [[unroll]] for (uint r = 0u; r < ROWS; r++) sums[r] = workgroup_sum(sums[r]);
    // The norm scales every product alike, so it is applied to the sums.
    if (NORM) {
        float scale = inversesqrt(workgroup_sum(squares) / float(p.cols) + p.eps);
        [[unroll]] for (uint r = 0u; r < ROWS; r++) sums[r] *= scale;
    }
    if (gl_LocalInvocationID.x != 0u) return;
    [[unroll]] for (uint r = 0u; r < ROWS; r++) {
        if (row0 + r >= p.rows) break;
        if (HAS_BIAS) sums[r] += bias[p.bias_first + row0 + r];
        if (ACTIVATE && (!GATED || r == 0u)) sums[r] = activate(sums[r]);
    }
    if (GATED) {
        y[(p.y_first + row0) / 2u] = sums[0] * sums[1];
        return;
    }
    [[unroll]] for (uint r = 0u; r < ROWS; r++) {
        if (row0 + r >= p.rows) break;
        uint at = p.y_first + row0 + r;
        y[at] = ACCUMULATE ? y[at] + sums[r] : sums[r];
    }
}
