#version 450
// attention: attention of a step's queries over the KV cache, grouped-query heads; causal, or not (seen.glsl).
//
//   out[t, h] = sum_j softmax_j(score(q[t, h], k[h / G, j])) * v[h / G, j],
//   j the last `window` places of t's sequence up to what t sees, G = heads / kv_heads
//   score(q, k) is scale * q . k, as include/score.glsl completes it
//
//   q, dst        (tokens, heads, head_dim) f32
//   keys, values  (pages, kv_heads, PAGE, head_dim), as cache.glsl stores them
//   slopes        (heads) f32, of ALiBi
//
// A workgroup takes ROWS queries of one key-value head (y): (tokens, G) of a sequence in one row, tile x.
// Keys, then values come KEYS at a time, and SLICE quads of each at a time, through shared
// memory, where all queries use them; keys that no query of the tile sees are not loaded.
// Invocation (tx, ty) has the scores of queries ty * ROW_TILE... with keys tx, tx + 8..., and
// sums up quads tx, tx + 8... of each slice of the same queries' results. The running
// maximum and sum are those of Milakov and Gimelshein 2018 (arXiv:1805.02867); scores never
// leave the workgroup (Dao et al. 2022, arXiv:2205.14135).
// Shared memory: 16 ROWS (PADDED + 1) + 16 KEYS (SLICE + 1) + 4 ROWS (KEYS + 1 + 8) bytes:
// 30.1 KiB for heads of 128 with 32 rows, 27.3 for 256 with 16.
// Reads the live keys and values once for ROWS queries.
#extension GL_EXT_control_flow_attributes : require
#define STEP_BINDING 0
#include "step.glsl"
#include "seen.glsl"

layout(local_size_x = 128) in;
layout(constant_id = 0) const uint HEAD_DIM = 64u; // a multiple of four, at most 256
layout(constant_id = 1) const uint ROWS = 32u;     // a multiple of 16
// Whether the loops over a slice and over keys stay loops. Compilers that know the number of trips unroll them in full, once a
// slice, for which LLVM takes seconds and Intel's more registers than there are.
layout(constant_id = 2) const bool KEEP_LOOPS = false;
layout(std430, binding = 1) readonly buffer Q { vec4 q[]; };
#define SLOPES_BINDING 4
#include "score.glsl"
#include "cache.glsl"
#define PAGES_BINDING 6
#include "pages.glsl"
layout(std430, binding = 2) readonly buffer Keys { CACHE_QUAD keys[]; };
layout(std430, binding = 3) readonly buffer Values { CACHE_QUAD values[]; };
layout(std430, binding = 5) writeonly buffer Out { vec4 dst[]; };

#define WORKGROUP 128u
#define KEYS 32u
#define QUADS (HEAD_DIM / 4u)
#define SLICE (QUADS % 16u == 0u ? 16u : 8u)
#define SLICES ((QUADS + SLICE - 1u) / SLICE)
#define PADDED (SLICES * SLICE)
#define LANES_X 8u
#define ROW_TILE (ROWS * LANES_X / WORKGROUP)
#define KEY_TILE (KEYS / LANES_X)
#define QUAD_TILE (SLICE / LANES_X)
// Odd strides, so that neighbouring rows lie in different banks.
#define Q_STRIDE (PADDED + 1u)
#define BLOCK_STRIDE (SLICE + 1u)
#define WEIGHT_STRIDE (KEYS + 1u)
shared vec4 query[ROWS * Q_STRIDE];
shared vec4 block[KEYS * BLOCK_STRIDE];
shared float weight[ROWS * WEIGHT_STRIDE];
shared float partial[ROWS * LANES_X]; // maxima, at the end sums

#define LOADS (KEYS * SLICE / WORKGROUP) // quads of a slice that an invocation loads, of rows WORKGROUP / SLICE apart
uint rows_ahead[LOADS];

// The rows of keys and values that this invocation loads of the block at `first`: without a branch
// between the loads that follow. Beyond the last key it is the last.
void find_rows(uint kv, uint first, uint end) {
    uint lane = gl_LocalInvocationID.x;
    Block b = find_block(first, min(first + KEYS, end) - 1u);
    [[unroll]] for (uint i = 0u; i < LOADS; i++)
        rows_ahead[i] = block_row(b, kv, first + min(lane / SLICE + i * (WORKGROUP / SLICE), end - 1u - first));
}

// The quad of these rows that this invocation loads of slice s. Beyond the last one it is the last.
uint slice_quad(uint s) {
    uint quad = s * SLICE + gl_LocalInvocationID.x % SLICE;
    return QUADS % SLICE == 0u ? quad : min(quad, QUADS - 1u);
}

// Of this invocation's queries.
float score[ROW_TILE * KEY_TILE];
vec4 sums[SLICES * ROW_TILE * QUAD_TILE];
uint trips, key_trips; // of the loops over a slice and over keys

// Calls, because no compiler unrolls a loop that has another one in it: of a loop over slices, sums would be in memory where
// those loops are kept (on Turing and Ampere too).
#define FOR_SLICES(f) f(0u); if (SLICES > 1u) f(1u); if (SLICES > 2u) f(2u); if (SLICES > 3u) f(3u); \
    if (SLICES > 4u) f(4u); if (SLICES > 5u) f(5u); if (SLICES > 6u) f(6u)

// Adds slice s of the keys to the scores.
void add_scores(uint s) {
    uint lane = gl_LocalInvocationID.x, tx = lane % LANES_X, ty = lane / LANES_X;
    uint quad = slice_quad(s);
    vec4 ahead[LOADS];
    [[unroll]] for (uint i = 0u; i < LOADS; i++) ahead[i] = KEY_QUAD(rows_ahead[i], quad);
    barrier(); // the block's last use is over
    [[unroll]] for (uint i = 0u; i < LOADS; i++)
        block[(lane / SLICE + i * (WORKGROUP / SLICE)) * BLOCK_STRIDE + lane % SLICE] = ahead[i];
    barrier(); // the keys (and at first the queries) are complete
    for (uint n = 0u; n < trips; n++) {
        vec4 k[KEY_TILE];
        [[unroll]] for (uint j = 0u; j < KEY_TILE; j++) k[j] = block[(j * LANES_X + tx) * BLOCK_STRIDE + n];
        [[unroll]] for (uint i = 0u; i < ROW_TILE; i++) {
            vec4 own = query[(ty * ROW_TILE + i) * Q_STRIDE + s * SLICE + n];
            [[unroll]] for (uint j = 0u; j < KEY_TILE; j++) score[i * KEY_TILE + j] += dot(own, k[j]);
        }
    }
}

// Adds slice s of the values to the sums. Where loops are kept, no compiler can tell that a value's row is its key's: Intel's
// held the places of all slices from the keys to the values, four to eight registers for each slice.
void add_values(uint s) {
    uint lane = gl_LocalInvocationID.x, tx = lane % LANES_X, ty = lane / LANES_X;
    uint quad = slice_quad(s);
    vec4 ahead[LOADS];
    [[unroll]] for (uint i = 0u; i < LOADS; i++) ahead[i] = VALUE_QUAD(key_trips == 0u ? 0u : rows_ahead[i], quad);
    barrier(); // the block's last use is over
    [[unroll]] for (uint i = 0u; i < LOADS; i++)
        block[(lane / SLICE + i * (WORKGROUP / SLICE)) * BLOCK_STRIDE + lane % SLICE] = ahead[i];
    barrier(); // values and weights are complete
    for (uint key = 0u; key < key_trips; key++) {
        vec4 v[QUAD_TILE];
        [[unroll]] for (uint n = 0u; n < QUAD_TILE; n++) v[n] = block[key * BLOCK_STRIDE + n * LANES_X + tx];
        [[unroll]] for (uint i = 0u; i < ROW_TILE; i++) {
            float w = weight[(ty * ROW_TILE + i) * WEIGHT_STRIDE + key];
            [[unroll]] for (uint n = 0u; n < QUAD_TILE; n++) sums[(s * ROW_TILE + i) * QUAD_TILE + n] += w * v[n];
        }
    }
}

void main() {
    uint lane = gl_LocalInvocationID.x, tx = lane % LANES_X, ty = lane / LANES_X;
    uint sharing = p.heads / p.kv_heads, kv = gl_WorkGroupID.y;
    uint first_row;
    if (!set_tile(gl_WorkGroupID.x, ROWS, sharing, first_row)) return; // uniform over the workgroup
    uint rows = token_count * sharing;
    bool none = KEEP_LOOPS && rows == 0u; // never; of a minimum Mesa knows that it is at most so much, which is enough to unroll
    trips = none ? 0u : SLICE;
    key_trips = none ? 0u : KEYS;
    float minus_inf = uintBitsToFloat(0xff800000u);

    for (uint i = lane; i < ROWS * PADDED; i += WORKGROUP) {
        uint row = min(first_row + i / PADDED, rows - 1u), quad = i % PADDED;
        uint h = kv * sharing + row % sharing;
        query[i / PADDED * Q_STRIDE + quad] = quad < QUADS ? p.scale * q[((first_token + row / sharing) * p.heads + h) * QUADS + quad] : vec4(0.0);
    }
    // Of this invocation's queries; what is past the last one is computed like it and dropped.
    uint start[ROW_TILE], length[ROW_TILE], last[ROW_TILE];
    float slope[ROW_TILE], running_max[ROW_TILE], running_sum[ROW_TILE];
    [[unroll]] for (uint i = 0u; i < ROW_TILE; i++) {
        uint row = min(first_row + ty * ROW_TILE + i, rows - 1u), t = row / sharing;
        start[i] = step.tokens[first_token + t].start;
        length[i] = position + t - start[i] + 1u;
        last[i] = position + last_seen(first_token + t) - first_token;
        slope[i] = head_slope(kv * sharing + row % sharing);
        running_max[i] = -3.0e38; // below every score and finite
        running_sum[i] = 0.0;
    }
    [[unroll]] for (uint i = 0u; i < SLICES * ROW_TILE * QUAD_TILE; i++) sums[i] = vec4(0.0);

    // The places that any query of the tile sees: from the first token's window, or that of a
    // ending's first token where the tile has several; without the keys of endings before the tile's.
    uint t0 = first_row / sharing, t1 = min(first_row + ROWS, rows) - 1u;
    t1 /= sharing;
    uint start_any = step.tokens[first_token + t0].start, end = position + last_seen(first_token + t1) - first_token + 1u;
    bool one = step.tokens[first_token + t1].start == start_any;
    uint first = cache_position(first_key(one ? position + t0 - start_any + 1u : position + 1u), start_any);
    for (; first < end; first += KEYS) {
        if (first >= position) first = max(first, position + start_any);
        find_rows(kv, first, end);
        [[unroll]] for (uint i = 0u; i < ROW_TILE * KEY_TILE; i++) score[i] = 0.0;
        FOR_SLICES(add_scores);
        [[unroll]] for (uint i = 0u; i < ROW_TILE; i++) {
            float m = minus_inf;
            [[unroll]] for (uint j = 0u; j < KEY_TILE; j++) {
                uint at = first + j * LANES_X + tx;
                bool before = at < position;
                uint place = before ? at : at - start[i];
                bool seen = (before || at >= position + start[i]) && at <= last[i] && place >= first_key(length[i]);
                float v = finish_score(score[i * KEY_TILE + j], slope[i], int(place) - int(length[i]) + 1);
                score[i * KEY_TILE + j] = seen ? v : minus_inf;
                m = max(m, score[i * KEY_TILE + j]);
            }
            partial[(ty * ROW_TILE + i) * LANES_X + tx] = m;
        }
        barrier(); // maxima of the key columns are complete
        [[unroll]] for (uint i = 0u; i < ROW_TILE; i++) {
            uint row = ty * ROW_TILE + i;
            float m = running_max[i];
            for (uint x = 0u; x < LANES_X; x++) m = max(m, partial[row * LANES_X + x]);
            float rescale = exp(running_max[i] - m);
            running_max[i] = m;
            running_sum[i] *= rescale;
            [[unroll]] for (uint j = 0u; j < KEY_TILE; j++) {
                float e = exp(score[i * KEY_TILE + j] - m);
                running_sum[i] += e;
                weight[row * WEIGHT_STRIDE + j * LANES_X + tx] = e;
            }
            [[unroll]] for (uint s = 0u; s < SLICES; s++)
                [[unroll]] for (uint n = 0u; n < QUAD_TILE; n++) sums[(s * ROW_TILE + i) * QUAD_TILE + n] *= rescale;
        }
        FOR_SLICES(add_values);
    }
    [[unroll]] for (uint i = 0u; i < ROW_TILE; i++) partial[(ty * ROW_TILE + i) * LANES_X + tx] = running_sum[i];
    barrier(); // sums of the key columns are complete
    [[unroll]] for (uint i = 0u; i < ROW_TILE; i++) {
        uint in_tile = ty * ROW_TILE + i, row = first_row + in_tile;
        if (row >= rows) continue;
        float total = 0.0;
        for (uint x = 0u; x < LANES_X; x++) total += partial[in_tile * LANES_X + x];
        uint base = ((first_token + row / sharing) * p.heads + kv * sharing + row % sharing) * QUADS;
        [[unroll]] for (uint s = 0u; s < SLICES; s++)
            [[unroll]] for (uint n = 0u; n < QUAD_TILE; n++) {
                uint quad = s * SLICE + n * LANES_X + tx;
                if (quad < QUADS) dst[base + quad] = sums[(s * ROW_TILE + i) * QUAD_TILE + n] / total;
            }
    }
}
