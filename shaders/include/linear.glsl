// What the kernels of a product with several tokens share: operands, and the last step. The
// includer has step.glsl.
//
//   y[t, r] = sum_c w[r, c] * x[t, c] (+ bias[r]) (+ y[t, r])
//
//   units, meta    w, (rows, cols), or one part of its rows (weights.glsl)
//   x (tokens, cols) f32, or with X_BLOCKS as quantize_acts.comp leaves it, with X_HALVES as half_acts.comp does
//   bias (rows) f32
//   y (tokens, y_stride) f32, written from column y_first
//
// With X_HALVES the includer multiplies by w / 2^w_exponent, which float16 holds: the largest magnitude of
// w is less than 2^(w_exponent + 15).
layout(constant_id = 0) const bool HAS_BIAS = false;
layout(constant_id = 1) const bool ACCUMULATE = false;
layout(constant_id = 2) const uint GROUP = 1u; // a constant, because a GPU has no instruction that divides integers
layout(std430, binding = 1) readonly buffer Units { uvec4 units[]; };
#ifdef META_QUADS
layout(std430, binding = 2) readonly buffer Metas { uvec4 meta[]; };
#else
layout(std430, binding = 2) readonly buffer Metas { uint meta[]; };
#endif
#ifdef X_BLOCKS
layout(std430, binding = 3) readonly buffer X { uvec4 x[]; };         // sixteen columns each
layout(std430, binding = 6) readonly buffer XScales { vec2 x_scales[]; }; // of 32 columns: d, d times the sum of integers
#elif defined(X_HALVES)
layout(std430, binding = 3) readonly buffer X { uvec2 x_halves[]; };      // four columns each
layout(std430, binding = 3) readonly buffer XOctets { uvec4 x_octets[]; }; // eight, where rows are whole octets
layout(std430, binding = 6) readonly buffer XExponents { int x_exponents[]; }; // of each token
#else
layout(std430, binding = 3) readonly buffer X { float x[]; };
layout(std430, binding = 3) readonly buffer XQuads { vec4 x_quads[]; };
#endif
layout(std430, binding = 4) readonly buffer Bias { float bias[]; };
layout(std430, binding = 5) buffer Y { float y[]; };
layout(push_constant) uniform Push {
    uint rows;
    uint cols;
    uint y_first;
    uint bias_first;
    uint y_stride;
#ifdef X_HALVES
    int w_exponent;
#endif
} p;
#ifdef X_HALVES
#include "power.glsl"
#endif

uvec4 load_unit(uint i) { return units[i]; }
#ifdef META_QUADS
uvec4 load_meta_quad(uint i) { return meta[i]; }
#else
uint load_meta_word(uint i) { return meta[i]; }
#endif
#include "weights_part.glsl"

// Stores the product of row and token, if there are such.
void store_y(uint t, uint row, float sum) {
    // One comparison: of two, both of which other products need as well, a compiler keeps the
    // results, and a GPU has few registers for truths.
    if (min(int(p.rows - row), int(step.count - t)) <= 0) return;
    uint at = t * p.y_stride + p.y_first + row;
#ifdef X_HALVES
    sum = scaled(sum, p.w_exponent + x_exponents[t]);
#endif
    if (HAS_BIAS) sum += bias[p.bias_first + row];
    if (ACCUMULATE) sum += y[at];
    y[at] = sum;
}
