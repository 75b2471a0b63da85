#version 450
// head_norm, barrier-free: as head_norm.comp, one subgroup of eight lanes a head (x) and token (y).
//
//   qkv     (tokens, heads + 2 kv_heads, head_dim) f32 as RGBA texels, and as dst to be written
//   qw, kw  (head_dim) f32 as RGBA texels
//
// head_dim is a multiple of 4. A lane takes every eighth texel and writes no texel before it has read it for the last
// time. Reads 12 bytes and writes 4 an element.
#extension GL_EXT_control_flow_attributes : require
#extension GL_EXT_samplerless_texture_functions : require
#define STEP_BINDING 0
#include "step.glsl"
#include "lane8.glsl"

layout(local_size_x = 8) in;
layout(binding = 1) uniform textureBuffer qkv;
layout(binding = 2) uniform textureBuffer qw;
layout(binding = 3) uniform textureBuffer kw;
layout(std430, binding = 4) writeonly buffer Out { vec4 dst[]; };
layout(push_constant) uniform Push {
    uint heads;
    uint kv_heads;
    uint head_dim;
    float eps;
} p;

void main() {
    uint h = gl_WorkGroupID.x, t = gl_WorkGroupID.y;
    if (t >= step.count) return;
    uint n = p.head_dim / 4u;
    uint base = (t * (p.heads + 2u * p.kv_heads) + h) * n;
    float sum = 0.0;
    for (uint i = gl_SubgroupInvocationID; i < n; i += LANES) {
        vec4 v = texelFetch(qkv, int(base + i));
        sum += dot(v, v);
    }
    float scale = inversesqrt(lanes_sum(sum) / float(p.head_dim) + p.eps);
    for (uint i = gl_SubgroupInvocationID; i < n; i += LANES) {
        vec4 w = h < p.heads ? texelFetch(qw, int(i)) : texelFetch(kw, int(i));
        dst[base + i] = texelFetch(qkv, int(base + i)) * scale * w;
    }
}
