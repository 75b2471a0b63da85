package shaders

import (
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"pumice/internal/spirv"
)

// Numbers of the SPIR-V specification, version 1.6, section 3.
const (
	dimBuffer = 5
	sampled   = 1
)

// operands is how many operands an instruction has at least.
var operands = map[uint32]int{
	spirv.OpName: 2, spirv.OpTypeInt: 3, spirv.OpTypeFloat: 2, spirv.OpTypeImage: 8, spirv.OpTypeStruct: 1, spirv.OpTypePointer: 3, spirv.OpSpecConstantTrue: 2,
	spirv.OpSpecConstantFalse: 2, spirv.OpSpecConstant: 3, spirv.OpVariable: 3, spirv.OpDecorate: 2, spirv.OpMemberDecorate: 3,
}

// localSize names a specialization constant that GLSL gives no name: layout(local_size_x_id = ID).
const localSize = "local_size_x"

// Reflect reads a kernel's interface from its SPIR-V. Names, and what the kernel declares and doesn't use, are only in
// SPIR-V that was not optimised.
func Reflect(code []byte) (Interface, error) {
	m, err := readModule(code)
	if err != nil {
		return Interface{}, fmt.Errorf("shaders: SPIR-V: %w", err)
	}
	out := Interface{PushBytes: m.pushBytes}
	for i, index := range slices.Sorted(maps.Keys(m.bindings)) {
		if int(index) != i {
			return Interface{}, fmt.Errorf("shaders: SPIR-V: there is a binding %d and no binding %d", index, i)
		}
		out.Bindings = append(out.Bindings, m.bindings[index])
	}
	for range m.addresses {
		out.Bindings = append(out.Bindings, Binding{Kind: Address})
	}
	for _, id := range slices.Sorted(maps.Keys(m.constants)) {
		c := m.constants[id]
		for _, other := range out.Constants {
			if other.Name == c.Name {
				return Interface{}, fmt.Errorf("shaders: SPIR-V: constants %d and %d are both %s", other.ID, id, c.Name)
			}
		}
		out.Constants = append(out.Constants, c)
	}
	return out, nil
}

// A module is what Reflect collects.
type module struct {
	pushBytes int
	addresses int
	bindings  map[uint32]Binding
	constants map[uint32]Constant
}

// A declared is what the instructions before the first function say of an id.
type declared struct {
	op          uint32
	args        []uint32 // of a type: what follows its id
	name        string
	decorations map[uint32]uint32   // to the first operand, or 0
	members     []map[uint32]uint32 // the same of a struct's members
}

func (d *declared) has(decoration uint32) bool { _, ok := d.decorations[decoration]; return ok }

// all says whether every member of a struct has the decoration.
func (d *declared) all(decoration uint32) bool {
	for _, m := range d.members {
		if _, ok := m[decoration]; !ok {
			return false
		}
	}
	return len(d.members) > 0
}

func readModule(code []byte) (*module, error) {
	cut, err := spirv.Cut(code)
	if err != nil {
		return nil, err
	}
	ids := map[uint32]*declared{}
	at := func(id uint32) *declared {
		if ids[id] == nil {
			ids[id] = &declared{decorations: map[uint32]uint32{}}
		}
		return ids[id]
	}
	m := &module{bindings: map[uint32]Binding{}, constants: map[uint32]Constant{}}
	for _, in := range cut.List {
		op, a := in.Op, in.Args
		if op == spirv.OpFunction {
			break
		}
		if len(a) < operands[op] {
			return nil, fmt.Errorf("word %d: instruction %d has %d operands", in.Word, op, len(a))
		}
		switch op {
		case spirv.OpName:
			at(a[0]).name = text(a[1:])
		case spirv.OpDecorate:
			at(a[0]).decorations[a[1]] = first(a[2:])
		case spirv.OpMemberDecorate:
			d, member := at(a[0]), int(a[1])
			if member > len(code) {
				return nil, fmt.Errorf("member %d of a struct", member)
			}
			for len(d.members) <= member {
				d.members = append(d.members, map[uint32]uint32{})
			}
			d.members[member][a[2]] = first(a[3:])
		case spirv.OpTypeInt, spirv.OpTypeFloat, spirv.OpTypeImage, spirv.OpTypeStruct, spirv.OpTypePointer:
			d := at(a[0])
			d.op, d.args = op, a[1:]
		case spirv.OpSpecConstantTrue, spirv.OpSpecConstantFalse, spirv.OpSpecConstant:
			if err := m.constant(op, a, at(a[1])); err != nil {
				return nil, err
			}
		case spirv.OpVariable:
			if err := m.variable(a[2], at(a[1]), at(a[0]), at); err != nil {
				return nil, err
			}
		}
	}
	return m, nil
}

// first is a decoration's operand, or 0 of one that has none.
func first(operands []uint32) uint32 {
	if len(operands) == 0 {
		return 0
	}
	return operands[0]
}

// text is a literal string: bytes to the first zero.
func text(words []uint32) string {
	var b []byte
	for _, w := range words {
		b = binary.LittleEndian.AppendUint32(b, w)
	}
	s, _, _ := strings.Cut(string(b), "\x00")
	return s
}

// constant notes a specialization constant. One that is the local size has a second declaration without a name, whose
// default does not count where there is another.
func (m *module) constant(op uint32, a []uint32, d *declared) error {
	id, ok := d.decorations[spirv.DecorationSpecID]
	if !ok {
		return nil
	}
	c := Constant{ID: int(id), Name: d.name}
	switch {
	case op == spirv.OpSpecConstantTrue:
		c.Default = 1
	case op == spirv.OpSpecConstant && len(a) == 3:
		c.Default = a[2]
	case op == spirv.OpSpecConstant:
		return fmt.Errorf("constant %d has more than 32 bits", id)
	}
	if c.Name == "" {
		c.Name = localSize
	}
	if old, twice := m.constants[id]; twice {
		if d.name == "" {
			return nil
		}
		if old.Name != localSize && old != c {
			return fmt.Errorf("constant %d is both %s and %s", id, old, c)
		}
	}
	m.constants[id] = c
	return nil
}

// variable notes a variable, if it is an argument of the kernel. Several may alias one binding.
func (m *module) variable(class uint32, v, pointer *declared, at func(uint32) *declared) error {
	if class == spirv.StoragePushConstant && pointer.op == spirv.OpTypePointer {
		return m.push(at(pointer.args[1]), at)
	}
	if class != spirv.StorageUniformConstant && class != spirv.StorageUniform && class != spirv.StorageStorageBuffer {
		return nil
	}
	index, bound := v.decorations[spirv.DecorationBinding]
	if set := v.decorations[spirv.DecorationDescriptorSet]; !bound || set != 0 || pointer.op != spirv.OpTypePointer {
		return fmt.Errorf("a variable of storage class %d has binding %d of set %d; want set 0", class, index, set)
	}
	t := at(pointer.args[1])
	var b Binding
	switch {
	case class == spirv.StorageStorageBuffer && t.op == spirv.OpTypeStruct:
		b = Binding{Buffer, !v.has(spirv.DecorationNonReadable) && !t.all(spirv.DecorationNonReadable),
			!v.has(spirv.DecorationNonWritable) && !t.all(spirv.DecorationNonWritable)}
	case class == spirv.StorageUniformConstant && t.op == spirv.OpTypeImage && t.args[1] == dimBuffer && t.args[5] == sampled:
		b = Binding{Texel, true, false}
	default:
		return fmt.Errorf("binding %d is neither a storage buffer nor a uniform texel buffer", index)
	}
	if old, alias := m.bindings[index]; alias {
		if old.Kind != b.Kind {
			return fmt.Errorf("binding %d is both %s and %s", index, old, b)
		}
		b.Reads, b.Writes = b.Reads || old.Reads, b.Writes || old.Writes
	}
	m.bindings[index] = b
	return nil
}

// push notes the block of push constants: values of four bytes with nothing between them, then 64-bit device addresses,
// of which the first is aligned to eight bytes.
func (m *module) push(block *declared, at func(uint32) *declared) error {
	if block.op != spirv.OpTypeStruct {
		return errors.New("push constants that are not a block")
	}
	end := 0
	for i, id := range block.args {
		t, size := at(id), 4
		switch {
		case t.op == spirv.OpTypePointer && t.args[0] == spirv.StoragePhysicalStorageBuffer, t.op == spirv.OpTypeInt && t.args[0] == 64:
			if size = 8; m.addresses == 0 {
				m.pushBytes, end = end, (end+7)&^7
			}
			m.addresses++
		case (t.op == spirv.OpTypeInt || t.op == spirv.OpTypeFloat) && t.args[0] == 32 && m.addresses == 0:
		default:
			return fmt.Errorf("push constant %d is neither a 32-bit number nor, after those, a device address", i)
		}
		if i >= len(block.members) || block.members[i][spirv.DecorationOffset] != uint32(end) {
			return fmt.Errorf("push constant %d is not at byte %d", i, end)
		}
		end += size
	}
	if m.addresses == 0 {
		m.pushBytes = end
	}
	return nil
}
