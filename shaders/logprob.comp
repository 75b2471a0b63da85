#version 450
// logprob: the log-probability of the token that follows each token of a step,
//
//   y[t] = x[t, next(t)] - l[t]  or  (x[t, next(t)] - l[t], l[t])  or  l[t]
//   l[t] = log(sum_c exp(x[t, c] - m)) + m,  m = max_c x[t, c]
//
//   x  (tokens, cols) f32 logits    y  (tokens, NEXT + SUM) f32
//
// NEXT: the log-probability is wanted. next(t) is token t + 1 of the step; that of the last one is in the step. Where it
// is no column, the log-probability is 0. Without NEXT, x has a row for each token whose results are wanted.
// SUM: l[t] is wanted. A row with an infinity or NaN has NaN: such logits are no distribution.
//
// One workgroup a row; maximum and sum go through shared memory (4 * WORKGROUP bytes). Reads x twice.
#define STEP_BINDING 0
#include "step.glsl"

layout(local_size_x_id = 0) in;
layout(constant_id = 0) const uint WORKGROUP = 64u;
layout(constant_id = 1) const bool NEXT = true;
layout(constant_id = 2) const bool SUM = true;
layout(std430, binding = 1) readonly buffer X { float x[]; };
layout(std430, binding = 2) writeonly buffer Y { float y[]; };
layout(push_constant) uniform Push { uint cols; } p;
#include "reduce.glsl"

void main() {
    uint t = gl_WorkGroupID.x, lane = gl_LocalInvocationID.x;
    if (t >= (NEXT ? step.count : step.rows)) return; // uniform over the workgroup
    uint base = t * p.cols, width = uint(NEXT) + uint(SUM);
    float m = uintBitsToFloat(0xff800000u), bad = 0.0; // -inf
    for (uint c = lane; c < p.cols; c += WORKGROUP) {
        float v = x[base + c];
        m = max(m, v);
        if ((floatBitsToUint(v) & 0x7f800000u) == 0x7f800000u) bad = 1.0;
    }
    m = workgroup_max(m);
    bool finite = workgroup_max(bad) == 0.0;
    float l = uintBitsToFloat(0x7fc00000u);
    if (finite) { // uniform over the workgroup
        float sum = 0.0;
        for (uint c = lane; c < p.cols; c += WORKGROUP) sum += exp(x[base + c] - m);
        l = log(workgroup_sum(sum)) + m;
    }
    if (lane != 0u) return;
    if (NEXT) {
        uint next = t + 1u < step.count ? step.tokens[t + 1u].id : step.next;
        float value = next < p.cols ? x[base + next] - l : 0.0;
        y[t * width] = finite ? value : l;
    }
    if (SUM) y[t * width + width - 1u] = l;
}
