package tokenizer

import (
	"fmt"
	"unicode/utf8"
)

// model turns one pre-tokenized word into token ids. Implementations are read-only
// after loading; the encoder holds all state that changes.
type model interface {
	// encode appends the tokens of word to e.out. With e.parseSpecial false, text
	// that spells a special token does not become that token.
	encode(e *encoder, word []byte)
}

// bpe is byte-pair encoding, for both ways to define merges: the ranked pairs of
// tokenizer.json, and SentencePiece's rule that any two symbols that make a piece
// are joined, best score first (its pairs are listed when loading, with equal ranks for equal scores).
//
// Symbols are characters, or bytes if byteMode is set (byte-level BPE whose
// ByteLevel pre-tokenizer comes last: mapping bytes to characters is then skipped).
type bpe struct {
	t     *Tokenizer
	pairs *pairTable

	runeIDs [1 << 16]int32 // symbol of each BMP character; -1 if it has none
	astral  map[rune]int32 // symbols beyond the BMP
	hidden  int32          // first symbol of the characters that only occur inside pieces: unknown on output
	hiddenR []rune         // characters of these symbols, by symbol - hidden

	byteMode bool
	byteIDs  [256]int32 // in byteMode the symbol of a byte, otherwise its <0xNN> token; -1 if there is none
	allBytes bool       // every <0xNN> exists, so no text is unknown
	fallback bool       // byte_fallback

	whole  map[string]int32 // with ignore_merges: words that are tokens, as raw bytes in byteMode
	unk    int32            // -1 drops unknown characters, as Hugging Face's library does
	fuse   bool             // consecutive unknown characters give one unk
	prefix string           // continuing_subword_prefix
	suffix string           // end_of_word_suffix
	vocab  map[string]int32 // only with prefix or suffix

	user   *matcher // SentencePiece user-defined pieces: never merged
	unused []bool   // SentencePiece unused pieces: split into other pieces on output
	split  map[int32][2]int32

	// joins says which characters, or in byteMode bytes around their boundaries, are neighbours in some token. If it is
	// nil, words are not cut.
	joins *pairFilter
}

// pairFilter is a Bloom filter with one hash over the characters or bytes on both sides of a position
// inside a token: false positives only cost speed.
type pairFilter [1 << 21 / 64]uint64

func (f *pairFilter) set(key uint64) {
	h := key * 0x9E3779B97F4A7C15 >> 43
	f[h>>6] |= 1 << (h & 63)
}

func (f *pairFilter) get(key uint64) bool {
	h := key * 0x9E3779B97F4A7C15 >> 43
	return f[h>>6]&(1<<(h&63)) != 0
}

func runeKey(a, b rune) uint64 { return uint64(a)<<21 | uint64(b) }

func (f *pairFilter) add(token string) {
	prev := rune(-1)
	for _, r := range token {
		if prev >= 0 {
			f.set(runeKey(prev, r))
		}
		prev = r
	}
}

func (f *pairFilter) has(a, b rune) bool { return f.get(runeKey(a, b)) }

// sideBytes is how many bytes on either side of a character boundary addBytes records.
const sideBytes = 3

// packSide packs up to sideBytes bytes and their number.
func packSide(s []byte) uint64 {
	k := uint64(len(s))
	for _, b := range s {
		k = k<<8 | uint64(b)
	}
	return k
}

// boundary reports whether a character starts at s[i] after another, neither of them ASCII.
func boundary(s []byte, i int) bool { return s[i] >= 0xC0 && s[i-1] >= utf8.RuneSelf }

// addBytes records the bytes around each character boundary inside a token. Where a
// token has fewer than sideBytes on a side, any bytes may follow beyond it.
func (f *pairFilter) addBytes(token []byte) {
	for i := 1; i < len(token); i++ {
		if boundary(token, i) {
			f.set(packSide(token[max(0, i-sideBytes):i])<<32 | packSide(token[i:min(len(token), i+sideBytes)]))
		}
	}
}

// hasBytes reports whether some token may reach across the boundary at word[i].
func (f *pairFilter) hasBytes(word []byte, i int) bool {
	for l := min(i, sideBytes); l > 0; l-- {
		left := packSide(word[i-l:i]) << 32
		for r := min(len(word)-i, sideBytes); r > 0; r-- {
			if f.get(left | packSide(word[i:i+r])) {
				return true
			}
		}
	}
	return false
}

func newBPE(t *Tokenizer) *bpe {
	m := &bpe{t: t, unk: -1, hidden: noRank, astral: map[rune]int32{}}
	for i := range m.runeIDs {
		m.runeIDs[i] = -1
	}
	for i := range m.byteIDs {
		m.byteIDs[i] = -1
	}
	return m
}

func (m *bpe) setRune(r rune, id int32) {
	if uint32(r) < 1<<16 {
		m.runeIDs[r] = id
	} else {
		m.astral[r] = id
	}
}

func (m *bpe) rune(r rune) int32 {
	if uint32(r) < 1<<16 {
		return m.runeIDs[r]
	}
	if id, ok := m.astral[r]; ok {
		return id
	}
	return -1
}

// findBytes looks up the <0xNN> tokens.
func (m *bpe) findBytes(lookup func(string) (int32, bool)) {
	m.allBytes = true
	for b := range m.byteIDs {
		if id, ok := lookup(byteToken(byte(b))); ok {
			m.byteIDs[b] = id
		} else {
			m.allBytes = false
		}
	}
}

func byteToken(b byte) string { return fmt.Sprintf("<0x%02X>", b) }

func (m *bpe) encode(e *encoder, word []byte) {
	if m.whole != nil {
		if id, ok := m.whole[string(word)]; ok && (e.parseSpecial || !m.t.isSpecial(id)) {
			e.out = append(e.out, int(id))
			return
		}
	}
	switch {
	case m.byteMode && m.joins != nil && len(word) > cacheKeyMax/2:
		start := 0
		for i := 1; i < len(word); i++ {
			if boundary(word, i) && !m.joins.hasBytes(word, i) {
				m.encodeCached(e, word[start:i])
				start = i
			}
		}
		m.encodeCached(e, word[start:])
	case m.byteMode:
		m.encodeCached(e, word)
	case m.user != nil:
		for len(word) > 0 {
			start, end, id := m.user.find(e, word, 0, nil, nil)
			if start > 0 {
				m.encodeCut(e, word[:start])
			}
			if end > start {
				e.out = append(e.out, int(id))
			}
			word = word[end:]
		}
	default:
		m.encodeCut(e, word)
	}
}

// encodeCut splits word between characters that are not adjacent in any token. No
// merge can cross such a boundary, so each chunk can be merged, and cached, by itself.
func (m *bpe) encodeCut(e *encoder, word []byte) {
	if m.joins == nil {
		m.encodeCached(e, word)
		return
	}
	from := len(e.out)
	start, prev := 0, rune(-1)
	for i := 0; i < len(word); {
		r, n := decodeRune(word[i:])
		if prev >= 0 && !m.joins.has(prev, r) {
			m.encodeChunk(e, word[start:i], from)
			start = i
		}
		prev = r
		i += n
	}
	m.encodeChunk(e, word[start:], from)
}

func (m *bpe) encodeChunk(e *encoder, chunk []byte, from int) {
	n := len(e.out)
	m.encodeCached(e, chunk)
	if m.fuse && n > from && len(e.out) > n && e.out[n] == int(m.unk) && e.out[n-1] == int(m.unk) {
		e.out = append(e.out[:n], e.out[n+1:]...)
	}
}

func (m *bpe) encodeCached(e *encoder, word []byte) {
	ids, slot := e.cache.lookup(word)
	if ids == nil {
		ids = m.symbols(e.merge.ids[:0], word)
		e.merge.ids = ids
		ids = e.merge.mergeAll(m.pairs, ids)
		if m.unused != nil || m.hidden != noRank {
			ids = m.resolve(ids)
		}
		slot.store(word, ids)
		if cap(e.merge.ids) > keptBytes/4 {
			e.merge.ids = nil
		}
	}
	for _, id := range ids {
		e.out = append(e.out, int(id))
	}
}

// symbols appends the symbols of word before any merge.
func (m *bpe) symbols(dst []int32, word []byte) []int32 {
	if m.byteMode {
		for _, b := range word {
			if id := m.byteIDs[b]; id >= 0 {
				dst = append(dst, id)
			} else if m.unk >= 0 && !(m.fuse && len(dst) > 0 && dst[len(dst)-1] == m.unk) {
				dst = append(dst, m.unk)
			}
		}
		return dst
	}
	// The token of an unknown character is held back until a known character follows: this
	// fuses consecutive ones, and puts byte tokens before it, as the Hugging Face library does.
	held := int32(-1)
	for i := 0; i < len(word); {
		r, n := decodeRune(word[i:])
		id := int32(-1)
		if m.vocab != nil {
			id = m.affixed(word, i, n)
		} else {
			id = m.rune(r)
		}
		switch {
		case id >= 0:
			if held >= 0 {
				dst, held = append(dst, held), -1
			}
			dst = append(dst, id)
		case m.fallback && m.bytesKnown(word[i:i+n]):
			for _, b := range word[i : i+n] {
				dst = append(dst, m.byteIDs[b])
			}
		case m.unk >= 0:
			if held >= 0 && !m.fuse {
				dst = append(dst, held)
			}
			held = m.unk
		}
		i += n
	}
	if held >= 0 {
		dst = append(dst, held)
	}
	return dst
}

func (m *bpe) bytesKnown(s []byte) bool {
	if m.allBytes {
		return true
	}
	for _, b := range s {
		if m.byteIDs[b] < 0 {
			return false
		}
	}
	return true
}

// affixed looks up a character with continuing_subword_prefix and end_of_word_suffix.
func (m *bpe) affixed(word []byte, i, n int) int32 {
	s := string(word[i : i+n])
	if i > 0 {
		s = m.prefix + s
	}
	if i+n == len(word) {
		s += m.suffix
	}
	if id, ok := m.vocab[s]; ok {
		return id
	}
	return -1
}

// resolve replaces symbols that are not tokens: unused pieces are split into the
// symbols they were joined from, and hidden characters become bytes or unk.
func (m *bpe) resolve(ids []int32) []int32 {
	clean := true
	for _, id := range ids {
		if id >= m.hidden || m.unused != nil && m.unused[id] {
			clean = false
			break
		}
	}
	if clean {
		return ids
	}
	out := make([]int32, 0, len(ids))
	for _, id := range ids {
		out = m.appendResolved(out, id)
	}
	return out
}

// appendResolved appends the tokens of a symbol. An unused piece has at most maxUnused characters, which bounds the
// recursion.
func (m *bpe) appendResolved(out []int32, id int32) []int32 {
	if id >= m.hidden {
		return m.spell(out, m.hiddenR[id-m.hidden])
	}
	if pair, ok := m.split[id]; ok && m.unused[id] {
		return m.appendResolved(m.appendResolved(out, pair[0]), pair[1])
	}
	return append(out, id)
}

func (m *bpe) spell(out []int32, r rune) []int32 {
	var b [utf8.UTFMax]byte
	s := b[:utf8.EncodeRune(b[:], r)]
	if m.fallback && m.bytesKnown(s) {
		for _, c := range s {
			out = append(out, m.byteIDs[c])
		}
		return out
	}
	if m.unk >= 0 && !(m.fuse && len(out) > 0 && out[len(out)-1] == m.unk) {
		out = append(out, m.unk)
	}
	return out
}
