// Step: what changes from one run of a recorded plan to the next. The host writes it
// before each submission, or the run before has moved it on (advance.comp); kernels read
// it, so command buffers are never recorded again.
//
// A run's tokens are one or more sequences, one behind another. Each goes on from what the KV
// cache holds before `position`, and sees nothing of the others: the places of a sequence are
// 0 to position - 1 of the cache, and from there on its own tokens.
//
// position:  index in the KV cache of the first token of this run; token t is at position + t.
// count:     tokens in this run, at most the rows the plan was recorded for.
// sequences: in this run, at most MAX_SEQUENCES.
// ends:      the last token of each sequence.
// runs:      that have moved the step on, counted from where the host has set it.
// tokens:    of each token its id, and the token that its sequence begins with.
//
// The includer defines STEP_BINDING, and STEP_ACCESS if it writes.
#ifndef STEP_ACCESS
#define STEP_ACCESS readonly
#endif
#define MAX_SEQUENCES 16 // pipeline.MaxSequences
struct StepToken {
    uint id;
    uint start;
};
layout(std430, set = 0, binding = STEP_BINDING) STEP_ACCESS buffer StepBuffer {
    uint position;
    uint count;
    uint sequences;
    uint runs;
    uint ends[MAX_SEQUENCES];
    StepToken tokens[];
} step;

// Where in the KV cache a place of the sequence is that begins with token `start`.
uint cache_position(uint place, uint start) { return place < step.position ? place : place + start; }
