// What kernels of the `addr` path load. The drivers that they are for load what is the same in all
// lanes as a scalar, and see LANES scalars of consecutive addresses, one a lane, for the one vector
// load that they are. There is no bounds check, so an address must be good whether the lane is
// active or not: loops end at their ends, since a lane that has left a loop at its beginning goes
// through its body once more, switched off, and what all lanes share is loaded all the same.
#extension GL_EXT_buffer_reference : require
#extension GL_EXT_shader_explicit_arithmetic_types_int64 : require
#extension GL_KHR_shader_subgroup_basic : require

layout(buffer_reference, std430, buffer_reference_align = 4) readonly buffer Words { uint w[]; };
layout(buffer_reference, std430, buffer_reference_align = 4) readonly buffer Floats { float f[]; };

// Read first in a loop, gl_SubgroupInvocationID is to lavapipe a variable of the loop and what it is
// compared with no constant, so kernels call read_lane before.
uint lane;
void read_lane() { lane = gl_SubgroupInvocationID; }

// One of LANES consecutive words for each lane.
uint lane_word(uint64_t at) {
    Words p = Words(at);
    uint v = p.w[0];
    [[unroll]] for (uint l = 1u; l < LANES; l++) {
        uint word = p.w[l]; // not within the choice, which would be a branch
        v = mix(v, word, lane == l);
    }
    return v;
}

// Floats 4j to 4j + 3 at an address, the same in all lanes.
vec4 load_floats(uint64_t at, uint j) {
    Floats p = Floats(at);
    return vec4(p.f[4u * j], p.f[4u * j + 1u], p.f[4u * j + 2u], p.f[4u * j + 3u]);
}
