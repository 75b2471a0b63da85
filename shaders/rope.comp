#version 450
// rope: rotates the queries and keys of a step by their places and moves keys and
// values into the KV cache. Su et al. 2021, arXiv:2104.09864, section 3.4.2.
//
//   qkv    (tokens, heads + 2 kv_heads, head_dim) f32: query heads, key heads, value heads
//   table  (places, rotary_dim / 2, 2) f32: cos and sin of each place and frequency
//   q      (tokens, heads, head_dim) f32
//   keys, values  (pages, kv_heads, PAGE, head_dim), as cache.glsl stores them
//
// A pair (a, b) becomes (a cos - b sin, a sin + b cos). INTERLEAVED pairs components 2j and
// 2j + 1, otherwise j and j + rotary_dim / 2; components from rotary_dim on pass unchanged.
// clip > 0 clamps everything to [-clip, clip] first (MPT's clip_qkv).
// One invocation produces two neighbouring components, since the f16 cache is written in
// 32-bit words; of keys and values for a Q8_0 cache it produces those that a word of scales
// is for, in two passes. Workgroup y is the token.
#define STEP_BINDING 0
#include "step.glsl"

layout(local_size_x_id = 0) in;
layout(constant_id = 1) const bool INTERLEAVED = false;
layout(std430, binding = 1) readonly buffer QKV { float qkv[]; };
layout(std430, binding = 2) readonly buffer Table { vec2 table[]; };
layout(std430, binding = 3) writeonly buffer Q { vec2 q[]; };
#ifdef KV_F32
#define STORED vec2
#define STORE(v) (v)
#else
#define STORED uint
#define STORE(v) packHalf2x16(v)
#endif
layout(std430, binding = 4) writeonly buffer Keys { STORED keys[]; };
layout(std430, binding = 5) writeonly buffer Values { STORED values[]; };
layout(push_constant) uniform Push {
    uint heads;
    uint kv_heads;
    uint head_dim;
    uint rotary_dim;
    uint places; // as in score.glsl
    uint local;
    float clip;
} p;
#define PAGES_BINDING 6
#include "pages.glsl"

#include "rotate.glsl"

#ifdef KV_Q8_0
#define SCALE_BLOCK 32u
#define WORD_DIMS (2u * SCALE_BLOCK)

// Scales are 1/127 of a block's largest magnitude (ggml's Q8_0), NaN for a block with an infinity or a NaN.
void store_quantised(uint row, bool key, uint base, uint first, uint place) {
    uint quads = p.head_dim / 4u;
    vec2 scales = vec2(0.0);
    for (uint b = 0u; b < 2u; b++) {
        uint from = first + b * SCALE_BLOCK, to = min(from + SCALE_BLOCK, p.head_dim);
        uint most = 0u; // as bits, which are in the order of magnitudes, with NaN last
        for (uint d = from; d < to; d++) most = max(most, floatBitsToUint(key ? rotated(base, d, place) : load(base + d)) & 0x7fffffffu);
        float largest = uintBitsToFloat(most);
        scales[b] = most < 0x7f800000u ? largest / 127.0 : uintBitsToFloat(0x7fc00000u);
        float inverse = largest > 0.0 ? 127.0 / largest : 0.0;
        for (uint d = from; d < to; d += 4u) {
            uint word = 0u;
            for (uint k = 0u; k < 4u; k++) {
                float v = inverse * (key ? rotated(base, d + k, place) : load(base + d + k));
                word |= (uint(int(roundEven(v))) & 0xffu) << 8u * k;
            }
            if (key)
                keys[row * quads + d / 4u] = word;
            else
                values[row * quads + d / 4u] = word;
        }
    }
    uint at = p.kv_heads * p.places * quads + row * ((p.head_dim + WORD_DIMS - 1u) / WORD_DIMS) + first / WORD_DIMS;
    if (key)
        keys[at] = packHalf2x16(scales);
    else
        values[at] = packHalf2x16(scales);
}
#endif

void main() {
    uint t = gl_WorkGroupID.y;
    uint half_head = p.head_dim / 2u;
    uint total = p.heads + 2u * p.kv_heads;
    uint i = gl_GlobalInvocationID.x;
    if (t >= step.count || i >= total * half_head) return;
    set_sequence_of(t);
    uint at = position + t - first_token, place = at - step.tokens[t].start;
    uint head = i / half_head, d = i % half_head * 2u;
    uint base = (t * total + head) * p.head_dim;
    if (head < p.heads) {
        q[(t * p.heads + head) * half_head + d / 2u] = vec2(rotated(base, d, place), rotated(base, d + 1u, place));
        return;
    }
#ifdef KV_Q8_0
    uint words = (p.head_dim + WORD_DIMS - 1u) / WORD_DIMS;
    uint n = i - p.heads * half_head; // of the words of all keys, then all values
    uint side = n / words;
    if (side < 2u * p.kv_heads)
        store_quantised(cache_row(side % p.kv_heads, at), side < p.kv_heads, (t * total + p.heads + side) * p.head_dim, n % words * WORD_DIMS, place);
#else
    uint kv = head - p.heads;
    uint row = cache_row(kv < p.kv_heads ? kv : kv - p.kv_heads, at);
    if (kv < p.kv_heads)
        keys[row * half_head + d / 2u] = STORE(vec2(rotated(base, d, place), rotated(base, d + 1u, place)));
    else
        values[row * half_head + d / 2u] = STORE(vec2(load(base + d), load(base + d + 1u)));
#endif
}
