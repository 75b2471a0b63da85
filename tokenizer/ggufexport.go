package tokenizer

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// GGUF returns the vocabulary in the form of a GGUF file, for a model of size tokens. Ids without a token get the name
// [PADn], as from llama.cpp's converter, and added tokens beyond the model's last id are left out. A tokenizer made
// from it by NewGGUF, or by llama.cpp, splits text as t does: GGUF tests that with texts that distinguish
// pre-tokenizers. If no vocabulary of the format does, the error is an *UnsupportedError. Unicode normalisation (NFC),
// which the format can't express, is left out. t must not come from NewGGUF, whose caller already has the vocabulary.
// The end of ctx stops the tests.
func (t *Tokenizer) GGUF(ctx context.Context, size int) (GGUFVocab, error) {
	v := GGUFVocab{File: t.file, BOS: t.bos, EOS: t.eos, UNK: -1, PAD: -1, CLS: -1, SEP: -1, Tokens: slices.Clone(t.pieces)}
	for text, id := range map[string]*int{t.config.UNKToken: &v.UNK, t.config.PADToken: &v.PAD} {
		if k, ok := t.ids[text]; ok && text != "" {
			*id = int(k)
		}
	}
	if err := v.fill(t, size); err != nil {
		return v, err
	}
	var candidates []GGUFVocab
	var err error
	switch m := t.model.(type) {
	case *bpe:
		if t.byteLevel() {
			candidates, err = t.byteLevelVocabs(v, m)
		} else {
			candidates, err = t.pieceVocabs(v, m)
		}
	case *unigram:
		candidates, err = t.pieceVocabs(v, nil)
	case *wordPiece:
		candidates, err = t.wordPieces(v)
	default:
		err = errors.New("GGUF has no vocabulary for its kind of model")
	}
	if err != nil {
		return v, &UnsupportedError{File: t.file, Feature: "writing it as GGUF: " + err.Error()}
	}
	differs := ""
	for _, c := range candidates {
		text, same := t.splitsLike(ctx, c)
		if same {
			return c, nil
		}
		if err := ctx.Err(); err != nil {
			return v, err
		}
		if differs == "" {
			differs = text
		}
	}
	return v, &UnsupportedError{File: t.file, Feature: fmt.Sprintf("writing it as GGUF: no vocabulary of that format splits text as it does, such as %q", differs)}
}

// byteLevel reports whether the tokenizer maps bytes to characters that stand for them.
func (t *Tokenizer) byteLevel() bool {
	return slices.ContainsFunc(t.pre, func(p preTokenizer) bool { _, ok := p.(byteLevelSplit); return ok })
}

// fill sets the tokens and their types, for the model's size.
func (v *GGUFVocab) fill(t *Tokenizer, size int) error {
	for id := size; id < len(v.Tokens); id++ {
		if t.added.byID[int32(id)] == nil && v.Tokens[id] != "" {
			return &FormatError{File: t.file, Msg: fmt.Sprintf("token %d, %q, is beyond the model's %d tokens", id, v.Tokens[id], size)}
		}
	}
	v.Tokens = v.Tokens[:min(size, len(v.Tokens))]
	for _, id := range []*int{&v.BOS, &v.EOS, &v.UNK, &v.PAD} {
		if *id >= size {
			*id = -1
		}
	}
	for len(v.Tokens) < size {
		v.Tokens = append(v.Tokens, "")
	}
	v.Types = make([]int32, size)
	for id, text := range v.Tokens {
		kind := pieceNormal
		a := t.added.byID[int32(id)]
		switch {
		case text == "":
			kind = pieceUnused
			v.Tokens[id] = fmt.Sprintf("[PAD%d]", id)
			if _, taken := t.ids[v.Tokens[id]]; taken {
				v.Tokens[id] = fmt.Sprintf("[PAD%d of the model]", id)
			}
		case a != nil && a.Special:
			kind = pieceControl
		case a != nil:
			kind = pieceUserDefined
		}
		v.Types[id] = int32(kind)
	}
	return nil
}

// putAround sets the tokens that are put around a text.
func (v *GGUFVocab) putAround(t *Tokenizer) error {
	if v.BOS < 0 && len(t.prefix) == 1 {
		v.BOS = t.prefix[0]
	}
	if v.EOS < 0 && len(t.suffix) == 1 {
		v.EOS = t.suffix[0]
	}
	if len(t.prefix) > 1 || len(t.suffix) > 1 || len(t.prefix) == 1 && t.prefix[0] != v.BOS || len(t.suffix) == 1 && t.suffix[0] != v.EOS {
		return fmt.Errorf("it puts the tokens %v before and %v after a text; GGUF can put only %d before and %d after",
			t.prefix, t.suffix, v.BOS, v.EOS)
	}
	bos, eos := len(t.prefix) == 1, len(t.suffix) == 1
	v.AddBOS, v.AddEOS = &bos, &eos
	return nil
}

// preNames are the names of pre-tokenizers to try, the likeliest first. Of names that split text alike, the first is
// the one that llama.cpp's converter gives to the best-known model.
var preNames = []string{
	"llama-bpe", "qwen2", "smollm", "gpt-2", "falcon", "dbrx", "gpt-4o", "tekken", "deepseek-llm", "deepseek-coder", "deepseek-v3",
	"bloom", "viking", "chameleon", "default",
}

// byteLevelVocabs returns vocabularies of model "gpt2", one for each way to split text.
func (t *Tokenizer) byteLevelVocabs(v GGUFVocab, m *bpe) ([]GGUFVocab, error) {
	v.Model = "gpt2"
	if err := v.putAround(t); err != nil {
		return nil, err
	}
	for _, p := range m.ranked() {
		v.Merges = append(v.Merges, t.pieces[p.left]+" "+t.pieces[p.right])
	}
	var out []GGUFVocab
	for _, name := range preNames {
		if ggufPres[name].ignoreMerges == (m.whole != nil) {
			v.Pre = name
			out = append(out, v)
		}
	}
	return out, nil
}

// rankedPair is a pair of symbols and the token that joins them.
type rankedPair struct {
	left, right int32
	merge
}

// ranked lists the pairs that merge, in order of rank.
func (m *bpe) ranked() []rankedPair {
	var all []rankedPair
	for _, s := range m.pairs.slots {
		if s.key != 0 {
			all = append(all, rankedPair{int32((s.key - 1) >> 32), int32(s.key - 1), s.merge})
		}
	}
	slices.SortFunc(all, func(a, b rankedPair) int {
		return cmp.Or(cmp.Compare(a.rank, b.rank), cmp.Compare(a.left, b.left), cmp.Compare(a.right, b.right))
	})
	return all
}

// pieceVocabs returns vocabularies of SentencePiece's kinds: "t5" if t is a unigram model, else "llama". m is nil for
// the former.
func (t *Tokenizer) pieceVocabs(v GGUFVocab, m *bpe) ([]GGUFVocab, error) {
	data, err := readFile(t.file, maxFile)
	if err != nil {
		return nil, err
	}
	v.Model = "llama"
	v.Scores = make([]float32, len(v.Tokens))
	if looksLikeJSON(data) {
		if m == nil || !m.fallback {
			return nil, errors.New("it has neither byte tokens nor a SentencePiece model")
		}
		v.scoresOf(m)
		v.typesOf(m)
	} else if err := v.piecesOf(data); err != nil {
		return nil, err
	}
	if m == nil {
		v.Model = "t5"
	}
	if mask, ok := t.ids["[gMASK]"]; ok && len(t.prefix) == 2 && t.prefix[0] == int(mask) {
		v.Pre = "chatglm-spm" // its readers add both tokens
		none := false
		v.AddBOS, v.AddEOS = &none, &none
	} else {
		v.Pre = "default"
		if err := v.putAround(t); err != nil {
			return nil, err
		}
	}
	var out []GGUFVocab
	for _, space := range []bool{true, false} {
		v.AddSpacePrefix = &space
		out = append(out, v)
	}
	return out, nil
}

// scoresOf sets the tokens' scores by the ranks of the pairs that make them. A token that no pair makes has the lowest
// score.
func (v *GGUFVocab) scoresOf(m *bpe) {
	last := float32(-len(v.Tokens) - m.pairs.n)
	for id := range v.Scores {
		v.Scores[id] = last
	}
	for _, p := range m.ranked() {
		if s := float32(-p.rank); int(p.id) < len(v.Scores) && s > v.Scores[p.id] {
			v.Scores[p.id] = s
		}
	}
}

// typesOf sets the types of the byte tokens and the unknown token.
func (v *GGUFVocab) typesOf(m *bpe) {
	for _, id := range m.byteIDs {
		if id >= 0 && int(id) < len(v.Types) {
			v.Types[id] = int32(pieceByte)
		}
	}
	if m.unk >= 0 && int(m.unk) < len(v.Types) {
		v.Types[m.unk] = int32(pieceUnknown)
		v.UNK = int(m.unk)
	}
}

// piecesOf takes scores and types from the SentencePiece model that t was made from. Tokens added to that keep their
// own.
func (v *GGUFVocab) piecesOf(data []byte) error {
	p, err := readPieceModel(data)
	if err != nil {
		return err
	}
	if len(p.pieces) > len(v.Tokens) {
		return fmt.Errorf("%d pieces for %d tokens", len(p.pieces), len(v.Tokens))
	}
	for id, piece := range p.pieces {
		v.Scores[id] = piece.score
		if piece.kind == pieceUnknown {
			v.UNK = id
		}
		if kind := pieceType(v.Types[id]); piece.kind != pieceNormal || kind != pieceUserDefined {
			v.Types[id] = int32(piece.kind)
		}
	}
	// This is the converter's score for tokens that are not pieces: all other merges come before theirs.
	for id := len(p.pieces); id < len(v.Scores); id++ {
		v.Scores[id] = -1000
	}
	v.PrecompiledCharsmap = p.charsMap
	v.RemoveExtraWhitespaces = &p.norm.removeExtraWhitespaces
	if p.norm.whitespaceAsSuffix || !p.norm.escapeWhitespaces {
		return errors.New("it puts spaces after words or does not escape them")
	}
	if p.modelType != 1 && (p.norm.removeExtraWhitespaces || len(p.charsMap) > 0) {
		return errors.New("it normalises text before splitting it, which a vocabulary of model \"llama\" can't express")
	}
	return nil
}

// probes are texts that different ways of splitting split differently: spaces, digits, contractions, punctuation,
// scripts, bytes.
var probes = []string{
	"Hello, world! How are you?", "  two  spaces   three\n\n\nlines\r\n\t tabs ", " 1 22 333 4444 55555 666666 3.14159, 1,000,000 2024-05-06",
	"I'm you're he'll WE'VE it'S don't 'quoted' ''", "foo_bar(x) -> {a: [1, 2]}; // comment!!!??? ...---... $5.00 <tag/> a|b a^b `tick`",
	"Ünïcödé naïve café ÀÉÎ ǅ", "你好，世界。我是一个程序。", "こんにちは カタカナ 한국어 텍스트", "Привет мир Ελληνικά עברית العربية हिन्दी ไทย ខ្មែរ",
	"🦙🚀 👩‍👩‍👧 é ½ Ⅷ ٣ ①", "CamelCaseWORDS ALLCAPS mixedCASE123abc", strings.Repeat("a", 40) + " " + strings.Repeat(" ", 17) + "x",
	"\u00a0nbsp\u2003em\u200bzero", "a\nb\n\nc \n d\n", "e.g. U.S.A. @user #tag http://x.y/z?q=1&r=2",
}

// splitsLike reports whether a vocabulary gives the same tokens as t; if not, it returns a text for which it doesn't.
func (t *Tokenizer) splitsLike(ctx context.Context, v GGUFVocab) (string, bool) {
	other, err := NewGGUF(ctx, v)
	if err != nil {
		return err.Error(), false
	}
	for _, text := range probes {
		for _, o := range []EncodeOptions{{}, {AddSpecial: true}} {
			want, err := t.TryEncode(text, o)
			if err != nil {
				continue
			}
			if got, err := other.TryEncode(text, o); err != nil || !slices.Equal(got, want) {
				return text, false
			}
		}
	}
	return "", true
}
