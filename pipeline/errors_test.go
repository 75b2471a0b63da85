package pipeline

import (
	"context"
	"slices"
	"strings"
	"testing"

	"pumice/internal/dtype"
	"pumice/internal/gputest"
	"pumice/pipeline/kernels"
)

func wantError(t *testing.T, what string, err error, parts ...string) {
	t.Helper()
	if err == nil {
		t.Errorf("%s: no error", what)
		return
	}
	for _, part := range parts {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("%s: %q does not say %q", what, err, part)
		}
	}
}

// An operation that does not fit is the plan's error, with the numbers; what follows it
// neither panics nor replaces the error.
func TestBuilderErrorsStick(t *testing.T) {
	b := newBench(t, newManager(t, Options{}))
	w := b.matrix(dtype.F32, 8, 64).matrix
	gain := b.vector(b.normal(64))
	cache, err := b.m.NewCache(CacheShape{DType: dtype.F16, Layers: 1, KVHeads: 2, HeadDim: 16, Positions: 4})
	if err != nil {
		t.Fatal(err)
	}
	defer cache.Close()
	l := cache.Layers[0]
	for _, c := range []struct {
		name  string
		op    func(p *Builder, x *Tensor) // x is (2, 64)
		parts []string
	}{
		{"linear columns", func(p *Builder, x *Tensor) { p.Linear(p.Linear(x, w, nil), w, nil) }, []string{"matrix", "(8, 64)", "8 columns"}},
		{"linear bias", func(p *Builder, x *Tensor) { p.Linear(x, w, gain) }, []string{"matrix", "(8, 64)"}},
		{"linear add", func(p *Builder, x *Tensor) { p.LinearAdd(x, x, w, nil) }, []string{"(2, 8)", "(2, 64)"}},
		{"norm", func(p *Builder, x *Tensor) { p.Norm(p.Linear(x, w, nil), &Norm{Weights: gain}) }, []string{"64", "8"}},
		{"rms norm with bias", func(p *Builder, x *Tensor) { p.Norm(x, &Norm{Weights: gain, Bias: gain}) }, []string{"bias"}},
		{"head norm", func(p *Builder, x *Tensor) { p.HeadNorm(x, Heads{Heads: 2, KVHeads: 1, HeadDim: 16}, gain, gain, 0) }, []string{"64", "16"}},
		{"rope", func(p *Builder, x *Tensor) { p.RopeStore(x, Heads{Heads: 3, KVHeads: 1, HeadDim: 16}, gain, l) }, []string{"64 columns", "3 + 2 * 1 heads of 16"}},
		{"rope dimensions", func(p *Builder, x *Tensor) {
			p.RopeStore(x, Heads{Heads: 2, KVHeads: 1, HeadDim: 16, RotaryDim: 18}, gain, l)
		}, []string{"18 of them rotary"}},
		{"attention heads", func(p *Builder, x *Tensor) { p.Attention(x, Heads{Heads: 4, KVHeads: 3, HeadDim: 16}, l, 1) }, []string{"4 heads", "3 key-value"}},
		{"attention dimension", func(p *Builder, x *Tensor) { p.Attention(x, Heads{Heads: 1, KVHeads: 1, HeadDim: 512}, l, 1) }, []string{"512", "256"}},
		{"add", func(p *Builder, x *Tensor) { p.Add(x, p.Linear(x, w, nil)) }, []string{"(2, 8)", "(2, 64)"}},
		{"odd gate and up", func(p *Builder, x *Tensor) {
			p.ActMul(p.ActMul(p.ActMul(p.ActMul(p.Linear(x, w, nil), kernels.SiLU), kernels.SiLU), kernels.SiLU), kernels.SiLU)
		}, []string{"1 columns"}},
		{"sequences", func(p *Builder, x *Tensor) { p.NormLast(x, &Norm{Weights: gain}, 17) }, []string{"17 sequences", "16"}},
		{"advance", func(p *Builder, x *Tensor) { p.Advance(x) }, []string{"2 tokens"}},
		{"draw and advance", func(p *Builder, x *Tensor) { p.Draw(x); p.Advance(x) }, []string{"advance: a plan of 2 tokens, which chooses tokens already: true"}},
		{"draw many", func(p *Builder, x *Tensor) { p.Draw(p.tensor(17, 64)) }, []string{"draw: 17 rows", "16"}},
		{"adjust twice", func(p *Builder, x *Tensor) { p.Adjust(x); p.Adjust(x) }, []string{"adjust: 2 rows of logits, some before: true"}},
		{"allow many", func(p *Builder, x *Tensor) { p.Allow(p.tensor(17, 64)) }, []string{"allow: 17 rows of logits", "16"}},
		{"topk k", func(p *Builder, x *Tensor) { p.TopK(p.NormLast(x, &Norm{Weights: gain}, 1), 257) }, []string{"k = 257", "256"}},
		{"unwritten", func(p *Builder, x *Tensor) { p.Add(p.tensor(2, 64), x) }, []string{"add reads a tensor that nothing has written"}},
		{"shader", func(p *Builder, x *Tensor) {
			p.add(&node{kernel: "add", binds: []bind{stepBind(), read(x), readWrite(x)}, push: make([]byte, 8)})
		}, []string{"add: 8 bytes of push constants, the shader has 4"}},
		{"driver of the builder", func(p *Builder, x *Tensor) { p.Fail("layer %d: %s", 17, "odd") }, []string{"layer 17: odd"}},
	} {
		p := b.m.NewBuilder("sticky", 2)
		x := b.inputOf(p, b.normal(2*64), 64)
		c.op(p, x)
		nodes := len(p.nodes)
		p.Fail("a later error")
		y := p.Linear(x, w, nil)
		p.Tap("y", y)
		p.Output("y", p.Softmax(y, 1))
		if len(p.nodes) != nodes {
			t.Errorf("%s: later operations were recorded", c.name)
		}
		_, err := p.Need()
		wantError(t, c.name, err, append(c.parts, "pipeline: sticky: ")...)
		_, again := p.Build(context.Background())
		if again == nil || err == nil || again.Error() != err.Error() {
			t.Errorf("%s: Build says %v, Need %v", c.name, again, err)
		}
	}
	_, err = b.m.NewBuilder("none", 0).Build(context.Background())
	wantError(t, "no tokens", err, "none: a plan for 0 tokens")
}

func TestErrorsNameTheNumbers(t *testing.T) {
	dev := gputest.Open(t)
	b := newBench(t, managerOn(t, dev, Options{}))
	m := b.m
	limit := dev.PhysicalDevice().Limits.MaxStorageBufferRange

	_, err := m.NewMatrix("w", []Band{{dtype.F64, 2}}, 64)
	wantError(t, "type", err, "w: no kernel reads F64 weights")
	_, err = m.NewMatrix("w", []Band{{dtype.Q8_0, 2}}, 63)
	wantError(t, "block", err, "w: (2, 63) is not a matrix of whole Q8_0 blocks of 32")
	_, err = m.NewMatrix("w", []Band{{dtype.F32, 0}}, 64)
	wantError(t, "rows", err, "w: (0, 64)")
	_, err = m.NewMatrix("w", []Band{{dtype.F32, 1}}, 0)
	wantError(t, "columns", err, "w: 0 columns")
	m.LimitBinding(4096)
	_, err = m.NewMatrix("w", []Band{{dtype.F32, 100}}, 2000)
	wantError(t, "binding", err, "w: one group of rows of 2000 F32 weights", "binding limit of 4096 bytes")
	m.LimitBinding(0)

	_, err = m.NewCache(CacheShape{DType: dtype.Q4_0, Layers: 1, KVHeads: 1, HeadDim: 64, Positions: 8})
	wantError(t, "cache type", err, "Q4_0")
	_, err = m.NewCache(CacheShape{DType: dtype.F16, Layers: 1, KVHeads: 1, HeadDim: 66, Positions: 8})
	wantError(t, "head dimension", err, "66")
	shape := CacheShape{DType: dtype.F16, Layers: 1, KVHeads: 1, HeadDim: 64}
	if most := m.MaxCachePositions(shape); int64(most+2*kernels.PageSize)*128 <= limit || int64(most+kernels.PageSize)*128 > limit {
		t.Errorf("a cache of at most %d positions of 128 bytes for a limit of %d", most, limit)
	}
	shape.Positions = m.MaxCachePositions(shape) + 1
	_, err = m.NewCache(shape)
	wantError(t, "cache size", err, "F16", "the device binds at most")

	_, err = NewManager(dev, Options{Path: "fast"})
	wantError(t, "path", err, `"fast"`, `"base"`, `"row"`)
	if !slices.Contains(m.Paths(), kernels.Row) {
		_, err = NewManager(dev, Options{Path: kernels.Row})
		wantError(t, "row path", err, "lacks what kernel path", dev.PhysicalDevice().Name)
	}

	p := m.NewBuilder("small", 2)
	y := b.inputOf(p, b.normal(2*64), 64)
	p.Output("y", y)
	_, err = p.Build(context.Background())
	wantError(t, "no arena", err, "small needs an arena of 512 bytes")
	need := Need{Arena: 512, Step: stepBytes(2), Readback: 512}
	for _, c := range []struct {
		need Need
		want string
	}{
		{Need{Arena: 1, Step: need.Step, Readback: 512}, "small needs an arena of 512 bytes; Reserve was given 1"},
		{Need{Arena: 512, Step: need.Step}, "small needs a read-back buffer of 512 bytes; Reserve was given 0"},
	} {
		m := managerOn(t, dev, Options{})
		if err := m.Reserve(c.need); err != nil {
			t.Fatal(err)
		}
		p.m = m
		_, err = p.Build(context.Background())
		wantError(t, "little memory", err, c.want)
	}
	p.m = m
	if err := m.Reserve(need); err != nil {
		t.Fatal(err)
	}
	plan, err := p.Build(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	wantError(t, "a larger arena", m.Reserve(Need{Arena: 513}), "an arena of 513 bytes", "1 plans use the one of 512")
	wantError(t, "a log", m.Reserve(Need{Log: 8}), "a log buffer of 8 bytes", "1 plans use the one of 0")
	_, err = plan.Run(context.Background(), Step{})
	wantError(t, "no tokens", err, "small: 0 tokens in a plan for 2")
	_, err = plan.Run(context.Background(), one(0, 0, 0, 0))
	wantError(t, "too many tokens", err, "small: 3 tokens in a plan for 2")
	_, err = plan.Run(context.Background(), one(-1, 0))
	wantError(t, "position", err, "small: position -1")
	_, err = plan.Run(context.Background(), Step{Sequences: []Sequence{{Tokens: []int{0, 1}, Endings: []int{1}}}})
	wantError(t, "short sequences", err, "small: sequences of 1 tokens in a run of 2")
	_, err = plan.Run(context.Background(), Step{Sequences: []Sequence{{Tokens: []int{0, 1}, Endings: []int{1, 2}}}})
	wantError(t, "long sequences", err, "small: sequence 1 of 2 tokens in a run of 2")
	_, err = plan.Run(context.Background(), Step{Sequences: []Sequence{{Tokens: []int{0, 1}, Endings: []int{2, 0}}}})
	wantError(t, "empty sequence", err, "small: sequence 1 of 0 tokens in a run of 2")
	run(t, plan, inputStep(0, 2))
	_, err = plan.Output("z", 0, 1, make([]float32, 64))
	wantError(t, "output name", err, `no output "z"`)
	_, err = plan.Output("y", 1, 2, make([]float32, 128))
	wantError(t, "output rows", err, "rows 1 to 3", "(2, 64)", "128 values")
	_, err = plan.Output("y", 0, 1, make([]float32, 63))
	wantError(t, "output values", err, "63 values")
	wantError(t, "tap", plan.Tap("y", 0, 1, make([]float32, 64)), `no output "y"`)
	if err := plan.Close(); err != nil {
		t.Error(err)
	}
	if err := plan.Close(); err != nil {
		t.Error("second Close:", err)
	}
	_, err = plan.Run(context.Background(), inputStep(0, 1))
	wantError(t, "closed", err, "closed")
}

// Products of last tokens go by the number of the step's tokens, so a plan has room for as many, or for one. A batch has
// no more sequences than a step.
func TestBuilderRefusesRowsAndBatches(t *testing.T) {
	b := newBench(t, newManager(t, Options{}))
	w := b.matrix(dtype.F32, 8, 64).matrix
	gain := b.vector(b.normal(64))
	for _, c := range []struct {
		rows, singles, sequences int
		parts                    []string // of the error; nil means none
	}{
		{1, 0, 1, nil}, {16, 0, 16, nil}, {16, 3, 13, nil},
		{3, 0, 3, []string{"3 sequences in 20 tokens", "1 or 16"}},
		{16, 1, 16, []string{"1 single tokens and 16 other sequences"}},
		{16, 21, 0, []string{"21 single tokens"}},
		{16, 7, 0, []string{"7 single tokens and 0 other sequences in 20 tokens"}},
	} {
		p := b.m.NewBuilder("batch", 20)
		p.Batch(c.singles, c.sequences)
		p.Linear(p.NormLast(b.inputOf(p, b.normal(20*64), 64), &Norm{Weights: gain}, c.rows), w, nil)
		if _, err := p.Need(); c.parts != nil {
			wantError(t, "batch", err, c.parts...)
		} else if err != nil {
			t.Errorf("%d rows, %d and %d: %v", c.rows, c.singles, c.sequences, err)
		}
	}
}
