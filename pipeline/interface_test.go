package pipeline

import (
	"slices"
	"testing"

	"pumice/pipeline/kernels"
	"pumice/shaders"
	"pumice/vk"
)

// What differs from the GLSL in one thing is refused, with the kernel's name and both sides.
func TestNodesFitWhatTheShaderDeclares(t *testing.T) {
	t.Parallel()
	list, err := shaders.Variants()
	if err != nil {
		t.Fatal(err)
	}
	kernel := func(name string) shaders.Variant {
		return list[slices.IndexFunc(list, func(v shaders.Variant) bool { return v.Name == name })]
	}
	as := func(x bind, v kernels.View) bind { x.view = v; return x }
	values := func(names ...string) (list []kernels.Constant) {
		for i, name := range names {
			list = append(list, kernels.Constant{Name: name, Value: uint32(100 + i)})
		}
		return list
	}
	add := func() *node {
		return &node{spec: values("local_size_x"), binds: []bind{stepBind(), read(nil), readWrite(nil)}, push: make([]byte, 4)}
	}
	embed := func() *node { // of a shard that is not the first
		return &node{spec: values("LANES", "local_size_x"), binds: []bind{stepBind(), read(nil), read(nil), readWrite(nil)},
			push: make([]byte, 20)}
	}
	attention := func() *node {
		return &node{
			spec:  values("HEAD_DIM", "HAS_ALIBI", "LANES", "HAS_SOFTCAP", "PAGE", "CAUSAL"),
			binds: append([]bind{stepBind(), read(nil), write(nil), read(nil)}, slices.Repeat([]bind{as(read(nil), kernels.Address)}, 3)...),
			push:  make([]byte, 40),
		}
	}
	for _, c := range []struct {
		kernel string
		of     func() *node
		change func(*node)
		parts  []string // of the error; nil means none
		values []uint32
	}{
		{"add", add, func(*node) {}, nil, []uint32{100}},
		{"embed_q4_0_addr", embed, func(*node) {}, nil, []uint32{101, 100}},
		{"attention_f16_addr", attention, func(*node) {}, nil, []uint32{102, 100, 0, 0, 0, 0, 0, 0, 0, 0, 101, 103, 104, 105}},
		{"add", add, func(n *node) { n.push = make([]byte, 8) }, []string{"8 bytes of push constants", "has 4"}, nil},
		{"add", add, func(n *node) { n.push = nil }, []string{"0 bytes of push constants", "has 4"}, nil},
		{"add", add, func(n *node) { n.binds = n.binds[:2] }, []string{"2 bindings", "has 3"}, nil},
		{"add", add, func(n *node) { n.binds[1] = as(n.binds[1], vk.RGBA32Float) },
			[]string{"binding 1 is texel:r", "has buffer:r"}, nil},
		{"add", add, func(n *node) { n.binds[1] = as(n.binds[1], kernels.Address) },
			[]string{"binding 1 is address", "has buffer:r"}, nil},
		{"add", add, func(n *node) { n.binds[2] = read(nil) }, []string{"binding 2 is buffer:r", "has buffer:rw"}, nil},
		{"add", add, func(n *node) { n.binds[1] = readWrite(nil) }, []string{"binding 1 is buffer:rw", "has buffer:r"}, nil},
		{"add", add, func(n *node) { n.spec = nil }, []string{"0 specialization constants", "has 1", "local_size_x"}, nil},
		{"add", add, func(n *node) { n.spec = values("WORKGROUP") }, []string{"no value", "local_size_x", "WORKGROUP"}, nil},
		{"attention_f16_addr", attention, func(n *node) { n.spec = append(n.spec, values("INTERLEAVED")...) },
			[]string{"7 specialization constants", "INTERLEAVED", "has 6"}, nil},
		{"attention_f16_addr", attention, func(n *node) { n.spec = values("LANES", "LANES", "HAS_ALIBI", "HAS_SOFTCAP", "PAGE", "CAUSAL") },
			[]string{"no value", "HEAD_DIM"}, nil},
		{"attention_f16_addr", attention, func(n *node) { n.binds[4] = read(nil) },
			[]string{"binding 4 is buffer:r", "has address"}, nil},
		{"attention_f16_addr", attention, func(n *node) { n.binds = n.binds[:6] }, []string{"6 bindings", "has 7"}, nil},
	} {
		n := c.of()
		c.change(n)
		err := n.match(kernel(c.kernel))
		if c.parts != nil {
			wantError(t, c.kernel, err, append(c.parts, c.kernel+": ")...)
		} else if err != nil || !slices.Equal(n.values, c.values) {
			t.Errorf("%s: constants %v, %v, want %v", c.kernel, n.values, err, c.values)
		}
	}
}
