#version 450
// prefetch: found += the invocations for which the exclusive or of what they read of x, (units, 4) uint, is KEY four times
//
// Reads memory so that a cache of the device has it when a kernel wants it (pipeline.Overlap). No weights are expected to make
// KEY four times, but only who reads them all can tell: no compiler leaves out a load. A workgroup takes WORKGROUP * LOADS units
// of 16 bytes, neighbouring invocations neighbouring units, all loads of an invocation under way at once. Reads 16 bytes a unit,
// writes nothing.
layout(local_size_x_id = 0) in;
layout(constant_id = 0) const uint WORKGROUP = 64u;
layout(std430, binding = 0) readonly buffer X { uvec4 x[]; };
layout(std430, binding = 1) buffer Found { uint found; };
layout(push_constant) uniform Push { uint units; } p;

#define LOADS 8u // kernels.prefetchLoads
#define KEY 0x9e3779b9u // kernels.PrefetchKey

void main() {
    uint first = gl_WorkGroupID.x * WORKGROUP * LOADS + gl_LocalInvocationID.x, last = p.units - 1u;
    uvec4 loaded[LOADS];
    for (uint j = 0u; j < LOADS; j++) loaded[j] = x[min(first + j * WORKGROUP, last)];
    uvec4 off = uvec4(KEY);
    for (uint j = 0u; j < LOADS; j++) off ^= first + j * WORKGROUP <= last ? loaded[j] : uvec4(0u);
    if ((off.x | off.y | off.z | off.w) == 0u) atomicAdd(found, 1u);
}
