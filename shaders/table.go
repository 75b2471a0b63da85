package shaders

import (
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
)

// A Row says how one kernel is compiled. A row of variants.txt with types stands for one Row a type.
type Row struct {
	Name    string
	Source  string   // file under shaders/
	Needs   []string // capabilities beyond Vulkan 1.1 and 32-bit storage, by the table's names
	Defines []string // NAME or NAME=VALUE
}

// Target is the Vulkan that the kernel is compiled for, as glslc names it: the oldest that has what the kernel needs. The
// GLSL of VK_NV_cooperative_matrix2 is for SPIR-V 1.6 alone.
func (r Row) Target() string {
	needs := func(names ...string) bool {
		return slices.ContainsFunc(r.Needs, func(need string) bool { return slices.Contains(names, need) })
	}
	switch {
	case needs("coopmat2", "coopmat2e"):
		return "vulkan1.3"
	case len(r.Needs) > 0 && !needs(window):
		return "vulkan1.2"
	}
	return "vulkan1.1"
}

// Rows returns the kernels of variants.txt, in its order, those of one row in the order of its types.
func Rows() ([]Row, error) {
	text, err := files.ReadFile("variants.txt")
	if err != nil {
		return nil, fmt.Errorf("shaders: %w", err)
	}
	return parseTable(string(text))
}

var kernelName = regexp.MustCompile(`^[a-z0-9_]+$`)

// parseTable reads text in the format that the head of variants.txt describes.
func parseTable(text string) ([]Row, error) {
	var rows []Row
	sets := map[string][]string{}
	line := map[string]int{} // of each name
	n := 0
	for s := range strings.Lines(text) {
		n++
		s, _, _ = strings.Cut(s, "#")
		f := strings.Fields(s)
		if len(f) == 0 {
			continue
		}
		expanded, err := parseLine(f, sets)
		if err != nil {
			return nil, fmt.Errorf("shaders: variants.txt:%d: %w", n, err)
		}
		for _, r := range expanded {
			if !kernelName.MatchString(r.Name) {
				return nil, fmt.Errorf("shaders: variants.txt:%d: name %q is not lower case, digits and underscores", n, r.Name)
			}
			if first := line[r.Name]; first > 0 {
				return nil, fmt.Errorf("shaders: variants.txt:%d: %s is also in line %d", n, r.Name, first)
			}
			line[r.Name] = n
		}
		rows = append(rows, expanded...)
	}
	return rows, nil
}

// parseLine returns the kernels of a line, or adds the set that it defines to sets.
func parseLine(f []string, sets map[string][]string) ([]Row, error) {
	if f[0] == "types" {
		if len(f) != 4 || f[2] != "=" {
			return nil, errors.New("want types NAME = LIST")
		}
		if _, twice := sets[f[1]]; twice {
			return nil, fmt.Errorf("types %s is defined twice", f[1])
		}
		list, err := typeList(f[3], sets, true)
		sets[f[1]] = list
		return nil, err
	}
	if len(f) < 4 {
		return nil, errors.New("want NAME SOURCE NEEDS TYPES [DEFINE...]")
	}
	r := Row{Name: f[0], Source: f[1], Defines: f[4:]}
	if f[2] != "-" {
		r.Needs = strings.Split(f[2], ",")
	}
	const mark = "{T}"
	marked := strings.Contains(r.Name, mark)
	if f[3] == "-" {
		if marked {
			return nil, fmt.Errorf("%s has %s but no types", r.Name, mark)
		}
		return []Row{r}, nil
	}
	if !marked {
		return nil, fmt.Errorf("%s has types but no %s", r.Name, mark)
	}
	types, err := typeList(f[3], sets, false)
	if err != nil {
		return nil, err
	}
	var rows []Row
	for _, t := range types {
		of := r
		of.Name = strings.ReplaceAll(r.Name, mark, t)
		of.Defines = slices.Clone(r.Defines)
		for i, d := range of.Defines {
			of.Defines[i] = strings.ReplaceAll(d, mark, strings.ToUpper(t))
		}
		rows = append(rows, of)
	}
	return rows, nil
}

// typeList is the types of a comma list: a set's name stands for its types, and -TYPE takes a type out. A type that is
// in no set is an error, unless the list is that of a set.
func typeList(s string, sets map[string][]string, define bool) ([]string, error) {
	var list []string
	for _, name := range strings.Split(s, ",") {
		out, remove := strings.CutPrefix(name, "-")
		if remove {
			i := slices.Index(list, out)
			if i < 0 {
				return nil, fmt.Errorf("types %q: no %s to take out", s, out)
			}
			list = slices.Delete(list, i, i+1)
			continue
		}
		types, ok := sets[name]
		if !ok {
			types = []string{name}
			known := func(set []string) bool { return slices.Contains(set, name) }
			if !define && !slices.ContainsFunc(slices.Collect(maps.Values(sets)), known) {
				return nil, fmt.Errorf("types %q: %q is neither a set nor in one", s, name)
			}
		}
		for _, t := range types {
			if slices.Contains(list, t) {
				return nil, fmt.Errorf("types %q: %s twice", s, t)
			}
			list = append(list, t)
		}
	}
	if len(list) == 0 {
		return nil, fmt.Errorf("types %q: none left", s)
	}
	return list, nil
}
