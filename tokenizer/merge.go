package tokenizer

import (
	"math"
	"math/bits"
	"math/rand/v2"
)

// noRank is the rank of a pair of symbols that no merge joins.
const noRank = math.MaxInt32

// merge is the result of joining a pair of symbols. Pairs of lower rank are joined first.
type merge struct{ rank, id int32 }

// pairTable maps (left symbol, right symbol) to their merge: open addressing with
// linear probing, at most half full.
type pairTable struct {
	slots []pairSlot
	mask  uint64
	n     int
}

type pairSlot struct {
	key uint64 // left<<32 | right, plus one; 0 is empty
	merge
}

func newPairTable(n int) *pairTable {
	size := 16
	for size < 2*n {
		size *= 2
	}
	return &pairTable{slots: make([]pairSlot, size), mask: uint64(size - 1)}
}

// hashSeed is random, so that a file can't choose pairs with colliding hashes, which would make every look-up a search.
var hashSeed = rand.Uint64()

func pairHash(k uint64) uint64 {
	hi, lo := bits.Mul64(k^hashSeed, 0x9E3779B97F4A7C15) // the golden ratio (Knuth, TAOCP vol. 3, 6.4)
	return hi ^ lo
}

// put sets the merge of a pair; a later put of the same pair wins, as in tokenizer.json.
func (t *pairTable) put(left, right int32, m merge) {
	k := uint64(uint32(left))<<32 | uint64(uint32(right))
	k++
	i := pairHash(k) & t.mask
	for t.slots[i].key != 0 && t.slots[i].key != k {
		i = (i + 1) & t.mask
	}
	if t.slots[i].key == 0 {
		t.n++
	}
	t.slots[i] = pairSlot{k, m}
	if 2*t.n > len(t.slots) {
		old := t.slots
		t.slots = make([]pairSlot, 2*len(old))
		t.mask = uint64(len(t.slots) - 1)
		for _, s := range old {
			if s.key == 0 {
				continue
			}
			i := pairHash(s.key) & t.mask
			for t.slots[i].key != 0 {
				i = (i + 1) & t.mask
			}
			t.slots[i] = s
		}
	}
}

func (t *pairTable) get(left, right int32) merge {
	k := uint64(uint32(left))<<32 | uint64(uint32(right))
	k++
	i := pairHash(k) & t.mask
	for {
		s := &t.slots[i]
		if s.key == k {
			return s.merge
		}
		if s.key == 0 {
			return merge{noRank, -1}
		}
		i = (i + 1) & t.mask
	}
}

// shortWord is the number of symbols up to which a word is merged by scanning
// for the lowest rank, which is quadratic but has no bookkeeping.
const shortWord = 64

// merger holds the working memory of merging one word at a time.
type merger struct {
	ids   []int32
	ranks []int32
	next  []int32 // ids of the merged symbols, parallel to ranks

	nodes   []mergeNode
	buckets []mergeBucket
	index   map[int32]int32 // rank to bucket
	heap    []int32         // ranks whose bucket is not empty, a binary heap
}

// mergeAll joins adjacent symbols of ids, lowest rank first and leftmost among equals,
// until no pair has a merge. The result shares ids' memory.
func (g *merger) mergeAll(t *pairTable, ids []int32) []int32 {
	if len(ids) < 2 {
		return ids
	}
	if len(ids) > shortWord {
		return g.mergeLong(t, ids)
	}
	n := len(ids)
	ranks, next := g.ranks[:0], g.next[:0]
	for i := 0; i+1 < n; i++ {
		m := t.get(ids[i], ids[i+1])
		ranks, next = append(ranks, m.rank), append(next, m.id)
	}
	g.ranks, g.next = ranks, next
	for {
		best, at := int32(noRank), -1
		for i, r := range ranks {
			if r < best {
				best, at = r, i
			}
		}
		if at < 0 {
			return ids
		}
		ids[at] = next[at]
		ids = append(ids[:at+1], ids[at+2:]...)
		ranks = append(ranks[:at], ranks[at+1:]...)
		next = append(next[:at], next[at+1:]...)
		if at > 0 {
			m := t.get(ids[at-1], ids[at])
			ranks[at-1], next[at-1] = m.rank, m.id
		}
		if at < len(ranks) {
			m := t.get(ids[at], ids[at+1])
			ranks[at], next[at] = m.rank, m.id
		}
	}
}

// mergeNode is a symbol of a long word; prev and next are indices, -1 at the ends.
type mergeNode struct{ id, rank, prev, next int32 }

// mergeBucket holds the positions whose pair had a certain rank when they were added.
// Nearly always they are added in order, and the few others go to a heap, so that a word of
// one repeated letter takes linear time.
type mergeBucket struct {
	sorted []int32
	head   int
	extra  []int32
	listed bool // its rank is in merger.heap
	rank   int32
}

func (b *mergeBucket) empty() bool { return b.head == len(b.sorted) && len(b.extra) == 0 }

func (b *mergeBucket) push(pos int32) {
	if b.head == len(b.sorted) {
		b.sorted, b.head = b.sorted[:0], 0
	}
	if n := len(b.sorted); n == 0 || b.sorted[n-1] <= pos {
		b.sorted = append(b.sorted, pos)
		return
	}
	b.extra = heapPush(b.extra, pos)
}

func (b *mergeBucket) pop() (pos int32) {
	if len(b.extra) > 0 && (b.head == len(b.sorted) || b.extra[0] < b.sorted[b.head]) {
		pos, b.extra = heapPop(b.extra)
		return pos
	}
	pos = b.sorted[b.head]
	b.head++
	return pos
}

func (g *merger) mergeLong(t *pairTable, ids []int32) []int32 {
	n := len(ids)
	if cap(g.nodes) < n {
		g.nodes = make([]mergeNode, n)
	}
	nodes := g.nodes[:n]
	if g.index == nil {
		g.index = map[int32]int32{}
	}
	for i, id := range ids {
		nodes[i] = mergeNode{id: id, rank: noRank, prev: int32(i) - 1, next: int32(i) + 1}
	}
	nodes[n-1].next = -1
	for i := 0; i+1 < n; i++ {
		if m := t.get(ids[i], ids[i+1]); m.rank != noRank {
			nodes[i].rank = m.rank
			g.enqueue(m.rank, int32(i))
		}
	}
	for len(g.heap) > 0 {
		rank := g.heap[0]
		at := g.index[rank]
		if g.buckets[at].empty() {
			_, g.heap = heapPop(g.heap)
			g.buckets[at].listed = false
			continue
		}
		for len(g.heap) > 0 && g.heap[0] == rank && !g.buckets[at].empty() {
			pos := g.buckets[at].pop()
			a := &nodes[pos]
			if a.rank != rank {
				continue // already joined, or its pair has changed
			}
			b := &nodes[a.next]
			a.id = t.get(a.id, b.id).id
			b.rank = noRank
			a.next = b.next
			if a.next >= 0 {
				nodes[a.next].prev = pos
			}
			g.repair(t, nodes, pos)
			if a.prev >= 0 {
				g.repair(t, nodes, a.prev)
			}
		}
	}
	ids = ids[:0]
	for i := int32(0); i >= 0; i = nodes[i].next {
		ids = append(ids, nodes[i].id)
	}
	g.reset()
	return ids
}

// repair looks up again the rank of the pair that starts at pos.
func (g *merger) repair(t *pairTable, nodes []mergeNode, pos int32) {
	a := &nodes[pos]
	a.rank = noRank
	if a.next < 0 {
		return
	}
	if m := t.get(a.id, nodes[a.next].id); m.rank != noRank {
		a.rank = m.rank
		g.enqueue(m.rank, pos)
	}
}

func (g *merger) enqueue(rank, pos int32) {
	var b *mergeBucket
	if n := len(g.buckets); n > 0 && g.buckets[n-1].rank == rank {
		b = &g.buckets[n-1]
	} else if i, ok := g.index[rank]; ok {
		b = &g.buckets[i]
	} else {
		i := len(g.buckets)
		if i < cap(g.buckets) {
			g.buckets = g.buckets[:i+1]
		} else {
			g.buckets = append(g.buckets, mergeBucket{})
		}
		b = &g.buckets[i]
		*b = mergeBucket{sorted: b.sorted[:0], extra: b.extra[:0], rank: rank}
		g.index[rank] = int32(i)
	}
	b.push(pos)
	if !b.listed {
		b.listed = true
		g.heap = heapPush(g.heap, rank)
	}
}

// keptBytes bounds the working memory kept after a huge word.
const keptBytes = 1 << 20

func (g *merger) reset() {
	clear(g.index)
	if cap(g.nodes) > keptBytes/16 {
		*g = merger{ids: g.ids, ranks: g.ranks, next: g.next}
		return
	}
	g.buckets, g.heap = g.buckets[:0], g.heap[:0]
}

// heapPush and heapPop keep h a binary min-heap.
func heapPush(h []int32, v int32) []int32 {
	h = append(h, v)
	i := len(h) - 1
	for i > 0 {
		p := (i - 1) / 2
		if h[p] <= v {
			break
		}
		h[i] = h[p]
		i = p
	}
	h[i] = v
	return h
}

func heapPop(h []int32) (int32, []int32) {
	top, n := h[0], len(h)-1
	v := h[n]
	h = h[:n]
	if n == 0 {
		return top, h
	}
	i := 0
	for {
		c := 2*i + 1
		if c >= n {
			break
		}
		if c+1 < n && h[c+1] < h[c] {
			c++
		}
		if h[c] >= v {
			break
		}
		h[i] = h[c]
		i = c
	}
	h[i] = v
	return top, h
}
