package tokenizer

import (
	"context"
	"fmt"
	"math"
	"strings"
	"unicode/utf8"
)

// GGUFVocab is the vocabulary of a GGUF file: its tokenizer.ggml keys.
type GGUFVocab struct {
	File   string // for errors
	Model  string // tokenizer.ggml.model: "llama", "gpt2", "t5" or "bert"
	Pre    string // tokenizer.ggml.pre: names the patterns that split text for a "gpt2" vocabulary
	Tokens []string
	Scores []float32 // nil if all are equal
	Types  []int32   // SentencePiece's, from 1 normal to 6 byte; nil if all are normal
	Merges []string  // "a b", of model "gpt2"

	BOS, EOS, UNK, PAD             int   // -1 if absent
	CLS, SEP                       int   // around a text of model "bert"; 0 and -1 stand for the tokens [CLS] and [SEP]
	AddBOS, AddEOS, AddSpacePrefix *bool // nil if absent
	RemoveExtraWhitespaces         *bool
	PrecompiledCharsmap            []byte
	Lowercase, StripAccents        *bool // of model "bert": tokenizer.ggml.normalizer; nil if absent
}

// ggufPre says how the pre-tokenizer of a name splits text. Each pattern splits the pre-tokens left
// by the patterns before it (llama.cpp's unicode_regex_split).
type ggufPre struct {
	patterns     []string
	ignoreMerges bool // a word that is a token is not split
	addBOS       bool
}

const (
	patternO200K = `[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?` +
		`|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?` +
		`|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+`
	patternTekken = `[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+` +
		`|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*` +
		`|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+`
	patternBloom       = ` ?[^(\s|.,!?…。，、।۔،)]+`
	patternPunct       = "[\\p{P}\\$\\+<=>\\^~\\|`]+"
	patternPunctNoTick = `[\p{P}\$\+<=>\^~\|]+`
	patternCJK         = `[一-龥ࠀ-一가-퟿]+`
)

var (
	preGPT2      = ggufPre{patterns: []string{patternGPT2}}
	preStarCoder = ggufPre{patterns: []string{`\p{N}`, patternGPT2}}
	preQwen2     = ggufPre{patterns: []string{patternQwen2Spread}}
	preLlama3    = ggufPre{patterns: []string{patternLlama3Spread}, ignoreMerges: true, addBOS: true}
	preDBRX      = ggufPre{patterns: []string{patternLlama3Spread}}
	preBloom     = ggufPre{patterns: []string{patternBloom}}
	preO200K     = ggufPre{patterns: []string{patternO200K}}
)

// ggufPres lists the names that llama.cpp writes (its llama-vocab.cpp, 2025).
var ggufPres = map[string]ggufPre{
	"":        {patterns: []string{patternPunctNoTick, patternGPT2, `\p{N}+`, `[0-9][0-9][0-9]`}},
	"default": {patterns: []string{patternPunctNoTick, patternGPT2, `\p{N}+`, `[0-9][0-9][0-9]`}},
	"llama3":  preLlama3, "llama-v3": preLlama3, "llama-bpe": preLlama3, "falcon3": preLlama3,
	"dbrx": preDBRX, "smaug-bpe": preDBRX, "chatglm-bpe": preDBRX,
	"falcon": {patterns: []string{patternPunct, patternGPT2, `[0-9][0-9][0-9]`}},
	"gpt-2":  preGPT2, "gpt2": preGPT2, "phi-2": preGPT2, "mpt": preGPT2, "olmo": preGPT2, "gpt-neox": preGPT2, "jais": preGPT2,
	"jina-es": preGPT2, "jina-de": preGPT2, "jina-v1-en": preGPT2, "jina-v2-es": preGPT2, "jina-v2-de": preGPT2,
	"jina-v2-code": preGPT2, "gigachat": preGPT2, "roberta-bpe": preGPT2,
	"starcoder": preStarCoder, "refact": preStarCoder, "command-r": preStarCoder, "smollm": preStarCoder,
	"codeshell": preStarCoder, "exaone": preStarCoder, "minerva-7b": preStarCoder,
	"qwen2": preQwen2, "stablelm2": preQwen2, "megrez": preQwen2, "deepseek-r1-qwen": preQwen2,
	"gpt-4o": preO200K, "llama4": preO200K,
	"tekken":    {patterns: []string{patternTekken}, ignoreMerges: true, addBOS: true},
	"poro-chat": preBloom, "bloom": preBloom, "gpt3-finnish": preBloom,
	"viking": {patterns: []string{patternBloom, `\p{N}`}},
	"deepseek-llm": {patterns: []string{
		`[\r\n]`,
		`\s?[A-Za-zµÀ-ÖØ-öø-ƺƼ-ƿǄ-ʓʕ-ʯͰ-ͳͶͷͻ-ͽͿΆΈ-ΊΌΎ-ΡΣ-ϵϷ-ҁҊ-ԯԱ-ՖႠ-ჅᎠ-Ᏽᏸ-ᏽᲐ-ᲺᲽ-Ჿᴀ-ᴫᵫ-ᵷᵹ-ᶚḀ-ἕἘ-Ἕἠ-ὅὈ-Ὅὐ-ὗὙὛὝὟ-\u1F7Dᾀ-ᾴᾶ-ᾼ\u1FBEῂ-ῄῆ-ῌῐ-\u1FD3ῖ-\u1FDBῠ-Ῥῲ-ῴῶ-ῼ` +
			`ℂℇℊ-ℓℕℙ-ℝℤ\u2126ℨ\u212A-ℭℯ-ℴℹℼ-ℿⅅ-ⅉⅎↃↄⰀ-ⱻⱾ-ⳤⳫ-ⳮⳲⳳꙀ-ꙭꚀ-ꚛꜢ-ꝯꝱ-ꞇꞋ-ꞎꭰ-ꮿﬀ-ﬆﬓ-ﬗＡ-Ｚａ-ｚ𐐀-𐑏𐒰-𐓓𐓘-𐓻𐲀-𐲲𐳀-𐳲𑢠-𑣟𞤀-𞥃]+`,
		`\s?[!-/:-~！-／：-～‘-‟　-。]+`,
		`\s+\z`,
		patternCJK,
		`\p{N}+`,
	}},
	"deepseek-coder": {patterns: []string{`[\r\n]`, `\s?\p{L}+`, `\s?\p{P}+`, patternCJK, `\p{N}`}},
	"deepseek-v3": {patterns: []string{
		`\p{N}{1,3}`,
		`[一-龥぀-ゟ゠-ヿ]+`,
		"[!\"#$%&'()*+,\\-./:;<=>?@\\[\\\\\\]^_`{|}~][A-Za-z]+|[^\\r\\n\\p{L}\\p{P}\\p{S}]?[\\p{L}\\p{M}]+| ?[\\p{P}\\p{S}]+[\\r\\n]*" +
			`|\s*[\r\n]+|\s+(?!\S)|\s+`,
	}},
	"chameleon": {patterns: []string{
		`<sentinel:[0-9]+>`, `(IMGIMG)((A|B|C|D|E|F|G|H|I){1,4})Z`, `([\t\n]|    |  )`, `\p{N}`,
		"[\\p{P}!-/:-@\\[-`{-~]", patternGPT2,
	}, addBOS: true},
}

// NewGGUF builds the tokenizer of a GGUF vocabulary, as llama.cpp reads it. Errors are *FormatError, *UnsupportedError,
// or that of ctx, whose end stops it.
func NewGGUF(ctx context.Context, v GGUFVocab) (*Tokenizer, error) {
	r := newReader(ctx, v.File, 0)
	for i, text := range v.Tokens {
		if r.size += len(text); len(text) > maxPiece {
			r.fail(fmt.Sprintf("tokenizer.ggml.tokens[%d]", i), "token of %d bytes, the limit is %d", len(text), maxPiece)
		}
	}
	if len(v.Tokens) == 0 || len(v.Tokens) > maxVocab {
		r.fail("tokenizer.ggml.tokens", "%d tokens", len(v.Tokens))
	}
	if v.Scores != nil && len(v.Scores) != len(v.Tokens) {
		r.fail("tokenizer.ggml.scores", "%d for %d tokens", len(v.Scores), len(v.Tokens))
	}
	if v.Types != nil && len(v.Types) != len(v.Tokens) {
		r.fail("tokenizer.ggml.token_type", "%d for %d tokens", len(v.Types), len(v.Tokens))
	}
	for _, id := range [...]struct {
		key string
		id  int
	}{{"bos", v.BOS}, {"eos", v.EOS}, {"unknown", v.UNK}, {"padding", v.PAD}, {"cls", v.CLS}, {"seperator", v.SEP}} {
		if id.id < -1 || id.id >= len(v.Tokens) {
			r.fail("tokenizer.ggml."+id.key+"_token_id", "%d of %d tokens", id.id, len(v.Tokens))
		}
	}
	if r.err != nil {
		return nil, r.err
	}
	t := newTokenizer(v.File)
	t.ids = make(map[string]int32, len(v.Tokens))
	switch v.Model {
	case "gpt2":
		v.buildBPE(t, r)
	case "llama", "t5":
		v.buildPieces(t, r)
	case "bert":
		v.buildWordPiece(t, r)
	default:
		r.unsupported("tokenizer.ggml.model", "vocabulary %q", v.Model)
	}
	if r.err != nil {
		return nil, r.err
	}
	t.config.AddBOS, t.config.AddEOS = v.AddBOS, v.AddEOS
	for _, s := range [...]struct {
		id   int
		text *string
	}{{t.bos, &t.config.BOSToken}, {t.eos, &t.config.EOSToken}, {v.UNK, &t.config.UNKToken}, {v.PAD, &t.config.PADToken}} {
		if s.id >= 0 {
			*s.text = t.pieces[s.id]
		}
	}
	t.buildAdded(r)
	if r.err != nil {
		return nil, r.err
	}
	return t, nil
}

func (v *GGUFVocab) kind(i int) pieceType {
	if v.Types == nil {
		return pieceNormal
	}
	if v.Types[i] == 0 { // undefined
		return pieceNormal
	}
	return pieceType(v.Types[i])
}

// text returns a token's text; an empty text is replaced by a name, as in llama.cpp.
func (v *GGUFVocab) text(i int) string {
	if v.Tokens[i] == "" {
		return fmt.Sprintf("[EMPTY_%d]", i)
	}
	return v.Tokens[i]
}

// or returns *p, or def if p is nil.
func or(p *bool, def bool) bool {
	if p == nil {
		return def
	}
	return *p
}

// around sets BOS and EOS, and which of them AddSpecial adds. Both are special whatever
// their tokens' types.
func (v *GGUFVocab) around(t *Tokenizer, r *reader, addBOS, addEOS bool) {
	t.bos, t.eos = v.BOS, v.EOS
	for _, id := range []int{v.BOS, v.EOS} {
		if id >= 0 && t.flags[id]&flagSpecial == 0 {
			t.addToken(r, AddedToken{ID: id, Content: t.pieces[id], Special: true}, "tokenizer.ggml.tokens")
		}
	}
	if or(v.AddBOS, addBOS) && t.bos >= 0 {
		t.prefix = []int{t.bos}
	}
	if or(v.AddEOS, addEOS) && t.eos >= 0 {
		t.suffix = []int{t.eos}
	}
}

func (v *GGUFVocab) buildBPE(t *Tokenizer, r *reader) {
	pre, ok := ggufPres[v.Pre]
	if !ok {
		r.unsupported("tokenizer.ggml.pre", "pre-tokenizer %q", v.Pre)
		return
	}
	for _, expr := range pre.patterns {
		p, err := ggufSplit(expr)
		if err != nil {
			r.unsupported("tokenizer.ggml.pre", "pattern %q: %q", expr, err)
			return
		}
		t.pre = append(t.pre, p)
	}
	t.pre = append(t.pre, byteLevelSplit{})
	at := func(list string, i int) string { return fmt.Sprintf("tokenizer.ggml.%s[%d]", list, i) }
	m := newBPE(t)
	for i := range v.Tokens {
		if !r.going(i) {
			return
		}
		text, kind := v.text(i), v.kind(i)
		if _, again := t.ids[text]; again {
			r.fail(at("tokens", i), "duplicate token %q", text)
			return
		}
		t.setPiece(r, i, text, "tokenizer.ggml.tokens")
		switch kind {
		case pieceUnknown, pieceControl, pieceUserDefined:
			t.addToken(r, AddedToken{ID: i, Content: text, Special: kind != pieceUserDefined}, "tokenizer.ggml.tokens")
		}
		if c, n := utf8.DecodeRuneInString(text); n == len(text) {
			m.setRune(c, int32(i))
		}
		if r.err != nil {
			return
		}
	}
	if pre.ignoreMerges {
		m.whole = t.ids
	}
	m.pairs = newPairTable(min(len(v.Merges), maxVocab))
	for i, s := range v.Merges {
		if !r.going(i) {
			return
		}
		k := -1
		if s != "" {
			k = strings.IndexByte(s[1:], ' ') + 1
		}
		if k <= 0 || k+1 == len(s) {
			r.fail(at("merges", i), "merge %q is not two tokens", s)
			return
		}
		a, okA := t.ids[s[:k]]
		b, okB := t.ids[s[k+1:]]
		id, ok := t.ids[s[:k]+s[k+1:]]
		if !okA || !okB || !ok {
			r.fail(at("merges", i), "%q: not in the vocabulary", s)
			return
		}
		if m.pairs.get(a, b).rank == noRank { // the first of equal merges wins here
			m.pairs.put(a, b, merge{int32(i), id})
		}
	}
	t.model = m
	t.decoder = byteLevelDecoder{}
	if v.Pre == "chatglm-bpe" {
		v.BOS = -1
	}
	v.around(t, r, pre.addBOS, false)
	t.useRawBytes()
}

// ggufSplit returns the splitter of one pattern, hand-written if there is such a one.
func ggufSplit(expr string) (preTokenizer, error) {
	switch expr {
	case patternPunct:
		return classSplit{class: classPunct, how: contiguous}, nil
	case patternPunctNoTick:
		return classSplit{class: classPunct, how: contiguous, except: '`'}, nil
	}
	if p := knownSplit(expr, isolated, false); p != nil {
		return p, nil
	}
	re, err := compilePattern(expr)
	if err != nil {
		return nil, err
	}
	return regexSplit{re: re, how: isolated}, nil
}

func (v *GGUFVocab) buildPieces(t *Tokenizer, r *reader) {
	b := &pieceBuilder{t: t, r: r, path: "tokenizer.ggml.tokens", fallback: true, lenient: true, pieces: make([]piece, len(v.Tokens))}
	for i := range v.Tokens {
		p := piece{text: v.text(i), kind: v.kind(i)}
		if v.Scores != nil {
			p.score = v.Scores[i]
		}
		if math.IsInf(float64(p.score), -1) {
			p.score = -math.MaxFloat32
		}
		if _, ok := isByteToken(p.text); ok && v.Types == nil {
			p.kind = pieceByte
		}
		if v.Types == nil && i == v.UNK {
			p.kind = pieceUnknown
		}
		b.pieces[i] = p
	}
	b.enter()
	if r.err != nil {
		return
	}
	// llama.cpp cuts user-defined tokens out of the text like special ones.
	b.user = nil
	for i, p := range b.pieces {
		if p.kind == pieceUserDefined {
			t.addToken(r, AddedToken{ID: i, Content: p.text}, b.path)
		}
	}
	if b.unk < 0 && v.UNK >= 0 {
		b.unk = int32(v.UNK)
	}
	t5 := v.Model == "t5"
	n := &pieceNorm{escapeWhitespaces: true, addDummyPrefix: or(v.AddSpacePrefix, !t5),
		removeExtraWhitespaces: t5 && or(v.RemoveExtraWhitespaces, false)}
	if t5 {
		if len(v.PrecompiledCharsmap) > 0 {
			m, err := parseCharsMap(v.PrecompiledCharsmap)
			if err != nil {
				r.fail("tokenizer.ggml.precompiled_charsmap", "%v", err)
				return
			}
			n.m = m
		}
		t.model = b.unigram()
	} else {
		t.model = b.bpe()
		v.defaults(b)
	}
	if r.err != nil {
		return
	}
	t.normalizer = n
	t.decoder = &pieceDecoder{bytes: b.bytes, unk: b.unk, unkText: " \u2047 ", plain: b.plain,
		stripFirst: n.addDummyPrefix || n.removeExtraWhitespaces, stripAll: n.removeExtraWhitespaces}
	v.around(t, r, !t5, t5)
	for id := range t.added.byID {
		b.plain[id] = true
	}
	if v.Pre == "chatglm-spm" {
		mask, okM := t.ids["[gMASK]"]
		sop, okS := t.ids["sop"]
		if !okM || !okS {
			r.fail("tokenizer.ggml.tokens", "no tokens [gMASK] and sop, which chatglm-spm puts before a text")
			return
		}
		t.prefix = []int{int(mask), int(sop)}
		for _, id := range t.prefix {
			t.addToken(r, AddedToken{ID: id, Content: t.pieces[id], Special: true}, b.path)
			b.plain[int32(id)] = true
		}
	}
}

// defaults sets BOS and EOS of a "llama" vocabulary that doesn't define them to 1 and 2,
// if those are control tokens.
func (v *GGUFVocab) defaults(b *pieceBuilder) {
	for want, id := range map[int]*int{1: &v.BOS, 2: &v.EOS} {
		if *id < 0 && want < len(b.pieces) && b.pieces[want].kind == pieceControl {
			*id = want
		}
	}
}
