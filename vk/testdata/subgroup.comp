#version 450
#extension GL_KHR_shader_subgroup_basic : require
// out[0] = subgroup size, out[1] = number of subgroups of a workgroup of 128. Needs SubgroupBasic.
layout(local_size_x = 128) in;
layout(binding = 0) writeonly buffer O { uint sizes[]; };
void main() {
    if (gl_LocalInvocationIndex == 0) {
        sizes[0] = gl_SubgroupSize;
        sizes[1] = gl_NumSubgroups;
    }
}
