package tokenizer

import (
	"encoding/json"
	"fmt"
	"math"
	"strings"
	"unicode/utf8"
)

// readModel builds the model and enters its vocabulary into t. Files written before
// models had a type are told by their fields, as the reference library does.
func readModel(t *Tokenizer, s section) model {
	kind := s.text("type", "")
	if kind == "" {
		switch {
		case s.has("merges"):
			kind = "BPE"
		case s.has("unk_id"):
			kind = "Unigram"
		case s.has("continuing_subword_prefix") && s.has("max_input_chars_per_word"):
			kind = "WordPiece"
		case s.has("vocab") && s.has("unk_token"):
			kind = "WordLevel"
		}
	}
	switch kind {
	case "BPE":
		return readBPE(t, s)
	case "Unigram":
		return readUnigram(t, s)
	case "WordPiece":
		vocab := readVocab(t, s)
		m := &wordPiece{t: t, vocab: vocab, prefix: s.text("continuing_subword_prefix", "##"),
			maxChars: s.number("max_input_chars_per_word", 100)}
		for text := range vocab {
			m.longest = max(m.longest, len(text))
		}
		if m.maxChars < 0 || m.maxChars > maxPiece {
			s.r.fail(s.at("max_input_chars_per_word"), "%d is out of range", m.maxChars)
		}
		m.unk = readUnknown(s, vocab, "[UNK]")
		if m.unk < 0 {
			s.r.fail(s.at("unk_token"), "not in the vocabulary")
		}
		return m
	case "WordLevel":
		vocab := readVocab(t, s)
		return &wordLevel{t: t, vocab: vocab, unk: readUnknown(s, vocab, "<unk>")}
	case "":
		s.r.fail(s.at("type"), "missing")
	default:
		s.r.unsupported(s.at("type"), "model %q", kind)
	}
	return nil
}

func readUnknown(s section, vocab map[string]int32, def string) int32 {
	if id, ok := vocab[s.text("unk_token", def)]; ok {
		return id
	}
	return -1
}

// readVocab reads a vocabulary written as an object from token to id.
func readVocab(t *Tokenizer, s section) map[string]int32 {
	var raw map[string]int64
	if !s.into("vocab", &raw, "an object of token ids") {
		s.r.fail(s.at("vocab"), "missing")
		return nil
	}
	vocab := make(map[string]int32, len(raw))
	for text, id := range raw {
		if id < 0 || id >= maxVocab || id > int64(len(raw)+spareIDs) {
			s.r.fail(s.at("vocab"), "token %q has id %d, out of range for %d tokens", text, id, len(raw))
			return nil
		}
		vocab[text] = int32(id)
		t.setPiece(s.r, int(id), text, s.at("vocab"))
	}
	return vocab
}

// mergePair is an entry of merges: "a b" or ["a", "b"].
type mergePair [2]string

func (p *mergePair) UnmarshalJSON(b []byte) error {
	if len(b) > 0 && b[0] == '[' {
		var l []string
		if err := json.Unmarshal(b, &l); err != nil {
			return err
		}
		if len(l) != 2 {
			return fmt.Errorf("pair of %d", len(l))
		}
		p[0], p[1] = l[0], l[1]
		return nil
	}
	var s string
	if err := json.Unmarshal(b, &s); err != nil {
		return err
	}
	var ok bool
	p[0], p[1], ok = strings.Cut(s, " ")
	if !ok || strings.Contains(p[1], " ") {
		return fmt.Errorf("merge %q is not two tokens", s)
	}
	return nil
}

func readBPE(t *Tokenizer, s section) model {
	m := newBPE(t)
	vocab := readVocab(t, s)
	if s.r.err != nil {
		return nil
	}
	if s.has("dropout") {
		var p float64
		if s.into("dropout", &p, "a number"); p != 0 {
			s.r.unsupported(s.at("dropout"), "BPE dropout %g", p)
		}
	}
	m.prefix, m.suffix = s.text("continuing_subword_prefix", ""), s.text("end_of_word_suffix", "")
	m.fallback, m.fuse = s.flag("byte_fallback", false), s.flag("fuse_unk", false)
	if s.has("unk_token") {
		if m.unk = readUnknown(s, vocab, ""); m.unk < 0 {
			s.r.fail(s.at("unk_token"), "%q is not in the vocabulary", s.text("unk_token", ""))
		}
	}
	if s.flag("ignore_merges", false) {
		m.whole = vocab
	}
	m.findBytes(func(b string) (int32, bool) { id, ok := vocab[b]; return id, ok })
	if m.prefix != "" || m.suffix != "" {
		m.vocab = vocab
	}
	for text, id := range vocab {
		if r, n := utf8.DecodeRuneInString(text); n == len(text) && n > 0 {
			m.setRune(r, id)
		}
	}
	if !s.has("merges") {
		s.r.fail(s.at("merges"), "missing")
		return nil
	}
	readMerges(m, s, vocab)
	return m
}

func readMerges(m *bpe, s section, vocab map[string]int32) {
	var merges []mergePair
	if err := json.Unmarshal(s.fields["merges"], &merges); err != nil {
		// Find the culprit for the message.
		for i, raw := range s.list("merges") {
			var p mergePair
			if err := json.Unmarshal(raw, &p); err != nil {
				s.r.fail(fmt.Sprintf("%s[%d]", s.at("merges"), i), "%v", err)
			}
		}
		s.r.fail(s.at("merges"), "%v", err)
		return
	}
	special := map[int32]bool{m.unk: true}
	for _, id := range m.byteIDs {
		special[id] = true
	}
	m.pairs = newPairTable(len(merges))
	joins := new(pairFilter)
	for i, p := range merges {
		a, okA := vocab[p[0]]
		b, okB := vocab[p[1]]
		tail, okP := strings.CutPrefix(p[1], m.prefix)
		id, ok := vocab[p[0]+tail]
		if !okA || !okB || !okP || !ok {
			s.r.fail(fmt.Sprintf("%s[%d]", s.at("merges"), i), "%q + %q: not in the vocabulary", p[0], p[1])
			return
		}
		if p[0] == "" || tail == "" {
			s.r.fail(fmt.Sprintf("%s[%d]", s.at("merges"), i), "merges an empty token")
			return
		}
		m.pairs.put(a, b, merge{int32(i), id})
		if special[a] || special[b] {
			joins = nil // bytes of one character may join another's
		}
		if joins != nil {
			joins.add(p[0] + tail)
		}
	}
	// Without an unknown token characters can vanish, and their neighbours meet.
	if m.vocab == nil && (m.fallback && m.allBytes || !m.fallback && m.unk >= 0) {
		m.joins = joins
	}
}

func readUnigram(t *Tokenizer, s section) model {
	m := &unigram{t: t, trie: newByteTrie(), unk: -1}
	var vocab [][2]json.RawMessage
	if !s.into("vocab", &vocab, "a list of [token, score]") {
		s.r.fail(s.at("vocab"), "missing")
		return nil
	}
	if len(vocab) > maxVocab {
		s.r.fail(s.at("vocab"), "%d tokens", len(vocab))
		return nil
	}
	low := math.Inf(1)
	byText := make(map[string]int32, len(vocab))
	for id, entry := range vocab {
		var text string
		var score float64
		if json.Unmarshal(entry[0], &text) != nil || json.Unmarshal(entry[1], &score) != nil {
			s.r.fail(fmt.Sprintf("%s[%d]", s.at("vocab"), id), "want [token, score]")
			return nil
		}
		low = min(low, score)
		m.scores = append(m.scores, score)
		m.trie.add(text, int32(id))
		byText[text] = int32(id)
		t.setPiece(s.r, id, text, s.at("vocab"))
	}
	m.unkScore = low - unkPenalty
	if s.has("unk_id") {
		unk := s.number("unk_id", -1)
		if unk < 0 || unk >= len(vocab) {
			s.r.fail(s.at("unk_id"), "%d is outside the vocabulary of %d", unk, len(vocab))
			return nil
		}
		m.unk = int32(unk)
	}
	m.fallback = s.flag("byte_fallback", false)
	for b := range m.byteIDs {
		m.byteIDs[b] = -1
		if id, ok := byText[byteToken(byte(b))]; ok {
			m.byteIDs[b] = id
		}
	}
	return m
}
