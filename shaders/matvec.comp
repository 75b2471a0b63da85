#version 450
// matvec: y[r] = sum_c w[r, c] * x[c] (+ bias[r]) (+ y[r])
//
//   units, meta    w, (rows, cols), or one part of its rows (weights.glsl)
//   x (cols) f32   bias (rows) f32   y (rows) f32, written from element y_first
//
// One workgroup a row; each invocation strides over the row's units and the partial
// sums meet in shared memory (4 * WORKGROUP bytes). Reads each weight once, in
// consecutive 16-byte units; x is 4 * cols bytes, shared by all rows through the cache.
#extension GL_EXT_control_flow_attributes : require
layout(local_size_x_id = 0) in;
layout(constant_id = 0) const uint WORKGROUP = 64u;
layout(constant_id = 1) const bool HAS_BIAS = false;
layout(constant_id = 2) const bool ACCUMULATE = false;
layout(std430, binding = 0) readonly buffer Units { uvec4 units[]; };
layout(std430, binding = 1) readonly buffer Metas { uint meta[]; };
layout(std430, binding = 2) readonly buffer X { float x[]; };
layout(std430, binding = 3) readonly buffer Bias { float bias[]; };
layout(std430, binding = 4) buffer Y { float y[]; };
layout(push_constant) uniform Push {
    uint rows;
    uint cols;
    uint group;
    uint y_first;
    uint bias_first;
} p;
#include "reduce.glsl"

uvec4 load_unit(uint i) { return units[i]; }
uint load_meta_word(uint i) { return meta[i]; }
#include "weights.glsl"

void main() {
    // Workgroups are spread over x and y because x alone is limited to 65535.
    uint row = gl_WorkGroupID.y * gl_NumWorkGroups.x + gl_WorkGroupID.x;
    if (row >= p.rows) return; // uniform over the workgroup
    uint nunits = (p.cols + UNIT_COLS - 1u) / UNIT_COLS;
    uint group_row = row / p.group, in_group = row % p.group;
    uint record0 = group_row * row_records(p.cols) * p.group + in_group;
    float sum = 0.0;
    for (uint u = gl_LocalInvocationID.x; u < nunits; u += WORKGROUP) {
        Meta m;
#ifdef QUANTISED
        m = load_meta(record0, u, p.group);
#endif
        float w[UNIT_COLS];
        decode_unit(load_unit((group_row * nunits + u) * p.group + in_group), m, w);
        uint c = u * UNIT_COLS;
        if (c + UNIT_COLS <= p.cols) {
            [[unroll]] for (uint i = 0u; i < UNIT_COLS; i++) sum += w[i] * x[c + i];
        } else {
            for (uint i = 0u; c + i < p.cols; i++) sum += w[i] * x[c + i];
        }
    }
    sum = workgroup_sum(sum);
    if (gl_LocalInvocationID.x == 0u) {
        if (HAS_BIAS) sum += bias[p.bias_first + row];
        if (ACCUMULATE) sum += y[p.y_first + row];
        y[p.y_first + row] = sum;
    }
}
