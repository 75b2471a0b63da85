// What attention kernels share: their push constants, and what is done to a score after
// scale * q . k.
//
// ALiBi (Press et al. 2022, arXiv:2108.12409) adds slope * (j - i) for key j and query i.
// A soft cap (Gemma 2) replaces s by cap * tanh(s / cap). Neither is in the kernel unless
// its specialization constant says so.
//
// The includer defines SLOPES_BINDING, and ADDRESSES to be the addresses behind the push
// constants if there are any.
#include "softcap.glsl"

layout(constant_id = 10) const bool HAS_ALIBI = false;
layout(constant_id = 11) const bool HAS_SOFTCAP = false;
layout(std430, binding = SLOPES_BINDING) readonly buffer Slopes { float slopes[]; };
layout(push_constant) uniform Push {
    uint heads;
    uint kv_heads;
    uint head_dim;
    uint places;   // of the layer's pages together
    uint local;    // 1: the layer keeps a window, and has page tables of its own
    uint window;   // keys a query sees, itself included; 0xffffffff for all
    float scale;
    float softcap;
    uint rotary_dim; // of the kernels that rotate: as in rope.comp
    float clip;
#ifdef ADDRESSES
    ADDRESSES
#endif
} p;

float head_slope(uint h) { return HAS_ALIBI ? slopes[h] : 0.0; }

// The first place that the query at place length - 1 sees.
uint first_key(uint length) { return length > p.window ? length - p.window : 0u; }

float finish_score(float s, float slope, int distance) {
    if (HAS_SOFTCAP) s = soft_cap(s, p.softcap);
    if (HAS_ALIBI) s += slope * float(distance);
    return s;
}
