#version 450
// softmax: y[t, c] = exp(s x[t, c] - m) / sum_c exp(s x[t, c] - m), m = max_c s x[t, c]
//
//   x, y  (rows, cols) f32;  s = scale, one over the temperature
//
// One workgroup a row; maximum and sum go through shared memory (4 * WORKGROUP bytes).
// Reads x three times.
layout(local_size_x_id = 0) in;
layout(constant_id = 0) const uint WORKGROUP = 64u;
layout(std430, binding = 0) readonly buffer X { float x[]; };
layout(std430, binding = 1) writeonly buffer Y { float y[]; };
layout(push_constant) uniform Push {
    uint cols;
    float scale;
} p;
#include "reduce.glsl"

void main() {
    uint base = gl_WorkGroupID.x * p.cols;
    float m = uintBitsToFloat(0xff800000u); // -inf
    for (uint c = gl_LocalInvocationID.x; c < p.cols; c += WORKGROUP) m = max(m, p.scale * x[base + c]);
    m = workgroup_max(m);
    float sum = 0.0;
    for (uint c = gl_LocalInvocationID.x; c < p.cols; c += WORKGROUP) sum += exp(p.scale * x[base + c] - m);
    sum = workgroup_sum(sum);
    for (uint c = gl_LocalInvocationID.x; c < p.cols; c += WORKGROUP)
        y[base + c] = exp(p.scale * x[base + c] - m) / sum;
}
