// The weights of tiles, a tile ahead: what a workgroup needs of the next TILE_COLS columns is loaded to registers
// while it multiplies those before.
//
// The includer has linear.glsl; it defines WORKGROUP, TILE_ROWS and TILE_COLS, and may define TILE_LINE(i, lanes): which of
// a tile's rows, or tokens, is taken by the i-th so many invocations, one of the same eight as i; and WHOLE, a constant: whether
// rows are whole tiles.
//
// With SPANS, a tile has a part of each of PARTS neighbouring units of a row, and as many tiles as a unit has parts, PHASES, are a
// span of columns. An invocation loads a unit for several of them, and neighbouring ones the sectors of a row as a whole.
#ifndef TILE_LINE
#define TILE_LINE(i, lanes) (i)
#endif
#define PARTS (TILE_COLS / PART_COLS)
#ifdef SPANS
#define PHASES UNIT_PARTS
#else
#define PHASES 1u
#endif
#define SPAN_COLS (PHASES * TILE_COLS)
// The first column of the span of a tile that begins with column c, and which of its tiles it is.
uint span_of(uint c) { return PHASES > 1u ? c - c % SPAN_COLS : c; }
uint phase_of(uint c) { return PHASES > 1u ? c % SPAN_COLS / TILE_COLS : 0u; }

const uint W_LOADS = (TILE_ROWS * PARTS + WORKGROUP - 1u) / WORKGROUP;

// The row or token of a tile that this invocation takes at turn i, of those that so many invocations share. Between turns is
// a constant wherever it can be, which then is in instructions, and not a place each in registers.
uint line_of(uint i, uint lanes) {
    uint n = gl_LocalInvocationID.x / lanes, turn = WORKGROUP / lanes;
    return turn % 8u == 0u ? TILE_LINE(n, lanes) + i * turn : TILE_LINE(n + i * turn, lanes);
}

// What an invocation has of the next tile, or of the span that it is in: units that hold parts of rows, words of their records.
uvec4 units_ahead[W_LOADS];
#ifdef QUANTISED
uint words_ahead[W_LOADS * NEEDED];
#if defined(SPANS) && SCALES == 1
vec2 scales_ahead[W_LOADS];
#endif
#endif

// Which row, and part of a row, the invocation takes: one that exists. Rows of quantised types are whole blocks of 32.
uint load_row(uint row0, uint i) { return min(row0 + line_of(i, PARTS), p.rows - 1u); }
#ifdef SPANS // rows are whole spans, of which c0 is the first column
uint load_unit_of(uint c0) { return c0 / UNIT_COLS + gl_LocalInvocationID.x % PARTS; }
#else
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
uint load_unit_of(uint c0) { return load_part(c0) / UNIT_PARTS; }
#endif

// Which part of the unit is the tile's.
uint unit_part_of(uint c0, uint phase) {
#ifdef SPANS
    return phase;
#else
    return load_part(c0) % UNIT_PARTS;
#endif
}

// Loads without a branch between them, so that all are under way at once: rows and columns beyond the last are
// the last, and what becomes of them is not stored or must be taken for zero.
void load_weights_ahead(uint row0, uint c0) {
    [[unroll]] for (uint i = 0u; i < W_LOADS; i++) {
        uint row = load_row(row0, i), u = load_unit_of(c0);
        units_ahead[i] = row_unit(row, u);
#ifdef QUANTISED
        uint words[NEEDED];
        load_words(row_record(row, u, p.cols, GROUP), words);
        [[unroll]] for (uint j = 0u; j < NEEDED; j++) words_ahead[i * NEEDED + j] = words[j];
#endif
    }
}

// The Meta of units_ahead[i]. Where a unit has one scale it is decoded with the first tile after its load, which is of `units`.
Meta meta_ahead(uint i, uint row0, uint c0, uint phase, bool units) {
    Meta m;
#ifdef QUANTISED
    uint words[NEEDED];
    [[unroll]] for (uint j = 0u; j < NEEDED; j++) words[j] = words_ahead[i * NEEDED + j];
    uint part = row_record(load_row(row0, i), load_unit_of(c0), p.cols, GROUP).part;
    m = decode_meta(words, part);
#if SCALES > 1 // of which the tile's part needs one: the others are not computed
    vec2 dm = scale_constant(words, part, unit_part_of(c0, phase));
    [[unroll]] for (uint s = 0u; s < SCALES; s++) m.dm[s] = dm;
#elif defined(SPANS)
    if (units) scales_ahead[i] = m.dm[0];
    else m.dm[0] = scales_ahead[i];
#endif
#endif
    return m;
}
