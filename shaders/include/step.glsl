// Step: what changes from one run of a recorded plan to the next. The host writes it
// before each submission, or the run before has moved it on (advance.comp); kernels read
// it, so command buffers are never recorded again.
//
// A step's tokens are those of one or more sequences, one sequence behind another. A sequence goes
// on from what the KV cache holds of it (pages.glsl). The first ones may have one token each, which
// attention_decode takes; attention takes the others.
//
// count:     tokens of the step, at most the rows the plan was recorded for.
// rows:      tokens whose results are wanted, at most MAX_SEQUENCES.
// sequences: at most MAX_SEQUENCES.
// singles:   of them, those that attention_decode takes.
// runs:      that have moved the step on, counted from where the host has set it.
// next:      the token that comes after the last one, for logprob.comp.
// row:       the tokens whose results are wanted.
// sequence:  of each one its place in the KV cache.
// tokens:    of each token its id, and the token that its ending begins with, counted from the
//            sequence's first.
//
// The includer defines STEP_BINDING, and STEP_ACCESS if it writes.
#ifndef STEP_ACCESS
#define STEP_ACCESS readonly
#endif
#define MAX_SEQUENCES 16 // pipeline.MaxSequences
struct StepSequence {
    uint position; // place of its first token
    uint first;    // token
    uint table;    // where its page table begins
};
struct StepToken {
    uint id;
    uint start;
};
layout(std430, set = 0, binding = STEP_BINDING) STEP_ACCESS buffer StepBuffer {
    uint count;
    uint rows;
    uint sequences;
    uint singles;
    uint runs;
    uint next;
    uint row[MAX_SEQUENCES];
    StepSequence sequence[MAX_SEQUENCES];
    StepToken tokens[];
} step;
