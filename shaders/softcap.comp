#version 450
// softcap: x[t, c] = cap * tanh(x[t, c] / cap), in place (Gemma 2's logits)
//
//   x  (rows, cols) f32
//
// One invocation an element; workgroup y is the row. Reads and writes 4 bytes an element.
#include "softcap.glsl"
layout(local_size_x_id = 0) in;
layout(std430, binding = 0) buffer X { float x[]; };
layout(push_constant) uniform Push {
    uint cols;
    float cap;
} p;

void main() {
    uint c = gl_GlobalInvocationID.x;
    if (c >= p.cols) return;
    uint i = gl_WorkGroupID.y * p.cols + c;
    float v = x[i];
    if ((floatBitsToUint(v) & 0x7f800000u) != 0x7f800000u) x[i] = soft_cap(v, p.cap); // infinity and NaN stay, and show
}
