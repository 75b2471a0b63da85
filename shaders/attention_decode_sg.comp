#version 450
// attention_decode for GPUs: what attention_decode.comp computes, with its bindings and push
// constants, without shared memory or barriers while it goes through the keys.
//
// A team of TEAM neighbouring lanes takes a key: each lane loads 16 bytes of the key and of the value, one of PIECES
// of a row, and the lanes' parts of the scores meet by shuffles. Lanes beyond the row's pieces, where those are no
// power of two, load the last one again and add nothing. The
// teams of a workgroup take its keys in turn, UNROLL each at a time, all of whose loads come before
// the first use. Each team has its own running maximum and sums, in registers, which meet in shared
// memory at the end. Queries are in registers too if there are at most 32 components of a lane, else they are read from
// shared memory once for UNROLL keys.
//
// TEAM is a power of two, at most the subgroup, and subgroups are full.
// Shared memory: 16 QUADS (PASS TEAMS + GROUP) + 8 PASS TEAMS bytes, and with ROPE 16 QUADS: 26 KiB at most with the
// numbers of pipeline/kernels/attention.go.
// Reads the live keys and values once for GROUP heads.
#extension GL_EXT_control_flow_attributes : require
#extension GL_KHR_shader_subgroup_basic : require
#extension GL_KHR_shader_subgroup_shuffle : require
#define STEP_BINDING 0
#include "step.glsl"

layout(local_size_x_id = 3) in;
layout(constant_id = 0) const uint HEAD_DIM = 128u;
layout(constant_id = 1) const uint GROUP = 1u; // at most MOST_GROUP
layout(constant_id = 3) const uint WORKGROUP = 128u;
layout(std430, binding = 1) readonly buffer QKV { float qkv[]; };
#define SLOPES_BINDING 4
#include "score.glsl"
#define PAGES_BINDING 6
#include "pages.glsl"
#ifdef ROPE
#define PARTS_BINDING 8
layout(constant_id = 4) const bool INTERLEAVED = false;
layout(std430, binding = 2) buffer Keys { uvec4 keys[]; };
layout(std430, binding = 3) buffer Values { uvec4 values[]; };
layout(std430, binding = 7) readonly buffer Table { vec2 table[]; };
#include "rotate.glsl"
#else
#define PARTS_BINDING 7
layout(std430, binding = 2) readonly buffer Keys { uvec4 keys[]; };
layout(std430, binding = 3) readonly buffer Values { uvec4 values[]; };
#endif
layout(std430, binding = 5) writeonly buffer Out { vec4 dst[]; };
#define QUADS (HEAD_DIM / 4u)
#include "split.glsl"

// What 16 bytes of a row (cache.glsl) hold: LANE_QUADS quads.
#ifdef KV_F32
#define LANE_QUADS 1u
vec4 quad(uvec4 v, uint i) { return uintBitsToFloat(v); }
#endif
#ifdef KV_F16
#define LANE_QUADS 2u
vec4 quad(uvec4 v, uint i) { return vec4(unpackHalf2x16(v[2u * i]), unpackHalf2x16(v[2u * i + 1u])); }
#endif
#ifdef KV_Q8_0
#define LANE_QUADS 4u // of one block; what quad() gives is to be multiplied by its scale
vec4 quad(uvec4 v, uint i) {
    int w = int(v[i]);
    return vec4(bitfieldExtract(w, 0, 8), bitfieldExtract(w, 8, 8), bitfieldExtract(w, 16, 8), w >> 24);
}
#ifdef ROPE
layout(std430, binding = 2) buffer KeyScales { uint key_scales[]; };
layout(std430, binding = 3) buffer ValueScales { uint value_scales[]; };

// Sixteen components, of a block of which the neighbouring lane has the others, as rope.comp stores them: scale is that of
// the block.
uvec4 quantised(vec4 c[LANE_QUADS], out float scale) {
    uvec4 bits = uvec4(0u); // which are in the order of magnitudes, with NaN last
    [[unroll]] for (uint i = 0u; i < LANE_QUADS; i++) bits = max(bits, floatBitsToUint(c[i]) & 0x7fffffffu);
    uint most = max(max(bits.x, bits.y), max(bits.z, bits.w));
    most = max(most, subgroupShuffleXor(most, 1u));
    float largest = uintBitsToFloat(most), inverse = largest > 0.0 ? 127.0 / largest : 0.0;
    scale = most < 0x7f800000u ? largest / 127.0 : uintBitsToFloat(0x7fc00000u);
    uvec4 v;
    [[unroll]] for (uint i = 0u; i < LANE_QUADS; i++) {
        uvec4 b = uvec4(ivec4(roundEven(inverse * c[i]))) & 0xffu;
        v[i] = b.x | b.y << 8u | b.z << 16u | b.w << 24u;
    }
    return v;
}
#else
layout(std430, binding = 2) readonly buffer KeyScales { uint key_scales[]; };
layout(std430, binding = 3) readonly buffer ValueScales { uint value_scales[]; };
#endif

// Where the scales of a row are that `piece` is of, two a word.
uint scales_at(uint row, uint piece) {
    return p.kv_heads * p.places * (HEAD_DIM / 4u) + row * ((HEAD_DIM + 63u) / 64u) + piece / 4u;
}
#endif

layout(constant_id = 5) const uint UNROLL = 4u; // keys of a team at a time
#define MOST_GROUP (LANE_QUADS > 2u ? 4u : 8u)
#define PIECES (QUADS / LANE_QUADS)
const uint TEAM = PIECES > 16u ? 32u : PIECES > 8u ? 16u : PIECES > 4u ? 8u : PIECES > 2u ? 4u : PIECES;
#define TEAMS (WORKGROUP / TEAM)
const bool QUERY_AHEAD = GROUP * LANE_QUADS <= 8u; // lanes have registers for the queries
const uint PASS = GROUP > MOST_GROUP / 2u ? MOST_GROUP / 2u : GROUP; // heads whose teams' sums meet at a time
shared vec4 query[GROUP * QUADS];
#ifdef ROPE
shared float own[HEAD_DIM]; // the token's key
#endif
shared vec4 part[PASS * TEAMS * QUADS]; // (TEAMS, PASS, QUADS): the teams' sums
shared vec2 part_total[PASS * TEAMS];   // (TEAMS, PASS): their maxima and sums of weights

float team_sum(float v) {
    if (TEAM > 1u) v += subgroupShuffleXor(v, 1u);
    if (TEAM > 2u) v += subgroupShuffleXor(v, 2u);
    if (TEAM > 4u) v += subgroupShuffleXor(v, 4u);
    if (TEAM > 8u) v += subgroupShuffleXor(v, 8u);
    if (TEAM > 16u) v += subgroupShuffleXor(v, 16u);
    return v;
}

// Where quad i of a head is in shared memory: eight lanes use different banks, whether they take eight quads side by side or
// each the same quad of its piece.
uint place(uint i) { return i ^ (i / 8u & (LANE_QUADS - 1u)); }

// Quad i of the lane's piece of a query of the group.
vec4 query_quad(uint g, uint piece, bool has, uint i) {
    return has ? query[g * QUADS + place(piece * LANE_QUADS + i)] : vec4(0.0);
}

void main() {
    uint lane = gl_LocalInvocationID.x;
    uint team = gl_SubgroupID * (gl_SubgroupSize / TEAM) + gl_SubgroupInvocationID / TEAM;
    uint piece = min(gl_SubgroupInvocationID % TEAM, PIECES - 1u); // the lane's 16 bytes of a row
    bool has = TEAM == PIECES || gl_SubgroupInvocationID % TEAM < PIECES;
    uint sharing = p.heads / p.kv_heads;
    uint groups = (sharing + GROUP - 1u) / GROUP;
    uint kv = gl_WorkGroupID.y / groups;
    uint h0 = kv * sharing + gl_WorkGroupID.y % groups * GROUP;
    uint last_head = kv * sharing + sharing - 1u; // taken again where GROUP does not divide

    if (gl_WorkGroupID.z >= step.singles) return; // uniform
    set_sequence(gl_WorkGroupID.z);
    uint length = position + 1u;
    uint start = first_key(length);
    uint size = split_keys(start, length), splits = live_splits(start, length);
    bool alone = SPLITS == 1u || splits == 1u; // no other split has keys
    uint from = first_counted(start) + gl_WorkGroupID.x * size;
    if (from >= length) return; // uniform over the workgroup
    uint to = min(length, from + size);
    from = max(from, start);

#ifdef ROPE
    uint q0 = first_token * (p.heads + 2u * p.kv_heads) * HEAD_DIM;
    bool owns = to == length; // the split has the token's own place, whose key is not in the cache yet
    uint end = min(to, position);
    for (uint d = lane; d < HEAD_DIM; d += WORKGROUP) {
        [[unroll]] for (uint g = 0u; g < GROUP; g++)
            query[g * QUADS + place(d / 4u)][d % 4u] = p.scale * rotated(q0 + min(h0 + g, last_head) * HEAD_DIM, d, position);
        if (owns) own[d] = rotated(q0 + (p.heads + kv) * HEAD_DIM, d, position);
    }
#else
    uint q0 = first_token * p.heads * HEAD_DIM;
    uint end = to;
    for (uint d = lane; d < HEAD_DIM; d += WORKGROUP)
        [[unroll]] for (uint g = 0u; g < GROUP; g++)
            query[g * QUADS + place(d / 4u)][d % 4u] = p.scale * qkv[q0 + min(h0 + g, last_head) * HEAD_DIM + d];
#endif
    barrier(); // the query and its key are complete

    vec4 q[MOST_GROUP][LANE_QUADS], sums[MOST_GROUP][LANE_QUADS];
    float slope[MOST_GROUP], peak[MOST_GROUP], total[MOST_GROUP];
    [[unroll]] for (uint g = 0u; g < GROUP; g++) {
        slope[g] = head_slope(min(h0 + g, last_head));
        peak[g] = -3.0e38; // below every score and finite
        total[g] = 0.0;
        [[unroll]] for (uint i = 0u; i < LANE_QUADS; i++) {
            if (QUERY_AHEAD) q[g][i] = query_quad(g, piece, has, i);
            sums[g][i] = vec4(0.0);
        }
    }
#ifdef ROPE
    if (owns) { // uniform over the workgroup; the key and value go into the first team's sums
        uvec4 k, v;
        uint d = piece * 4u * LANE_QUADS, value = q0 + (p.heads + p.kv_heads + kv) * HEAD_DIM + d;
#ifdef KV_Q8_0
        vec4 own_key[LANE_QUADS], own_value[LANE_QUADS];
        [[unroll]] for (uint i = 0u; i < 4u * LANE_QUADS; i++) {
            own_key[i / 4u][i % 4u] = own[d + i];
            own_value[i / 4u][i % 4u] = load(value + i);
        }
        float k_scale, v_scale;
        k = quantised(own_key, k_scale);
        v = quantised(own_value, v_scale);
        // The next block's, if there is one, beside this one's.
        float k_next = subgroupShuffleXor(k_scale, 2u), v_next = subgroupShuffleXor(v_scale, 2u);
        uint k_scales = packHalf2x16(vec2(k_scale, piece + 2u < PIECES ? k_next : 0.0));
        uint v_scales = packHalf2x16(vec2(v_scale, piece + 2u < PIECES ? v_next : 0.0));
        k_scale = unpackHalf2x16(k_scales).x;
        v_scale = unpackHalf2x16(v_scales).x;
#else
        [[unroll]] for (uint i = 0u; i < 4u; i++) {
#ifdef KV_F32
            k[i] = floatBitsToUint(own[d + i]);
            v[i] = floatBitsToUint(load(value + i));
#else
            k[i] = packHalf2x16(vec2(own[d + 2u * i], own[d + 2u * i + 1u]));
            v[i] = packHalf2x16(vec2(load(value + 2u * i), load(value + 2u * i + 1u)));
#endif
        }
#endif
        if (has && team == 0u && gl_WorkGroupID.y % groups == 0u) {
            uint row = cache_row(kv, position);
            keys[row * PIECES + piece] = k;
            values[row * PIECES + piece] = v;
#ifdef KV_Q8_0
            if (piece % 4u == 0u) {
                key_scales[scales_at(row, piece)] = k_scales;
                value_scales[scales_at(row, piece)] = v_scales;
            }
#endif
        }
        [[unroll]] for (uint g = 0u; g < GROUP; g++) {
            float s = 0.0;
            [[unroll]] for (uint i = 0u; i < LANE_QUADS; i++) s += dot(quad(k, i), QUERY_AHEAD ? q[g][i] : query_quad(g, piece, has, i));
#ifdef KV_Q8_0
            s *= k_scale;
#endif
            s = finish_score(team_sum(s), slope[g], 0);
            if (team == 0u) {
                peak[g] = s;
                total[g] = 1.0;
                [[unroll]] for (uint i = 0u; i < LANE_QUADS; i++) sums[g][i] = quad(v, i);
#ifdef KV_Q8_0
                [[unroll]] for (uint i = 0u; i < LANE_QUADS; i++) sums[g][i] *= v_scale;
#endif
            }
        }
    }
#endif
    float minus_inf = uintBitsToFloat(0xff800000u);
    for (uint first = from; first < end; first += UNROLL * TEAMS) {
        uint j[UNROLL], row[UNROLL];
        uvec4 k[UNROLL], v[UNROLL];
        [[unroll]] for (uint u = 0u; u < UNROLL; u++) {
            j[u] = first + u * TEAMS + team;
            row[u] = cache_row(kv, min(j[u], end - 1u));
        }
        [[unroll]] for (uint u = 0u; u < UNROLL; u++) k[u] = keys[row[u] * PIECES + piece];
#ifdef KV_Q8_0
        float k_scale[UNROLL], v_scale[UNROLL];
        [[unroll]] for (uint u = 0u; u < UNROLL; u++) {
            uint at = scales_at(row[u], piece);
            k_scale[u] = unpackHalf2x16(key_scales[at])[piece / 2u % 2u];
            v_scale[u] = unpackHalf2x16(value_scales[at])[piece / 2u % 2u];
        }
#endif
        [[unroll]] for (uint u = 0u; u < UNROLL; u++) v[u] = values[row[u] * PIECES + piece];
        float weight[MOST_GROUP][UNROLL];
        [[unroll]] for (uint g = 0u; g < GROUP; g++) {
            if (!QUERY_AHEAD) [[unroll]] for (uint i = 0u; i < LANE_QUADS; i++) q[g][i] = query_quad(g, piece, has, i);
            [[unroll]] for (uint u = 0u; u < UNROLL; u++) {
                float s = 0.0;
                [[unroll]] for (uint i = 0u; i < LANE_QUADS; i++) s += dot(quad(k[u], i), q[g][i]);
#ifdef KV_Q8_0
                s *= k_scale[u];
#endif
                s = finish_score(team_sum(s), slope[g], int(j[u]) - int(length) + 1);
                weight[g][u] = j[u] < end ? s : minus_inf;
            }
        }
        [[unroll]] for (uint g = 0u; g < GROUP; g++) {
            float m = peak[g];
            [[unroll]] for (uint u = 0u; u < UNROLL; u++) m = max(m, weight[g][u]);
            float factor = exp(peak[g] - m);
            peak[g] = m;
            total[g] *= factor;
            [[unroll]] for (uint i = 0u; i < LANE_QUADS; i++) sums[g][i] *= factor;
            [[unroll]] for (uint u = 0u; u < UNROLL; u++) {
                weight[g][u] = exp(weight[g][u] - m);
                total[g] += weight[g][u];
            }
        }
        [[unroll]] for (uint u = 0u; u < UNROLL; u++) {
            [[unroll]] for (uint i = 0u; i < LANE_QUADS; i++) {
                vec4 x = quad(v[u], i);
#ifdef KV_Q8_0
                x *= v_scale[u];
#endif
                [[unroll]] for (uint g = 0u; g < GROUP; g++) sums[g][i] += weight[g][u] * x;
            }
        }
    }
    [[unroll]] for (uint first = 0u; first < GROUP; first += PASS) {
        if (first > 0u) barrier(); // sums of the heads before have been read
        [[unroll]] for (uint g = first; g < min(first + PASS, GROUP); g++) {
            if (has) [[unroll]] for (uint i = 0u; i < LANE_QUADS; i++)
                part[(team * PASS + g - first) * QUADS + place(piece * LANE_QUADS + i)] = sums[g][i];
            if (has && piece == 0u) part_total[team * PASS + g - first] = vec2(peak[g], total[g]);
        }
        barrier(); // sums of the teams are complete
        for (uint i = lane; i < PASS * QUADS; i += WORKGROUP) {
            uint of_pass = i / QUADS, g = first + of_pass, h = first_token * p.heads + h0 + g;
            if (g >= GROUP || h0 + g > last_head) break;
            // Four teams at a time, of a multiple of four: compilers that know the number of trips would unroll the loops, and
            // Intel's would have more in registers than there are.
            float m = part_total[of_pass].x;
            [[dont_unroll]] for (uint t = 0u; t < TEAMS; t += 4u)
                [[unroll]] for (uint n = 0u; n < 4u; n++) m = max(m, part_total[(t + n) * PASS + of_pass].x);
            vec4 s = vec4(0.0);
            float all = 0.0;
            [[dont_unroll]] for (uint t = 0u; t < TEAMS; t += 4u)
                [[unroll]] for (uint n = 0u; n < 4u; n++) {
                    vec2 of = part_total[(t + n) * PASS + of_pass];
                    float w = exp(of.x - m);
                    s += w * part[((t + n) * PASS + of_pass) * QUADS + place(i % QUADS)];
                    all += w * of.y;
                }
            if (alone) {
                dst[h * QUADS + i % QUADS] = s / all;
            } else {
                uint at = part_of(h, gl_WorkGroupID.x);
                parts[at + i % QUADS] = s;
                if (i % QUADS == 0u) parts[at + QUADS] = vec4(m, all, 0.0, 0.0);
            }
        }
    }
    if (alone || !arrives_last(gl_WorkGroupID.z * p.kv_heads * groups + gl_WorkGroupID.y, splits)) return;
    for (uint i = lane; i < GROUP * QUADS && h0 + i / QUADS <= last_head; i += WORKGROUP)
        join_parts(first_token * p.heads + h0 + i / QUADS, i % QUADS, splits);
}
