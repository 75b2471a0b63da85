package pipeline

import (
	"slices"
	"strings"

	"pumice/pipeline/kernels"
)

// pick names the kernel of an op for a shape: of the forced path, of the path that was measured to be best on
// this device, or of the first whose rule applies, whichever is the first to exist, to run on the device and to
// take the shape. The base kernel is the last whatever the order.
func pick[S kernels.Shape](m *Manager, op *kernels.Op[S], s S, l kernels.Layout) (variant string, k *kernels.Kernel[S]) {
	for _, k := range order(m, op, s) {
		if k.Fits(m.machine, s, l) && m.Offers(s.Op(), k.Path) {
			return k.Path.Variant(s.Op()), k
		}
	}
	return s.Op(), op.Of(kernels.Base)
}

// order is the kernels of an op in the order in which they are tried.
func order[S kernels.Shape](m *Manager, op *kernels.Op[S], s S) []*kernels.Kernel[S] {
	var list []*kernels.Kernel[S]
	paths := m.forced()
	if paths == nil {
		paths = m.tuned(s.Op(), s.Len())
	}
	if paths == nil {
		for _, k := range op.Kernels {
			applies := func(tokens int) bool { return k.Rule.Applies(m.machine, tokens) }
			if applies(s.Len()) && !m.opts.Tuning.slow(s.Op(), k.Path, applies) {
				list = append(list, k)
			}
		}
		return list
	}
	for _, path := range paths {
		if k := op.Of(path); k != nil {
			list = append(list, k)
		}
	}
	return list
}

// forced is the paths that Options.Path asks for; nil means none.
func (m *Manager) forced() []kernels.Path {
	switch m.opts.Path {
	case "":
		return nil
	case kernels.Addr: // the rest is the row path's on the drivers that it is for
		return []kernels.Path{kernels.Addr, kernels.Row}
	}
	return []kernels.Path{m.opts.Path}
}

// Offers reports whether an op has a kernel of the path that runs on the device and is not
// known to compute wrong results there.
func (m *Manager) Offers(op string, path kernels.Path) bool {
	v, ok := m.variants[path.Variant(op)]
	if !ok || !m.machine.Has(v.Needs) || m.opts.Tuning.refuses(v.Name) {
		return false
	}
	if k := kernels.Matmul.Of(path); k != nil && strings.HasPrefix(op, "matmul_") && k.Rounds != kernels.Float32 {
		return !m.opts.Tuning.refuses(kernels.Acts{To: k.Rounds}.Op()) // that the product goes through first
	}
	return true
}

// tuned is an op's paths, the fastest first, as they were measured on this device with the
// most tokens that are not more than these. It is nil where that was not measured.
func (m *Manager) tuned(op string, tokens int) []kernels.Path {
	if m.opts.Tuning == nil {
		return nil
	}
	p := Product{op, 1}
	for _, n := range m.TunedTokens() {
		if n <= tokens {
			p.Tokens = n
		}
	}
	if candidates := m.Candidates(p.Op); len(candidates) > 0 {
		return m.opts.Tuning.Fastest(p, candidates)
	}
	return nil
}

// tiling is how workgroups share a product by a kernel if that was measured: with the fewest tokens that are not less, or with
// the most there are. The zero value leaves it to the kernel.
func (m *Manager) tiling(p kernels.Product, k *kernels.Kernel[kernels.Product]) kernels.Tiling {
	if m.opts.Tuning == nil {
		return kernels.Tiling{}
	}
	lengths := m.TunedTokens()
	i, _ := slices.BinarySearch(lengths, p.Tokens)
	x := m.opts.Tuning.best(Product{p.Op(), lengths[min(i, len(lengths)-1)]}, k.Path)
	if t, ok := kernels.Resplit(m.machine, k, x.Tiling, x.Rows, x.Tokens, p); ok {
		return t
	}
	return kernels.Tiling{}
}

// TunedTokens are the numbers of tokens that products are measured with, from few to many.
func (m *Manager) TunedTokens() []int {
	if m.machine.CPU() {
		return []int{1, 2, 8, 64}
	}
	return []int{1, 2, 8, 32, 128, 512}
}

// Candidates lists the paths that a product can take on this device, if the matrix suits, base first: not an unproven one
// that was not found right here. It is empty for any other op: no choice but that of products is measured.
func (m *Manager) Candidates(op string) []kernels.Path {
	products := &kernels.Matvec
	kind, ok := strings.CutPrefix(op, "matvec_")
	if !ok {
		products = &kernels.Matmul
		if kind, ok = strings.CutPrefix(op, "matmul_"); !ok {
			return nil
		}
	}
	var list []kernels.Path
	for _, path := range kernels.Paths {
		k := products.Of(path)
		if k == nil || k.StandsFor != "" || k.Unproven && !m.opts.Tuning.HasPassed(path.Variant(op)) {
			continue
		}
		if m.Offers(op, path) && slices.ContainsFunc(k.Reads, func(l kernels.Layout) bool { return m.laysOut(l, kind) }) {
			list = append(list, path)
		}
	}
	return list
}

// laysOut reports whether matrices of a type, in lower case, can have the layout: whether the kernels that
// read it are there.
func (m *Manager) laysOut(l kernels.Layout, kind string) bool {
	return !slices.ContainsFunc(l.Ops(kind), func(op string) bool { return !m.Offers(op, l.Path()) })
}

// layout is how matrices of a type and so many columns are laid out. That is
// decided once, when they are loaded, by what the products of one token prefer.
func (m *Manager) layout(t DType, cols int) kernels.Layout {
	one := kernels.Product{Packed: kernels.Packed{DType: t, Cols: cols}, Tokens: 1}
	for _, k := range order(m, &kernels.Matvec, one) {
		l := k.Reads[0] // that it is for
		if m.Offers(one.Op(), k.Path) && l.Takes(cols) && m.laysOut(l, kernels.Lower(t)) {
			return l
		}
	}
	return kernels.RowMajor
}

// Chosen lists the paths that plans on this device take kernels from beside the base path,
// or that one alone.
func (m *Manager) Chosen() []kernels.Path {
	if m.opts.Path != "" {
		return []kernels.Path{m.opts.Path}
	}
	var list []kernels.Path
	for _, path := range slices.Concat(kernels.Matvec.Chosen(m.machine), kernels.Matmul.Chosen(m.machine), kernels.Decode.Chosen(m.machine),
		kernels.Attend.Chosen(m.machine)) {
		if path != kernels.Base && slices.Contains(m.Paths(), path) && !slices.Contains(list, path) {
			list = append(list, path)
		}
	}
	if list == nil {
		return []kernels.Path{kernels.Base}
	}
	return list
}

// takesHalves reports whether products of several tokens with weights of a type may run in kernels that
// have them in float16.
func (m *Manager) takesHalves(t DType) bool {
	return m.roundsToHalves(func(tokens int) bool {
		s := kernels.Product{Packed: kernels.Packed{DType: t}, Tokens: tokens}
		return slices.ContainsFunc(order(m, &kernels.Matmul, s), func(k *kernels.Kernel[kernels.Product]) bool {
			return k.Rounds == kernels.Halves && m.Offers(s.Op(), k.Path)
		})
	})
}

// AttendsInHalves reports whether attention of several tokens over a cache of a type may run in a kernel
// that has queries, times the scale of scores, in float16.
func (m *Manager) AttendsInHalves(t DType, headDim int) bool {
	return m.roundsToHalves(func(tokens int) bool {
		s := kernels.Attention{Type: t, Tokens: tokens, HeadDim: headDim}
		return slices.ContainsFunc(order(m, &kernels.Attend, s), func(k *kernels.Kernel[kernels.Attention]) bool {
			return k.Rounds == kernels.Halves && m.Offers(s.Op(), k.Path) && k.Fits(m.machine, s, kernels.RowMajor)
		})
	})
}

// roundsToHalves asks for every number of tokens at which a choice may change.
func (m *Manager) roundsToHalves(with func(tokens int) bool) bool {
	for tokens := 2; tokens <= 1<<12; tokens *= 2 {
		if with(tokens) {
			return true
		}
	}
	return false
}

// LayoutPath is the path of barrier-free kernels that products of one token prefer, for which matrices are laid out, or
// the base path.
func (m *Manager) LayoutPath() kernels.Path {
	paths := m.forced()
	if paths == nil {
		paths = kernels.Matvec.Chosen(m.machine)
	}
	for _, path := range paths {
		if k := kernels.Matvec.Of(path); k != nil && k.Reads[0] != kernels.RowMajor && slices.Contains(m.Paths(), path) {
			return path
		}
	}
	return kernels.Base
}
