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
// One invocation takes two neighbouring components, so that neighbouring ones load and store side by side. Of keys and
// values for a Q8_0 cache, which have workgroups of their own, it takes four, and those of a block meet in shared memory
// (4 * WORKGROUP bytes) to find its largest magnitude. Workgroup y is the token.
#extension GL_EXT_control_flow_attributes : require
#define STEP_BINDING 0
#include "step.glsl"

layout(local_size_x_id = 0) in;
layout(constant_id = 0) const uint WORKGROUP = 64u; // a multiple of WORD_QUADS
layout(constant_id = 1) const bool INTERLEAVED = false;
layout(std430, binding = 1) readonly buffer QKV { float qkv[]; };
layout(std430, binding = 1) readonly buffer QKVPairs { vec2 qkv_pairs[]; };
#ifdef KV_Q8_0
layout(std430, binding = 1) readonly buffer QKVQuads { vec4 qkv_quads[]; }; // as heads of such a cache are
#endif
layout(std430, binding = 2) readonly buffer Table { vec2 table[]; };
layout(std430, binding = 2) readonly buffer TablePairs { vec4 table_pairs[]; }; // where rotary_dim is a multiple of four
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

// Components i and i + 1 of all, of which i is even.
vec2 load_pair(uint i) {
    vec2 v = qkv_pairs[i / 2u];
    return p.clip > 0.0 ? clamp(v, -p.clip, p.clip) : v;
}

// Components d and d + 1 of the head that begins at `base`, rotated; d is even.
vec2 rotated_pair(uint base, uint d, uint place) {
    vec2 v = load_pair(base + d);
    if (d >= p.rotary_dim) return v;
    uint half_dim = p.rotary_dim / 2u, row = place * half_dim;
    if (INTERLEAVED) {
        vec2 cs = table[row + d / 2u];
        return vec2(v.x * cs.x - v.y * cs.y, v.y * cs.x + v.x * cs.y);
    }
    if (half_dim % 2u == 1u) return vec2(rotated(base, d, place), rotated(base, d + 1u, place)); // partners are of two pairs
    bool first = d < half_dim;
    vec4 cs = table_pairs[(row + (first ? d : d - half_dim)) / 2u];
    vec2 w = load_pair(base + (first ? d + half_dim : d - half_dim));
    return first ? v * cs.xz - w * cs.yw : v * cs.xz + w * cs.yw;
}

#ifdef KV_Q8_0
// As load_pair, for components i to i + 3; i is a multiple of four.
vec4 load_quad(uint i) {
    vec4 v = qkv_quads[i / 4u];
    return p.clip > 0.0 ? clamp(v, -p.clip, p.clip) : v;
}

vec4 rotated_quad(uint base, uint d, uint place) {
    vec4 v = load_quad(base + d);
    if (d >= p.rotary_dim) return v;
    uint half_dim = p.rotary_dim / 2u, row = place * half_dim;
    if (half_dim % (INTERLEAVED ? 2u : 4u) != 0u) return vec4(rotated_pair(base, d, place), rotated_pair(base, d + 2u, place));
    if (INTERLEAVED) {
        vec4 cs = table_pairs[(row + d / 2u) / 2u];
        return vec4(v.x * cs.x - v.y * cs.y, v.y * cs.x + v.x * cs.y, v.z * cs.z - v.w * cs.w, v.w * cs.z + v.z * cs.w);
    }
    bool first = d < half_dim;
    uint angle = (row + (first ? d : d - half_dim)) / 2u;
    vec4 a = table_pairs[angle], b = table_pairs[angle + 1u], w = load_quad(base + (first ? d + half_dim : d - half_dim));
    vec4 cosines = vec4(a.xz, b.xz), sines = vec4(a.yw, b.yw);
    return first ? v * cosines - w * sines : v * cosines + w * sines;
}

#define BLOCK_QUADS 8u // of the 32 components of a scale
#define WORD_QUADS (2u * BLOCK_QUADS)
shared uint magnitudes[WORKGROUP]; // the largest of a quad, as bits, which are in the order of magnitudes, with NaN last

uint largest_of(uint first) {
    uint most = 0u;
    [[unroll]] for (uint i = 0u; i < BLOCK_QUADS; i++) most = max(most, magnitudes[first + i]);
    return most;
}

// Scales are 1/127 of a block's largest magnitude (ggml's Q8_0), NaN for a block with an infinity or a NaN.
float scale_of(uint most) { return most < 0x7f800000u ? uintBitsToFloat(most) / 127.0 : uintBitsToFloat(0x7fc00000u); }

// Stores quad i of a token's keys and values, each of whole words of scales; called by whole workgroups.
void store_quantised(uint t, uint i, uint at, uint place) {
    uint quads = p.head_dim / 4u, words = (quads + WORD_QUADS - 1u) / WORD_QUADS;
    uint side = i / (words * WORD_QUADS), quad = i % (words * WORD_QUADS);
    bool inside = side < 2u * p.kv_heads && quad < quads, key = side < p.kv_heads;
    uint base = (t * (p.heads + 2u * p.kv_heads) + p.heads + side) * p.head_dim;
    vec4 v = vec4(0.0);
    if (inside) v = key ? rotated_quad(base, 4u * quad, place) : load_quad(base + 4u * quad);
    uvec4 bits = floatBitsToUint(v) & 0x7fffffffu;
    uint n = gl_LocalInvocationID.x;
    magnitudes[n] = max(max(bits.x, bits.y), max(bits.z, bits.w));
    barrier(); // the magnitudes of a block are there
    if (!inside) return;
    uint most = largest_of(n / BLOCK_QUADS * BLOCK_QUADS);
    float largest = uintBitsToFloat(most), inverse = largest > 0.0 ? 127.0 / largest : 0.0;
    uvec4 bytes = uvec4(ivec4(roundEven(inverse * v))) & 0xffu;
    uint word = bytes.x | bytes.y << 8u | bytes.z << 16u | bytes.w << 24u;
    uint row = cache_row(key ? side : side - p.kv_heads, at), to = row * quads + quad;
    if (key)
        keys[to] = word;
    else
        values[to] = word;
    if (quad % WORD_QUADS != 0u) return;
    uint scales = packHalf2x16(vec2(scale_of(most), scale_of(largest_of(n + BLOCK_QUADS))));
    to = p.kv_heads * p.places * quads + row * words + quad / WORD_QUADS;
    if (key)
        keys[to] = scales;
    else
        values[to] = scales;
}
#endif

void main() {
    uint t = gl_WorkGroupID.y;
    if (t >= step.count) return; // uniform
    set_sequence_of(t);
    uint at = position + t - first_token, place = at - step.tokens[t].start;
    uint half_head = p.head_dim / 2u, total = p.heads + 2u * p.kv_heads;
#ifdef KV_Q8_0
    uint of_queries = (p.heads * half_head + WORKGROUP - 1u) / WORKGROUP; // workgroups
    if (gl_WorkGroupID.x >= of_queries) {
        store_quantised(t, gl_GlobalInvocationID.x - of_queries * WORKGROUP, at, place);
        return;
    }
#endif
    uint i = gl_GlobalInvocationID.x, head = i / half_head, d = i % half_head * 2u;
    uint base = (t * total + head) * p.head_dim;
    if (head < p.heads) {
        q[(t * p.heads + head) * half_head + d / 2u] = rotated_pair(base, d, place);
        return;
    }
#ifndef KV_Q8_0
    if (head >= total) return;
    uint kv = head - p.heads;
    uint row = cache_row(kv < p.kv_heads ? kv : kv - p.kv_heads, at);
    if (kv < p.kv_heads)
        keys[row * half_head + d / 2u] = STORE(rotated_pair(base, d, place));
    else
        values[row * half_head + d / 2u] = STORE(load_pair(base + d));
#endif
}
