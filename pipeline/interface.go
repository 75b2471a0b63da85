package pipeline

import (
	"fmt"
	"slices"

	"pumice/pipeline/kernels"
	"pumice/shaders"
	"pumice/vk"
)

// match compares what the node is given with what the GLSL of its kernel declares, and puts the values of its
// specialization constants in the order of their numbers.
func (n *node) match(v shaders.Variant) error {
	if len(n.push) != v.PushBytes {
		return fmt.Errorf("%s: %d bytes of push constants, the shader has %d", v.Name, len(n.push), v.PushBytes)
	}
	if len(n.binds) != len(v.Bindings) {
		return fmt.Errorf("%s: %d bindings, the shader has %d", v.Name, len(n.binds), len(v.Bindings))
	}
	for i, x := range n.binds {
		b, want := x.declared(), v.Bindings[i]
		// Reads are not compared: a kernel may read what it adds to only if a constant says so, and a shard of a matrix
		// leaves the rows of other shards as they were. At an address nothing is known.
		if b.Kind != want.Kind || b.Writes != want.Writes && want.Kind != shaders.Address {
			return fmt.Errorf("%s: binding %d is %s, the shader has %s", v.Name, i, b, want)
		}
	}
	if len(n.spec) != len(v.Constants) {
		return fmt.Errorf("%s: %d specialization constants %v, the shader has %d: %v", v.Name, len(n.spec), n.spec,
			len(v.Constants), v.Constants)
	}
	n.values = nil
	for _, c := range v.Constants {
		i := slices.IndexFunc(n.spec, func(given kernels.Constant) bool { return given.Name == c.Name })
		if i < 0 {
			return fmt.Errorf("%s: no value for specialization constant %s among %v", v.Name, c.Name, n.spec)
		}
		for len(n.values) < c.ID { // numbers that the kernel doesn't use
			n.values = append(n.values, 0)
		}
		n.values = append(n.values, n.spec[i].Value)
	}
	return nil
}

// declared is the bind as a shader would declare it.
func (x bind) declared() shaders.Binding {
	b := shaders.Binding{Kind: shaders.Texel, Reads: x.access != vk.Write, Writes: x.access != vk.Read}
	switch x.view {
	case kernels.Storage:
		b.Kind = shaders.Buffer
	case kernels.Address:
		b.Kind = shaders.Address
	}
	return b
}
