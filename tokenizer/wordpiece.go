package tokenizer

import "unicode/utf8"

// wordPiece takes the longest token at each position of a word, with a prefix after the
// first (Schuster and Nakajima 2012; as BERT uses it). If there is none at some position,
// the whole word is unknown.
type wordPiece struct {
	t        *Tokenizer
	trie     *byteTrie
	after    int32 // the node after the prefix; -1 if no token has it
	unk      int32
	maxChars int // longer words are unknown
}

// continues is the prefix of tokens that continue a word, unless a file says otherwise.
const continues = "##"

// newWordPiece makes the model of a vocabulary, without its unknown token. path is where the file has the vocabulary.
func newWordPiece(t *Tokenizer, r *reader, path string, vocab map[string]int32, prefix string) *wordPiece {
	m := &wordPiece{t: t, trie: newByteTrie(r.size), unk: -1, maxChars: 100}
	n := 0
	for text, id := range vocab {
		if n++; !r.going(n) || !m.trie.add(text, id) {
			r.fail(path, "the tokens have more than %d different prefixes", m.trie.max)
			break
		}
	}
	for _, b := range []byte(prefix) {
		if m.after = m.trie.next(m.after, b); m.after == 0 {
			m.after = -1
			break
		}
	}
	return m
}

func (m *wordPiece) encode(e *encoder, word []byte) {
	if utf8.RuneCount(word) > m.maxChars {
		e.out = append(e.out, int(m.unk))
		return
	}
	from := len(e.out)
	for start := 0; start < len(word); {
		node := int32(0)
		if start > 0 {
			node = m.after
		}
		id, end, at := int32(-1), start, start
		for ; at < len(word) && node >= 0; at++ {
			if node = m.trie.next(node, word[at]); node == 0 {
				break
			}
			if k := m.trie.ids[node]; k >= 0 && (e.parseSpecial || !m.t.isSpecial(k)) {
				id, end = k, at+1
			}
		}
		if e.spend(at - start); id < 0 || e.err != nil {
			e.out = append(e.out[:from], int(m.unk))
			return
		}
		e.out = append(e.out, int(id))
		start = end
	}
}

// wordLevel looks up whole words.
type wordLevel struct {
	t     *Tokenizer
	vocab map[string]int32
	unk   int32 // if -1, an unknown word is an error
}

func (m *wordLevel) encode(e *encoder, word []byte) {
	id, ok := m.vocab[string(word)]
	if ok && !e.parseSpecial && m.t.isSpecial(id) {
		ok = false
	}
	switch {
	case ok:
	case m.unk < 0:
		e.fail("unknown word and no unknown token")
		return
	default:
		id = m.unk
	}
	e.out = append(e.out, int(id))
}
