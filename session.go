package pumice

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"pumice/model"
	"pumice/pipeline"
)

// A Session continues token ids on an Engine, and remembers which tokens the KV cache holds, so that a longer prompt with
// the same beginning costs only what is new. One goroutine at a time. Several sessions of an Engine share its one cache: the
// one that runs after another evaluates its tokens again.
type Session struct {
	engine *Engine
	cached []int // tokens whose keys and values are at positions 0.. of the cache, if the session owns it
	result Result

	written int // end of the highest position that may have been written since the cache was last filled from the start
	changes int // of cached, other than by the generation that knows what it has evaluated
}

// ErrEmptyPrompt says that there is no token to continue.
var ErrEmptyPrompt = errors.New("pumice: the prompt is empty")

// A PromptError is a prompt that the context can't hold.
type PromptError struct{ Tokens, Context int }

func (e *PromptError) Error() string {
	return fmt.Sprintf("pumice: the prompt has %d tokens, the context holds %d", e.Tokens, e.Context)
}

// Reset forgets the tokens, so that the next prompt is evaluated whole.
func (s *Session) Reset() { s.Truncate(0) }

// Truncate forgets all but the first n tokens, so that the next prompt reuses at most these. A caller that always forgets at the
// same places has the same tokens evaluated in the same pieces, and so the same numbers to the last bit.
func (s *Session) Truncate(n int) {
	s.cached = s.cached[:max(0, min(n, len(s.cached)))]
	s.changes++
}

// checkPrompt finds what is wrong with a prompt before anything is evaluated.
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

// promptRun is how many tokens of a prompt are evaluated between two looks at the context and calls of OnPrompt. It is the
// largest run that a model records by default.
const promptRun = 512

// An evaluation is what evaluate is asked for besides the tokens.
type evaluation struct {
	want     model.Want
	progress func(done, total int)
	use      func(out model.Output, draft []int) error // with the output at the last token, while nobody else evaluates

	// Where the last token alone is to be evaluated:
	runs  int                        // tokens that the device may choose and evaluate after it; 0 = 1
	draw  func(n int) *pipeline.Draw // how, where want is model.Candidates
	draft []int                      // or tokens to evaluate behind it, of all of which the largest logits' are wanted
}

// evaluate brings the cache to hold tokens, and hands over the output at the last of them. The last token is evaluated even if
// the cache holds it. It returns how many tokens were found in the cache. After an error the cache holds what had been evaluated.
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

// resume takes the cache for the session and cuts it to what it holds of tokens, at most the first so many. The caller has e.turn.
func (s *Session) resume(tokens []int, most int) (cached int, err error) {
	e := s.engine
	if e.run == nil {
		return 0, ErrClosed
	}
	if e.owner != s {
		s.cached, e.owner = nil, s
	}
	s.changes++
	cached = min(commonPrefix(s.cached, tokens), most)
	if !e.run.CanResume(s.written, cached) {
		cached = 0 // a sliding window has forgotten what the next token sees
	}
	if cached == 0 {
		s.written = 0
	}
	s.cached = s.cached[:cached]
	return cached, nil
}

// extend evaluates those of tokens that follow the ones in the cache. The counters of the output are of all its runs, after an
// error of those before. draft is what was evaluated behind the last one. The caller has e.turn.
func (s *Session) extend(ctx context.Context, tokens []int, what evaluation) (out model.Output, draft []int, err error) {
	var counters pipeline.Counters
	cached := len(s.cached)
	for at := cached; at < len(tokens); at = len(s.cached) {
		if err = ctx.Err(); err != nil {
			break
		}
		end := min(at+promptRun, len(tokens))
		if out, draft, err = s.run(ctx, tokens, at, end, what); err != nil {
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

// run evaluates tokens at to end, and what may follow the last one. It returns the draft that was evaluated too.
func (s *Session) run(ctx context.Context, tokens []int, at, end int, what evaluation) (out model.Output, draft []int, err error) {
	run := s.engine.run
	alone := at+1 == end && end == len(tokens)
	// The token after the last one must be able to see what it sees, also if it isn't the one that was evaluated there.
	goesOn := func(n int) bool { return end+n <= s.engine.context && run.CanResume(max(s.written, end+n), end) }
	// Noted beforehand: an evaluation that fails may have written any of its positions.
	s.written = max(s.written, end)
	switch {
	case end < len(tokens):
		out, err = run.Forward(ctx, tokens[at:end], at, model.Nothing)
	case alone && len(what.draft) > 0 && goesOn(len(what.draft)):
		draft = what.draft
		s.written = max(s.written, end+len(draft))
		out, err = run.Forward(ctx, append(slices.Clone(tokens[at:end]), draft...), at, model.AllArgmax)
	case alone && (what.want == model.Argmax || what.want == model.Candidates):
		runs := max(1, min(what.runs, run.MaxSteps()))
		if !goesOn(runs - 1) {
			runs = 1
		}
		var draw *pipeline.Draw
		if what.want == model.Candidates {
			draw = what.draw(runs)
		}
		s.written = max(s.written, end+runs-1)
		out, err = run.Decode(ctx, tokens[at], at, runs, what.want, draw)
	default:
		out, err = run.Forward(ctx, tokens[at:end], at, what.want)
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
