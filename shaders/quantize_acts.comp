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
// One invocation takes four columns, and the eight of a block meet in shared memory (8 * WORKGROUP bytes). Reads 4 bytes
// a column, writes 1.25.
#extension GL_EXT_control_flow_attributes : require
#define STEP_BINDING 0
#include "step.glsl"

layout(local_size_x_id = 0) in;
layout(constant_id = 0) const uint WORKGROUP = 64u; // a multiple of BLOCK_QUADS
layout(std430, binding = 1) readonly buffer X { vec4 x[]; };
layout(std430, binding = 2) writeonly buffer Q { uint q[]; };
layout(std430, binding = 3) writeonly buffer Scales { vec2 scales[]; };
layout(push_constant) uniform Push { uint cols; } p;

#define BLOCK_QUADS 8u
shared uint magnitudes[WORKGROUP]; // the largest of a quad, as bits, which are in the order of magnitudes, with NaN last
shared int sums[WORKGROUP];

void main() {
    uint quads = p.cols / 4u;
    uint i = gl_GlobalInvocationID.x, t = gl_GlobalInvocationID.y, n = gl_LocalInvocationID.x, first = n / BLOCK_QUADS * BLOCK_QUADS;
    if (t >= step.count) return; // uniform
    uint at = t * quads + i;
    vec4 v = i < quads ? x[at] : vec4(0.0);
    uvec4 bits = floatBitsToUint(v) & 0x7fffffffu;
    magnitudes[n] = max(max(bits.x, bits.y), max(bits.z, bits.w));
    barrier(); // the magnitudes of a block are there
    uint largest = 0u;
    [[unroll]] for (uint b = 0u; b < BLOCK_QUADS; b++) largest = max(largest, magnitudes[first + b]);
    float d = uintBitsToFloat(largest) / 127.0;
    float inverse = d > 0.0 ? 1.0 / d : 0.0;
    ivec4 numbers = ivec4(clamp(roundEven(v * inverse), vec4(-127.0), vec4(127.0)));
    sums[n] = numbers.x + numbers.y + numbers.z + numbers.w;
    barrier(); // the sums of a block are there
    if (i >= quads) return;
    uvec4 bytes = uvec4(numbers) & 0xffu;
    q[at] = bytes.x | bytes.y << 8u | bytes.z << 16u | bytes.w << 24u;
    if (n != first) return;
    int sum = 0;
    [[unroll]] for (uint b = 0u; b < BLOCK_QUADS; b++) sum += sums[first + b];
    if (largest >= 0x7f800000u) d = uintBitsToFloat(0x7fc00000u);
    scales[at / BLOCK_QUADS] = vec2(d, d * float(sum));
}
