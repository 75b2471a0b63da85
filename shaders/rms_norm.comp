#version 450
// rms_norm: y[t, c] = x[t, c] / sqrt(mean_c(x[t, c]^2) + eps) * w[c]
// Zhang and Sennrich 2019, arXiv:1910.07467.
//
//   x  (tokens, cols) f32    w  (cols) f32    y  (tokens, cols) f32, or (sequences, cols) with LAST
//
// One workgroup a row; each invocation strides over the columns, the sum of squares
// goes through shared memory (4 * WORKGROUP bytes). Reads 8 bytes and writes 4 an element.
// LAST: only the last token of each of the run's sequences is normalised.
#define STEP_BINDING 0
#include "step.glsl"

layout(local_size_x_id = 0) in;
layout(constant_id = 0) const uint WORKGROUP = 64u;
layout(constant_id = 1) const bool LAST = false;
layout(std430, binding = 1) readonly buffer X { float x[]; };
layout(std430, binding = 2) readonly buffer W { float w[]; };
layout(std430, binding = 3) writeonly buffer Y { float y[]; };
layout(push_constant) uniform Push {
    uint cols;
    float eps;
} p;
#include "reduce.glsl"

void main() {
    uint t = gl_WorkGroupID.x;
    if (t >= (LAST ? step.rows : step.count)) return; // uniform over the workgroup
    uint src = (LAST ? step.row[t] : t) * p.cols;
    uint out_row = t * p.cols;
    float sum = 0.0;
    for (uint c = gl_LocalInvocationID.x; c < p.cols; c += WORKGROUP) {
        float v = x[src + c];
        sum += v * v;
    }
    float scale = inversesqrt(workgroup_sum(sum) / float(p.cols) + p.eps);
    for (uint c = gl_LocalInvocationID.x; c < p.cols; c += WORKGROUP)
        y[out_row + c] = x[src + c] * scale * w[c];
}
