// How workgroups join what each has of a sum. Each leaves its part in memory that is coherent; the last to arrive of a group
// of them reads all parts, in an order that does not depend on who is last.
//
//   arrivals  (groups) u32: of workgroups that have left their parts; 0 before and after
//
// The includer defines PARTS_BINDING, behind which is the binding of arrivals.
layout(std430, binding = PARTS_BINDING + 1) buffer Arrivals { uint arrivals[]; };
shared bool last_to_arrive;

// Called by all invocations of a workgroup after they have written its part: whether it is the last of so many.
bool arrives_last(uint group, uint live) {
    memoryBarrierBuffer(); // what this invocation has written is there for whoever sees the arrival
    barrier();             // all have written
    if (gl_LocalInvocationIndex == 0u) {
        last_to_arrive = atomicAdd(arrivals[group], 1u) == live - 1u;
        if (last_to_arrive) arrivals[group] = 0u; // for the next dispatch
    }
    barrier();             // all know
    memoryBarrierBuffer(); // what is read now was written before the last arrival
    return last_to_arrive;
}
