package pipeline

import (
	"pumice/pipeline/kernels"
	"pumice/vk"
)

// A Dispatch is a dispatch of a plan, and what it is given in a step.
type Dispatch struct {
	Kernel     string             // its variant
	Size       string             // as Timing has it
	Constants  []kernels.Constant // specialization constants
	Workgroups int
	Lanes      int  // of the subgroup that is asked for; 0: the device's own
	Waits      bool // for an earlier dispatch: a barrier is before it

	WeightBytes int64 // read for each tile of tokens
	Tiles       int   // of tokens
	KVBytes     int64 // live ones, once
	TensorBytes int64 // of the plan's tensors, each once
	Operations  int64 // multiplications and additions of products and attention
}

// Dispatches lists the dispatches of the plan for a step that it takes, in order, before those of long operations are divided.
// Nothing is compiled. Barriers are those that tensors ask for: memory that outlives the plan is not looked at.
func (b *Builder) Dispatches(s Step) ([]Dispatch, error) {
	if b.err != nil {
		return nil, b.err
	}
	b.layout()
	var list []Dispatch
	var since []*node // since the last barrier
	for _, n := range b.nodes {
		x := n.moves(s, 0, b.tokens, b.singles)
		d := Dispatch{
			Kernel: n.kernel, Size: n.size, Constants: n.spec, Workgroups: n.grid[0] * n.grid[1] * n.grid[2],
			WeightBytes: x.weights, Tiles: max(1, n.tiles), KVBytes: x.kv, TensorBytes: x.tensors, Operations: x.operations,
		}
		d.Lanes, _ = b.m.machine.Subgroup(b.m.variants[n.kernel].Needs)
		for _, earlier := range since {
			d.Waits = d.Waits || n.conflicts(earlier)
		}
		if d.Waits {
			since = nil
		}
		since = append(since, n)
		list = append(list, d)
	}
	return list, nil
}

// conflicts reports whether n and an earlier node use common bytes of the arena, and one of them writes.
func (n *node) conflicts(earlier *node) bool {
	for _, x := range n.binds {
		for _, y := range earlier.binds {
			if x.tensor != nil && y.tensor != nil && (x.access != vk.Read || y.access != vk.Read) &&
				x.tensor.offset < y.tensor.offset+y.tensor.bytes() && y.tensor.offset < x.tensor.offset+x.tensor.bytes() {
				return true
			}
		}
	}
	return false
}
