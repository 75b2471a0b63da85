#version 450
// attention by cooperative matrices: as attention.comp; queries, times scale, weights, and keys and values of a Q8_0
// cache are rounded to float16, within which the caller keeps the first (design/0005), and products are
// summed in float32.
//
// A workgroup takes 64 rows, queries of one key-value head (y), of tile x, and each of its
// subgroups CM_M of them: their queries and sums stay in its matrices, of the device's shape
// CM_M x CM_N x CM_K. Keys and values come 2 CM_N at a time through shared memory, a row in HEAD_DIM / 8
// units of 16 bytes and one more, so that eight rows are read from different banks. While a
// block is used, the next is on its way from memory to registers. Scores, weights and what sums
// are multiplied by where a maximum grows go through shared memory too, since only the driver
// knows which invocation holds which element; PARTS invocations have a row's.
// Weights are exp(score - maximum + 10): of exp(score - maximum) too many would be below 2^-14, where
// float16 has fewer bits or none. The factor is in numerator and sum.
// With FEW_REGISTERS queries stay in shared memory, blocks are half as long, and none is on its way while another is used: other
// workgroups work in that time. Values lie there by columns, with two keys in a word, as Intel's matrices have them in a
// register: from rows its compiler loads number by number.
// Shared memory, for shapes of 16 x 16: 1024 (HEAD_DIM / 8 + 1) bytes for a block or, before the
// first, the queries; 9216 for scores, 5120 for weights, 256 for factors: 32000 for heads of 128.
// Reads the live keys and values once for 64 queries.
#extension GL_EXT_control_flow_attributes : require
#extension GL_EXT_shader_explicit_arithmetic_types_float16 : require
#extension GL_KHR_cooperative_matrix : require
#extension GL_KHR_memory_scope_semantics : require
#extension GL_KHR_shader_subgroup_basic : require
#extension GL_KHR_shader_subgroup_shuffle : require
#pragma use_vulkan_memory_model
#define STEP_BINDING 0
#include "step.glsl"
#include "seen.glsl"

layout(local_size_x_id = 1) in;
layout(constant_id = 0) const uint HEAD_DIM = 128u; // a multiple of 16
layout(constant_id = 1) const uint WORKGROUP = 128u; // 64 / CM_M subgroups, each of CM_M to CM_M CM_N / 2 invocations
layout(constant_id = 2) const uint CM_M = 16u;
layout(constant_id = 3) const uint CM_N = 16u; // 8 or 16, as CM_K
layout(constant_id = 4) const uint CM_K = 16u;
layout(constant_id = 5) const bool FEW_REGISTERS = false;
layout(std430, binding = 1) readonly buffer Q { vec4 q[]; };
#define SLOPES_BINDING 4
#include "score.glsl"
#define PAGES_BINDING 6
#include "pages.glsl"
// Eight components of a row of the cache (cache.glsl).
#ifdef KV_Q8_0
#define UNIT uvec2
layout(std430, binding = 2) readonly buffer KeyScales { uint key_scales[]; };
layout(std430, binding = 3) readonly buffer ValueScales { uint value_scales[]; };
#include "cache.glsl"
#else
#define UNIT uvec4
#endif
layout(std430, binding = 2) readonly buffer Keys { UNIT keys[]; };
layout(std430, binding = 3) readonly buffer Values { UNIT values[]; };
layout(std430, binding = 5) writeonly buffer Out { vec4 dst[]; };

#define ROWS 64u // kernels.matrixRows
const uint KEYS = FEW_REGISTERS ? (CM_N > CM_K ? CM_N : CM_K) : 2u * CM_N;
const uint SUBGROUP = WORKGROUP / (ROWS / CM_M);
const uint UNITS = HEAD_DIM / 8u, PITCH = UNITS + 1u, BLOCK = KEYS * PITCH;
const uint Q_LOADS = (ROWS * UNITS + WORKGROUP - 1u) / WORKGROUP;
const uint LOADS = FEW_REGISTERS ? 2u * ((KEYS / 2u * UNITS + WORKGROUP - 1u) / WORKGROUP) : (KEYS * UNITS + WORKGROUP - 1u) / WORKGROUP;
const uint PARTS = SUBGROUP / CM_M, PART_QUADS = KEYS / 4u / PARTS;
const uint SCORE_PITCH = KEYS / 4u + 1u, WEIGHT_PITCH = KEYS / 4u + 2u;
const uint VALUE_PITCH = FEW_REGISTERS ? KEYS / 8u + 1u : PITCH;
const int VALUE_LAYOUT = FEW_REGISTERS ? gl_CooperativeMatrixLayoutColumnMajor : gl_CooperativeMatrixLayoutRowMajor;
const uint KEYS_AT = FEW_REGISTERS ? ROWS * PITCH : 0u, VALUES_AT = KEYS_AT + BLOCK;
// Queries, which stay there if FEW_REGISTERS, keys and then values, of which it has columns for rows.
shared uvec4 tile[FEW_REGISTERS ? VALUES_AT + HEAD_DIM * VALUE_PITCH : (ROWS > 2u * KEYS ? ROWS * PITCH : 2u * BLOCK)];
shared vec4 scores[ROWS * SCORE_PITCH];
shared uvec2 weights[ROWS * WEIGHT_PITCH];
shared float factors[ROWS];

#define ACCUMULATOR coopmat<float, gl_ScopeSubgroup, CM_M, CM_N, gl_MatrixUseAccumulator>
#define LEFT coopmat<float16_t, gl_ScopeSubgroup, CM_M, CM_K, gl_MatrixUseA>
#define RIGHT coopmat<float16_t, gl_ScopeSubgroup, CM_K, CM_N, gl_MatrixUseB>

uvec2 to_half(vec4 v) { return uvec2(packHalf2x16(v.xy), packHalf2x16(v.zw)); }

// What an invocation loads of a block, the next one unless registers are few.
UNIT keys_ahead[LOADS], values_ahead[LOADS];
#ifdef KV_Q8_0
uint key_scales_ahead[LOADS], value_scales_ahead[LOADS];

// Unit u of a row as float16 numbers.
uvec4 unit_halves(uvec2 v, uint scales, uint u) {
    return uvec4(to_half(scaled_bytes(v.x, scales, 2u * u)), to_half(scaled_bytes(v.y, scales, 2u * u + 1u)));
}
#endif

// Which key of a block, and unit of its row, is an invocation's i-th.
uvec2 place_of(uint i) {
    if (FEW_REGISTERS) {
        uint n = gl_LocalInvocationID.x + i / 2u * WORKGROUP;
        return uvec2(n / UNITS * 2u + i % 2u, n % UNITS);
    }
    uint n = gl_LocalInvocationID.x + i * WORKGROUP;
    return uvec2(n / UNITS, n % UNITS);
}

// Loads without a branch between them, so that all are under way at once. Keys beyond the last one
// are the last, and get no weight.
void load_ahead(uint first, uint end) {
    Block b = find_block(first, min(first + KEYS, end) - 1u);
    [[unroll]] for (uint i = 0u; i < LOADS; i++) {
        uvec2 at = place_of(i);
        uint row = block_row(b, gl_WorkGroupID.y, first + min(at.x, end - 1u - first)), unit = row * UNITS + at.y;
        keys_ahead[i] = keys[unit];
        values_ahead[i] = values[unit];
#ifdef KV_Q8_0
        key_scales_ahead[i] = key_scales[SCALES_AT(row, 2u * at.y)];
        value_scales_ahead[i] = value_scales[SCALES_AT(row, 2u * at.y)];
#endif
    }
}

#ifdef KV_Q8_0
#define KEY_HALVES(i, u) unit_halves(keys_ahead[i], key_scales_ahead[i], u)
#define VALUE_HALVES(i, u) unit_halves(values_ahead[i], value_scales_ahead[i], u)
#else
#define KEY_HALVES(i, u) keys_ahead[i]
#define VALUE_HALVES(i, u) values_ahead[i]
#endif

void store_ahead() {
    [[unroll]] for (uint i = 0u; i < LOADS; i++) {
        uvec2 at = place_of(i);
        if (LOADS * WORKGROUP == KEYS * UNITS || at.x < KEYS) {
            tile[KEYS_AT + at.x * PITCH + at.y] = KEY_HALVES(i, at.y);
            if (FEW_REGISTERS) {
                if (i % 2u == 1u) {
                    uvec4 even = VALUE_HALVES(i - 1u, at.y), odd = VALUE_HALVES(i, at.y);
                    [[unroll]] for (uint c = 0u; c < 8u; c++) {
                        uint low = even[c / 2u] >> 16u * (c % 2u) & 0xffffu, high = odd[c / 2u] >> 16u * (c % 2u) << 16u;
                        tile[VALUES_AT + c * VALUE_PITCH + (at.y * 8u * VALUE_PITCH + at.x / 8u)][at.x / 2u % 4u] = low | high;
                    }
                }
            } else {
                tile[VALUES_AT + at.x * PITCH + at.y] = VALUE_HALVES(i, at.y);
            }
        }
    }
}

void main() {
    uint lane = gl_LocalInvocationID.x;
    uint sharing = p.heads / p.kv_heads, kv = gl_WorkGroupID.y;
    uint first_row;
    if (!set_tile(gl_WorkGroupID.x, ROWS, sharing, first_row)) return; // uniform over the workgroup
    uint rows = token_count * sharing;

    [[unroll]] for (uint i = 0u; i < Q_LOADS; i++) {
        uint n = lane + i * WORKGROUP, row = min(first_row + n / UNITS, rows - 1u);
        uint quad = (((first_token + row / sharing) * p.heads + kv * sharing + row % sharing) * UNITS + n % UNITS) * 2u;
        uvec4 unit = uvec4(to_half(p.scale * q[quad]), to_half(p.scale * q[quad + 1u]));
        if (Q_LOADS * WORKGROUP == ROWS * UNITS || n < ROWS * UNITS) tile[n / UNITS * PITCH + n % UNITS] = unit;
    }
    barrier(); // the queries are complete
    uint own = gl_SubgroupID * CM_M; // first of the subgroup's rows in the tile
    LEFT query[HEAD_DIM / CM_K];
    if (!FEW_REGISTERS) [[unroll]] for (uint k = 0u; k < HEAD_DIM / CM_K; k++)
        coopMatLoad(query[k], tile, own * PITCH + k * CM_K / 8u, PITCH, gl_CooperativeMatrixLayoutRowMajor);
    ACCUMULATOR sums[HEAD_DIM / CM_N];
    [[unroll]] for (uint j = 0u; j < HEAD_DIM / CM_N; j++) {
        sums[j] = ACCUMULATOR(0.0);
        if (FEW_REGISTERS) sums[j] = coopMatMulAdd(LEFT(0.0), RIGHT(0.0), sums[j]); // as in matmul_cm.comp
    }

    // Of this invocation's row; what is past the last one is computed like it and dropped.
    uint in_subgroup = gl_SubgroupInvocationID % CM_M, part = gl_SubgroupInvocationID / CM_M;
    uint row = min(first_row + own + in_subgroup, rows - 1u), t = row / sharing;
    uint start = step.tokens[first_token + t].start, length = position + t - start + 1u;
    uint last = position + last_seen(first_token + t) - first_token;
    uint first_before = first_key(length), first_own = max(first_before, position) + start;
    float slope = head_slope(kv * sharing + row % sharing);
    float minus_inf = uintBitsToFloat(0xff800000u), running_max = -3.0e38; // below every score and finite
    float running_sum = 0.0; // of its part

    // The places that any query of the tile sees: as in attention.comp.
    uint t0 = first_row / sharing, t1 = (min(first_row + ROWS, rows) - 1u) / sharing;
    uint start_any = step.tokens[first_token + t0].start, end = position + last_seen(first_token + t1) - first_token + 1u;
    bool one = step.tokens[first_token + t1].start == start_any;
    uint first = cache_position(first_key(one ? position + t0 - start_any + 1u : position + 1u), start_any);
    if (!FEW_REGISTERS) load_ahead(first, end);
    barrier(); // the queries have been read
    while (first < end) {
        if (FEW_REGISTERS) load_ahead(first, end);
        store_ahead();
        barrier(); // the block is complete
        uint next = first + KEYS;
        if (next >= position) next = max(next, position + start_any);
        if (!FEW_REGISTERS && next < end) load_ahead(next, end);

        [[unroll]] for (uint j = 0u; j < KEYS / CM_N; j++) {
            ACCUMULATOR s = ACCUMULATOR(0.0);
            [[unroll]] for (uint k = 0u; k < HEAD_DIM / CM_K; k++) {
                RIGHT b;
                coopMatLoad(b, tile, KEYS_AT + j * CM_N * PITCH + k * CM_K / 8u, PITCH, gl_CooperativeMatrixLayoutColumnMajor);
                if (FEW_REGISTERS) coopMatLoad(query[k], tile, own * PITCH + k * CM_K / 8u, PITCH, gl_CooperativeMatrixLayoutRowMajor);
                s = coopMatMulAdd(query[k], b, s);
            }
            coopMatStore(s, scores, own * SCORE_PITCH + j * CM_N / 4u, SCORE_PITCH, gl_CooperativeMatrixLayoutRowMajor);
        }
        subgroupBarrier(); // the scores are complete
        vec4 score[PART_QUADS];
        float m = running_max;
        [[unroll]] for (uint i = 0u; i < PART_QUADS; i++) {
            uint quad = part + i * PARTS;
            score[i] = scores[(own + in_subgroup) * SCORE_PITCH + quad];
            [[unroll]] for (uint c = 0u; c < 4u; c++) {
                uint at = first + quad * 4u + c;
                bool before = at < position, seen = at >= (before ? first_before : first_own) && at <= last;
                float v = finish_score(score[i][c], slope, int(before ? at : at - start) - int(length) + 1);
                score[i][c] = seen ? v : minus_inf;
                m = max(m, score[i][c]);
            }
        }
        [[unroll]] for (uint x = CM_M; x < SUBGROUP; x *= 2u) m = max(m, subgroupShuffleXor(m, x));
        float factor = exp(running_max - m);
        running_max = m;
        running_sum *= factor;
        [[unroll]] for (uint i = 0u; i < PART_QUADS; i++) {
            uvec2 w = to_half(exp(score[i] - (m - 10.0)));
            running_sum += dot(vec4(unpackHalf2x16(w.x), unpackHalf2x16(w.y)), vec4(1.0)); // what the values are multiplied by
            weights[(own + in_subgroup) * WEIGHT_PITCH + part + i * PARTS] = w;
        }
        if (part == 0u) factors[own + in_subgroup] = factor;
        subgroupBarrier(); // weights and factors are complete
        ACCUMULATOR f; // of each row its factor in every column
        coopMatLoad(f, factors, own, 0u, gl_CooperativeMatrixLayoutColumnMajor);
        LEFT w[KEYS / CM_K];
        [[unroll]] for (uint k = 0u; k < KEYS / CM_K; k++)
            coopMatLoad(w[k], weights, own * WEIGHT_PITCH + k * CM_K / 4u, WEIGHT_PITCH, gl_CooperativeMatrixLayoutRowMajor);
        [[unroll]] for (uint j = 0u; j < HEAD_DIM / CM_N; j++) {
            sums[j] *= f;
            [[unroll]] for (uint k = 0u; k < KEYS / CM_K; k++) {
                RIGHT b;
                uint at = FEW_REGISTERS ? j * CM_N * VALUE_PITCH + k * CM_K / 8u : k * CM_K * VALUE_PITCH + j * CM_N / 8u;
                coopMatLoad(b, tile, VALUES_AT + at, VALUE_PITCH, VALUE_LAYOUT);
                sums[j] = coopMatMulAdd(w[k], b, sums[j]);
            }
        }
        first = next;
        barrier(); // the block has been read
    }
    [[unroll]] for (uint x = CM_M; x < SUBGROUP; x *= 2u) running_sum += subgroupShuffleXor(running_sum, x);
    if (part == 0u) factors[own + in_subgroup] = 1.0 / running_sum;
    subgroupBarrier(); // the factors are complete
    ACCUMULATOR f;
    coopMatLoad(f, factors, own, 0u, gl_CooperativeMatrixLayoutColumnMajor);
    [[unroll]] for (uint j = 0u; j < HEAD_DIM / CM_N; j++) {
        coopMatStore(sums[j] * f, scores, own * SCORE_PITCH, SCORE_PITCH, gl_CooperativeMatrixLayoutRowMajor);
        subgroupBarrier(); // the results are written
        for (uint e = gl_SubgroupInvocationID; e < CM_M * CM_N / 4u; e += SUBGROUP) {
            uint in_tile = own + e / (CM_N / 4u), quad = e % (CM_N / 4u), to = first_row + in_tile;
            if (to < rows) dst[((first_token + to / sharing) * p.heads + kv * sharing + to % sharing) * (HEAD_DIM / 4u) + j * CM_N / 4u + quad] = scores[in_tile * SCORE_PITCH + quad];
        }
        subgroupBarrier(); // the results are read before the next ones overwrite them
    }
}
