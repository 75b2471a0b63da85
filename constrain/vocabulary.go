package constrain

import (
	"fmt"
	"slices"
	"strings"
	"sync"
)

// A Vocabulary is the tokens of a model as bytes. It is safe for concurrent use.
type Vocabulary struct {
	size     int
	tokens   []string // by id; "" is never allowed
	ends     []int
	alphabet byteSet // bytes that are tokens by themselves
	trie     *trie
	of       []kindMask // by id: the kinds and the number of a token's characters

	mu    sync.Mutex
	kinds map[kindMask][]uint32
	kept  []keptGrammar // compiled last
}

// maxVocabulary bounds the tokens of a vocabulary, and maxToken the bytes of one.
const (
	maxVocabulary = 1 << 21
	maxToken      = 1 << 12
)

// NewVocabulary makes a vocabulary of the bytes of each token by its id. Tokens without bytes are never allowed: those that
// mark structure, such as the start of a turn. Tokens of ends are allowed where the text may end, and only there.
//
// A byte that is no token by itself is never written, since a text could reach a place where only it may follow. It is an
// error if a printable character of ASCII is none.
func NewVocabulary(tokens []string, ends []int) (*Vocabulary, error) {
	if len(tokens) > maxVocabulary {
		return nil, &LimitError{"tokens", maxVocabulary}
	}
	v := &Vocabulary{size: len(tokens), tokens: slices.Clone(tokens), ends: slices.Clone(ends),
		of: make([]kindMask, len(tokens)), kinds: map[kindMask][]uint32{}}
	for _, id := range ends {
		if id < 0 || id >= len(tokens) {
			return nil, fmt.Errorf("constrain: end token %d of a vocabulary of %d", id, len(tokens))
		}
		v.tokens[id] = ""
	}
	if len(ends) == 0 {
		return nil, fmt.Errorf("constrain: the vocabulary has no end token")
	}
	var order []int32
	for id, s := range v.tokens {
		if len(s) > maxToken {
			return nil, &LimitError{"bytes of a token", maxToken}
		}
		if s != "" {
			order = append(order, int32(id))
			v.of[id] = kindsOf(s)
		}
		if len(s) == 1 {
			v.alphabet.add(s[0], s[0])
		}
	}
	for b := byte(' '); b < 0x7F; b++ {
		if !v.alphabet.has(b) {
			return nil, fmt.Errorf("constrain: no token of the vocabulary is %q alone", b)
		}
	}
	slices.SortFunc(order, func(x, y int32) int { return strings.Compare(v.tokens[x], v.tokens[y]) })
	v.trie = v.newTrie(order)
	return v, nil
}

// Size is the number of tokens.
func (v *Vocabulary) Size() int { return v.size }

// Token is the bytes of a token, or "" if it is never allowed or ends texts.
func (v *Vocabulary) Token(id int) string { return v.tokens[id] }

// Ends are the tokens that end a text. The caller must not change the list.
func (v *Vocabulary) Ends() []int { return v.ends }

// A trie is texts in depth-first order. Node 0 is the empty text.
type trie struct {
	byte   []byte
	depth  []int32
	end    []int32 // after the last node below
	first  []int32 // the tokens of node i are tokens[first[i]:first[i+1]]
	tokens []int32
	kinds  []kinds // of all characters of tokens at the node and below
	chars  []uint8 // the most characters of such a token
	height int
}

func (t *trie) len() int { return len(t.byte) }

// spell returns the fewest tokens that spell a text, the longer ones first, up to where a token could reach beyond its end. Tokens
// that mark structure are long, so that they are found before parts of them are.
func (v *Vocabulary) spell(text []byte) []int {
	text = text[:v.settled(text)]
	const never = 1 << 30
	type step struct{ tokens, id, size int } // to the end of the text, by which token first
	best := make([]step, len(text)+1)
	for at := len(text) - 1; at >= 0; at-- {
		best[at].tokens = never
		node := int32(0)
		for n, b := range text[at:] {
			if node = v.trie.child(node, b); node < 0 {
				break
			}
			first := v.trie.first[node]
			if rest := best[at+n+1].tokens; first < v.trie.first[node+1] && rest < best[at].tokens { // or as few with a longer token
				best[at] = step{rest + 1, int(v.trie.tokens[first]), n + 1}
			}
		}
	}
	if best[0].tokens >= never {
		return nil
	}
	ids := make([]int, 0, best[0].tokens)
	for at := 0; at < len(text); at += best[at].size {
		ids = append(ids, best[at].id)
	}
	return ids
}

// settled is how much of a text has tokens that don't depend on what follows it: the rest is the beginning of a longer token.
func (v *Vocabulary) settled(text []byte) int {
	for at := max(0, len(text)-v.trie.height); at < len(text); at++ {
		node := int32(0)
		for _, b := range text[at:] {
			if node = v.trie.child(node, b); node < 0 {
				break
			}
		}
		if node >= 0 && node+1 < v.trie.end[node] {
			return at
		}
	}
	return len(text)
}

// child is the node below another that adds a byte, or -1.
func (t *trie) child(node int32, b byte) int32 {
	for j := node + 1; j < t.end[node]; j = t.end[j] {
		if t.byte[j] == b {
			return j
		}
	}
	return -1
}

// open starts a node.
func (t *trie) open(b byte, depth int) int {
	t.byte = append(t.byte, b)
	t.depth = append(t.depth, int32(depth))
	t.end = append(t.end, 0)
	t.first = append(t.first, int32(len(t.tokens)))
	t.height = max(t.height, depth)
	return len(t.byte) - 1
}

// newTrie is the trie of the tokens in order, which is sorted by their bytes.
func (v *Vocabulary) newTrie(order []int32) *trie {
	t := &trie{}
	path := []int{t.open(0, 0)}
	leave := func(depth int) {
		for len(path) > depth+1 {
			t.end[path[len(path)-1]] = int32(t.len())
			path = path[:len(path)-1]
		}
	}
	last := ""
	for _, id := range order {
		s, n := v.tokens[id], 0
		for n < len(s) && n < len(last) && s[n] == last[n] {
			n++
		}
		leave(n)
		for ; n < len(s); n++ {
			path = append(path, t.open(s[n], n+1))
		}
		t.tokens = append(t.tokens, id)
		last = s
	}
	leave(-1)
	t.first = append(t.first, int32(len(t.tokens)))
	t.kinds, t.chars = make([]kinds, t.len()), make([]uint8, t.len())
	for i := t.len() - 1; i >= 0; i-- {
		if t.first[i] < t.first[i+1] {
			of := v.of[t.tokens[t.first[i]]]
			t.kinds[i], t.chars[i] = of.kinds, of.chars
		}
		for j := int32(i + 1); j < t.end[i]; j = t.end[j] {
			t.kinds[i] |= t.kinds[j]
			t.chars[i] = max(t.chars[i], t.chars[j])
		}
	}
	return t
}

// suffixes is a trie of what follows each of some nodes in their tokens.
func (t *trie) suffixes(nodes []int32) *trie {
	s := &trie{}
	root := s.open(0, 0)
	t.merge(s, nodes, 1)
	s.end[root] = int32(s.len())
	s.first = append(s.first, int32(len(s.tokens)))
	return s
}

// merge adds the children of nodes to s.
func (t *trie) merge(s *trie, nodes []int32, depth int) {
	var children []int32
	for _, i := range nodes {
		for j := i + 1; j < t.end[i]; j = t.end[j] {
			children = append(children, j)
		}
	}
	slices.SortStableFunc(children, func(x, y int32) int { return int(t.byte[x]) - int(t.byte[y]) })
	for len(children) > 0 {
		n := 1
		for n < len(children) && t.byte[children[n]] == t.byte[children[0]] {
			n++
		}
		node := s.open(t.byte[children[0]], depth)
		for _, j := range children[:n] {
			s.tokens = append(s.tokens, t.tokens[t.first[j]:t.first[j+1]]...)
		}
		t.merge(s, children[:n], depth+1)
		s.end[node] = int32(s.len())
		children = children[n:]
	}
}
