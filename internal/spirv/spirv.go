// Package spirv cuts SPIR-V into its instructions and joins them, as version 1.6 of its specification has them in section 2.3.
package spirv

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// An Instruction is its number and its operands.
type Instruction struct {
	Op   uint32
	Args []uint32
	Word int // of the module, where it begins
}

// A Module is a header and instructions.
type Module struct {
	Version uint32 // 0x00010500 is 1.5
	Bound   uint32 // all ids are below it
	List    []Instruction
}

const (
	magic       = 0x07230203
	headerWords = 5
)

// Cut reads a module whose words are little-endian. What they mean is not looked at.
func Cut(module []byte) (*Module, error) {
	if len(module) < 4*headerWords || len(module)%4 != 0 || binary.LittleEndian.Uint32(module) != magic {
		return nil, errors.New("no header of SPIR-V")
	}
	words := make([]uint32, len(module)/4)
	for i := range words {
		words[i] = binary.LittleEndian.Uint32(module[4*i:])
	}
	m := &Module{Version: words[1], Bound: words[3]}
	for i := headerWords; i < len(words); {
		n := int(words[i] >> 16)
		if n == 0 || n > len(words)-i {
			return nil, fmt.Errorf("word %d: an instruction of %d words", i, n)
		}
		m.List = append(m.List, Instruction{words[i] & 0xffff, words[i+1 : i+n], i})
		i += n
	}
	return m, nil
}

// Bytes is the module as Cut reads it.
func (m *Module) Bytes() []byte {
	words := []uint32{magic, m.Version, 0, m.Bound, 0}
	for _, in := range m.List {
		words = append(append(words, uint32(len(in.Args)+1)<<16|in.Op), in.Args...)
	}
	out := make([]byte, 0, 4*len(words))
	for _, w := range words {
		out = binary.LittleEndian.AppendUint32(out, w)
	}
	return out
}

// Literal is the words of a string, which end with a zero byte.
func Literal(s string) []uint32 {
	b := append([]byte(s), make([]byte, 4-len(s)%4)...)
	words := make([]uint32, len(b)/4)
	for i := range words {
		words[i] = binary.LittleEndian.Uint32(b[4*i:])
	}
	return words
}
