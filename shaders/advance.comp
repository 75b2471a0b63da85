#version 450
// advance: chooses the token that follows and moves the step on to it, so that the plan can be
// run again with no word from the host.
//
//   candidates  n pairs of value bits and id: of argmax the best of each chunk in any order,
//               with DRAW the k largest of all, largest first
//   draw        how to choose with DRAW, and a number in [0, 1) for each entry of the log
//   log         (LOG, k) pairs: what each run found, and with DRAW one pair more, the choice
//
// Without DRAW the choice is the largest, the lowest id among equals, and k is 1. With DRAW it
// is drawn (draw.glsl). This is float32 arithmetic and a guess at what the host, which sees the
// candidates, chooses in float64: it decides what is evaluated next, never what is answered.
//
// One workgroup of 64. An id that is none counts as 0: the host finds it in the log.
#define STEP_BINDING 0
#define STEP_ACCESS
#include "step.glsl"
#include "best.glsl"
#include "draw.glsl" // MAX_DRAW is k with DRAW

#define LOG 32u // entries: pipeline.MaxBurst

layout(local_size_x = 64) in;
layout(constant_id = 0) const bool DRAW = false;
layout(std430, binding = 1) readonly buffer Candidates { uvec2 candidates[]; };
layout(std430, binding = 2) readonly buffer Draw {
    How how;
    float uniform_[];
} draw;
layout(std430, binding = 3) writeonly buffer Log { uvec2 log_[]; };
layout(push_constant) uniform Push { uint n; } p;

// largest leaves the best candidate in weight[0] and ids[0].
void largest(uint lane) {
    float v = MINUS_INF;
    uint id = NONE;
    for (uint i = lane; i < p.n; i += 64u) {
        uvec2 c = candidates[i];
        if (better(uintBitsToFloat(c.x), c.y, v, id)) { v = uintBitsToFloat(c.x); id = c.y; }
    }
    weight[lane] = v;
    ids[lane] = id;
    barrier(); // every lane's best is written
    for (uint s = 32u; s > 0u; s >>= 1u) {
        if (lane < s && better(weight[lane + s], ids[lane + s], weight[lane], ids[lane])) {
            weight[lane] = weight[lane + s];
            ids[lane] = ids[lane + s];
        }
        barrier(); // level s is complete before level s/2 reads it
    }
}

void main() {
    uint lane = gl_LocalInvocationID.x;
    uint entry = step.runs % LOG;
    if (DRAW) {
        if (lane < p.n) {
            uvec2 c = candidates[lane];
            log_[entry * (MAX_DRAW + 1u) + lane] = c;
            ids[lane] = c.y;
            weight[lane] = exp((uintBitsToFloat(c.x) - uintBitsToFloat(candidates[0].x)) * draw.how.inverse_temperature);
        }
        barrier(); // every weight is written
    } else {
        largest(lane);
    }
    if (lane != 0u) return;
    uint id = ids[0];
    if (DRAW) {
        id = ids[drawn(draw.how, p.n, draw.uniform_[entry])];
        log_[entry * (MAX_DRAW + 1u) + MAX_DRAW] = uvec2(0u, id);
    } else {
        log_[entry] = uvec2(floatBitsToUint(weight[0]), id);
    }
    step.tokens[0].id = id == NONE ? 0u : id;
    step.sequence[0].position++;
    step.runs++;
}
