#version 450
// topk: of each row the k largest of each chunk of 1024 values, in falling order; the lowest
// id wins ties. Applied to its own output until one chunk is left. k = 1 is argmax.
//
//   values  (rows, n) f32, or (rows, n) pairs (value, id) with PAIRS
//   dst     (rows, chunks, k) pairs of value bits and id; missing ones are (-inf, 0xffffffff)
//
// One workgroup of 64 a chunk, workgroup y is the row, 16 values an invocation in registers;
// k rounds of a workgroup maximum through shared memory (512 bytes). NaN counts as +inf, so
// that a broken model shows. Reads each value once. MASKED leaves out the tokens that a row's mask does
// not allow; where too few are left, pairs are missing.
#extension GL_EXT_control_flow_attributes : require
layout(local_size_x = 64) in;
layout(constant_id = 0) const bool PAIRS = false;
layout(std430, binding = 0) readonly buffer Values { uint values[]; };
layout(std430, binding = 1) writeonly buffer Out { uvec2 dst[]; };
layout(push_constant) uniform Push {
    uint n;
    uint k;
} p;

#include "best.glsl"
#ifdef MASKED
#define MASK_BINDING 2
#include "mask.glsl"
#define COUNTS(row, column) (column < p.n && (allowed_word(row, p.n, column) >> (column % 32u) & 1u) != 0u)
#else
#define COUNTS(row, column) (column < p.n)
#endif
shared float best_value[64];
shared uint best_id[64];

void main() {
    uint lane = gl_LocalInvocationID.x;
    uint chunks = (p.n + (CHUNK - 1u)) / CHUNK;
    float value[16];
    uint id[16];
    [[unroll]] for (uint i = 0u; i < 16u; i++) {
        uint column = gl_WorkGroupID.x * CHUNK + i * 64u + lane;
        value[i] = MINUS_INF;
        id[i] = NONE;
        if (COUNTS(gl_WorkGroupID.y, column)) {
            uint at = gl_WorkGroupID.y * p.n + column;
            float v = uintBitsToFloat(PAIRS ? values[2u * at] : values[at]);
            value[i] = isnan(v) ? PLUS_INF : v;
            id[i] = PAIRS ? values[2u * at + 1u] : column;
        }
    }
    for (uint round = 0u; round < p.k; round++) {
        float v = value[0];
        uint d = id[0];
        [[unroll]] for (uint i = 1u; i < 16u; i++)
            if (better(value[i], id[i], v, d)) { v = value[i]; d = id[i]; }
        best_value[lane] = v;
        best_id[lane] = d;
        barrier(); // every lane's best is written
        for (uint s = 32u; s > 0u; s >>= 1u) {
            if (lane < s && better(best_value[lane + s], best_id[lane + s], best_value[lane], best_id[lane])) {
                best_value[lane] = best_value[lane + s];
                best_id[lane] = best_id[lane + s];
            }
            barrier(); // level s is complete before level s/2 reads it
        }
        uint won = best_id[0];
        if (lane == 0u) dst[(gl_WorkGroupID.y * chunks + gl_WorkGroupID.x) * p.k + round] = uvec2(floatBitsToUint(best_value[0]), won);
        [[unroll]] for (uint i = 0u; i < 16u; i++)
            if (id[i] == won) { value[i] = MINUS_INF; id[i] = NONE; }
        barrier(); // the winner is read by all before the next round overwrites it
    }
}
