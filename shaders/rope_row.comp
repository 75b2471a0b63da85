#version 450
// rope, barrier-free: as rope.comp, four neighbouring components an invocation.
//
//   qkv (tokens, heads + 2 kv_heads, head_dim) f32 and table (places, rotary_dim / 2, 2) f32 as texels
//   q (tokens, heads, head_dim) f32; keys, values as cache.glsl stores them
//
// head_dim is a multiple of four, for a Q8_0 cache of the 64 components of a word of scales; rotary_dim of eight, of four if
// INTERLEAVED. Workgroup y is the token, x takes STEPS times eight quads of it: for a Q8_0 cache a block a step, two of which
// are a word's.
#extension GL_EXT_control_flow_attributes : require
#extension GL_EXT_samplerless_texture_functions : require
#define STEP_BINDING 0
#include "step.glsl"
#include "lane8.glsl"

layout(local_size_x = 8) in;
layout(constant_id = 0) const uint STEPS = 8u; // even
layout(constant_id = 1) const bool INTERLEAVED = false;
layout(binding = 1) uniform textureBuffer qkv;
layout(binding = 2) uniform textureBuffer table;
layout(std430, binding = 3) writeonly buffer Q { vec4 q[]; };
#if defined(KV_F32)
#define STORED vec4
#define STORE(v) (v)
#elif defined(KV_Q8_0)
#define STORED uint
#define STORE(v) quantised(v)
#else
#define STORED uvec2
#define STORE(v) uvec2(packHalf2x16((v).xy), packHalf2x16((v).zw))
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
#include "rotate_row.glsl"

#ifdef KV_Q8_0
float scale, scale_before; // of this step's block, and of the last one's

// The word of a quad of the step's block, of which each lane has one; sets scale as rope.comp has it.
uint quantised(vec4 v) {
    uvec4 bits = floatBitsToUint(v) & 0x7fffffffu;
    uint own = max(max(bits.x, bits.y), max(bits.z, bits.w)), most = 0u; // in the order of magnitudes, with NaN last
    [[unroll]] for (uint i = 0u; i < LANES; i++) most = max(most, subgroupShuffle(own, i));
    float largest = uintBitsToFloat(most), inverse = largest > 0.0 ? 127.0 / largest : 0.0;
    scale_before = scale;
    scale = most < 0x7f800000u ? largest / 127.0 : uintBitsToFloat(0x7fc00000u);
    uvec4 bytes = uvec4(ivec4(roundEven(inverse * v))) & 0xffu;
    return bytes.x | bytes.y << 8u | bytes.z << 16u | bytes.w << 24u;
}
#define WORD_QUADS 16u // of the two scales of a word
#endif

void main() {
    uint t = gl_WorkGroupID.y;
    if (t >= step.count) return; // uniform
    uint quads = p.head_dim / 4u, total = (p.heads + 2u * p.kv_heads) * quads;
    set_sequence_of(t);
    uint at = position + t - first_token, place = at - step.tokens[t].start;
    for (uint s = 0u; s < STEPS; s++) {
        uint i = (gl_WorkGroupID.x * STEPS + s) * LANES + gl_SubgroupInvocationID;
        if (i >= total) return;
        uint head = i / quads, d = i % quads;
        vec4 v = load(t * total + i);
        if (head < p.heads + p.kv_heads && d < p.rotary_dim / 4u) v = rotated(v, t * total + i, d, place);
        if (head < p.heads) {
            q[(t * p.heads + head) * quads + d] = v;
            continue;
        }
        bool key = head < p.heads + p.kv_heads;
        uint row = cache_row(head - p.heads - (key ? 0u : p.kv_heads), at);
        STORED stored = STORE(v);
        if (key)
            keys[row * quads + d] = stored;
        else
            values[row * quads + d] = stored;
#ifdef KV_Q8_0
        if (d % WORD_QUADS != WORD_QUADS / 2u) continue; // a lane, with the second of a word's blocks
        uint to = p.kv_heads * p.places * quads + row * (quads / WORD_QUADS) + d / WORD_QUADS;
        if (key)
            keys[to] = packHalf2x16(vec2(scale_before, scale));
        else
            values[to] = packHalf2x16(vec2(scale_before, scale));
#endif
    }
}
