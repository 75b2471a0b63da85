// Weights of a type with LEVELS as float16 numbers, two at a time: a byte of a unit is the place of two columns' numbers in a table
// in shared memory, of 1024 bytes. A word of the table is two numbers, divided by 2^LEVEL_POWER so that with d multiplied by as
// much they fit float16 as the largest weight does.
//
// The weight is rounded once if d is a half, as it is in float32. Where d is computed, it is rounded too.
//
// The includer has weights_part.glsl, WORKGROUP and p.w_exponent; between write_levels and decode_levels is a barrier.
#define LEVEL_POWER 7
shared uint level_pairs[256];

void write_levels() {
    for (uint i = gl_LocalInvocationID.x; i < 256u; i += WORKGROUP)
        level_pairs[i] = packHalf2x16(vec2(level(i), level(i >> 4u)) * power(-LEVEL_POWER));
}

// The weights of a part, divided by 2^w_exponent, four at a time.
void decode_levels(uvec4 q, Meta m, uint part, out uvec2 w[PART_QUADS]) {
    f16vec2 d = f16vec2(float16_t(part_scale(m, part % UNIT_PARTS).x * power(LEVEL_POWER - p.w_exponent)));
    uvec4 words = part_words(q, part % UNIT_PARTS);
    [[unroll]] for (uint i = 0u; i < 2u * PART_QUADS; i++)
        w[i / 2u][i % 2u] = packFloat2x16(unpackFloat2x16(level_pairs[(words[i / 4u] >> (8u * (i % 4u))) & 0xffu]) * d);
}
