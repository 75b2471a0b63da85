package model

import (
	"context"
	"errors"
	"fmt"
	"runtime"
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
	KVType   dtype.DType             // one of kernels.CacheTypes; Invalid means F16
	Chunk    int                     // largest run of a prefill; 0 means DefaultChunk
	LoRA     []LoRA                  // adapters, added to the matrices in this order
	Taps     bool                    // record the results inside the decoder, for tests
	Workers  int                     // goroutines that convert weights; 0 means one for each processor, 2 to 16
	Progress func(done, total int64) // bytes of the checkpoint, one call at a time; may be nil
	Logger   zerolog.Logger
}

// Defaults of Options.
const (
	DefaultContext = 4096
	DefaultChunk   = 512
)

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
	last    *pipeline.Plan // the one that ran last; nil = none
	ladder  []int
	logits  []float32
	hidden  []float32 // the tokens' rows, for a span that does not begin with the embedding
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
		o.Workers = min(max(2, runtime.GOMAXPROCS(0)), 16)
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
// less. It reads no weights, so it does not know of layers whose keys and values need an F32 cache.
func Estimate(ctx context.Context, m *pipeline.Manager, c *checkpoint.Checkpoint, o Options) (MemoryPlan, error) {
	cfg, err := ReadConfig(c)
	if err != nil {
		return MemoryPlan{}, err
	}
	if err := o.normalise(cfg); err != nil {
		return MemoryPlan{}, err
	}
	adapters, err := openAdapters(ctx, o.LoRA)
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

// dryModel is a model without memory: its plans can be built up but not recorded.
func dryModel(m *pipeline.Manager, cfg *Config, w *Weights, o *Options) *Model {
	return &Model{cfg: cfg, opts: *o, m: m, weights: w, cache: w.cacheShape(cfg, o, o.Context).Dry(), ladder: ladder(o.Chunk)}
}

// planKeys lists the plans that a model can come to have.
func (x *Model) planKeys() []planKey {
	if !x.weights.span.ends(x.cfg) {
		var keys []planKey
		for _, tokens := range x.ladder {
			keys = append(keys, planKey{tokens, Hidden})
		}
		return keys
	}
	keys := []planKey{{x.allLogitsRun(), AllLogits}}
	for _, tokens := range x.ladder {
		keys = append(keys, planKey{tokens, Nothing}, planKey{tokens, Argmax}, planKey{tokens, Logits}, planKey{tokens, SequenceLogits}, planKey{tokens, Candidates})
		if tokens < x.allArgmaxRun() {
			keys = append(keys, planKey{tokens, AllArgmax})
		}
	}
	return append(keys, planKey{x.allArgmaxRun(), AllArgmax})
}

// Kernels lists the kernels that the plans of a checkpoint are made of on the device of m, each
// with its constants once. Nothing is compiled or allocated.
func Kernels(m *pipeline.Manager, c *checkpoint.Checkpoint, o Options) ([]pipeline.Kernel, error) {
	cfg, err := ReadConfig(c)
	if err != nil {
		return nil, err
	}
	if err := o.normalise(cfg); err != nil {
		return nil, err
	}
	w, err := bind(m, c, cfg, nil, &o, cfg.whole())
	if err != nil {
		return nil, err
	}
	dry := dryModel(m, cfg, w, &o)
	var list []pipeline.Kernel
	seen := map[string]bool{}
	for _, key := range dry.planKeys() {
		kernels, err := dry.builder(key).Kernels()
		if err != nil {
			return nil, err
		}
		for _, k := range kernels {
			if !seen[k.Config.Name] {
				seen[k.Config.Name] = true
				list = append(list, k)
			}
		}
	}
	return list, nil
}

func estimate(m *pipeline.Manager, c *checkpoint.Checkpoint, cfg *Config, a adapters, w *Weights, o *Options) (MemoryPlan, error) {
	shape := w.cacheShape(cfg, o, o.Context)
	p := MemoryPlan{
		Context: o.Context, KVType: o.KVType.String(),
		WeightsBytes: w.bytes, WeightTypes: w.types, CacheBytes: shape.Bytes(), TableBytes: w.tableBytes,
	}
	dry := dryModel(m, cfg, w, o)
	largest := []planKey{{o.Chunk, Logits}, {dry.allLogitsRun(), AllLogits}, {o.Chunk, SequenceLogits}, {dry.allArgmaxRun(), AllArgmax}}
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
	}
	// Every plan has buffers of its own for these, and is kept. Layers do not add to them unless they are tapped.
	ends := *w
	if !o.Taps {
		ends.Layers = nil
	}
	dry.weights = &ends
	for _, k := range dry.planKeys() {
		p.OutputBytes += dry.builder(k).OutputBytes()
	}
	dev := m.Device()
	if !dev.HostVisible() {
		p.StagingBytes = pipeline.StagingBytes
	}
	p.TotalBytes = p.WeightsBytes + p.CacheBytes + p.TableBytes + p.ArenaBytes + p.OutputBytes + p.StagingBytes
	room, err := available(dev)
	if err != nil {
		return p, err
	}
	p.AvailableBytes, p.AvailableLimit = room.Bytes, room.Limit
	if p.TotalBytes > p.AvailableBytes {
		weightsAs := func(t dtype.DType) int64 {
			as := *o
			as.DType, as.Logger = t, zerolog.Nop()
			if other, err := bind(m, c, cfg, a, &as, w.span); err == nil {
				return other.bytes
			}
			return p.WeightsBytes
		}
		return p, &FitError{Device: dev.PhysicalDevice().Name, Needed: p.TotalBytes, Available: room.Bytes,
			Limit: room.Limit, Plan: p, Fits: p.smaller(cfg, o, w, weightsAs)}
	}
	if err := p.checkHost(dev); err != nil {
		return p, err
	}
	return p, p.checkBindings(m, shape, w)
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
	adapters, err := openAdapters(ctx, o.LoRA)
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
	if err := w.fitCache(ctx, m, cfg, &o); err != nil {
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
	if x.cache, err = m.NewCache(w.cacheShape(cfg, &o, o.Context)); err != nil {
		return nil, err
	}
	if err = m.ReserveArena(x.memory.ArenaBytes); err != nil {
		return nil, err
	}
	x.store = m.NewWeights(x.memory.WeightsBytes + x.memory.TableBytes)
	if err = x.upload(ctx); err != nil {
		return nil, fmt.Errorf("model: %s: %w", c.Path(), err)
	}
	return x, nil
}

func (x *Model) upload(ctx context.Context) error {
	start := time.Now()
	l, err := x.store.NewLoader(ctx)
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
