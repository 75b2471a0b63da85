#version 450
// softmax, barrier-free: as softmax.comp, one subgroup of eight lanes a row.
//
//   x  (rows, cols) f32 as RGBA texels    y  (rows, cols) f32; cols is a multiple of 4
#extension GL_EXT_control_flow_attributes : require
#extension GL_EXT_samplerless_texture_functions : require
#include "lane8.glsl"

layout(local_size_x = 8) in;
layout(binding = 0) uniform textureBuffer x;
layout(std430, binding = 1) writeonly buffer Y { vec4 y[]; };
layout(push_constant) uniform Push {
    uint cols;
    float scale;
} p;

void main() {
    uint n = p.cols / 4u;
    uint base = gl_WorkGroupID.x * n;
    vec4 m4 = vec4(uintBitsToFloat(0xff800000u)); // -inf
    for (uint i = gl_SubgroupInvocationID; i < n; i += LANES) m4 = max(m4, p.scale * texelFetch(x, int(base + i)));
    float m = lanes_max(max(max(m4.x, m4.y), max(m4.z, m4.w)));
    vec4 s4 = vec4(0.0);
    for (uint i = gl_SubgroupInvocationID; i < n; i += LANES) s4 += exp(p.scale * texelFetch(x, int(base + i)) - m);
    float sum = lanes_sum(s4.x + s4.y + s4.z + s4.w);
    for (uint i = gl_SubgroupInvocationID; i < n; i += LANES)
        y[base + i] = exp(p.scale * texelFetch(x, int(base + i)) - m) / sum;
}
