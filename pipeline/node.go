package pipeline

import (
	"fmt"
	"pumice/pipeline/kernels"
	"pumice/shaders"
	"pumice/vk"
	"slices"
)

// A Tensor is an activation of a plan under construction: (Rows, Cols) float32, row-major.
// It has memory only while the plan runs; what must be read afterwards is an output or a tap.
type Tensor struct {
	Rows, Cols int

	id          int
	ends        bool // its rows are of last tokens
	masked      bool // Builder.Allow says which of its columns count
	first, last int  // nodes that write it first and use it last
	offset      int64
}

func (t *Tensor) bytes() int64 { return 4 * int64(t.Rows) * int64(t.Cols) }

// A node is one dispatch: a kernel and what it is given.
type node struct {
	kernel string
	size   string // of what it computes (kernels.Shape)
	spec   []kernels.Constant
	values []uint32 // of spec, by the constants' numbers
	binds  []bind
	push   []byte
	grid   [3]int

	weightBytes, minimumBytes int64 // of weights: read by the kernel for a tile of tokens; once, unpadded
	tiles                     int   // of tokens; 0 means 1
	operations, rows          int64 // of a product: of a row of x, and how many rows x has
	pairOperations            int64 // of attention: of a query and a key it sees
	bidirectional             bool  // the query sees the keys after it too
	kv                        kvRead
	trip                      kernels.Trip
	dispatches                int // that the grid is divided into, so that none takes long; 0 means 1

	planes []vk.Span // of the weights of a product
	ahead  []*node   // prefetches that are recorded before it
	split  bool      // the barrier before it is split, and these are between its halves
}

// key names the pipeline of the node: the kernel and what it is made with.
func (n *node) key() string {
	key := fmt.Sprint(n.kernel, n.spec)
	if n.dispatches > 1 {
		key += " with a base"
	}
	return key
}

// A kvRead is what a node reads of the KV cache.
type kvRead struct {
	kvKey
	perPosition int64 // bytes of each position
	positions   int   // of the cache
}

// A kvKey groups what nodes read of the KV cache: by the window, and by whose keys they are.
type kvKey struct {
	window int  // positions a query sees; 0 means all
	single bool // of those with a single token; else of the others
}

// work is what the node does for each token.
func (n *node) work() work {
	return work{perToken: n.weightBytes, perPosition: n.kv.perPosition, window: n.kv.window}
}

// side is the dimension that the grid is divided along: the longest, but not x where there is y,
// since kernels whose rows don't all fit on x count them with gl_NumWorkGroups.x.
func (n *node) side() int {
	long := 0
	for i, size := range n.grid {
		if size > n.grid[long] || i == 1 && size > 1 {
			long = i
		}
	}
	return long
}

// A frameBuffer is one of the Frame's buffers that kernels take.
type frameBuffer int

const (
	noBuffer frameBuffer = iota
	stepBuffer
	drawBuffer
	logBuffer
	adjustBuffer
	maskBuffer
	arrivalBuffer
)

// A bind is an argument of a kernel: a tensor of the plan, a buffer of the Frame, or memory that
// outlives the plan.
type bind struct {
	tensor *Tensor
	span   vk.Span
	buffer frameBuffer
	access vk.Access
	view   kernels.View
}

func read(t *Tensor) bind      { return bind{tensor: t, access: vk.Read, view: kernels.Storage} }
func write(t *Tensor) bind     { return bind{tensor: t, access: vk.Write, view: kernels.Storage} }
func readWrite(t *Tensor) bind { return bind{tensor: t, access: vk.ReadWrite, view: kernels.Storage} }
func stepBind() bind           { return bind{buffer: stepBuffer, access: vk.Read, view: kernels.Storage} }
func readSpan(s vk.Span) bind  { return bind{span: s, access: vk.Read, view: kernels.Storage} }
func writeSpan(s vk.Span) bind { return bind{span: s, access: vk.Write, view: kernels.Storage} }

// behind is 1 for binds whose addresses are behind the bindings.
func (x bind) behind() int {
	if x.view == kernels.Address {
		return 1
	}
	return 0
}

// match compares the node's arguments with the declarations in its kernel's GLSL, and puts the values of its
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
