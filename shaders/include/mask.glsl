// Which tokens each row of logits may choose: of a row that has a mask, those whose bit is set. The includer defines
// MASK_BINDING.
//
// masked:  a bit for each row that has a mask.
// allowed: (rows, words), a bit for each token, the lowest bit first; words take all tokens of a row.
layout(std430, binding = MASK_BINDING) readonly buffer Mask {
    uint masked;
    uint allowed[];
} mask;

// the 32 bits of a row that token id is one of, of n tokens
uint allowed_word(uint row, uint n, uint id) {
    if ((mask.masked >> row & 1u) == 0u) return 0xffffffffu;
    return mask.allowed[row * ((n + 31u) / 32u) + id / 32u];
}
