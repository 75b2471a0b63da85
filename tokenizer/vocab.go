package tokenizer

import (
	"maps"
	"slices"
)

// This file builds a Tokenizer: its tables by id, its added tokens, and what derives from them.

func newTokenizer(file string) *Tokenizer {
	return &Tokenizer{file: file, ids: map[string]int32{}, bos: -1, eos: -1, local: true,
		added: addedSet{byID: map[int32]*AddedToken{}}}
}

// reserve makes room for an id.
func (t *Tokenizer) reserve(r *reader, id int, path string) bool {
	if id < 0 || id >= maxVocab {
		r.fail(path, "token id %d is out of range", id)
		return false
	}
	for len(t.pieces) <= id {
		t.pieces = append(t.pieces, "")
		t.flags = append(t.flags, 0)
	}
	return true
}

// setPiece enters a token of the model's vocabulary. Two tokens can't share an id.
func (t *Tokenizer) setPiece(r *reader, id int, text, path string) {
	if !t.reserve(r, id, path) {
		return
	}
	if t.flags[id]&flagToken != 0 {
		r.fail(path, "id %d is both %q and %q", id, t.pieces[id], text)
		return
	}
	t.pieces[id] = text
	t.flags[id] |= flagToken
	t.ids[text] = int32(id)
}

// addToken enters an added token: a new one, or a token of the model to match in
// the text. A later one for the same id replaces the earlier.
func (t *Tokenizer) addToken(r *reader, a AddedToken, path string) {
	if a.Content == "" {
		return
	}
	if len(a.Content) > maxPiece {
		r.fail(path, "token of %d bytes, the limit is %d", len(a.Content), maxPiece)
		return
	}
	if r.added += len(a.Content); r.added > maxAdded {
		r.fail(path, "more than %d bytes of added tokens", maxAdded)
		return
	}
	if id, ok := t.ids[a.Content]; ok && int(id) != a.ID {
		r.fail(path, "%q has id %d here and %d in the vocabulary", a.Content, a.ID, id)
		return
	}
	if !t.reserve(r, a.ID, path) {
		return
	}
	if t.flags[a.ID]&flagToken != 0 && t.pieces[a.ID] != a.Content {
		r.fail(path, "id %d is both %q and %q", a.ID, t.pieces[a.ID], a.Content)
		return
	}
	t.pieces[a.ID] = a.Content
	t.ids[a.Content] = int32(a.ID)
	t.flags[a.ID] |= flagToken
	t.flags[a.ID] &^= flagSpecial
	if a.Special {
		t.flags[a.ID] |= flagSpecial
	}
	t.added.byID[int32(a.ID)] = &a
}

// addedBytes returns how many bytes the added tokens have.
func (t *Tokenizer) addedBytes() (n int) {
	for _, a := range t.added.byID {
		n += len(a.Content)
	}
	return n
}

// buildAdded makes the matchers of the added tokens.
func (t *Tokenizer) buildAdded(r *reader) {
	s := &t.added
	s.raw, s.plain, s.norm, s.normPlain = newMatcher(), newMatcher(), newMatcher(), newMatcher()
	s.written = map[int32]string{}
	e := newEncoder(len(t.pre), t.addedBytes())
	for i, id := range slices.Sorted(maps.Keys(s.byID)) {
		if !r.going(i) {
			return
		}
		a := s.byID[id]
		text, all, plain := a.Content, s.raw, s.plain
		if a.Normalized {
			all, plain = s.norm, s.normPlain
			if t.normalizer != nil {
				b, _ := e.normalize(t.normalizer, []byte(text))
				text = string(b)
				s.written[id] = text
				if r.added += len(text); len(text) > maxPiece || r.added > maxAdded {
					r.fail("normalizer", "makes %q %d bytes long", a.Content[:min(len(a.Content), 40)], len(text))
					return
				}
			}
		}
		all.add(text, id)
		if !a.Special {
			plain.add(text, id)
		}
	}
	if e.err != nil {
		r.fail("normalizer", "%s", e.err.Msg)
	}
}

// useRawBytes makes a byte-level model work on bytes if ByteLevel is the last
// pre-tokenizer and the tokens are the same.
func (t *Tokenizer) useRawBytes() {
	m, ok := t.model.(*bpe)
	if !ok || len(t.pre) == 0 || m.vocab != nil || m.fallback || m.unk >= 0 {
		return
	}
	last, ok := t.pre[len(t.pre)-1].(byteLevelSplit)
	if !ok {
		return
	}
	last.raw = true
	t.pre[len(t.pre)-1] = last
	m.byteMode, m.joins = true, new(pairFilter)
	for b := range m.byteIDs {
		if m.byteIDs[b] = m.rune(byteRunes[b]); m.byteIDs[b] < 0 {
			m.joins = nil // a byte without a symbol is dropped, and its neighbours become adjacent
		}
	}
	for _, s := range m.pairs.slots {
		if s.key == 0 || m.joins == nil {
			continue
		}
		b, ok := byteLevelBytes(nil, t.pieces[s.id])
		if !ok {
			m.joins = nil
			break
		}
		m.joins.addBytes(b)
	}
	if m.whole != nil {
		raw := make(map[string]int32, len(m.whole))
		for text, id := range m.whole {
			if b, ok := byteLevelBytes(nil, text); ok {
				raw[string(b)] = id
			}
		}
		m.whole = raw
	}
}
