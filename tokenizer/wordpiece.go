package tokenizer

import "unicode/utf8"

// wordPiece takes the longest token at each place of a word, later ones with a
// prefix (Schuster and Nakajima 2012; as BERT uses it). One part that is no token
// makes the whole word unknown.
type wordPiece struct {
	t        *Tokenizer
	vocab    map[string]int32
	prefix   string
	unk      int32
	maxChars int // longer words are unknown
	longest  int // bytes of the longest token
}

func (m *wordPiece) encode(e *encoder, word []byte) {
	if utf8.RuneCount(word) > m.maxChars {
		e.out = append(e.out, int(m.unk))
		return
	}
	from := len(e.out)
	buf := make([]byte, 0, m.longest+len(word))
	for start := 0; start < len(word); {
		buf = buf[:0]
		if start > 0 {
			buf = append(buf, m.prefix...)
		}
		skip := len(buf)
		buf = append(buf, word[start:]...)
		for len(buf) > m.longest && len(buf) > skip {
			_, n := utf8.DecodeLastRune(buf)
			buf = buf[:len(buf)-n]
		}
		id := int32(-1)
		for len(buf) > skip {
			if k, ok := m.vocab[string(buf)]; ok && (e.parseSpecial || !m.t.isSpecial(k)) {
				id = k
				break
			}
			_, n := utf8.DecodeLastRune(buf)
			buf = buf[:len(buf)-n]
		}
		if id < 0 {
			e.out = append(e.out[:from], int(m.unk))
			return
		}
		e.out = append(e.out, int(id))
		start += len(buf) - skip
	}
}

// wordLevel looks whole words up.
type wordLevel struct {
	t     *Tokenizer
	vocab map[string]int32
	unk   int32 // -1: an unknown word is an error
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
