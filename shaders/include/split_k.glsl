// How a product with several tokens divides its columns between SPLITS workgroups for each tile of rows by tokens, so that a
// device with more units than there are tiles has work for all: each takes as many columns, a multiple of SPAN_COLS, the last
// what is left. The last to arrive adds what all have left, in the order of columns (arrive.glsl).
//
//   parts     (tiles of tokens, tiles of rows, SPLITS, TILE_ROWS * TILE_TOKENS) f32: sums, in an order that is the includer's
//   arrivals  (tiles of tokens, tiles of rows) u32
//
// The includer has linear.glsl, TILE_ROWS, TILE_TOKENS and SPAN_COLS; it defines PARTS_BINDING.
layout(constant_id = 11) const uint SPLITS = 1u;
// coherent: workgroups read what others write.
layout(std430, binding = PARTS_BINDING) coherent buffer Parts { float parts[]; };
#include "arrive.glsl"

uint split_columns() { return ((p.cols + SPAN_COLS - 1u) / SPAN_COLS + SPLITS - 1u) / SPLITS * SPAN_COLS; }

// The first of this workgroup's columns, and the one behind its last.
uint first_column() { return SPLITS > 1u ? gl_WorkGroupID.z * split_columns() : 0u; }
uint column_end() { return SPLITS > 1u ? min(first_column() + split_columns(), p.cols) : p.cols; }

uint tile_index() { return gl_WorkGroupID.y * ((p.rows + TILE_ROWS - 1u) / TILE_ROWS) + gl_WorkGroupID.x; }

// Where split s leaves sum i of this workgroup's tile.
uint part_of(uint s, uint i) { return (tile_index() * SPLITS + s) * (TILE_ROWS * TILE_TOKENS) + i; }

// Stores sum i of the tile, of a token and a row, if it is the whole one, or leaves it.
void store_sum(uint t, uint row, uint i, float sum) {
    if (SPLITS > 1u)
        parts[part_of(gl_WorkGroupID.z, i)] = sum;
    else
        store_y(t, row, sum);
}

// Called by all invocations of a workgroup after store_sum: whether it is to join what all splits of its tile have left.
bool joins() { return SPLITS > 1u && arrives_last(tile_index(), SPLITS); }
