#version 450
// act_mul, barrier-free: as act_mul.comp, four outputs an invocation from one or two texels.
//
//   x  (tokens, 2 n) f32 as texels, gate and up interleaved, or (tokens, n)    y  (tokens, n) f32; n is a multiple of four
//
// Workgroup y is the token, x takes STEPS times eight quads of it.
#extension GL_EXT_control_flow_attributes : require
#extension GL_EXT_samplerless_texture_functions : require
#define STEP_BINDING 0
#include "step.glsl"
#include "lane8.glsl"

layout(local_size_x = 8) in;
layout(constant_id = 0) const uint STEPS = 8u;
layout(constant_id = 1) const uint ACTIVATION = 0u; // as kernels.Activation
layout(constant_id = 2) const bool GATED = true;
layout(binding = 1) uniform textureBuffer x;
layout(std430, binding = 2) writeonly buffer Y { vec4 y[]; };
layout(push_constant) uniform Push { uint n; } p;

#include "activation.glsl"

void main() {
    uint t = gl_WorkGroupID.y;
    if (t >= step.count) return; // uniform
    uint quads = p.n / 4u;
    for (uint s = 0u; s < STEPS; s++) {
        uint i = (gl_WorkGroupID.x * STEPS + s) * LANES + gl_SubgroupInvocationID;
        uint at = t * quads + min(i, quads - 1u);
        vec4 out_quad;
        if (GATED) {
            vec4 a = texelFetch(x, int(2u * at)), b = texelFetch(x, int(2u * at + 1u));
            out_quad = vec4(activate(a.x), activate(a.z), activate(b.x), activate(b.z)) * vec4(a.yw, b.yw);
        } else {
            vec4 a = texelFetch(x, int(at));
            out_quad = vec4(activate(a.x), activate(a.y), activate(a.z), activate(a.w));
        }
        if (i < quads) y[at] = out_quad;
    }
}
