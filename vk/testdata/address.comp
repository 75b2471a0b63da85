#version 450
#extension GL_EXT_buffer_reference : require
#extension GL_EXT_buffer_reference_uvec2 : require
// out[i] = bias + a[i] + b[i], a and b read at the addresses behind the push constant.
layout(local_size_x = 64) in;
layout(buffer_reference, std430, buffer_reference_align = 4) readonly buffer Words { uint w[]; };
layout(std430, binding = 0) writeonly buffer Out { uint sum[]; };
layout(push_constant) uniform Push { uint bias; uint unused; uvec2 a; uvec2 b; } p;
void main() {
    uint i = gl_GlobalInvocationID.x;
    sum[i] = p.bias + Words(p.a).w[i] + Words(p.b).w[i];
}
