// The KV cache of include/cache.glsl as the `row` attention kernels read it: texels of 16
// bytes, HEAD_TEXELS a row, a number that divides eight or is divided by it. A texel's
// components are TEXEL_QUADS quads times TEXEL_SCALE.
#ifdef KV_F32
#define TEXEL_QUADS 1u
vec4 texel_quad(uvec4 v, uint i) { return uintBitsToFloat(v); }
void store_quad(inout uvec4 texel, uint i, vec4 v) { texel = floatBitsToUint(v); }
#endif
#ifdef KV_F16
#define TEXEL_QUADS 2u
vec4 texel_quad(uvec4 v, uint i) { return vec4(unpackHalf2x16(v[2u * i]), unpackHalf2x16(v[2u * i + 1u])); }
void store_quad(inout uvec4 texel, uint i, vec4 v) {
    texel[2u * i] = packHalf2x16(v.xy);
    texel[2u * i + 1u] = packHalf2x16(v.zw);
}
#endif
#ifdef KV_Q8_0
#define TEXEL_QUADS 4u
vec4 texel_quad(uvec4 v, uint i) {
    int b = int(v[i]);
    return vec4(b << 24 >> 24, b << 16 >> 24, b << 8 >> 24, b >> 24);
}
float texel_scale(utextureBuffer side, uint row, uint texel) {
    uint word = p.kv_heads * p.places * (HEAD_DIM / 4u) + row * ((HEAD_DIM + 63u) / 64u) + texel / 4u;
    return unpackHalf2x16(texelFetch(side, int(word / 4u))[word % 4u])[texel / 2u & 1u];
}
#define TEXEL_SCALE(side, row, texel) texel_scale(side, row, texel)
#else
#define TEXEL_SCALE(side, row, texel) 1.0
#endif
#define HEAD_QUADS (HEAD_DIM / 4u)
#define HEAD_TEXELS (HEAD_QUADS / TEXEL_QUADS)

// Below every score and finite: a lane whose first keys are all masked subtracts it from
// -inf, which must not give NaN.
#define LOWEST (-3.0e38)
