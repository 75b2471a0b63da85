package chat

import (
	"slices"
	"sort"
	"strings"
	"unicode/utf8"

	"pumice/tokenizer"
)

// An Encoder is the part of a *tokenizer.Tokenizer that formats need.
type Encoder interface {
	Encode(text string, o tokenizer.EncodeOptions) []int
	TokenID(text string) (int, bool)
	Piece(id int) string
	IsSpecial(id int) bool
}

// A Prompt is an encoded conversation.
type Prompt struct {
	IDs     []int
	Dropped int // messages left out at the beginning, system messages not counted
	Cut     int // tokens cut on the left of what is left
}

// Encode returns the prompt that asks for the assistant's next turn.
func (f *Format) Encode(tok Encoder, msgs []Message) ([]int, error) {
	p, err := f.EncodeWith(tok, msgs, Options{})
	return p.IDs, err
}

// EncodeWith is Encode with options. Errors are those of Render, *TokenError and *TooLongError.
func (f *Format) EncodeWith(tok Encoder, msgs []Message, o Options) (Prompt, error) {
	ids, err := f.encode(tok, msgs, o)
	if err != nil || o.MaxTokens <= 0 || len(ids) <= o.MaxTokens {
		return Prompt{IDs: ids}, err
	}
	// Leave out as few of the oldest rounds as will do. A round starts with a user message.
	system := 0
	for system < len(msgs) && msgs[system].Role == "system" {
		system++
	}
	var starts []int
	for i := system; i < len(msgs); i++ {
		if msgs[i].Role == "user" && i > system {
			starts = append(starts, i)
		}
	}
	from := func(start int) []Message { return append(slices.Clone(msgs[:system]), msgs[start:]...) }
	n := sort.Search(len(starts), func(i int) bool {
		if err != nil {
			return true
		}
		var shorter []int
		shorter, err = f.encode(tok, from(starts[i]), o)
		return err == nil && len(shorter) <= o.MaxTokens
	})
	if err != nil {
		return Prompt{}, err
	}
	p := Prompt{IDs: ids}
	if len(starts) > 0 {
		start := starts[min(n, len(starts)-1)]
		if p.IDs, err = f.encode(tok, from(start), o); err != nil {
			return Prompt{}, err
		}
		p.Dropped = start - system
	}
	if over := len(p.IDs) - o.MaxTokens; over > 0 {
		if !f.cutLeft {
			return Prompt{}, &TooLongError{Format: f.name, Tokens: len(p.IDs), Max: o.MaxTokens}
		}
		p.IDs, p.Cut = p.IDs[over:], over
	}
	return p, nil
}

func (f *Format) encode(tok Encoder, msgs []Message, o Options) ([]int, error) {
	for _, t := range f.needs {
		if _, ok := tok.TokenID(t); !ok {
			return nil, &TokenError{f.name, t}
		}
	}
	segments, err := f.RenderWith(msgs, o)
	if err != nil {
		return nil, err
	}
	var ids []int
	e := runEncoder{tok: tok, markers: f.markers}
	for i := 0; i < len(segments); {
		for _, t := range segments[i].Tokens {
			id, ok := tok.TokenID(t)
			if !ok {
				return nil, &TokenError{f.name, t}
			}
			ids = append(ids, id)
		}
		end := i + 1
		for end < len(segments) && segments[end].Join {
			end++
		}
		ids = append(ids, e.encode(segments[i:end])...)
		i = end
	}
	return ids, nil
}

// runEncoder tokenizes a run: segments that are one text to the tokenizer, special tokens in some of them.
type runEncoder struct {
	tok     Encoder
	markers []string
}

// encode tokenizes the run as one text with special tokens recognised everywhere, as transformers does, and looks where they
// were found. Nearly always that is in the format's own text only, and the result stands. When a message holds the text of a
// special token, or makes one together with the text beside it, the run is encoded again in pieces.
func (e runEncoder) encode(run []Segment) []int {
	var b strings.Builder
	parse := false
	for _, s := range run {
		b.WriteString(s.Text)
		parse = parse || s.ParseSpecial
	}
	text := b.String()
	if text == "" {
		return nil
	}
	ids := e.tok.Encode(text, tokenizer.EncodeOptions{ParseSpecial: parse})
	segment, end := 0, len(run[0].Text)
	for _, o := range e.specials(text, ids) {
		for o.from >= end {
			segment++
			end += len(run[segment].Text)
		}
		if !run[segment].ParseSpecial || o.to > end {
			return e.pieces(run)
		}
	}
	return ids
}

// occurrence is a special token in a text.
type occurrence struct{ id, from, to int }

// specials finds where in text its special tokens and markers were found, given the ids it was encoded to.
func (e runEncoder) specials(text string, ids []int) []occurrence {
	var out []occurrence
	at := 0
	for _, id := range ids {
		piece := e.tok.Piece(id)
		if piece == "" || !(e.tok.IsSpecial(id) || slices.Contains(e.markers, piece)) {
			continue
		}
		// An unknown token is special and has no place in the text.
		if i := strings.Index(text[at:], piece); i >= 0 {
			out = append(out, occurrence{id, at + i, at + i + len(piece)})
			at += i + len(piece)
		}
	}
	return out
}

// pieces tokenizes a run in which a message holds the text of a special token: the tokens of the format's own text by their
// ids, and what lies between them without special tokens. Text between special tokens is ordinary text to every
// tokenizer, so this differs from one pass at most in whether a piece begins with a prefix space.
func (e runEncoder) pieces(run []Segment) []int {
	var ids []int
	var plain strings.Builder
	flush := func() {
		if plain.Len() > 0 {
			ids = append(ids, e.tok.Encode(plain.String(), tokenizer.EncodeOptions{})...)
			plain.Reset()
		}
	}
	for _, s := range run {
		if !s.ParseSpecial {
			// A marker is found in any text. Its first character is cut off, and it is none.
			for from := 0; ; {
				i, n := e.marker(s.Text[from:])
				if i < 0 {
					plain.WriteString(s.Text[from:])
					break
				}
				_, first := utf8.DecodeRuneInString(s.Text[from+i:])
				plain.WriteString(s.Text[from : from+i+first])
				flush()
				plain.WriteString(s.Text[from+i+first : from+i+n])
				from += i + n
			}
			continue
		}
		at := 0
		for _, o := range e.specials(s.Text, e.tok.Encode(s.Text, tokenizer.EncodeOptions{ParseSpecial: true})) {
			plain.WriteString(s.Text[at:o.from])
			flush()
			ids = append(ids, o.id)
			at = o.to
		}
		plain.WriteString(s.Text[at:])
	}
	flush()
	return ids
}

// marker finds the first marker in text.
func (e runEncoder) marker(text string) (at, length int) {
	at = -1
	for _, m := range e.markers {
		if i := strings.Index(text, m); i >= 0 && (at < 0 || i < at) {
			at, length = i, len(m)
		}
	}
	return at, length
}
