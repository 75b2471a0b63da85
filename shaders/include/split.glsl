// How attention of one token divides the keys it sees between SPLITS workgroups: each takes
// split_keys consecutive ones, a multiple of SPLIT_KEYS, and those that find none left
// leave at once. The order of sums depends on position alone.
//
// With more than one split a workgroup leaves, for each head, the sums of weighted values
// and behind them a quad (maximum, sum of weights); attention_reduce.comp joins them.
#define SPLIT_KEYS 64u
layout(constant_id = 2) const uint SPLITS = 1u;

// Keys are counted from a multiple of eight, so that a block of eight is in one page.
uint first_counted(uint start) { return start & ~7u; }

uint split_keys(uint start, uint length) {
    uint n = (length - first_counted(start) + SPLITS - 1u) / SPLITS;
    return (n + SPLIT_KEYS - 1u) / SPLIT_KEYS * SPLIT_KEYS;
}
