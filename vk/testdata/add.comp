#version 450
// z[i] = x[i] + y[i] * scale for i < n. Bindings: x, y read, z written, n floats each. One invocation per element.
// constant_id 0: local size; 1: a number added to every element, a bit pattern of float. Needs Vulkan 1.1.
layout(local_size_x_id = 0) in;
layout(constant_id = 1) const float bias = 0;
layout(binding = 0) readonly buffer X { float x[]; };
layout(binding = 1) readonly buffer Y { float y[]; };
layout(binding = 2) writeonly buffer Z { float z[]; };
layout(push_constant) uniform Push { uint n; float scale; };
void main() {
    uint i = gl_GlobalInvocationID.x;
    if (i < n) z[i] = x[i] + y[i] * scale + bias;
}
