// Helpers of the `row` kernels: a workgroup is one subgroup of eight invocations,
// there is no shared memory and no barrier, and values are passed between lanes by
// subgroupShuffle with a constant lane, which is one instruction on CPU drivers
// (subgroupAdd and subgroupBroadcast loop over the lanes there).
#extension GL_KHR_shader_subgroup_basic : require
#extension GL_KHR_shader_subgroup_shuffle : require

#define LANES 8u

float lanes_sum(float v) {
    float s = 0.0;
    [[unroll]] for (uint i = 0u; i < LANES; i++) s += subgroupShuffle(v, i);
    return s;
}

float lanes_max(float v) {
    float m = subgroupShuffle(v, 0u);
    [[unroll]] for (uint i = 1u; i < LANES; i++) m = max(m, subgroupShuffle(v, i));
    return m;
}
