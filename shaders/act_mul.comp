#version 450
// act_mul: y[t, i] = act(x[t, 2i]) * x[t, 2i + 1], or y[t, i] = act(x[t, i]) without GATED
// Shazeer 2020, arXiv:2002.05202; Hendrycks and Gimpel 2016, arXiv:1606.08415.
//
//   x  (tokens, 2 n) f32, gate and up interleaved, or (tokens, n)    y  (tokens, n) f32
//
// One invocation an output; workgroup y is the token. Reads 8 or 4 bytes and writes 4 an output.
#define STEP_BINDING 0
#include "step.glsl"

layout(local_size_x_id = 0) in;
layout(constant_id = 1) const uint ACTIVATION = 0u; // as pipeline.Activation
layout(constant_id = 2) const bool GATED = true;
layout(std430, binding = 1) readonly buffer X { float x[]; };
layout(std430, binding = 2) writeonly buffer Y { float y[]; };
layout(push_constant) uniform Push { uint n; } p;

#define SILU 0u
#define GELU 1u      // x * P(N(0, 1) < x)
#define GELU_TANH 2u // its approximation by tanh

// The error function by Abramowitz and Stegun 7.1.26; its error is at most 1.5e-7.
float erf(float v) {
    float a = abs(v);
    float t = 1.0 / (1.0 + 0.3275911 * a);
    float poly = t * (0.254829592 + t * (-0.284496736 + t * (1.421413741 + t * (-1.453152027 + t * 1.061405429))));
    float e = 1.0 - poly * exp(-a * a);
    return v < 0.0 ? -e : e;
}

float act(float v) {
    if (ACTIVATION == SILU) return v / (1.0 + exp(-v));
    if (ACTIVATION == GELU) return 0.5 * v * (1.0 + erf(v * 0.70710678));
    // tanh(u) as 1 - 2 / (exp(2u) + 1), which neither overflows nor loses sign at either end.
    float u = 0.79788456 * (v + 0.044715 * v * v * v);
    return v * (1.0 - 1.0 / (exp(2.0 * u) + 1.0));
}

void main() {
    uint t = gl_WorkGroupID.y, i = gl_GlobalInvocationID.x;
    if (t >= step.count || i >= p.n) return;
    uint at = t * p.n + i;
    y[at] = GATED ? act(x[2u * at]) * x[2u * at + 1u] : act(x[at]);
}
