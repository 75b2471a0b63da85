#version 450
// add_places: y[t, c] += table[place of t, c]: learned positions (Gehring et al. 2017, arXiv:1705.03122, section 3.1)
//
//   table  (places, cols) f32    y  (tokens, cols) f32
//
// A token's place is counted from the first token of its sequence, without the tokens of other endings (pages.glsl).
// One invocation an element; workgroup y is the token. Reads 8 bytes and writes 4 an element.
#define STEP_BINDING 0
#include "step.glsl"

layout(local_size_x_id = 0) in;
layout(std430, binding = 1) readonly buffer Table { float table[]; };
layout(std430, binding = 2) buffer Y { float y[]; };
layout(push_constant) uniform Push { uint cols; } p;

void main() {
    uint t = gl_WorkGroupID.y, c = gl_GlobalInvocationID.x;
    if (t >= step.count || c >= p.cols) return;
    uint s = 0u;
    while (s + 1u < step.sequences && t >= step.sequence[s + 1u].first) s++;
    uint place = step.sequence[s].position + t - step.sequence[s].first - step.tokens[t].start;
    y[t * p.cols + c] += table[place * p.cols + c];
}
