package pumice

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"

	"pumice/model"
	"pumice/pipeline"
)

// A Session continues token ids on an Engine. While it works it holds pages of the KV cache; what it has evaluated stays there
// afterwards, as long as there is room: of a prompt with the same beginning only the new tokens are evaluated, whichever
// session has evaluated the beginning. Sessions that work at the same time share steps, in which the weights are read once.
//
// Only one goroutine at a time may use a Session; a second one gets ErrBusy.
type Session struct {
	// Alone is for results that are the same to the last bit each time: the session's steps are shared with no other, its
	// prompts are cut in the same pieces, and it reuses only what the text before had in common with the next, of its own.
	// Otherwise what else runs decides in which order sums are formed, which changes logits by less than 0.01 in models of
	// known sizes, and a token where two are closer than that. It is set before the first use. Such a session holds its
	// pages between calls, unless others need them, until it is closed.
	Alone bool

	engine *Engine
	hold   hold
	text   []int       // of the last use
	seen   int         // its number for watchers; 0: none yet
	limit  int         // the next prompt reuses at most so many tokens; -1: as many as there are
	busy   atomic.Bool // a call or a Generation uses it
	closed bool
	result *Result      // of the last Generation
	job    job          // the last one, memory that is used again
	output model.Output // of the last evaluation
}

// NewSession returns a session. It need not be closed, unless it is to be used Alone.
func (e *Engine) NewSession() *Session {
	return &Session{engine: e, limit: -1, result: &Result{}}
}

var (
	// ErrBusy says that a session is in use: by a Generation that is not closed, or by another goroutine.
	ErrBusy = errors.New("pumice: the session is in use")
	// ErrSessionClosed is the error of using a closed Session.
	ErrSessionClosed = errors.New("pumice: the session is closed")
	// ErrEncoder is the error of using a session of a model that has no next token: an encoder, which is for Embed.
	ErrEncoder = model.ErrEncoder
)

// errEncoder says what to do instead.
var errEncoder = fmt.Errorf("pumice: %w; use embed", ErrEncoder)

// use makes sure that nobody else uses the session until free.
func (s *Session) use() error {
	if !s.busy.CompareAndSwap(false, true) {
		return ErrBusy
	}
	if s.closed {
		s.busy.Store(false)
		return ErrSessionClosed
	}
	if s.engine.encoder {
		s.busy.Store(false)
		return errEncoder
	}
	return nil
}

// free gives up what the session holds. Of tokens that it has evaluated beyond doubt, those of text stay in the cache.
func (s *Session) free(text []int) {
	s.engine.work.release(s, text)
	s.busy.Store(false)
}

// Close ends the use of the session. Closing twice is fine.
func (s *Session) Close() error {
	if !s.busy.CompareAndSwap(false, true) {
		return ErrBusy
	}
	defer s.busy.Store(false)
	s.closed = true
	s.engine.work.release(s, nil)
	s.output = model.Output{}
	return nil
}

// ErrEmptyPrompt says that there is no token to continue.
var ErrEmptyPrompt = errors.New("pumice: the prompt is empty")

// A PromptError says that the context can't hold a prompt.
type PromptError struct{ Tokens, Context int }

func (e *PromptError) Error() string {
	return fmt.Sprintf("pumice: the prompt has %d tokens, the context holds %d", e.Tokens, e.Context)
}

// Reset is Truncate(0).
func (s *Session) Reset() { s.Truncate(0) }

// Truncate has the next prompt reuse at most n tokens of what is in the cache. A caller that always truncates at the same
// positions has the same tokens evaluated in the same chunks.
func (s *Session) Truncate(n int) {
	if n = max(0, n); s.limit < 0 || n < s.limit {
		s.limit = n
	}
}

// checkPrompt checks a prompt before anything is evaluated.
func (e *Engine) checkPrompt(prompt []int) error {
	if len(prompt) == 0 {
		return ErrEmptyPrompt
	}
	for i, id := range prompt {
		if id < 0 || id >= e.vocab {
			return &TokenError{Index: i, ID: id, VocabSize: e.vocab}
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
	from     int              // the first token that is evaluated even if the cache has it; with rows of every token, the first row's
	adjust   *pipeline.Adjust // how the last row of logits is changed, with tail.Adjusted
	next     *int             // the token after the last one, for log-probabilities; nil: none
	progress func(done, total int)
	use      func(out model.Output, draft []int) error // called with the output at the last token; may be nil

	// These matter if only the last token is to be evaluated.
	steps int                        // tokens that the device may choose; it evaluates all but the last; 0 is 1
	draw  func(n int) *pipeline.Draw // how the device chooses n tokens, if tail.Top is above 1
	draft []int                      // guessed tokens to evaluate with it

	draftTail model.Tail // what the evaluation of a draft leaves, instead of tail
}

// evaluate brings tokens into the cache, and passes the output at the last of them to what.use. It returns how many tokens
// the cache held. The counters are sums over all steps without an error. After an error the cache holds the tokens evaluated
// before it. The session is in use, and holds its tokens until free.
func (s *Session) evaluate(ctx context.Context, tokens []int, what evaluation) (cached int, counters pipeline.Counters, err error) {
	j := &s.job
	*j = job{ctx: ctx, s: s, tokens: tokens, what: what, cached: -1, ended: j.ended}
	defer func() { *j = job{ended: j.ended} }()
	for {
		if err := s.engine.work.do(j); err != nil {
			return max(0, j.cached), counters, err
		}
		counters.Add(j.out.Counters)
		if what.progress != nil {
			what.progress(j.end-j.cached, len(tokens)-j.cached)
		}
		if j.end == len(tokens) {
			break
		}
	}
	if what.use == nil {
		return j.cached, counters, nil
	}
	return j.cached, counters, what.use(j.out, j.draft)
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
