package tokenizer

import "math"

// unigram finds the most likely segmentation of a word into pieces (Kudo 2018,
// arXiv:1804.10959), as SentencePiece's optimized encoder does: one pass over the
// characters, keeping the best path to each position.
type unigram struct {
	t          *Tokenizer
	trie       *byteTrie
	scores     []float64 // by piece
	unk        int32     // if -1, an unknown character is an error
	unkScore   float64
	single     bool // float32 sums, as SentencePiece computes; Hugging Face's library uses float64
	fallback   bool
	byteIDs    [256]int32 // -1 if there is no such piece
	userScale  float64    // score of a user-defined piece: bytes * userScale - 0.1
	userPieces map[int32]bool
}

// bestNode is the best path that ends at a byte position.
type bestNode struct {
	score float64
	start int32 // start of its last piece; -1 if no path ends here
	id    int32
}

// unkPenalty is SentencePiece's kUnkPenalty.
const unkPenalty = 10

func (m *unigram) encode(e *encoder, word []byte) {
	if len(word) >= math.MaxInt32 {
		e.fail("the text is longer than 2 GiB")
		return
	}
	if cap(e.best) < len(word)+1 {
		e.best = make([]bestNode, len(word)+1)
	}
	best := e.best[:len(word)+1]
	for i := range best {
		best[i] = bestNode{start: -1}
	}
	best[0].start = 0
	offer := func(from, to int, id int32, score float64) {
		score += best[from].score
		if m.single {
			score = float64(float32(score))
		}
		if b := &best[to]; b.start < 0 || score > b.score {
			*b = bestNode{score, int32(from), id}
		}
	}
	for i := 0; i < len(word); {
		_, n := decodeRune(word[i:])
		known := false
		node := int32(0)
		k := i
		for ; k < len(word); k++ {
			if node = m.trie.next(node, word[k]); node == 0 {
				break
			}
			id := m.trie.ids[node]
			if id < 0 || !e.parseSpecial && id < int32(len(m.t.flags)) && m.t.isSpecial(id) {
				continue
			}
			score := m.scores[id]
			if m.userPieces[id] {
				score = float64(k+1-i)*m.userScale - 0.1
			}
			offer(i, k+1, id, score)
			known = known || k+1 == i+n
		}
		if e.spend(k - i); e.err != nil {
			return
		}
		if !known {
			if m.unk < 0 {
				e.fail("unknown character and no unknown token")
				return
			}
			offer(i, i+n, m.unk, m.unkScore)
		}
		i += n
	}
	// Follow the path backwards, then reverse the new tokens of e.out. Consecutive
	// unknown characters give one unk, or their bytes.
	from := len(e.out)
	for end := len(word); end > 0; {
		b := best[end]
		start := int(b.start)
		if b.id == m.unk {
			for start > 0 && best[start].id == m.unk {
				start = int(best[start].start)
			}
			m.appendUnknownReversed(e, word[start:end])
		} else {
			e.out = append(e.out, int(b.id))
		}
		end = start
	}
	for i, j := from, len(e.out)-1; i < j; i, j = i+1, j-1 {
		e.out[i], e.out[j] = e.out[j], e.out[i]
	}
}

func (m *unigram) appendUnknownReversed(e *encoder, s []byte) {
	if m.fallback {
		all := true
		for _, b := range s {
			all = all && m.byteIDs[b] >= 0
		}
		if all {
			for i := len(s) - 1; i >= 0; i-- {
				e.out = append(e.out, int(m.byteIDs[s[i]]))
			}
			return
		}
	}
	e.out = append(e.out, int(m.unk))
}

// byteTrie maps byte strings to ids. Nodes are numbered from 1 (0 is the root, and "none"
// as a result), and edges are in one open-addressing table.
type byteTrie struct {
	slots []trieSlot
	mask  uint64
	ids   []int32 // by node; -1 if no string ends here
	max   int     // largest number of nodes
}

type trieSlot struct {
	key  uint32 // (node+1)<<8 | byte; 0 is empty
	node int32
}

// newByteTrie returns an empty trie for a file of size bytes. It takes at most a few times as much memory.
func newByteTrie(size int) *byteTrie {
	return &byteTrie{slots: make([]trieSlot, 1024), mask: 1023, ids: []int32{-1}, max: min(1<<20+size/8, 1<<23)}
}

func trieKey(node int32, b byte) uint32 { return uint32(node+1)<<8 | uint32(b) }

func (t *byteTrie) next(node int32, b byte) int32 {
	k := trieKey(node, b)
	for i := pairHash(uint64(k)) & t.mask; ; i = (i + 1) & t.mask {
		switch t.slots[i].key {
		case k:
			return t.slots[i].node
		case 0:
			return 0
		}
	}
}

// add adds a string, and reports whether there was room for it.
func (t *byteTrie) add(s string, id int32) bool {
	node := int32(0)
	for i := 0; i < len(s); i++ {
		c := t.next(node, s[i])
		if c == 0 {
			if len(t.ids) >= t.max {
				return false
			}
			c = int32(len(t.ids))
			t.ids = append(t.ids, -1)
			t.insert(trieSlot{trieKey(node, s[i]), c})
		}
		node = c
	}
	if node != 0 {
		t.ids[node] = id
	}
	return true
}

func (t *byteTrie) insert(s trieSlot) {
	if 2*len(t.ids) > len(t.slots) {
		old := t.slots
		t.slots = make([]trieSlot, 2*len(old))
		t.mask = uint64(len(t.slots) - 1)
		for _, s := range old {
			if s.key != 0 {
				t.place(s)
			}
		}
	}
	t.place(s)
}

func (t *byteTrie) place(s trieSlot) {
	i := pairHash(uint64(s.key)) & t.mask
	for t.slots[i].key != 0 {
		i = (i + 1) & t.mask
	}
	t.slots[i] = s
}
