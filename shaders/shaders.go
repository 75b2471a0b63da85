// Package shaders holds the compute kernels: GLSL sources, the table of their
// variants, and the SPIR-V that tools/glslc.sh makes of them, embedded.
package shaders

import (
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"fmt"
)

//go:embed variants.txt spv/*.spv
var files embed.FS

// A Variant is a kernel of the table, compiled.
type Variant struct {
	Row
	SPIRV []byte
}

// Hash is the SHA-256 of the table and of every kernel, in hexadecimal: what was measured or checked holds for these alone.
func Hash() (string, error) {
	list, err := Variants()
	if err != nil {
		return "", err
	}
	h := sha256.New()
	for _, v := range list {
		fmt.Fprintln(h, v.Name, v.Source, v.Needs, v.Defines, len(v.SPIRV))
		h.Write(v.SPIRV)
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}

// Variants returns every kernel of the table, in its order.
func Variants() ([]Variant, error) {
	rows, err := Rows()
	if err != nil {
		return nil, err
	}
	list := make([]Variant, len(rows))
	for i, r := range rows {
		spirv, err := files.ReadFile("spv/" + r.Name + ".spv")
		if err != nil {
			return nil, fmt.Errorf("shaders: %s is not compiled: %w", r.Name, err)
		}
		list[i] = Variant{Row: r, SPIRV: spirv}
	}
	return list, nil
}
