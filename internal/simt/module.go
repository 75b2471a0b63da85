// Package simt executes compute kernels without a device: SPIR-V as package shaders has it, a subgroup at a time, its lanes in
// step, and tells each access to memory with the addresses of all lanes. It is for what no driver tells: how the lanes of a
// subgroup of any size share sectors of memory and banks of shared memory.
//
// A Kernel is a module specialised for subgroups of a size; Run executes one workgroup of a Dispatch. Lanes that a branch has
// divided meet again where SPIR-V's structured control flow says that they do. It executes what kernels of GPUs have:
// integers and floats of 32 bits, float16, subgroup operations and cooperative matrices; neither texel buffers nor device
// addresses. It is a thousand times slower than a CPU driver.
package simt

import (
	"errors"
	"fmt"
	"math"

	"pumice/internal/spirv"
)

// Numbers of the SPIR-V specification, version 1.6, section 3, and of its extensions.
const (
	modeLocalSize   = 17
	modeLocalSizeID = 38

	scopeWorkgroup = 2
)

// A typ is a type. Its values are in registers of 32 bits a lane, one for each number: slots of them.
type typ struct {
	op    uint32
	width int // bits of a number
	elem  *typ
	count int // of a vector, an array or, of a matrix, rows times columns
	cols  int // of a matrix
	slots int

	members []*typ
	offsets []int // explicit ones, in bytes
	stride  int   // explicit one of an array
	class   uint32
}

// number is the type of a vector's or a matrix's numbers, or t itself.
func (t *typ) number() *typ {
	if t.op == spirv.OpTypeVector || t.op == spirv.OpTypeCooperativeMatrix {
		return t.elem
	}
	return t
}

func (t *typ) half() bool { n := t.number(); return n.op == spirv.OpTypeFloat && n.width == 16 }

// A layout is how a storage class lays out types.
type layout int

const (
	explicit layout = iota // as decorations say
	natural                // shared memory: each number at a multiple of its own size, nothing between
	inSlots                // what a lane has for itself: four bytes a number
)

func layoutOf(class uint32) layout {
	switch class {
	case spirv.StorageWorkgroup:
		return natural
	case spirv.StorageFunction, spirv.StoragePrivate, spirv.StorageInput:
		return inSlots
	}
	return explicit
}

// size is the bytes of a value.
func (t *typ) size(l layout) int {
	if l == inSlots {
		return 4 * t.slots
	}
	switch t.op {
	case spirv.OpTypeVector:
		return t.count * t.elem.size(l)
	case spirv.OpTypeArray:
		return t.count * t.step(l)
	case spirv.OpTypeStruct:
		n := len(t.members)
		if n == 0 {
			return 0
		}
		return t.offset(n-1, l) + t.members[n-1].size(l)
	case spirv.OpTypeBool:
		return 4
	}
	return t.width / 8
}

// step is the bytes from one element to the next.
func (t *typ) step(l layout) int {
	if l == explicit && t.stride > 0 {
		return t.stride
	}
	return t.elem.size(l)
}

// offset is where a member begins.
func (t *typ) offset(i int, l layout) int {
	if l == explicit {
		return t.offsets[i]
	}
	at := 0
	for _, m := range t.members[:i] {
		at += m.size(l)
	}
	return at
}

// A part is a scalar or a vector of a value, which one instruction moves.
type part struct {
	offset, count, bytes int // bytes of a number
	half                 bool
}

// parts lists those of a value in the order of its slots.
func (t *typ) parts(l layout, at int, to []part) []part {
	switch t.op {
	case spirv.OpTypeStruct:
		for i, m := range t.members {
			to = m.parts(l, at+t.offset(i, l), to)
		}
		return to
	case spirv.OpTypeArray:
		for i := range t.count {
			to = t.elem.parts(l, at+i*t.step(l), to)
		}
		return to
	case spirv.OpTypeVector, spirv.OpTypeCooperativeMatrix:
		if t.op == spirv.OpTypeCooperativeMatrix || l == inSlots {
			return append(to, part{at, t.slots, 4, false})
		}
		return append(to, part{at, t.count, t.elem.size(l), t.half()})
	}
	return append(to, part{at, 1, t.size(l), t.half() && l != inSlots})
}

// An inst is an instruction of a block.
type inst struct {
	op     uint32
	typ    *typ // of the result
	result uint32
	args   []uint32 // behind the result
	site   int      // word of the module
	line   int      // of the source, where the module knows
	chain  *chain
	to     []*block // of a branch, as block.succ
	fn     any      // of arithmetic
}

// A variable is memory: a binding, shared memory, push constants, or a lane's own.
type variable struct {
	typ     *typ // of what it holds
	class   uint32
	binding int // of a storage buffer
	builtIn uint32
	at      int // in shared memory, or in words of a lane's own
	init    uint32
}

// A pointer is what an id of a pointer type is: a variable, and where in it each lane's register says.
type pointer struct {
	v      *variable
	typ    *typ // pointed to
	layout layout
	parts  []part
}

// A chain is an OpAccessChain, worked out: a constant and indices times steps.
type chain struct {
	base    uint32
	fixed   int
	indices []uint32
	steps   []int
}

type block struct {
	insts []inst // without label and merges
	label uint32
	order int
	succ  []uint32
	merge []uint32 // merge block, and continue target of a loop
	phis  int      // how many instructions at the start are phis

	unrolls bool // a loop that begins here is to be unrolled
	loops   bool // another begins here
	region  int  // of blocks that compilers make one of
}

// A Kernel is a module with its specialization constants, for subgroups of a size.
type Kernel struct {
	Lanes     int // of a subgroup
	Workgroup int // invocations

	types     map[uint32]*typ
	pointers  map[uint32]*pointer
	constants map[uint32][]uint32 // a word a slot
	ofType    map[uint32]*typ     // of values
	vars      []*variable
	varIDs    []uint32
	blocks    []*block // in structured order
	byLabel   map[uint32]*block
	results   []result
	bound     int
	shared    int // bytes of shared memory
	own       int // words of a lane's own variables
	numWords  int // in registers, a lane
}

// A result is where the registers of an id are.
type result struct {
	id    uint32
	slots int
}

// Load reads a module whose specialization constants have values, by their numbers, for subgroups of so many lanes.
func Load(code []byte, values []uint32, lanes int) (*Kernel, error) {
	cut, err := spirv.Cut(code)
	if err != nil {
		return nil, fmt.Errorf("simt: %w", err)
	}
	k := &Kernel{
		Lanes: lanes, types: map[uint32]*typ{}, pointers: map[uint32]*pointer{}, constants: map[uint32][]uint32{},
		ofType: map[uint32]*typ{}, byLabel: map[uint32]*block{}, bound: int(cut.Bound),
	}
	d := &decorations{ids: map[[2]uint32]uint32{}, members: map[[3]uint32]uint32{}}
	var b *block
	line, functions := 0, 0
	for _, in := range cut.List {
		op, a, site := in.Op, in.Args, in.Word
		var err error
		switch {
		case op == spirv.OpLine:
			line = int(a[1])
		case op == spirv.OpFunction:
			if functions++; functions > 1 {
				return nil, errors.New("simt: a function besides main")
			}
		case op == spirv.OpLabel:
			b = &block{label: a[0]}
			k.byLabel[a[0]] = b
			k.blocks = append(k.blocks, b)
		case op == spirv.OpFunctionEnd:
			b = nil
		case b == nil:
			err = k.declare(op, a, values, d)
		default:
			err = k.instruction(b, op, a, site, line, values, d)
		}
		if err != nil {
			return nil, fmt.Errorf("simt: word %d: instruction %d: %w", site, op, err)
		}
	}
	if k.Workgroup == 0 || len(k.blocks) == 0 {
		return nil, errors.New("simt: no workgroup or no code")
	}
	k.order()
	return k, nil
}

// decorations are those of ids, and of members, to their first operand.
type decorations struct {
	ids     map[[2]uint32]uint32
	members map[[3]uint32]uint32
}

// declare reads an instruction before the first function.
func (k *Kernel) declare(op uint32, a, values []uint32, d *decorations) error {
	switch op {
	case spirv.OpDecorate:
		v := uint32(0)
		if len(a) > 2 {
			v = a[2]
		}
		d.ids[[2]uint32{a[0], a[1]}] = v
	case spirv.OpMemberDecorate:
		if len(a) > 3 {
			d.members[[3]uint32{a[0], a[1], a[2]}] = a[3]
		}
	case spirv.OpExecutionMode:
		if a[1] == modeLocalSize {
			k.Workgroup = int(a[2] * a[3] * a[4])
		}
	case spirv.OpTypeVoid, spirv.OpTypeFunction:
		k.types[a[0]] = &typ{op: op}
	case spirv.OpTypeBool:
		k.types[a[0]] = &typ{op: op, width: 32, slots: 1}
	case spirv.OpTypeInt, spirv.OpTypeFloat:
		if a[1] != 32 && (op == spirv.OpTypeInt || a[1] != 16) {
			return fmt.Errorf("a number of %d bits", a[1])
		}
		k.types[a[0]] = &typ{op: op, width: int(a[1]), slots: 1}
	case spirv.OpTypeVector:
		k.types[a[0]] = &typ{op: op, elem: k.types[a[1]], count: int(a[2]), slots: int(a[2])}
	case spirv.OpTypeArray:
		t := &typ{op: op, elem: k.types[a[1]], count: int(k.constants[a[2]][0]), stride: int(d.ids[[2]uint32{a[0], spirv.DecorationArrayStride}])}
		t.slots = t.count * t.elem.slots
		k.types[a[0]] = t
	case spirv.OpTypeRuntimeArray:
		k.types[a[0]] = &typ{op: spirv.OpTypeArray, elem: k.types[a[1]], stride: int(d.ids[[2]uint32{a[0], spirv.DecorationArrayStride}])}
	case spirv.OpTypeStruct:
		t := &typ{op: op}
		for i, m := range a[1:] {
			t.members = append(t.members, k.types[m])
			t.offsets = append(t.offsets, int(d.members[[3]uint32{a[0], uint32(i), spirv.DecorationOffset}]))
			t.slots += k.types[m].slots
		}
		k.types[a[0]] = t
	case spirv.OpTypePointer:
		k.types[a[0]] = &typ{op: op, class: a[1], elem: k.types[a[2]], slots: 1}
	case spirv.OpTypeCooperativeMatrix:
		rows, cols := int(k.constants[a[3]][0]), int(k.constants[a[4]][0])
		t := &typ{op: op, elem: k.types[a[1]], count: rows * cols, cols: cols}
		t.slots = (t.count + k.Lanes - 1) / k.Lanes
		k.types[a[0]] = t
	case spirv.OpConstantTrue, spirv.OpConstantFalse, spirv.OpConstant, spirv.OpConstantComposite, spirv.OpUndef, spirv.OpSpecConstantTrue, spirv.OpSpecConstantFalse, spirv.OpSpecConstant, spirv.OpSpecConstantComposite, spirv.OpSpecConstantOp:
		return k.constant(op, a, values, d)
	case spirv.OpVariable:
		return k.variable(a, d)
	}
	return nil
}

func (k *Kernel) constant(op uint32, a, values []uint32, d *decorations) error {
	t := k.types[a[0]]
	if t == nil {
		return fmt.Errorf("type %d", a[0])
	}
	id, special := d.ids[[2]uint32{a[1], spirv.DecorationSpecID}]
	var v []uint32
	switch op {
	case spirv.OpConstantTrue, spirv.OpSpecConstantTrue:
		v = []uint32{1}
	case spirv.OpConstantFalse, spirv.OpSpecConstantFalse:
		v = []uint32{0}
	case spirv.OpConstant, spirv.OpSpecConstant:
		v = []uint32{a[2]}
	case spirv.OpUndef:
		v = make([]uint32, t.slots)
	case spirv.OpConstantComposite, spirv.OpSpecConstantComposite:
		for _, c := range a[2:] {
			v = append(v, k.constants[c]...)
		}
		if t.op == spirv.OpTypeCooperativeMatrix {
			for len(v) < t.slots {
				v = append(v, v[0])
			}
		}
	case spirv.OpSpecConstantOp:
		one := &state{Kernel: &Kernel{Lanes: 1, types: k.types, constants: k.constants, ofType: k.ofType}, active: []int{0}, regs: make([][]uint32, k.bound)}
		for _, x := range a[3:] {
			if c, ok := k.constants[x]; ok { // literals are none
				one.regs[x] = c
			}
		}
		one.regs[a[1]] = make([]uint32, t.slots)
		in := inst{op: a[2], typ: t, result: a[1], args: a[3:]}
		if err := one.arithmetic(&in); err != nil {
			return err
		}
		v = one.regs[a[1]]
	}
	if special && int(id) < len(values) {
		v = []uint32{values[id]}
	}
	if t.half() && op == spirv.OpConstant {
		v = []uint32{fromHalf(uint16(v[0]))}
	}
	if b, ok := d.ids[[2]uint32{a[1], spirv.DecorationBuiltIn}]; ok && b == spirv.BuiltInWorkgroupSize {
		k.Workgroup = int(v[0] * v[1] * v[2])
	}
	k.constants[a[1]], k.ofType[a[1]] = v, t
	return nil
}

func (k *Kernel) variable(a []uint32, d *decorations) error {
	p := k.types[a[0]]
	v := &variable{typ: p.elem, class: a[2], binding: int(d.ids[[2]uint32{a[1], spirv.DecorationBinding}]), builtIn: d.ids[[2]uint32{a[1], spirv.DecorationBuiltIn}]}
	switch v.class {
	case spirv.StorageWorkgroup:
		v.at = k.shared
		k.shared += (v.typ.size(natural) + 15) &^ 15
	case spirv.StorageFunction, spirv.StoragePrivate, spirv.StorageInput:
		v.at = k.own
		k.own += v.typ.slots
	case spirv.StorageStorageBuffer, spirv.StoragePushConstant:
	default:
		return fmt.Errorf("a variable of storage class %d", v.class)
	}
	if len(a) > 3 {
		v.init = a[3]
	}
	k.vars = append(k.vars, v)
	k.varIDs = append(k.varIDs, a[1])
	k.pointers[a[1]] = newPointer(v, v.typ)
	k.result(a[1], 1)
	return nil
}

func (k *Kernel) result(id uint32, slots int) {
	k.results = append(k.results, result{id, slots})
	k.numWords += slots
}

// instruction reads one of a block.
func (k *Kernel) instruction(b *block, op uint32, a []uint32, site, line int, values []uint32, d *decorations) error {
	in := inst{op: op, args: a, site: site, line: line}
	switch op {
	case spirv.OpVariable:
		return k.variable(a, d)
	case spirv.OpUndef:
		return k.constant(op, a, values, d)
	case spirv.OpLoopMerge:
		b.merge, b.unrolls, b.loops = a[:2], a[2]&1 != 0, a[2]&1 == 0
		return nil
	case spirv.OpSelectionMerge:
		b.merge = a[:1]
		return nil
	case spirv.OpBranch:
		b.succ = a[:1]
	case spirv.OpBranchConditional:
		b.succ = a[1:3]
	case spirv.OpSwitch:
		b.succ = append(b.succ, a[1])
		for i := 3; i < len(a); i += 2 {
			b.succ = append(b.succ, a[i])
		}
	case spirv.OpStore, spirv.OpCooperativeMatrixStore, spirv.OpControlBarrier, spirv.OpMemoryBarrier, spirv.OpReturn:
	default:
		t := k.types[a[0]]
		if t == nil {
			return fmt.Errorf("type %d", a[0])
		}
		in.typ, in.result, in.args = t, a[1], a[2:]
		k.ofType[a[1]] = t
		k.result(a[1], t.slots)
		if op == spirv.OpPhi {
			b.phis++
		}
		if op == spirv.OpAccessChain {
			if err := k.chain(&in); err != nil {
				return err
			}
		}
		in.fn = function(&in)
	}
	b.insts = append(b.insts, in)
	return nil
}

// chain works out an access chain.
func (k *Kernel) chain(in *inst) error {
	base := k.pointers[in.args[0]]
	if base == nil {
		return fmt.Errorf("a chain from %d, which is no variable", in.args[0])
	}
	c, t := &chain{base: in.args[0]}, base.typ
	for _, index := range in.args[1:] {
		v, constant := k.constants[index]
		step := 0
		switch t.op {
		case spirv.OpTypeStruct:
			c.fixed += t.offset(int(v[0]), base.layout)
			t = t.members[v[0]]
			continue
		case spirv.OpTypeArray:
			step, t = t.step(base.layout), t.elem
		case spirv.OpTypeVector:
			step, t = t.elem.size(base.layout), t.elem
		default:
			return fmt.Errorf("an index into type %d", t.op)
		}
		if constant {
			c.fixed += step * int(v[0])
			continue
		}
		c.indices, c.steps = append(c.indices, index), append(c.steps, step)
	}
	in.chain = c
	k.pointers[in.result] = newPointer(base.v, t)
	return nil
}

func newPointer(v *variable, t *typ) *pointer {
	l := layoutOf(v.class)
	p := &pointer{v: v, typ: t, layout: l}
	if l != inSlots {
		p.parts = t.parts(l, 0, nil)
	}
	return p
}

// order sorts blocks so that a construct is before what follows it: lanes that are ahead in it wait there for others.
func (k *Kernel) order() {
	seen := map[uint32]bool{}
	var after []*block
	var visit func(label uint32)
	visit = func(label uint32) {
		if seen[label] {
			return
		}
		seen[label] = true
		b := k.byLabel[label]
		for _, m := range b.merge {
			visit(m)
		}
		for _, s := range b.succ {
			visit(s)
		}
		after = append(after, b)
	}
	visit(k.blocks[0].label)
	k.blocks = after
	for i, j := 0, len(after)-1; i < j; i, j = i+1, j-1 {
		after[i], after[j] = after[j], after[i]
	}
	for i, b := range after {
		b.order = i
		last := &b.insts[len(b.insts)-1]
		for _, s := range b.succ {
			last.to = append(last.to, k.byLabel[s])
		}
	}
	k.regions()
}

// moves reports whether blocks use memory that others see, wait or loop.
func (k *Kernel) moves(blocks []*block) bool {
	for _, b := range blocks {
		if b.loops {
			return true
		}
		for i := range b.insts {
			switch in := &b.insts[i]; in.op {
			case spirv.OpLoad, spirv.OpStore:
				if c := k.pointers[in.args[0]].v.class; c == spirv.StorageStorageBuffer || c == spirv.StorageWorkgroup {
					return true
				}
			case spirv.OpAtomicIAdd, spirv.OpControlBarrier, spirv.OpMemoryBarrier, spirv.OpCooperativeMatrixLoad, spirv.OpCooperativeMatrixStore:
				return true
			}
		}
	}
	return false
}

// regions gives blocks that compilers make one of a number: those of one branch of one construct. A loop that is to be unrolled,
// a branch that constants decide and one that only computes, which becomes a selection, are no constructs.
func (k *Kernel) regions() {
	for _, b := range k.blocks { // of an outer construct before those of inner ones
		if b.merge == nil || b.unrolls {
			continue
		}
		end := k.byLabel[b.merge[0]].order
		if b.loops {
			for _, in := range k.blocks[b.order:end] {
				in.region = b.order + 1
			}
			continue
		}
		if last := b.insts[len(b.insts)-1]; k.constants[last.args[0]] != nil {
			continue
		}
		leaves := end // a branch that ends an outer construct makes what is left of it conditional
		for _, in := range k.blocks[b.order:end] {
			for _, s := range in.succ {
				leaves = max(leaves, k.byLabel[s].order)
			}
		}
		if !k.moves(k.blocks[b.order+1 : leaves]) {
			continue
		}
		for i := b.order + 1; i < leaves; i++ {
			branch := end // where the branch of block i begins
			if i < end {
				branch = b.order + 1
				for _, s := range b.succ {
					if at := k.byLabel[s].order; at <= i {
						branch = max(branch, at)
					}
				}
			}
			k.blocks[i].region = branch + len(k.blocks)
		}
	}
}

func float(x uint32) float32 { return math.Float32frombits(x) }
func word(x float32) uint32  { return math.Float32bits(x) }
