#version 450
// dst[4*i..4*i+3] = texel i of src, a uniform texel buffer of uvec4. One invocation per texel; the number of texels is the
// number of workgroups times the local size, constant_id 0. Needs Vulkan 1.1.
layout(local_size_x_id = 0) in;
layout(binding = 0) uniform usamplerBuffer src;
layout(binding = 1) writeonly buffer D { uvec4 dst[]; };
void main() {
    uint i = gl_GlobalInvocationID.x;
    dst[i] = texelFetch(src, int(i));
}
