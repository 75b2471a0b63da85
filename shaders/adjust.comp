#version 450
// adjust: changes the logits of some tokens in place, before the largest are searched for,
//
//   x += bias
//   x = x < 0 ? x * repeat : x / repeat      where count > 0
//   x = x - count * frequency - presence     where count > 0
//
// in this order and in float32, as package sample penalises. At most the largest finite number results. A logit that is
// not finite stays, so that a broken model shows.
//
//   rows    MAX_SEQUENCES, of each row how many tokens its list has, and its penalties
//   tokens  (rows, MAX_ADJUSTED), each token of a row once
//   x       (rows, cols) f32
//
// One workgroup of 64 a row; each invocation strides over the row's list. Reads 12 bytes for each token of the list, and
// reads and writes its logit.
#define MAX_SEQUENCES 16u   // pipeline.MaxSequences
#define MAX_ADJUSTED 4096u  // pipeline.MaxAdjusted

layout(local_size_x = 64) in;
struct Row {
    uint tokens;
    float repeat; // 1 is off
    float frequency;
    float presence;
};
struct Token {
    uint id;
    float bias;
    uint count;
};
layout(std430, binding = 0) readonly buffer Adjust {
    Row rows[MAX_SEQUENCES];
    Token tokens[];
} adjust;
layout(std430, binding = 1) buffer X { float x[]; };
layout(push_constant) uniform Push { uint cols; } p;

void main() {
    uint row = gl_WorkGroupID.x;
    Row r = adjust.rows[row];
    for (uint i = gl_LocalInvocationID.x; i < r.tokens; i += 64u) {
        Token t = adjust.tokens[row * MAX_ADJUSTED + i];
        uint at = row * p.cols + t.id;
        float before = x[at];
        if ((floatBitsToUint(before) & 0x7f800000u) == 0x7f800000u) continue;
        precise float y = before + t.bias; // each operation rounds by itself, as on the host
        if (t.count > 0u) {
            y = y < 0.0 ? y * r.repeat : y / r.repeat;
            precise float often = float(t.count) * r.frequency;
            y = y - often;
            y = y - r.presence;
        }
        x[at] = min(y, uintBitsToFloat(0x7f7fffffu));
    }
}
