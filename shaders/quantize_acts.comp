#version 450
// quantize_acts: 8-bit blocks of activations, for products by integer dot products. Of 32
// columns of a token with the largest magnitude a, d = a / 127 and q = round(x / d).
//
//   x (tokens, cols) f32; cols is a multiple of 32
//   q (tokens, cols) s8, four a word in the order of columns
//   scales (tokens, cols / 32, 2) f32: d, and d times the sum of q
//
// A block with an infinity or a NaN has a d that is NaN, so that what is computed of it shows.
//
// One invocation a block. Reads 4 bytes a column, writes 1.25.
#extension GL_EXT_control_flow_attributes : require
#define STEP_BINDING 0
#include "step.glsl"

layout(local_size_x_id = 0) in;
layout(constant_id = 0) const uint WORKGROUP = 64u;
layout(std430, binding = 1) readonly buffer X { vec4 x[]; };
layout(std430, binding = 2) writeonly buffer Q { uint q[]; };
layout(std430, binding = 3) writeonly buffer Scales { vec2 scales[]; };
layout(push_constant) uniform Push { uint cols; } p;

void main() {
    uint blocks = p.cols / 32u;
    uint b = gl_GlobalInvocationID.x, t = gl_GlobalInvocationID.y;
    if (b >= blocks || t >= step.count) return;
    uint block = t * blocks + b;
    vec4 v[8];
    uvec4 most = uvec4(0u); // as bits, which are in the order of magnitudes, with NaN last
    [[unroll]] for (uint i = 0u; i < 8u; i++) {
        v[i] = x[block * 8u + i];
        most = max(most, floatBitsToUint(v[i]) & 0x7fffffffu);
    }
    uint largest = max(max(most.x, most.y), max(most.z, most.w));
    float d = uintBitsToFloat(largest) / 127.0;
    float inverse = d > 0.0 ? 1.0 / d : 0.0;
    ivec4 sum = ivec4(0);
    [[unroll]] for (uint i = 0u; i < 8u; i++) {
        ivec4 n = ivec4(clamp(roundEven(v[i] * inverse), vec4(-127.0), vec4(127.0)));
        sum += n;
        q[block * 8u + i] = uint(n.x & 0xff) | uint(n.y & 0xff) << 8u | uint(n.z & 0xff) << 16u | uint(n.w & 0xff) << 24u;
    }
    if (largest >= 0x7f800000u) d = uintBitsToFloat(0x7fc00000u);
    scales[block] = vec2(d, d * float(sum.x + sum.y + sum.z + sum.w));
}
