// Reductions over a workgroup through shared memory, for devices without subgroup
// arithmetic. WORKGROUP is the workgroup's size, a power of two; scratch takes
// 4 * WORKGROUP bytes. Every invocation must call them, in uniform control flow.
shared float reduce_scratch[WORKGROUP];

float workgroup_sum(float v) {
    uint i = gl_LocalInvocationID.x;
    barrier(); // the scratch may still be read by the previous reduction
    reduce_scratch[i] = v;
    barrier();
    for (uint s = WORKGROUP / 2u; s > 0u; s >>= 1u) {
        if (i < s) reduce_scratch[i] += reduce_scratch[i + s];
        barrier(); // level s is complete before level s/2 reads it
    }
    return reduce_scratch[0];
}

float workgroup_max(float v) {
    uint i = gl_LocalInvocationID.x;
    barrier(); // the scratch may still be read by the previous reduction
    reduce_scratch[i] = v;
    barrier();
    for (uint s = WORKGROUP / 2u; s > 0u; s >>= 1u) {
        if (i < s) reduce_scratch[i] = max(reduce_scratch[i], reduce_scratch[i + s]);
        barrier(); // level s is complete before level s/2 reads it
    }
    return reduce_scratch[0];
}
