#version 450
// embed: out[t, c] = scale * table[tokens[t], c]
//
//   units, meta    the embedding table, or one part of its rows (weights.glsl)
//   dst            (tokens, cols) f32
//
// One invocation decodes four neighbouring columns of one token's row, so that neighbouring ones
// load the same unit, or the next, and store side by side; workgroup y is the token.
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
layout(std430, binding = 3) writeonly buffer OutQuads { vec4 dst_quads[]; }; // where rows are whole quads
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
uint load_unit_word(uint i, uint j) { return words[4u * i + j * LANES + lane]; }
uvec4 load_unit(uint i) { return uvec4(load_unit_word(i, 0u), load_unit_word(i, 1u), load_unit_word(i, 2u), load_unit_word(i, 3u)); }
uint load_meta_word(uint i) { return meta[i + lane]; }
#else
uvec4 load_unit(uint i) { return units[i]; }
uint load_unit_word(uint i, uint j) { return units[i][j]; }
uint load_meta_word(uint i) { return meta[i]; }
#endif
#include "weights.glsl"

#define UNIT_QUADS (UNIT_COLS / 4u)

#ifdef QUANTISED
// The weights of quad k of the unit whose record is `at`; word k / FIELDS of the unit is `word`.
vec4 decode_quad(uint word, Record at, uint k) {
    uint v[NEEDED]; // of high bits only the quad's
    [[unroll]] for (uint i = 0u; i < HEAD_NEEDED; i++) v[i] = load_meta_word(at.first + needed(i, at.part) * at.step);
    uint first = 4u * (k % FIELDS); // field of the word
    uvec4 q = (uvec4(word >> FIELD_BITS * first) >> uvec4(0u, FIELD_BITS, 2u * FIELD_BITS, 3u * FIELD_BITS)) & ((1u << FIELD_BITS) - 1u);
#ifdef HAS_HIGH_BITS
    uint bit = high_at(k / FIELDS, 0u);
    uint high = load_meta_word(at.first + needed(HEAD_NEEDED + bit / 8u, at.part) * at.step);
    [[unroll]] for (uint i = 0u; i < 4u; i++) {
        uint byte = (first + i) / FIELDS, field = (first + i) % FIELDS;
        q[i] |= ((high >> (8u * byte + bit % 8u + HIGH_BITS * field)) & ((1u << HIGH_BITS) - 1u)) << FIELD_BITS;
    }
#endif
#ifdef LEVELS
    vec4 numbers = vec4(level(q.x), level(q.y), level(q.z), level(q.w));
#else
    vec4 numbers = vec4(ivec4(q));
#endif
    return weights(numbers, scale_constant(v, at.part, 4u * k / SCALE_COLS));
}
#endif

void main() {
    uint t = gl_WorkGroupID.y;
    uint c = 4u * gl_GlobalInvocationID.x;
    if (t >= step.count || c >= p.cols) return;
    uint row = step.tokens[t].id - p.first_row; // wraps for rows of earlier parts
    if (row >= p.rows) return;
    uint u = c / UNIT_COLS, k = gl_GlobalInvocationID.x % UNIT_QUADS;
    uint group_row = row / p.group, in_group = row % p.group;
#ifdef LANE_WORDS
    // The lane's r-th row: pairs of rows are a lane's, and pairs of rows of all lanes follow one another.
    uint pair = in_group / (2u * LANES) * (2u * LANES), odd = in_group % 2u;
    lane = in_group % (2u * LANES) / 2u;
    in_group = pair + odd * LANES;
#endif
    uint unit = (group_row * ((p.cols + UNIT_COLS - 1u) / UNIT_COLS) + u) * p.group + in_group;
#ifdef QUANTISED
#ifdef LANE_WORDS
#ifdef HALF_META
    uint record = pair + odd;
#else
    uint record = in_group;
#endif
    Record at = group_record(group_row * row_records(p.cols) * p.group + record, u, p.group, LANES);
#else
    Record at = row_record(row, u, p.cols, p.group);
#endif
    vec4 w = decode_quad(load_unit_word(unit, k / FIELDS), at, k);
#else
    vec4 w = plain_quad(load_unit(unit), k);
#endif
    w *= p.scale;
    uint to = t * p.cols + c;
    if (p.cols % 4u == 0u) {
        dst_quads[to / 4u] = w;
        return;
    }
    [[unroll]] for (uint i = 0u; i < 4u; i++)
        if (c + i < p.cols) dst[to + i] = w[i];
}
