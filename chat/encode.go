package chat

import (
	"context"
	"fmt"
	"slices"
	"sort"
	"strings"

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
	// Thinking is the mark with which the template began the assistant's reasoning at the prompt's end, "<think>" or
	// "[THINK]". It is "" if the reasoning, if any, is the answer's to begin.
	Thinking string
}

// thinkMarks are the texts that begin reasoning.
var thinkMarks = []string{"<think>", "[THINK]"}

// thinking returns the mark that begins reasoning at the end of a prompt, if it is the format's own text.
func thinking(segments []Segment) string {
	if len(segments) > 0 && segments[len(segments)-1].ParseSpecial {
		text := strings.TrimSpace(segments[len(segments)-1].Text)
		for _, mark := range thinkMarks {
			if strings.HasSuffix(text, mark) {
				return mark
			}
		}
	}
	return ""
}

// Encode returns the prompt for the assistant's next turn.
func (f *Format) Encode(ctx context.Context, tok Encoder, msgs []Message) ([]int, error) {
	p, err := f.EncodeWith(ctx, tok, msgs, Options{})
	return p.IDs, err
}

// EncodeWith is Encode with options. Errors are those of Render, *TokenError, *TooLongError and the tokenizer's.
func (f *Format) EncodeWith(ctx context.Context, tok Encoder, msgs []Message, o Options) (Prompt, error) {
	p, err := f.encode(ctx, tok, msgs, o)
	if err != nil || o.MaxTokens <= 0 || len(p.IDs) <= o.MaxTokens {
		return p, err
	}
	// Leave out as few of the oldest rounds as possible.
	system := 0
	for system < len(msgs) && (msgs[system].Role == "system" || msgs[system].Role == "developer") {
		system++
	}
	starts := rounds(msgs, system)
	from := func(start int) []Message { return append(slices.Clone(msgs[:system]), msgs[start:]...) }
	n := sort.Search(len(starts), func(i int) bool {
		if err != nil {
			return true
		}
		var shorter Prompt
		shorter, err = f.encode(ctx, tok, from(starts[i]), o)
		return err == nil && len(shorter.IDs) <= o.MaxTokens
	})
	if err != nil {
		return Prompt{}, err
	}
	if len(starts) > 0 {
		start := starts[min(n, len(starts)-1)]
		if p, err = f.encode(ctx, tok, from(start), o); err != nil {
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

// rounds returns where a conversation may begin after its oldest rounds were left out: at user messages after the first
// message that may go, but not between a tool call and its result.
func rounds(msgs []Message, first int) []int {
	results := make([]int, len(msgs)+1) // by message with calls: where its last result is
	calls := map[string]int{}           // by id: the message with that call
	last := -1                          // the last message with calls
	for i, m := range msgs {
		for _, c := range m.ToolCalls {
			calls[c.ID], last = i, i
		}
		if m.Role != "tool" {
			continue
		}
		call, ok := calls[m.ToolCallID]
		if !ok {
			call = last
		}
		if call >= 0 {
			results[call] = i
		}
	}
	var starts []int
	open := 0 // the last result of the calls before i
	for i, m := range msgs {
		if m.Role == "user" && i > first && i > open {
			starts = append(starts, i)
		}
		open = max(open, results[i])
	}
	return starts
}

// encode returns the prompt of all messages.
func (f *Format) encode(ctx context.Context, tok Encoder, msgs []Message, o Options) (Prompt, error) {
	for _, t := range f.needs {
		if _, ok := tok.TokenID(t); !ok {
			return Prompt{}, &TokenError{f.name, t}
		}
	}
	segments, err := f.RenderWith(ctx, msgs, o)
	if err != nil {
		return Prompt{}, err
	}
	// The tokens that end a turn are marks even in a prompt that has no such turn yet.
	marks := slices.Concat(f.needs, f.stop)
	var ids []int
	for i := 0; i < len(segments); {
		for _, t := range segments[i].Tokens {
			id, ok := tok.TokenID(t)
			if !ok {
				return Prompt{}, &TokenError{f.name, t}
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
			return Prompt{}, fmt.Errorf("chat: format %s: %w", f.name, err)
		}
		ids = append(ids, encoded...)
	}
	p := Prompt{IDs: ids}
	if !o.NoGenerationPrompt {
		p.Thinking = thinking(segments)
	}
	return p, nil
}
