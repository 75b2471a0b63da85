#version 450
// half_acts: activations as float16 numbers, for products of such (matmul.comp with FP16, matmul_cm.comp).
// A token's columns are divided by a power of two that leaves the largest magnitude of them between 2^14
// and 2^15: none exceeds float16's 65504, and a column keeps its eleven bits unless it is less than 2^-28
// of the largest.
//
//   x          (tokens, cols) f32
//   halves     (tokens, ceil(cols / 4), 4) f16: x / 2^e, and zeros behind the last column
//   exponents  (tokens) s32: e, from -126 to 113
//
// A token with an infinity or a NaN is all NaN, so that what is computed of it shows.
//
// One workgroup a token; each invocation strides over quads of columns, the largest magnitude goes through
// shared memory (4 * WORKGROUP bytes). Reads 8 bytes a column and writes 2.
#extension GL_EXT_control_flow_attributes : require
#extension GL_EXT_shader_explicit_arithmetic_types_float16 : require
#define STEP_BINDING 0
#include "step.glsl"

layout(local_size_x_id = 0) in;
layout(constant_id = 0) const uint WORKGROUP = 64u;
layout(std430, binding = 1) readonly buffer X { float x[]; };
layout(std430, binding = 1) readonly buffer XQuads { vec4 x_quads[]; };
layout(std430, binding = 2) writeonly buffer Halves { uvec2 halves[]; };
layout(std430, binding = 3) writeonly buffer Exponents { int exponents[]; };
layout(push_constant) uniform Push { uint cols; } p;
#include "reduce.glsl"
#include "power.glsl"

#define INFINITY 0x7f800000u
#define NAN_HALVES 0x7e007e00u

// Quad i of token t.
vec4 load_quad(uint t, uint i) {
    if (p.cols % 4u == 0u) return x_quads[t * (p.cols / 4u) + i];
    vec4 v = vec4(0.0);
    [[unroll]] for (uint j = 0u; j < 4u; j++)
        if (4u * i + j < p.cols) v[j] = x[t * p.cols + 4u * i + j];
    return v;
}

// A conversion rounds to nearest where packHalf2x16 may cut off.
uvec2 to_halves(vec4 v) { return uvec2(packFloat2x16(f16vec2(v.xy)), packFloat2x16(f16vec2(v.zw))); }

void main() {
    uint t = gl_WorkGroupID.x;
    if (t >= step.count) return; // uniform over the workgroup
    uint quads = (p.cols + 3u) / 4u;
    uvec4 most = uvec4(0u); // as bits, which are in the order of magnitudes, with NaN last
    for (uint i = gl_LocalInvocationID.x; i < quads; i += WORKGROUP)
        most = max(most, floatBitsToUint(load_quad(t, i)) & 0x7fffffffu);
    uint largest = min(max(max(most.x, most.y), max(most.z, most.w)), INFINITY);
    largest = floatBitsToUint(workgroup_max(uintBitsToFloat(largest)));
    int e = max(int(largest >> 23u) - 127 - 14, -126);
    bool finite = largest < INFINITY;
    for (uint i = gl_LocalInvocationID.x; i < quads; i += WORKGROUP) {
        vec4 v = load_quad(t, i) * power(-e);
        halves[t * quads + i] = finite ? to_halves(v) : uvec2(NAN_HALVES);
    }
    if (gl_LocalInvocationID.x == 0u) exponents[t] = finite ? e : 0;
}
