package tokenizer

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"unicode/utf8"
)

// readModel builds the model and enters its vocabulary into t. In files written before
// models had a type, the fields determine it, as in the reference library.
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
		m := newWordPiece(t, s.r, s.at("vocab"), vocab, s.text("continuing_subword_prefix", continues))
		m.maxChars = s.number("max_input_chars_per_word", m.maxChars)
		if m.maxChars < 0 || m.maxChars > maxReplacement {
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
	if !s.has("vocab") {
		s.r.fail(s.at("vocab"), "missing")
		return nil
	}
	if s.fields["vocab"][0] != '{' {
		s.r.fail(s.at("vocab"), "want an object of token ids")
		return nil
	}
	vocab := make(map[string]int32, min(len(s.fields["vocab"])/24, maxVocab))
	far, farID := "", int64(-1) // the token with the largest id
	s.r.members(s.fields["vocab"], func(text string, raw json.RawMessage) bool {
		id, err := strconv.ParseInt(string(raw), 10, 64)
		switch {
		case err != nil:
			s.r.fail(s.at("vocab"), "want an object of token ids")
		case id < 0 || id >= maxVocab:
			s.r.fail(s.at("vocab"), "token %q has id %d, the limit is %d", text, id, maxVocab)
		case len(text) > maxPiece:
			s.r.fail(s.at("vocab"), "token %d has %d bytes, the limit is %d", id, len(text), maxPiece)
		}
		vocab[text] = int32(id)
		if id > farID {
			far, farID = text, id
		}
		return true
	})
	if s.r.err == nil && farID > int64(len(vocab)+spareIDs) {
		s.r.fail(s.at("vocab"), "token %q has id %d, out of range for %d tokens", far, farID, len(vocab))
	}
	if s.r.err != nil {
		return nil
	}
	for text, id := range vocab {
		t.setPiece(s.r, int(id), text, s.at("vocab"))
	}
	return vocab
}

// splitMerge reads an entry of merges: "a b" or ["a", "b"].
func splitMerge(r *reader, raw json.RawMessage) (left, right string, err error) {
	if raw[0] == '[' {
		var l [2]string
		n := 0
		r.elements(raw, func(i int, raw json.RawMessage) bool {
			text, ok := jsonText(raw)
			if !ok {
				err = errors.New("want two tokens")
			} else if i < 2 {
				l[i] = text
			}
			n++
			return i < 2 && err == nil
		})
		if err == nil && n != 2 {
			err = errors.New("want two tokens")
		}
		return l[0], l[1], err
	}
	s, ok := jsonText(raw)
	if !ok {
		return "", "", errors.New("want two tokens")
	}
	left, right, ok = strings.Cut(s, " ")
	if !ok || strings.Contains(right, " ") {
		return "", "", fmt.Errorf("merge %q is not two tokens", s)
	}
	return left, right, nil
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
	special := map[int32]bool{m.unk: true}
	for _, id := range m.byteIDs {
		special[id] = true
	}
	m.pairs = newPairTable(min(len(s.fields["merges"])/24, maxVocab))
	joins := new(pairFilter)
	s.each("merges", func(i int, raw json.RawMessage) {
		fail := func(format string, args ...any) {
			s.r.fail(fmt.Sprintf("%s[%d]", s.at("merges"), i), format, args...)
		}
		left, right, err := splitMerge(s.r, raw)
		if err != nil {
			fail("%v", err)
			return
		}
		a, okA := vocab[left]
		b, okB := vocab[right]
		tail, okP := strings.CutPrefix(right, m.prefix)
		id, ok := vocab[left+tail]
		if !okA || !okB || !okP || !ok {
			fail("%q + %q: not in the vocabulary", left, right)
			return
		}
		if left == "" || tail == "" {
			fail("merges an empty token")
			return
		}
		m.pairs.put(a, b, merge{int32(i), id})
		if special[a] || special[b] {
			joins = nil // a token may begin or end inside a character
		}
		if joins != nil {
			joins.add(left + tail)
		}
	})
	// Without an unknown token characters can be dropped, and their neighbours become adjacent.
	if m.vocab == nil && (m.fallback && m.allBytes || !m.fallback && m.unk >= 0) {
		m.joins = joins
	}
}

func readUnigram(t *Tokenizer, s section) model {
	m := &unigram{t: t, trie: newByteTrie(s.r.size), unk: -1}
	if !s.has("vocab") {
		s.r.fail(s.at("vocab"), "missing")
		return nil
	}
	low := math.Inf(1)
	s.each("vocab", func(id int, raw json.RawMessage) {
		fail := func(format string, args ...any) { s.r.fail(fmt.Sprintf("%s[%d]", s.at("vocab"), id), format, args...) }
		var text string
		var score float64
		n, ok := 0, raw[0] == '['
		if ok {
			s.r.elements(raw, func(i int, raw json.RawMessage) bool {
				switch n++; i {
				case 0:
					text, ok = jsonText(raw)
				case 1:
					ok = json.Unmarshal(raw, &score) == nil
				}
				return ok && i < 2
			})
		}
		switch {
		case !ok || n != 2:
			fail("want [token, score]")
		case id == maxVocab:
			fail("more than %d tokens", maxVocab)
		case len(text) > maxPiece:
			fail("token of %d bytes, the limit is %d", len(text), maxPiece)
		case !m.trie.add(text, int32(id)):
			fail("the tokens have more than %d different prefixes", m.trie.max)
		}
		low = min(low, score)
		m.scores = append(m.scores, score)
		t.setPiece(s.r, id, text, s.at("vocab"))
	})
	if s.r.err != nil {
		return nil
	}
	m.unkScore = low - unkPenalty
	if s.has("unk_id") {
		unk := s.number("unk_id", -1)
		if unk < 0 || unk >= len(m.scores) {
			s.r.fail(s.at("unk_id"), "%d is outside the vocabulary of %d", unk, len(m.scores))
			return nil
		}
		m.unk = int32(unk)
	}
	m.fallback = s.flag("byte_fallback", false)
	for b := range m.byteIDs {
		m.byteIDs[b] = -1
		if id, ok := t.ids[byteToken(byte(b))]; ok {
			m.byteIDs[b] = id
		}
	}
	return m
}
