#version 450
// matvec, barrier-free: as matvec.comp with what may be fused to it; one subgroup of eight lanes owns 8 * LANE_ROWS
// rows, LANE_ROWS adjacent ones a lane, and reads them as one stream (group is a
// multiple of 8 * LANE_ROWS). cols is a multiple of 4 (32 for quantised types).
//
// Reads each weight once; x once a workgroup. Measured forms: docs/design/0001.
#extension GL_EXT_control_flow_attributes : require
#extension GL_EXT_samplerless_texture_functions : require
#include "lane8.glsl"

layout(local_size_x = 8) in;
layout(constant_id = 0) const uint LANE_ROWS = 4u;
layout(constant_id = 1) const bool HAS_BIAS = false;
layout(constant_id = 2) const bool ACCUMULATE = false;
layout(constant_id = 3) const bool NORM = false;
layout(constant_id = 4) const bool ACTIVATE = false;
layout(constant_id = 5) const bool GATED = false;
layout(constant_id = 6) const uint ACTIVATION = 0u;
#define UNITS_BINDING 0
#define META_BINDING 1
#include "weights_row.glsl"
layout(binding = 2) uniform textureBuffer x;
layout(binding = 3) uniform textureBuffer gain;
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

float acc[LANE_ROWS];
float squares = 0.0; // of this lane's columns of x

// Adds block b's products; nunits is the number of units the block has.
void block(uint b, uint nunits, Rows at, vec4 to_lane) {
    uint c4 = b * LANES + gl_SubgroupInvocationID;
    bool inside = c4 * 4u < p.cols;
    vec4 xv = inside ? texelFetch(x, int(c4)) : vec4(0.0);
    if (NORM) {
        squares += dot(xv, xv);
        xv *= inside ? texelFetch(gain, int(c4)) : vec4(0.0);
    }
#ifdef MASKED
    vec2 dm[LANE_ROWS];
    load_block_scales(at, b, p.group, dm);
    float xsum = lanes_sum(xv.x + xv.y + xv.z + xv.w);
    float dots[LANE_ROWS];
    [[unroll]] for (uint r = 0u; r < LANE_ROWS; r++) dots[r] = 0.0;
    xv *= to_lane;
#else
#define dots acc
#endif
    [[unroll]] for (uint i = 0u; i < nunits; i++) {
        vec4 xs[UNIT_QUADS];
        [[unroll]] for (uint j = 0u; j < UNIT_QUADS; j++) xs[j] = subgroupShuffle(xv, i * UNIT_QUADS + j);
        [[unroll]] for (uint r = 0u; r < LANE_ROWS; r++) {
            uint u = b * BLOCK_UNITS + i;
#if defined(QUANTISED) && !defined(MASKED)
            vec4 w[UNIT_QUADS];
            decode_quads(at, u, r, p.group, w);
            [[unroll]] for (uint j = 0u; j < UNIT_QUADS; j++) dots[r] += dot(w[j], xs[j]);
#else
            uvec4 q = load_unit(at.unit + u * p.group + r);
            [[unroll]] for (uint j = 0u; j < UNIT_QUADS; j++) dots[r] += dot(quad(q, NO_HIGH, j), xs[j]);
#endif
        }
    }
#ifdef MASKED
    [[unroll]] for (uint r = 0u; r < LANE_ROWS; r++) acc[r] += dm[r].x * dots[r] + dm[r].y * xsum;
#endif
}

void main() {
    uint tile = gl_WorkGroupID.y * gl_NumWorkGroups.x + gl_WorkGroupID.x;
    uint row = (tile * LANES + gl_SubgroupInvocationID) * LANE_ROWS;
    if (tile * LANES * LANE_ROWS >= p.rows) return; // uniform
    Rows at = lane_rows(row, p.rows, p.cols, p.group);
    vec4 to_lane = field_scale(gl_SubgroupInvocationID);
    [[unroll]] for (uint r = 0u; r < LANE_ROWS; r++) acc[r] = 0.0;

    uint blocks = p.cols / BLOCK_COLS;
    for (uint b = 0u; b < blocks; b++) block(b, BLOCK_UNITS, at, to_lane);
#ifndef QUANTISED
    uint rest = (p.cols % BLOCK_COLS + UNIT_COLS - 1u) / UNIT_COLS;
    if (rest > 0u) block(blocks, rest, at, to_lane);
#endif

    // The norm scales every product alike, so it is applied to the sums.
    float scale = NORM ? inversesqrt(lanes_sum(squares) / float(p.cols) + p.eps) : 1.0;
    [[unroll]] for (uint r = 0u; r < LANE_ROWS; r++) {
        if (row + r >= p.rows) break;
        acc[r] *= scale;
        if (HAS_BIAS) acc[r] += bias[p.bias_first + row + r];
        if (ACTIVATE && (!GATED || r % 2u == 0u)) acc[r] = activate(acc[r]);
    }
    if (GATED) {
        [[unroll]] for (uint r = 0u; r < LANE_ROWS; r += 2u) {
            if (row + r >= p.rows) break;
            y[(p.y_first + row + r) / 2u] = acc[r] * acc[r + 1u];
        }
        return;
    }
    [[unroll]] for (uint r = 0u; r < LANE_ROWS; r++) {
        if (row + r >= p.rows) break;
        y[p.y_first + row + r] = ACCUMULATE ? y[p.y_first + row + r] + acc[r] : acc[r];
    }
}
