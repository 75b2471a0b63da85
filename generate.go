package pumice

import (
	"context"
	"fmt"
	"io"
	"iter"
	"math"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"pumice/model"
	"pumice/pipeline"
	"pumice/sample"
	"pumice/tokenizer"
	"pumice/vk"
)

// GenerateOptions configure Generate. The zero value decodes greedily until the text ends or the context is full;
// Engine.SamplingDefaults returns the parameters that the model's authors recommend.
type GenerateOptions struct {
	MaxTokens int           // limit on generated tokens; with 0 only the context limits them
	Sampling  sample.Params // the zero value is greedy
	Stop      []string      // the text ends before the first of these, or at the special token that one spells
	IgnoreEOS bool          // continue after end tokens

	// SpecialTokens spells special tokens in the text, but for the one that ends it: some models begin tool calls with one.
	SpecialTokens bool

	LogitBias  map[int]float32 // is added to the logits of tokens, before penalties; -Inf forbids a token
	Constraint Constraint      // says which tokens may follow, for this call alone; nil allows all; see Forcer

	// Pipeline is how many tokens are queued on the device at once. The device then chooses each token and continues
	// without the host. Tokens come in bursts, which delay none by more than a quarter of a second. 0 stands for 1 on a
	// CPU driver, where queueing gains nothing, and otherwise for as many as take a twentieth of a second, at most 8.
	// The tokens do not depend on it. Sampling that looks at more than the 64 largest logits (with penalties, without
	// TopK or with a larger one) queues no tokens, nor does a LogitBias or a Constraint.
	Pipeline int

	// Drafter guesses tokens, which are evaluated together (speculative decoding): a PromptLookup, an EngineDrafter, or
	// the caller's own. nil turns it off. Greedy decoding, with penalties or without, gives the tokens that it gives
	// without a Drafter. Sampling draws from the same distribution, up to rounding: evaluating tokens together changes
	// logits by less than 0.01. Where guesses are not drawn at random, as those of PromptLookup, a seed gives the same
	// tokens as without, unless such a difference changes a draw; an EngineDrafter draws its guesses, and a seed gives
	// other tokens.
	Drafter     Drafter
	DraftTokens int // guesses at a time, at most MaxDraft; 0 stands for 7

	// DraftAlways asks for DraftTokens guesses before every evaluation. Without it guesses become fewer, and pause, while
	// they take more time than they save. That depends on measured times: where guesses are drawn, a seed repeats its
	// tokens only with DraftAlways.
	DraftAlways bool

	// LogProbs sets Token.Prob, to which TopLogProbs adds so many of the likeliest tokens, at most MaxTopLogProbs. Tokens
	// are then not queued on the device, and Drafter must be nil. The tokens do not depend on it.
	LogProbs    bool
	TopLogProbs int

	// OnPrompt is called while the prompt is evaluated, one call at a time and none after that, perhaps by another goroutine. total
	// excludes tokens that the cache held. Within a chunk done is by its work.
	OnPrompt func(done, total int)
}

// The largest values of GenerateOptions.Pipeline and DraftTokens.
const (
	MaxPipeline = pipeline.MaxBurst
	MaxDraft    = model.MaxDraft
)

// A Request is a prompt and how to continue it.
type Request struct {
	Prompt []int
	GenerateOptions
}

// A Token is one generated token and the text that became final with it. Text consists of whole UTF-8 characters and
// may be empty: a character may take several tokens, and text that may begin a stop string is held back. All Texts
// joined are Result.Text.
type Token struct {
	ID   int
	Text string
	Prob *LogProb // with GenerateOptions.LogProbs, else nil
}

// A Result describes a Generation.
type Result struct {
	PromptTokens []int    `json:"prompt_tokens"`
	Tokens       []int    `json:"tokens"` // includes the token that ended the text
	Text         string   `json:"text"`   // without stop string and, unless asked for, special tokens; "" without a tokenizer
	FinishReason string   `json:"finish_reason"`
	Stats        Stats    `json:"stats"`
	Counters     Counters `json:"counters"` // mean per decoded token

	PromptCounters Counters `json:"-"` // of the prompt's evaluation
}

// Values of a Result's FinishReason, which is empty if the caller or an error ended the iteration.
const (
	FinishStop   = "stop"   // an end token or a stop string
	FinishLength = "length" // MaxTokens, or the context is full
)

// Stats are the times of a Generation. Evaluating the prompt also gives the first token, so PredictedPerSecond
// counts the PredictedN-1 tokens after it. Time that the caller spends between tokens is not counted.
type Stats struct {
	LoadMS             float64 `json:"load_ms"`
	PromptN            int     `json:"prompt_n"` // tokens of the prompt that were evaluated
	CachedN            int     `json:"cached_n"` // tokens of the prompt that the cache held
	PromptMS           float64 `json:"prompt_ms"`
	PromptPerSecond    float64 `json:"prompt_per_second"`
	PredictedN         int     `json:"predicted_n"`
	PredictedMS        float64 `json:"predicted_ms"`
	PredictedPerSecond float64 `json:"predicted_per_second"`
	FirstTokenMS       float64 `json:"first_token_ms"`

	DraftN         int     `json:"draft_n,omitempty"`          // guesses that were evaluated
	DraftNAccepted int     `json:"draft_n_accepted,omitempty"` // guesses that were right
	DraftPerSecond float64 `json:"draft_per_second,omitempty"` // tokens, where guesses were evaluated, guessing included
	PlainPerSecond float64 `json:"plain_per_second,omitempty"` // tokens, where no guesses were
	ForcedN        int     `json:"forced_n,omitempty"`         // tokens that a Forcer knew, which were not drawn
	DraftError     string  `json:"draft_error,omitempty"`      // why the Drafter was given up

	Pipelines int     `json:"pipelines"`  // kernels that this process has compiled so far, for this Engine and others
	CompileMS float64 `json:"compile_ms"` // processor time that compiling them took (vk.Compiles)
}

// Generate continues prompt. The iteration yields each token as it is chosen and ends after the last one. An error is
// its last element, with a Token to ignore. Stopping early, by break or by cancelling ctx, leaves the session usable
// and keeps the evaluated tokens in the cache. Afterwards Session.Result has the statistics. The session is in use during the
// iteration.
func (s *Session) Generate(ctx context.Context, prompt []int, o GenerateOptions) iter.Seq2[Token, error] {
	return func(yield func(Token, error) bool) {
		g, err := s.Start(Request{prompt, o})
		if err != nil {
			yield(Token{ID: -1}, err)
			return
		}
		defer g.Close()
		for {
			t, err := g.Next(ctx)
			if err == io.EOF {
				return
			}
			if err != nil {
				t = Token{ID: -1}
			}
			if !yield(t, err) || err != nil {
				return
			}
		}
	}
}

// Start begins to continue a prompt, for callers that ask for one token after another; Generate is the short form. The session
// is in use until the Generation is closed.
func (s *Session) Start(r Request) (*Generation, error) {
	if err := s.use(); err != nil {
		return nil, err
	}
	s.result = &Result{PromptTokens: append([]int{}, r.Prompt...), Tokens: []int{}}
	g, err := s.generation(r.Prompt, r.GenerateOptions)
	if err != nil {
		s.busy.Store(false)
		return nil, err
	}
	return g, nil
}

// Next returns the next token, and io.EOF after the last one. After another error a Generation may go on: the error of a
// context that has ended says nothing about the next call's.
func (g *Generation) Next(ctx context.Context) (Token, error) {
	if !g.calling.CompareAndSwap(false, true) {
		return Token{}, ErrBusy
	}
	defer g.calling.Store(false)
	if g.s == nil {
		return Token{}, ErrSessionClosed
	}
	if g.result.FinishReason != "" {
		return Token{}, io.EOF
	}
	return g.next(ctx)
}

// Close ends the use of the session by g. What was evaluated stays in the cache as long as there is room. Closing twice is
// fine.
func (g *Generation) Close() error {
	if !g.calling.CompareAndSwap(false, true) {
		return ErrBusy
	}
	defer g.calling.Store(false)
	if g.s != nil {
		g.s.free(g.tokens)
		if d := g.s.engine.disk; d != nil && !g.s.Alone {
			d.keep(g.tokens)
		}
		g.s = nil
	}
	return nil
}

// Result describes the tokens so far, after Close too. No other goroutine may call Next meanwhile.
func (g *Generation) Result() Result { return *g.result }

// Result is that of the session's last Generation, which Generate makes too.
func (s *Session) Result() Result { return *s.result }

// A Generation is an answer in progress.
type Generation struct {
	s        *Session // nil once closed
	result   *Result
	calling  atomic.Bool
	o        GenerateOptions
	tokens   []int // prompt and generated tokens
	ends     []int
	sampler  *sample.Sampler
	stream   *tokenizer.Stream // nil without a tokenizer
	stop     stopper
	started  time.Time
	decoded  int64         // tokens after the first
	took     time.Duration // time for decoded tokens
	counters pipeline.Counters

	chosen []int         // tokens that the last evaluation determined
	queue  []int         // of these, those that were not yet yielded
	prob   *LogProb      // of the one token in the queue, with LogProbs
	failed error         // error to return after the queue
	each   time.Duration // time that the last evaluation without guesses took per token
	forced int           // tokens at the end of the chosen ones that were not drawn: the next evaluation takes them together
	close  bool          // the next token must be evaluated by itself: with guesses it was too close to call

	adjust adjustment
	raw    []float32 // logits before it, for LogProbs

	speculation speculation
	guesses     []sample.Guess // that the next evaluation decides about
	drafted     int            // how many guesses the last evaluation had

	text strings.Builder

	// What evaluations are given, which would be allocated each time.
	draft  []int
	drawer func(n int) *pipeline.Draw
	use    func(out model.Output, draft []int) error
}

func (s *Session) generation(prompt []int, o GenerateOptions) (*Generation, error) {
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
	if o.Pipeline < 0 || o.Pipeline > MaxPipeline {
		return nil, &OptionError{"Pipeline", fmt.Sprint(o.Pipeline), fmt.Sprintf("0 (as suits the device) to %d", MaxPipeline)}
	}
	if o.DraftTokens < 0 || o.DraftTokens > MaxDraft {
		return nil, &OptionError{"DraftTokens", fmt.Sprint(o.DraftTokens), fmt.Sprintf("0 (%d) to %d", defaultDraft, MaxDraft)}
	}
	if err := checkTop(o.TopLogProbs); err != nil {
		return nil, err
	}
	if o.TopLogProbs > 0 && !o.LogProbs {
		return nil, &OptionError{"TopLogProbs", fmt.Sprint(o.TopLogProbs), "0 without LogProbs"}
	}
	if o.Drafter != nil && o.LogProbs {
		return nil, &OptionError{"Drafter", fmt.Sprintf("%T", o.Drafter), "none with LogProbs"}
	}
	g := &Generation{s: s, result: s.result, o: o, tokens: slices.Clone(prompt), sampler: sample.New(o.Sampling), started: time.Now(),
		speculation: newSpeculation(o)}
	g.drawer, g.use = g.draw, g.choose
	var err error
	if g.adjust, err = newAdjustment(o, e.vocab); err != nil {
		return nil, err
	}
	if !o.IgnoreEOS {
		g.ends = slices.Clone(e.endTokens)
	}
	tok := e.text.tokenizer
	if tok != nil {
		g.stream = tok.Stream()
		if o.SpecialTokens {
			g.stream = tok.StreamSpecial()
		}
	}
	for _, stop := range o.Stop {
		if stop == "" {
			return nil, &OptionError{"Stop", stop, "strings that are not empty"}
		}
		if tok == nil {
			return nil, &NoTokenizerError{e.model.source.Path}
		}
		if id, ok := tok.TokenID(stop); ok && tok.IsSpecial(id) {
			g.ends = append(g.ends, id)
		}
		g.stop.stops = append(g.stop.stops, stop)
	}
	g.result.Stats.LoadMS = milliseconds(e.loadTime)
	if o.MaxTokens > 0 {
		n := g.left()
		g.tokens, g.result.Tokens = slices.Grow(g.tokens, n), make([]int, 0, n)
	}
	return g, nil
}

// next returns the next token. If none is queued, it evaluates the tokens that the cache lacks. With the last token it
// sets the result's FinishReason.
func (g *Generation) next(ctx context.Context) (Token, error) {
	start := time.Now()
	r := g.result
	first := len(r.Tokens) == 0
	var counters pipeline.Counters
	if len(g.queue) == 0 {
		cached, c, err := g.fill(ctx, first)
		if err != nil {
			return Token{}, err
		}
		counters = c
		if first {
			r.Stats.CachedN, r.Stats.PromptN = cached, len(r.PromptTokens)-cached
		}
	}
	id := g.queue[0]
	g.queue = g.queue[1:]
	g.tokens = append(g.tokens, id)
	r.Tokens = append(r.Tokens, id)
	t := Token{ID: id, Text: g.read(id), Prob: g.prob}
	if t.Text != "" {
		g.text.WriteString(t.Text)
		r.Text = g.text.String()
	}
	if first {
		r.PromptCounters = counters
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
	c := vk.Compiles()
	r.Stats.Pipelines, r.Stats.CompileMS = c.Pipelines, milliseconds(c.CPU)
	r.Stats.PredictedN = len(r.Tokens)
	r.Stats.PredictedPerSecond = perSecond(r.Stats.PredictedN-1, r.Stats.PredictedMS)
	return t, nil
}

// fill evaluates the tokens that the cache lacks, and queues one token or more.
func (g *Generation) fill(ctx context.Context, first bool) (cached int, counters pipeline.Counters, err error) {
	if g.failed != nil {
		return 0, counters, g.failed
	}
	if d := g.s.engine.disk; d != nil && first && !g.s.Alone && g.s.limit < 0 {
		d.load(ctx, g.s, g.tokens)
	}
	for len(g.queue) == 0 && err == nil {
		start, compiled := time.Now(), vk.Compiles().Pipelines
		if err := g.adjust.next(); err != nil {
			return cached, counters, err
		}
		e := evaluation{from: len(g.tokens) - 1, draw: g.drawer, use: g.use, draftTail: g.draftTail()}
		e.tail, e.adjust = g.tail()
		if first {
			e.progress = g.o.OnPrompt
		} else {
			e.steps = g.steps()
			if err := g.guess(ctx); err != nil {
				return cached, counters, err
			}
			g.draft = g.draft[:0]
			for _, x := range g.guesses {
				g.draft = append(g.draft, x.ID)
			}
			e.draft = g.draft
		}
		g.close, g.queue, g.drafted = false, g.chosen[:0], 0
		var c pipeline.Counters
		cached, c, err = g.s.evaluate(ctx, g.tokens, e)
		counters.Add(c)
		if plain := g.forced == 0; !first && err == nil && plain {
			g.measure(g.drafted, start, compiled, c)
			if g.drafted == 0 {
				g.each = time.Since(start) / time.Duration(len(g.queue))
			}
		}
		g.forced = 0
		if err == nil && g.failed == nil {
			err = g.force()
		}
		g.chosen = g.queue
	}
	return cached, counters, err
}

// tail returns what choosing a token needs, and how the device changes the logits before.
func (g *Generation) tail() (t model.Tail, adjust *pipeline.Adjust) {
	t.Rows = model.LastRows
	p := g.o.Sampling
	if g.adjust.on() {
		p = p.Unpenalised()
		if few := p.Greedy() || p.Decides(pipeline.TopLogits); few && !g.o.LogProbs && g.s.engine.gpu() {
			adjust = g.adjust.onDevice(g.tokens)
		}
		if t.Adjusted = adjust != nil; !t.Adjusted {
			t.Logits = true
			return t, nil
		}
	}
	switch {
	case g.o.LogProbs && (p.Greedy() || p.Decides(pipeline.TopLogits)) && g.s.engine.gpu():
		t.Top, t.LogProbs = pipeline.TopLogits, true
	case g.o.LogProbs: // no bus is crossed, or sampling needs all logits anyway
		t.Logits = true
	case p.Greedy():
		t.Top = 1
	case p.Decides(pipeline.TopLogits) && (g.o.Pipeline > 1 || g.s.engine.gpu()):
		t.Top = pipeline.TopLogits
	default:
		t.Logits = true
	}
	return t, adjust
}

// left returns how many more tokens may be generated.
func (g *Generation) left() int {
	n := g.s.engine.context - len(g.tokens) + 1
	if g.o.MaxTokens > 0 {
		n = min(n, g.o.MaxTokens-len(g.result.Tokens))
	}
	return n
}

// By default so many tokens are queued as take the time burst, but at most burstSteps: a reader does not notice such
// bursts.
const (
	burst      = 50 * time.Millisecond
	burstSteps = 8
)

// steps returns how many tokens to queue on the device.
func (g *Generation) steps() int {
	n := g.o.Pipeline
	if n == 0 {
		n = 1
		if g.s.engine.gpu() && g.each > 0 {
			n = min(burstSteps, int(burst/g.each))
		}
	}
	return max(1, min(n, g.left()))
}

// draw returns the parameters by which the device chooses n tokens.
func (g *Generation) draw(n int) *pipeline.Draw {
	u := g.sampler.Preview(nil, n)
	return newDraw(g.o.Sampling, n, func(i int) float64 { return u[i] })
}

// newDraw returns the parameters by which the device chooses n tokens, token i with the random number uniform(i).
func newDraw(p sample.Params, n int, uniform func(i int) float64) *pipeline.Draw {
	d := &pipeline.Draw{Temperature: p.Temperature, TopK: p.TopK, TopP: p.TopP, MinP: p.MinP, Uniform: make([]float32, n)}
	if d.TopP == 0 {
		d.TopP = 1
	}
	for i := range n {
		d.Uniform[i] = float32(uniform(i))
	}
	return d
}

// choose queues the tokens that an evaluation determines. From candidates, which a device has penalised where they are to be, it
// chooses in float64. Where the device has
// chosen another token, the tokens that it evaluated after that are dropped.
func (g *Generation) choose(out model.Output, draft []int) error {
	g.drafted = len(draft)
	if len(draft) > 0 {
		g.result.Stats.DraftN += len(draft)
		if g.o.Sampling.Greedy() && !g.adjust.on() {
			g.accept(out.Choices, draft)
			return nil
		}
		return g.verify(out, draft)
	}
	if len(out.Choices) == 0 {
		raw := out.Logits
		if g.o.LogProbs && g.adjust.on() {
			g.raw = append(g.raw[:0], raw...)
			raw = g.raw
		}
		g.adjust.onHost(out.Logits)
		id, err := g.sampler.Sample(out.Logits, g.tokens)
		if err != nil {
			return err
		}
		if g.o.LogProbs {
			g.prob = logitProb(raw, id, g.o.TopLogProbs)
		}
		return g.take(id)
	}
	for i, c := range out.Choices {
		id := c.ID
		if len(c.IDs) > 0 && !g.o.Sampling.Greedy() {
			var err error
			if id, err = g.sampler.SampleCandidates(c.IDs, c.Logits, nil); err != nil {
				if i > 0 {
					g.failed, err = err, nil
				}
				return err
			}
		}
		if g.o.LogProbs {
			g.prob = choiceProb(c, out.LogProbs[i].Sum, id, g.o.TopLogProbs)
		}
		if err := g.take(id); err != nil || id != c.ID {
			return err
		}
	}
	return nil
}

// take queues a token that was chosen.
func (g *Generation) take(id int) error {
	if err := g.adjust.accept(id); err != nil {
		return err
	}
	g.queue = append(g.queue, id)
	return nil
}

// force queues the tokens that must follow those that were chosen.
func (g *Generation) force() error {
	if g.o.LogProbs { // which only an evaluation tells
		return nil
	}
	ids, err := g.adjust.forced()
	for _, id := range ids[:min(len(ids), max(0, g.left()-len(g.queue)))] {
		if err == nil {
			err = g.take(id)
		}
		g.forced++
	}
	g.result.Stats.ForcedN += g.forced
	return err
}

// read returns the text that the newest token makes final, and sets the FinishReason if it is the last token.
func (g *Generation) read(id int) string {
	r := g.result
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

func milliseconds(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

// perSecond returns a rate to two decimals, or 0 if nothing was timed: JSON has no infinity.
func perSecond(n int, ms float64) float64 {
	if n <= 0 || ms <= 0 {
		return 0
	}
	return math.Round(float64(n)/ms*1e5) / 100
}

// mean divides a sum over n tokens, to the nearest integer.
func mean(sum pipeline.Counters, n int64) pipeline.Counters {
	for _, c := range []*int64{&sum.Submits, &sum.Dispatches, &sum.Barriers, &sum.Splits, &sum.WeightBytes, &sum.PrefetchBytes,
		&sum.KVBytes, &sum.ActivationBytes, &sum.HostToDeviceBytes, &sum.DeviceToHostBytes, &sum.MinimumBytes, &sum.Operations,
		&sum.F16Operations, &sum.Int8Operations, &sum.MatrixOperations, &sum.Records} {
		*c = (*c + n/2) / n
	}
	return sum
}
