package tokenizer

import (
	"maps"
	"regexp"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"
)

// A Span is a section of a text. Foreign text comes from another author than the rest, and has no marks.
type Span struct {
	Text    string
	Foreign bool
}

// EncodeSpans encodes the spans as one text. Marks, the tokens that give a prompt its structure, are parsed only from
// text of which no byte is foreign. Foreign text that spells a mark, by itself, after normalizing or together with
// adjacent text, is encoded as ordinary text and decodes to itself. All other text gets the tokens that Encode with
// ParseSpecial gives.
//
// Marks are the special tokens, and all added or user-defined tokens except those that are ordinary text: whitespace,
// repetitions of one character, words, and HTML tags that format text. Tokens of the model's own vocabulary are marks
// if they are spelled <|...|>. In this text, tokens whose text is in marks are marks too, and so are tokens that occur
// in its own, not foreign, spans as a word, <tag> or [tag].
//
// A token of one character that the model makes from that character is kept, since there is no other way to encode it.
// Errors are those of TryEncode.
func (t *Tokenizer) EncodeSpans(spans []Span, marks ...string) ([]int, error) {
	var text []byte
	var foreign []bool
	own, other := false, false
	for _, s := range spans {
		text = append(text, validUTF8(s.Text)...)
		foreign = append(foreign, slices.Repeat([]bool{s.Foreign}, len(text)-len(foreign))...)
		own = own || !s.Foreign && s.Text != ""
		other = other || s.Foreign && s.Text != ""
	}
	if !other {
		return t.TryEncode(string(text), EncodeOptions{ParseSpecial: true})
	}
	e := t.acquire()
	defer t.release(e)
	e.parseSpecial = own
	e.allow(len(text))
	e.marks = t.marks().with(e, t, spans, marks)
	e.out = make([]int, 0, 16+len(text)/4)
	if err := t.encode(e, text, foreign, t.added.raw, t.added.norm); err != nil {
		return nil, err
	}
	return e.out, nil
}

// marks are the tokens that foreign text must not yield.
type marks struct {
	ids        map[int32]bool
	normalized bool     // some marks are matched in normalized text
	spelled    *matcher // texts from which the model itself makes marks
	reach      []bool   // by id: the model can make this token from text
	words      *matcher // added tokens that are words, which are marks if own text contains them
	unknown    int      // the model's unknown token if that is a mark, such as EOS, and so is left out; else -1
}

// marks returns the marks of every text.
func (t *Tokenizer) marks() *marks {
	t.marksOnce.Do(func() {
		m := &marks{ids: map[int32]bool{}, spelled: newMatcher(), words: newMatcher(), reach: make([]bool, len(t.pieces)), unknown: -1}
		user := t.reached(m.reach)
		var ids []int32
		note := func(id int32, text string) {
			switch kindOf(text) {
			case textMark:
				ids = append(ids, id)
			case textWord:
				m.words.add(text, id)
			}
		}
		for _, id := range slices.Sorted(maps.Keys(t.added.byID)) {
			if a := t.added.byID[id]; a.Special {
				ids = append(ids, id)
			} else {
				note(id, a.Content)
			}
		}
		for _, id := range user {
			note(id, t.pieces[id])
		}
		for id, text := range t.pieces {
			if m.reach[id] && controlText(text) {
				ids = append(ids, int32(id))
			}
		}
		for _, id := range []int{t.bos, t.eos} {
			if id >= 0 {
				ids = append(ids, int32(id))
				if id == t.unknown() {
					m.unknown = id
				}
			}
		}
		m.add(t, ids)
		t.marksFound = m
	})
	return t.marksFound
}

// with returns the marks of one text: m, and the tokens that named or the text's own spans spell.
func (m *marks) with(e *encoder, t *Tokenizer, spans []Span, named []string) *marks {
	var more []int32
	note := func(text string) {
		if id, ok := t.ids[text]; ok && !m.ids[id] && kindOf(text) != textSpace && utf8.RuneCountInString(text) > 1 {
			more = append(more, id)
		}
	}
	for _, text := range named {
		note(text)
	}
	for _, s := range spans {
		if s.Foreign {
			continue
		}
		eachTag(s.Text, note)
		if m.words.empty() {
			continue
		}
		text := []byte(s.Text)
		for start, end := 0, 0; end < len(text); {
			start, end, _ = m.words.find(e, text, end, nil, nil)
			note(s.Text[start:end])
		}
	}
	if more == nil {
		return m
	}
	wider := *m
	wider.ids = maps.Clone(m.ids)
	wider.spelled = &matcher{first: m.spelled.first, nodes: slices.Clone(m.spelled.nodes)}
	wider.add(t, more)
	return &wider
}

func (m *marks) add(t *Tokenizer, ids []int32) {
	for _, id := range ids {
		m.ids[id] = true
		if a := t.added.byID[id]; a != nil && a.Normalized {
			m.normalized = true
		}
		if !m.reach[id] {
			continue
		}
		spell := func(text string) {
			if utf8.RuneCountInString(text) > 1 && utf8.ValidString(text) {
				m.spelled.add(text, id)
			}
		}
		// Pre-tokenizers may still put a space before the text, and map spaces and bytes to other characters.
		text := t.pieces[id]
		spell(text)
		spell(strings.TrimPrefix(text, spaceSymbol))
		spell(strings.ReplaceAll(text, spaceSymbol, " "))
		if b, ok := byteLevelBytes(nil, text); ok {
			spell(string(b))
		}
	}
}

// reached sets reach for the tokens that the model makes from text, and returns its user-defined pieces.
func (t *Tokenizer) reached(reach []bool) (user []int32) {
	switch m := t.model.(type) {
	case *bpe:
		for _, s := range m.pairs.slots {
			if s.key != 0 && int(s.id) < len(reach) {
				reach[s.id] = true
			}
		}
		for _, id := range m.whole {
			reach[id] = true
		}
		if m.user != nil {
			for _, n := range m.user.nodes {
				if n.id >= 0 {
					user = append(user, n.id)
				}
			}
		}
	case *unigram:
		for _, id := range m.trie.ids {
			if id >= 0 {
				reach[id] = true
			}
		}
		user = slices.Collect(maps.Keys(m.userPieces))
	case *wordPiece:
		for _, id := range m.trie.ids {
			if id >= 0 {
				reach[id] = true
			}
		}
	case *wordLevel:
		for _, id := range m.vocab {
			reach[id] = true
		}
	}
	for _, id := range user {
		reach[id] = true
	}
	return user
}

// unknown returns the model's unknown token, or -1 if there is none.
func (t *Tokenizer) unknown() int {
	switch m := t.model.(type) {
	case *bpe:
		return int(m.unk)
	case *unigram:
		return int(m.unk)
	case *wordPiece:
		return int(m.unk)
	case *wordLevel:
		return int(m.unk)
	}
	return -1
}

// Kinds of an added token's text.
const (
	textSpace = iota // whitespace
	textRun          // repetition of one character, such as ...
	textWord         // words and numbers, or a tag that formats text
	textMark
)

// formatTag matches the HTML tags that Gemma's vocabulary has as user-defined tokens, except <s>, which begins a text
// in other vocabularies.
var formatTag = regexp.MustCompile(`^</?(?:table|caption|thead|tbody|tfoot|tr|th|td|h[1-6]|blockquote|strong|em|b|i|u|sub|sup|code)>$`)

func kindOf(text string) int {
	space, word, run := true, true, true
	first, _ := utf8.DecodeRuneInString(text)
	for _, r := range text {
		s := unicode.IsSpace(r) || r == '▁'
		space = space && s
		word = word && (s || unicode.In(r, unicode.L, unicode.M, unicode.N) || strings.ContainsRune("-_'", r))
		run = run && r == first
	}
	switch {
	case space:
		return textSpace
	case run:
		return textRun
	case word, formatTag.MatchString(text):
		return textWord
	}
	return textMark
}

// controlText reports whether text is spelled <|...|>, as control tokens are even in vocabularies that type them as
// normal.
func controlText(text string) bool {
	text = strings.TrimPrefix(text, spaceSymbol)
	if len(text) < 5 || text[0] != '<' || text[len(text)-1] != '>' {
		return false
	}
	if b, ok := byteLevelBytes(nil, text); ok {
		text = string(b)
	}
	text = text[1 : len(text)-1]
	return len(text) > 2 && text[0] == '|' && text[len(text)-1] == '|' ||
		len(text) > 2*len("｜") && strings.HasPrefix(text, "｜") && strings.HasSuffix(text, "｜")
}

// maxTag bounds the length of a tag in own text.
const maxTag = 64

// eachTag calls f for each <tag> and [tag] in text, and for those in doubled brackets.
func eachTag(text string, f func(tag string)) {
	for i := range len(text) {
		var end byte
		switch text[i] {
		case '<':
			end = '>'
		case '[':
			end = ']'
		default:
			continue
		}
		rest := text[i:min(len(text), i+maxTag)]
		if k := strings.IndexFunc(rest, unicode.IsSpace); k >= 0 {
			rest = rest[:k]
		}
		k := strings.IndexByte(rest, end)
		if k < 0 || strings.IndexFunc(rest[:k], unicode.IsLetter) < 0 {
			continue
		}
		for k++; ; k++ {
			f(rest[:k])
			if k == len(rest) || rest[k] != end {
				break
			}
		}
	}
}

// guarded emits s. It cuts s wherever the model could make a mark from text with a foreign byte: after the text's first
// character, or where its foreign bytes begin. With a nil foreign no byte is foreign.
func (t *Tokenizer) guarded(e *encoder, s []byte, foreign []bool, first bool, emit func(s []byte, first bool)) {
	n := len(e.out)
	from := 0
	to := func(end int) {
		e.inside = from > 0
		emit(s[from:end], first && from == 0)
		from = end
	}
	if !e.marks.spelled.empty() && slices.Contains(foreign, true) {
		t.eachCut(e, e.marks.spelled, s, foreign, to)
	}
	to(len(s))
	e.inside = false
	if e.marks.unknown >= 0 {
		known := slices.DeleteFunc(e.out[n:], func(id int) bool { return id == e.marks.unknown })
		e.out = e.out[:n+len(known)]
	}
}

// eachCut calls cut, in order, with offsets in s such that each string of the matcher with a foreign byte is cut.
func (t *Tokenizer) eachCut(e *encoder, m *matcher, s []byte, foreign []bool, cut func(at int)) {
	text, offsets := t.kept(s)
	offset := func(i int) int {
		if offsets == nil {
			return i
		}
		return offsets[i]
	}
	for i := 0; i < len(text); i++ {
		if !m.first[text[i]] {
			continue
		}
		n, _ := m.prefix(e, text[i:], nil, nil)
		at := i
		for at < i+n && !foreign[offset(at)] {
			at++
		}
		if at == i+n {
			continue // no match, or none of it is foreign
		}
		if at == i {
			_, k := decodeRune(text[i:])
			at += k
		}
		cut(offset(at))
		i = at - 1
	}
}

// goesOn reports, once, whether the text continues a word that guarded cut.
func (e *encoder) goesOn() bool {
	inside := e.inside
	e.inside = false
	return inside
}

// kept returns s without the characters that the model drops, whose neighbours become adjacent, and the offset in s of
// each byte of the result, nil if nothing was dropped.
func (t *Tokenizer) kept(s []byte) (text []byte, at []int) {
	m, ok := t.model.(*bpe)
	if !ok || !m.drops() {
		return s, nil
	}
	for i := 0; i < len(s); {
		n := 1
		if !m.byteMode {
			_, n = decodeRune(s[i:])
		}
		if !m.dropped(s[i : i+n]) {
			for k := i; k < i+n; k++ {
				text, at = append(text, s[k]), append(at, k)
			}
		}
		i += n
	}
	return text, at
}

// drops reports whether there may be characters without any token, which the model drops.
func (m *bpe) drops() bool { return m.unk < 0 && m.joins == nil }

// dropped reports whether a character, in byteMode a byte, has no token inside a word.
func (m *bpe) dropped(c []byte) bool {
	switch {
	case m.byteMode:
		return m.byteIDs[c[0]] < 0
	case m.fallback && m.bytesKnown(c):
		return false
	case m.vocab != nil:
		_, ok := m.vocab[m.prefix+string(c)]
		return !ok
	}
	r, _ := utf8.DecodeRune(c)
	return m.rune(r) < 0
}
