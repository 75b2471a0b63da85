// The nonlinearity of an MLP: ACTIVATION is a kernels.Activation, a specialization constant
// of the includer. Hendrycks and Gimpel 2016, arXiv:1606.08415.
#define SILU 0u      // kernels.SiLU
#define GELU 1u      // kernels.GELU: x * P(N(0, 1) < x)
#define GELU_TANH 2u // kernels.GELUTanh: its approximation by tanh

// The error function by Abramowitz and Stegun 7.1.26; its error is at most 1.5e-7.
float erf(float v) {
    float a = abs(v);
    float t = 1.0 / (1.0 + 0.3275911 * a);
    float poly = t * (0.254829592 + t * (-0.284496736 + t * (1.421413741 + t * (-1.453152027 + t * 1.061405429))));
    float e = 1.0 - poly * exp(-a * a);
    return v < 0.0 ? -e : e;
}

float activate(float v) {
    if (ACTIVATION == SILU) return v / (1.0 + exp(-v));
    if (ACTIVATION == GELU) return 0.5 * v * (1.0 + erf(v * 0.70710678));
    // tanh(u) as 1 - 2 / (exp(2u) + 1), which neither overflows nor loses sign at either end.
    float u = 0.79788456 * (v + 0.044715 * v * v * v);
    return v * (1.0 - 1.0 / (exp(2.0 * u) + 1.0));
}
