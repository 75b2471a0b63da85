#version 450
// attention_decode: attention of one token of each sequence (z), as attention.comp has it. A
// workgroup takes GROUP heads that share keys (y) and one split of the keys (x).
//
//   q             (tokens, heads, head_dim) f32
//   keys, values  (pages, kv_heads, PAGE, head_dim), as cache.glsl stores them
//   slopes        (heads) f32, of ALiBi
//   dst           (tokens, heads, head_dim) f32
//   parts and arrivals, of workgroups that share a head's keys: split.glsl
//
// With ROPE it is rope.comp too: q is qkv, (tokens, heads + 2 kv_heads, head_dim), as yet to be
// rotated by table; the first of the groups that share a key and value moves them into the
// cache, and each takes its own position's from qkv.
//
// KEYS keys at a time go into shared memory, neighbouring invocations loading neighbouring
// quads; then an invocation forms the scores of some (head, key) pairs, and at last
// invocation (quad, share) adds up that quad of every head over its share of the values,
// which it loads straight from the cache. The running maximum is that of Milakov and
// Gimelshein 2018 (arXiv:1805.02867).
// Shared memory: 16 max(KEYS (QUADS + 1), 64 GROUP) + 16 GROUP QUADS + 4 GROUP (KEYS + 10)
// bytes, 25 KiB at most with the numbers of pipeline/attention.go.
// Reads the live keys and values once for GROUP heads.
#define STEP_BINDING 0
#include "step.glsl"

layout(local_size_x = 64) in;
layout(constant_id = 0) const uint HEAD_DIM = 64u; // a multiple of four, at most 256
layout(constant_id = 1) const uint GROUP = 1u;     // at most 8
layout(constant_id = 3) const uint KEYS = 64u;     // a multiple of eight
layout(std430, binding = 1) readonly buffer Q { vec4 q[]; };
#define SLOPES_BINDING 4
#include "score.glsl"
#include "cache.glsl"
#define PAGES_BINDING 6
#include "pages.glsl"
#ifdef ROPE
#define PARTS_BINDING 8
layout(constant_id = 4) const bool INTERLEAVED = false;
layout(std430, binding = 2) buffer Keys { CACHE_QUAD keys[]; };
layout(std430, binding = 3) buffer Values { CACHE_QUAD values[]; };
layout(std430, binding = 7) readonly buffer Table { vec2 table[]; };
#else
#define PARTS_BINDING 7
layout(std430, binding = 2) readonly buffer Keys { CACHE_QUAD keys[]; };
layout(std430, binding = 3) readonly buffer Values { CACHE_QUAD values[]; };
#endif
layout(std430, binding = 5) writeonly buffer Out { vec4 dst[]; };
#define QUADS (HEAD_DIM / 4u)
#include "split.glsl"

#define WORKGROUP 64u
#define SHARES (WORKGROUP / QUADS)
#define STRIDE (QUADS + 1u) // odd, so that neighbouring keys lie in different banks
#define TEAM 8u             // invocations that look for one head's maximum
shared vec4 block[KEYS * STRIDE > WORKGROUP * GROUP ? KEYS * STRIDE : WORKGROUP * GROUP];
shared vec4 query[GROUP * QUADS];
shared float weight[GROUP * KEYS]; // scores at first
shared float most[GROUP * TEAM];
shared float peak[GROUP];   // running maximum
shared float factor[GROUP]; // what the new maximum makes of earlier sums

#ifdef ROPE
vec4 clipped(vec4 v) { return p.clip > 0.0 ? clamp(v, -p.clip, p.clip) : v; }

// Quad n of a head's row, the quads of which begin at base.
vec4 turned(uint base, uint n) {
    vec4 v = clipped(q[base + n]);
    uint half_dim = p.rotary_dim / 2u;
    for (uint c = 0u; c < 4u; c++) {
        uint d = 4u * n + c;
        if (d >= p.rotary_dim) break;
        bool first = INTERLEAVED ? (d & 1u) == 0u : d < half_dim;
        uint partner = INTERLEAVED ? d ^ 1u : (first ? d + half_dim : d - half_dim);
        vec2 cs = table[position * half_dim + (INTERLEAVED ? d / 2u : d % half_dim)];
        float w = clipped(q[base + partner / 4u])[partner % 4u];
        v[c] = first ? v[c] * cs.x - w * cs.y : v[c] * cs.x + w * cs.y;
    }
    return v;
}
#endif

void main() {
    uint lane = gl_LocalInvocationID.x;
    uint sharing = p.heads / p.kv_heads;
    uint groups = (sharing + GROUP - 1u) / GROUP;
    uint kv = gl_WorkGroupID.y / groups;
    uint h0 = kv * sharing + gl_WorkGroupID.y % groups * GROUP;
    uint last_head = kv * sharing + sharing - 1u; // taken again where GROUP does not divide
    float minus_inf = uintBitsToFloat(0xff800000u);

    if (gl_WorkGroupID.z >= step.singles) return; // uniform
    set_sequence(gl_WorkGroupID.z);
    uint length = position + 1u;
    uint start = first_key(length);
    uint size = split_keys(start, length), splits = live_splits(start, length);
    bool alone = SPLITS == 1u || splits == 1u; // no other split has keys
    uint from = first_counted(start) + gl_WorkGroupID.x * size;
    if (from >= length) return; // uniform over the workgroup
    uint to = min(length, from + size);

#ifdef ROPE
    uint q0 = first_token * (p.heads + 2u * p.kv_heads) * QUADS;
#else
    uint q0 = first_token * p.heads * QUADS;
#endif
    for (uint i = lane; i < GROUP * QUADS; i += WORKGROUP)
#ifdef ROPE
        query[i] = p.scale * turned(q0 + min(h0 + i / QUADS, last_head) * QUADS, i % QUADS);
    bool writes = gl_WorkGroupID.y % groups == 0u;
#else
        query[i] = p.scale * q[q0 + min(h0 + i / QUADS, last_head) * QUADS + i % QUADS];
#endif
    if (lane < GROUP) peak[lane] = -3.0e38; // below every score and finite
    uint d = lane % QUADS, share = lane / QUADS;
    vec4 sums[GROUP];
    float total[GROUP]; // of the share's weights
    for (uint g = 0u; g < GROUP; g++) {
        sums[g] = vec4(0.0);
        total[g] = 0.0;
    }
    for (uint first = from; first < to; first += KEYS) {
        uint live = min(KEYS, to - first);
        Block b = find_block(first, first + live - 1u);
        for (uint i = lane; i < live * QUADS; i += WORKGROUP) {
            uint row = block_row(b, kv, first + i / QUADS);
#ifdef ROPE
            if (first + i / QUADS == position) {
                CACHE_QUAD k = STORED_QUAD(turned(q0 + (p.heads + kv) * QUADS, i % QUADS));
                if (writes) keys[row * QUADS + i % QUADS] = k;
                block[i / QUADS * STRIDE + i % QUADS] = LOADED_QUAD(k);
                continue;
            }
#endif
            block[i / QUADS * STRIDE + i % QUADS] = KEY_QUAD(row, i % QUADS);
        }
        barrier(); // keys and query are complete, and the values' pass has read its weights
        for (uint i = lane; i < GROUP * KEYS; i += WORKGROUP) {
            uint g = i / KEYS, key = i % KEYS, j = first + key;
            float s = minus_inf;
            if (key < live && j >= start) {
                s = 0.0;
                for (uint n = 0u; n < QUADS; n++) s += dot(block[key * STRIDE + n], query[g * QUADS + n]);
                s = finish_score(s, head_slope(min(h0 + g, last_head)), int(j) - int(length) + 1);
            }
            weight[i] = s;
        }
        barrier(); // scores are complete
        for (uint i = lane; i < GROUP * TEAM; i += WORKGROUP) {
            float m = minus_inf;
            for (uint key = i % TEAM; key < KEYS; key += TEAM) m = max(m, weight[i / TEAM * KEYS + key]);
            most[i] = m;
        }
        barrier(); // maxima of the teams are complete
        if (lane < GROUP) {
            float m = peak[lane];
            for (uint i = 0u; i < TEAM; i++) m = max(m, most[lane * TEAM + i]);
            factor[lane] = exp(peak[lane] - m);
            peak[lane] = m;
        }
        barrier(); // maxima of the heads are complete
        for (uint i = lane; i < GROUP * KEYS; i += WORKGROUP) weight[i] = exp(weight[i] - peak[i / KEYS]);
        barrier(); // weights are complete
        if (share < SHARES) {
            for (uint g = 0u; g < GROUP; g++) {
                sums[g] *= factor[g];
                total[g] *= factor[g];
            }
            for (uint key = share; key < live; key += SHARES) {
                uint row = block_row(b, kv, first + key);
#ifdef ROPE
                vec4 v;
                if (first + key == position) {
                    CACHE_QUAD stored = STORED_QUAD(clipped(q[q0 + (p.heads + p.kv_heads + kv) * QUADS + d]));
                    if (writes) values[row * QUADS + d] = stored;
                    v = LOADED_QUAD(stored);
                } else {
                    v = VALUE_QUAD(row, d);
                }
#else
                vec4 v = VALUE_QUAD(row, d);
#endif
                for (uint g = 0u; g < GROUP; g++) {
                    float w = weight[g * KEYS + key];
                    sums[g] += w * v;
                    total[g] += w;
                }
            }
        }
    }
    barrier(); // the last weights have been read
    if (share < SHARES) {
        for (uint g = 0u; g < GROUP; g++) {
            block[(share * GROUP + g) * QUADS + d] = sums[g];
            if (d == 0u) weight[share * GROUP + g] = total[g];
        }
    }
    barrier(); // sums of the shares are complete
    for (uint i = lane; i < GROUP * QUADS; i += WORKGROUP) {
        uint g = i / QUADS, h = first_token * p.heads + h0 + g;
        if (h0 + g > last_head) break;
        vec4 s = vec4(0.0);
        float all = 0.0;
        for (uint n = 0u; n < SHARES; n++) {
            s += block[n * GROUP * QUADS + i];
            all += weight[n * GROUP + g];
        }
        if (alone) {
            dst[h * QUADS + i % QUADS] = s / all;
        } else {
            uint at = part_of(h, gl_WorkGroupID.x);
            parts[at + i % QUADS] = s;
            if (i % QUADS == 0u) parts[at + QUADS] = vec4(peak[g], all, 0.0, 0.0);
        }
    }
    if (alone || !arrives_last(gl_WorkGroupID.z * p.kv_heads * groups + gl_WorkGroupID.y, splits)) return;
    for (uint i = lane; i < GROUP * QUADS && h0 + i / QUADS <= last_head; i += WORKGROUP)
        join_parts(first_token * p.heads + h0 + i / QUADS, i % QUADS, splits);
}
