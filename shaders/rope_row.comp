#version 450
// rope, barrier-free: as rope.comp for a cache of f32 or f16, four neighbouring components an
// invocation.
//
//   qkv (tokens, heads + 2 kv_heads, head_dim) f32 and table (places, rotary_dim / 2, 2) f32 as texels
//   q (tokens, heads, head_dim) f32; keys, values as cache.glsl stores them
//
// head_dim is a multiple of four; rotary_dim of eight, of four if INTERLEAVED. Workgroup y is
// the token, x takes STEPS times eight quads of it.
#extension GL_EXT_control_flow_attributes : require
#extension GL_EXT_samplerless_texture_functions : require
#define STEP_BINDING 0
#include "step.glsl"
#include "lane8.glsl"

layout(local_size_x = 8) in;
layout(constant_id = 0) const uint STEPS = 8u;
layout(constant_id = 1) const bool INTERLEAVED = false;
layout(binding = 1) uniform textureBuffer qkv;
layout(binding = 2) uniform textureBuffer table;
layout(std430, binding = 3) writeonly buffer Q { vec4 q[]; };
#ifdef KV_F32
#define STORED vec4
#define STORE(v) (v)
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
        if (head < p.heads)
            q[(t * p.heads + head) * quads + d] = v;
        else if (head < p.heads + p.kv_heads)
            keys[cache_row(head - p.heads, at) * quads + d] = STORE(v);
        else
            values[cache_row(head - p.heads - p.kv_heads, at) * quads + d] = STORE(v);
    }
}
