#version 450
// paint: tiles of a picture from the shapes that lie in them, the first one behind the others
//
//   pixel = sum over shapes of colour * opacity * cover, each blended over what is behind it
//
// shapes: 32 bytes each (Shape). tiles: word 0 is n; then for each of n tiles its place in tiles, as x | y << 16, the
// word of tiles where its list of shapes begins, and how many they are; then the lists. glyphs: bytes of cover, four in
// a word. values: float32, what boxes stand for. pixels: (height, width), 4 bytes each. What is not in a tile of the list keeps its pixels.
//
// One workgroup a tile of SIDE * SIDE pixels, each invocation four of them; workgroups beyond n return at once. Without
// subgroup operations, shared memory and barriers. A pixel reads the shapes of its tile, and a byte of each glyph that it
// is in, or the value of each box that has one; it writes 4 bytes.
#define SIDE 16u // present.tileSide
#define BOX 0u   // present.kindBox: cover is the share of the pixel inside
#define LINE 1u  // present.kindLine: from corner to corner, a is the float32 half of its width
#define GLYPH 2u // present.kindGlyph: whole pixels, whose cover begins at byte a, as many a row as the box is wide
#define VALUE 3u // present.kindValue: a box, whose opacity is multiplied by the cube root of values[a], from 0 to 1

struct Shape {
    vec4 box;    // x0, y0, x1, y1
    uint colour; // red, green, blue, opacity from the lowest byte on
    uint kind;
    uint a;
    uint stamp; // for the host
};

layout(local_size_x = 64) in;
layout(std430, binding = 0) writeonly buffer Pixels { uint pixels[]; };
layout(std430, binding = 1) readonly buffer Shapes { Shape shapes[]; };
layout(std430, binding = 2) readonly buffer Tiles { uint tiles[]; };
layout(std430, binding = 3) readonly buffer Glyphs { uint glyphs[]; };
layout(std430, binding = 4) readonly buffer Values { float values[]; };
layout(push_constant) uniform Push {
    uint width, height;
    uint bgra; // 1: blue in the lowest byte
} p;

float cover(Shape s, vec2 at) { // at is the pixel's upper left corner
    if (s.kind == LINE) {
        vec2 from = s.box.xy, along = s.box.zw - from, to = at + 0.5 - from;
        float t = clamp(dot(to, along) / max(dot(along, along), 1e-6), 0.0, 1.0);
        return clamp(uintBitsToFloat(s.a) + 0.5 - length(to - t * along), 0.0, 1.0);
    }
    vec2 inside = clamp(min(at + 1.0, s.box.zw) - max(at, s.box.xy), 0.0, 1.0);
    if (s.kind == GLYPH && inside.x * inside.y > 0.0) {
        uvec2 q = uvec2(at - s.box.xy);
        uint i = s.a + q.y * uint(s.box.z - s.box.x) + q.x;
        return float(glyphs[i >> 2] >> 8u * (i & 3u) & 0xffu) / 255.0;
    }
    if (s.kind == VALUE) return inside.x * inside.y * pow(clamp(values[s.a], 0.0, 1.0), 1.0 / 3.0);
    return inside.x * inside.y;
}

void main() {
    uint tile = gl_WorkGroupID.x;
    if (tile >= tiles[0]) return;
    uint corner = tiles[1u + 3u * tile], first = tiles[2u + 3u * tile], n = tiles[3u + 3u * tile];
    for (uint k = gl_LocalInvocationID.x; k < SIDE * SIDE; k += 64u) {
        uint x = (corner & 0xffffu) * SIDE + k % SIDE, y = (corner >> 16) * SIDE + k / SIDE;
        if (x >= p.width || y >= p.height) continue;
        vec2 at = vec2(x, y);
        vec3 c = vec3(0.0);
        for (uint i = first; i < first + n; i++) {
            Shape s = shapes[tiles[i]];
            vec4 over = unpackUnorm4x8(s.colour);
            c = mix(c, over.rgb, over.a * cover(s, at));
        }
        if (p.bgra != 0u) c = c.bgr;
        pixels[y * p.width + x] = packUnorm4x8(vec4(c, 1.0));
    }
}
