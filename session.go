package pumice

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"math"
	"slices"
	"time"

	"pumice/model"
	"pumice/pipeline"
	"pumice/sample"
	"pumice/tokenizer"
)

// A Session continues token ids on an Engine, and remembers which tokens the KV cache holds, so that a longer prompt with
// the same beginning costs only what is new. One goroutine at a time. Several sessions of an Engine share its one cache: the
// one that runs after another evaluates its tokens again.
type Session struct {
	engine *Engine
	cached []int // tokens whose keys and values are at positions 0.. of the cache, if the session owns it
	result Result

	written int // end of the highest position written since the cache was last filled from the start
}

// GenerateOptions says how Generate continues. The zero value is greedy, until the text ends or the context is full;
// Engine.SamplingDefaults are the parameters that the model wants.
type GenerateOptions struct {
	MaxTokens int           // 0 = no limit but the context
	Sampling  sample.Params // zero = greedy
	Stop      []string      // ends the text before the first of these; one that spells a special token ends it at that token
	IgnoreEOS bool          // go on after tokens that end a text

	OnPrompt func(done, total int) // called as the prompt is evaluated; total is what the cache didn't hold
}

// A Token is one generated token and the text that became certain by it. Text is whole UTF-8 characters and may be empty: a
// character may take several tokens, and what could begin a stop string waits. All Texts joined are Result.Text.
type Token struct {
	ID   int
	Text string
}

// A Result says what a Generate did.
type Result struct {
	PromptTokens []int             `json:"prompt_tokens"`
	Tokens       []int             `json:"tokens"` // the token that ended the text included
	Text         string            `json:"text"`   // without stop string and special tokens; "" without a tokenizer
	FinishReason string            `json:"finish_reason"`
	Stats        Stats             `json:"stats"`
	Counters     pipeline.Counters `json:"counters"` // of one decoded token, the mean of all

	PromptCounters pipeline.Counters `json:"-"` // of the prompt's evaluation
}

// What a Result's FinishReason can be; it is empty when the caller or an error ended the iteration.
const (
	FinishStop   = "stop"   // an end token or a stop string
	FinishLength = "length" // MaxTokens, or the context is full
)

// Stats are the times of a Generate. The first token comes out of the prompt's evaluation, so PredictedPerSecond counts the
// PredictedN-1 tokens after it. Time that the caller spends between tokens counts nowhere.
type Stats struct {
	LoadMS             float64 `json:"load_ms"`
	PromptN            int     `json:"prompt_n"` // tokens of the prompt that were evaluated
	CachedN            int     `json:"cached_n"` // and those that the cache held
	PromptMS           float64 `json:"prompt_ms"`
	PromptPerSecond    float64 `json:"prompt_per_second"`
	PredictedN         int     `json:"predicted_n"`
	PredictedMS        float64 `json:"predicted_ms"`
	PredictedPerSecond float64 `json:"predicted_per_second"`
	FirstTokenMS       float64 `json:"first_token_ms"`
}

// ErrEmptyPrompt says that there is no token to continue.
var ErrEmptyPrompt = errors.New("pumice: the prompt is empty")

// A PromptError is a prompt that the context can't hold.
type PromptError struct{ Tokens, Context int }

func (e *PromptError) Error() string {
	return fmt.Sprintf("pumice: the prompt has %d tokens, the context holds %d", e.Tokens, e.Context)
}

// Generate continues prompt. The iteration yields each token as it is chosen and ends after the last one; an error is its last
// element, with a Token that means nothing. Stopping early, by break or by cancelling ctx, leaves the session usable and keeps
// what was evaluated. Result tells the rest afterwards.
func (s *Session) Generate(ctx context.Context, prompt []int, o GenerateOptions) iter.Seq2[Token, error] {
	return func(yield func(Token, error) bool) {
		s.result = Result{PromptTokens: slices.Clone(prompt), Tokens: []int{}}
		if s.result.PromptTokens == nil {
			s.result.PromptTokens = []int{}
		}
		g, err := s.generation(prompt, o)
		for err == nil && s.result.FinishReason == "" {
			var t Token
			if t, err = g.next(ctx); err == nil && !yield(t, nil) {
				return
			}
		}
		if err != nil {
			yield(Token{ID: -1}, err)
		}
	}
}

// Result says what the last Generate did, so far if it is under way.
func (s *Session) Result() Result { return s.result }

// Reset forgets the tokens, so that the next prompt is evaluated whole.
func (s *Session) Reset() { s.cached = nil }

// Truncate forgets all but the first n tokens, so that the next prompt reuses at most these. A caller that always forgets at the
// same places has the same tokens evaluated in the same pieces, and so the same numbers to the last bit.
func (s *Session) Truncate(n int) { s.cached = s.cached[:max(0, min(n, len(s.cached)))] }

// generation is the state of one Generate.
type generation struct {
	s        *Session
	o        GenerateOptions
	tokens   []int // prompt and what was generated
	ends     []int
	sampler  *sample.Sampler
	stream   *tokenizer.Stream // nil without a tokenizer
	stop     stopper
	started  time.Time
	decoded  int64         // evaluations of one token
	took     time.Duration // by them
	counters pipeline.Counters
}

func (s *Session) generation(prompt []int, o GenerateOptions) (*generation, error) {
	e := s.engine
	if err := e.checkPrompt(prompt); err != nil {
		return nil, err
	}
	if err := o.Sampling.Validate(); err != nil {
		return nil, err
	}
	if o.MaxTokens < 0 {
		return nil, &OptionError{"MaxTokens", fmt.Sprint(o.MaxTokens), "0 (no limit) or a count"}
	}
	g := &generation{s: s, o: o, tokens: slices.Clone(prompt), sampler: sample.New(o.Sampling), started: time.Now()}
	if !o.IgnoreEOS {
		g.ends = slices.Clone(e.endTokens)
	}
	tok := e.text.tokenizer
	if tok != nil {
		g.stream = tok.Stream()
	}
	for _, stop := range o.Stop {
		if stop == "" {
			return nil, &OptionError{"Stop", stop, "strings that are not empty"}
		}
		if tok == nil {
			return nil, &NoTokenizerError{e.path}
		}
		if id, ok := tok.TokenID(stop); ok && tok.IsSpecial(id) {
			g.ends = append(g.ends, id)
		}
		g.stop.stops = append(g.stop.stops, stop)
	}
	s.result.Stats.LoadMS = milliseconds(e.loadTime)
	return g, nil
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

// next evaluates what the cache lacks, chooses a token, and sets the result's FinishReason when it is the last one.
func (g *generation) next(ctx context.Context) (Token, error) {
	start := time.Now()
	r := &g.s.result
	first := len(r.Tokens) == 0
	want, id := model.Logits, 0
	if g.o.Sampling.Greedy() {
		want = model.Argmax
	}
	var progress func(done, total int)
	if first {
		progress = g.o.OnPrompt
	}
	cached, counters, err := g.s.evaluate(ctx, g.tokens, want, progress, func(out model.Output) (err error) {
		id = out.Argmax
		if want == model.Logits {
			id, err = g.sampler.Sample(out.Logits, g.tokens)
		}
		return err
	})
	if err != nil {
		return Token{}, err
	}
	g.tokens = append(g.tokens, id)
	r.Tokens = append(r.Tokens, id)
	t := Token{ID: id, Text: g.read(id)}
	r.Text += t.Text
	if first {
		r.PromptCounters = counters
		r.Stats.CachedN, r.Stats.PromptN = cached, len(r.PromptTokens)-cached
		r.Stats.PromptMS = milliseconds(time.Since(start))
		r.Stats.PromptPerSecond = perSecond(r.Stats.PromptN, r.Stats.PromptMS)
		r.Stats.FirstTokenMS = milliseconds(time.Since(g.started))
	} else {
		g.decoded++
		g.counters.Add(counters)
		r.Counters = mean(g.counters, g.decoded)
		g.took += time.Since(start)
		r.Stats.PredictedMS = milliseconds(g.took)
	}
	r.Stats.PredictedN = len(r.Tokens)
	r.Stats.PredictedPerSecond = perSecond(r.Stats.PredictedN-1, r.Stats.PredictedMS)
	return t, nil
}

// read finds the text of the newest token, and whether it is the last one.
func (g *generation) read(id int) string {
	r := &g.s.result
	shown, hit := "", false
	switch {
	case slices.Contains(g.ends, id):
		r.FinishReason = FinishStop
	case g.stream != nil:
		shown, hit = g.stop.push(g.stream.Next(id))
	}
	if hit {
		r.FinishReason = FinishStop
		return shown
	}
	if r.FinishReason == "" && (len(r.Tokens) == g.o.MaxTokens || len(g.tokens) > g.s.engine.context) {
		r.FinishReason = FinishLength
	}
	if r.FinishReason == "" || g.stream == nil {
		return shown
	}
	last, hit := g.stop.push(g.stream.Flush())
	if hit {
		r.FinishReason = FinishStop
	}
	return shown + last + g.stop.rest()
}

// promptRun is how many tokens of a prompt are evaluated between two looks at the context and calls of OnPrompt. It is the
// largest run that a model records by default.
const promptRun = 512

// evaluate brings the cache to hold tokens, and hands the output at the last of them to use while nobody else evaluates. The
// last token is evaluated even if the cache holds it. It returns how many tokens were found in the cache. After an error the
// cache holds what had been evaluated.
func (s *Session) evaluate(ctx context.Context, tokens []int, want model.Want, progress func(done, total int), use func(model.Output) error) (cached int, counters pipeline.Counters, err error) {
	e := s.engine
	e.mu.Lock()
	defer e.mu.Unlock()
	if cached, err = s.resume(tokens, len(tokens)-1); err != nil {
		return 0, counters, err
	}
	out, err := s.extend(ctx, tokens, want, progress)
	if err != nil {
		return cached, out.Counters, err
	}
	return cached, out.Counters, use(out)
}

// resume takes the cache for the session and cuts it to what it holds of tokens, at most the first so many. The caller has e.mu.
func (s *Session) resume(tokens []int, most int) (cached int, err error) {
	e := s.engine
	if e.run == nil {
		return 0, ErrClosed
	}
	if e.owner != s {
		s.cached, e.owner = nil, s
	}
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
// error of those before. The caller has e.mu.
func (s *Session) extend(ctx context.Context, tokens []int, want model.Want, progress func(done, total int)) (out model.Output, err error) {
	var counters pipeline.Counters
	cached := len(s.cached)
	for at := cached; at < len(tokens); at = len(s.cached) {
		if err = ctx.Err(); err != nil {
			break
		}
		end := min(at+promptRun, len(tokens))
		now := model.Nothing
		if end == len(tokens) {
			now = want
		}
		if out, err = s.engine.run.Forward(ctx, tokens[at:end], at, now); err != nil {
			break
		}
		s.cached = append(s.cached, tokens[at:end]...)
		s.written = max(s.written, end)
		counters.Add(out.Counters)
		if progress != nil {
			progress(end-cached, len(tokens)-cached)
		}
	}
	out.Counters = counters
	return out, err
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

// Logits evaluates tokens and yields the logits, one for each token of the vocabulary: at the last position, or at every one if
// all is set, which starts from an empty cache. A row is valid until the next one is asked for. An error is the last element.
// Breaking off leaves the session usable. Other sessions wait until the iteration ends, so its body must not use the engine.
func (s *Session) Logits(ctx context.Context, tokens []int, all bool) iter.Seq2[[]float32, error] {
	return func(yield func([]float32, error) bool) {
		if err := s.logits(ctx, tokens, all, yield); err != nil {
			yield(nil, err)
		}
	}
}

// logitsRun bounds the memory that logits at every position take: 64 rows of 100534 tokens are 26 MB.
const logitsRun = 64

// errBroken ends an evaluation whose caller broke off the iteration.
var errBroken = errors.New("broken off")

func (s *Session) logits(ctx context.Context, tokens []int, all bool, yield func([]float32, error) bool) error {
	if err := s.engine.checkPrompt(tokens); err != nil {
		return err
	}
	rows := func(out model.Output) error {
		for vocab := s.engine.vocab; len(out.Logits) > 0; out.Logits = out.Logits[vocab:] {
			if !yield(out.Logits[:vocab:vocab], nil) {
				return errBroken
			}
		}
		return nil
	}
	run, want := len(tokens), model.Logits
	if all {
		s.Reset()
		run, want = logitsRun, model.AllLogits
	}
	for end := 0; end < len(tokens); {
		end = min(end+run, len(tokens))
		_, _, err := s.evaluate(ctx, tokens[:end], want, nil, rows)
		if err == errBroken {
			return nil
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// Score evaluates prefix followed by each of tails, none of which is empty, and yields the logits at the end of each in turn. As
// many as the device takes at a time are evaluated at once, and the cache keeps prefix, so that another Score with the same one
// evaluates tails alone; without tails it only brings prefix into the cache. A tail that is evaluated alone, as the only one is,
// stays in the cache too. A row is valid until the next one is asked for. An error is the last element. Breaking off leaves the
// session usable. Other sessions wait while rows are yielded, so the iteration's body must not use the engine.
func (s *Session) Score(ctx context.Context, prefix []int, tails [][]int) iter.Seq2[[]float32, error] {
	return func(yield func([]float32, error) bool) {
		if err := s.score(ctx, prefix, tails, yield); err != nil && err != errBroken {
			yield(nil, err)
		}
	}
}

func (s *Session) score(ctx context.Context, prefix []int, tails [][]int, yield func([]float32, error) bool) error {
	e := s.engine
	if len(tails) == 0 {
		if err := e.checkPrompt(prefix); err != nil {
			return err
		}
	}
	for i, tail := range tails {
		if len(tail) == 0 {
			return fmt.Errorf("pumice: tail %d is empty", i)
		}
		if err := e.checkPrompt(slices.Concat(prefix, tail)); err != nil {
			return fmt.Errorf("tail %d: %w", i, err)
		}
	}
	for first := true; first || len(tails) > 0; first = false {
		n, err := s.scoreRun(ctx, prefix, tails, yield)
		if err != nil {
			return err
		}
		tails = tails[n:]
	}
	return nil
}

// scoreRun evaluates the first of tails at once, and returns how many they are.
func (s *Session) scoreRun(ctx context.Context, prefix []int, tails [][]int, yield func([]float32, error) bool) (n int, err error) {
	e := s.engine
	e.mu.Lock()
	defer e.mu.Unlock()
	if _, err := s.resume(prefix, len(prefix)); err != nil {
		return 0, err
	}
	if _, err := s.extend(ctx, prefix, model.Nothing, nil); err != nil || len(tails) == 0 {
		return 0, err
	}
	most, tokens := e.run.Sequences()
	tokens = min(tokens, e.context-len(prefix))
	total := 0
	for n < min(len(tails), most) && total+len(tails[n]) <= tokens {
		total += len(tails[n])
		n++
	}
	var out model.Output
	if n > 1 {
		if err := ctx.Err(); err != nil {
			return 0, err
		}
		s.written = max(s.written, len(prefix)+total)
		out, err = e.run.ForwardSequences(tails[:n], len(prefix))
	} else {
		n = 1
		out, err = s.extend(ctx, slices.Concat(prefix, tails[0]), model.Logits, nil)
	}
	if err != nil {
		return 0, err
	}
	for i := range n {
		if !yield(out.Logits[i*e.vocab:(i+1)*e.vocab:(i+1)*e.vocab], nil) {
			return 0, errBroken
		}
	}
	return n, nil
}

func milliseconds(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

// perSecond is a rate to two decimals, 0 where there was nothing to time and not the infinity that JSON can't hold.
func perSecond(n int, ms float64) float64 {
	if n <= 0 || ms <= 0 {
		return 0
	}
	return math.Round(float64(n)/ms*1e5) / 100
}

// mean divides a sum of n runs, to the nearest integer.
func mean(sum pipeline.Counters, n int64) pipeline.Counters {
	for _, c := range []*int64{&sum.Submits, &sum.Dispatches, &sum.Barriers, &sum.WeightBytes, &sum.KVBytes, &sum.ActivationBytes,
		&sum.HostToDeviceBytes, &sum.DeviceToHostBytes, &sum.MinimumBytes, &sum.Records} {
		*c = (*c + n/2) / n
	}
	return sum
}
