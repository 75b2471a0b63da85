#version 450
// rope: rotates the queries and keys of a run by their places and moves keys and
// values into the KV cache. Su et al. 2021, arXiv:2104.09864, section 3.4.2.
//
//   qkv    (tokens, heads + 2 kv_heads, head_dim) f32: query heads, key heads, value heads
//   table  (context, rotary_dim / 2, 2) f32: cos and sin of each place and frequency
//   q      (tokens, heads, head_dim) f32
//   keys, values  (kv_heads, context, head_dim) of the cache's type, position j at j % context
//
// A pair (a, b) becomes (a cos - b sin, a sin + b cos). INTERLEAVED pairs components 2j and
// 2j + 1, otherwise j and j + rotary_dim / 2; components from rotary_dim on pass unchanged.
// clip > 0 clamps everything to [-clip, clip] first (MPT's clip_qkv).
// One invocation produces two neighbouring components, since the f16 cache is written in
// 32-bit words; workgroup y is the token.
#define STEP_BINDING 0
#include "step.glsl"

layout(local_size_x_id = 0) in;
layout(constant_id = 1) const bool INTERLEAVED = false;
layout(std430, binding = 1) readonly buffer QKV { float qkv[]; };
layout(std430, binding = 2) readonly buffer Table { vec2 table[]; };
layout(std430, binding = 3) writeonly buffer Q { vec2 q[]; };
#ifdef KV_F16
layout(std430, binding = 4) writeonly buffer Keys { uint keys[]; };
layout(std430, binding = 5) writeonly buffer Values { uint values[]; };
#define STORE(v) packHalf2x16(v)
#else
layout(std430, binding = 4) writeonly buffer Keys { vec2 keys[]; };
layout(std430, binding = 5) writeonly buffer Values { vec2 values[]; };
#define STORE(v) (v)
#endif
layout(push_constant) uniform Push {
    uint heads;
    uint kv_heads;
    uint head_dim;
    uint rotary_dim;
    uint context;
    float clip;
} p;

float load(uint i) { return p.clip > 0.0 ? clamp(qkv[i], -p.clip, p.clip) : qkv[i]; }

float rotated(uint base, uint d, uint place) {
    float v = load(base + d);
    if (d >= p.rotary_dim) return v;
    uint half_dim = p.rotary_dim / 2u;
    uint j = INTERLEAVED ? d / 2u : d % half_dim;
    bool first = INTERLEAVED ? (d & 1u) == 0u : d < half_dim;
    uint partner = INTERLEAVED ? d ^ 1u : (first ? d + half_dim : d - half_dim);
    vec2 cs = table[place * half_dim + j];
    float w = load(base + partner);
    return first ? v * cs.x - w * cs.y : v * cs.x + w * cs.y;
}

void main() {
    uint t = gl_WorkGroupID.y;
    uint half_head = p.head_dim / 2u;
    uint total = p.heads + 2u * p.kv_heads;
    uint i = gl_GlobalInvocationID.x;
    if (t >= step.count || i >= total * half_head) return;
    uint head = i / half_head, d = i % half_head * 2u;
    uint base = (t * total + head) * p.head_dim;
    uint place = step.position + t - step.tokens[t].start;
    uint slot = (step.position + t) % p.context;
    if (head >= p.heads + p.kv_heads) {
        uint kv = head - p.heads - p.kv_heads;
        values[(kv * p.context + slot) * half_head + d / 2u] = STORE(vec2(load(base + d), load(base + d + 1u)));
        return;
    }
    vec2 v = vec2(rotated(base, d, place), rotated(base, d + 1u, place));
    if (head < p.heads)
        q[(t * p.heads + head) * half_head + d / 2u] = v;
    else
        keys[((head - p.heads) * p.context + slot) * half_head + d / 2u] = STORE(v);
}
