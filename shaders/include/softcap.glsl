// limit * tanh(x / limit) (Gemma 2). The argument is clamped because drivers make tanh of
// exp(x) and exp(-x), which overflow to NaN past 88 (SwiftShader); from 10 on it is 1 in float32.
float soft_cap(float x, float limit) { return limit * tanh(clamp(x / limit, -15.0, 15.0)); }
