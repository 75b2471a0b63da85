// Package shaders holds the compute kernels: GLSL sources, the table of their
// variants, and the SPIR-V that tools/glslc.sh makes of them, embedded.
package shaders

import (
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"
)

//go:embed variants.txt spv/*.spv spv/manifest.txt
var files embed.FS

// A Variant is a kernel of the table, compiled.
type Variant struct {
	Row
	Interface
	SPIRV []byte
}

// Hash is the SHA-256 of the rows and code of every kernel that computes, in hexadecimal: what was measured or checked holds for these alone.
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

// window is the need of kernels that draw.
const window = "window"

// Variants returns every kernel of the table that computes, in its order.
func Variants() ([]Variant, error) { return variants(false) }

// Drawing returns the kernels of the table that draw, for package vk/present.
func Drawing() ([]Variant, error) { return variants(true) }

func variants(draw bool) ([]Variant, error) {
	rows, err := Rows()
	if err != nil {
		return nil, err
	}
	rows = slices.DeleteFunc(rows, func(r Row) bool { return slices.Contains(r.Needs, window) != draw })
	lines, err := manifest()
	if err != nil {
		return nil, err
	}
	list := make([]Variant, len(rows))
	for i, r := range rows {
		line, ok := lines[r.Name]
		code, err := compiled(r.Name)
		if !ok || err != nil {
			return nil, fmt.Errorf("shaders: %s is not compiled (tools/glslc.sh)", r.Name)
		}
		list[i] = Variant{Row: r, Interface: line.Interface, SPIRV: altered(r.Name, code)}
	}
	return list, nil
}

// A manifestLine is the line of a kernel in spv/manifest.txt.
type manifestLine struct {
	Interface
	spirv string // SHA-256 of the .spv file
}

// manifest reads spv/manifest.txt: a line `NAME SHA-256(spv) SHA-256(inputs) INTERFACE` for each kernel.
func manifest() (map[string]manifestLine, error) {
	text, err := files.ReadFile("spv/manifest.txt")
	if err != nil {
		return nil, fmt.Errorf("shaders: %w", err)
	}
	lines := map[string]manifestLine{}
	for s := range strings.Lines(string(text)) {
		s, _, _ = strings.Cut(s, "#")
		f := strings.Fields(s)
		if len(f) == 0 {
			continue
		}
		if len(f) < 4 {
			return nil, fmt.Errorf("shaders: manifest.txt: %s has no interface (tools/glslc.sh)", f[0])
		}
		line := manifestLine{spirv: f[1]}
		if line.Interface, err = parseInterface(f[3:]); err != nil {
			return nil, fmt.Errorf("shaders: manifest.txt: %s: %w", f[0], err)
		}
		lines[f[0]] = line
	}
	return lines, nil
}
