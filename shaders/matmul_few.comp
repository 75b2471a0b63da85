#version 450
// matmul of a few tokens: y = x times the transpose of w (linear.glsl), as matvec.comp does it,
// for TOKENS tokens at a time.
//
// One workgroup takes four adjacent rows; each invocation strides over their parts and keeps a
// sum for every row and token. The partial sums meet in shared memory (16 * WORKGROUP * TOKENS
// bytes, 8192 for 64 and 8). Reads each weight once for every TOKENS tokens, x once for every
// four rows.
#extension GL_EXT_control_flow_attributes : require
#define STEP_BINDING 0
#include "step.glsl"

layout(local_size_x_id = 3) in;
layout(constant_id = 3) const uint WORKGROUP = 64u;
layout(constant_id = 4) const uint TOKENS = 4u; // 4 * TOKENS is at most WORKGROUP
#include "linear.glsl"

#define ROWS 4u
shared float partial[WORKGROUP * ROWS * TOKENS];

void main() {
    // Rows are spread over x and y because x alone is limited to 65535.
    uint row0 = (gl_WorkGroupID.y * gl_NumWorkGroups.x + gl_WorkGroupID.x) * ROWS, t0 = gl_WorkGroupID.z * TOKENS;
    if (row0 >= p.rows || t0 >= step.count) return; // uniform over the workgroup
    float acc[ROWS * TOKENS];
    [[unroll]] for (uint i = 0u; i < ROWS * TOKENS; i++) acc[i] = 0.0;
    for (uint part = gl_LocalInvocationID.x; part < row_parts(); part += WORKGROUP) {
        vec4 w[ROWS * PART_QUADS];
        [[unroll]] for (uint r = 0u; r < ROWS; r++) {
            vec4 v[PART_QUADS];
            load_part(min(row0 + r, p.rows - 1u), part, v);
            [[unroll]] for (uint i = 0u; i < PART_QUADS; i++) w[r * PART_QUADS + i] = v[i];
        }
        [[unroll]] for (uint t = 0u; t < TOKENS; t++)
            [[unroll]] for (uint i = 0u; i < PART_QUADS; i++) {
                vec4 b = load_x(t0 + t, part * PART_COLS + 4u * i);
                [[unroll]] for (uint r = 0u; r < ROWS; r++) acc[t * ROWS + r] += dot(w[r * PART_QUADS + i], b);
            }
    }
    [[unroll]] for (uint i = 0u; i < ROWS * TOKENS; i++) partial[i * WORKGROUP + gl_LocalInvocationID.x] = acc[i];
    barrier(); // the partial sums are written
    uint own = gl_LocalInvocationID.x;
    if (own >= ROWS * TOKENS) return;
    float sum = 0.0;
    // Each invocation starts at another place, so that they read from different banks.
    for (uint i = 0u; i < WORKGROUP; i++) sum += partial[own * WORKGROUP + (i + own) % WORKGROUP];
    store_y(t0 + own / ROWS, row0 + own % ROWS, sum);
}
