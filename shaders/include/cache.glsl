// The KV cache: a row of head_dim components for each page, key-value head and place of the
// page (pages.glsl). Rows are in quads of four components.
//
//   KV_F32   16 bytes a quad
//   KV_F16    8 bytes
//   KV_Q8_0   4 bytes, signed; behind the rows their scales, f16, one for 32 components
//             (the last of a row may have fewer), a row's beginning a 32-bit word
//
// STORED_QUAD is the form of a quad in the cache, where it needs no other, and LOADED_QUAD
// the reverse. KEY_QUAD and VALUE_QUAD read quad i of a row from the buffers `keys` and `values`. The
// includer has p.kv_heads, p.places and p.head_dim.
#ifdef KV_F32
#define CACHE_QUAD vec4
#define STORED_QUAD(v) (v)
#define LOADED_QUAD(v) (v)
#define KEY_QUAD(row, i) keys[(row) * (p.head_dim / 4u) + (i)]
#define VALUE_QUAD(row, i) values[(row) * (p.head_dim / 4u) + (i)]
#endif
#ifdef KV_F16
#define CACHE_QUAD uvec2
#define STORED_QUAD(v) uvec2(packHalf2x16((v).xy), packHalf2x16((v).zw))
#define LOADED_QUAD(v) halves(v)
vec4 halves(uvec2 v) { return vec4(unpackHalf2x16(v.x), unpackHalf2x16(v.y)); }
#define KEY_QUAD(row, i) halves(keys[(row) * (p.head_dim / 4u) + (i)])
#define VALUE_QUAD(row, i) halves(values[(row) * (p.head_dim / 4u) + (i)])
#endif
#ifdef KV_Q8_0
#define CACHE_QUAD uint
vec4 scaled_bytes(uint v, uint scales, uint i) {
    return unpackHalf2x16(scales)[i / 8u & 1u] *
        vec4(bitfieldExtract(int(v), 0, 8), bitfieldExtract(int(v), 8, 8), bitfieldExtract(int(v), 16, 8), int(v) >> 24);
}
#define SCALES_AT(row, i) (p.kv_heads * p.places * (p.head_dim / 4u) + (row) * ((p.head_dim + 63u) / 64u) + (i) / 16u)
#define KEY_QUAD(row, i) scaled_bytes(keys[(row) * (p.head_dim / 4u) + (i)], keys[SCALES_AT(row, i)], i)
#define VALUE_QUAD(row, i) scaled_bytes(values[(row) * (p.head_dim / 4u) + (i)], values[SCALES_AT(row, i)], i)
#endif
