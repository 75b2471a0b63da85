package tokenizer

import (
	"unicode"
	"unicode/utf8"
)

// AddedToken is a token that is matched in the text before the model encodes the rest.
type AddedToken struct {
	ID         int
	Content    string
	Special    bool // Decode can skip it; only EncodeOptions.ParseSpecial and EncodeSpans match it
	Normalized bool // matched in normalized text
	SingleWord bool // not matched inside a word
	LStrip     bool // includes the spaces before it
	RStrip     bool // includes the spaces after it
}

// matcher finds the leftmost, longest of a set of strings.
type matcher struct {
	first [256]bool
	nodes []matchNode
}

// matchNode is a trie node; children are a linked list. Node 0 is the root.
type matchNode struct {
	child, sibling int32
	id             int32 // -1 if no string ends here
	b              byte
}

func newMatcher() *matcher { return &matcher{nodes: []matchNode{{id: -1}}} }

// add adds s to the set; a later id for the same string wins. An empty s is ignored.
func (m *matcher) add(s string, id int32) {
	if s == "" {
		return
	}
	m.first[s[0]] = true
	at := int32(0)
	for i := 0; i < len(s); i++ {
		c, _ := m.child(at, s[i])
		if c == 0 {
			c = int32(len(m.nodes))
			m.nodes = append(m.nodes, matchNode{sibling: m.nodes[at].child, id: -1, b: s[i]})
			m.nodes[at].child = c
		}
		at = c
	}
	m.nodes[at].id = id
}

// child returns the child of a node for a byte, or 0 if there is none, and how many children it looked at.
func (m *matcher) child(at int32, b byte) (c int32, looks int) {
	for c = m.nodes[at].child; c != 0; c = m.nodes[c].sibling {
		looks++
		if m.nodes[c].b == b {
			break
		}
	}
	return c, looks
}

func (m *matcher) empty() bool { return m == nil || len(m.nodes) == 1 }

// prefix returns the length and id of the longest string of the set that s starts with, or 0. A string of marks matches
// only if none of its bytes is foreign; with a nil foreign none is. prefix spends e's steps.
func (m *matcher) prefix(e *encoder, s []byte, foreign []bool, marks map[int32]bool) (n int, id int32) {
	at, looks, total, own := int32(0), 0, 0, true
	for i, b := range s {
		if at, looks = m.child(at, b); at == 0 {
			break
		}
		if i > 0 { // the root may have a child for each byte
			total += looks
		}
		own = own && (foreign == nil || !foreign[i])
		if m.nodes[at].id >= 0 && (own || !marks[m.nodes[at].id]) {
			n, id = i+1, m.nodes[at].id
		}
	}
	e.spend(total / 8)
	return n, id
}

// find returns the first match in s at or after from; start and end are len(s) if there is none or e has no steps left.
// foreign and marks have the same meaning as for prefix.
func (m *matcher) find(e *encoder, s []byte, from int, foreign []bool, marks map[int32]bool) (start, end int, id int32) {
	for i := from; i < len(s); i++ {
		if !m.first[s[i]] {
			continue
		}
		if n, id := m.prefix(e, s[i:], tail(foreign, i), marks); n > 0 {
			return i, i + n, id
		}
		if e.err != nil {
			break
		}
	}
	return len(s), len(s), -1
}

// tail returns foreign[i:], or nil if foreign is nil.
func tail(foreign []bool, i int) []bool {
	if foreign == nil {
		return nil
	}
	return foreign[i:]
}

// addedSet holds the matchers over the added tokens: over raw or normalized text,
// with or without the special ones.
type addedSet struct {
	byID       map[int32]*AddedToken
	raw, plain *matcher // all, without special; not normalized
	norm       *matcher
	normPlain  *matcher
	written    map[int32]string // normalized text of the tokens with Normalized, to which they decode
}

// splitAdded splits text at its added tokens; those of e.marks do not match in foreign bytes. It calls emit for the
// text between tokens and appends the tokens' ids to e.out.
func (t *Tokenizer) splitAdded(e *encoder, m *matcher, text []byte, foreign []bool, first bool,
	emit func(s []byte, foreign []bool, first bool)) {
	if m.empty() {
		if len(text) > 0 {
			emit(text, foreign, first)
		}
		return
	}
	var marks map[int32]bool
	if e.marks != nil {
		marks = e.marks.ids
	}
	between := func(from, to int) {
		var f []bool
		if foreign != nil {
			f = foreign[from:to]
		}
		emit(text[from:to], f, first && from == 0)
	}
	from, at := 0, 0 // end of the encoded text, start of the next search
	for at < len(text) {
		start, end, id := m.find(e, text, at, foreign, marks)
		if start == end {
			break
		}
		at = end
		tok := t.added.byID[id]
		if tok.SingleWord && (wordBefore(text, start) || wordAfter(text, end)) {
			continue
		}
		if tok.LStrip {
			for start > from {
				r, n := utf8.DecodeLastRune(text[:start])
				if !unicode.IsSpace(r) {
					break
				}
				start -= n
			}
			start = max(start, from)
		}
		if tok.RStrip {
			end = runWhile(bmpClass(), text, end, classSpace)
		}
		start, end = max(start, from), max(end, from)
		if start > from {
			between(from, start)
		}
		e.out = append(e.out, int(id))
		from = end
	}
	if from < len(text) {
		between(from, len(text))
	}
}

func wordBefore(s []byte, i int) bool {
	r, n := utf8.DecodeLastRune(s[:i])
	return n > 0 && classOf(bmpClass(), r)&classWord != 0
}

func wordAfter(s []byte, i int) bool {
	r, n := utf8.DecodeRune(s[i:])
	return n > 0 && classOf(bmpClass(), r)&classWord != 0
}
