// Draws one of the largest logits of a row as package sample does, in float32: from softmax(value / temperature) over the
// first top_k candidates, of which top_p keeps the fewest that reach it together and min_p those of at least so much of
// the largest.
#define MAX_DRAW 64u // candidates, the largest first: pipeline.TopLogits

struct How {
    float inverse_temperature;
    uint top_k;  // 1 to MAX_DRAW
    float top_p; // 1 is off
    float min_p; // 0 is off
};

shared float weight[MAX_DRAW]; // 256 bytes; of each candidate, not normalised
shared uint ids[MAX_DRAW];     // 256 bytes

// drawn is the place of the candidate that u falls on, of n with weight and ids.
uint drawn(How how, uint n, float u) {
    uint kept = min(how.top_k, n);
    while (kept > 1u && weight[kept - 1u] == 0.0) kept--; // also those that are missing: their value is -inf
    float total = 0.0;
    for (uint i = 0u; i < kept; i++) total += weight[i];
    float sum = weight[0];
    uint end = 1u;
    while (end < kept && (how.top_p >= 1.0 || sum < how.top_p * total) && weight[end] >= how.min_p) sum += weight[end++];
    float r = u * sum;
    for (uint i = 0u; i < end; i++) {
        r -= weight[i];
        if (r < 0.0) return i;
    }
    return end - 1u;
}
