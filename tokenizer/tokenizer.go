// Package tokenizer turns text into token ids and back, exactly as the programs
// that models were trained with do. It reads Hugging Face tokenizer.json files,
// SentencePiece .model files and the vocabularies of GGUF files.
//
// A tokenizer's file is untrusted. Reading it takes time and memory in proportion to its size, and can be cancelled.
// Its stages make at most 64 times the bytes of a text, and its decoders 64 times the bytes of the tokens.
//
// A Tokenizer is the loaded file; a Stream decodes tokens as they are generated.
// The package does not train tokenizers and gives no offsets into the text.
package tokenizer

import (
	"fmt"
	"strings"
	"sync"
	"time"
	"unicode/utf8"
)

// Tokenizer encodes and decodes text. It is safe for concurrent use.
type Tokenizer struct {
	file   string
	pieces []string         // by id; "" if no token has the id
	ids    map[string]int32 // added tokens win over the model's
	flags  []uint8          // by id

	added      addedSet
	normalizer normalizer // nil if there is none
	pre        []preTokenizer
	model      model
	decoder    decoder // if nil, pieces are joined by spaces
	local      bool    // the decoder never changes the text of earlier tokens

	prefix, suffix []int // tokens that AddSpecial puts around the text
	bos, eos       int   // -1 if there is none
	config         Config

	mu   sync.Mutex
	idle []*encoder

	marksOnce  sync.Once
	marksFound *marks // the marks of every text
}

const (
	flagToken = 1 << iota
	flagSpecial
	flagShown // special but not skipped in decoding: SentencePiece's unknown piece
)

// EncodeOptions say how special tokens are treated. The zero value adds none, and encodes their spellings as ordinary
// text.
type EncodeOptions struct {
	// AddSpecial adds the tokens that the tokenizer puts around a text, such as BOS.
	AddSpecial bool
	// ParseSpecial turns the text of special tokens into those tokens. Without it
	// such text is encoded as ordinary text. Added tokens that are not special are
	// matched in both cases; only EncodeSpans keeps them out of a user's text.
	ParseSpecial bool
}

// encoder is the working memory of one Encode call.
type encoder struct {
	parseSpecial bool
	marks        *marks // with EncodeSpans: tokens that foreign text must not yield
	inside       bool   // the next text continues a word, so no space is put before it
	out          []int
	err          *EncodeError
	cache        *wordCache
	merge        merger
	scratch      [][]byte  // one buffer per pre-tokenizer
	runeBufs     []runeBuf // one per pre-tokenizer, and one for the normalizer
	best         []bestNode
	room         int       // bytes that the stages may still make
	steps        int       // steps that searching for tokens may still take
	deadline     time.Time // for all patterns together
}

// maxIdle is the number of encoders, each with its word cache, kept between calls.
const maxIdle = 4

func (t *Tokenizer) acquire() *encoder {
	t.mu.Lock()
	defer t.mu.Unlock()
	if n := len(t.idle); n > 0 {
		e := t.idle[n-1]
		t.idle = t.idle[:n-1]
		return e
	}
	e := newEncoder(len(t.pre), 0)
	e.cache = newWordCache()
	return e
}

func (t *Tokenizer) release(e *encoder) {
	e.out, e.err, e.marks, e.inside, e.deadline = nil, nil, nil, false, time.Time{}
	for i, b := range e.scratch {
		if cap(b) > keptBytes {
			e.scratch[i] = nil
		}
	}
	for i, b := range e.runeBufs {
		if cap(b.runes) > keptBytes/4 {
			e.runeBufs[i] = runeBuf{}
		}
	}
	if cap(e.best) > keptBytes/16 {
		e.best = nil
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.idle) < maxIdle {
		t.idle = append(t.idle, e)
	}
}

// Encode returns the tokens of text. Each byte that is not valid UTF-8 counts as U+FFFD.
// If TryEncode returns an error, which only some tokenizers can, Encode returns nil.
func (t *Tokenizer) Encode(text string, o EncodeOptions) []int {
	ids, err := t.TryEncode(text, o)
	if err != nil {
		return nil
	}
	return ids
}

// TryEncode is Encode with an error, always an *EncodeError, if text can't be
// encoded: a word is unknown and the model has no unknown token, a split
// pattern that is not built in ran out of time, or the stages
// of a hostile file made too much of the text.
func (t *Tokenizer) TryEncode(text string, o EncodeOptions) ([]int, error) {
	e := t.acquire()
	defer t.release(e)
	e.parseSpecial = o.ParseSpecial
	e.allow(len(text))
	e.out = make([]int, 0, 16+len(text)/4)
	if o.AddSpecial {
		e.out = append(e.out, t.prefix...)
	}
	raw, norm := t.added.plain, t.added.normPlain
	if o.ParseSpecial {
		raw, norm = t.added.raw, t.added.norm
	}
	if err := t.encode(e, validUTF8(text), nil, raw, norm); err != nil {
		return nil, err
	}
	if o.AddSpecial {
		e.out = append(e.out, t.suffix...)
	}
	return e.out, nil
}

// encode appends the tokens of text to e.out. raw and norm match its added tokens before and after normalizing. foreign
// says which bytes are foreign; with nil none is.
func (t *Tokenizer) encode(e *encoder, text []byte, foreign []bool, raw, norm *matcher) error {
	emit := t.stages(e)
	plain := func(s []byte, foreign []bool, first bool) {
		if e.marks == nil {
			emit(s, first)
		} else {
			t.guarded(e, s, foreign, first, emit)
		}
	}
	t.splitAdded(e, raw, text, foreign, true, func(s []byte, foreign []bool, first bool) {
		if e.marks != nil && !e.marks.normalized && e.marks.spelled.empty() {
			foreign = nil // no text can become a mark from here on
		}
		s, foreign, moved := t.normalized(e, s, foreign)
		t.splitAdded(e, norm, s, foreign, first && !moved, plain)
	})
	if e.err != nil {
		e.err.File = t.file
		return e.err
	}
	return nil
}

// stages chains the pre-tokenizers and the model: each passes its pre-tokens to the next
// as it finds them, so that no list of pre-tokens is ever built.
func (t *Tokenizer) stages(e *encoder) func(s []byte, first bool) {
	emit := func(s []byte, _ bool) {
		if len(s) > 0 && e.err == nil {
			t.model.encode(e, s)
		}
	}
	for i := len(t.pre) - 1; i >= 0; i-- {
		next, p, i := emit, t.pre[i], i
		emit = func(s []byte, first bool) {
			if len(s) > 0 && e.made(len(s)) {
				p.split(e, i, s, first, next)
			}
		}
	}
	return emit
}

func validUTF8(s string) []byte {
	if utf8.ValidString(s) {
		return []byte(s)
	}
	return []byte(string([]rune(s)))
}

func (e *encoder) fail(format string, args ...any) {
	if e.err == nil {
		e.err = &EncodeError{Msg: fmt.Sprintf(format, args...)}
	}
}

// Decode returns the text of ids. With skipSpecial it leaves out special tokens. An id without a token has no text.
// Bytes that form no character become U+FFFD. A decoder that would make the text 64 times as long has no effect.
func (t *Tokenizer) Decode(ids []int, skipSpecial bool) string {
	toks := make([]token, 0, len(ids))
	for _, id := range ids {
		if tok, ok := t.token(id, skipSpecial); ok {
			toks = append(toks, tok)
		}
	}
	return t.decode(toks, false)
}

// token is a token in the decoders.
type token struct {
	id   int32 // -1 after a decoder has joined tokens
	text string
}

func (t *Tokenizer) token(id int, skipSpecial bool) (token, bool) {
	if id < 0 || id >= len(t.pieces) || t.flags[id]&flagToken == 0 {
		return token{}, false
	}
	if skipSpecial && t.flags[id]&(flagSpecial|flagShown) == flagSpecial {
		return token{}, false
	}
	if text, ok := t.added.written[int32(id)]; ok {
		return token{int32(id), text}, true
	}
	return token{int32(id), t.pieces[id]}, true
}

// decode runs the decoders; mid says that text precedes these tokens.
func (t *Tokenizer) decode(toks []token, mid bool) string {
	if t.decoder == nil {
		var b strings.Builder
		for i, tok := range toks {
			if i > 0 || mid {
				b.WriteByte(' ')
			}
			b.WriteString(tok.text)
		}
		return b.String()
	}
	n := 0
	for _, tok := range toks {
		n += len(tok.text)
	}
	e := newEncoder(0, n)
	toks = t.decoder.decode(e, toks, mid)
	if len(toks) == 1 {
		return toks[0].text
	}
	var b strings.Builder
	for _, tok := range toks {
		b.WriteString(tok.text)
	}
	return b.String()
}

// Piece returns the token's text as the vocabulary spells it ("▁the", "Ġthe",
// "<0x0A>"), or "" if id has no token.
func (t *Tokenizer) Piece(id int) string {
	if id < 0 || id >= len(t.pieces) {
		return ""
	}
	return t.pieces[id]
}

// VocabSize returns one more than the highest token id.
func (t *Tokenizer) VocabSize() int { return len(t.pieces) }

// TokenID returns the id of the token with this spelling in the vocabulary.
func (t *Tokenizer) TokenID(text string) (int, bool) {
	id, ok := t.ids[text]
	return int(id), ok
}

// IsSpecial reports whether id is a special token.
func (t *Tokenizer) IsSpecial(id int) bool {
	return id >= 0 && id < len(t.flags) && t.flags[id]&flagSpecial != 0
}

func (t *Tokenizer) isSpecial(id int32) bool { return t.flags[id]&flagSpecial != 0 }

// BOS returns the beginning-of-text token, if there is one.
func (t *Tokenizer) BOS() (int, bool) { return t.bos, t.bos >= 0 }

// EOS returns the end-of-text token, if there is one.
func (t *Tokenizer) EOS() (int, bool) { return t.eos, t.eos >= 0 }

// Config returns the settings from the files beside the tokenizer.
func (t *Tokenizer) Config() Config { return t.config }
