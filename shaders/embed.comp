#version 450
// embed: out[t, c] = scale * table[tokens[t], c]
//
//   units, meta    the embedding table, or one part of its rows (weights.glsl)
//   dst            (tokens, cols) f32
//
// One invocation decodes one unit of one token's row; workgroup y is the token.
// Tokens whose row lies in another part are left to that part's dispatch. With LANE_WORDS the
// table is laid out for the `addr` kernels (weights_addr.glsl).
// Reads one row of the table and writes 4 * cols bytes a token.
#extension GL_EXT_control_flow_attributes : require
#define STEP_BINDING 0
#include "step.glsl"

layout(local_size_x_id = 0) in;
#ifdef LANE_WORDS
layout(std430, binding = 1) readonly buffer Units { uint words[]; };
#else
layout(std430, binding = 1) readonly buffer Units { uvec4 units[]; };
#endif
layout(std430, binding = 2) readonly buffer Metas { uint meta[]; };
layout(std430, binding = 3) writeonly buffer Out { float dst[]; };
layout(push_constant) uniform Push {
    uint first_row; // of this part, in the whole table
    uint rows;      // of this part
    uint cols;
    uint group;
    float scale;
} p;

#ifdef LANE_WORDS
layout(constant_id = 1) const uint LANES = 8u;
uint lane; // whose words are read
uvec4 load_unit(uint i) { return uvec4(words[4u * i + lane], words[4u * i + LANES + lane], words[4u * i + 2u * LANES + lane], words[4u * i + 3u * LANES + lane]); }
uint load_meta_word(uint i) { return meta[i + lane]; }
#else
uvec4 load_unit(uint i) { return units[i]; }
uint load_meta_word(uint i) { return meta[i]; }
#endif
#include "weights.glsl"

void main() {
    uint t = gl_WorkGroupID.y;
    uint u = gl_GlobalInvocationID.x;
    uint nunits = (p.cols + UNIT_COLS - 1u) / UNIT_COLS;
    if (t >= step.count || u >= nunits) return;
    uint row = step.tokens[t].id - p.first_row; // wraps for rows of earlier parts
    if (row >= p.rows) return;
    uint group_row = row / p.group, in_group = row % p.group;
    Meta m;
#ifdef LANE_WORDS
    // The lane's r-th row: pairs of rows are a lane's, and pairs of rows of all lanes follow one another.
    uint pair = in_group / (2u * LANES) * (2u * LANES), odd = in_group % 2u;
    lane = in_group % (2u * LANES) / 2u;
    in_group = pair + odd * LANES;
#ifdef QUANTISED
#ifdef HALF_META
    uint record = pair + odd;
#else
    uint record = in_group;
#endif
    m = load_meta(group_record(group_row * row_records(p.cols) * p.group + record, u, p.group, LANES));
#endif
#elif defined(QUANTISED)
    m = load_meta(row_record(row, u, p.cols, p.group));
#endif
    float w[UNIT_COLS];
    decode_unit(load_unit((group_row * nunits + u) * p.group + in_group), m, w);
    [[unroll]] for (uint i = 0u; i < UNIT_COLS; i++) {
        uint c = u * UNIT_COLS + i;
        if (c < p.cols) dst[t * p.cols + c] = p.scale * w[i];
    }
}
