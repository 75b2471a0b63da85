#version 450
// matmul, barrier-free: as matmul.comp, with what may be fused to it (matvec.comp); one subgroup of eight lanes
// computes a tile of 8 * LANE_ROWS rows by TILE_TOKENS tokens, LANE_ROWS adjacent rows a lane. Each block of
// weights is decoded once a tile; cols is a multiple of 4 (32 for quantised types). With NORM each workgroup reads
// x once more, and computes what rms_norm_row.comp does to the bit.
// Token tiles are on x: CPU drivers give each thread a run of consecutive workgroups, which
// then share rows, and tiles without tokens are spread over all threads.
//
// Reads the weights once for every TILE_TOKENS tokens, x once for every 8 * LANE_ROWS rows.
#extension GL_EXT_control_flow_attributes : require
#extension GL_EXT_samplerless_texture_functions : require
#define STEP_BINDING 0
#include "step.glsl"
#include "lane8.glsl"

layout(local_size_x = 8) in;
layout(constant_id = 0) const uint LANE_ROWS = 2u;
layout(constant_id = 1) const uint TILE_TOKENS = 8u;
layout(constant_id = 2) const bool HAS_BIAS = false;
layout(constant_id = 3) const bool ACCUMULATE = false;
layout(constant_id = 4) const bool NORM = false;
layout(constant_id = 5) const bool ACTIVATE = false;
layout(constant_id = 6) const bool GATED = false;
layout(constant_id = 7) const uint ACTIVATION = 0u;
#define UNITS_BINDING 1
#define META_BINDING 2
#include "weights_row.glsl"
layout(binding = 3) uniform textureBuffer x;
layout(std430, binding = 4) readonly buffer Bias { float bias[]; };
layout(std430, binding = 5) buffer Y { float y[]; };
layout(binding = 6) uniform textureBuffer gain;
layout(push_constant) uniform Push {
    uint rows;
    uint cols;
    uint group;
    uint y_first;
    uint bias_first;
    uint y_stride;
    float eps;
} p;
#include "activation.glsl"

float acc[LANE_ROWS * TILE_TOKENS];
float scales[TILE_TOKENS]; // of the norm

// Columns 4 c4 to 4 c4 + 3 of token t of those from t0 on; of tokens that the step lacks those of its last.
vec4 load_x(uint t0, uint t, uint c4) { return texelFetch(x, int(min(t0 + t, step.count - 1u) * (p.cols / 4u) + c4)); }

// The norm's weights of these columns, and the columns with the norm.
vec4 load_gain(uint c4) { return NORM ? texelFetch(gain, int(c4)) : vec4(1.0); }
vec4 normed(vec4 v, uint t, vec4 gains) { return NORM ? v * scales[t] * gains : v; }

// Adds block b's products for tokens t0 on.
void block(uint b, uint t0, Rows at) {
#ifdef MASKED
    vec2 dm[LANE_ROWS];
    load_block_scales(at, b, p.group, dm);
#endif
    vec4 w[LANE_ROWS * LANES];
    [[unroll]] for (uint i = 0u; i < BLOCK_UNITS; i++)
        [[unroll]] for (uint r = 0u; r < LANE_ROWS; r++) {
            uint u = b * BLOCK_UNITS + i;
#if defined(QUANTISED) && !defined(MASKED)
            vec4 unit[UNIT_QUADS];
            decode_quads(at, u, r, p.group, unit);
            [[unroll]] for (uint j = 0u; j < UNIT_QUADS; j++) w[r * LANES + i * UNIT_QUADS + j] = unit[j];
#else
            uvec4 q = load_unit(at.unit + u * p.group + r);
            [[unroll]] for (uint j = 0u; j < UNIT_QUADS; j++) {
                vec4 v = quad(q, NO_HIGH, j);
#ifdef MASKED
                v = v * (field_scale(j) * dm[r].x) + dm[r].y;
#endif
                w[r * LANES + i * UNIT_QUADS + j] = v;
            }
#endif
        }
    uint c4 = b * LANES + gl_SubgroupInvocationID;
    vec4 gains = load_gain(c4);
    [[unroll]] for (uint t = 0u; t < TILE_TOKENS; t++) {
        vec4 xv = normed(load_x(t0, t, c4), t, gains);
        [[unroll]] for (uint j = 0u; j < LANES; j++) {
            vec4 xs = subgroupShuffle(xv, j);
            // One product at a time, not dot(): LLVM spills half as many partial sums.
            [[unroll]] for (uint i = 0u; i < 4u; i++)
                [[unroll]] for (uint r = 0u; r < LANE_ROWS; r++)
                    acc[r * TILE_TOKENS + t] += w[r * LANES + j][i] * xs[i];
        }
    }
}

#ifndef QUANTISED
// Adds unit u's products for tokens t0 on: of the last columns, which are less than a block and of which the
// unit may have only some. In a loop, where a block whose number of units is variable would
// be one more copy of the above with an array indexed by variables: LLVM takes seconds for that.
void unit(uint u, uint t0, Rows at) {
    uvec4 q[LANE_ROWS];
    [[unroll]] for (uint r = 0u; r < LANE_ROWS; r++) q[r] = load_unit(at.unit + u * p.group + r);
    [[unroll]] for (uint j = 0u; j < UNIT_QUADS; j++) {
        uint c4 = u * UNIT_QUADS + j;
        if (c4 * 4u >= p.cols) break;
        vec4 w[LANE_ROWS];
        [[unroll]] for (uint r = 0u; r < LANE_ROWS; r++) w[r] = quad(q[r], NO_HIGH, j);
        vec4 gains = load_gain(c4);
        [[unroll]] for (uint t = 0u; t < TILE_TOKENS; t++) {
            vec4 xs = normed(load_x(t0, t, c4), t, gains);
            [[unroll]] for (uint i = 0u; i < 4u; i++)
                [[unroll]] for (uint r = 0u; r < LANE_ROWS; r++) acc[r * TILE_TOKENS + t] += w[r][i] * xs[i];
        }
    }
}
#endif

// Finds the scales of the tokens from t0 on.
void measure(uint t0) {
    [[unroll]] for (uint t = 0u; t < TILE_TOKENS; t++) scales[t] = 0.0;
    for (uint i = gl_SubgroupInvocationID; i < p.cols / 4u; i += LANES)
        [[unroll]] for (uint t = 0u; t < TILE_TOKENS; t++) {
            vec4 v = load_x(t0, t, i);
            scales[t] += dot(v, v);
        }
    [[unroll]] for (uint t = 0u; t < TILE_TOKENS; t++) scales[t] = inversesqrt(lanes_sum(scales[t]) / float(p.cols) + p.eps);
}

// The lane's product of its row r, which is row `row`, with token t.
float product(uint row, uint r, uint t) {
    float sum = acc[r * TILE_TOKENS + t];
    return HAS_BIAS ? sum + bias[p.bias_first + row] : sum;
}

void main() {
    uint row = (gl_WorkGroupID.y * LANES + gl_SubgroupInvocationID) * LANE_ROWS;
    uint t0 = gl_WorkGroupID.x * TILE_TOKENS;
    if (t0 >= step.count) return; // uniform
    Rows at = lane_rows(row, p.rows, p.cols, p.group);
    [[unroll]] for (uint i = 0u; i < LANE_ROWS * TILE_TOKENS; i++) acc[i] = 0.0;

    if (NORM) measure(t0);
    uint blocks = p.cols / BLOCK_COLS;
    for (uint b = 0u; b < blocks; b++) block(b, t0, at);
#ifndef QUANTISED
    for (uint u = blocks * BLOCK_UNITS; u * UNIT_COLS < p.cols; u++) unit(u, t0, at);
#endif

    [[unroll]] for (uint t = 0u; t < TILE_TOKENS; t++) {
        if (t0 + t >= step.count) break;
        [[unroll]] for (uint r = 0u; r < LANE_ROWS; r += GATED ? 2u : 1u) {
            if (row + r >= p.rows) break;
            float result = product(row + r, r, t);
            if (ACTIVATE) result = activate(result);
            if (GATED) result *= product(row + r + 1u, r + 1u, t);
            uint at = (t0 + t) * p.y_stride + (p.y_first + row + r) / (GATED ? 2u : 1u);
            if (ACCUMULATE) result += y[at];
            y[at] = result;
        }
    }
}
