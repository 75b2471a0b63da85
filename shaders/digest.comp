#version 450
// digest: y[i] = the exclusive or of all words that invocation i reads of x, (units, 4) uint
//
// Reads memory as fast as the device can and leaves little: pipeline.Manager.ReadBandwidth is measured with it. A workgroup
// takes WORKGROUP * UNITS units of 16 bytes one after another, neighbouring invocations neighbouring units, eight loads of
// each under way at once. Reads 16 bytes a unit, writes 4 bytes for each UNITS units.
layout(local_size_x_id = 0) in;
layout(constant_id = 0) const uint WORKGROUP = 64u;
layout(std430, binding = 0) readonly buffer X { uvec4 x[]; };
layout(std430, binding = 1) writeonly buffer Y { uint y[]; };
layout(push_constant) uniform Push { uint units; } p;

#define UNITS 64u // kernels.digestUnits
#define LOADS 8u

void main() {
    uint first = gl_WorkGroupID.x * WORKGROUP * UNITS + gl_LocalInvocationID.x, last = p.units - 1u;
    uvec4 sum = uvec4(0u);
    for (uint i = 0u; i < UNITS; i += LOADS) {
        uvec4 loaded[LOADS];
        for (uint j = 0u; j < LOADS; j++) loaded[j] = x[min(first + (i + j) * WORKGROUP, last)];
        for (uint j = 0u; j < LOADS; j++) sum ^= first + (i + j) * WORKGROUP <= last ? loaded[j] : uvec4(0u);
    }
    y[gl_GlobalInvocationID.x] = sum.x ^ sum.y ^ sum.z ^ sum.w;
}
