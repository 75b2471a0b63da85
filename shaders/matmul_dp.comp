#version 450
// matmul by integer dot products: as linear.glsl says, with x in 8-bit blocks. A block's
// products are summed exactly in integers; scales are applied and blocks summed in float32.
//
// One workgroup of 128 computes a tile of 64 rows by 16 * TOKENS tokens, 8 rows by TOKENS
// tokens an invocation. 64 columns of both operands at a time go through shared memory: 5120
// bytes and at most 5120 (80 a row or token: 64 of columns and 16 so that eight rows are read
// from different banks), and 1024 each of scales.
// Reads the weights once for every 16 * TOKENS tokens, x, 1.25 bytes a column, once for every
// 64 rows.
#extension GL_EXT_control_flow_attributes : require
#extension GL_EXT_integer_dot_product : require
#define STEP_BINDING 0
#include "step.glsl"

layout(local_size_x = 128) in;
layout(constant_id = 3) const uint TOKENS = 4u;
#define X_BLOCKS
#include "linear.glsl"

#define WORKGROUP 128u
#define ROWS 8u
#define TILE_ROWS 64u
#define TILE_TOKENS (16u * TOKENS)
#define TILE_COLS 64u
#define TILE_BLOCKS (TILE_COLS / 32u)
#define PITCH 5u
shared uvec4 w_tile[TILE_ROWS * PITCH];
shared uvec4 x_tile[TILE_TOKENS * PITCH];
// Of a row: scale and constant of each block, or for HALF_BLOCKS the scales of its halves.
shared vec2 w_scales[TILE_ROWS * TILE_BLOCKS];
shared vec2 x_tile_scales[TILE_TOKENS * TILE_BLOCKS];

#if SCALES > 1 // of 16 columns each
#define HALF_BLOCKS
#endif
#ifndef OFFSET
#define HAS_CONSTANT
#endif

// Two bits for each of four bytes.
uint spread2(uint v) {
    v = (v | v << 12u) & 0x000f000fu;
    return (v | v << 6u) & 0x03030303u;
}

// The fields of part i of a unit, unsigned, in the order of columns: four bytes a word.
uvec4 part_bytes(uvec4 q, Meta m, uint i) {
    uvec4 words = part_words(q, i), v;
#if FIELD_BITS == 8
    v = words;
#elif FIELD_BITS == 2
    [[unroll]] for (uint j = 0u; j < 4u; j++) v[j] = spread2((words.x >> (8u * j)) & 0xffu);
#else
    [[unroll]] for (uint j = 0u; j < 4u; j++) {
        uint n = (words[j / 2u] >> (16u * (j % 2u))) & 0xffffu;
        n = (n | n << 8u) & 0x00ff00ffu;
        v[j] = (n | n << 4u) & 0x0f0f0f0fu;
    }
#endif
#ifdef HAS_HIGH_BITS
    uint high = part_high(m, i);
    [[unroll]] for (uint j = 0u; j < 4u; j++) {
#if FIELDS == 4 // bit n of four columns to bit 8 n
        uint bits = ((high >> (8u * j)) & 15u) * 0x00204081u;
#else // four columns have the same two fields of two bytes
        uint bits = (high >> (16u * (j % 2u) + high_at(j / 2u, 0u))) & 0xffffu;
        bits = (bits | bits << 8u) & (0x00010001u * ((1u << (2 * HIGH_BITS)) - 1u));
        bits |= bits << (8 - HIGH_BITS);
#endif
        v[j] |= (bits & (0x01010101u * ((1u << HIGH_BITS) - 1u))) << FIELD_BITS;
    }
#endif
    return v;
}

// The bytes of v less OFFSET: integers to which the scale alone applies.
uvec4 signed_bytes(uvec4 v) {
#if defined(LEVELS)
    uvec4 out_bytes;
    [[unroll]] for (uint j = 0u; j < 4u; j++) {
        uvec4 b = (uvec4(v[j]) >> uvec4(0u, 8u, 16u, 24u)) & 0xffu;
        out_bytes[j] = uint(level(b.x) & 0xff) | uint(level(b.y) & 0xff) << 8u | uint(level(b.z) & 0xff) << 16u |
                       uint(level(b.w) & 0xff) << 24u;
    }
    return out_bytes;
#elif FIELD_BITS == 8
    return v ^ 0x80808080u;
#elif defined(OFFSET)
    // With the top bit of every byte set no byte borrows of the next; taking it back is the same as 128 less.
    return ((v | 0x80808080u) - uint(OFFSET) * 0x01010101u) ^ 0x80808080u;
#else
    return v;
#endif
}

#include "weights_ahead.glsl" // parts are of sixteen columns here; of x too

// What an invocation has of the next tile's tokens.
const uint X_LOADS = (TILE_TOKENS * PARTS + WORKGROUP - 1u) / WORKGROUP;
uvec4 x_ahead[X_LOADS];
vec2 x_scales_ahead[X_LOADS];

// Loads without a branch between them. Tokens beyond the last are the last, as rows are, and columns beyond the last
// have a scale of zero.
void load_ahead(uint row0, uint t0, uint c0) {
    load_weights_ahead(row0, c0);
    [[unroll]] for (uint i = 0u; i < X_LOADS; i++) {
        uint n = gl_LocalInvocationID.x + i * WORKGROUP, parts = p.cols / PART_COLS;
        uint at = min(t0 + n / PARTS, step.count - 1u) * parts + min(c0 / PART_COLS + n % PARTS, parts - 1u);
        x_ahead[i] = x[at];
        x_scales_ahead[i] = x_scales[at / 2u];
    }
}

// Puts what load_ahead loaded into the tiles.
void store_ahead(uint row0, uint c0) {
    [[unroll]] for (uint i = 0u; i < W_LOADS; i++) {
        uint at = gl_LocalInvocationID.x + i * WORKGROUP, r = at / PARTS, n = at % PARTS, part = load_part(c0);
        Meta m = meta_ahead(i, row0, c0, 0u, true);
        w_tile[r * PITCH + n] = signed_bytes(part_bytes(units_ahead[i], m, part % UNIT_PARTS));
        vec2 dm = c0 / PART_COLS + n < row_parts() ? part_scale(m, part % UNIT_PARTS) : vec2(0.0);
#ifdef HALF_BLOCKS
        if (n % 2u == 0u) w_scales[r * TILE_BLOCKS + n / 2u].x = dm.x;
        else w_scales[r * TILE_BLOCKS + n / 2u].y = dm.x;
#else
        if (n % 2u == 0u) w_scales[r * TILE_BLOCKS + n / 2u] = dm;
#endif
    }
    [[unroll]] for (uint i = 0u; i < X_LOADS; i++) {
        uint at = gl_LocalInvocationID.x + i * WORKGROUP, t = at / PARTS, n = at % PARTS;
        if (at >= TILE_TOKENS * PARTS) break;
        x_tile[t * PITCH + n] = x_ahead[i];
        if (n % 2u == 0u) x_tile_scales[t * TILE_BLOCKS + n / 2u] = x_scales_ahead[i];
    }
}

int dot16(ivec4 a, ivec4 b) {
    return dotPacked4x8EXT(a.x, b.x) + dotPacked4x8EXT(a.y, b.y) + dotPacked4x8EXT(a.z, b.z) + dotPacked4x8EXT(a.w, b.w);
}

void main() {
    uint row0 = gl_WorkGroupID.x * TILE_ROWS, t0 = gl_WorkGroupID.y * TILE_TOKENS;
    if (t0 >= step.count) return; // uniform over the workgroup
    uint tr = gl_LocalInvocationID.x % 8u, tt = gl_LocalInvocationID.x / 8u;
    float acc[ROWS * TOKENS];
    [[unroll]] for (uint i = 0u; i < ROWS * TOKENS; i++) acc[i] = 0.0;
    load_ahead(row0, t0, 0u);
    for (uint c0 = 0u; c0 < p.cols; c0 += TILE_COLS) {
        store_ahead(row0, c0);
        barrier(); // the tiles are written
        if (c0 + TILE_COLS < p.cols) load_ahead(row0, t0, c0 + TILE_COLS);
        for (uint k = 0u; k < TILE_BLOCKS; k++) {
            ivec4 b0[TOKENS], b1[TOKENS];
            vec2 scales[TOKENS];
            [[unroll]] for (uint j = 0u; j < TOKENS; j++) {
                uint t = tt + 16u * j;
                b0[j] = ivec4(x_tile[t * PITCH + 2u * k]);
                b1[j] = ivec4(x_tile[t * PITCH + 2u * k + 1u]);
                scales[j] = x_tile_scales[t * TILE_BLOCKS + k];
            }
            [[unroll]] for (uint i = 0u; i < ROWS; i++) {
                uint r = tr + 8u * i;
                ivec4 a0 = ivec4(w_tile[r * PITCH + 2u * k]), a1 = ivec4(w_tile[r * PITCH + 2u * k + 1u]);
                vec2 dm = w_scales[r * TILE_BLOCKS + k];
                [[unroll]] for (uint j = 0u; j < TOKENS; j++) {
#ifdef HALF_BLOCKS
                    float sum = float(dot16(a0, b0[j])) * dm.x + float(dot16(a1, b1[j])) * dm.y;
                    acc[i * TOKENS + j] += sum * scales[j].x;
#else
                    acc[i * TOKENS + j] += float(dot16(a0, b0[j]) + dot16(a1, b1[j])) * (dm.x * scales[j].x);
#ifdef HAS_CONSTANT
                    acc[i * TOKENS + j] += dm.y * scales[j].y;
#endif
#endif
                }
            }
        }
        barrier(); // the tiles are read before the next ones overwrite them
    }
    [[unroll]] for (uint j = 0u; j < TOKENS; j++)
        [[unroll]] for (uint i = 0u; i < ROWS; i++)
            store_y(t0 + tt + 16u * j, row0 + tr + 8u * i, acc[i * TOKENS + j]);
}
