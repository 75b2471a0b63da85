package verify

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"pumice/internal/dtype"
	"pumice/pipeline"
	"pumice/pipeline/kernels"
)

// Check compares the kernels that models of these weight types and this cache type use with
// the oracle, a few cases each, and records in t the checked types and the failures. Kernels does
// the same for every kernel and every case. On a GPU it also times the kernels that rules may choose, so that they leave out
// those that a driver makes far slower than the base kernel. It leaves out paths that are unproven, which Tune checks.
func Check(ctx context.Context, m *pipeline.Manager, t *pipeline.Tuning, types []pipeline.DType, cache pipeline.DType) error {
	if err := brief(ctx, m, t, slices.DeleteFunc(m.Paths(), unproven), types, []pipeline.DType{cache}); err != nil {
		return err
	}
	if !m.Machine().CPU() { // whose rules were measured
		u, done, err := newTuner(ctx, m, t)
		if err != nil {
			return err
		}
		err = u.screen(types)
		done()
		if err != nil {
			return err
		}
	}
	for _, kind := range types {
		t.MarkChecked(kind)
	}
	t.MarkChecked(cache)
	return nil
}

// unproven reports whether no device has run the kernels of a path, or they are there for checks alone.
func unproven(path kernels.Path) bool {
	k := kernels.Matmul.Of(path)
	return k != nil && (k.Unproven || k.StandsFor != "")
}

// brief checks a few cases of each kernel of the paths, and records in t which were right.
func brief(ctx context.Context, m *pipeline.Manager, t *pipeline.Tuning, paths []kernels.Path, types, caches []pipeline.DType) error {
	return onPaths(ctx, m, paths, len(kernels.Paths), func(r Result) { Note(t, r) }, nil, func(v *verifier) { v.briefCases(types, caches) })
}

// prove checks unproven kernels of products with weights of these types, each once.
func prove(ctx context.Context, m *pipeline.Manager, t *pipeline.Tuning, types []pipeline.DType) error {
	for _, path := range m.Paths() {
		if !unproven(path) || kernels.Matmul.Of(path).StandsFor != "" {
			continue
		}
		left := slices.DeleteFunc(slices.Clone(types), func(kind pipeline.DType) bool {
			op := "matmul_" + kernels.Lower(kind)
			return !m.Offers(op, path) || t.HasPassed(path.Variant(op))
		})
		if err := brief(ctx, m, t, []kernels.Path{path}, left, nil); err != nil {
			return err
		}
	}
	return nil
}

// Note records in t whether a kernel was right.
func Note(t *pipeline.Tuning, r Result) {
	if r.OK {
		t.Pass(r.Kernel)
	} else {
		t.Refuse(pipeline.Refusal{Kernel: r.Kernel, Case: r.Case, MaxRel: r.MaxRel, Tolerance: r.Tolerance})
	}
}

// briefCases is one or two cases of every op, at shapes that are multiples of no tile.
func (v *verifier) briefCases(types, caches []pipeline.DType) {
	several := kernels.Matvec.Of(v.path()) == nil // the path has only kernels for several tokens
	for _, t := range types {
		cols := 4104 // what every path takes
		if n := t.BlockSize(); n > 1 {
			cols = 4096 + n
		}
		run := rowsOf(t, 66)
		v.linear(run, cols, 7, 7, true, false)
		v.fused(run, cols, 7, 7, kernels.SiLU, true)
		v.linear(run, cols, 65, 65, false, true)
		if several {
			continue
		}
		v.embed(run, cols, 65, 65, 1)
		v.linear(run, cols, 1, 1, true, true)
		v.fused(run, cols, 1, 1, kernels.SiLU, true)
	}
	for _, cache := range caches {
		if v.path() == kernels.CM && v.m.Offers("attention_"+kernels.Lower(cache), kernels.CM) {
			v.attention(cache, pipeline.Heads{Heads: 4, KVHeads: 2, HeadDim: 64}, 100, 65, 63, 256)
		}
		if several {
			continue
		}
		h := pipeline.Heads{Heads: 4, KVHeads: 2, HeadDim: 64, RotaryDim: 64}
		v.rope(cache, h, 63, 65, 63, 130)
		v.attention(cache, h, 1000, 1, 1, 1024)
		v.attention(cache, h, 100, 65, 63, 256)
		if v.fusesRope(cache) {
			v.ropeAttention(cache, h, 1000, 1024)
		}
		if v.path() == kernels.Base {
			v.attentionWeights(cache, h, 0, pipeline.MeanOfHeads, 256, 100)
		}
	}
	if several {
		return
	}
	v.norm(4100, 65, 33, false, false, false, 1)
	v.norm(4100, 65, 33, true, false, false, 1)
	v.norm(4100, 9, 7, false, true, true, 1)
	v.headNorm(pipeline.Heads{Heads: 5, KVHeads: 2, HeadDim: 80}, 9, 7)
	v.add(67, 9, 7)
	v.softCap(67, 9)
	v.act(67, 9, 7, kernels.SiLU, true)
	v.topK(1, 5000, 1, "normal")
	v.check("advance", func() error { return v.walk(1030, nil, 2, 3) })
}

// TuneOptions bounds Tune.
type TuneOptions struct {
	Types  []pipeline.DType // of weights, the most important first
	Budget time.Duration    // when it is spent, nothing new is started
}

// Tune measures the paths of matrix products on m's device and adds the times to t; on a GPU also, of the
// fastest path of a product if it has a choice, how workgroups may share it. It goes on
// where an earlier call ended: what t has is not measured again, and kernels that t refuses are
// not run. It returns the products that the budget left no time for, those that lack any of
// their measurements; the choice between a product's paths rests on all of them. Every timing goes to
// each as well, with how many of those that o asks for this call has made. Unproven kernels are checked
// first; those that are wrong are not measured.
func Tune(ctx context.Context, m *pipeline.Manager, t *pipeline.Tuning, o TuneOptions, each func(x pipeline.Measurement, done, total int)) ([]pipeline.Product, error) {
	if err := prove(ctx, m, t, o.Types); err != nil {
		return nil, err
	}
	u, done, err := newTuner(ctx, m, t)
	if err != nil {
		return nil, err
	}
	defer done()
	return u.run(o, each)
}

// newTuner is a tuner for m's device. The caller calls done.
func newTuner(ctx context.Context, m *pipeline.Manager, t *pipeline.Tuning) (_ *tuner, done func(), err error) {
	chooser, err := pipeline.NewManager(m.Device(), pipeline.Options{Tuning: t}) // which knows the kernels that t refuses
	if err != nil {
		return nil, nil, err
	}
	return &tuner{
		tuning:     t,
		lengths:    chooser.TunedTokens(),
		candidates: chooser.Candidates,
		rules: func(p pipeline.Product, path kernels.Path) bool {
			op := &kernels.Matmul
			if p.Tokens == 1 {
				op = &kernels.Matvec
			}
			return op.Of(path).Rule.Applies(chooser.Machine(), p.Tokens)
		},
		tilings: func(kind pipeline.DType, p pipeline.Product, path kernels.Path) []kernels.Tiling {
			k := kernels.Matmul.Of(path)
			if p.Tokens == 1 || k.Tilings == nil || m.Machine().CPU() { // whose rules were measured
				return nil
			}
			size, _ := measured(m, kind)
			shape := kernels.Product{Packed: kernels.Packed{DType: kind, Rows: size, Cols: size}, Tokens: p.Tokens}
			return k.Tilings(m.Machine(), shape)[1:]
		},
		now: time.Now,
		measure: func(kind pipeline.DType, p pipeline.Product, path kernels.Path, tiling kernels.Tiling) (pipeline.Measurement, error) {
			return measure(ctx, m, path, p.Op, kind, p.Tokens, tiling, t)
		},
	}, func() { _ = chooser.Close() }, nil // it has compiled nothing
}

// A tuner is Tune without the device.
type tuner struct {
	tuning     *pipeline.Tuning
	lengths    []int
	candidates func(op string) []kernels.Path
	rules      func(p pipeline.Product, path kernels.Path) bool                      // may choose the path
	tilings    func(pipeline.DType, pipeline.Product, kernels.Path) []kernels.Tiling // beside the one that rules choose
	now        func() time.Time
	measure    func(pipeline.DType, pipeline.Product, kernels.Path, kernels.Tiling) (pipeline.Measurement, error)
}

// screenTokens are the numbers of tokens for which Check times kernels.
var screenTokens = []int{1, 8, 128}

// screen measures the paths of products that rules may choose.
func (u *tuner) screen(types []pipeline.DType) error {
	for _, kind := range types {
		for _, n := range screenTokens {
			p := product(kind, n)
			for _, path := range u.candidates(p.Op) {
				if _, ok := u.tuning.Measured(p, path); ok || !u.rules(p, path) {
					continue
				}
				x, err := u.measure(kind, p, path, kernels.Tiling{})
				if err != nil {
					return fmt.Errorf("pipeline: time %s: %w", path.Variant(p.Op), err)
				}
				u.tuning.Timings = append(u.tuning.Timings, x)
			}
		}
	}
	return nil
}

func (u *tuner) run(o TuneOptions, each func(x pipeline.Measurement, done, total int)) (missing []pipeline.Product, err error) {
	deadline := u.now().Add(o.Budget)
	products := func(do func(kind pipeline.DType, p pipeline.Product)) {
		for _, kind := range o.Types {
			for _, n := range u.lengths {
				do(kind, product(kind, n))
			}
		}
	}
	done := 0
	for _, list := range []func(pipeline.DType, pipeline.Product) []job{u.paths, u.shares} {
		total := done
		products(func(kind pipeline.DType, p pipeline.Product) { total += len(u.paths(kind, p)) + len(u.shares(kind, p)) })
		products(func(kind pipeline.DType, p pipeline.Product) {
			for _, j := range list(kind, p) {
				if err != nil || u.now().After(deadline) {
					return
				}
				var x pipeline.Measurement
				if x, err = u.measure(kind, p, j.path, j.tiling); err != nil {
					err = fmt.Errorf("pipeline: tune %s: %w", j.path.Variant(p.Op), err)
					return
				}
				u.tuning.Timings = append(u.tuning.Timings, x)
				done++
				each(x, done, total)
			}
		})
	}
	missing = []pipeline.Product{} // a list in JSON, if empty
	products(func(kind pipeline.DType, p pipeline.Product) {
		if len(u.paths(kind, p))+len(u.shares(kind, p)) > 0 {
			missing = append(missing, p)
		}
	})
	return missing, err
}

// A job is a measurement of a product to make.
type job struct {
	path   kernels.Path
	tiling kernels.Tiling
}

// paths lists those of a product that are not measured yet.
func (u *tuner) paths(_ pipeline.DType, p pipeline.Product) (list []job) {
	for _, path := range u.candidates(p.Op) {
		if _, ok := u.tuning.Measured(p, path); !ok {
			list = append(list, job{path: path})
		}
	}
	return list
}

// shares lists, of a product whose paths are measured, the tilings of the fastest that are not.
func (u *tuner) shares(kind pipeline.DType, p pipeline.Product) (list []job) {
	if fastest := u.tuning.Fastest(p, u.candidates(p.Op)); len(fastest) > 0 {
		for _, tiling := range u.tilings(kind, p, fastest[0]) {
			if _, ok := u.tuning.Measurement(p, fastest[0], tiling); !ok {
				list = append(list, job{fastest[0], tiling})
			}
		}
	}
	return list
}

// product is the product of matrices of a type with so many tokens.
func product(kind pipeline.DType, tokens int) pipeline.Product {
	if tokens == 1 {
		return pipeline.Product{Op: "matvec_" + kernels.Lower(kind), Tokens: 1}
	}
	return pipeline.Product{Op: "matmul_" + kernels.Lower(kind), Tokens: tokens}
}

// coldBytes is more than the caches of GPUs hold: up to 128 MB (RDNA 2's, Blackwell's).
const coldBytes = 256 << 20

// measured is the rows and columns of the matrices that measure takes of a type, and how many.
func measured(m *pipeline.Manager, kind pipeline.DType) (size, count int) {
	if m.Machine().CPU() {
		return 1024, 2
	}
	size = 4096
	return size, int(min(48, max(8, coldBytes/(int64(size)*kind.RowBytes(size)))))
}

// measure times a chain of products with square matrices: on a GPU together larger than its
// caches, as a model's are. With a tiling, which no rule chooses, it first compares a product with the oracle; the time is 0 if
// that is wrong.
func measure(ctx context.Context, parent *pipeline.Manager, path kernels.Path, op string, kind pipeline.DType, tokens int, tiling kernels.Tiling,
	t *pipeline.Tuning) (x pipeline.Measurement, err error) {
	size, count := measured(parent, kind)
	x = pipeline.Measurement{Op: op, Path: path, Tokens: tokens, Rows: size, Cols: size, Tiling: tiling}
	m, err := pipeline.NewManager(parent.Device(), pipeline.Options{Logger: parent.Options().Logger, Path: path, Tuning: t})
	if err != nil {
		return x, err
	}
	defer func() { err = errors.Join(err, m.Close()) }()
	v := &verifier{ctx: ctx, m: m, tiling: tiling}
	if tiling != (kernels.Tiling{}) {
		right := true
		v.each = func(r Result) { right = right && r.OK }
		v.linear(rowsOf(kind, 300), 1024, min(tokens, 140), min(tokens, 140), false, false)
		if v.err != nil || !right {
			return x, v.err
		}
	}
	v.rnd, v.weights = newRand(op), m.NewWeights(0)
	defer func() { err = errors.Join(err, v.weights.Close()) }()
	if v.loader, err = v.weights.NewLoader(ctx); err != nil {
		return x, err
	}
	defer func() { err = errors.Join(err, v.loader.Close()) }()

	b := m.NewBuilder(op, tokens)
	b.Tile(tiling)
	y, err := v.input(b, v.normal(tokens*size), size)
	if err != nil {
		return x, err
	}
	for range count {
		w, err := v.anyMatrix(kind, size, size)
		if err != nil {
			return x, err
		}
		y = b.Linear(y, w, nil)
	}
	if lastKernel(b) != path.Variant(op) {
		return x, fmt.Errorf("the product took %s instead", lastKernel(b))
	}
	need, err := b.Need()
	if err != nil {
		return x, err
	}
	if err := errors.Join(m.Reserve(need), v.loader.Flush()); err != nil {
		return x, err
	}
	p, err := b.Build(ctx)
	if err != nil {
		return x, err
	}
	defer func() { err = errors.Join(err, p.Close()) }()
	best, err := shortest(ctx, p, inputStep(0, tokens))
	x.Nanoseconds = max(best.Nanoseconds()/int64(count), 1)
	return x, err
}

// shortest is the shortest of several Runs after one that compiles, 50 ms of them or two.
func shortest(ctx context.Context, p *pipeline.Plan, s pipeline.Step) (time.Duration, error) {
	best := time.Duration(0)
	var total time.Duration
	for i := 0; i < 3 || total < 50*time.Millisecond && i < 100; i++ {
		if err := ctx.Err(); err != nil {
			return 0, err
		}
		start := time.Now()
		if _, err := p.Run(ctx, s); err != nil {
			return 0, err
		}
		if took := time.Since(start); i > 0 {
			total += took
			if best == 0 || took < best {
				best = took
			}
		}
	}
	return best, nil
}

// anyMatrix is a matrix of random numbers, the same few rows over and over.
func (v *verifier) anyMatrix(t pipeline.DType, rows, cols int) (*pipeline.Matrix, error) {
	x, err := v.m.NewMatrix("matrix", rowsOf(t, rows), cols)
	if err != nil {
		return nil, err
	}
	const distinct = 61
	size := int(t.RowBytes(cols))
	data := make([]byte, distinct*size)
	if halves := t.Halves(); halves != nil {
		v.randomBlocks(data, t, halves)
	} else {
		row := make([]float32, cols)
		for i := range distinct {
			for c := range row {
				row[c] = float32(v.rnd.NormFloat64())
			}
			t.Encode(data[i*size:][:size], row)
		}
	}
	src := &pipeline.RowSource{Name: "matrix", DType: t, Rows: distinct, Cols: cols, Row: func(i int, _ []byte) []byte { return data[i*size:][:size] }}
	return x, v.loader.Matrices(v.ctx, pipeline.Fill{Matrix: x, At: func(r int) (*pipeline.RowSource, int) { return src, r % distinct }})
}

// TuneTypes is the order in which Tune takes weight types where nothing says which matter.
func TuneTypes() []pipeline.DType {
	first := []pipeline.DType{dtype.Q4_K, dtype.Q6_K, dtype.Q8_0, dtype.Q4_0, dtype.F16, dtype.BF16, dtype.Q4_1, dtype.F32}
	for _, t := range kernels.WeightTypes() {
		if !slices.Contains(first, t) {
			first = append(first, t)
		}
	}
	return first
}
