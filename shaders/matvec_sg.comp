#version 450
// matvec for GPUs: what matvec.comp computes, with its bindings and push constants, by
// subgroups.
//
// A workgroup is SUBGROUPS subgroups of LANES lanes, and each takes ROWS adjacent rows. The columns
// go by in chunks of LANES * PIECES pieces. x is in shared memory, a chunk ahead, so that its loads
// are of consecutive quads and neighbouring lanes read from neighbouring banks; the norm's gain is
// multiplied to it there. A lane takes PIECES pieces of PIECE_UNITS whole units of each row, 16
// consecutive bytes a load, and the same columns of x for all rows; words of scales are loaded for
// all of its rows at once, and decoded once for a piece.
//
// Quantised weights stay unsigned integers q until the end: a row is sum_b d_b * (q . x)_b +
// m_b * sum(x)_b over blocks b, and sum(x), the same for every row, is where (q . x) starts from if
// m is a constant times d. Packed fields are masked four at a time into the bytes of a word, from
// which conversion to float is one instruction on most GPUs.
//
// Reads each weight once; x is 4 * cols bytes for SUBGROUPS * ROWS rows. cols is a multiple of
// PIECE_COLS, and rows are not interleaved (group = 1). Shared memory: 32 * QUADS * (LANES + 1)
// bytes, 16896 for 32 lanes and 16 quads.
#extension GL_EXT_control_flow_attributes : require
#extension GL_KHR_shader_subgroup_basic : require
#extension GL_KHR_shader_subgroup_arithmetic : require
layout(local_size_x_id = 0) in;
layout(constant_id = 0) const uint WORKGROUP = 128u; // SUBGROUPS * LANES
layout(constant_id = 1) const bool HAS_BIAS = false;
layout(constant_id = 2) const bool ACCUMULATE = false;
layout(constant_id = 3) const bool NORM = false;
layout(constant_id = 4) const bool ACTIVATE = false;
layout(constant_id = 5) const bool GATED = false;
layout(constant_id = 6) const uint ACTIVATION = 0u;
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
#define STRIDE (LANES + 1u) // odd, so that the quads of a piece go to different banks
shared vec4 x_tile[2u * QUADS * STRIDE];
shared float partial[SUBGROUPS];

#ifdef QUANTISED
#define SUM_COLS (PIECE_COLS / SCALES)
#endif

float sums[ROWS];
float squares = 0.0;
vec4 staged[STAGED];

// Loads this invocation's quads of a chunk of x.
void load_chunk(uint chunk) {
    [[unroll]] for (uint i = 0u; i < STAGED; i++) {
        // Without a branch, so that all are under way at once; what is beyond the last is not used.
        uint quad = chunk * (LANES * QUADS) + i * WORKGROUP + gl_LocalInvocationID.x, last = p.cols / 4u - 1u;
        staged[i] = x[min(quad, last)];
        if (NORM) {
            squares += quad <= last ? dot(staged[i], staged[i]) : 0.0;
            staged[i] *= gain[min(quad, last)];
        }
    }
}

void store_chunk(uint chunk) {
    [[unroll]] for (uint i = 0u; i < STAGED; i++) {
        uint at = i * WORKGROUP + gl_LocalInvocationID.x, n = at / PIECE_QUADS;
        x_tile[((chunk & 1u) * QUADS + n / LANES * PIECE_QUADS + at % PIECE_QUADS) * STRIDE + n % LANES] = staged[i];
    }
}

// Adds a piece of the rows from row0 on to sums; x is at tile.
void add_piece(uint row0, uint piece, uint tile) {
    uint nunits = p.cols / UNIT_COLS;
    uvec4 q[ROWS * PIECE_UNITS];
    [[unroll]] for (uint r = 0u; r < ROWS; r++)
        [[unroll]] for (uint i = 0u; i < PIECE_UNITS; i++)
            q[r * PIECE_UNITS + i] = load_unit(min(row0 + r, p.rows - 1u) * nunits + piece * PIECE_UNITS + i);
#ifdef QUANTISED
    Record at = row_record(min(row0, (p.rows - 1u) / ROWS * ROWS), piece * PIECE_UNITS, p.cols, 1u);
    uvec4 words[NEEDED];
    load_meta_quads(at, words);
#endif
    vec4 xs[PIECE_QUADS];
    [[unroll]] for (uint i = 0u; i < PIECE_QUADS; i++) xs[i] = x_tile[tile + i * STRIDE];
#ifdef QUANTISED
    float total[SCALES];
    [[unroll]] for (uint s = 0u; s < SCALES; s++) {
        vec4 t = vec4(0.0);
        [[unroll]] for (uint i = 0u; i < SUM_COLS / 4u; i++) t += xs[s * (SUM_COLS / 4u) + i];
        total[s] = (t.x + t.y) + (t.z + t.w);
    }
#endif
    [[unroll]] for (uint r = 0u; r < ROWS; r++) {
#ifdef QUANTISED
        Meta m = quad_meta(words, r, at.part);
        float d[SCALES];
#ifdef OFFSET
        [[unroll]] for (uint s = 0u; s < SCALES; s++) d[s] = -float(OFFSET) * total[s];
#else
        [[unroll]] for (uint s = 0u; s < SCALES; s++) d[s] = 0.0;
#endif
        [[unroll]] for (uint j = 0u; j < 4u * PIECE_UNITS; j++)
            [[unroll]] for (uint f = 0u; f < FIELDS; f++) {
                vec4 w = numbers(unit_bytes(q[r * PIECE_UNITS + j / 4u], m.high, j % 4u, f));
                [[unroll]] for (uint n = 0u; n < 4u; n++) {
                    uint c = WORD_COLS * j + FIELDS * n + f;
                    d[c / SUM_COLS] += w[n] * xs[c / 4u][c % 4u];
                }
            }
#ifdef OFFSET
        [[unroll]] for (uint s = 0u; s < SCALES; s++) sums[r] += m.dm[s].x * d[s];
#else
        [[unroll]] for (uint s = 0u; s < SCALES; s++) sums[r] += m.dm[s].x * d[s] + m.dm[s].y * total[s];
#endif
#else
        float w[UNIT_COLS];
        Meta none;
        decode_unit(q[r], none, w);
        [[unroll]] for (uint i = 0u; i < UNIT_COLS; i++) sums[r] += w[i] * xs[i / 4u][i % 4u];
#endif
    }
}

void main() {
    uint lane = gl_SubgroupInvocationID;
    // Workgroups are spread over x and y because x alone is limited to 65535.
    uint row0 = ((gl_WorkGroupID.y * gl_NumWorkGroups.x + gl_WorkGroupID.x) * SUBGROUPS + gl_SubgroupID) * ROWS;
#ifdef LEVELS
    for (uint i = gl_LocalInvocationID.x; i < 16u; i += WORKGROUP) levels[i] = float(level(i));
#endif
    [[unroll]] for (uint r = 0u; r < ROWS; r++) sums[r] = 0.0;
    uint pieces = p.cols / PIECE_COLS, chunks = (pieces + LANES * PIECES - 1u) / (LANES * PIECES);
    load_chunk(0u);
    store_chunk(0u);
    barrier(); // the first chunk is there
    for (uint chunk = 0u; chunk < chunks; chunk++) {
        if (chunk + 1u < chunks) load_chunk(chunk + 1u);
        uint tile = (chunk & 1u) * QUADS * STRIDE + lane;
        [[unroll]] for (uint b = 0u; b < PIECES; b++) {
            uint piece = (chunk * PIECES + b) * LANES + lane;
            if (piece < pieces) add_piece(row0, piece, tile + b * PIECE_QUADS * STRIDE);
        }
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
    if (lane != 0u) return;
    // The norm scales every product alike, so it is applied to the sums.
    float scale = NORM ? inversesqrt(squares / float(p.cols) + p.eps) : 1.0;
    [[unroll]] for (uint r = 0u; r < ROWS; r++) {
        if (row0 + r >= p.rows) break;
        sums[r] *= scale;
        if (HAS_BIAS) sums[r] += bias[p.bias_first + row0 + r];
        if (ACTIVATE && (!GATED || r % 2u == 0u)) sums[r] = activate(sums[r]);
        uint at = p.y_first + row0 + r;
        if (!GATED) y[at] = ACCUMULATE ? y[at] + sums[r] : sums[r];
        else if (r % 2u == 1u) y[at / 2u] = sums[r - 1u] * sums[r];
    }
}
