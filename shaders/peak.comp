#version 450
// peak: y[i] = the sum of CHAINS numbers; number j begins as j and becomes number * a + b, p.rounds * STEPS times, with
// a = x[l].x and b = x[l].y of invocation l of its workgroup
//
// Computes as fast as the device can and leaves little: pipeline.Manager.Peak is measured with it. Numbers are float32, with
// FP16 pairs of float16, and with DOT 32-bit integers, of which number * a is the dot product of four 8-bit integers. CHAINS
// numbers that don't wait for each other are under way at once. Reads 8 bytes and writes 4 an invocation; a step is 2
// operations of each number, 4 of a pair, 8 of a dot product.
#extension GL_EXT_control_flow_attributes : require
#ifdef FP16
#extension GL_EXT_shader_explicit_arithmetic_types_float16 : require
#define NUMBER f16vec2
#define FIRST(j) f16vec2(float16_t(j))
#define FROM(bits) unpackFloat2x16(bits)
#define NEXT(z) ((z) * a + b)
#define BITS(z) packFloat2x16(z)
#elif defined DOT
#extension GL_EXT_integer_dot_product : require
#define NUMBER int
#define FIRST(j) int(j)
#define FROM(bits) int(bits)
#define NEXT(z) (dotPacked4x8EXT(z, a) + b)
#define BITS(z) uint(z)
#else
#define NUMBER float
#define FIRST(j) float(j)
#define FROM(bits) uintBitsToFloat(bits)
#define NEXT(z) ((z) * a + b)
#define BITS(z) floatBitsToUint(z)
#endif
layout(local_size_x_id = 0) in;
layout(constant_id = 0) const uint WORKGROUP = 64u;
layout(std430, binding = 0) readonly buffer X { uvec2 x[]; };
layout(std430, binding = 1) writeonly buffer Y { uint y[]; };
layout(push_constant) uniform Push { uint rounds; } p;

#define CHAINS 8u // kernels.peakChains
#define STEPS 16u // kernels.peakSteps

void main() {
    uvec2 bits = x[gl_LocalInvocationID.x];
    NUMBER a = FROM(bits.x), b = FROM(bits.y), z[CHAINS];
    [[unroll]] for (uint j = 0u; j < CHAINS; j++) z[j] = FIRST(j);
    for (uint round = 0u; round < p.rounds; round++)
        [[unroll]] for (uint s = 0u; s < STEPS; s++)
            [[unroll]] for (uint j = 0u; j < CHAINS; j++) z[j] = NEXT(z[j]);
    NUMBER sum = z[0];
    [[unroll]] for (uint j = 1u; j < CHAINS; j++) sum += z[j];
    y[gl_WorkGroupID.x * WORKGROUP + gl_LocalInvocationID.x] = BITS(sum);
}
