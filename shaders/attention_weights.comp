#version 450
// attention_weights: what attention weighs the values with that one of the step's single tokens sees, for one head or as the
// mean over all heads:
//
//   w[j] = mean over h of exp(s[h, j] - m[h]) / sum over j of exp(s[h, j] - m[h]),  m[h] = max over j of s[h, j]
//
// where s are the scores of attention_decode.comp. It takes two dispatches. The first, attention_totals (TOTALS), leaves the
// maximum and the sum of each head: a workgroup a head, an invocation every WORKGROUP-th key. The second leaves the weights:
// an invocation a key. It computes scores again, so that no memory for those of all heads is needed.
//
//   how     which of the step's sequences, in their order, and which head; ALL_HEADS stands for the mean
//   q       (tokens, heads, head_dim) f32, rotated
//   keys    (pages, kv_heads, PAGE, head_dim), as cache.glsl stores them
//   slopes  (heads) f32, of ALiBi
//   totals  (heads, 2) f32: m and the sum; of one head, only its row is written and read
//   dst     (positions) f32, 0 for keys that the token does not see
//
// Shared memory: 4 * WORKGROUP bytes for TOTALS. Each dispatch reads the token's live keys once for each head.
#define STEP_BINDING 0
#include "step.glsl"
#define ALL_HEADS 0xffffffffu // as Capture.Choose writes it

layout(local_size_x_id = 0) in;
layout(constant_id = 0) const uint WORKGROUP = 64u;
layout(std430, binding = 1) readonly buffer How {
    uint sequence;
    uint head;
    uint positions; // of dst
} how;
layout(std430, binding = 2) readonly buffer Q { vec4 q[]; };
#define SLOPES_BINDING 4
#include "score.glsl"
#include "cache.glsl"
layout(std430, binding = 3) readonly buffer Keys { CACHE_QUAD keys[]; };
#define PAGES_BINDING 5
#include "pages.glsl"
#ifdef TOTALS
layout(std430, binding = 6) writeonly buffer Totals { vec2 totals[]; };
#include "reduce.glsl"
#else
layout(std430, binding = 6) readonly buffer Totals { vec2 totals[]; };
layout(std430, binding = 7) writeonly buffer Weights { float dst[]; };
#endif

float score(uint h, uint j) {
    uint quads = p.head_dim / 4u, row = cache_row(h / (p.heads / p.kv_heads), j), base = (first_token * p.heads + h) * quads;
    float s = 0.0;
    for (uint n = 0u; n < quads; n++) s += dot(KEY_QUAD(row, n), p.scale * q[base + n]);
    return finish_score(s, head_slope(h), int(j) - int(position));
}

void main() {
    if (how.sequence >= step.singles) return; // uniform
    set_sequence(how.sequence);
    uint start = first_key(position + 1u);
#ifdef TOTALS
    uint h = gl_WorkGroupID.x;
    if (how.head != ALL_HEADS && how.head != h) return; // uniform
    float most = -3.0e38; // below every score and finite
    for (uint j = start + gl_LocalInvocationID.x; j <= position; j += WORKGROUP) most = max(most, score(h, j));
    most = workgroup_max(most);
    float sum = 0.0;
    for (uint j = start + gl_LocalInvocationID.x; j <= position; j += WORKGROUP) sum += exp(score(h, j) - most);
    sum = workgroup_sum(sum);
    if (gl_LocalInvocationID.x == 0u) totals[h] = vec2(most, sum);
#else
    uint j = gl_GlobalInvocationID.x;
    if (j >= how.positions) return;
    float w = 0.0;
    if (j >= start && j <= position) {
        uint first = how.head == ALL_HEADS ? 0u : how.head, end = how.head == ALL_HEADS ? p.heads : how.head + 1u;
        for (uint h = first; h < end; h++) w += exp(score(h, j) - totals[h].x) / totals[h].y;
        w /= float(end - first);
    }
    dst[j] = w;
#endif
}
