// Package verify compares every kernel with float64 references, on random operands and at the shapes where kernels
// break, and measures which of them is fastest on a device. It drives package pipeline as a model does.
package verify

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/fnv"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"

	"golang.org/x/sync/errgroup"

	"pumice/internal/dtype"
	"pumice/pipeline"
	"pumice/pipeline/kernels"
	"pumice/vk"
)

// A VerifyResult is one kernel compared with the float64 oracle on one case.
type Result struct {
	Kernel    string  `json:"kernel"` // variant, as Manager.Variants names it
	Case      string  `json:"case"`
	NMSE      float64 `json:"nmse"`      // sum of squared errors over the sum of squared values
	MaxAbs    float64 `json:"max_abs"`   // largest error
	MaxRel    float64 `json:"max_rel"`   // largest error relative to the magnitude of what the value was computed from
	Tolerance float64 `json:"tolerance"` // of MaxRel
	OK        bool    `json:"ok"`

	Index     int     `json:"-"` // of the value with the largest relative error
	Got, Want float64 `json:"-"` // at Index
}

func (r Result) String() string {
	return fmt.Sprintf("%s: %s: max abs %.3g, max rel %.3g (tolerance %.3g), NMSE %.3g; at %d got %.9g, want %.9g",
		r.Kernel, r.Case, r.MaxAbs, r.MaxRel, r.Tolerance, r.NMSE, r.Index, r.Got, r.Want)
}

// Tolerances. Each bounds an error divided by the magnitude of the value's own terms (for a
// product, the sum of |w x|), in units of u = 2^-24, half a float32 ulp.
//
// Basic operations round correctly: u each. Vulkan's other bounds (specification, "Precision
// of core SPIR-V instructions"): division 2.5 ulp = 5u, inversesqrt 2 ulp = 4u, exp(x)
// 3 + 2|x| ulp = (6 + 4|x|)u. An ulp is 2u.
//
// A sum of n rounded terms, in any order, is within min(n, 8 sqrt(n)) u of the sum of their
// magnitudes: the first is the worst case, the second (Higham and Mary 2019, SIAM J. Sci.
// Comput. 41(5), theorem 2.4, lambda = 8) fails with probability under 2n exp(-32). It is
// below 1/n up to n = 2^14, so a missing or doubled term shows.
//
// What a kernel is given is rounded before the oracle sees it: weights as they are stored,
// keys and values as the cache's type holds them.
const unit = 0x1p-24

func sumBound(n int) float64 { return min(float64(n), 8*math.Sqrt(float64(n))) }

// tolerances, by op; n is the number of terms, headDim that of a score's.
var tolerances = struct {
	embed, rope, ropeF16, ropeQ8, silu, gelu, softCap, add, adjust, topK float64
	rmsNorm, layerNorm, linear, fused, softmax                           func(n int) float64
	quantised, blockScale                                                float64
	linearHalves, planes                                                 func(n int) float64
	attention                                                            func(n, headDim int) float64
	attentionCM                                                          func(cache pipeline.DType, headDim int) float64
}{
	// d q and d q + m round, relative to |d q| + |m|, and so does the scaling.
	embed: 3 * unit,
	// Two products and their sum, relative to twice the head's largest component.
	rope: 2 * unit,
	// Storing in f16 may round either way: one ulp, 2^-10 of the value.
	ropeF16: 0x1p-10,
	// Of a block's largest magnitude: half a step of 1/127, the scale's own ulp in f16, and the
	// roundings before the value is rounded to a step.
	ropeQ8: 0.5/127 + 0x1p-10 + 0x1p-20,
	// g / (1 + exp(-g)) * u: exp's error, a sum, a division and a product, relative to
	// |y| (1 + |g|).
	silu: (6 + 1 + 5 + 1) * unit,
	// Relative to |g u|. By erf: the approximation's 1.5e-7 / 2 = 1.3u, and half of a
	// polynomial of five terms of 4.5 in all, each rounded at most ten times. By tanh, as
	// 1 - 1 / (exp(2x) + 1): less.
	gelu: (1.3 + 4.5*10/2 + 6 + 5 + 3) * unit,
	// tanh as (a - b) / (a + b), a and b from exp: half the difference of their errors, the
	// roundings, the division, and a division before; relative to the limit.
	softCap: (6 + 2 + 2 + 5 + 5 + 1) * unit,
	add:     unit,
	// A sum, a division, a product and two differences.
	adjust: (1 + 5 + 1 + 2) * unit,
	topK:   0,
	// Half a step, and of an integer of up to 127 the roundings of a division by 127, of the
	// inverse and of the product with it. Relative to the step.
	quantised: 0.5 + 127*(5+5+1+1)*unit,
	// The division by 127; a product, relative to the magnitudes of its sum.
	blockScale: 5 * unit,
	// The sum of squares enters through a square root, and so do its division and eps.
	rmsNorm: func(n int) float64 { return (sumBound(n+1)/2 + 5./2 + 1 + 4 + 2) * unit },
	// The mean errs as a sum does, relative to (mean |x| + |x - mean|) / sigma |w|, to which
	// the root of the variance adds what it does in rmsNorm. The error of the mean moves the
	// variance only in second order.
	layerNorm: func(n int) float64 { return (sumBound(n) + 6 + sumBound(n+1)/2 + 10) * unit },
	// Bias, the old value and the product's own roundings of dequantisation are terms too.
	linear: func(n int) float64 { return sumBound(n+4) * unit },
	// Both operands of each product are rounded to float16, by at most h = 2^-11 each, before
	// the rest is as in linear. Independent roundings, each with a variance of h^2 / 3, err
	// together by less than 8 sqrt(2/3 sum (w x)^2) h, whose root is C sqrt(1/n) of the sum of
	// magnitudes: C is 1.6 for normal values, here up to 2.4.
	linearHalves: func(n int) float64 {
		return min(2, 16/math.Sqrt(float64(n)))*0x1p-11 + sumBound(n+4)*unit
	},
	// What two planes of bytes of x add to linear, relative to the sum of |w| times the largest |x| of a block: a value is
	// rounded by at most half a step, and by the error of a division of integers up to 32639, and steps are 1/32639 of the
	// largest. Independent roundings err together as in linearHalves.
	planes: func(n int) float64 {
		return min(1, 12/math.Sqrt(float64(n))) * (0.5/32639 + 6*unit)
	},
	// A norm before and an activation after the product, gelu's being the larger; relative to
	// fusedTerms.
	fused: func(n int) float64 {
		return (sumBound(n+1)/2 + 5./2 + 7 + sumBound(n+4) + 1.3 + 4.5*10/2 + 14) * unit
	},
	// Argument (a product and a difference) and exp for numerator and sum, a division;
	// relative to p (1 + r), r the largest magnitude of an exponent.
	softmax: func(n int) float64 { return (2*(2+6) + sumBound(n) + 5) * unit },
	// A score errs by sumBound(headDim) + 2 of its terms' magnitude S, exp by 6 + 4|x| with
	// |x| <= 2S; both enter numerator and sum, which add n terms and are rescaled at most n
	// times. Relative to (1 + S) sum p |v|. S includes a soft cap, whose 21 are less than
	// what a score has, and a slope's term.
	attention: func(n, headDim int) float64 {
		return (2*(sumBound(headDim)+2+8) + 2*sumBound(2*n) + 5) * unit
	},
	// In addition to that: queries are rounded to float16, by at most h = 2^-11, which moves a score of S
	// by C sqrt(1/3) 8 h / sqrt(headDim) of it, C as in linearHalves, and so numerator and sum; weights are, which
	// both take as rounded; and the argument of exp is larger by ten. Keys and values of a Q8_0 cache are rounded
	// too: two factors of each product of a score, and a term of the numerator alone.
	attentionCM: func(cache pipeline.DType, headDim int) float64 {
		score, value := min(1, 12/math.Sqrt(float64(headDim))), 0.
		if cache == dtype.Q8_0 {
			score, value = min(2, math.Sqrt2*12/math.Sqrt(float64(headDim))), 1
		}
		return (2*(score+1)+value)*0x1p-11 + 2*4*10*unit
	},
}

// Underflow is not an error: Vulkan lets denormals be flushed, and silu of a number below
// -88 divides by an infinite exp.
const negligible = 0x1p-118

// compare judges got by its distance from want relative to magnitude.
func compare(kernel, name string, got []float32, want, magnitude []float64, tolerance float64) Result {
	r := Result{Kernel: kernel, Case: name, Tolerance: tolerance, OK: len(got) == len(want) && len(want) == len(magnitude)}
	var errors2, values2 float64
	for i := range got {
		g, w := float64(got[i]), want[i]
		diff := math.Abs(g - w)
		if g == w || diff < negligible {
			diff = 0
		}
		if math.IsNaN(diff) || math.IsInf(diff, 0) {
			diff = math.MaxFloat64 // JSON has no larger number
		}
		errors2 = min(errors2+diff*diff, math.MaxFloat64)
		if !math.IsInf(w, 0) {
			values2 += w * w
		}
		rel := 0.0
		if diff > 0 {
			rel = min(diff/magnitude[i], math.MaxFloat64)
		}
		r.MaxAbs = max(r.MaxAbs, diff)
		if rel > r.MaxRel || i == 0 {
			r.MaxRel, r.Index, r.Got, r.Want = rel, i, g, w
		}
	}
	if errors2 > 0 {
		r.NMSE = min(errors2/max(values2, math.SmallestNonzeroFloat64), math.MaxFloat64)
	}
	r.OK = r.OK && r.MaxRel <= tolerance
	return r
}

// VerifyOptions restricts Verify. The zero value is everything.
type Options struct {
	Types []pipeline.DType // of weights and of the KV cache, to check kernels that read one of them; nil means all kernels
	Quick bool             // products at three shapes instead of seven or more, attention by matrices of heads up to 64
	Brief bool             // the few cases of Check

	// Compiled is given each kernel that a path has compiled when the path is done. The paths then run one after
	// another, so that no other work counts as compiling. nil lets them run at once.
	Compiled func(kernels.Path, pipeline.Compile)

	Paths   []kernels.Path // to check, of those that the device can run; nil means all
	Kernels []string       // variants to check; nil means all

	Progress func(done, total int) // called after each case, of which those that Kernels leaves out end at once; nil: not
}

// errLeftOut ends a case that runs none of Options.Kernels.
var errLeftOut = errors.New("left out")

// Kernels runs every kernel that m's device can run, on every path, against the oracle of
// internal/ref and gives each result to each, one at a time. The error says that something
// could not be run; a wrong result is a Result that is not OK. Unused rows, padding and
// the part of the KV cache that was never written hold NaN.
func Kernels(ctx context.Context, m *pipeline.Manager, o Options, each func(Result)) error {
	paths := m.Paths()
	if o.Paths != nil {
		paths = slices.DeleteFunc(paths, func(p kernels.Path) bool { return !slices.Contains(o.Paths, p) })
	}
	atOnce := len(kernels.Paths)
	if o.Compiled != nil {
		atOnce = 1
	}
	cases := func(v *verifier) {
		v.options = o
		if o.Brief {
			v.briefCases(v.types(), kernels.CacheTypes)
			v.peakCases() // no model's: it measures arithmetic
			if v.path() == kernels.Base {
				v.digestCases() // it measures bandwidth
			}
		} else {
			v.cases()
		}
		if o.Compiled != nil {
			for _, c := range v.m.Compiles() {
				o.Compiled(v.path(), c)
			}
		}
	}
	done, total := 0, 0
	run := func(paths []kernels.Path, each func(Result)) error {
		if o.Progress == nil {
			return onPaths(ctx, m, paths, atOnce, each, nil, cases)
		}
		for _, path := range paths {
			counted := func(v *verifier) { v.counted = &total; cases(v) }
			if err := onPath(ctx, m, path, nil, nil, counted); err != nil {
				return err
			}
		}
		return onPaths(ctx, m, paths, atOnce, each, func() { done++; o.Progress(done, total) }, cases)
	}
	if o.Kernels == nil {
		return run(paths, each)
	}
	// Cases of a kernel's own path run it, and few kernels are run by those of other paths alone.
	var own, others []kernels.Path
	for _, p := range paths {
		if slices.ContainsFunc(o.Kernels, func(name string) bool { return kernels.PathOf(name) == p }) {
			own = append(own, p)
		} else {
			others = append(others, p)
		}
	}
	seen := map[string]bool{}
	err := run(own, func(r Result) {
		seen[r.Kernel] = true
		each(r)
	})
	if err != nil || !slices.ContainsFunc(o.Kernels, func(name string) bool { return !seen[name] }) {
		return err
	}
	return run(others, each)
}

// onPaths runs the cases on several paths of the device, atOnce paths at a time: most of the time
// goes into compiling. Calls of each, and of ended after each case if it is not nil, don't overlap.
func onPaths(ctx context.Context, m *pipeline.Manager, paths []kernels.Path, atOnce int, each func(Result), ended func(), cases func(*verifier)) error {
	var mu sync.Mutex
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(atOnce)
	for _, path := range paths {
		g.Go(func() error {
			return onPath(ctx, m, path, func(r Result) {
				mu.Lock()
				defer mu.Unlock()
				each(r)
			}, func() {
				if ended != nil {
					mu.Lock()
					defer mu.Unlock()
					ended()
				}
			}, cases)
		})
	}
	return g.Wait()
}

func onPath(ctx context.Context, parent *pipeline.Manager, path kernels.Path, each func(Result), ended func(), cases func(*verifier)) (err error) {
	m, err := pipeline.NewManager(parent.Device(), pipeline.Options{Logger: parent.Options().Logger, Path: path})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, m.Close()) }()
	v := &verifier{ctx: ctx, m: m, each: each, ended: ended}
	cases(v)
	return v.err
}

// path is the path under test.
func (v *verifier) path() kernels.Path { return v.m.Options().Path }

// A verifier runs cases one after another. The first error sticks.
type verifier struct {
	ctx  context.Context
	m    *pipeline.Manager
	each func(Result)
	err  error

	ended   func() // called after each case; nil: not
	counted *int   // cases are counted here, and not run

	options Options
	binding int64 // when not 0, what one binding holds of a matrix under test

	// linear multiplies random weights by 2^wPower, and token t by 2^(xPower * (t mod 3)).
	wPower, xPower int
	tiling         kernels.Tiling // of linear's products; the zero value leaves it to the kernel

	peaks bool // attention has peaks among its keys, as cacheSide makes them

	// Of the case that is running.
	name    string
	rnd     *rand.Rand
	weights *pipeline.Weights
	loader  *pipeline.Loader
}

// check runs one case with its own weights, and random numbers that its name determines.
func (v *verifier) check(name string, run func() error) {
	if v.err == nil {
		v.err = v.ctx.Err()
	}
	if v.err != nil {
		return
	}
	if v.counted != nil {
		*v.counted++
		return
	}
	if v.ended != nil {
		defer v.ended()
	}
	v.name, v.rnd = name, newRand(name)
	v.weights = v.m.NewWeights(0)
	v.loader, v.err = v.weights.NewLoader(v.ctx)
	if v.err == nil {
		if v.err = run(); errors.Is(v.err, errLeftOut) {
			v.err = nil
		}
		v.err = errors.Join(v.err, v.loader.Close())
	}
	v.err = errors.Join(v.err, v.weights.Close())
	if v.err != nil {
		v.err = fmt.Errorf("pipeline: verify %s: %w", name, v.err)
	}
}

func newRand(name string) *rand.Rand {
	seed := fnv.New64a()
	seed.Write([]byte(name))
	return rand.New(rand.NewPCG(seed.Sum64(), 0))
}

// poison is NaN as one float32 and as two float16.
const poison = 0xffffffff

// unset is what the arena holds before a plan runs: a signalling NaN as one float32, and two NaN of float16. Arithmetic
// makes a quiet NaN of it, which shows that a kernel has written what it computed of it.
const unset = 0xffbfffff

// evaluate runs the builder's plan once and returns the rows of y that the step's tokens
// have. What the plan does not write is NaN, and must be so in the rows behind.
func (v *verifier) evaluate(b *pipeline.Builder, y *pipeline.Tensor, s pipeline.Step) (out []float32, err error) {
	all, err := v.evaluateAll(b, s, y)
	if err != nil {
		return nil, err
	}
	return all[0], nil
}

// evaluateAll is evaluate for several tensors: the plan's last, and what Builder.Converted lists.
func (v *verifier) evaluateAll(b *pipeline.Builder, s pipeline.Step, tensors ...*pipeline.Tensor) (out [][]float32, err error) {
	if !v.wanted(b.Dispatched()) {
		return nil, errLeftOut
	}
	for i, t := range tensors {
		b.Output(fmt.Sprint(i), t)
	}
	need, err := b.Need()
	if err != nil {
		return nil, err
	}
	if err := v.m.Reserve(need); err != nil {
		return nil, err
	}
	if err := v.m.FillArena(v.ctx, unset); err != nil {
		return nil, err
	}
	if err := v.loader.Flush(); err != nil {
		return nil, err
	}
	p, err := b.Build(v.ctx)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, p.Close()) }()
	if _, err := p.Run(v.ctx, s); err != nil {
		return nil, err
	}
	for i, t := range tensors {
		values := make([]float32, t.Rows*t.Cols)
		if _, err := p.Output(fmt.Sprint(i), 0, t.Rows, values); err != nil {
			return nil, err
		}
		rows := s.Len()
		if t.Rows < b.Tokens() { // one for each sequence
			rows = len(spans(s))
		}
		n := min(rows, t.Rows) * t.Cols
		kernel := lastKernel(b)
		if i > 0 {
			kernel, _ = b.Converted()
		}
		v.unwritten(kernel, values[n:])
		out = append(out, values[:n])
	}
	return out, nil
}

// unwritten judges the rows that a plan has room for and its step does not fill. Writing there does no harm, but a kernel
// that does so may as well write behind the last row of a tensor that is full.
func (v *verifier) unwritten(kernel string, rest []float32) {
	for i, x := range rest {
		if bits := math.Float32bits(x); bits != unset {
			v.each(Result{Kernel: kernel, Case: v.name + ": wrote behind the last row", Index: i, Got: float64(x), Want: math.NaN(),
				MaxRel: math.MaxFloat64, MaxAbs: math.MaxFloat64, NMSE: math.MaxFloat64})
			return
		}
	}
}

// wanted reports whether a plan tests one of the kernels to check. An embedding that others follow makes their input.
func (v *verifier) wanted(plan []string) bool {
	for i, k := range plan {
		if slices.Contains(v.options.Kernels, k) && (i == len(plan)-1 || !strings.HasPrefix(k, "embed_")) {
			return true
		}
	}
	return v.options.Kernels == nil
}

// normal returns n float32 values of the standard normal distribution, as float64.
func (v *verifier) normal(n int) []float64 {
	out := make([]float64, n)
	for i := range out {
		out[i] = float64(float32(v.rnd.NormFloat64()))
	}
	return out
}

// input gives the plan x, (b.Tokens(), cols): row t is row t of an embedding table.
func (v *verifier) input(b *pipeline.Builder, x []float64, cols int) (*pipeline.Tensor, error) {
	w, err := v.store(rowsOf(dtype.F32, b.Tokens()), x, cols)
	if err != nil {
		return nil, err
	}
	return b.Embed(w.matrix, 1), nil
}

// packed cuts a step's tokens into sequences; none is one.
func packed(s pipeline.Step, lengths []int) pipeline.Step {
	s.Sequences[0].Endings = lengths
	return s
}

// A span is the tokens of one sequence of a step, from start up to end.
type span struct{ start, end int }

func spans(s pipeline.Step) []span {
	q := s.Sequences[0]
	if q.Endings == nil {
		return []span{{0, len(q.Tokens)}}
	}
	var out []span
	start := 0
	for _, n := range q.Endings {
		out = append(out, span{start, start + n})
		start += n
	}
	return out
}

// inSequences names the sequences in a case's name.
func inSequences(lengths []int) string {
	if lengths == nil {
		return ""
	}
	return fmt.Sprintf(" in sequences of %v", lengths)
}

// inputStep is the step for which input works.
func inputStep(position, count int) pipeline.Step {
	tokens := make([]int, count)
	for i := range tokens {
		tokens[i] = i
	}
	return pipeline.Step{Sequences: []pipeline.Sequence{{Position: position, Tokens: tokens}}}
}

// A stored matrix is on the device and, as the device has it, on the host.
type stored struct {
	matrix *pipeline.Matrix
	values []float64 // dequantised
	terms  []float64 // magnitude of the terms that a kernel makes each value of
}

// operand makes a random matrix to test with.
func (v *verifier) operand(bands []pipeline.Band, cols int) (*stored, error) {
	v.m.LimitBinding(v.binding)
	defer v.m.LimitBinding(0)
	values := v.normal(totalRows(bands) * cols)
	for i := range values {
		values[i] = math.Ldexp(values[i], v.wPower)
	}
	return v.store(bands, values, cols)
}

// randomBlocks makes every field of a row's blocks random, so that each value a field can
// have occurs, and the float16 numbers of either sign between 1/64 and 1/32.
func (v *verifier) randomBlocks(row []byte, t pipeline.DType, halves []int) {
	for i := range row {
		row[i] = byte(v.rnd.Uint32())
	}
	for at := 0; at < len(row); at += t.BlockBytes() {
		for _, h := range halves {
			binary.LittleEndian.PutUint16(row[at+h:], uint16(9<<10|v.rnd.Uint32()&0x83ff))
		}
	}
}

// store quantises values, (rows, cols), uploads them and fills the rows' padding with NaN.
// Of quantised types every other row is random bits instead.
func (v *verifier) store(bands []pipeline.Band, values []float64, cols int) (*stored, error) {
	x, err := v.m.NewMatrix("matrix", bands, cols)
	if err != nil {
		return nil, err
	}
	s := &stored{matrix: x, values: make([]float64, 0, len(values)), terms: make([]float64, 0, len(values))}
	var sources []*pipeline.RowSource
	f := make([]float32, cols)
	first := 0
	for _, run := range bands {
		size := int(run.DType.RowBytes(cols))
		data := make([]byte, run.Rows*size)
		for r := range run.Rows {
			for c := range f {
				f[c] = float32(values[(first+r)*cols+c])
			}
			row := data[r*size:][:size]
			if halves := run.DType.Halves(); halves != nil && r%2 == 1 {
				v.randomBlocks(row, run.DType, halves)
			} else {
				run.DType.Encode(row, f)
			}
			run.DType.Decode(f, row)
			n := run.DType.BlockSize()
			for c := 0; c < cols; c += n {
				constant := constantTerm(run.DType, f[c:c+n])
				for _, w := range f[c : c+n] {
					s.values = append(s.values, float64(w))
					s.terms = append(s.terms, math.Abs(float64(w))+constant)
				}
			}
		}
		src := &pipeline.RowSource{Name: "matrix", DType: run.DType, Rows: run.Rows, Cols: cols,
			Row: func(i int, _ []byte) []byte { return data[i*size:][:size] }}
		for range run.Rows {
			sources = append(sources, src)
		}
		first += run.Rows
	}
	starts := map[*pipeline.RowSource]int{}
	for r, src := range sources {
		if _, ok := starts[src]; !ok {
			starts[src] = r
		}
	}
	at := func(r int) (*pipeline.RowSource, int) { return sources[r], r - starts[sources[r]] }
	if err := v.loader.Matrices(v.ctx, pipeline.Fill{Matrix: x, At: at}); err != nil {
		return nil, err
	}
	return s, v.poisonPadding(x)
}

// constantTerm bounds twice the magnitude of the constant m that kernels add to d q to make a
// quantised weight, which makes |d q| + |m| at most |w| + 2|m|. Where a type has one, it is
// about the weight farthest from zero in the block on one side; its own rounding and a block
// whose weights are all on one side of zero are within the factor.
func constantTerm(t pipeline.DType, block []float32) float64 {
	if t.BlockSize() == 1 {
		return 0
	}
	largest := 0.0
	for _, w := range block {
		largest = max(largest, math.Abs(float64(w)))
	}
	return 4 * largest
}

// poisonPadding makes the rows that fill up a matrix's last groups NaN.
func (v *verifier) poisonPadding(x *pipeline.Matrix) error {
	nan := make([]byte, 256)
	for i := range nan {
		nan[i] = poison & 0xff
	}
	write := func(plane vk.Span, to kernels.Offsets) error {
		for at := range to.At {
			if err := v.loader.Write(plane.Slice(int64(at), int64(to.Size)), nan[:to.Size]); err != nil {
				return err
			}
		}
		return nil
	}
	for _, p := range x.Shards {
		units, records := p.Planes()
		for r := p.Rows; r < p.UnitRows(); r++ {
			if err := write(units, p.UnitOffsets(r)); err != nil {
				return err
			}
		}
		for r := p.Rows; r < p.MetaRows(); r++ {
			if err := write(records, p.RecordOffsets(r)); err != nil {
				return err
			}
		}
	}
	return nil
}

// vector uploads values.
func (v *verifier) vector(values []float64) (*pipeline.Vector, error) {
	f := make([]float32, len(values))
	for i, x := range values {
		f[i] = float32(x)
	}
	w := &pipeline.Vector{Name: "vector", Cols: len(f)}
	return w, v.loader.Vector(w, f)
}

// magnitudes returns |x|, nil for nil.
func magnitudes(x []float64) []float64 {
	if x == nil {
		return nil
	}
	out := make([]float64, len(x))
	for i, v := range x {
		out[i] = math.Abs(v)
	}
	return out
}
