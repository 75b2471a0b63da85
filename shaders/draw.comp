#version 450
// draw: chooses a token for each row whose results are wanted, from its largest logits. The step stays as it is: the host
// makes the next one of what it finds in the log.
//
//   candidates  (rows, MAX_DRAW) pairs of value bits and id, the largest of each row first
//   draw        of each row how to choose, and a number in [0, 1)
//   log         (rows, MAX_DRAW + 1) pairs: the candidates and the choice
//
// As in advance.comp this is a guess at what the host, which sees the candidates, chooses in float64.
//
// One workgroup of 64 a row. Reads and writes 512 bytes a row.
#define STEP_BINDING 0
#include "step.glsl"
#include "draw.glsl"

layout(local_size_x = 64) in;
struct RowDraw {
    How how;
    float uniform_;
};
layout(std430, binding = 1) readonly buffer Candidates { uvec2 candidates[]; };
layout(std430, binding = 2) readonly buffer Draw { RowDraw rows[]; } draw;
layout(std430, binding = 3) writeonly buffer Log { uvec2 log_[]; };

void main() {
    uint lane = gl_LocalInvocationID.x, row = gl_WorkGroupID.x;
    if (row >= step.rows) return; // uniform over the workgroup
    uvec2 c = candidates[row * MAX_DRAW + lane];
    float largest = uintBitsToFloat(candidates[row * MAX_DRAW].x);
    log_[row * (MAX_DRAW + 1u) + lane] = c;
    ids[lane] = c.y;
    weight[lane] = exp((uintBitsToFloat(c.x) - largest) * draw.rows[row].how.inverse_temperature);
    barrier(); // every weight is written
    if (lane != 0u) return;
    uint at = drawn(draw.rows[row].how, MAX_DRAW, draw.rows[row].uniform_);
    log_[row * (MAX_DRAW + 1u) + MAX_DRAW] = uvec2(0u, ids[at]);
}
