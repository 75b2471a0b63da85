// The KV cache of cache.glsl in words, as the `addr` attention kernels read it: ROW_WORDS a row,
// of WORD_DIMS components each. STORED_WORD makes one of components i on of v. The includer has HEAD_DIM.
#ifdef KV_F32
#define WORD_DIMS 1u
#define STORED_WORD(v, i) floatBitsToUint(v[i])
float component(uint word, uint i) { return uintBitsToFloat(word); }
#else
#define WORD_DIMS 2u
#define STORED_WORD(v, i) packHalf2x16(vec2(v[i], v[i + 1u]))
float component(uint word, uint i) { return unpackHalf2x16(word)[i]; }
#endif
#define ROW_WORDS (HEAD_DIM / WORD_DIMS)
