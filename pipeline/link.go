package pipeline

import (
	"cmp"
	"context"
	"encoding/binary"
	"fmt"
	"runtime"
	"slices"
	"strings"

	"pumice/pipeline/kernels"
	"pumice/shaders/link"
	"pumice/vk"
)

// A chain is neighbouring nodes that are dispatched as one linked kernel (package link).
type chain struct {
	first, end int     // of Builder.nodes
	nodes      []*node // one for each pipeline that they would have, by key: what the linked kernel is made of
}

// shortestChain is the fewest nodes that are worth a linked kernel, which takes as long to compile as all that it is made of.
const shortestChain = 24

// tries is how often a workgroup looks whether the others have arrived before it gives up: 0.1 to 0.2 ms on a processor. The
// dispatches that go on have a quarter of it each: where workgroups have to wait for long, other programs have taken a processor
// away, and a driver's thread that sleeps gets it back sooner than one that looks.
const tries = 4096

// walkers is how many workgroups of a linked kernel walk its list; 0: kernels are not linked. lavapipe, the CPU driver with
// device addresses, has a thread for each processor, and runs a workgroup on each.
func (m *Manager) walkers() int {
	f := m.pd.Features
	switch {
	case m.opts.Profile || m.opts.Walkers < 0 || m.overlap() != (Overlap{}) || !f.BufferDeviceAddress || !f.ShaderInt64:
		return 0
	case m.machine.CPU() && !m.machine.Has([]string{"address"}):
		return 0 // on lavapipe 22.3.6 linked kernels with barriers of workgroups give other results; why was not found
	case m.machine.CPU():
		return cmp.Or(m.opts.Walkers, Walkers, runtime.NumCPU())
	}
	return cmp.Or(m.opts.Walkers, Walkers)
}

// key names the linked pipeline.
func (c *chain) key() string {
	var keys []string
	for _, n := range c.nodes {
		keys = append(keys, n.key())
	}
	return "linked " + strings.Join(keys, ", ")
}

// find is the number of a node's kernel in the linked one, or where it would be.
func (c *chain) find(n *node) (int, bool) {
	return slices.BinarySearchFunc(c.nodes, n.key(), func(have *node, key string) int { return strings.Compare(have.key(), key) })
}

// linkable says whether a node's kernel can be part of a linked one, and the size of its workgroups.
func (m *Manager) linkable(n *node) (workgroup int, ok bool) {
	v, known := m.variants[n.kernel]
	if !known || n.dispatches > 1 || len(n.binds) > link.MaxBindings {
		return 0, false
	}
	for _, x := range n.binds {
		if x.view != kernels.Storage && x.view != kernels.Address || x.span.Buffer != nil && x.span.Address() == 0 {
			return 0, false
		}
	}
	k := link.Kernel{SPIRV: v.SPIRV, Spec: n.values}
	m.mu.Lock()
	defer m.mu.Unlock()
	able, tried := m.links[n.kernel]
	if !tried {
		_, err := link.Link([]link.Kernel{k}, link.Options{})
		able = err == nil
		m.links[n.kernel] = able
	}
	if !able {
		return 0, false
	}
	size, err := k.Workgroup()
	return size[0], err == nil
}

// links reports whether the plan may have chains: not one that leaves weights of attention, which would be worth no compilation.
func (b *Builder) links() bool {
	return b.tokens == 1 && !b.captures && len(b.nodes) >= shortestChain && b.m.walkers() > 0
}

// link finds the chains of a plan for one token, where dispatches are short.
func (b *Builder) link() {
	if !b.links() {
		return
	}
	copied := map[int]bool{} // nodes after which an output is copied
	for _, o := range b.outputs {
		copied[o.after] = true
	}
	for i := 0; i < len(b.nodes); {
		c := chain{first: i}
		var of work
		size, lanes := 0, 0
		for c.end = i; c.end < len(b.nodes); c.end++ {
			n := b.nodes[c.end]
			one, ok := b.m.linkable(n)
			needs, _ := b.m.machine.Subgroup(b.m.variants[n.kernel].Needs)
			if !ok || size != 0 && (one != size || needs != lanes) || c.end > i && copied[c.end-1] {
				break
			}
			if of = of.plus(n.work()); c.end > i && of.bytes(b.tokens, b.most) > float64(b.m.segmentBytes()) {
				break
			}
			size, lanes = one, needs
			if at, has := c.find(n); !has {
				c.nodes = slices.Insert(c.nodes, at, n)
			}
		}
		if c.end-i >= shortestChain {
			b.chains = append(b.chains, &c)
		}
		i = max(i+1, c.end)
	}
}

// constant says which bindings of a node's kernel are weights: buffers that outlive the plan, and that no node of the chain writes.
func (c *chain) constant(b *Builder, n *node) []bool {
	list := make([]bool, len(n.binds))
	for i, x := range n.binds {
		list[i] = x.span.Buffer != nil
		for _, other := range b.nodes[c.first:c.end] {
			for _, y := range other.binds {
				list[i] = list[i] && (y.access == vk.Read || y.span.Buffer != x.span.Buffer)
			}
		}
	}
	return list
}

// linked returns the pipeline of a chain.
func (m *Manager) linked(c *chain, b *Builder) (*vk.Pipeline, error) {
	e := m.entry(c.key(), c.nodes...)
	e.once.Do(func() {
		var list []link.Kernel
		cfg := vk.PipelineConfig{Name: "linked", Bindings: []vk.BindingKind{vk.DeviceAddress, vk.DeviceAddress}, PushBytes: link.PushBytes}
		alone := false
		for _, n := range c.nodes {
			if e.err = m.refused(n); e.err != nil {
				return
			}
			v := m.variants[n.kernel]
			cfg.SubgroupSize, cfg.FullSubgroups = m.machine.Subgroup(v.Needs)
			k := link.Kernel{SPIRV: v.SPIRV, Spec: n.values, Constant: c.constant(b, n)}
			size, err := k.Workgroup()
			if e.err = err; err != nil {
				return
			}
			alone = size[0] == cfg.SubgroupSize
			list = append(list, k)
		}
		if cfg.SPIRV, e.err = link.Link(list, link.Options{OneSubgroup: alone, Coherent: !m.machine.CPU()}); e.err == nil {
			e.p, e.err = m.dev.NewPipeline(cfg)
		}
	})
	return e.p, e.err
}

// work is what the chain does for each token.
func (c *chain) work(b *Builder) work {
	var of work
	for _, n := range b.nodes[c.first:c.end] {
		of = of.plus(n.work())
	}
	return of
}

// record writes the list of a chain and dispatches it, as often as it may have to go on.
func (c *chain) record(ctx context.Context, rec *vk.Recorder, p *Plan, b *Builder) error {
	m := b.m
	k, err := m.linked(c, b)
	if err != nil {
		return err
	}
	var binds [][]vk.Bind
	for _, n := range b.nodes[c.first:c.end] {
		binds = append(binds, b.binds(p, n))
	}
	walkers := m.walkers()
	var list []byte
	var uses []vk.Bind
	waits := 0
	for i, waiting := range vk.Ordered(binds) {
		n := b.nodes[c.first+i]
		e := link.Entry{Groups: n.grid, Push: n.push}
		e.Kernel, _ = c.find(n)
		if waiting {
			waits++
			e.Wait = waits
		}
		for j, x := range n.binds {
			if a := binds[i][j].Span.Address(); x.view != kernels.Address {
				e.Buffers = append(e.Buffers, a)
			} else {
				if len(e.Push)%8 != 0 {
					e.Push = append(slices.Clip(e.Push), 0, 0, 0, 0)
				}
				e.Push = binary.LittleEndian.AppendUint64(slices.Clip(e.Push), a)
			}
		}
		if len(e.Push) > link.MaxPush {
			return fmt.Errorf("pipeline: %s: %d bytes of push constants", n.kernel, len(e.Push))
		}
		list = e.Append(list, walkers)
		uses = append(uses, binds[i]...)
	}
	buf, err := m.dev.NewBuffer(int64(len(list)), vk.Upload)
	if err != nil {
		return err
	}
	p.lists = append(p.lists, buf)
	copy(buf.Mapped(), list)
	push := func(tries, goesOn uint32) []byte {
		b := make([]byte, link.PushBytes)
		setWord(b, 0, uint32(c.end-c.first))
		setWord(b, 4, tries)
		setWord(b, 8, goesOn)
		return b
	}
	state := m.frame.walk.Whole()
	own := []vk.Bind{{Span: buf.Whole()}, {Span: state}}
	if err := k.Finish(ctx, own); err != nil {
		return err
	}
	uses = append(uses, vk.Bind{Span: state, Access: vk.ReadWrite})
	rec.DispatchOver(k, own, uses, push(tries, 0), walkers, 1, 1)
	for i := range waits {
		rec.DispatchIndirect(k, own, uses, push(tries>>min(31, 2*(i+1)), 1), state.Slice(link.StateGroups, 12))
	}
	return rec.Err()
}
