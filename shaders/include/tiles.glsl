// The tiles of a product, a tile ahead: what a workgroup needs of the next TILE_COLS columns of weights
// and x is loaded to registers while it multiplies those before, and then goes to shared memory.
//
// The includer has linear.glsl; it defines WORKGROUP, TILE_ROWS, TILE_TOKENS and TILE_COLS, the
// arrays w_tile and x_tile of quads of columns, TO_QUAD, and where in them a quad is: W_PLACE(to, row, quad)
// and X_PLACE(to, token, quad), with to 0 unless it has several tiles; with WHOLE_QUADS it
// has columns that are a multiple of 4.
#define TILE_QUADS (TILE_COLS / 4u)
#define PARTS (TILE_COLS / PART_COLS)
const uint W_LOADS = (TILE_ROWS * PARTS + WORKGROUP - 1u) / WORKGROUP, X_LOADS = (TILE_TOKENS * TILE_QUADS + WORKGROUP - 1u) / WORKGROUP;

// What an invocation has of the next tile: units that hold parts of rows, words of their records, quads of tokens.
uvec4 units_ahead[W_LOADS];
#ifdef QUANTISED
uint words_ahead[W_LOADS * NEEDED];
#endif
vec4 x_ahead[X_LOADS];

// Which row and part number n of the tile's is: one that exists.
uint load_row(uint row0, uint n) { return min(row0 + n / PARTS, p.rows - 1u); }
uint load_part(uint c0, uint n) { return min(c0 / PART_COLS + n % PARTS, row_parts() - 1u); }

// Loads without a branch between them, so that all are under way at once: rows, tokens and columns
// beyond the last are the last, and what becomes of them is not stored or is multiplied by weights of zero.
void load_ahead(uint row0, uint t0, uint c0) {
    [[unroll]] for (uint i = 0u; i < W_LOADS; i++) {
        uint n = gl_LocalInvocationID.x + i * WORKGROUP, row = load_row(row0, n), part = load_part(c0, n);
        units_ahead[i] = part_unit(row, part);
#ifdef QUANTISED
        uint words[NEEDED];
        load_words(part_record(row, part), words);
        [[unroll]] for (uint j = 0u; j < NEEDED; j++) words_ahead[i * NEEDED + j] = words[j];
#endif
    }
#ifndef WHOLE_QUADS
    if (p.cols % 4u != 0u) {
        [[unroll]] for (uint i = 0u; i < X_LOADS; i++) {
            uint n = gl_LocalInvocationID.x + i * WORKGROUP, c = c0 + n % TILE_QUADS * 4u;
            uint first = min(t0 + n / TILE_QUADS, step.count - 1u) * p.cols;
            [[unroll]] for (uint j = 0u; j < 4u; j++) x_ahead[i][j] = x[first + min(c + j, p.cols - 1u)];
        }
        return;
    }
#endif
    [[unroll]] for (uint i = 0u; i < X_LOADS; i++) {
        uint n = gl_LocalInvocationID.x + i * WORKGROUP;
        x_ahead[i] = x_quads[min(t0 + n / TILE_QUADS, step.count - 1u) * (p.cols / 4u) + min(c0 / 4u + n % TILE_QUADS, p.cols / 4u - 1u)];
    }
}

// Puts what load_ahead loaded into tile `to`.
void store_ahead(uint row0, uint c0, uint to) {
    [[unroll]] for (uint i = 0u; i < W_LOADS; i++) {
        uint n = gl_LocalInvocationID.x + i * WORKGROUP, part = load_part(c0, n);
        Meta m;
#ifdef QUANTISED
        uint words[NEEDED];
        [[unroll]] for (uint j = 0u; j < NEEDED; j++) words[j] = words_ahead[i * NEEDED + j];
        m = decode_meta(words, part_record(load_row(row0, n), part).part);
#endif
        vec4 w[PART_QUADS];
        decode_part(units_ahead[i], m, part, w);
        if (W_LOADS * WORKGROUP == TILE_ROWS * PARTS || n < TILE_ROWS * PARTS)
            [[unroll]] for (uint j = 0u; j < PART_QUADS; j++)
                w_tile[W_PLACE(to, n / PARTS, n % PARTS * PART_QUADS + j)] = TO_QUAD(c0 / PART_COLS + n % PARTS < row_parts() ? w[j] : vec4(0.0));
    }
    [[unroll]] for (uint i = 0u; i < X_LOADS; i++) {
        uint n = gl_LocalInvocationID.x + i * WORKGROUP;
        if (X_LOADS * WORKGROUP == TILE_TOKENS * TILE_QUADS || n < TILE_TOKENS * TILE_QUADS)
            x_tile[X_PLACE(to, n / TILE_QUADS, n % TILE_QUADS)] = TO_QUAD(x_ahead[i]);
    }
}
