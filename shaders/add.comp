#version 450
// add: y[t, c] += x[t, c], both (tokens, cols) f32
//
// One invocation an element; workgroup y is the token. Reads 8 bytes and writes 4 an element.
#define STEP_BINDING 0
#include "step.glsl"

layout(local_size_x_id = 0) in;
layout(std430, binding = 1) readonly buffer X { float x[]; };
layout(std430, binding = 2) buffer Y { float y[]; };
layout(push_constant) uniform Push { uint cols; } p;

void main() {
    uint t = gl_WorkGroupID.y, c = gl_GlobalInvocationID.x;
    if (t >= step.count || c >= p.cols) return;
    y[t * p.cols + c] += x[t * p.cols + c];
}
