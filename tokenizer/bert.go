package tokenizer

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"unicode"
)

// This file reads WordPiece vocabularies that come without a tokenizer.json: those of GGUF files, and vocab.txt. They are
// BERT's, whose normalizer and pre-tokenizer need only be told about lower case and accents.

// Tokens of BERT, by their texts where nothing else names them.
const (
	bertUnknown = "[UNK]"
	bertBegin   = "[CLS]"
	bertEnd     = "[SEP]"
)

// bert makes t a tokenizer of a vocabulary, whose tokens begin and end are put around a text unless they are negative. path
// is where the file has the vocabulary.
func (t *Tokenizer) bert(r *reader, path string, vocab map[string]int32, n bertNorm, unk, begin, end int) {
	m := newWordPiece(t, r, path, vocab, continues)
	if m.unk = int32(unk); unk < 0 {
		r.fail(path, "no token %s", bertUnknown)
		return
	}
	n.clean, n.chinese = true, true
	t.model, t.normalizer, t.pre, t.decoder = m, n.sequence(), bertSplit(), wordPieceDecoder{continues, true}
	for _, id := range []int{unk, begin, end} {
		if id >= 0 && t.flags[id]&flagSpecial == 0 {
			t.addToken(r, AddedToken{ID: id, Content: t.pieces[id], Special: true}, path)
		}
	}
	if begin >= 0 {
		t.prefix = []int{begin}
	}
	if end >= 0 {
		t.suffix = []int{end}
	}
}

// named returns id, or the id of a token that is there if id is none.
func (t *Tokenizer) named(id int, text string) int {
	if known, ok := t.ids[text]; id < 0 && ok {
		return int(known)
	}
	return id
}

// wordPiece is a token of model "bert" as BERT writes it. GGUF marks the beginning of words, not their continuation; tokens in
// brackets, such as [CLS], stay as they are.
func (v *GGUFVocab) wordPiece(i int) string {
	text := v.text(i)
	if rest, ok := strings.CutPrefix(text, spaceSymbol); ok && rest != "" {
		return rest
	}
	if kind := v.kind(i); kind != pieceNormal && kind != pieceUserDefined || bracketed(text) {
		return text
	}
	return continues + text
}

func bracketed(text string) bool { return strings.HasPrefix(text, "[") && strings.HasSuffix(text, "]") }

// ggufPiece is the inverse of wordPiece for tokens of text.
func ggufPiece(text string) string {
	if rest, ok := strings.CutPrefix(text, continues); ok {
		return rest
	}
	return spaceSymbol + text
}

func (v *GGUFVocab) buildWordPiece(t *Tokenizer, r *reader) {
	const path = "tokenizer.ggml.tokens"
	vocab := make(map[string]int32, len(v.Tokens))
	for i := range v.Tokens {
		if !r.going(i) {
			return
		}
		text, kind := v.wordPiece(i), v.kind(i)
		if _, again := vocab[text]; again {
			r.fail(fmt.Sprintf("%s[%d]", path, i), "duplicate token %q", text)
			return
		}
		vocab[text] = int32(i)
		t.setPiece(r, i, text, path)
		switch kind {
		case pieceUnknown, pieceControl, pieceUserDefined:
			t.addToken(r, AddedToken{ID: i, Content: text, Special: kind != pieceUserDefined}, path)
		}
	}
	n := bertNorm{lower: or(v.Lowercase, !capitals(t.pieces))}
	n.strip = or(v.StripAccents, n.lower)
	t.bos, t.eos = v.BOS, v.EOS
	begin, end := v.CLS, v.SEP
	if begin <= 0 {
		begin = v.BOS
	}
	if end <= 0 {
		end = v.EOS
	}
	t.bert(r, path, vocab, n, t.named(v.UNK, bertUnknown), t.named(begin, bertBegin), t.named(end, bertEnd))
}

// capitals reports whether a vocabulary tells capitals from small letters: more than a hundredth of its tokens have some. Files
// from before tokenizer.ggml.normalizer don't say it.
func capitals(tokens []string) bool {
	n := 0
	for _, text := range tokens {
		if !bracketed(text) && strings.ContainsFunc(text, func(c rune) bool { return unicode.ToLower(c) != c }) {
			n++
		}
	}
	return n > len(tokens)/100
}

// wordPieces returns vocabularies of model "bert", one for each way to normalise.
func (t *Tokenizer) wordPieces(v GGUFVocab) ([]GGUFVocab, error) {
	v.Model, v.Pre = "bert", "default"
	if len(t.prefix) != 1 || len(t.suffix) != 1 {
		return nil, fmt.Errorf("it puts the tokens %v before and %v after a text; a vocabulary of model \"bert\" puts one before and one after",
			t.prefix, t.suffix)
	}
	v.CLS, v.SEP = t.prefix[0], t.suffix[0]
	for i, text := range v.Tokens {
		if kind := pieceType(v.Types[i]); kind != pieceControl && kind != pieceUnknown {
			v.Tokens[i] = ggufPiece(text)
		}
	}
	var out []GGUFVocab
	for _, n := range []bertNorm{{lower: true, strip: true}, {}, {lower: true}, {strip: true}} {
		v.Lowercase, v.StripAccents = &n.lower, &n.strip
		out = append(out, v)
	}
	return out, nil
}

// vocabFile is the name of a WordPiece vocabulary with a token in each line, which older directories have alone.
const vocabFile = "vocab.txt"

// parseVocab builds BERT's tokenizer of a vocab.txt; the settings of its normalizer are in tokenizer_config.json.
func parseVocab(ctx context.Context, file string, data []byte, b *beside) (*Tokenizer, error) {
	if class := strings.TrimSuffix(b.config.Class, "Fast"); class != "" && class != "BertTokenizer" {
		return nil, &UnsupportedError{File: file, Feature: fmt.Sprintf("a vocab.txt of the tokenizer class %q", class)}
	}
	s, err := b.object("tokenizer_config.json")
	if err != nil {
		return nil, err
	}
	n := bertNorm{lower: s.flag("do_lower_case", true)}
	n.strip = s.flag("strip_accents", n.lower)
	if !s.flag("tokenize_chinese_chars", true) {
		s.r.unsupported("tokenize_chinese_chars", "a vocab.txt with Chinese characters in words")
	}
	if s.r.err != nil {
		return nil, s.r.err
	}
	r, t := newReader(ctx, file, len(data)), newTokenizer(file)
	vocab := map[string]int32{}
	id := 0
	for line := range strings.Lines(string(data)) {
		text := strings.TrimRight(line, "\r\n")
		if len(text) > maxPiece {
			r.fail(fmt.Sprintf("line %d", id+1), "token of %d bytes, the limit is %d", len(text), maxPiece)
		}
		if !r.going(id) {
			return nil, r.err
		}
		vocab[text] = int32(id) // the last of equal ones wins, as in the reference library
		t.setPiece(r, id, text, fmt.Sprintf("line %d", id+1))
		id++
	}
	t.bert(r, "", vocab, n, t.named(-1, bertUnknown), t.named(-1, bertBegin), t.named(-1, bertEnd))
	for _, text := range []string{"[PAD]", "[MASK]"} {
		if id := t.named(-1, text); id >= 0 && r.err == nil {
			t.addToken(r, AddedToken{ID: id, Content: text, Special: true}, "")
		}
	}
	if len(t.prefix)+len(t.suffix) < 2 {
		r.fail("", "no tokens %q", slices.DeleteFunc([]string{bertBegin, bertEnd}, func(text string) bool { return t.named(-1, text) >= 0 }))
	}
	return t, r.err
}
