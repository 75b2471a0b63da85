#version 450
// matvec for GPUs: what matvec.comp computes, with its bindings and push constants, by
// subgroups.
//
// A workgroup is SUBGROUPS subgroups of LANES lanes, and each takes ROWS adjacent rows. The columns
// go by in chunks of LANES * PIECES pieces. x is in shared memory, a chunk ahead, so that its loads
// are of consecutive quads and neighbouring lanes read from neighbouring banks; the norm's gain is
// multiplied to it there. A lane takes PIECES pieces of PIECE_UNITS whole units of each row, 16
// consecutive bytes a load, and the same columns of x for all rows; words of scales are loaded for
// all of its rows at once, and decoded once for a piece. Where a scale is of two units (Q8_0), a piece is two units that
// are not neighbours: two lanes share the four units of a word of scales, and one has the first of either block, the other
// the second, so that a load of either is of neighbouring sectors.
//
// With AHEAD a lane's next piece is on its way to registers while it waits at barriers and, if the piece takes few
// (EARLY), while it multiplies the one before; without, for lanes that have few registers, it asks for a piece when it
// comes to it. What the product is added to is loaded at the start.
//
// Quantised weights stay unsigned integers q until the end: a row is sum_b d_b * (q . x)_b +
// m_b * sum(x)_b over blocks b, and sum(x), the same for every row, is where (q . x) starts from if
// m is a constant times d. Packed fields are masked four at a time into the bytes of a word, from
// which conversion to float is one instruction on most GPUs. With FRACTIONS a byte becomes a float
// without a conversion.
//
// With PLANES products are of integers, by dot products of four bytes, with x in two planes of bytes
// (planes.glsl).
//
// Reads each weight once; x is 4 * cols bytes for SUBGROUPS * ROWS rows. cols is a multiple of
// PIECE_COLS, and rows are not interleaved (group = 1). Shared memory: 32 * QUADS * STRIDE
// bytes, at most 17408 for 32 lanes; with PLANES half of it, and 16 bytes a lane for each SUM_COLS columns.
#extension GL_EXT_control_flow_attributes : require
#extension GL_KHR_shader_subgroup_basic : require
#extension GL_KHR_shader_subgroup_arithmetic : require
#ifdef PLANES
#extension GL_KHR_shader_subgroup_shuffle : require
#extension GL_EXT_integer_dot_product : require
#endif
layout(local_size_x_id = 0) in;
layout(constant_id = 0) const uint WORKGROUP = 128u; // SUBGROUPS * LANES
layout(constant_id = 1) const bool HAS_BIAS = false;
layout(constant_id = 2) const bool ACCUMULATE = false;
layout(constant_id = 3) const bool NORM = false;
layout(constant_id = 4) const bool ACTIVATE = false;
layout(constant_id = 5) const bool GATED = false;
layout(constant_id = 6) const uint ACTIVATION = 0u;
layout(constant_id = 7) const bool AHEAD = true;
#ifndef PLANES
layout(constant_id = 8) const bool FRACTIONS = false;
#endif
layout(std430, binding = 0) readonly buffer Units { uvec4 units[]; };
layout(std430, binding = 1) readonly buffer Metas { uvec4 meta[]; };
layout(std430, binding = 2) readonly buffer X { vec4 x[]; };
layout(std430, binding = 3) readonly buffer Gain { vec4 gain[]; };
layout(std430, binding = 4) readonly buffer Bias { float bias[]; };
layout(std430, binding = 5) buffer Y { float y[]; };
layout(push_constant) uniform Push {
    uint rows;
    uint cols;
    uint group;
    uint y_first;
    uint bias_first;
    float eps;
} p;
#include "activation.glsl"

uvec4 load_unit(uint i) { return units[i]; }
#define LEVEL(v) levels[v] // one conflict-free read of shared memory instead of the ten instructions of level()
shared float levels[16];
#define META_QUADS
uvec4 load_meta_quad(uint i) { return meta[i]; }
#include "weights.glsl"

#define ROWS ROW_QUAD
#define SUBGROUPS 4u // kernels.matvecSubgroups
#if defined(QUANTISED) && UNIT_COLS == 16
#ifndef PLANES
layout(constant_id = 9) const bool WORDS = false; // whether rows are whole words of scales; else a piece is the units of one scale
#define SHARES_WORDS
#endif
#define PIECE_UNITS 2u
#define PIECES 2u
#elif defined(QUANTISED)
#define PIECE_UNITS 1u
#define PIECES 1u
#else
#define PIECE_UNITS 1u
#define PIECES 4u
#endif
#define PIECE_COLS (PIECE_UNITS * UNIT_COLS)
#define PIECE_QUADS (PIECE_COLS / 4u)
#define QUADS (PIECES * PIECE_QUADS) // of a lane in a chunk
#define STAGED (QUADS / SUBGROUPS)   // of an invocation
const uint LANES = WORKGROUP / SUBGROUPS;
// Eight lanes store eight quads of a piece, or those of 8 / PIECE_QUADS pieces or, with WORDS, of two, which go to different banks.
#ifdef SHARES_WORDS
#define STRIDE (LANES + 2u)
#else
#define STRIDE (LANES + (PIECE_QUADS < 8u ? 8u / PIECE_QUADS : 1u))
#endif
shared float partial[SUBGROUPS];

#ifdef QUANTISED
// A piece goes by in runs of 32 columns, or of a unit, of which a lane has x in registers.
#ifdef SHARES_WORDS
#define RUN_COLS UNIT_COLS
#else
#define RUN_COLS 32
#endif
#define RUNS (PIECE_COLS / RUN_COLS)
#define RUN_QUADS (RUN_COLS / 4u)
#define RUN_WORDS (RUN_COLS / WORD_COLS)
#define RUN_SCALES (SCALES > RUNS ? SCALES / RUNS : 1u)
#define SUM_COLS (RUN_COLS / RUN_SCALES)
#endif

#ifdef SHARES_WORDS
#define UNIT_STEP (WORDS ? 2u : 1u) // from a unit of a piece to the next
uint first_unit(uint piece) { return WORDS ? piece / 2u * 4u + piece % 2u : piece * PIECE_UNITS; }
#else
#define UNIT_STEP 1u
uint first_unit(uint piece) { return piece * PIECE_UNITS; }
#endif

float sums[ROWS];
float squares = 0.0;
vec4 staged[STAGED], gains[STAGED];

// Multiplies staged quad i of a chunk of x, which is number `quad` of all, by the norm's gain.
void apply_gain(uint quad, uint i) {
    squares += quad < p.cols / 4u ? dot(staged[i], staged[i]) : 0.0;
    staged[i] *= gains[i];
}

#ifdef PLANES
#include "planes.glsl"
#else
shared vec4 x_tile[2u * QUADS * STRIDE];

// This invocation's quad i of a chunk of x, and the same or, beyond the last, one that is not used.
uint staged_quad(uint chunk, uint i) { return chunk * (LANES * QUADS) + i * WORKGROUP + gl_LocalInvocationID.x; }
uint loaded_quad(uint chunk, uint i) { return min(staged_quad(chunk, i), p.cols / 4u - 1u); }

// Quad `at` of a chunk: which piece has it, and as which of its quads.
uvec2 piece_quad(uint at) {
#ifdef SHARES_WORDS
    uint unit = at / (UNIT_COLS / 4u), quad = at % (UNIT_COLS / 4u);
    if (WORDS) return uvec2(unit / 4u * 2u + unit % 2u, unit / 2u % 2u * (UNIT_COLS / 4u) + quad);
#endif
    return uvec2(at / PIECE_QUADS, at % PIECE_QUADS);
}

void store_quads(uint chunk) {
    [[unroll]] for (uint i = 0u; i < STAGED; i++) {
        uvec2 to = piece_quad(i * WORKGROUP + gl_LocalInvocationID.x);
        x_tile[((chunk & 1u) * QUADS + to.x / LANES * PIECE_QUADS + to.y) * STRIDE + to.x % LANES] = staged[i];
    }
}
#endif

// Loads this invocation's quads of a chunk of x.
void load_chunk(uint chunk) {
    [[unroll]] for (uint i = 0u; i < STAGED; i++) {
        uint quad = loaded_quad(chunk, i); // without a branch, so that all are under way at once
        staged[i] = x[quad];
        if (NORM) gains[i] = gain[quad];
        if (NORM && !AHEAD) apply_gain(staged_quad(chunk, i), i);
    }
}

void store_chunk(uint chunk) {
    if (NORM && AHEAD) {
        [[unroll]] for (uint i = 0u; i < STAGED; i++) apply_gain(staged_quad(chunk, i), i);
    }
    store_quads(chunk);
}

// What a lane takes of the rows in a piece.
struct Piece {
    uvec4 q[ROWS * PIECE_UNITS];
#ifdef QUANTISED
    uvec4 words[NEEDED];
#endif
};
// Of at most 24 registers: with more, Mesa's compiler for NVIDIA takes so many that a multiprocessor holds two workgroups less.
#ifdef QUANTISED
const bool EARLY = ROWS * PIECE_UNITS + uint(NEEDED) <= 6u;
#else
const bool EARLY = true;
#endif
// Whether the next chunk of x is loaded when this one has been used: beside the longest pieces Intel's compiler has no registers
// for it.
#if defined(QUANTISED) && UNIT_COLS > 32 && HIGH_BITS > 0
const bool X_LATE = !AHEAD;
#else
const bool X_LATE = false;
#endif

#ifdef QUANTISED
Record piece_record(uint row0, uint piece) {
    return row_record(min(row0, (p.rows - 1u) / ROWS * ROWS), piece * PIECE_UNITS, p.cols, 1u);
}
#endif

// Beyond the last piece this loads the last one.
Piece load_piece(uint row0, uint piece) {
    uint nunits = p.cols / UNIT_COLS;
    piece = min(piece, nunits / PIECE_UNITS - 1u);
    Piece v;
    [[unroll]] for (uint r = 0u; r < ROWS; r++)
        [[unroll]] for (uint i = 0u; i < PIECE_UNITS; i++)
            v.q[r * PIECE_UNITS + i] = load_unit(min(row0 + r, p.rows - 1u) * nunits + first_unit(piece) + i * UNIT_STEP);
#ifdef QUANTISED
    load_meta_quads(piece_record(row0, piece), v.words);
#endif
    return v;
}

#ifndef PLANES
#if defined(QUANTISED) && !defined(LEVELS)
// The bytes of v less OFFSET. A byte is put where it is into the fraction of a float that begins at 2^23, or the second one at
// 2^15, so that its lowest bit is worth 1, and the difference is exact.
vec4 fraction_numbers(uint v) {
    uint upper = v >> 16u;
    uvec4 bits = uvec4(v & 0xffu, v & 0xff00u, upper & 0xffu, upper & 0xff00u) | uvec4(0x4b000000u, 0x47000000u, 0x4b000000u, 0x47000000u);
#ifdef OFFSET
    return uintBitsToFloat(bits) - (vec4(8388608.0, 32768.0, 8388608.0, 32768.0) + float(OFFSET));
#else
    return uintBitsToFloat(bits) - vec4(8388608.0, 32768.0, 8388608.0, 32768.0);
#endif
}
#define TAKES_FRACTIONS FRACTIONS
#else
#define TAKES_FRACTIONS false
#define fraction_numbers(v) vec4(0.0)
#endif

#ifdef QUANTISED
// Number s of the scales and constants of row r in a run, of the words of scales of a piece and what they decode to.
vec2 run_scale(uvec4 words[NEEDED], uint r, Meta m, uint run, uint s) {
#ifdef SHARES_WORDS
    if (WORDS) return vec2(halves(words[0][r])[run], 0.0);
    return m.dm[0];
#else
    return m.dm[SCALES > 1 ? run * RUN_SCALES + s : 0u];
#endif
}
#endif

// Adds a piece of the rows from row0 on to sums; x is from quad `first` of x_tile on.
void add_piece(uint row0, uint piece, Piece v, uint first) {
    uint tile = first * STRIDE + gl_SubgroupInvocationID;
#ifdef QUANTISED
    uint part = piece_record(row0, piece).part;
    [[unroll]] for (uint run = 0u; run < RUNS; run++) {
        vec4 xs[RUN_QUADS];
        [[unroll]] for (uint i = 0u; i < RUN_QUADS; i++) xs[i] = x_tile[tile + (run * RUN_QUADS + i) * STRIDE];
        float total[RUN_SCALES];
        [[unroll]] for (uint s = 0u; s < RUN_SCALES; s++) {
            vec4 t = vec4(0.0);
            [[unroll]] for (uint i = 0u; i < SUM_COLS / 4u; i++) t += xs[s * (SUM_COLS / 4u) + i];
            total[s] = (t.x + t.y) + (t.z + t.w);
        }
        [[unroll]] for (uint r = 0u; r < ROWS; r++) {
            Meta m = quad_meta(v.words, r, part);
            float d[RUN_SCALES];
#ifdef OFFSET
            [[unroll]] for (uint s = 0u; s < RUN_SCALES; s++) d[s] = mix(-float(OFFSET) * total[s], 0.0, TAKES_FRACTIONS);
#else
            [[unroll]] for (uint s = 0u; s < RUN_SCALES; s++) d[s] = 0.0;
#endif
            [[unroll]] for (uint i = 0u; i < RUN_WORDS; i++) {
                uint j = run * RUN_WORDS + i;
                [[unroll]] for (uint f = 0u; f < FIELDS; f++) {
                    uint bytes = unit_bytes(v.q[r * PIECE_UNITS + j / 4u], m.high, j % 4u, f);
                    vec4 w = mix(numbers(bytes), fraction_numbers(bytes), bvec4(TAKES_FRACTIONS)); // branches take SwiftShader minutes
                    [[unroll]] for (uint n = 0u; n < 4u; n++) {
                        uint c = WORD_COLS * i + FIELDS * n + f;
                        d[c / SUM_COLS] += w[n] * xs[c / 4u][c % 4u];
                    }
                }
            }
            [[unroll]] for (uint s = 0u; s < RUN_SCALES; s++) {
                vec2 dm = run_scale(v.words, r, m, run, s);
#ifdef OFFSET
                sums[r] += dm.x * d[s];
#else
                sums[r] += dm.x * d[s] + dm.y * total[s];
#endif
            }
        }
    }
#else
    vec4 xs[PIECE_QUADS];
    [[unroll]] for (uint i = 0u; i < PIECE_QUADS; i++) xs[i] = x_tile[tile + i * STRIDE];
    [[unroll]] for (uint r = 0u; r < ROWS; r++) {
        float w[UNIT_COLS];
        Meta none;
        decode_unit(v.q[r], none, w);
        [[unroll]] for (uint i = 0u; i < UNIT_COLS; i++) sums[r] += w[i] * xs[i / 4u][i % 4u];
    }
#endif
}
#else
// The same by dot products.
void add_piece(uint row0, uint piece, Piece v, uint first) {
    uint part = piece_record(row0, piece).part;
    [[unroll]] for (uint run = 0u; run < RUNS; run++) {
        uvec4 xs[RUN_QUADS / 2u];
        [[unroll]] for (uint i = 0u; i < RUN_QUADS / 2u; i++)
            xs[i] = x_tile[(first / 2u + run * (RUN_QUADS / 2u) + i) * STRIDE + gl_SubgroupInvocationID];
        uvec2 block[RUN_SCALES];
        [[unroll]] for (uint s = 0u; s < RUN_SCALES; s++)
            block[s] = x_blocks[(first / SUM_QUADS + run * RUN_SCALES + s) * STRIDE + gl_SubgroupInvocationID];
        [[unroll]] for (uint r = 0u; r < ROWS; r++) {
            Meta m = quad_meta(v.words, r, part);
            int high[RUN_SCALES], low[RUN_SCALES];
            [[unroll]] for (uint s = 0u; s < RUN_SCALES; s++) {
                high[s] = 0;
                low[s] = START(block[s]);
            }
            [[unroll]] for (uint i = 0u; i < RUN_WORDS; i++) {
                uint j = run * RUN_WORDS + i, s = WORD_COLS * i / SUM_COLS;
                [[unroll]] for (uint f = 0u; f < FIELDS; f++) {
                    int w = signed_bytes(unit_bytes(v.q[r * PIECE_UNITS + j / 4u], m.high, j % 4u, f));
                    uint at = plane_word(FIELDS * i + f), below = at + STAGED;
                    high[s] += dotPacked4x8EXT(w, int(xs[at / 4u][at % 4u]));
                    low[s] += dotPacked4x8EXT(w, int(xs[below / 4u][below % 4u]));
                }
            }
            [[unroll]] for (uint s = 0u; s < RUN_SCALES; s++) {
                vec2 dm = m.dm[SCALES > 1 ? run * RUN_SCALES + s : 0u];
                float sum = float((high[s] << 8) + low[s]) * uintBitsToFloat(block[s].x);
#ifdef OFFSET
                sums[r] += dm.x * sum;
#else
                sums[r] += dm.x * sum + dm.y * uintBitsToFloat(block[s].y);
#endif
            }
        }
    }
}
#endif

void main() {
    uint lane = gl_SubgroupInvocationID;
    // Workgroups are spread over x and y because x alone is limited to 65535.
    uint row0 = ((gl_WorkGroupID.y * gl_NumWorkGroups.x + gl_WorkGroupID.x) * SUBGROUPS + gl_SubgroupID) * ROWS;
    uint pieces = p.cols / PIECE_COLS, chunks = (pieces + LANES * PIECES - 1u) / (LANES * PIECES);
    load_chunk(0u);
    Piece next;
    if (AHEAD) next = load_piece(row0, lane); // behind x, which is waited for first
    // Lane n finishes row n of the subgroup's, or of gated rows the n-th pair.
    uint row = row0 + (GATED ? 2u * lane : lane), to = p.y_first + row;
    bool finishes = lane < (GATED ? ROWS / 2u : ROWS) && row < p.rows;
    float before = 0.0, own_bias[2] = float[](0.0, 0.0);
    if (finishes) {
        if (ACCUMULATE) before = y[to];
        if (HAS_BIAS) own_bias[0] = bias[p.bias_first + row];
        if (HAS_BIAS && GATED) own_bias[1] = bias[p.bias_first + row + 1u];
    }
#ifdef LEVELS
    for (uint i = gl_LocalInvocationID.x; i < 16u; i += WORKGROUP) levels[i] = float(level(i));
#endif
    [[unroll]] for (uint r = 0u; r < ROWS; r++) sums[r] = 0.0;
    store_chunk(0u);
    barrier(); // the first chunk is there
    for (uint chunk = 0u; chunk < chunks; chunk++) {
        if (!X_LATE && chunk + 1u < chunks) load_chunk(chunk + 1u);
        [[unroll]] for (uint b = 0u; b < PIECES; b++) {
            uint piece = (chunk * PIECES + b) * LANES + lane;
            Piece own;
            if (AHEAD) own = next;
            if (AHEAD && EARLY) next = load_piece(row0, piece + LANES);
            if (piece < pieces) {
                if (!AHEAD) own = load_piece(row0, piece);
                add_piece(row0, piece, own, (chunk & 1u) * QUADS + b * PIECE_QUADS);
            }
            if (AHEAD && !EARLY) next = load_piece(row0, piece + LANES);
        }
        if (X_LATE && chunk + 1u < chunks) load_chunk(chunk + 1u);
        if (chunk + 1u < chunks) store_chunk(chunk + 1u);
        barrier(); // the next chunk is there, and this one has been read
    }
    [[unroll]] for (uint r = 0u; r < ROWS; r++) sums[r] = subgroupAdd(sums[r]);
    if (NORM) {
        squares = subgroupAdd(squares);
        if (subgroupElect()) partial[gl_SubgroupID] = squares;
        barrier(); // every subgroup's sum is there
        squares = 0.0;
        [[unroll]] for (uint i = 0u; i < SUBGROUPS; i++) squares += partial[i];
    }
    if (!finishes) return;
    // The norm scales every product alike, so it is applied to the sums.
    float scale = NORM ? inversesqrt(squares / float(p.cols) + p.eps) : 1.0;
    float sum = sums[0];
    [[unroll]] for (uint n = 1u; n < ROWS; n++)
        if (lane == n) sum = sums[GATED ? 2u * n % ROWS : n];
    sum *= scale;
    if (HAS_BIAS) sum += own_bias[0];
    if (ACTIVATE) sum = activate(sum);
    if (GATED) {
        float up = (lane == 0u ? sums[1] : sums[3]) * scale;
        if (HAS_BIAS) up += own_bias[1];
        sum *= up;
        to /= 2u;
    }
    y[to] = ACCUMULATE ? before + sum : sum;
}
