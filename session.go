package pumice

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"pumice/model"
	"pumice/pipeline"
)

// A Session continues token ids on an Engine, and remembers which tokens the KV cache holds: of a longer prompt with
// the same beginning only the new tokens are evaluated. Only one goroutine at a time may use it. The sessions of an
// Engine share its one cache: a session evaluates its tokens again after another session was used.
type Session struct {
	engine *Engine
	cached []int // tokens whose keys and values are at positions 0.. of the cache, if the session owns it
	result Result

	written int // 1 + the highest position that may have been written since the cache was last filled from the start
	changes int // counts changes of cached, other than by the generation that knows its own
}

// ErrEmptyPrompt says that there is no token to continue.
var ErrEmptyPrompt = errors.New("pumice: the prompt is empty")

// A PromptError says that the context can't hold a prompt.
type PromptError struct{ Tokens, Context int }

func (e *PromptError) Error() string {
	return fmt.Sprintf("pumice: the prompt has %d tokens, the context holds %d", e.Tokens, e.Context)
}

// Reset forgets all tokens, so that the next prompt is evaluated from its start.
func (s *Session) Reset() { s.Truncate(0) }

// Truncate forgets all but the first n tokens, so that the next prompt reuses at most these. A caller that always
// truncates at the same positions has the same tokens evaluated in the same chunks, and so gets the same logits to the
// last bit.
func (s *Session) Truncate(n int) {
	s.cached = s.cached[:max(0, min(n, len(s.cached)))]
	s.changes++
}

// checkPrompt checks a prompt before anything is evaluated.
func (e *Engine) checkPrompt(prompt []int) error {
	if len(prompt) == 0 {
		return ErrEmptyPrompt
	}
	for i, id := range prompt {
		if id < 0 || id >= e.vocab {
			return &model.TokenError{Index: i, ID: id, VocabSize: e.vocab}
		}
	}
	if len(prompt) > e.context {
		return &PromptError{len(prompt), e.context}
	}
	return nil
}

// An evaluation says what evaluate does besides evaluating the tokens.
type evaluation struct {
	tail     model.Tail
	progress func(done, total int)
	use      func(out model.Output, draft []int) error // called with the output at the last token, under e.turn

	// These matter if only the last token is to be evaluated.
	steps int                        // tokens that the device may choose; it evaluates all but the last; 0 is 1
	draw  func(n int) *pipeline.Draw // how the device chooses n tokens, if tail.Top is above 1
	draft []int                      // guessed tokens to evaluate with it, as many as can be replaced if they are wrong

	draftTail model.Tail // what the evaluation of a draft leaves, instead of tail
}

// evaluate brings tokens into the cache, and passes the output at the last of them to what.use. The last token is
// evaluated even if the cache holds it. evaluate returns how many tokens the cache held. After an error the cache holds
// the tokens evaluated before it.
func (s *Session) evaluate(ctx context.Context, tokens []int, what evaluation) (cached int, counters pipeline.Counters, err error) {
	e := s.engine
	if err := e.turn.Acquire(ctx, 1); err != nil {
		return 0, counters, err
	}
	defer e.turn.Release(1)
	if cached, err = s.resume(tokens, len(tokens)-1); err != nil {
		return 0, counters, err
	}
	out, draft, err := s.extend(ctx, tokens, what)
	if err != nil {
		return cached, out.Counters, err
	}
	return cached, out.Counters, what.use(out, draft)
}

// resume takes the cache for the session and truncates it to the common prefix with tokens, but to most tokens at most.
// The caller has e.turn.
func (s *Session) resume(tokens []int, most int) (cached int, err error) {
	e := s.engine
	if e.evaluator == nil {
		return 0, ErrClosed
	}
	if e.owner != s {
		s.cached, e.owner = nil, s
	}
	s.changes++
	cached = min(commonPrefix(s.cached, tokens), most)
	if !e.evaluator.CanResume(s.written, cached) {
		cached = 0 // a sliding window no longer holds the keys that the next token sees
	}
	if cached == 0 {
		s.written = 0
	}
	s.cached = s.cached[:cached]
	return cached, nil
}

// extend evaluates the tokens after those in the cache. The counters of the output are sums over all chunks evaluated
// without an error. draft holds the guesses that were evaluated after the last token. The caller has e.turn.
func (s *Session) extend(ctx context.Context, tokens []int, what evaluation) (out model.Output, draft []int, err error) {
	var counters pipeline.Counters
	cached := len(s.cached)
	for at := cached; at < len(tokens); at = len(s.cached) {
		if err = ctx.Err(); err != nil {
			break
		}
		end := min(at+PromptChunk, len(tokens))
		if out, draft, err = s.evaluateChunk(ctx, tokens, at, end, what); err != nil {
			break
		}
		s.cached = append(s.cached, tokens[at:end]...)
		counters.Add(out.Counters)
		if what.progress != nil {
			what.progress(end-cached, len(tokens)-cached)
		}
	}
	out.Counters = counters
	return out, draft, err
}

// evaluateChunk evaluates tokens at to end-1, and what may follow the last one. It returns the draft that was evaluated
// too.
func (s *Session) evaluateChunk(ctx context.Context, tokens []int, at, end int,
	what evaluation) (out model.Output, draft []int, err error) {
	eval := s.engine.evaluator
	alone := at+1 == end && end == len(tokens)
	// canAdd reports whether n more tokens fit, and whether position end can be evaluated again after them: a wrong
	// guess is replaced.
	canAdd := func(n int) bool { return end+n <= s.engine.context && eval.CanResume(max(s.written, end+n), end) }
	if alone {
		draft = what.draft
		for len(draft) > 0 && !canAdd(len(draft)) {
			draft = draft[:len(draft)-1]
		}
	}
	// This is set beforehand, since an evaluation that fails may have written any of its positions.
	s.written = max(s.written, end)
	switch {
	case end < len(tokens):
		out, err = eval.Forward(ctx, tokens[at:end], at, model.Tail{})
	case len(draft) > 0:
		s.written = max(s.written, end+len(draft))
		out, err = eval.Forward(ctx, append(slices.Clone(tokens[at:end]), draft...), at, what.draftTail)
	case alone && what.tail.Top > 0 && !what.tail.LogProbs:
		steps := max(1, min(what.steps, eval.MaxSteps()))
		if !canAdd(steps - 1) {
			steps = 1
		}
		var draw *pipeline.Draw
		if what.tail.Top > 1 {
			draw = what.draw(steps)
		}
		s.written = max(s.written, end+steps-1)
		out, err = eval.Decode(ctx, tokens[at], at, steps, draw)
	default:
		out, err = eval.Forward(ctx, tokens[at:end], at, what.tail)
	}
	return out, draft, err
}

func commonPrefix(a, b []int) int {
	n := min(len(a), len(b))
	for i := range n {
		if a[i] != b[i] {
			return i
		}
	}
	return n
}
