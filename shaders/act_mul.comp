#version 450
// act_mul: y[t, i] = act(x[t, 2i]) * x[t, 2i + 1], or y[t, i] = act(x[t, i]) without GATED
// Shazeer 2020, arXiv:2002.05202.
//
//   x  (tokens, 2 n) f32, gate and up interleaved, or (tokens, n)    y  (tokens, n) f32
//
// One invocation an output; workgroup y is the token. Reads 8 or 4 bytes and writes 4 an output.
#define STEP_BINDING 0
#include "step.glsl"

layout(local_size_x_id = 0) in;
layout(constant_id = 1) const uint ACTIVATION = 0u; // as kernels.Activation
layout(constant_id = 2) const bool GATED = true;
layout(std430, binding = 1) readonly buffer X { float x[]; };
layout(std430, binding = 2) writeonly buffer Y { float y[]; };
layout(push_constant) uniform Push { uint n; } p;

#include "activation.glsl"

void main() {
    uint t = gl_WorkGroupID.y, i = gl_GlobalInvocationID.x;
    if (t >= step.count || i >= p.n) return;
    uint at = t * p.n + i;
    y[at] = GATED ? activate(x[2u * at]) * x[2u * at + 1u] : activate(x[at]);
}
