// The order of logits: the larger value first, the lower id among equals.
#define CHUNK 1024u // values that a workgroup of topk looks at: kernels.topkTile
#define NONE 0xffffffffu // no id
#define MINUS_INF uintBitsToFloat(0xff800000u)
#define PLUS_INF uintBitsToFloat(0x7f800000u)

bool better(float v, uint id, float w, uint jd) { return v > w || (v == w && id < jd); }
