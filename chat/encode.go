package chat

import (
	"context"
	"fmt"
	"slices"
	"sort"

	"pumice/tokenizer"
)

// An Encoder has the methods of a *tokenizer.Tokenizer that formats need.
type Encoder interface {
	EncodeSpans(spans []tokenizer.Span, marks ...string) ([]int, error)
	TokenID(text string) (int, bool)
}

// A Prompt is an encoded conversation.
type Prompt struct {
	IDs     []int
	Dropped int // oldest messages left out; system messages are kept
	Cut     int // tokens cut off the start of the remaining prompt
}

// Encode returns the prompt for the assistant's next turn.
func (f *Format) Encode(ctx context.Context, tok Encoder, msgs []Message) ([]int, error) {
	p, err := f.EncodeWith(ctx, tok, msgs, Options{})
	return p.IDs, err
}

// EncodeWith is Encode with options. Errors are those of Render, *TokenError, *TooLongError and the tokenizer's.
func (f *Format) EncodeWith(ctx context.Context, tok Encoder, msgs []Message, o Options) (Prompt, error) {
	ids, err := f.encode(ctx, tok, msgs, o)
	if err != nil || o.MaxTokens <= 0 || len(ids) <= o.MaxTokens {
		return Prompt{IDs: ids}, err
	}
	// Leave out as few of the oldest rounds as possible. A round starts with a user message.
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
		shorter, err = f.encode(ctx, tok, from(starts[i]), o)
		return err == nil && len(shorter) <= o.MaxTokens
	})
	if err != nil {
		return Prompt{}, err
	}
	p := Prompt{IDs: ids}
	if len(starts) > 0 {
		start := starts[min(n, len(starts)-1)]
		if p.IDs, err = f.encode(ctx, tok, from(start), o); err != nil {
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

func (f *Format) encode(ctx context.Context, tok Encoder, msgs []Message, o Options) ([]int, error) {
	for _, t := range f.needs {
		if _, ok := tok.TokenID(t); !ok {
			return nil, &TokenError{f.name, t}
		}
	}
	segments, err := f.RenderWith(ctx, msgs, o)
	if err != nil {
		return nil, err
	}
	// The tokens that end a turn are marks even in a prompt that has no such turn yet.
	marks := slices.Concat(f.needs, f.stop)
	var ids []int
	for i := 0; i < len(segments); {
		for _, t := range segments[i].Tokens {
			id, ok := tok.TokenID(t)
			if !ok {
				return nil, &TokenError{f.name, t}
			}
			ids = append(ids, id)
		}
		var joined []tokenizer.Span
		for ok := true; ok; ok = i < len(segments) && segments[i].Join {
			joined = append(joined, tokenizer.Span{Text: segments[i].Text, Foreign: !segments[i].ParseSpecial})
			i++
		}
		encoded, err := tok.EncodeSpans(joined, marks...)
		if err != nil {
			return nil, fmt.Errorf("chat: format %s: %w", f.name, err)
		}
		ids = append(ids, encoded...)
	}
	return ids, nil
}
