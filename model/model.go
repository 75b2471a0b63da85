package model

import (
	"context"
	"errors"
	"fmt"
	"math"
	"sync"
	"time"

	"github.com/rs/zerolog"

	"pumice/checkpoint"
	"pumice/internal/dtype"
	"pumice/pipeline"
)

// Options says how a model is loaded. The zero value is the default.
type Options struct {
	Context  int                     // positions of the KV cache; 0: what was trained, at most DefaultContext
	DType    dtype.DType             // type that matrices are converted to, or the one that ForRow gives for theirs; Invalid keeps the checkpoint's
	KVType   dtype.DType             // one of pipeline.CacheTypes; Invalid means F16
	Chunk    int                     // largest run of a prefill; 0 means DefaultChunk
	LoRA     []LoRA                  // adapters, added to the matrices in this order
	Taps     bool                    // record the results inside the decoder, for tests
	Workers  int                     // goroutines that convert weights; 0 means 2
	Progress func(done, total int64) // bytes of the checkpoint, one call at a time; may be nil
	Logger   zerolog.Logger
}

// Defaults of Options.
const (
	DefaultContext = 4096
	DefaultChunk   = 512
)

// allLogitsBytes bounds the logits that one run of AllLogits leaves on the device.
const allLogitsBytes = 16 << 20

// ErrContextFull is a run that does not fit the KV cache.
var ErrContextFull = errors.New("the context is full")

// A TokenError is a token id that the model does not have.
type TokenError struct {
	Index, ID, VocabSize int
}

func (e *TokenError) Error() string {
	return fmt.Sprintf("model: token %d is %d, the vocabulary has ids 0 to %d", e.Index, e.ID, e.VocabSize-1)
}

// A Model is a checkpoint on a device. One goroutine at a time uses it. It keeps no record of
// what the KV cache holds: Forward writes the positions it is told, and the caller knows which
// ones are valid.
type Model struct {
	cfg     *Config
	opts    Options
	m       *pipeline.Manager
	store   *pipeline.Weights
	weights *Weights
	cache   *pipeline.Cache
	memory  MemoryPlan
	plans   map[planKey]*pipeline.Plan
	ladder  []int
	logits  []float32
	hidden  []float32 // the tokens' rows, for a span that does not begin with the embedding
}

type planKey struct {
	tokens int
	want   Want
}

// normalise fills in the defaults that depend on the configuration.
func (o *Options) normalise(cfg *Config) error {
	if o.Context == 0 {
		o.Context = min(cfg.MaxPositionEmbeddings, DefaultContext)
	}
	if o.Context < 1 || o.Context > 1<<24 {
		return fmt.Errorf("model: a context of %d positions; 1 to %d are possible", o.Context, 1<<24)
	}
	if o.Context > cfg.MaxPositionEmbeddings {
		o.Logger.Warn().Int("context", o.Context).Int("trained", cfg.MaxPositionEmbeddings).Msg("the context is longer than the model was trained for")
	}
	if o.KVType == dtype.Invalid {
		o.KVType = dtype.F16
	}
	if o.Chunk == 0 {
		o.Chunk = DefaultChunk
	}
	if o.Chunk < 1 {
		return fmt.Errorf("model: a chunk of %d tokens", o.Chunk)
	}
	o.Chunk = min(o.Chunk, o.Context)
	if o.Workers == 0 {
		o.Workers = 2
	}
	return nil
}

// ladder is the run lengths that plans are recorded for: a run of n tokens uses the
// shortest plan that takes it.
func ladder(chunk int) []int {
	var out []int
	for _, n := range []int{1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024} {
		if n < chunk {
			out = append(out, n)
		}
	}
	return append(out, chunk)
}

// Estimate says what loading would take, and returns a *FitError beside it if the device has
// less.
func Estimate(m *pipeline.Manager, c *checkpoint.Checkpoint, o Options) (MemoryPlan, error) {
	cfg, err := ReadConfig(c)
	if err != nil {
		return MemoryPlan{}, err
	}
	if err := o.normalise(cfg); err != nil {
		return MemoryPlan{}, err
	}
	adapters, err := openAdapters(o.LoRA)
	if err != nil {
		return MemoryPlan{}, err
	}
	defer adapters.Close()
	w, err := bind(m, c, cfg, adapters, &o, cfg.whole())
	if err != nil {
		return MemoryPlan{}, err
	}
	return estimate(m, c, cfg, adapters, w, &o)
}

func estimate(m *pipeline.Manager, c *checkpoint.Checkpoint, cfg *Config, a adapters, w *Weights, o *Options) (MemoryPlan, error) {
	shape := cfg.cacheShape(o, o.Context, w.span)
	p := MemoryPlan{
		Context: o.Context, KVType: o.KVType.String(),
		WeightsBytes: w.bytes, WeightTypes: w.types, CacheBytes: shape.Bytes(), TableBytes: w.tableBytes,
	}
	dry := &Model{cfg: cfg, opts: *o, m: m, weights: w, cache: shape.Dry(), ladder: ladder(o.Chunk)}
	largest := []planKey{{o.Chunk, Logits}, {dry.allLogitsRun(), AllLogits}, {o.Chunk, SequenceLogits}}
	if !w.span.ends(cfg) {
		largest = []planKey{{o.Chunk, Hidden}}
	}
	for _, k := range largest {
		b := dry.builder(k)
		n, err := b.ArenaBytes()
		if err != nil {
			return p, err
		}
		p.ArenaBytes = max(p.ArenaBytes, n)
		p.OutputBytes += b.OutputBytes()
	}
	dev := m.Device()
	if !dev.HostVisible() {
		p.StagingBytes = pipeline.StagingBytes
	}
	p.TotalBytes = p.WeightsBytes + p.CacheBytes + p.TableBytes + p.ArenaBytes + p.OutputBytes + p.StagingBytes
	var err error
	if p.AvailableBytes, err = available(dev); err != nil {
		return p, err
	}
	name := dev.PhysicalDevice().Name
	if p.TotalBytes > p.AvailableBytes {
		weightsAs := func(t dtype.DType) int64 {
			as := *o
			as.DType, as.Logger = t, zerolog.Nop()
			if other, err := bind(m, c, cfg, a, &as, w.span); err == nil {
				return other.bytes
			}
			return p.WeightsBytes
		}
		return p, &FitError{Device: name, Needed: p.TotalBytes, Available: p.AvailableBytes, Plan: p, Fits: suggest(p, cfg, o, w.span, weightsAs)}
	}
	if most := m.MaxCachePositions(shape); most < o.Context {
		limit := dev.PhysicalDevice().Limits.MaxStorageBufferRange
		return p, &FitError{Device: name + "'s bindings for one layer's keys", Needed: limit / int64(most) * int64(o.Context),
			Available: limit, Plan: p, Fits: []string{fmt.Sprintf("--context %d", most)}}
	}
	return p, nil
}

// Load puts a checkpoint on the device of m. The checkpoint may be closed afterwards; the
// caller closes the Model before the Manager.
func Load(ctx context.Context, m *pipeline.Manager, c *checkpoint.Checkpoint, o Options) (*Model, error) {
	cfg, err := ReadConfig(c)
	if err != nil {
		return nil, err
	}
	if err := o.normalise(cfg); err != nil {
		return nil, err
	}
	adapters, err := openAdapters(o.LoRA)
	if err != nil {
		return nil, err
	}
	defer adapters.Close()
	return loadSpan(ctx, m, c, cfg, adapters, o, cfg.whole())
}

// loadSpan is Load of some layers, with what comes before the first and after the last layer.
func loadSpan(ctx context.Context, m *pipeline.Manager, c *checkpoint.Checkpoint, cfg *Config, a adapters, o Options, at span) (_ *Model, err error) {
	w, err := bind(m, c, cfg, a, &o, at)
	if err != nil {
		return nil, err
	}
	x := &Model{cfg: cfg, opts: o, m: m, weights: w, plans: map[planKey]*pipeline.Plan{}, ladder: ladder(o.Chunk)}
	if x.memory, err = estimate(m, c, cfg, a, w, &o); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, x.Close())
		}
	}()
	if x.cache, err = m.NewCache(cfg.cacheShape(&o, o.Context, at)); err != nil {
		return nil, err
	}
	if err = m.ReserveArena(x.memory.ArenaBytes); err != nil {
		return nil, err
	}
	x.store = m.NewWeights()
	if err = x.upload(ctx); err != nil {
		return nil, fmt.Errorf("model: %s: %w", c.Path(), err)
	}
	return x, nil
}

func (x *Model) upload(ctx context.Context) error {
	start := time.Now()
	l, err := x.store.NewLoader()
	if err != nil {
		return err
	}
	l.Workers = x.opts.Workers
	if progress := x.opts.Progress; progress != nil {
		var mu sync.Mutex
		var done int64
		l.Progress = func(n int64) {
			mu.Lock()
			defer mu.Unlock()
			done += n
			progress(done, x.weights.read)
		}
	}
	err = x.weights.load(ctx, l)
	if cerr := l.Close(); err == nil {
		err = cerr
	}
	x.opts.Logger.Debug().Int64("bytes", x.store.Bytes()).Dur("took", time.Since(start)).Msg("weights are on the device")
	return err
}

// CanResume says whether evaluation may go on at position when positions up to length have been
// written: layers with a sliding window forget what is far behind.
func (x *Model) CanResume(length, position int) bool {
	if position > length {
		return false
	}
	shape := x.cfg.cacheShape(&x.opts, x.opts.Context, x.cfg.whole())
	if shape.Local == nil || length <= shape.LocalPositions {
		return true
	}
	// The token at position sees back to position - window + 1; that slot is overwritten by the
	// token LocalPositions later.
	return max(0, position-x.cfg.SlidingWindow+1) >= length-shape.LocalPositions
}

// Config is the model's configuration.
func (x *Model) Config() *Config { return x.cfg }

// Memory is what the model takes on the device.
func (x *Model) Memory() MemoryPlan { return x.memory }

// Context is the number of positions of the KV cache.
func (x *Model) Context() int { return x.opts.Context }

// Close frees plans, cache and weights.
func (x *Model) Close() error {
	var errs []error
	for _, p := range x.plans {
		errs = append(errs, p.Close())
	}
	x.plans = nil
	if x.cache != nil {
		errs = append(errs, x.cache.Close())
		x.cache = nil
	}
	if x.store != nil {
		errs = append(errs, x.store.Close())
		x.store = nil
	}
	return errors.Join(errs...)
}

func (x *Model) allLogitsRun() int {
	return max(1, min(x.opts.Chunk, allLogitsBytes/(4*x.cfg.VocabSize)))
}

func (x *Model) builder(k planKey) *pipeline.Builder {
	b := x.m.NewBuilder(fmt.Sprintf("plan of %d tokens for %s", k.tokens, k.want), k.tokens)
	if x.opts.Taps {
		b.EnableTaps()
	}
	decode(b, x.cfg, x.weights, x.cache, k.want)
	return b
}

func (x *Model) plan(k planKey) (*pipeline.Plan, error) {
	if p, ok := x.plans[k]; ok {
		return p, nil
	}
	p, err := x.builder(k).Build()
	if err != nil {
		return nil, fmt.Errorf("model: %w", err)
	}
	x.plans[k] = p
	return p, nil
}

// Plan returns the plan that the last position of a run of n tokens goes through, recorded if
// it was not yet: what profiles and taps are read from.
func (x *Model) Plan(n int, want Want) (*pipeline.Plan, error) {
	return x.plan(planKey{x.rung(n, want), want})
}

// rung is the length of the plan for a run of n tokens.
func (x *Model) rung(n int, want Want) int {
	if want == AllLogits {
		return x.allLogitsRun()
	}
	for _, r := range x.ladder {
		if n <= r {
			return r
		}
	}
	return x.ladder[len(x.ladder)-1]
}

// Output is what a run leaves.
type Output struct {
	Argmax   int       // with Argmax: the last position's largest logit, the lowest id among equals
	Logits   []float32 // with Logits (vocab), AllLogits (tokens, vocab) or Hidden (tokens, hidden size), of sequences (sequences, vocab); valid until the next run
	Counters pipeline.Counters
}

// Forward evaluates tokens at cache positions position, position+1, ..., writing their keys
// and values; positions before must hold what came before. Long runs go in pieces, between
// which ctx is looked at. Errors: ErrContextFull, *TokenError, those of the device.
func (x *Model) Forward(ctx context.Context, tokens []int, position int, want Want) (Output, error) {
	var out Output
	if err := x.checkRun(tokens, position); err != nil {
		return out, err
	}
	if want.everyRow() {
		x.logits = resize(x.logits, len(tokens)*x.rowSize(want))
		out.Logits = x.logits
	}
	for done := 0; done < len(tokens); {
		if err := ctx.Err(); err != nil {
			return out, err
		}
		n := min(len(tokens)-done, x.rung(len(tokens)-done, want))
		now := want
		if done+n < len(tokens) && !want.everyRow() {
			now = Nothing
		}
		if err := x.run(pipeline.Step{Position: position + done, Tokens: tokens[done : done+n]}, now, done, &out); err != nil {
			return out, err
		}
		done += n
	}
	return out, nil
}

// run evaluates a run, the first token of which is number done, and adds what it leaves to out.
func (x *Model) run(s pipeline.Step, want Want, done int, out *Output) error {
	n := len(s.Tokens)
	p, err := x.Plan(n, want)
	if err != nil {
		return err
	}
	var hidden int64
	if !x.weights.span.begins() {
		size := x.cfg.HiddenSize
		if hidden, err = p.Input(x.hidden[done*size : (done+n)*size]); err != nil {
			return err
		}
	}
	c, err := p.Run(s)
	if err != nil {
		return err
	}
	c.HostToDeviceBytes += hidden
	rows := n
	if want == SequenceLogits {
		rows = len(s.Lengths)
	}
	if c.DeviceToHostBytes, err = x.read(p, want, done, rows, out); err != nil {
		return err
	}
	out.Counters.Add(c)
	return nil
}

// checkRun finds what is wrong with a run before anything is evaluated.
func (x *Model) checkRun(tokens []int, position int) error {
	if len(tokens) == 0 {
		return errors.New("model: no tokens to evaluate")
	}
	for i, id := range tokens {
		if id < 0 || id >= x.cfg.VocabSize {
			return &TokenError{Index: i, ID: id, VocabSize: x.cfg.VocabSize}
		}
	}
	if position < 0 || position+len(tokens) > x.opts.Context {
		return fmt.Errorf("model: %d tokens at position %d of a context of %d: %w", len(tokens), position, x.opts.Context, ErrContextFull)
	}
	return nil
}

// Sequences is how many sequences ForwardSequences takes at once, and how many tokens they may have together.
func (x *Model) Sequences() (n, tokens int) { return maxSequences(x.opts.Chunk), x.opts.Chunk }

// ForwardSequences evaluates several sequences at once, each of which goes on from what the cache holds before position as if it
// were the only one, and leaves the logits at the end of each. Together they take the positions from there on, whose keys and
// values are of no use afterwards. Errors are those of Forward.
func (x *Model) ForwardSequences(sequences [][]int, position int) (Output, error) {
	s, err := x.sequences(sequences, position)
	if err != nil {
		return Output{}, err
	}
	return x.runSequences(s, SequenceLogits)
}

func (x *Model) runSequences(s pipeline.Step, want Want) (out Output, err error) {
	if want.everyRow() {
		x.logits = resize(x.logits, len(s.Tokens)*x.rowSize(want))
		out.Logits = x.logits
	}
	err = x.run(s, want, 0, &out)
	return out, err
}

// sequences puts sequences into one run, unless something is wrong with them.
func (x *Model) sequences(sequences [][]int, position int) (s pipeline.Step, err error) {
	s.Position = position
	for i, q := range sequences {
		if len(q) == 0 {
			return s, fmt.Errorf("model: sequence %d has no tokens", i)
		}
		s.Tokens, s.Lengths = append(s.Tokens, q...), append(s.Lengths, len(q))
	}
	if err := x.checkRun(s.Tokens, position); err != nil {
		return s, err
	}
	if n, most := x.Sequences(); len(sequences) > n || len(s.Tokens) > most {
		return s, fmt.Errorf("model: %d sequences of %d tokens together; at most %d of %d are possible", len(sequences), len(s.Tokens), n, most)
	}
	return s, nil
}

// read fetches n rows that a run, the first token of which is number done, has left.
func (x *Model) read(p *pipeline.Plan, want Want, done, n int, out *Output) (int64, error) {
	switch want {
	case Argmax:
		var pair [2]float32
		bytes, err := p.Output(outArgmax, 0, 1, pair[:])
		out.Argmax = int(math.Float32bits(pair[1]))
		if err == nil && (math.IsNaN(float64(pair[0])) || math.IsInf(float64(pair[0]), 0) || out.Argmax >= x.cfg.VocabSize) {
			err = fmt.Errorf("model: the largest logit is %v: the model's output is not finite", pair[0])
		}
		return bytes, err
	case Logits:
		x.logits = resize(x.logits, x.cfg.VocabSize)
		out.Logits = x.logits
		return p.Output(outLogits, 0, 1, out.Logits)
	case SequenceLogits:
		x.logits = resize(x.logits, n*x.cfg.VocabSize)
		out.Logits = x.logits
		return p.Output(outLogits, 0, n, out.Logits)
	case AllLogits:
		v := x.cfg.VocabSize
		return p.Output(outLogits, 0, n, out.Logits[done*v:(done+n)*v])
	case Hidden:
		h := x.cfg.HiddenSize
		return p.Output(outHidden, 0, n, out.Logits[done*h:(done+n)*h])
	}
	return 0, nil
}

// rowSize is the length of a row of Output.Logits.
func (x *Model) rowSize(want Want) int {
	if want == Hidden {
		return x.cfg.HiddenSize
	}
	return x.cfg.VocabSize
}

func resize(f []float32, n int) []float32 {
	if cap(f) < n {
		return make([]float32, n)
	}
	return f[:n]
}
