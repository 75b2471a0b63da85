// Rotation of a component (Su et al. 2021, arXiv:2104.09864), of heads that begin at `base` of `qkv`,
// which is floats, by `table`, vec2 cosine and sine of (places, rotary_dim / 2). The includer has
// p.rotary_dim, p.clip, INTERLEAVED.
// Loads outside of the condition, so that compilers join the loads of neighbouring components.
float load(uint i) {
    float v = qkv[i];
    return p.clip > 0.0 ? clamp(v, -p.clip, p.clip) : v;
}

float rotated(uint base, uint d, uint place) {
    float v = load(base + d);
    if (d >= p.rotary_dim) return v;
    uint half_dim = p.rotary_dim / 2u;
    uint j = INTERLEAVED ? d / 2u : d % half_dim;
    bool first = INTERLEAVED ? (d & 1u) == 0u : d < half_dim;
    uint partner = INTERLEAVED ? d ^ 1u : (first ? d + half_dim : d - half_dim);
    vec2 cs = table[place * half_dim + j];
    float w = load(base + partner);
    return first ? v * cs.x - w * cs.y : v * cs.x + w * cs.y;
}
