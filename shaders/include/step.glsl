// Step: what changes from one run of a recorded plan to the next. The host writes it
// before each submission; kernels read it, so command buffers are never recorded again.
//
// position: index in the KV cache of the first token of this run.
// count:    tokens in this run, at most the rows the plan was recorded for.
// tokens:   their ids.
//
// The includer defines STEP_BINDING.
layout(std430, set = 0, binding = STEP_BINDING) readonly buffer StepBuffer {
    uint position;
    uint count;
    uint reserved0;
    uint reserved1;
    uint tokens[];
} step;
