//go:build wrongkernel

package shaders

import "encoding/binary"

// wrong is a kernel that the build tag wrongkernel makes wrong, for the test that checks find it: of its last product, which
// applies the norm's weight, it makes a sum.
const wrong = "rms_norm_row"

// altered is the code of a kernel.
func altered(name string, spirv []byte) []byte {
	const headerBytes, fMul, fAdd = 20, 133, 129 // SPIR-V's OpFMul and OpFAdd, which have the same operands
	if name != wrong {
		return spirv
	}
	code, last := append([]byte(nil), spirv...), 0
	for at := headerBytes; at < len(code); {
		word := binary.LittleEndian.Uint32(code[at:])
		if word&0xffff == fMul {
			last = at
		}
		at += int(word>>16) * 4
	}
	word := binary.LittleEndian.Uint32(code[last:])
	binary.LittleEndian.PutUint32(code[last:], word&^0xffff|fAdd)
	return code
}
