// The weights of tiles, a tile ahead: what a workgroup needs of the next TILE_COLS columns is loaded to registers
// while it multiplies those before.
//
// The includer has linear.glsl; it defines WORKGROUP, TILE_ROWS and TILE_COLS, and may define TILE_LINE(i, lanes): which of
// a tile's rows, or tokens, is taken by the i-th so many invocations, one of the same eight as i; and WHOLE, a constant: whether
// rows are whole tiles.
#ifndef TILE_LINE
#define TILE_LINE(i, lanes) (i)
#endif
#define PARTS (TILE_COLS / PART_COLS)
const uint W_LOADS = (TILE_ROWS * PARTS + WORKGROUP - 1u) / WORKGROUP;

// The row or token of a tile that this invocation takes at turn i, of those that so many invocations share. Between turns is
// a constant wherever it can be, which then is in instructions, and not a place each in registers.
uint line_of(uint i, uint lanes) {
    uint n = gl_LocalInvocationID.x / lanes, turn = WORKGROUP / lanes;
    return turn % 8u == 0u ? TILE_LINE(n, lanes) + i * turn : TILE_LINE(n + i * turn, lanes);
}

// What an invocation has of the next tile: units that hold parts of rows, words of their records.
uvec4 units_ahead[W_LOADS];
#ifdef QUANTISED
uint words_ahead[W_LOADS * NEEDED];
#endif

// Which row, and part of a row, the invocation takes: one that exists. Rows of quantised types are whole blocks of 32.
uint load_row(uint row0, uint i) { return min(row0 + line_of(i, PARTS), p.rows - 1u); }
uint load_part(uint c0) {
    uint part = c0 / PART_COLS + gl_LocalInvocationID.x % PARTS;
#ifdef QUANTISED
    if (TILE_COLS <= 32u) return part;
#endif
#ifdef WHOLE
    if (WHOLE) return part;
#endif
    return min(part, row_parts() - 1u);
}

// Loads without a branch between them, so that all are under way at once: rows and columns beyond the last are
// the last, and what becomes of them is not stored or must be taken for zero.
void load_weights_ahead(uint row0, uint c0) {
    [[unroll]] for (uint i = 0u; i < W_LOADS; i++) {
        uint row = load_row(row0, i), part = load_part(c0);
        units_ahead[i] = part_unit(row, part);
#ifdef QUANTISED
        uint words[NEEDED];
        load_words(part_record(row, part), words);
        [[unroll]] for (uint j = 0u; j < NEEDED; j++) words_ahead[i * NEEDED + j] = words[j];
#endif
    }
}

// The Meta of units_ahead[i].
Meta meta_ahead(uint i, uint row0, uint c0) {
    Meta m;
#ifdef QUANTISED
    uint words[NEEDED];
    [[unroll]] for (uint j = 0u; j < NEEDED; j++) words[j] = words_ahead[i * NEEDED + j];
    m = decode_meta(words, part_record(load_row(row0, i), load_part(c0)).part);
#endif
    return m;
}
