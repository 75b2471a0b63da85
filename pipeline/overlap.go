package pipeline

import "pumice/vk"

// Overlap is what plans for one token read of weights before the products that take them, so that a cache of the device has them by
// then, and its memory is busy where it would wait (docs/design/0025). The zero value reads nothing ahead.
type Overlap struct {
	Prefetch int64 // bytes beside attention, of the products that follow
	Split    int64 // bytes before each product, of this one and those that follow, between the halves of its barrier, which is split
}

// overlap is Options.Overlap, or that of the lab.
func (m *Manager) overlap() Overlap {
	if o := m.opts.Overlap; o != (Overlap{}) {
		return o
	}
	return Overlap{PrefetchBytes, SplitBytes}
}

// sinks is how many words prefetches count in by turns, weightAlign bytes apart: more than there are prefetches which don't wait for
// one another.
const sinks = 64

// overlap finds what is read ahead in a plan for one token, and before which nodes.
func (b *Builder) overlap() error {
	o, made := b.m.overlap(), 0
	if b.tokens != 1 || o == (Overlap{}) {
		return nil
	}
	for i := 1; i < len(b.nodes); i++ {
		n, budget := b.nodes[i], int64(0)
		if b.nodes[i-1].kv.perPosition > 0 { // attention
			budget = o.Prefetch
		}
		if o.Split > 0 && n.planes != nil {
			n.split, budget = true, max(budget, o.Split)
		}
		for _, s := range b.m.following(b.nodes[i:], budget) {
			p, err := b.m.prefetch(s, b.m.frame.sink.Whole().Slice(int64(made%sinks)*weightAlign, 4))
			if err != nil {
				return err
			}
			n.ahead = append(n.ahead, p)
			made++
		}
	}
	return nil
}

// following lists the memory of the weights of products among nodes, so many bytes at most: of the last product the same share of
// each of its planes, since its kernel begins with the first rows. Neighbours in memory are one span.
func (m *Manager) following(nodes []*node, budget int64) []vk.Span {
	var list []vk.Span
	for _, n := range nodes {
		if budget <= 0 {
			break
		}
		var size int64
		for _, s := range n.planes {
			size += s.Size
		}
		share := min(1, float64(budget)/float64(size))
		for _, s := range n.planes {
			s.Size = int64(share*float64(s.Size)) &^ 15
			if s.Size == 0 {
				continue
			}
			if last := len(list) - 1; last >= 0 && list[last].Buffer == s.Buffer {
				gap, both := s.Offset-list[last].Offset-list[last].Size, s.Offset+s.Size-list[last].Offset
				if 0 <= gap && gap < weightAlign && both <= m.bindingBytes(1) {
					list[last].Size = both
					continue
				}
			}
			list = append(list, s)
		}
		budget -= size
	}
	return list
}
