// Where the keys and values of a sequence are: in pages of PAGE places (Kwon et al. 2023, arXiv:2309.06180).
// A layer's cache is (pages, kv_heads, PAGE, head_dim), and a sequence's page table names two pages for each PAGE
// places: of the layers that keep all places, and of those that keep a window. Page 0 belongs to no sequence: what an
// entry of 0 leads to can be read.
//
// The tokens of a sequence in one step may be several endings, one behind another. Each goes on from what the cache
// holds before `position`, and sees nothing of the others: it sees the places 0 to position - 1 of the table, and
// from position + start on its own tokens, which it counts from `position`.
//
// The includer defines PAGES_BINDING, and has step.glsl, p.kv_heads and p.local.
layout(constant_id = 12) const uint PAGE = 64u; // a power of two, at least 64
layout(std430, binding = PAGES_BINDING) readonly buffer Pages { uint page_table[]; };

// Of the sequence that a workgroup works for.
uint position;    // place of its first token
uint first_token; // of the step
uint token_count;
uint pages; // entry of page_table with which its own begins

void set_sequence(uint s) {
    position = step.sequence[s].position;
    first_token = step.sequence[s].first;
    token_count = (s + 1u < step.sequences ? step.sequence[s + 1u].first : step.count) - first_token;
    pages = step.sequence[s].table;
}

// The sequence of token t of the step.
void set_sequence_of(uint t) {
    uint s = 0u;
    while (s + 1u < step.sequences && t >= step.sequence[s + 1u].first) s++;
    set_sequence(s);
}

// The sequence of tile x, of those that attention takes, and the tile's first row of the sequence's: a token has
// `sharing` rows, a tile `size` of one sequence. false: there are no more tiles.
bool set_tile(uint x, uint size, uint sharing, out uint first_row) {
    for (uint s = step.singles; s < step.sequences; s++) {
        set_sequence(s);
        uint tiles = (token_count * sharing + size - 1u) / size;
        if (x < tiles) {
            first_row = x * size;
            return true;
        }
        x -= tiles;
    }
    return false;
}

uint page_of(uint at) { return page_table[2u * (pages + at / PAGE) + p.local]; }

// The row of a key-value head at a place of the table.
uint cache_row(uint kv, uint at) { return (page_of(at) * p.kv_heads + kv) * PAGE + at % PAGE; }

// The same for a block of at most PAGE places, which are in two pages at most.
struct Block {
    uint page, next;
    uint first; // place of the page, in pages
};
Block find_block(uint first, uint last) {
    return Block(page_of(first), page_of(last), first / PAGE);
}
uint block_row(Block b, uint kv, uint at) {
    return ((at / PAGE == b.first ? b.page : b.next) * p.kv_heads + kv) * PAGE + at % PAGE;
}

// Where in the table a place is of the ending that begins with token `start`.
uint cache_position(uint place, uint start) { return place < position ? place : place + start; }
