// Rotation of four neighbouring components, as rope.comp has it, from texels: `qkv`, (tokens,
// heads + 2 kv_heads, head_dim), and `table`. rotary_dim is a multiple of eight, of four if
// INTERLEAVED. The includer has p.rotary_dim and p.clip.
vec4 load(uint i) {
    vec4 v = texelFetch(qkv, int(i));
    return p.clip > 0.0 ? clamp(v, -p.clip, p.clip) : v;
}

// Quad d of a head's rotary ones, at i of all quads.
vec4 rotated(vec4 v, uint i, uint d, uint place) {
    uint row = place * (p.rotary_dim / 4u);
    if (INTERLEAVED) {
        vec4 cs = texelFetch(table, int(row + d));
        return vec4(v.x * cs.x - v.y * cs.y, v.y * cs.x + v.x * cs.y, v.z * cs.z - v.w * cs.w, v.w * cs.z + v.z * cs.w);
    }
    uint half_quads = p.rotary_dim / 8u;
    bool first = d < half_quads;
    uint at = row + 2u * (first ? d : d - half_quads);
    vec4 a = texelFetch(table, int(at)), b = texelFetch(table, int(at + 1u));
    vec4 w = load(first ? i + half_quads : i - half_quads);
    vec4 cosines = vec4(a.xz, b.xz), sines = vec4(a.yw, b.yw);
    return first ? v * cosines - w * sines : v * cosines + w * sines;
}
