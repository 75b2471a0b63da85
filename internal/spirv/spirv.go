// Package spirv cuts SPIR-V into its instructions, as version 1.6 of its specification has them in section 2.3.
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

// Cut reads a module whose words are little-endian. What they mean is not looked at.
func Cut(module []byte) (*Module, error) {
	const magic, header = 0x07230203, 5
	if len(module) < 4*header || len(module)%4 != 0 || binary.LittleEndian.Uint32(module) != magic {
		return nil, errors.New("no header of SPIR-V")
	}
	words := make([]uint32, len(module)/4)
	for i := range words {
		words[i] = binary.LittleEndian.Uint32(module[4*i:])
	}
	m := &Module{Version: words[1], Bound: words[3]}
	for i := header; i < len(words); {
		n := int(words[i] >> 16)
		if n == 0 || n > len(words)-i {
			return nil, fmt.Errorf("word %d: an instruction of %d words", i, n)
		}
		m.List = append(m.List, Instruction{words[i] & 0xffff, words[i+1 : i+n], i})
		i += n
	}
	return m, nil
}
