#version 450
// layer_norm, barrier-free: as layer_norm.comp, one subgroup of eight lanes a row.
//
//   x  (tokens, cols) f32 and w, b  (cols) f32 as RGBA texels    y  (tokens, cols) f32
//
// cols is a multiple of 4. A lane takes every eighth texel.
#extension GL_EXT_control_flow_attributes : require
#extension GL_EXT_samplerless_texture_functions : require
#define STEP_BINDING 0
#include "step.glsl"
#include "lane8.glsl"

layout(local_size_x = 8) in;
layout(constant_id = 0) const bool LAST = false;
layout(constant_id = 1) const bool HAS_BIAS = false;
layout(binding = 1) uniform textureBuffer x;
layout(binding = 2) uniform textureBuffer w;
layout(binding = 3) uniform textureBuffer b;
layout(std430, binding = 4) writeonly buffer Y { vec4 y[]; };
layout(push_constant) uniform Push {
    uint cols;
    float eps;
} p;

void main() {
    uint t = gl_WorkGroupID.x;
    if (t >= (LAST ? step.rows : step.count)) return;
    uint n = p.cols / 4u;
    uint src = (LAST ? step.row[t] : t) * n;
    float sum = 0.0;
    for (uint i = gl_SubgroupInvocationID; i < n; i += LANES) sum += dot(texelFetch(x, int(src + i)), vec4(1.0));
    float mean = lanes_sum(sum) / float(p.cols);
    sum = 0.0;
    for (uint i = gl_SubgroupInvocationID; i < n; i += LANES) {
        vec4 v = texelFetch(x, int(src + i)) - mean;
        sum += dot(v, v);
    }
    float scale = inversesqrt(lanes_sum(sum) / float(p.cols) + p.eps);
    for (uint i = gl_SubgroupInvocationID; i < n; i += LANES) {
        vec4 v = (texelFetch(x, int(src + i)) - mean) * scale * texelFetch(w, int(i));
        y[t * n + i] = HAS_BIAS ? v + texelFetch(b, int(i)) : v;
    }
}
