#version 450
// act_mul: y[t, i] = silu(x[t, 2i]) * x[t, 2i + 1], silu(v) = v / (1 + exp(-v))
// Shazeer 2020, arXiv:2002.05202.
//
//   x  (tokens, 2 n) f32, gate and up interleaved    y  (tokens, n) f32
//
// One invocation an output; workgroup y is the token. Reads 8 bytes and writes 4 an output.
#define STEP_BINDING 0
#include "step.glsl"

layout(local_size_x_id = 0) in;
layout(std430, binding = 1) readonly buffer X { vec2 x[]; };
layout(std430, binding = 2) writeonly buffer Y { float y[]; };
layout(push_constant) uniform Push { uint n; } p;

void main() {
    uint t = gl_WorkGroupID.y, i = gl_GlobalInvocationID.x;
    if (t >= step.count || i >= p.n) return;
    vec2 v = x[t * p.n + i];
    y[t * p.n + i] = v.x / (1.0 + exp(-v.x)) * v.y;
}
