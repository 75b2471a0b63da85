package model

import (
	"context"
	"math"
	"slices"

	"golang.org/x/sync/errgroup"

	"pumice/checkpoint"
	"pumice/internal/dtype"
	"pumice/pipeline"
)

// A cacheFit keeps a layer's keys and values within float16, which F16 and Q8_0 caches and attention by
// cooperative matrices have them in, or their scales. Up to rounding of float32 the layer computes the same with
// keys / 2^n and scores times 2^n, and with values / 2^n and the output projection times 2^n. Rows and columns of
// weights are multiplied while loading, and only where a bound on what they give asks for it (design/0005).
type cacheFit struct {
	keys, values int  // n of each
	float        bool // no n will do: the layer's cache is F32

	// What decide looks at; nil where the family has none.
	qkv, o                     *pipeline.Fill
	gains, normBias            func() ([]float32, error) // of the norm before
	bias, queryGains, keyGains func() ([]float32, error)
}

// exponent is e, where row r of the fused projection and its bias are multiplied by 2^e.
func (f *cacheFit) exponent(c *Config, r int) int {
	switch keys := c.NumAttentionHeads * c.HeadDim; {
	case r < keys, r < keys+c.NumKeyValueHeads*c.HeadDim && c.QKNorm: // whose gains are multiplied instead
		return 0
	case r < keys+c.NumKeyValueHeads*c.HeadDim:
		return -f.keys
	}
	return -f.values
}

// scoreScale is the factor of attention scores.
func (f *cacheFit) scoreScale(c *Config) float32 {
	return float32(math.Ldexp(float64(c.AttentionScale), f.keys))
}

// Bounds on numbers that are stored as float16. most leaves a factor of two for what quantised weights differ by. Of
// vectors whose typical component is least, a component has its eleven bits down to 1/64 of that, and of Q8_0 the
// scale loses less than a component's rounding. Queries, which only a product takes, may be smaller.
const (
	most       = 0x1p15
	least      = 0x1p-8
	leastQuery = 0x1p-12
)

// A magnitude is what components of a vector can be: none is beyond bound, and the largest is around typical for
// an input of ordinary components.
type magnitude struct{ bound, typical float64 }

// times is the magnitude of the vector times x.
func (m magnitude) times(x float64) magnitude { return magnitude{m.bound * x, m.typical * x} }

// clipped is the magnitude of the vector clamped to +-limit; 0 is no limit.
func (m magnitude) clipped(limit float32) magnitude {
	if limit > 0 {
		return magnitude{min(m.bound, float64(limit)), min(m.typical, float64(limit))}
	}
	return m
}

// An interval is integers from lo to hi; it is empty where lo > hi.
type interval struct{ lo, hi int }

func (i interval) and(j interval) interval { return interval{max(i.lo, j.lo), min(i.hi, j.hi)} }
func (i interval) negative() interval      { return interval{-i.hi, -i.lo} }
func (i interval) has(n int) bool          { return i.lo <= n && n <= i.hi }

// choose is an integer of an interval that is not empty: 0 if possible, else the smallest divisor, or a factor that
// makes the typical component about 1 instead of least.
func (i interval) choose() int {
	if i.hi < 0 {
		return max(i.lo, i.hi+int(math.Log2(least)))
	}
	return max(i.lo, 0)
}

// divisors are the n for which the vector divided by 2^n is within float16.
func (m magnitude) divisors(least float64) interval {
	i := interval{-64, 64}
	if m.bound > 0 {
		i.lo = max(i.lo, int(math.Ceil(math.Log2(m.bound/most))))
	}
	if m.typical > 0 {
		i.hi = min(i.hi, int(math.Floor(math.Log2(m.typical/least))))
	}
	return i
}

// fitCache decides how each layer's keys and values fit the cache, and logs which ones are changed. Errors are those of
// reading norms and biases.
func (w *Weights) fitCache(ctx context.Context, m *pipeline.Manager, c *Config, o *Options) error {
	if o.KVType == dtype.F32 {
		return nil
	}
	queries := m.AttendsInHalves(o.KVType, c.HeadDim)
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(o.Workers)
	for _, l := range w.Layers {
		g.Go(func() error {
			if err := ctx.Err(); err != nil {
				return err
			}
			return opened(ctx, l.fit.qkv, func() error {
				return opened(ctx, l.fit.o, func() error { return l.fit.decide(c, queries) })
			})
		})
	}
	if err := g.Wait(); err != nil {
		return err
	}
	var float, scaled []int
	for i, l := range w.Layers {
		if l.fit.float {
			float = append(float, w.layerRange.first+i)
		} else if l.fit.keys != 0 || l.fit.values != 0 {
			scaled = append(scaled, w.layerRange.first+i)
		}
	}
	if len(scaled) > 0 {
		o.Logger.Info().Int("layers", len(scaled)).Ints("which", scaled[:min(len(scaled), 8)]).
			Msg("keys or values would leave the range of float16: weights are scaled so that they do not")
	}
	if len(float) > 0 {
		o.Logger.Warn().Int("layers", len(float)).Ints("which", float[:min(len(float), 8)]).Stringer("instead_of", o.KVType).
			Msg("keys or values may leave the range of float16, and no scale of the weights prevents it: these layers have an F32 cache")
	}
	return nil
}

// opened calls read, which reads rows of the matrix, with what adapters add to them ready.
func opened(ctx context.Context, f *pipeline.Fill, read func() error) error {
	if f.Begin != nil {
		if err := f.Begin(ctx); err != nil {
			return err
		}
		defer f.End()
	}
	return checkpoint.Guard(read)
}

// decide sets keys, values and float. queries says that attention may have queries in float16 too.
func (f *cacheFit) decide(c *Config, queries bool) error {
	in, err := f.input()
	if err != nil {
		return err
	}
	var keys, values interval // of the exponents that they may be divided by
	for _, exact := range []bool{false, true} {
		if keys, values, err = f.divisors(c, in, queries, exact); err != nil {
			return err
		}
		if keys.has(0) && values.has(0) {
			return nil
		}
	}
	f.keys, f.values = keys.choose(), values.choose()
	q, kv := c.NumAttentionHeads*c.HeadDim, c.NumKeyValueHeads*c.HeadDim
	fits := keys.has(f.keys) && values.has(f.values) && c.ClipQKV == 0 && // which is no limit of a multiple
		(f.keys == 0 || c.QKNorm || scales(f.qkv, q, kv, -f.keys)) &&
		(f.values == 0 || scales(f.qkv, q+kv, kv, -f.values) && scales(f.o, 0, f.o.Matrix.Rows, f.values))
	if !fits {
		f.keys, f.values, f.float = 0, 0, true
	}
	return nil
}

// divisors are the exponents that keys and values may be divided by, from norms of rows if exact, else from bounds.
func (f *cacheFit) divisors(c *Config, in *projected, queries, exact bool) (keys, values interval, err error) {
	q, kv := c.NumAttentionHeads*c.HeadDim, c.NumKeyValueHeads*c.HeadDim
	k, err := in.heads(f.qkv, q, kv, c, f.keyGains, exact)
	if err != nil {
		return keys, values, err
	}
	keys = k.clipped(c.ClipQKV).divisors(least)
	if queries { // which are multiplied by what keys are divided by
		x, err := in.heads(f.qkv, 0, q, c, f.queryGains, exact)
		if err != nil {
			return keys, values, err
		}
		keys = keys.and(x.clipped(c.ClipQKV).times(float64(c.AttentionScale)).divisors(leastQuery).negative())
	}
	return keys, in.rows(f.qkv, q+kv, kv, exact).clipped(c.ClipQKV).divisors(least), nil
}

// A projected input is the result of a norm, gain * x + normBias with squares of x that sum to at most its length,
// and the bias of its projection.
type projected struct {
	gain, normBias, bias []float32 // nil for none of the latter two

	values []float32 // of a row, used again for the next
}

func (f *cacheFit) input() (*projected, error) {
	p := &projected{}
	for _, read := range []struct {
		to   *[]float32
		from func() ([]float32, error)
	}{{&p.gain, f.gains}, {&p.normBias, f.normBias}, {&p.bias, f.bias}} {
		if read.from == nil {
			continue
		}
		var err error
		if *read.to, err = read.from(); err != nil {
			return nil, err
		}
	}
	return p, nil
}

// heads is the magnitude of query or key heads, which n rows of the matrix give, after their norm, whose
// gains are nil for none, and rotation, which may move both components of a pair into one.
func (p *projected) heads(f *pipeline.Fill, first, n int, c *Config, gains func() ([]float32, error), exact bool) (magnitude, error) {
	if !c.QKNorm {
		return p.rows(f, first, n, exact).times(math.Sqrt2), nil
	}
	g, err := gains()
	largest := largestOf(g)
	return magnitude{math.Sqrt(2*float64(c.HeadDim)) * largest, largest}, err
}

// rows is the magnitude of n rows of the matrix times the input. If exact it is that of the rows' norms, which bound it
// well; else that of all weights' largest magnitude, which is faster to find, and of some rows, the first of ordinary
// components being enough.
func (p *projected) rows(f *pipeline.Fill, first, n int, exact bool) (m magnitude) {
	p.values = slices.Grow(p.values[:0], len(p.gain))[:len(p.gain)]
	var scratch []byte
	var weights float64
	for i := range n {
		src, row := f.At(first + i)
		if i == 0 && src.Prefetch != nil {
			src.Prefetch(row, min(n, src.Rows-row))
		}
		b := src.Row(row, scratch)
		if exact || m.typical < least {
			m = p.include(m, src.DType, b, first+i)
		}
		if !exact {
			weights = max(weights, float64(src.DType.Largest(b)))
		}
	}
	if !exact {
		m.bound = float64(len(p.gain))*weights*(largestOf(p.gain)+largestOf(p.normBias)) + largestOf(p.slice(first, n))
	}
	return m
}

// slice is the biases of n rows; nil without biases.
func (p *projected) slice(first, n int) []float32 {
	if p.bias == nil {
		return nil
	}
	return p.bias[first : first+n]
}

// include is m with the row that b holds, row r of the matrix. Values that are not finite are left out: the logits show
// them.
func (p *projected) include(m magnitude, t dtype.DType, b []byte, r int) magnitude {
	t.Decode(p.values, b)
	var squares, sum float64
	for i, v := range p.values {
		w := float64(v) * float64(p.gain[i])
		if s := w * w; s <= math.MaxFloat64 {
			squares += s
		}
		if p.normBias != nil {
			if s := float64(v) * float64(p.normBias[i]); math.Abs(s) <= math.MaxFloat64 {
				sum += s
			}
		}
	}
	added := math.Abs(sum)
	if p.bias != nil {
		added += math.Abs(float64(p.bias[r]))
	}
	norm := math.Sqrt(squares)
	return magnitude{max(m.bound, norm*math.Sqrt(float64(len(p.values)))+added), max(m.typical, norm+added)}
}

// largestOf is the largest magnitude.
func largestOf(list []float32) (largest float64) {
	for _, v := range list {
		largest = max(largest, math.Abs(float64(v)))
	}
	return largest
}

// scales says whether n rows of the matrix can be multiplied by 2^e while they are loaded: exactly where they are kept
// in their type, and where they are converted without a greater error than that has anyway.
func scales(f *pipeline.Fill, first, n, e int) bool {
	var copied []byte
	for _, shard := range f.Matrix.Shards {
		for r := max(first, shard.First); r < min(first+n, shard.First+shard.Rows); r++ {
			src, row := f.At(r)
			b := src.Row(row, nil)
			if src.DType == shard.DType {
				copied = append(copied[:0], b...)
				if !src.DType.Scale(copied, e) {
					return false
				}
				continue
			}
			values := make([]float32, src.Cols)
			src.DType.Decode(values, b)
			if conversionError(shard.DType, values, e) > conversionError(shard.DType, values, 0)*1.001 {
				return false
			}
		}
	}
	return true
}

// conversionError is the sum of squared errors of values that are multiplied by 2^e, converted to type t and divided by
// 2^e; +Inf where t cannot hold one.
func conversionError(t dtype.DType, values []float32, e int) float64 {
	scaled := make([]float32, len(values))
	for i, v := range values {
		scaled[i] = float32(math.Ldexp(float64(v), e))
	}
	b := make([]byte, t.RowBytes(len(values)))
	if t.EncodeFinite(b, scaled, 0) != nil {
		return math.Inf(1)
	}
	t.Decode(scaled, b)
	sum := 0.0
	for i, v := range values {
		d := math.Ldexp(float64(scaled[i]), -e) - float64(v)
		sum += d * d
	}
	return sum
}
