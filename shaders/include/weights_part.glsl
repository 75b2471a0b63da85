// Weights as tiled products decode them: a part at a time, PART_COLS columns of a unit of one
// row, so that the invocations of a workgroup share a tile evenly. The includer has what
// weights.glsl asks for, `p` with rows and cols, and GROUP.
#include "weights.glsl"

#ifdef QUANTISED
#define PART_COLS 16u
#else
#define PART_COLS UNIT_COLS
#endif
#define PART_QUADS (PART_COLS / 4u)
#define UNIT_PARTS (UNIT_COLS / PART_COLS)

uint row_parts() { return (p.cols + UNIT_COLS - 1u) / UNIT_COLS * UNIT_PARTS; }

// Unit u of a row.
uvec4 row_unit(uint row, uint u) {
    uint nunits = (p.cols + UNIT_COLS - 1u) / UNIT_COLS;
    return load_unit((row / GROUP * nunits + u) * GROUP + row % GROUP);
}

uvec4 part_unit(uint row, uint part) { return row_unit(row, part / UNIT_PARTS); }

#ifdef QUANTISED
Record part_record(uint row, uint part) { return row_record(row, part / UNIT_PARTS, p.cols, GROUP); }

#if SCALES > 1 && SCALES * 16 != UNIT_COLS
#error a part has one scale
#endif

// Scale and constant of part i of a unit.
vec2 part_scale(Meta m, uint i) {
    vec2 dm = m.dm[0];
    [[unroll]] for (uint s = 1u; s < SCALES; s++) dm = i == s ? m.dm[s] : dm;
    return dm;
}

// The words of part i of a unit, from the first on.
uvec4 part_words(uvec4 q, uint i) {
    if (UNIT_PARTS == 1) return q;
    if (UNIT_PARTS == 2) return i == 0u ? q : q.zwzw;
    return uvec4(i < 2u ? (i == 0u ? q.x : q.y) : (i == 2u ? q.z : q.w));
}

// The high bits of part i of a unit, moved so that high_at tells their places for words counted from the part's first.
uint part_high(Meta m, uint i) {
    uint at = high_at(i * (PART_COLS / WORD_COLS), 0u);
    return (at < 8u ? m.high.x : m.high.y) >> (at % 8u);
}
#endif

// The weights of a part, in unit q, four at a time; m is ignored by plain types.
void decode_part(uvec4 q, Meta m, uint part, out vec4 w[PART_QUADS]) {
#ifndef QUANTISED
    [[unroll]] for (uint j = 0u; j < PART_QUADS; j++) w[j] = plain_quad(q, j);
#else
    vec2 dm = part_scale(m, part % UNIT_PARTS);
    uvec4 words = part_words(q, part % UNIT_PARTS);
    uint high = part_high(m, part % UNIT_PARTS);
    [[unroll]] for (uint j = 0u; j < PART_COLS / WORD_COLS; j++)
        [[unroll]] for (uint f = 0u; f < FIELDS; f++) {
            vec4 v = weights(numbers(field_bytes(words[j], high, high_at(j, f), f)), dm);
            [[unroll]] for (uint n = 0u; n < 4u; n++) {
                uint c = WORD_COLS * j + FIELDS * n + f;
                w[c / 4u][c % 4u] = v[n];
            }
        }
#endif
}
