package link

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
	l.declarations = append(l.declarations, instruction{Op: opTypeStruct, Args: []uint32{block, u32, u32, u32, u32, u64, u64}})
	l.decorations = append(l.decorations, instruction{Op: opDecorate, Args: []uint32{block, decorationBlock}})
	for member, offset := range []uint32{0, 4, 8, 12, 16, 24} {
		l.decorations = append(l.decorations, instruction{Op: opMemberDecorate, Args: []uint32{block, uint32(member), decorationOffset, offset}})
	}
	push, arrivedAll := l.id(), l.id()
	shared := l.typ(opTypePointer, classWorkgroup, u32)
	l.declarations = append(l.declarations, instruction{Op: opVariable, Args: []uint32{l.typ(opTypePointer, classPushConstant, block), push, classPushConstant}},
		instruction{Op: opVariable, Args: []uint32{shared, arrivedAll, classWorkgroup}})
	l.variables = append(l.variables, push, arrivedAll)
	pushed := map[uint32]uint32{u32: l.typ(opTypePointer, classPushConstant, u32), u64: l.typ(opTypePointer, classPushConstant, u64)}
	void := l.typ(opTypeFunction, l.void)
	device, workgroup := l.constant(scopeDevice), l.constant(scopeWorkgroup)
	acquires, both := l.constant(acquire|uniformMemory), l.constant(acquireRelease|uniformMemory)

	emit := func(op uint32, args ...uint32) { l.functions = append(l.functions, instruction{Op: op, Args: args}) }
	value := func(op, typ uint32, args ...uint32) uint32 {
		id := l.id()
		emit(op, append([]uint32{typ, id}, args...)...)
		return id
	}
	member := func(n, typ uint32) uint32 {
		return value(opLoad, typ, value(opAccessChain, pushed[typ], push, l.constant(n)))
	}
	address := func(base, offset uint32) uint32 {
		return value(opConvertUToPtr, l.toU32, value(opIAdd, u64, base, l.constant64(offset)))
	}
	word := func(base, offset uint32) uint32 { return value(opLoad, u32, address(base, offset), memoryAligned, 4) }
	entryOf := func(i uint32) uint32 {
		return value(opIAdd, u64, l.list, value(opIMul, u64, value(opUConvert, u64, i), l.constant64(EntryBytes)))
	}
	together := func() {
		if !l.alone {
			emit(opControlBarrier, workgroup, workgroup, l.constant(acquireRelease|uniformMemory|workgroupMem))
		}
	}
	begin := func(label uint32) { emit(opLabel, label) }
	choose := func(condition, merge, yes, no uint32) {
		emit(opSelectionMerge, merge, 0)
		emit(opBranchConditional, condition, yes, no)
	}

	l.entry = l.id()
	emit(opFunction, l.void, l.entry, 0, void)
	start := l.id()
	begin(start)
	// Inputs are read before the loops: what lavapipe reads in a loop is to it a variable of the loop.
	for _, number := range l.order {
		in := l.builtins[number]
		in.value = value(opLoad, in.typ, in.variable)
	}
	mine := value(opCompositeExtract, u32, l.builtins[builtInWorkgroupID].value, 0)
	grid := value(opCompositeExtract, u32, l.builtins[builtInNumWorkgroups].value, 0)
	leader := value(opIEqual, l.boolean, l.builtins[builtInLocalInvocationIdx].value, zero)
	entries, tries, goesOn := member(pushEntries, u32), member(pushTries, u32), member(pushGoesOn, u32)
	l.list = member(pushList, u64)
	state := member(pushState, u64)
	arrived, left, position := address(state, 4*stateArrived), address(state, 4*stateLeft), address(state, 4*statePosition)
	first := value(opIMul, u32, goesOn, value(opLoad, u32, position, memoryAligned, 4))
	// Where all is done already there is no entry to begin with, and no workgroup (the indirect dispatch has none).
	base := word(entryOf(first), entryTarget)
	head, test, body, next, end := l.id(), l.id(), l.id(), l.id(), l.id()
	emit(opBranch, head)

	begin(head)
	i, iNext := l.id(), l.id()
	emit(opPhi, u32, i, first, start, iNext, next)
	emit(opLoopMerge, end, next, 0)
	emit(opBranch, test)
	begin(test)
	emit(opBranchConditional, value(opULessThan, l.boolean, i, entries), body, end)
	begin(body)
	entry := entryOf(i)
	target := word(entry, entryTarget)
	wait, ready := l.id(), l.id()
	choose(value(opULessThan, l.boolean, base, target), ready, wait, ready)

	begin(wait)
	together()
	emit(opMemoryBarrier, device, l.constant(release|uniformMemory))
	need := value(opISub, u32, target, base)
	spin, waited := l.id(), l.id()
	choose(leader, waited, spin, waited)
	begin(spin)
	value(opAtomicIAdd, u32, arrived, device, both, one)
	sHead, look, waits, giveUp, sNext, sEnd := l.id(), l.id(), l.id(), l.id(), l.id(), l.id()
	emit(opBranch, sHead)
	begin(sHead)
	t, tNext := l.id(), l.id()
	emit(opPhi, u32, t, zero, spin, tNext, sNext)
	emit(opLoopMerge, sEnd, sNext, 0)
	emit(opBranch, look)
	begin(look)
	seen := value(opAtomicIAdd, u32, arrived, device, acquires, zero)
	all := value(opUGreaterThanEqual, l.boolean, value(opBitwiseAnd, u32, seen, count), need)
	emit(opBranchConditional, value(opLogicalOr, l.boolean, all, value(opUGreaterThanEqual, l.boolean, seen, up)), sEnd, waits)
	begin(waits)
	late := value(opUGreaterThanEqual, l.boolean, t, tries)
	patient := l.id()
	choose(late, patient, giveUp, patient)
	begin(giveUp)
	marked := value(opBitwiseOr, u32, value(opISub, u32, need, grid), up)
	found := value(opAtomicCompareExchange, u32, arrived, device, both, acquires, marked, seen)
	emit(opBranchConditional, value(opIEqual, l.boolean, found, seen), sEnd, patient)
	begin(patient)
	emit(opBranch, sNext)
	begin(sNext)
	emit(opIAdd, u32, tNext, t, one)
	emit(opBranch, sHead)
	begin(sEnd)
	emit(opStore, arrivedAll, value(opSelect, u32, all, one, zero))
	emit(opBranch, waited)
	begin(waited)
	together()
	emit(opMemoryBarrier, device, acquires)
	emit(opBranchConditional, value(opINotEqual, l.boolean, value(opLoad, u32, arrivedAll), zero), ready, end)

	begin(ready)
	kernel, x, y, z := word(entry, 0), word(entry, 4), word(entry, 8), word(entry, 12)
	total := value(opIMul, u32, value(opIMul, u32, x, y), z)
	gHead, gTest, gBody, called, gNext, gEnd := l.id(), l.id(), l.id(), l.id(), l.id(), l.id()
	emit(opBranch, gHead)
	begin(gHead)
	g, g2 := l.id(), l.id()
	emit(opPhi, u32, g, mine, ready, g2, gNext)
	emit(opLoopMerge, gEnd, gNext, 0)
	emit(opBranch, gTest)
	begin(gTest)
	emit(opBranchConditional, value(opULessThan, l.boolean, g, total), gBody, gEnd)
	begin(gBody)
	together()
	rest := value(opUDiv, u32, g, x)
	at := value(opCompositeConstruct, l.uvec3, value(opUMod, u32, g, x), value(opUMod, u32, rest, y), value(opUDiv, u32, rest, y))
	groups := value(opCompositeConstruct, l.uvec3, x, y, z)
	args := []uint32{entry}
	for _, number := range l.order {
		switch number {
		case builtInWorkgroupID:
			args = append(args, at)
		case builtInNumWorkgroups:
			args = append(args, groups)
		default:
			args = append(args, l.builtins[number].value)
		}
	}
	cases := []uint32{kernel, called}
	for n := range units {
		cases = append(cases, uint32(n), l.id())
	}
	emit(opSelectionMerge, called, 0)
	emit(opSwitch, cases...)
	for n, u := range units {
		begin(cases[2*n+3])
		value(opFunctionCall, l.void, append([]uint32{u.main}, args...)...)
		emit(opBranch, called)
	}
	begin(called)
	emit(opBranch, gNext)
	begin(gNext)
	emit(opIAdd, u32, g2, g, grid)
	emit(opBranch, gHead)
	begin(gEnd)
	emit(opBranch, next)
	begin(next)
	emit(opIAdd, u32, iNext, i, one)
	emit(opBranch, head)

	begin(end)
	leave, clear, cleared, out := l.id(), l.id(), l.id(), l.id()
	choose(leader, out, leave, out)
	begin(leave)
	gone := value(opAtomicIAdd, u32, left, device, both, one)
	choose(value(opIEqual, l.boolean, gone, value(opISub, u32, grid, one)), cleared, clear, cleared)
	begin(clear)
	store := func(n, v uint32) { emit(opStore, address(state, 4*n), v, memoryAligned, 4) }
	store(stateArrived, zero)
	store(stateLeft, zero)
	store(statePosition, i)
	store(stateGroups, value(opSelect, u32, value(opULessThan, l.boolean, i, entries), grid, zero))
	store(stateGroups+1, one)
	store(stateGroups+2, one)
	emit(opBranch, cleared)
	begin(cleared)
	emit(opBranch, out)
	begin(out)
	emit(opReturn)
	emit(opFunctionEnd)
}
