#version 450
// matmul of a few tokens: y = x times the transpose of w (linear.glsl), as matvec_sg.comp does it,
// for TOKENS tokens at a time.
//
// A workgroup is SUBGROUPS subgroups of LANES lanes, and each takes ROWS adjacent rows and keeps a sum
// for each of them and each token. 16 columns a lane go by at a time: a lane decodes its weights of every
// row and multiplies them with each token's x, which is in shared memory, quads of a lane STRIDE
// apart so that neighbouring lanes read from neighbouring banks. What comes next is loaded to registers meanwhile.
// Shared memory: 64 * TOKENS * STRIDE bytes, 17408 for 8 tokens, 32 lanes and quantised weights.
// Reads each weight once for every TOKENS tokens, x once for every SUBGROUPS * ROWS rows. cols is a multiple of 4, and rows are not interleaved (group = 1).
#extension GL_EXT_control_flow_attributes : require
#extension GL_KHR_shader_subgroup_basic : require
#extension GL_KHR_shader_subgroup_arithmetic : require
#define STEP_BINDING 0
#include "step.glsl"

layout(local_size_x_id = 3) in;
layout(constant_id = 3) const uint WORKGROUP = 256u; // SUBGROUPS * LANES
layout(constant_id = 4) const uint TOKENS = 4u;      // a power of two, at most SUBGROUPS
layout(constant_id = 5) const bool ACTIVATE = false; // as matvec.comp has it
layout(constant_id = 6) const bool GATED = false;
layout(constant_id = 7) const uint ACTIVATION = 0u;
#define META_QUADS
#include "linear.glsl"
#include "activation.glsl"

#define ROWS ROW_QUAD
#define SUBGROUPS 8u // kernels.fewSubgroups
#define LANE_QUADS 4u
#define LANE_PARTS (LANE_QUADS / PART_QUADS)
const uint LANES = WORKGROUP / SUBGROUPS;
const uint CHUNK_QUADS = LANES * LANE_QUADS;
const uint STAGED = (CHUNK_QUADS * TOKENS + WORKGROUP - 1u) / WORKGROUP;
#define STRIDE (LANES + 8u / PART_QUADS) // eight lanes store quads of 8 / PART_QUADS parts, which go to different banks
shared vec4 x_tile[TOKENS * LANE_QUADS * STRIDE];

vec4 staged[STAGED];

// Loads this invocation's quads of a chunk of x: beyond the last token or column those of the last,
// which go into no sum that is stored, or are multiplied by weights of zero.
void load_chunk(uint t0, uint chunk) {
    [[unroll]] for (uint i = 0u; i < STAGED; i++) {
        uint n = i * WORKGROUP + gl_LocalInvocationID.x;
        uint t = min(t0 + n / CHUNK_QUADS, step.count - 1u);
        staged[i] = x_quads[t * (p.cols / 4u) + min(chunk * CHUNK_QUADS + n % CHUNK_QUADS, p.cols / 4u - 1u)];
    }
}

void store_chunk() {
    [[unroll]] for (uint i = 0u; i < STAGED; i++) {
        uint n = i * WORKGROUP + gl_LocalInvocationID.x, quad = n % CHUNK_QUADS, part = quad / PART_QUADS;
        if (n < CHUNK_QUADS * TOKENS)
            x_tile[(n / CHUNK_QUADS * LANE_QUADS + part / LANES * PART_QUADS + quad % PART_QUADS) * STRIDE + part % LANES] = staged[i];
    }
}

// Stores the activation of the product of row and token, if there are such; with GATED, of even rows, times the product of
// the next row.
void store_active(uint t, uint row, float gate, float up) {
    if (row >= p.rows || t >= step.count || GATED && row % 2u == 1u) return;
    if (HAS_BIAS) gate += bias[p.bias_first + row];
    gate = activate(gate);
    if (GATED) gate *= HAS_BIAS ? up + bias[p.bias_first + row + 1u] : up;
    y[t * p.y_stride + (p.y_first + row) / (GATED ? 2u : 1u)] = gate;
}

void main() {
    // Rows are spread over x and y because x alone is limited to 65535.
    uint first = (gl_WorkGroupID.y * gl_NumWorkGroups.x + gl_WorkGroupID.x) * (SUBGROUPS * ROWS), t0 = gl_WorkGroupID.z * TOKENS;
    if (first >= p.rows || t0 >= step.count) return; // uniform over the workgroup
    uint lane = gl_SubgroupInvocationID, row0 = first + gl_SubgroupID * ROWS;
    uint row = min(row0, (p.rows - 1u) / ROWS * ROWS); // of a subgroup beyond the last row, the last four
    float acc[ROWS * TOKENS];
    [[unroll]] for (uint i = 0u; i < ROWS * TOKENS; i++) acc[i] = 0.0;
    uint chunks = (p.cols / 4u + CHUNK_QUADS - 1u) / CHUNK_QUADS;
    load_chunk(t0, 0u);
    for (uint chunk = 0u; chunk < chunks; chunk++) {
        store_chunk();
        barrier(); // the chunk is there
        if (chunk + 1u < chunks) load_chunk(t0, chunk + 1u);
        [[unroll]] for (uint n = 0u; n < LANE_PARTS; n++) {
            uint part = (chunk * LANE_PARTS + n) * LANES + lane, inside = min(part, row_parts() - 1u);
            uvec4 units[ROWS];
            [[unroll]] for (uint r = 0u; r < ROWS; r++) units[r] = part_unit(min(row0 + r, p.rows - 1u), inside);
#ifdef QUANTISED
            Record at = row_record(row, inside / UNIT_PARTS, p.cols, 1u);
            uvec4 words[NEEDED];
            load_meta_quads(at, words);
#endif
            vec4 w[ROWS * PART_QUADS];
            [[unroll]] for (uint r = 0u; r < ROWS; r++) {
                Meta m;
#ifdef QUANTISED
                m = quad_meta(words, r, at.part);
#endif
                vec4 v[PART_QUADS];
                decode_part(units[r], m, inside, v);
                [[unroll]] for (uint i = 0u; i < PART_QUADS; i++) w[r * PART_QUADS + i] = part < row_parts() ? v[i] : vec4(0.0);
            }
            [[unroll]] for (uint t = 0u; t < TOKENS; t++)
                [[unroll]] for (uint i = 0u; i < PART_QUADS; i++) {
                    vec4 b = x_tile[(t * LANE_QUADS + n * PART_QUADS + i) * STRIDE + lane];
                    [[unroll]] for (uint r = 0u; r < ROWS; r++) acc[t * ROWS + r] += dot(w[r * PART_QUADS + i], b);
                }
        }
        barrier(); // the chunk has been read before the next one overwrites it
    }
    // Each lane keeps one sum of LANES and stores it with the others. Of gate and up, which follow one another, the lane of
    // the gate has both.
    [[unroll]] for (uint i = 0u; i < ROWS * TOKENS; i += LANES) {
        float mine = 0.0, up = 0.0;
        [[unroll]] for (uint j = 0u; j < min(LANES, ROWS * TOKENS - i); j++) {
            float sum = subgroupAdd(acc[i + j]);
            mine = lane == j ? sum : mine;
            if (GATED) up = lane + 1u == j ? sum : up;
        }
        uint n = i + lane, t = t0 + n / ROWS, row = row0 + n % ROWS;
        if (n >= ROWS * TOKENS) continue;
        if (ACTIVATE) store_active(t, row, mine, up);
        else store_y(t, row, mine);
    }
}
