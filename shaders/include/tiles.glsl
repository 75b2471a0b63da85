// The tiles of a product, a tile ahead: what a workgroup needs of the next TILE_COLS columns of weights
// and x is loaded to registers while it multiplies those before, and then goes to shared memory.
//
// The includer has linear.glsl; it defines WORKGROUP, TILE_ROWS, TILE_TOKENS and TILE_COLS, the
// arrays w_tile and x_tile of quads of columns, of float16 with X_HALVES, and where in them a quad is:
// W_PLACE(to, row, quad) and X_PLACE(to, token, quad), with to 0 unless it has several tiles. With TILE_OCTETS, which has X_HALVES,
// they are of eight columns each, in four words, and it defines instead PITCH, from a row or token to the next, W_SIZE and X_SIZE,
// from a tile to the next, and WHOLE, whether rows of a matrix are whole tiles. With RAW, which has X_HALVES, weights are float16
// numbers in memory too.
#if defined(X_HALVES) && defined(QUANTISED) && META_COLS == 256 // rows are whole blocks of 256
#define SPANS
#endif
#include "weights_ahead.glsl"
#define TILE_QUADS (TILE_COLS / 4u)
#if defined(X_HALVES) && defined(QUANTISED) && !defined(LEVELS)
#define PAIRED // columns are in another order in the tiles
#include "pairs.glsl"
#endif
#if defined(PAIRED) || defined(TILE_OCTETS)
#define X_PAIRS
#define X_QUADS 2u // that an invocation takes at a time
#define TILE_PAIRS (TILE_QUADS / 2u)
#ifdef QUANTISED // rows are whole tiles
#define X_WHOLE true
#else
#define X_WHOLE WHOLE
#endif
#else
#define X_QUADS 1u
#endif
const uint X_ITEMS = TILE_TOKENS * TILE_QUADS / X_QUADS, X_LOADS = (X_ITEMS + WORKGROUP - 1u) / WORKGROUP;

#ifdef X_HALVES
#define X_AHEAD uvec2
#define X_QUAD(i) x_halves[i]
#define W_HALVES(v) f16vec4((v) * power(-p.w_exponent))
#ifdef TILE_OCTETS
uvec2 words(f16vec4 v) { return uvec2(packFloat2x16(v.xy), packFloat2x16(v.zw)); }
#define W_TO_TILE(v) words(W_HALVES(v))
#define X_TO_TILE(v) (v)
#else
#define W_TO_TILE(v) W_HALVES(v)
#define X_TO_TILE(v) f16vec4(unpackFloat2x16((v).x), unpackFloat2x16((v).y))
#endif
#else
#define X_AHEAD vec4
#define X_QUAD(i) x_quads[i]
#define W_TO_TILE(v) (v)
#define X_TO_TILE(v) (v)
#endif
#ifdef RAW
#define W_QUAD uvec2
#define DECODE scale_halves
// The weights of a part, divided by 2^w_exponent, four at a time: without conversions, which are slow on NVIDIA's GPUs.
void scale_halves(uvec4 unit, Meta m, uint part, out uvec2 w[PART_QUADS]) {
    f16vec2 d = f16vec2(float16_t(power(-p.w_exponent)));
    [[unroll]] for (uint i = 0u; i < 2u * PART_QUADS; i++) w[i / 2u][i % 2u] = packFloat2x16(unpackFloat2x16(unit[i]) * d);
}
#elif defined(PAIRED)
#define W_QUAD uvec2
#define DECODE decode_pairs
#elif defined(TILE_OCTETS) && defined(LEVELS)
#include "level_pairs.glsl"
#define W_QUAD uvec2
#define DECODE decode_levels
#else
#define W_QUAD vec4
#define DECODE decode_part
#endif
#if defined(RAW) || defined(PAIRED) || defined(TILE_OCTETS) && defined(LEVELS)
#undef W_TO_TILE
#define W_TO_TILE(v) X_TO_TILE(v)
#endif

// What an invocation has of the next tile's tokens.
X_AHEAD x_ahead[X_LOADS * X_QUADS];

// Which of a span's pieces of so many columns is piece n of a tile.
uint span_piece(uint n, uint cols, uint phase) {
#ifdef SPANS
    uint of_part = PART_COLS / cols;
    return n / of_part * (UNIT_COLS / cols) + phase * of_part + n % of_part;
#else
    return n;
#endif
}

// Loads without a branch between them. Tokens beyond the last are the last, as rows are, and columns beyond the last
// are multiplied by weights of zero. Without `units` the weights' units have been loaded for the tile before.
void load_ahead(uint row0, uint t0, uint c0, uint phase, bool units) {
    if (units) load_weights_ahead(row0, c0);
#ifndef X_HALVES // whose rows are whole quads
    if (p.cols % 4u != 0u) {
        [[unroll]] for (uint i = 0u; i < X_LOADS; i++) {
            uint c = c0 + gl_LocalInvocationID.x % TILE_QUADS * 4u;
            uint first = min(t0 + line_of(i, TILE_QUADS), step.count - 1u) * p.cols;
            [[unroll]] for (uint j = 0u; j < 4u; j++) x_ahead[i][j] = x[first + min(c + j, p.cols - 1u)];
        }
        return;
    }
#endif
    [[unroll]] for (uint i = 0u; i < X_LOADS; i++) {
#ifdef X_PAIRS
        uint token = min(t0 + line_of(i, TILE_PAIRS), step.count - 1u), pair = gl_LocalInvocationID.x % TILE_PAIRS;
        uvec4 both;
        if (X_WHOLE) {
            both = x_octets[token * (p.cols / 8u) + span_piece(pair, 8u, phase) + c0 / 8u];
        } else {
            uint quads = (p.cols + 3u) / 4u, first = c0 / 4u + 2u * pair;
            both = uvec4(X_QUAD(token * quads + min(first, quads - 1u)), X_QUAD(token * quads + min(first + 1u, quads - 1u)));
        }
        x_ahead[2u * i] = both.xy;
        x_ahead[2u * i + 1u] = both.zw;
#else
        uint quads = (p.cols + 3u) / 4u;
        uint quad = min(c0 / 4u + span_piece(gl_LocalInvocationID.x % TILE_QUADS, 4u, phase), quads - 1u);
        x_ahead[i] = X_QUAD(min(t0 + line_of(i, TILE_QUADS), step.count - 1u) * quads + quad);
#endif
    }
}

#ifdef TILE_OCTETS
// Where an octet of the line that line_of names is, in a tile that begins at `tile`. The constant between turns is added last, or
// compilers don't put it into instructions.
uint octet_at(uint tile, uint i, uint lanes, uint octet) {
    uint n = gl_LocalInvocationID.x / lanes, turn = WORKGROUP / lanes;
    if (turn % 8u != 0u) return tile + (TILE_LINE(n + i * turn, lanes) * PITCH + octet);
    return tile + (TILE_LINE(n, lanes) * PITCH + octet) + i * turn * PITCH;
}
#endif

// Puts what load_ahead loaded into tile `to`.
void store_ahead(uint row0, uint c0, uint phase, bool units, uint to) {
    [[unroll]] for (uint i = 0u; i < W_LOADS; i++) {
        uint n = gl_LocalInvocationID.x + i * WORKGROUP, part = gl_LocalInvocationID.x % PARTS;
        uvec4 unit = units_ahead[i];
#ifndef QUANTISED // whose rows are whole tiles
#ifdef WHOLE
        if (!WHOLE)
#endif
        if (c0 / PART_COLS + part >= row_parts()) unit = uvec4(0u);
#endif
        W_QUAD w[PART_QUADS];
        DECODE(unit, meta_ahead(i, row0, c0, phase, units), unit_part_of(c0, phase), w);
        if (W_LOADS * WORKGROUP == TILE_ROWS * PARTS || n < TILE_ROWS * PARTS)
#ifndef TILE_OCTETS
            [[unroll]] for (uint j = 0u; j < PART_QUADS; j++)
                w_tile[W_PLACE(to, line_of(i, PARTS), part * PART_QUADS + j)] = W_TO_TILE(w[j]);
#elif UNIT_COLS == 4
            [[unroll]] for (uint n = 0u; n < 2u; n++)
                w_tile[octet_at(to * W_SIZE, i, PARTS, part / 2u)][part % 2u * 2u + n] = W_TO_TILE(w[0])[n];
#else
            [[unroll]] for (uint j = 0u; j < PART_QUADS; j += 2u)
                w_tile[octet_at(to * W_SIZE, i, PARTS, (part * PART_QUADS + j) / 2u)] = uvec4(W_TO_TILE(w[j]), W_TO_TILE(w[j + 1u]));
#endif
    }
    [[unroll]] for (uint i = 0u; i < X_LOADS; i++) {
        uint n = gl_LocalInvocationID.x + i * WORKGROUP;
        if (X_LOADS * WORKGROUP == X_ITEMS || n < X_ITEMS) {
#ifdef PAIRED
            uvec4 v = paired_octet(uvec4(x_ahead[2u * i], x_ahead[2u * i + 1u]));
#elif defined(X_PAIRS)
            uvec4 v = uvec4(x_ahead[2u * i], x_ahead[2u * i + 1u]);
#endif
#ifdef X_PAIRS
            uint token = line_of(i, TILE_PAIRS), pair = gl_LocalInvocationID.x % TILE_PAIRS;
#endif
#ifdef TILE_OCTETS
            x_tile[octet_at(to * X_SIZE, i, TILE_PAIRS, pair)] = v;
#elif defined(PAIRED)
            x_tile[X_PLACE(to, token, pair * 2u)] = X_TO_TILE(v.xy);
            x_tile[X_PLACE(to, token, pair * 2u + 1u)] = X_TO_TILE(v.zw);
#else
            x_tile[X_PLACE(to, line_of(i, TILE_QUADS), gl_LocalInvocationID.x % TILE_QUADS)] = X_TO_TILE(x_ahead[i]);
#endif
        }
    }
}
