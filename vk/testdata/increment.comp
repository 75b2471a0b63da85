#version 450
// a[i] += 1: one invocation per element, 64 a workgroup. For counting replays.
layout(local_size_x = 64) in;
layout(binding = 0) buffer A { uint a[]; };
void main() { a[gl_GlobalInvocationID.x]++; }
