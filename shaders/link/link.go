// Package link makes one kernel of several, on the level of SPIR-V.
//
// The kernels of a plan are short and many: a token takes five a layer. A linked kernel does what a list of dispatches would, and
// is dispatched once. Its workgroups, as many as the device runs at the same time, walk the list together: each takes its share of
// an entry's workgroups, and waits for the others where an entry depends on those before it. That wait is a barrier of the whole
// grid by an atomic counter (Xiao and Feng, "Inter-block GPU communication via fast barrier synchronization", 2010). It costs less
// than to end a dispatch and begin the next; but Vulkan doesn't promise that all workgroups run at once, and a processor may have
// taken one off to run something else. So nobody waits for long: a workgroup that has waited in vain gives up, all leave at the
// same entry, and the next dispatch of the same list goes on there. With as many dispatches as there are waits the list comes to
// its end whatever the device does; those that find nothing left have no workgroups.
//
// A kernel becomes a function. What it knew as gl_WorkGroupID and gl_NumWorkGroups are arguments; buffers and push constants are
// reached by addresses, which are in the list.
package link

import (
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"slices"

	"pumice/internal/spirv"
)

// A Kernel is SPIR-V with values for its specialization constants.
type Kernel struct {
	SPIRV []byte
	Spec  []uint32 // by the constants' numbers

	Constant []bool // by binding: whether no entry of the list writes the buffer
}

// Options say what a linked kernel is for.
type Options struct {
	OneSubgroup bool // a workgroup is one subgroup, and needs no barriers
	Coherent    bool // what one workgroup has written has to be made visible to others, as on GPUs, whose caches are their own
}

// Workgroup is the size of the kernel's workgroup.
func (k Kernel) Workgroup() (size [3]int, err error) {
	m, err := parse(k.SPIRV)
	if err != nil {
		return size, fmt.Errorf("link: %w", err)
	}
	u := newUnit(m, k.Spec)
	return u.workgroup()
}

// Link makes a kernel of those given, which have workgroups of the same size. Its entry point is main, it has no bindings and the
// push constants above. It is compiled for devices with bufferDeviceAddress, vulkanMemoryModel not needed.
func Link(kernels []Kernel, o Options) ([]byte, error) {
	l := &linker{next: 1, alone: o.OneSubgroup, coherent: o.Coherent, declared: map[string]uint32{}, imports: map[string]uint32{}, capabilities: map[uint32]bool{
		capabilityShader: true, capabilityInt64: true, capabilityPhysicalAddresses: true},
		extensions: map[string]bool{"SPV_KHR_physical_storage_buffer": true}, builtins: map[uint32]*builtin{}}
	l.common()
	var units []*unit
	for i, k := range kernels {
		m, err := parse(k.SPIRV)
		if err != nil {
			return nil, fmt.Errorf("link: kernel %d: %w", i, err)
		}
		u := newUnit(m, k.Spec)
		u.constant = k.Constant
		size, err := u.workgroup()
		if err != nil {
			return nil, fmt.Errorf("link: kernel %d: %w", i, err)
		}
		if i > 0 && size != l.size {
			return nil, fmt.Errorf("link: workgroups of %v and of %v", l.size, size)
		}
		l.size = size
		l.version = max(l.version, m.version)
		if err := l.global(u); err != nil {
			return nil, fmt.Errorf("link: kernel %d: %w", i, err)
		}
		units = append(units, u)
	}
	if len(units) == 0 {
		return nil, errors.New("link: no kernels")
	}
	l.signature()
	for i, u := range units {
		if err := l.function(u); err != nil {
			return nil, fmt.Errorf("link: kernel %d: %w", i, err)
		}
	}
	l.main(units)
	return l.bytes(), nil
}

// A unit is a kernel under way.
type unit struct {
	*module
	spec      []uint32
	constant  []bool            // Kernel.Constant
	members   map[uint32]int    // of structs
	constants map[uint32]uint32 // values of 32-bit constants by id, specialization applied
	special   map[uint32]uint32 // ids that have a SpecId, to it
	builtins  map[uint32]uint32 // ids of variables and constants that are a BuiltIn, to it
	bindings  map[uint32]uint32 // ids of variables, to their binding
	pointers  map[uint32][2]uint32
	sizeID    uint32 // of the composite that is the workgroup's size

	ids     map[uint32]uint32 // to those of the linked module
	buffers []buffer
	inputs  map[uint32]uint32 // variables, to their BuiltIn
	initial []instruction     // stores of what private variables begin with
	main    uint32
}

// A buffer is a variable that is reached by an address.
type buffer struct {
	variable uint32 // its id in the unit
	block    uint32 // the type it points to, in the unit
	offset   uint32 // in an entry: of the address, or of the push constants themselves
	push     bool
}

func newUnit(m *module, spec []uint32) *unit {
	u := &unit{module: m, spec: spec, constants: map[uint32]uint32{}, special: map[uint32]uint32{}, builtins: map[uint32]uint32{},
		bindings: map[uint32]uint32{}, pointers: map[uint32][2]uint32{}, ids: map[uint32]uint32{}, inputs: map[uint32]uint32{}, members: map[uint32]int{}}
	for _, in := range m.globals {
		a := in.Args
		switch in.Op {
		case spirv.OpDecorate:
			switch a[1] {
			case spirv.DecorationSpecID:
				u.special[a[0]] = a[2]
			case spirv.DecorationBuiltIn:
				u.builtins[a[0]] = a[2]
				if a[2] == spirv.BuiltInWorkgroupSize {
					u.sizeID = a[0]
				}
			case spirv.DecorationBinding:
				u.bindings[a[0]] = a[2]
			}
		case spirv.OpTypePointer:
			u.pointers[a[0]] = [2]uint32{a[1], a[2]}
		case spirv.OpTypeStruct:
			u.members[a[0]] = len(a) - 1
		case spirv.OpConstant, spirv.OpSpecConstant:
			if len(a) == 3 {
				u.constants[a[1]] = u.value(a[1], a[2])
			}
		}
	}
	return u
}

// value is a constant's, given its default.
func (u *unit) value(id, value uint32) uint32 {
	if n, ok := u.special[id]; ok && int(n) < len(u.spec) {
		return u.spec[n]
	}
	return value
}

// workgroup is the size by the constant that says it, or by the execution mode.
func (u *unit) workgroup() (size [3]int, err error) {
	for _, in := range u.globals {
		switch {
		case in.Op == spirv.OpExecutionMode && in.Args[1] == executionModeLocalSize && u.sizeID == 0:
			for i := range size {
				size[i] = int(in.Args[2+i])
			}
		case u.sizeID != 0 && len(in.Args) == 5 && in.Args[1] == u.sizeID:
			for i := range size {
				n, ok := u.constants[in.Args[2+i]]
				if !ok {
					return size, errors.New("a workgroup's size that is computed")
				}
				size[i] = int(n)
			}
		}
	}
	if size[0] < 1 || size[1] != 1 || size[2] != 1 {
		return size, fmt.Errorf("workgroups of %v; want a row", size)
	}
	return size, nil
}

// A builtin is an input variable of the linked module, and the parameter of kernels that has its value.
type builtin struct {
	typ, variable, value uint32
}

// A linker writes the linked module, section by section.
type linker struct {
	version, next uint32
	size          [3]int
	alone         bool // a workgroup is one subgroup
	coherent      bool // Options.Coherent
	capabilities  map[uint32]bool
	extensions    map[string]bool
	imports       map[string]uint32 // ids of ExtInstImport
	decorations   []instruction
	declarations  []instruction
	functions     []instruction
	declared      map[string]uint32 // ids by what they are declared as
	builtins      map[uint32]*builtin
	order         []uint32 // of builtins
	variables     []uint32 // for the entry point

	void, boolean, u32, u64, uvec3 uint32
	toU32, toU64                   uint32 // pointers to physical storage
	kernel                         uint32 // type of the kernels' functions
	entry                          uint32
	list                           uint32 // value, in main
}

func (l *linker) id() uint32 { l.next++; return l.next - 1 }

// typ declares a type once and returns its id.
func (l *linker) typ(op uint32, args ...uint32) uint32 { return l.once(op, nil, args) }

// constant and constant64 declare a constant once and return its id.
func (l *linker) constant(value uint32) uint32 {
	return l.once(spirv.OpConstant, []uint32{l.u32}, []uint32{value})
}
func (l *linker) constant64(value uint32) uint32 {
	return l.once(spirv.OpConstant, []uint32{l.u64}, []uint32{value, 0})
}

// once makes a declaration unless there is the same already, and returns its id, which has its place between the operands.
func (l *linker) once(op uint32, before, after []uint32) uint32 {
	key := fmt.Sprint(op, before, after)
	id, ok := l.declared[key]
	if !ok {
		id = l.id()
		l.declared[key] = id
		l.declarations = append(l.declarations, instruction{Op: op, Args: slices.Concat(before, []uint32{id}, after)})
	}
	return id
}

// common declares what main needs.
func (l *linker) common() {
	l.void, l.boolean = l.typ(spirv.OpTypeVoid), l.typ(spirv.OpTypeBool)
	l.u32, l.u64 = l.typ(spirv.OpTypeInt, 32, 0), l.typ(spirv.OpTypeInt, 64, 0)
	l.uvec3 = l.typ(spirv.OpTypeVector, l.u32, 3)
	l.toU32, l.toU64 = l.typ(spirv.OpTypePointer, spirv.StoragePhysicalStorageBuffer, l.u32), l.typ(spirv.OpTypePointer, spirv.StoragePhysicalStorageBuffer, l.u64)
	for _, b := range []uint32{spirv.BuiltInWorkgroupID, spirv.BuiltInNumWorkgroups} {
		l.input(b, l.uvec3)
	}
	l.input(spirv.BuiltInLocalInvocationIndex, l.u32)
}

// input declares the variable of a BuiltIn.
func (l *linker) input(number, typ uint32) *builtin {
	if b := l.builtins[number]; b != nil {
		return b
	}
	b := &builtin{typ: typ, variable: l.id()}
	l.builtins[number] = b
	l.order = append(l.order, number)
	pointer := l.typ(spirv.OpTypePointer, spirv.StorageInput, typ)
	l.declarations = append(l.declarations, instruction{Op: spirv.OpVariable, Args: []uint32{pointer, b.variable, spirv.StorageInput}})
	l.decorations = append(l.decorations, instruction{Op: spirv.OpDecorate, Args: []uint32{b.variable, spirv.DecorationBuiltIn, number}})
	l.variables = append(l.variables, b.variable)
	return b
}

// mapped gives an id of a unit one of the linked module.
func (l *linker) mapped(u *unit, id uint32) uint32 {
	if to, ok := u.ids[id]; ok {
		return to
	}
	to := l.id()
	u.ids[id] = to
	return to
}

// rename gives the ids of an instruction those of the linked module.
func (l *linker) rename(u *unit, in instruction) (instruction, error) {
	layout, ok := layouts[in.Op]
	if !ok {
		return in, fmt.Errorf("instruction %d can't be linked", in.Op)
	}
	out := instruction{Op: in.Op, Args: make([]uint32, len(in.Args))}
	for i, a := range in.Args {
		if layout == "" {
			return in, fmt.Errorf("instruction %d has operands", in.Op)
		}
		if layout[min(i, len(layout)-1)] == 'l' {
			out.Args[i] = a
		} else {
			out.Args[i] = l.mapped(u, a)
		}
	}
	return out, nil
}

// global adds a unit's declarations.
func (l *linker) global(u *unit) error {
	dropped := map[uint32]bool{} // variables that are none any more
	for _, in := range u.globals {
		if in.Op == spirv.OpVariable && (in.Args[2] == spirv.StorageStorageBuffer || in.Args[2] == spirv.StoragePushConstant || in.Args[2] == spirv.StorageInput) {
			dropped[in.Args[1]] = true
		}
	}
	pushBlock := uint32(0)
	for _, in := range u.globals {
		a := in.Args
		switch in.Op {
		case spirv.OpCapability:
			l.capabilities[a[0]] = true
		case spirv.OpExtension:
			l.extensions[text(a)] = true
		case spirv.OpExtInstImport:
			name := text(a[1:])
			if l.imports[name] == 0 {
				l.imports[name] = l.id()
			}
			u.ids[a[0]] = l.imports[name]
		case spirv.OpMemoryModel:
			if a[1] != modelGLSL450 {
				return errors.New("the Vulkan memory model")
			}
		case spirv.OpEntryPoint, spirv.OpExecutionMode, 3, 4, 5, 6, 7, 8, 330, 331: // names and sources
			if in.Op == spirv.OpExecutionMode && a[1] != executionModeLocalSize {
				return fmt.Errorf("execution mode %d", a[1])
			}
		case spirv.OpDecorate:
			switch {
			case dropped[a[0]], a[1] == spirv.DecorationSpecID, a[1] == spirv.DecorationBuiltIn:
				continue
			case a[1] == spirv.DecorationNonWritable, a[1] == spirv.DecorationNonReadable:
				continue
			}
			l.keep(&l.decorations, u, in)
		case spirv.OpMemberDecorate:
			if a[2] == spirv.DecorationNonWritable || a[2] == spirv.DecorationNonReadable || l.coherent && a[2] == spirv.DecorationCoherent {
				continue // another entry of the list may write it: share says who does
			}
			l.keep(&l.decorations, u, in)
		case spirv.OpTypeVoid, spirv.OpTypeBool, spirv.OpTypeInt, spirv.OpTypeFloat, spirv.OpTypeVector, spirv.OpTypeFunction:
			r, err := l.rename(u, instruction{Op: in.Op, Args: append([]uint32{0}, a[1:]...)})
			if err != nil {
				return err
			}
			u.ids[a[0]] = l.typ(in.Op, r.Args[1:]...)
			delete(u.ids, 0)
		case spirv.OpSpecConstantTrue, spirv.OpSpecConstantFalse:
			on := uint32(0)
			if in.Op == spirv.OpSpecConstantTrue {
				on = 1
			}
			op := uint32(spirv.OpConstantFalse)
			if u.value(a[1], on) != 0 {
				op = spirv.OpConstantTrue
			}
			if err := l.keep(&l.declarations, u, instruction{Op: op, Args: a}); err != nil {
				return err
			}
		case spirv.OpSpecConstant:
			if len(a) != 3 {
				return errors.New("a specialization constant of more than 32 bits")
			}
			if err := l.keep(&l.declarations, u, instruction{Op: spirv.OpConstant, Args: []uint32{a[0], a[1], u.value(a[1], a[2])}}); err != nil {
				return err
			}
		case spirv.OpSpecConstantOp:
			if a[2] == 79 || a[2] == 81 || a[2] == 82 {
				return fmt.Errorf("a constant by instruction %d", a[2])
			}
			if err := l.keep(&l.declarations, u, in); err != nil {
				return err
			}
		case spirv.OpVariable:
			if err := l.variable(u, a, &pushBlock); err != nil {
				return err
			}
		default:
			if err := l.keep(&l.declarations, u, in); err != nil {
				return err
			}
		}
	}
	for _, b := range u.buffers {
		l.typ(spirv.OpTypePointer, spirv.StoragePhysicalStorageBuffer, l.mapped(u, b.block))
	}
	if l.coherent {
		l.share(u)
	}
	return nil
}

// share decorates the members of buffers: what nobody writes can't be written, and what one workgroup writes is visible to all.
func (l *linker) share(u *unit) {
	written := map[uint32]bool{} // block types
	for _, b := range u.buffers {
		n := int(b.offset-entryBuffers) / 8
		written[b.block] = written[b.block] || !b.push && (n >= len(u.constant) || !u.constant[n])
	}
	for _, block := range slices.Sorted(maps.Keys(written)) {
		how := uint32(spirv.DecorationNonWritable)
		if written[block] {
			how = spirv.DecorationCoherent
		}
		for i := range u.members[block] {
			l.decorations = append(l.decorations, instruction{Op: spirv.OpMemberDecorate, Args: []uint32{l.mapped(u, block), uint32(i), how}})
		}
	}
}

func (l *linker) keep(to *[]instruction, u *unit, in instruction) error {
	r, err := l.rename(u, in)
	*to = append(*to, r)
	return err
}

// variable turns a unit's global variable into what it is in the linked module.
func (l *linker) variable(u *unit, a []uint32, pushBlock *uint32) error {
	pointee := u.pointers[a[0]][1]
	switch class := a[2]; class {
	case spirv.StorageStorageBuffer:
		n, ok := u.bindings[a[1]]
		if !ok || n >= MaxBindings {
			return fmt.Errorf("binding %d", n)
		}
		u.buffers = append(u.buffers, buffer{variable: a[1], block: pointee, offset: entryBuffers + 8*n})
	case spirv.StoragePushConstant:
		u.buffers = append(u.buffers, buffer{variable: a[1], block: pointee, offset: entryPush, push: true})
	case spirv.StorageInput:
		number, ok := u.builtins[a[1]]
		if !ok || number == spirv.BuiltInGlobalInvocationID {
			return fmt.Errorf("input %d", number)
		}
		l.input(number, l.mapped(u, pointee))
		u.inputs[a[1]] = number
	case spirv.StorageWorkgroup, spirv.StoragePrivate:
		if len(a) == 4 { // not once in an invocation's life, but for each of a kernel's workgroups
			u.initial = append(u.initial, instruction{Op: spirv.OpStore, Args: []uint32{a[1], a[3]}})
			a = a[:3]
		}
		if err := l.keep(&l.declarations, u, instruction{Op: spirv.OpVariable, Args: a}); err != nil {
			return err
		}
		l.variables = append(l.variables, u.ids[a[1]])
	default:
		return fmt.Errorf("a variable of storage class %d", class)
	}
	return nil
}

// text is a literal string.
func text(words []uint32) string {
	var b []byte
	for _, w := range words {
		b = binary.LittleEndian.AppendUint32(b, w)
	}
	n := slices.Index(b, 0)
	return string(b[:max(n, 0)])
}

// signature declares the type of kernels' functions: the address of the entry, then what the builtins are.
func (l *linker) signature() {
	params := []uint32{l.u64}
	for _, number := range l.order {
		params = append(params, l.builtins[number].typ)
	}
	l.kernel = l.typ(spirv.OpTypeFunction, append([]uint32{l.void}, params...)...)
}

// function adds a unit's main as a function.
func (l *linker) function(u *unit) error {
	emit := func(op uint32, args ...uint32) { l.functions = append(l.functions, instruction{Op: op, Args: args}) }
	u.main = l.id()
	emit(spirv.OpFunction, l.void, u.main, 0, l.kernel)
	entry := l.id()
	emit(spirv.OpFunctionParameter, l.u64, entry)
	inputs := map[uint32]uint32{} // BuiltIn to parameter
	for _, number := range l.order {
		p := l.id()
		emit(spirv.OpFunctionParameter, l.builtins[number].typ, p)
		inputs[number] = p
	}
	type place struct {
		input, component uint32
		part             bool
	}
	places := map[uint32]place{}  // ids that point to inputs or into them
	physical := map[uint32]bool{} // ids that point to physical storage
	for v, number := range u.inputs {
		places[v] = place{input: inputs[number]}
	}
	prologue := func() error {
		for _, b := range u.buffers {
			to := l.typ(spirv.OpTypePointer, spirv.StoragePhysicalStorageBuffer, l.mapped(u, b.block))
			at := l.id()
			emit(spirv.OpIAdd, l.u64, at, entry, l.constant64(b.offset))
			if !b.push {
				slot, address := l.id(), l.id()
				emit(spirv.OpConvertUToPtr, l.toU64, slot, at)
				emit(spirv.OpLoad, l.u64, address, slot, memoryAligned, 8)
				at = address
			}
			emit(spirv.OpConvertUToPtr, to, l.mapped(u, b.variable), at)
			physical[b.variable] = true
		}
		for _, in := range u.initial {
			if err := l.keep(&l.functions, u, in); err != nil {
				return err
			}
		}
		return nil
	}
	begun := false
	for _, in := range u.body[1:] {
		a := in.Args
		if !begun && in.Op != spirv.OpLabel && in.Op != spirv.OpVariable {
			begun = true
			if err := prologue(); err != nil {
				return err
			}
		}
		if !begun && in.Op == spirv.OpLabel || in.Op == spirv.OpVariable {
			if err := l.keep(&l.functions, u, in); err != nil {
				return err
			}
			continue
		}
		switch in.Op {
		case spirv.OpAccessChain, spirv.OpInBoundsAccessChain:
			if p, ok := places[a[2]]; ok {
				c, known := u.constants[at(a, 3)]
				if p.part || len(a) != 4 || !known {
					return errors.New("an input's component that is not constant")
				}
				places[a[1]] = place{p.input, c, true}
				continue
			}
			if physical[a[2]] {
				r, err := l.rename(u, in)
				if err != nil {
					return err
				}
				r.Args[0] = l.typ(spirv.OpTypePointer, spirv.StoragePhysicalStorageBuffer, l.mapped(u, u.pointers[a[0]][1]))
				l.functions = append(l.functions, r)
				physical[a[1]] = true
				continue
			}
		case spirv.OpLoad:
			if p, ok := places[a[2]]; ok {
				typ, id := l.mapped(u, a[0]), l.mapped(u, a[1])
				if p.part {
					emit(spirv.OpCompositeExtract, typ, id, p.input, p.component)
				} else {
					emit(spirv.OpCopyObject, typ, id, p.input)
				}
				continue
			}
			if physical[a[2]] {
				r, err := l.rename(u, instruction{Op: spirv.OpLoad, Args: a[:3]})
				if err != nil {
					return err
				}
				r.Args = append(r.Args, aligned(a[3:], u.alignment(a[0]))...)
				l.functions = append(l.functions, r)
				continue
			}
		case spirv.OpStore:
			if physical[a[0]] {
				r, err := l.rename(u, instruction{Op: spirv.OpStore, Args: a[:2]})
				if err != nil {
					return err
				}
				r.Args = append(r.Args, aligned(a[2:], u.pointeeAlignment(a[0]))...)
				l.functions = append(l.functions, r)
				continue
			}
		default:
			atomic := in.Op >= 227 && in.Op <= 242
			for i, x := range a {
				layout := layouts[in.Op]
				if layout == "" || layout[min(i, len(layout)-1)] != 'i' {
					continue
				}
				if _, input := places[x]; input || physical[x] && !atomic {
					return fmt.Errorf("a pointer to a buffer or an input in instruction %d", in.Op)
				}
			}
		}
		if in.Op == spirv.OpSwitch {
			r := instruction{Op: spirv.OpSwitch, Args: []uint32{l.mapped(u, a[0]), l.mapped(u, a[1])}}
			for i := 2; i+1 < len(a); i += 2 { // of 32 bits
				r.Args = append(r.Args, a[i], l.mapped(u, a[i+1]))
			}
			l.functions = append(l.functions, r)
			continue
		}
		if err := l.keep(&l.functions, u, in); err != nil {
			return err
		}
	}
	return nil
}

func at(a []uint32, i int) uint32 {
	if i < len(a) {
		return a[i]
	}
	return 0
}

// aligned is the memory operands of an access of physical storage: those given, and the alignment.
func aligned(given []uint32, align uint32) []uint32 {
	mask := at(given, 0)
	if mask&memoryAligned != 0 {
		return given
	}
	out := []uint32{mask | memoryAligned, align}
	if len(given) > 1 {
		out = append(out, given[1:]...)
	}
	return out
}

// alignment is that of a type in a buffer: of a vector of two or four its size, else that of its components.
func (u *unit) alignment(typ uint32) uint32 {
	for _, in := range u.globals {
		if len(in.Args) < 2 || in.Args[0] != typ {
			continue
		}
		switch in.Op {
		case spirv.OpTypeInt, spirv.OpTypeFloat:
			return in.Args[1] / 8
		case spirv.OpTypePointer:
			return 8
		case spirv.OpTypeVector:
			n := in.Args[2]
			if n == 3 {
				n = 1
			}
			return n * u.alignment(in.Args[1])
		}
	}
	return 4
}

// pointeeAlignment is the alignment of what a chain of the body points to.
func (u *unit) pointeeAlignment(id uint32) uint32 {
	for _, in := range u.body {
		if (in.Op == spirv.OpAccessChain || in.Op == spirv.OpInBoundsAccessChain) && in.Args[1] == id {
			return u.alignment(u.pointers[in.Args[0]][1])
		}
	}
	return 4
}

// bytes is the linked module.
func (l *linker) bytes() []byte {
	const v15 = 0x00010500
	linked := spirv.Module{Version: max(l.version, v15), Bound: l.next}
	emit := func(op uint32, args ...uint32) { linked.List = append(linked.List, instruction{Op: op, Args: args}) }
	for _, c := range slices.Sorted(maps.Keys(l.capabilities)) {
		emit(spirv.OpCapability, c)
	}
	for _, e := range slices.Sorted(maps.Keys(l.extensions)) {
		emit(spirv.OpExtension, spirv.Literal(e)...)
	}
	for _, name := range slices.Sorted(maps.Keys(l.imports)) {
		emit(spirv.OpExtInstImport, append([]uint32{l.imports[name]}, spirv.Literal(name)...)...)
	}
	emit(spirv.OpMemoryModel, modelPhysicalStorageBuffer64, modelGLSL450)
	emit(spirv.OpEntryPoint, slices.Concat([]uint32{5, l.entry}, spirv.Literal("main"), l.variables)...)
	emit(spirv.OpExecutionMode, l.entry, executionModeLocalSize, uint32(l.size[0]), uint32(l.size[1]), uint32(l.size[2]))
	linked.List = slices.Concat(linked.List, l.decorations, l.declarations, l.functions)
	return linked.Bytes()
}
