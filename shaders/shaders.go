// Package shaders holds the compute kernels: GLSL sources, the table of their
// variants, and the SPIR-V that tools/glslc.sh makes of them, embedded.
package shaders

import (
	"bufio"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"fmt"
	"strings"
)

//go:embed variants.txt spv/*.spv
var files embed.FS

// A Variant is one row of variants.txt: a kernel compiled with one set of defines.
type Variant struct {
	Name    string
	Source  string   // file under shaders/
	Needs   []string // capabilities beyond Vulkan 1.1 and 32-bit storage, by the table's names
	Defines []string
	SPIRV   []byte
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

// Variants returns every row of the table, in its order.
func Variants() ([]Variant, error) {
	table, err := files.ReadFile("variants.txt")
	if err != nil {
		return nil, fmt.Errorf("shaders: %w", err)
	}
	var out []Variant
	lines := bufio.NewScanner(strings.NewReader(string(table)))
	for n := 1; lines.Scan(); n++ {
		text, _, _ := strings.Cut(lines.Text(), "#")
		f := strings.Fields(text)
		if len(f) == 0 {
			continue
		}
		if len(f) < 3 {
			return nil, fmt.Errorf("shaders: variants.txt:%d: want name, source, needs", n)
		}
		v := Variant{Name: f[0], Source: f[1], Defines: f[3:]}
		if f[2] != "-" {
			v.Needs = strings.Split(f[2], ",")
		}
		if v.SPIRV, err = files.ReadFile("spv/" + v.Name + ".spv"); err != nil {
			return nil, fmt.Errorf("shaders: variants.txt:%d: %w", n, err)
		}
		out = append(out, v)
	}
	return out, nil
}
