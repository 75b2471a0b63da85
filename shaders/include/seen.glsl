// How far a token of a step sees: to itself, or, in an encoder, to the last token of its ending. The rows of a step are the
// last tokens of its endings.
//
// The includer has step.glsl.
layout(constant_id = 13) const bool CAUSAL = true;

// The last token of the step that token t sees.
uint last_seen(uint t) {
    if (CAUSAL) return t;
    uint i = 0u;
    while (i + 1u < step.rows && step.row[i] < t) i++;
    return step.row[i];
}
