// x of matvec_sg.comp in two planes of bytes, for dot products of four: of SUM_COLS columns with the largest magnitude a,
// x = a / 32639 * (256 high + low), where the digits high and low are -128 to 127, rounded to the nearest.
//
// So a value is wrong by at most a / 65278, and beside that sums of products are exact: they are integers of at most 31 bits,
// 256 * 32 columns * 127 * 128, until a scale is multiplied to them.
//
// An invocation has STAGED adjacent quads of a chunk, whose bytes it puts in the order in which weights.glsl makes words of
// bytes of weights; invocations that share SUM_COLS columns are adjacent. Shared memory has, of each such group, the STAGED
// words of the high plane and then those of the low one. x_blocks has of SUM_COLS columns a / 32639, and what weights need
// of their sum: with STARTS -OFFSET times that of the integers, from which products are added up, else the sum of x. A block
// with an infinity or a NaN has a scale that is NaN, so that what is computed of it shows.
//
// 4 * STAGED divides SUM_COLS, and WORD_COLS divides 4 * STAGED.
#define SUM_QUADS (SUM_COLS / 4u)
#define SHARERS (SUM_COLS / (4u * STAGED)) // invocations of a block
shared uvec4 x_tile[QUADS * STRIDE];
shared uvec2 x_blocks[2u * QUADS / SUM_QUADS * STRIDE];

#if defined(OFFSET) && FIELD_BITS < 8
#define STARTS
#define START(block) int(block.y)
#else
#define START(block) 0
#endif

// What products take for the bytes v of weights: signed, less OFFSET unless sums start with it.
int signed_bytes(uint v) {
#if FIELD_BITS == 8
    return int(v ^ 0x80808080u);
#else
    return int(v);
#endif
}

// Which word of a run's planes the high plane has for word k of bytes of weights.
uint plane_word(uint k) { return k / STAGED * (2u * STAGED) + k % STAGED; }

uint invocation() { return gl_SubgroupID * LANES + gl_SubgroupInvocationID; }

// This invocation's quad i of a chunk of x, and the same or, beyond the last, one that is not used.
uint staged_quad(uint chunk, uint i) { return chunk * (LANES * QUADS) + invocation() * STAGED + i; }
uint loaded_quad(uint chunk, uint i) { return min(staged_quad(chunk, 0u), p.cols / 4u - STAGED) + i; }

float staged_column(uint c) { return staged[c / 4u][c % 4u]; }

// The digits, each plus 128, of two values: 16 bits of a word for each. With 1.5 * 2^23 = 0x4b400000 added the lowest bits of a
// float are the integer, and the upper value's have 0x4b40 less, which the lower one brings.
uint digits_of_two(float lower, float upper) {
    return floatBitsToUint(lower + (12582912.0 + 0x8080)) + (floatBitsToUint(upper + (12582912.0 + (0x8080 - 0x4b40))) << 16u);
}

void store_quads(uint chunk) {
    uint largest = 0u; // as bits, which are in the order of magnitudes, with NaN last
    [[unroll]] for (uint i = 0u; i < STAGED; i++)
        [[unroll]] for (uint n = 0u; n < 4u; n++) largest = max(largest, floatBitsToUint(staged[i][n]) & 0x7fffffffu);
    [[unroll]] for (uint other = 1u; other < SHARERS; other *= 2u) largest = max(largest, subgroupShuffleXor(largest, other));
    float a = max(uintBitsToFloat(largest), 1e-30); // so that its inverse is finite
    float unit = a * (1.0 / 32639.0), inverse = 32639.0 / a;
    if (largest >= 0x7f800000u) unit = uintBitsToFloat(0x7fc00000u);

    uvec4 planes[STAGED / 2u];
    int high_sum = 0, low_sum = 0;
    [[unroll]] for (uint k = 0u; k < STAGED; k++) {
        uint c = WORD_COLS * (k / FIELDS) + k % FIELDS; // of the word's four
        uint even = digits_of_two(staged_column(c) * inverse, staged_column(c + 2u * FIELDS) * inverse);
        uint odd = digits_of_two(staged_column(c + FIELDS) * inverse, staged_column(c + 3u * FIELDS) * inverse);
        uint high = (((even >> 8u) & 0x00ff00ffu) | (odd & 0xff00ff00u)) ^ 0x80808080u;
        uint low = ((even & 0x00ff00ffu) | ((odd << 8u) & 0xff00ff00u)) ^ 0x80808080u;
        planes[k / 4u][k % 4u] = high;
        planes[(k + STAGED) / 4u][(k + STAGED) % 4u] = low;
        high_sum += dotPacked4x8EXT(int(high), 0x01010101);
        low_sum += dotPacked4x8EXT(int(low), 0x01010101);
    }
    int sum = (high_sum << 8) + low_sum;
    uint groups = PIECE_QUADS / STAGED, n = invocation() / groups, group = invocation() % groups;
    uint first = (chunk & 1u) * QUADS + n / LANES * PIECE_QUADS + group * STAGED, lane = n % LANES;
    [[unroll]] for (uint i = 0u; i < STAGED / 2u; i++) x_tile[(first / 2u + i) * STRIDE + lane] = planes[i];
#if !defined(OFFSET) || defined(STARTS)
    [[unroll]] for (uint other = 1u; other < SHARERS; other *= 2u) sum += subgroupShuffleXor(sum, other);
#endif
    if (group % SHARERS == 0u) {
#ifdef STARTS
        uint start = uint(-OFFSET * sum);
#else
        uint start = floatBitsToUint(unit * float(sum));
#endif
        x_blocks[first / SUM_QUADS * STRIDE + lane] = uvec2(floatBitsToUint(unit), start);
    }
}
