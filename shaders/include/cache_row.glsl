// The KV cache as the `row` attention kernels read it: texels of 16 bytes, HEAD_TEXELS a
// position. HEAD_TEXELS is a multiple of eight, so that a lane's share of a position is a
// whole number of texels.
#ifdef KV_F16
#define TEXEL_DIMS 8u
#define TEXEL_QUADS 2u
vec4 texel_quad(uvec4 v, uint i) {
    return vec4(unpackHalf2x16(v[2u * i]), unpackHalf2x16(v[2u * i + 1u]));
}
#else
#define TEXEL_DIMS 4u
#define TEXEL_QUADS 1u
vec4 texel_quad(uvec4 v, uint i) { return uintBitsToFloat(v); }
#endif
#define HEAD_TEXELS (HEAD_DIM / TEXEL_DIMS)
#define LANE_TEXELS (HEAD_TEXELS / LANES)
#define HEAD_QUADS (HEAD_DIM / 4u)

// Below every score and finite: a lane whose first keys are all masked subtracts it from
// -inf, which must not give NaN.
#define LOWEST (-3.0e38)
