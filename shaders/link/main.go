package link

import "pumice/internal/spirv"

// Scopes and meanings of barriers.
const (
	scopeDevice    = 1
	scopeWorkgroup = 2

	acquire        = 0x2
	release        = 0x4
	acquireRelease = 0x8
	uniformMemory  = 0x40 // of buffers
	workgroupMem   = 0x100
)

// givenUp is a bit of the counter of arrivals: a workgroup has given up waiting, and all leave.
const givenUp = 0x80000000

// main writes the entry point. As GLSL, where run() is a switch with a call of each kernel's function:
//
//	uint first = goes_on * state.position, base = list[first].target, i;
//	for (i = first; i < entries; i++) {
//	    Entry e = list[i];
//	    if (e.target > base) {
//	        barrier(); memoryBarrierBuffer();
//	        if (gl_LocalInvocationIndex == 0) {
//	            uint need = e.target - base;
//	            atomicAdd(arrived, 1);
//	            for (uint t = 0; ; t++) {
//	                uint seen = atomicAdd(arrived, 0);
//	                all = (seen & ~GIVEN_UP) >= need; // shared
//	                if (all || seen >= GIVEN_UP) break;
//	                if (t >= tries && atomicCompSwap(arrived, seen, GIVEN_UP | need - gl_NumWorkGroups.x) == seen) break;
//	            }
//	        }
//	        barrier(); memoryBarrierBuffer();
//	        if (!all) break;
//	    }
//	    for (uint g = gl_WorkGroupID.x; g < e.x * e.y * e.z; g += gl_NumWorkGroups.x) {
//	        barrier(); // what the one before has in shared memory is read
//	        run(e.kernel, &e, uvec3(g % e.x, g / e.x % e.y, g / e.x / e.y), uvec3(e.x, e.y, e.z));
//	    }
//	}
//	if (gl_LocalInvocationIndex == 0 && atomicAdd(left, 1) == gl_NumWorkGroups.x - 1) {
//	    arrived = left = 0;
//	    position = i;
//	    groups = uvec3(i < entries ? gl_NumWorkGroups.x : 0, 1, 1); // of the dispatch that goes on
//	}
//
// One that gives up takes back the arrivals at this wait, and those that come later are too few to make up for them. So all see
// the same: who is still at the wait before finds as many arrivals as it needs, goes on to this one, and leaves here too.
//
// The barriers of a workgroup are left out where it is one subgroup.
func (l *linker) main(units []*unit) {
	u32, u64 := l.u32, l.u64
	zero, one, up, count := l.constant(0), l.constant(1), l.constant(givenUp), l.constant(givenUp-1)
	block := l.id()
	l.declarations = append(l.declarations, instruction{Op: spirv.OpTypeStruct, Args: []uint32{block, u32, u32, u32, u32, u64, u64}})
	l.decorations = append(l.decorations, instruction{Op: spirv.OpDecorate, Args: []uint32{block, spirv.DecorationBlock}})
	for member, offset := range []uint32{0, 4, 8, 12, 16, 24} {
		l.decorations = append(l.decorations, instruction{Op: spirv.OpMemberDecorate, Args: []uint32{block, uint32(member), spirv.DecorationOffset, offset}})
	}
	push, arrivedAll := l.id(), l.id()
	shared := l.typ(spirv.OpTypePointer, spirv.StorageWorkgroup, u32)
	l.declarations = append(l.declarations, instruction{Op: spirv.OpVariable, Args: []uint32{l.typ(spirv.OpTypePointer, spirv.StoragePushConstant, block), push, spirv.StoragePushConstant}},
		instruction{Op: spirv.OpVariable, Args: []uint32{shared, arrivedAll, spirv.StorageWorkgroup}})
	l.variables = append(l.variables, push, arrivedAll)
	pushed := map[uint32]uint32{u32: l.typ(spirv.OpTypePointer, spirv.StoragePushConstant, u32), u64: l.typ(spirv.OpTypePointer, spirv.StoragePushConstant, u64)}
	void := l.typ(spirv.OpTypeFunction, l.void)
	device, workgroup := l.constant(scopeDevice), l.constant(scopeWorkgroup)
	acquires, both := l.constant(acquire|uniformMemory), l.constant(acquireRelease|uniformMemory)

	emit := func(op uint32, args ...uint32) { l.functions = append(l.functions, instruction{Op: op, Args: args}) }
	value := func(op, typ uint32, args ...uint32) uint32 {
		id := l.id()
		emit(op, append([]uint32{typ, id}, args...)...)
		return id
	}
	member := func(n, typ uint32) uint32 {
		return value(spirv.OpLoad, typ, value(spirv.OpAccessChain, pushed[typ], push, l.constant(n)))
	}
	address := func(base, offset uint32) uint32 {
		return value(spirv.OpConvertUToPtr, l.toU32, value(spirv.OpIAdd, u64, base, l.constant64(offset)))
	}
	word := func(base, offset uint32) uint32 {
		return value(spirv.OpLoad, u32, address(base, offset), memoryAligned, 4)
	}
	entryOf := func(i uint32) uint32 {
		return value(spirv.OpIAdd, u64, l.list, value(spirv.OpIMul, u64, value(spirv.OpUConvert, u64, i), l.constant64(EntryBytes)))
	}
	together := func() {
		if !l.alone {
			emit(spirv.OpControlBarrier, workgroup, workgroup, l.constant(acquireRelease|uniformMemory|workgroupMem))
		}
	}
	begin := func(label uint32) { emit(spirv.OpLabel, label) }
	choose := func(condition, merge, yes, no uint32) {
		emit(spirv.OpSelectionMerge, merge, 0)
		emit(spirv.OpBranchConditional, condition, yes, no)
	}

	l.entry = l.id()
	emit(spirv.OpFunction, l.void, l.entry, 0, void)
	start := l.id()
	begin(start)
	// Inputs are read before the loops: what lavapipe reads in a loop is to it a variable of the loop.
	for _, number := range l.order {
		in := l.builtins[number]
		in.value = value(spirv.OpLoad, in.typ, in.variable)
	}
	mine := value(spirv.OpCompositeExtract, u32, l.builtins[spirv.BuiltInWorkgroupID].value, 0)
	grid := value(spirv.OpCompositeExtract, u32, l.builtins[spirv.BuiltInNumWorkgroups].value, 0)
	leader := value(spirv.OpIEqual, l.boolean, l.builtins[spirv.BuiltInLocalInvocationIndex].value, zero)
	entries, tries, goesOn := member(pushEntries, u32), member(pushTries, u32), member(pushGoesOn, u32)
	l.list = member(pushList, u64)
	state := member(pushState, u64)
	arrived, left, position := address(state, 4*stateArrived), address(state, 4*stateLeft), address(state, 4*statePosition)
	first := value(spirv.OpIMul, u32, goesOn, value(spirv.OpLoad, u32, position, memoryAligned, 4))
	// Where all is done already there is no entry to begin with, and no workgroup (the indirect dispatch has none).
	base := word(entryOf(first), entryTarget)
	head, test, body, next, end := l.id(), l.id(), l.id(), l.id(), l.id()
	emit(spirv.OpBranch, head)

	begin(head)
	i, iNext := l.id(), l.id()
	emit(spirv.OpPhi, u32, i, first, start, iNext, next)
	emit(spirv.OpLoopMerge, end, next, 0)
	emit(spirv.OpBranch, test)
	begin(test)
	emit(spirv.OpBranchConditional, value(spirv.OpULessThan, l.boolean, i, entries), body, end)
	begin(body)
	entry := entryOf(i)
	target := word(entry, entryTarget)
	wait, ready := l.id(), l.id()
	choose(value(spirv.OpULessThan, l.boolean, base, target), ready, wait, ready)

	begin(wait)
	together()
	emit(spirv.OpMemoryBarrier, device, l.constant(release|uniformMemory))
	need := value(spirv.OpISub, u32, target, base)
	spin, waited := l.id(), l.id()
	choose(leader, waited, spin, waited)
	begin(spin)
	value(spirv.OpAtomicIAdd, u32, arrived, device, both, one)
	sHead, look, waits, giveUp, sNext, sEnd := l.id(), l.id(), l.id(), l.id(), l.id(), l.id()
	emit(spirv.OpBranch, sHead)
	begin(sHead)
	t, tNext := l.id(), l.id()
	emit(spirv.OpPhi, u32, t, zero, spin, tNext, sNext)
	emit(spirv.OpLoopMerge, sEnd, sNext, 0)
	emit(spirv.OpBranch, look)
	begin(look)
	seen := value(spirv.OpAtomicIAdd, u32, arrived, device, acquires, zero)
	all := value(spirv.OpUGreaterThanEqual, l.boolean, value(spirv.OpBitwiseAnd, u32, seen, count), need)
	emit(spirv.OpBranchConditional, value(spirv.OpLogicalOr, l.boolean, all, value(spirv.OpUGreaterThanEqual, l.boolean, seen, up)), sEnd, waits)
	begin(waits)
	late := value(spirv.OpUGreaterThanEqual, l.boolean, t, tries)
	patient := l.id()
	choose(late, patient, giveUp, patient)
	begin(giveUp)
	marked := value(spirv.OpBitwiseOr, u32, value(spirv.OpISub, u32, need, grid), up)
	found := value(spirv.OpAtomicCompareExchange, u32, arrived, device, both, acquires, marked, seen)
	emit(spirv.OpBranchConditional, value(spirv.OpIEqual, l.boolean, found, seen), sEnd, patient)
	begin(patient)
	emit(spirv.OpBranch, sNext)
	begin(sNext)
	emit(spirv.OpIAdd, u32, tNext, t, one)
	emit(spirv.OpBranch, sHead)
	begin(sEnd)
	emit(spirv.OpStore, arrivedAll, value(spirv.OpSelect, u32, all, one, zero))
	emit(spirv.OpBranch, waited)
	begin(waited)
	together()
	emit(spirv.OpMemoryBarrier, device, acquires)
	emit(spirv.OpBranchConditional, value(spirv.OpINotEqual, l.boolean, value(spirv.OpLoad, u32, arrivedAll), zero), ready, end)

	begin(ready)
	kernel, x, y, z := word(entry, 0), word(entry, 4), word(entry, 8), word(entry, 12)
	total := value(spirv.OpIMul, u32, value(spirv.OpIMul, u32, x, y), z)
	gHead, gTest, gBody, called, gNext, gEnd := l.id(), l.id(), l.id(), l.id(), l.id(), l.id()
	emit(spirv.OpBranch, gHead)
	begin(gHead)
	g, g2 := l.id(), l.id()
	emit(spirv.OpPhi, u32, g, mine, ready, g2, gNext)
	emit(spirv.OpLoopMerge, gEnd, gNext, 0)
	emit(spirv.OpBranch, gTest)
	begin(gTest)
	emit(spirv.OpBranchConditional, value(spirv.OpULessThan, l.boolean, g, total), gBody, gEnd)
	begin(gBody)
	together()
	rest := value(spirv.OpUDiv, u32, g, x)
	at := value(spirv.OpCompositeConstruct, l.uvec3, value(spirv.OpUMod, u32, g, x), value(spirv.OpUMod, u32, rest, y), value(spirv.OpUDiv, u32, rest, y))
	groups := value(spirv.OpCompositeConstruct, l.uvec3, x, y, z)
	args := []uint32{entry}
	for _, number := range l.order {
		switch number {
		case spirv.BuiltInWorkgroupID:
			args = append(args, at)
		case spirv.BuiltInNumWorkgroups:
			args = append(args, groups)
		default:
			args = append(args, l.builtins[number].value)
		}
	}
	cases := []uint32{kernel, called}
	for n := range units {
		cases = append(cases, uint32(n), l.id())
	}
	emit(spirv.OpSelectionMerge, called, 0)
	emit(spirv.OpSwitch, cases...)
	for n, u := range units {
		begin(cases[2*n+3])
		value(spirv.OpFunctionCall, l.void, append([]uint32{u.main}, args...)...)
		emit(spirv.OpBranch, called)
	}
	begin(called)
	emit(spirv.OpBranch, gNext)
	begin(gNext)
	emit(spirv.OpIAdd, u32, g2, g, grid)
	emit(spirv.OpBranch, gHead)
	begin(gEnd)
	emit(spirv.OpBranch, next)
	begin(next)
	emit(spirv.OpIAdd, u32, iNext, i, one)
	emit(spirv.OpBranch, head)

	begin(end)
	leave, clear, cleared, out := l.id(), l.id(), l.id(), l.id()
	choose(leader, out, leave, out)
	begin(leave)
	gone := value(spirv.OpAtomicIAdd, u32, left, device, both, one)
	choose(value(spirv.OpIEqual, l.boolean, gone, value(spirv.OpISub, u32, grid, one)), cleared, clear, cleared)
	begin(clear)
	store := func(n, v uint32) { emit(spirv.OpStore, address(state, 4*n), v, memoryAligned, 4) }
	store(stateArrived, zero)
	store(stateLeft, zero)
	store(statePosition, i)
	store(stateGroups, value(spirv.OpSelect, u32, value(spirv.OpULessThan, l.boolean, i, entries), grid, zero))
	store(stateGroups+1, one)
	store(stateGroups+2, one)
	emit(spirv.OpBranch, cleared)
	begin(cleared)
	emit(spirv.OpBranch, out)
	begin(out)
	emit(spirv.OpReturn)
	emit(spirv.OpFunctionEnd)
}
