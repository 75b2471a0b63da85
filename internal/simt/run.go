package simt

import (
	"encoding/binary"
	"fmt"

	"pumice/internal/spirv"
)

// Words is the memory of a binding, in words of 32 bits. What is not written has the value that Fill gives it; nil means 0.
type Words struct {
	Fill    func(at int) uint32
	written map[int]uint32
}

// At is word at.
func (w *Words) At(at int) uint32 {
	if v, ok := w.written[at]; ok {
		return v
	}
	if w.Fill == nil {
		return 0
	}
	return w.Fill(at)
}

// Set writes word at.
func (w *Words) Set(at int, v uint32) {
	if w.written == nil {
		w.written = map[int]uint32{}
	}
	w.written[at] = v
}

// A Dispatch is what a kernel is given.
type Dispatch struct {
	Grid    [3]int
	Push    []byte
	Buffers []*Words // by binding
}

// Shared is the Binding of accesses to shared memory.
const Shared = -1

// An Access is one instruction that moves a number or a vector to or from memory, by the lanes of a subgroup.
type Access struct {
	Binding  int // or Shared
	Store    bool
	Bytes    int     // of a lane
	At       []int64 // byte addresses of the lanes that take part, in their order; valid until the callback returns
	Site     int     // word of the instruction in the module
	Line     int     // of the source, 0 where the module does not say
	Sequence int     // differs where a branch or a barrier is between: without one, a compiler may join accesses
}

// A state is a subgroup that runs.
type state struct {
	*Kernel
	d     *Dispatch
	group *group
	id    int // of the subgroup

	regs    [][]uint32 // by id, [slot][lane]
	own     []uint32   // a lane's own variables, [word][lane]
	at      []int      // of each lane the block, -1: it has ended
	from    []*block   // of each lane the block before
	active  []int
	resume  int // instruction of the lanes at a barrier
	region  int // of the block before
	phi     []uint32
	address []int64
}

// A group is a workgroup that runs.
type group struct {
	shared   []uint32
	sequence int
	each     func(Access)
}

// Run executes one workgroup and tells each of its accesses to bindings and shared memory.
func (k *Kernel) Run(d *Dispatch, at [3]int, each func(Access)) error {
	g := &group{shared: make([]uint32, (k.shared+3)/4), each: each}
	for i := range g.shared {
		g.shared[i] = 0x7fc00000 // a NaN: what was not written shows
	}
	var subgroups []*state
	for first := 0; first < k.Workgroup; first += k.Lanes {
		subgroups = append(subgroups, k.subgroup(d, g, at, first/k.Lanes))
	}
	for running := len(subgroups); running > 0; {
		running = 0
		for _, s := range subgroups {
			waits, err := s.run()
			if err != nil {
				return err
			}
			if waits {
				running++
			}
		}
	}
	return nil
}

// subgroup makes one, with its inputs.
func (k *Kernel) subgroup(d *Dispatch, g *group, group [3]int, id int) *state {
	n := k.Lanes
	s := &state{Kernel: k, d: d, group: g, id: id, regs: make([][]uint32, k.bound), own: make([]uint32, k.own*n),
		at: make([]int, n), from: make([]*block, n)}
	memory := make([]uint32, k.numWords*n)
	for _, r := range k.results {
		s.regs[r.id], memory = memory[:r.slots*n:r.slots*n], memory[r.slots*n:]
	}
	for id, v := range k.constants {
		c := make([]uint32, len(v)*n)
		for slot, x := range v {
			for l := range n {
				c[slot*n+l] = x
			}
		}
		s.regs[id] = c
	}
	for l := range n {
		if id*n+l >= k.Workgroup {
			s.at[l] = -1
		}
	}
	for _, v := range k.vars {
		if v.class == spirv.StorageInput {
			for l := range n {
				i := id*n + l
				var values []int
				switch v.builtIn {
				case spirv.BuiltInNumWorkgroups:
					values = d.Grid[:]
				case spirv.BuiltInWorkgroupID:
					values = group[:]
				case spirv.BuiltInLocalInvocationID:
					values = []int{i, 0, 0}
				case spirv.BuiltInGlobalInvocationID:
					values = []int{group[0]*k.Workgroup + i, group[1], group[2]}
				case spirv.BuiltInLocalInvocationIndex:
					values = []int{i}
				case spirv.BuiltInSubgroupSize:
					values = []int{n}
				case spirv.BuiltInNumSubgroups:
					values = []int{(k.Workgroup + n - 1) / n}
				case spirv.BuiltInSubgroupID:
					values = []int{id}
				case spirv.BuiltInSubgroupLocalInvocationID:
					values = []int{l}
				}
				for slot, x := range values {
					s.own[(v.at+slot)*n+l] = uint32(x)
				}
			}
		} else if v.init != 0 {
			copy(s.own[v.at*n:], s.regs[v.init])
		}
	}
	return s
}

// run executes the subgroup to its end, or to a barrier at which it waits.
func (s *state) run() (waits bool, err error) {
	for {
		least := -1
		for _, at := range s.at {
			if at >= 0 && (least < 0 || at < least) {
				least = at
			}
		}
		if least < 0 {
			return false, nil
		}
		s.active = s.active[:0]
		for l, at := range s.at {
			if at == least {
				s.active = append(s.active, l)
			}
		}
		b := s.blocks[least]
		first := s.resume
		if s.region != b.region || b.loops || first > 0 {
			s.group.sequence++
			s.region = b.region
		}
		if first == 0 {
			s.enter(b)
			first = b.phis
		}
		s.resume = 0
		for i := first; i < len(b.insts); i++ {
			in := &b.insts[i]
			if in.op == spirv.OpControlBarrier {
				if s.constants[in.args[0]][0] == scopeWorkgroup {
					s.resume = i + 1
					return true, nil
				}
				continue
			}
			if err := s.execute(b, in); err != nil {
				return false, fmt.Errorf("simt: word %d: %w", in.site, err)
			}
		}
	}
}

// enter gives phis their values.
func (s *state) enter(b *block) {
	n := s.Lanes
	s.phi = s.phi[:0]
	for i := range b.phis {
		in := &b.insts[i]
		for _, l := range s.active {
			for j := 0; j < len(in.args); j += 2 {
				if s.from[l].label == in.args[j+1] {
					a := s.regs[in.args[j]]
					for slot := range in.typ.slots {
						s.phi = append(s.phi, a[slot*n+l])
					}
					break
				}
			}
		}
	}
	at := 0
	for i := range b.phis {
		in := &b.insts[i]
		out := s.regs[in.result]
		for _, l := range s.active {
			for slot := range in.typ.slots {
				out[slot*n+l] = s.phi[at]
				at++
			}
		}
	}
}

func (s *state) execute(b *block, in *inst) error {
	n := s.Lanes
	switch in.op {
	case spirv.OpReturn:
		for _, l := range s.active {
			s.at[l] = -1
		}
	case spirv.OpBranch:
		for _, l := range s.active {
			s.at[l], s.from[l] = in.to[0].order, b
		}
	case spirv.OpBranchConditional:
		c := s.regs[in.args[0]]
		for _, l := range s.active {
			s.at[l], s.from[l] = in.to[1-c[l]].order, b
		}
	case spirv.OpSwitch:
		c := s.regs[in.args[0]]
		for _, l := range s.active {
			to := in.to[0]
			for i, of := range in.to[1:] {
				if in.args[2+2*i] == c[l] {
					to = of
				}
			}
			s.at[l], s.from[l] = to.order, b
		}
	case spirv.OpMemoryBarrier:
		s.group.sequence++
	case spirv.OpAccessChain:
		c, out := in.chain, s.regs[in.result]
		base := s.regs[c.base]
		for _, l := range s.active {
			out[l] = base[l] + uint32(c.fixed)
		}
		for i, x := range c.indices {
			index, step := s.regs[x], uint32(c.steps[i])
			for _, l := range s.active {
				out[l] += index[l] * step
			}
		}
	case spirv.OpLoad:
		return s.move(in, in.args[0], s.regs[in.result], false)
	case spirv.OpStore:
		return s.move(in, in.args[0], s.regs[in.args[1]], true)
	case spirv.OpAtomicIAdd:
		p, at := s.pointers[in.args[0]], s.regs[in.args[0]]
		w := s.d.Buffers[p.v.binding]
		s.address = s.address[:0]
		for _, l := range s.active {
			old := w.At(int(at[l]) / 4)
			w.Set(int(at[l])/4, old+s.regs[in.args[3]][l])
			s.regs[in.result][l] = old
			s.address = append(s.address, int64(at[l]))
		}
		s.tell(in, p, 4, true)
	case spirv.OpGroupNonUniformElect:
		for i, l := range s.active {
			s.regs[in.result][l] = truth(i == 0)
		}
	case spirv.OpGroupNonUniformShuffle, spirv.OpGroupNonUniformShuffleXor:
		a, which, out := s.regs[in.args[1]], s.regs[in.args[2]], s.regs[in.result]
		s.phi = append(s.phi[:0], a...)
		for at := 0; at < len(out); at += n {
			for _, l := range s.active {
				of := int(which[l])
				if in.op == spirv.OpGroupNonUniformShuffleXor {
					of ^= l
				}
				out[at+l] = s.phi[at+of%n]
			}
		}
	case spirv.OpGroupNonUniformFAdd, spirv.OpGroupNonUniformIAdd:
		if in.args[1] != 0 {
			return fmt.Errorf("a group operation that is no reduction")
		}
		a, out := s.regs[in.args[2]], s.regs[in.result]
		for at := 0; at < len(out); at += n {
			sum, whole := float32(0), uint32(0)
			for _, l := range s.active {
				sum += float(a[at+l])
				whole += a[at+l]
			}
			if in.op == spirv.OpGroupNonUniformFAdd {
				whole = word(sum)
			}
			for _, l := range s.active {
				out[at+l] = whole
			}
		}
	case spirv.OpCooperativeMatrixLoad:
		return s.moveMatrix(in, in.typ, in.args, s.regs[in.result], false)
	case spirv.OpCooperativeMatrixStore:
		return s.moveMatrix(in, s.ofType[in.args[1]], append([]uint32{in.args[0]}, in.args[2:]...), s.regs[in.args[1]], true)
	case spirv.OpCooperativeMatrixMulAdd:
		a, b, c, out := s.regs[in.args[0]], s.regs[in.args[1]], s.regs[in.args[2]], s.regs[in.result]
		inner, cols := s.ofType[in.args[0]].cols, in.typ.cols
		for e := range in.typ.count {
			sum := float(c[e])
			for i := range inner {
				sum += float(a[e/cols*inner+i]) * float(b[i*cols+e%cols])
			}
			out[e] = word(sum)
		}
	default:
		return s.arithmetic(in)
	}
	return nil
}

// tell hands on an access of the active lanes at s.address.
func (s *state) tell(in *inst, p *pointer, bytes int, store bool) {
	binding := p.v.binding
	if p.v.class == spirv.StorageWorkgroup {
		binding = Shared
	}
	s.group.each(Access{Binding: binding, Store: store, Bytes: bytes, At: s.address, Site: in.site, Line: in.line, Sequence: s.group.sequence})
}

// move loads a value to registers, or stores it.
func (s *state) move(in *inst, id uint32, regs []uint32, store bool) error {
	p, at, n := s.pointers[id], s.regs[id], s.Lanes
	if p.layout == inSlots {
		memory := s.own[p.v.at*n : (p.v.at+p.v.typ.slots)*n]
		for slot := range p.typ.slots {
			values := regs[slot*n:]
			for _, l := range s.active {
				m := &memory[(int(at[l])/4+slot)*n+l] // which panics beyond the variable
				if store {
					*m = values[l]
				} else {
					values[l] = *m
				}
			}
		}
		return nil
	}
	slot := 0
	for _, part := range p.parts {
		s.address = s.address[:0]
		for _, l := range s.active {
			s.address = append(s.address, int64(int(at[l])+part.offset))
		}
		switch p.v.class {
		case spirv.StorageStorageBuffer:
			s.tell(in, p, part.count*part.bytes, store)
		case spirv.StorageWorkgroup:
			for i := range s.address {
				s.address[i] += int64(p.v.at)
			}
			s.tell(in, p, part.count*part.bytes, store)
		}
		for c := range part.count {
			values := regs[slot*n:]
			for i, l := range s.active {
				a := int(s.address[i]) + c*part.bytes
				if err := s.number(p, a, &values[l], part.half, store); err != nil {
					return err
				}
			}
			slot++
		}
	}
	return nil
}

// number moves one number, of float16 or 32 bits, from or to byte a of a variable's memory.
func (s *state) number(p *pointer, a int, value *uint32, half, store bool) error {
	switch p.v.class {
	case spirv.StoragePushConstant:
		if store || a+4 > len(s.d.Push) {
			return fmt.Errorf("byte %d of %d of the push constants", a, len(s.d.Push))
		}
		*value = binary.LittleEndian.Uint32(s.d.Push[a:])
		return nil
	case spirv.StorageStorageBuffer:
		if half {
			return fmt.Errorf("a float16 number in a buffer")
		}
		w := s.d.Buffers[p.v.binding]
		if w == nil {
			return fmt.Errorf("binding %d has no memory", p.v.binding)
		}
		if store {
			w.Set(a/4, *value)
		} else {
			*value = w.At(a / 4)
		}
		return nil
	}
	if a/4 >= len(s.group.shared) {
		return fmt.Errorf("byte %d of %d of shared memory", a, len(s.group.shared)*4)
	}
	to := &s.group.shared[a/4]
	switch {
	case half && store:
		shift := a % 4 * 8
		*to = *to&^(0xffff<<shift) | toHalf(*value)<<shift
	case half:
		*value = fromHalf(uint16(*to >> (a % 4 * 8)))
	case store:
		*to = *value
	default:
		*value = *to
	}
	return nil
}

// moveMatrix loads or stores a cooperative matrix; args are pointer, layout and stride. Which lane asks for what only drivers
// know. This tells accesses as NVIDIA's instructions make them: of float16 numbers the lines of an 8 x 8 matrix, 16 bytes a
// lane, of float32 numbers pairs, four of which are a line of such a matrix. What is not in lines, or is narrower, comes by
// single numbers.
func (s *state) moveMatrix(in *inst, t *typ, args, regs []uint32, store bool) error {
	if len(s.active) != s.Lanes {
		return fmt.Errorf("a cooperative matrix in a branch that some lanes have not taken")
	}
	p := s.pointers[args[0]]
	if p.v.class != spirv.StorageWorkgroup {
		return fmt.Errorf("a cooperative matrix outside of shared memory")
	}
	base := int(s.regs[args[0]][0]) + p.v.at
	stride := 0
	if len(args) > 2 {
		stride = int(s.regs[args[2]][0]) * p.typ.size(p.layout)
	}
	rows, cols, size := t.count/t.cols, t.cols, t.elem.width/8
	byColumns := s.constants[args[1]][0] == 1
	place := func(row, col int) int {
		if byColumns {
			row, col = col, row
		}
		return base + row*stride + col*size
	}
	for e := range t.count {
		if err := s.number(p, place(e/cols, e%cols), &regs[e], size == 2, store); err != nil {
			return err
		}
	}
	lines, length := rows, cols
	if byColumns {
		lines, length = cols, rows
	}
	bytes := min(16, 8*size, length*size)
	if size == 4 {
		bytes = 8
	}
	s.address = s.address[:0]
	for line := 0; line < lines; line += 8 {
		for at := 0; at < length*size; at += min(8*size, length*size) {
			for l := line; l < min(line+8, lines); l++ {
				for piece := at; piece < min(at+8*size, length*size); piece += bytes {
					s.address = append(s.address, int64(base+l*stride+piece))
					if len(s.address) == s.Lanes {
						s.tell(in, p, bytes, store)
						s.address = s.address[:0]
					}
				}
			}
		}
	}
	if len(s.address) > 0 {
		s.tell(in, p, bytes, store)
	}
	return nil
}
