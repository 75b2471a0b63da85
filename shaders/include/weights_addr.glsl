// Weights as the `addr` kernels read them: at device addresses, for LANE_ROWS rows of each lane of a
// subgroup of LANES. The words of a unit and of a record lie apart, each beside those of the other lanes, so
// that each is one load (lane_words.glsl):
//
//   row      of lane l, r: base + r / 2 * (2 LANES) + 2 l + r % 2, pairs of rows side by side
//   word     k of unit u of that row: ((u * group + r * LANES) * 4 + k * LANES + l) of the group's words
//   records  likewise; of those of two bytes one word has both rows of a pair
//
// group is a multiple of LANES * LANE_ROWS, and LANE_ROWS is even.
#include "lane_words.glsl"

uint64_t unit_base, meta_base; // of the workgroup's rows, set by open_rows
uvec4 load_unit(uint i) {
    uint64_t at = unit_base + uint64_t(i) * 16ul;
    return uvec4(lane_word(at), lane_word(at + 4ul * LANES), lane_word(at + 8ul * LANES), lane_word(at + 12ul * LANES));
}
uint load_meta_word(uint i) { return lane_word(meta_base + uint64_t(i) * 4ul); }
#define MASK_HIGH
#include "quads.glsl"

#ifdef HALF_META
#define META_BYTES 2u
uint record_of(uint r) { return r / 2u * (2u * LANES) + r % 2u; } // of an odd record the second half
#else
#ifdef QUANTISED
#define META_BYTES (4u * META_WORDS)
#else
#define META_BYTES 0u
#endif
uint record_of(uint r) { return r * LANES; }
#endif

// Prepares for reading the LANES * LANE_ROWS rows from `first` on, a multiple of as many.
void open_rows(uint64_t units, uint64_t metas, uint first, uint cols, uint group) {
    read_lane();
    uint whole = first / group, in_group = first % group;
    uint nunits = cols / UNIT_COLS;
    unit_base = units + (uint64_t(whole * nunits) * group + in_group) * 16ul;
    meta_base = metas + (uint64_t(whole * row_records(cols)) * group + in_group) * META_BYTES;
}

// Row r of this lane, counted from the first row of the workgroup.
uint lane_row(uint r) { return r / 2u * (2u * LANES) + 2u * lane + r % 2u; }

// Sets m to the Metas of block b of the lane's rows; plain types have none.
void load_block_metas(uint b, uint group, out Meta m[LANE_ROWS]) {
#if defined(HALF_META)
    [[unroll]] for (uint r = 0u; r < LANE_ROWS; r += 2u) {
        vec2 d = unpackHalf2x16(load_meta_word((b * group + record_of(r)) / 2u));
        m[r].dm[0] = vec2(d.x, -float(OFFSET) * d.x);
        m[r + 1u].dm[0] = vec2(d.y, -float(OFFSET) * d.y);
        m[r].high = m[r + 1u].high = uvec2(0u);
    }
#elif defined(QUANTISED)
    [[unroll]] for (uint r = 0u; r < LANE_ROWS; r++) m[r] = load_meta(group_record(record_of(r), b * BLOCK_UNITS, group, LANES));
#endif
}

// The quads of unit u of the lane's row r, whose Meta is m, as quad() has them; of a type with LEVELS the weights.
void load_quads(uint u, uint r, uint group, Meta m, out vec4 w[UNIT_QUADS]) {
    uvec4 q = load_unit(u * group + r * LANES);
#if defined(QUANTISED) && !defined(MASKED)
    float f[UNIT_COLS];
    decode_unit(q, m, f);
    [[unroll]] for (uint j = 0u; j < UNIT_QUADS; j++) w[j] = vec4(f[4u * j], f[4u * j + 1u], f[4u * j + 2u], f[4u * j + 3u]);
#else
    [[unroll]] for (uint j = 0u; j < UNIT_QUADS; j++) w[j] = quad(q, m.high, j);
#endif
}
