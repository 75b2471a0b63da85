package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"math"
	"os"
	"slices"
	"strings"
)

// An estimate is the time of a step.
type estimate struct {
	micros float64
	by     map[limit]float64 // microseconds by what limits
	rows   []kernelTime
}

// A kernelTime is the dispatches of one kernel at one size.
type kernelTime struct {
	kernel, size string
	calls        int
	micros       float64 // of a call
	limit        limit
}

// A prediction is a plan's time, where what is uncertain is at the slow end, in the middle and at the fast end.
type prediction struct {
	*plan
	slow, middle, fast estimate
	lacks              error // there are no counts of a kernel
}

// rate is tokens a second.
func (p *prediction) rate(e estimate) float64 { return float64(p.tokens) / e.micros * 1e6 }

// share is that of the data sheet's bandwidth, or for prompts of the matrix peak, in the middle.
func (p *prediction) share() float64 {
	if p.tokens == 1 {
		return float64(p.minimum) / p.middle.micros * 1e6 / p.bandwidth
	}
	return float64(p.operations) / p.middle.micros * 1e6 / p.peak()
}

// fits reports whether weights and cache, and a sixteenth for the rest, fit the device.
func (p *plan) fits() bool { return float64(p.minimum)*17/16 <= p.memory }

// limits names what takes most of the time, in the middle.
func (p *prediction) limits() string {
	by := p.middle.by
	names := slices.SortedFunc(maps.Keys(by), func(x, y limit) int {
		return cmp.Or(cmp.Compare(by[y], by[x]), strings.Compare(string(x), string(y)))
	})
	var list []string
	for i, name := range names {
		if share := by[name] / p.middle.micros; i < 3 && share >= 0.1 {
			list = append(list, fmt.Sprintf("%s %.0f %%", name, 100*share))
		}
	}
	return strings.Join(list, ", ")
}

// estimate sums the times of a plan's dispatches. What was measured of them takes the place of the model; m may be nil.
func (p *plan) estimate(table countTable, in assumptions, m *measurements) (estimate, error) {
	e := estimate{by: map[limit]float64{}}
	bandwidth := p.bandwidth * in.efficiency
	if m != nil && m.bandwidth > 0 {
		bandwidth = m.bandwidth * measuredEfficiency.at((in.efficiency-everywhere.Low)/(everywhere.High-everywhere.Low))
	}
	if p.tokens == 1 && float64(p.minimum) < cacheShare*p.cache { // the whole model stays there from token to token
		bandwidth = max(bandwidth, p.cached)
	}
	if m != nil && m.boundary > 0 {
		in.boundary = m.boundary
	}
	if m != nil && m.converts > 0 && p.gpu.convert {
		in.convert, in.converts = true, m.converts
	}
	at := map[[2]string]int{}
	for _, d := range p.dispatches {
		c, err := table.of(p.standIn, d)
		loop := c
		if err == nil && p.loops != "" {
			if loop, err = table.of(p.loops, d); !p.physical().Features.FloatDotProduct {
				loop.Loop = loop.Loop.withoutFloatDots()
			}
		}
		if err != nil {
			return e, err
		}
		took, boundary := cost{}, 0.0
		if micros, ok := m.dispatch(p, d); ok {
			took = cost{micros, byMeasuring} // with the barrier before it
		} else {
			w, err := p.demand(d, c, loop, p.tokens, p.before())
			if err != nil {
				return e, err
			}
			near := float64(d.TensorBytes) // of activations, which stay in the cache if they can
			if near < cacheShare*p.cache {
				near *= bandwidth / max(bandwidth, p.cached)
			}
			w.far += near // beside weights and the KV cache
			took = p.time(d.Workgroups, w, loop.on(c), in, bandwidth)
			if d.Waits {
				boundary = in.boundary
			}
		}
		e.micros += took.micros + boundary
		e.by[took.limit] += took.micros
		e.by[byBoundary] += boundary
		key := [2]string{d.Kernel, d.Size}
		i, ok := at[key]
		if !ok {
			i = len(e.rows)
			at[key] = i
			e.rows = append(e.rows, kernelTime{kernel: d.Kernel, size: d.Size, limit: took.limit})
		}
		r := &e.rows[i]
		r.micros = (r.micros*float64(r.calls) + took.micros + boundary) / float64(r.calls+1)
		r.calls++
	}
	return e, nil
}

// cacheShare is how much of a cache is taken to keep what was read.
const cacheShare = 0.8

// on is the count of a loop on a device whose compiler shows none, of which the occupancy is known.
func (c Count) on(device Count) Count {
	device.Loop, device.Weights = c.Loop, c.Weights
	return device
}

// predict makes the predictions of all plans, with what was measured on one device; m may be nil.
func predict(list []plan, table countTable, m *measurements) ([]prediction, error) {
	var out []prediction
	for i := range list {
		p := prediction{plan: &list[i]}
		var own *measurements
		if m != nil && m.gpu == p.gpu {
			own = m
		}
		var ends [3][2]estimate // slow, middle and fast; by where conversions run
		for i, fast := range []float64{0, 0.5, 1} {
			for j, convert := range []bool{true, false} {
				e, err := p.estimate(table, p.assume(fast, convert), own)
				if errors.Is(err, errNoCount) {
					p.lacks = err
				} else if err != nil {
					return nil, fmt.Errorf("%s: %s %s %s: %w", p.gpu.name, p.title, p.dtype, p.test(), err)
				}
				ends[i][j] = e
			}
		}
		p.slow, p.middle, p.fast = later(ends[0][0], ends[0][1]), mean(ends[1][0], ends[1][1]), sooner(ends[2][0], ends[2][1])
		out = append(out, p)
	}
	return out, nil
}

func later(x, y estimate) estimate {
	if y.micros > x.micros {
		return y
	}
	return x
}

func sooner(x, y estimate) estimate {
	if y.micros < x.micros {
		return y
	}
	return x
}

// mean is the middle of two estimates of the same dispatches.
func mean(x, y estimate) estimate {
	e := estimate{micros: (x.micros + y.micros) / 2, by: map[limit]float64{}, rows: slices.Clone(x.rows)}
	for _, half := range []estimate{x, y} {
		for name, micros := range half.by {
			e.by[name] += micros / 2
		}
	}
	for i := range e.rows {
		e.rows[i].micros = (x.rows[i].micros + y.rows[i].micros) / 2
	}
	return e
}

const predictionsBegin, predictionsEnd = "<!-- predictions:begin -->\n", "<!-- predictions:end -->"
const devicesBegin, devicesEnd = "<!-- devices:begin -->\n", "<!-- devices:end -->"

// digits rounds to three digits.
func digits(x float64) string {
	if x <= 0 {
		return "0"
	}
	scale := math.Pow(10, math.Floor(math.Log10(x))-2)
	return fmt.Sprintf("%.*f", int(max(0, math.Round(-math.Log10(scale)))), math.Round(x/scale)*scale)
}

// predictionRows is the table of predictions.
func predictionRows(list []prediction) string {
	var b strings.Builder
	b.WriteString("| device | model | weights | test | tokens/s | from | to | share | limits |\n|---|---|---|---|---:|---:|---:|---:|---|\n")
	for _, p := range list {
		cells := []string{p.title, p.dtype.String(), p.test()}
		switch {
		case p.lacks != nil:
			cells = append(cells, "-", "-", "-", "-", p.lacks.Error())
		case p.fits():
			cells = append(cells, digits(p.rate(p.middle)), digits(p.rate(p.slow)), digits(p.rate(p.fast)), fmt.Sprintf("%.0f %%", 100*p.share()), p.limits())
		default:
			cells = append(cells, "-", "-", "-", "-", "does not fit the device's memory")
		}
		b.WriteString(row(p.gpu.name, cells))
	}
	return b.String()
}

// deviceRows is the table of devices.
func deviceRows() string {
	var b strings.Builder
	b.WriteString("| device | counts of | memory, GB/s | units, GHz | matrices, TFLOP/s | boundary, us | latency, us | sources |\n|---|---|---:|---:|---:|---|---|---|\n")
	for i := range gpus {
		g := &gpus[i]
		b.WriteString(row(g.name, []string{
			strings.Join(g.compilers(), ", loops: "), digits(g.bandwidth / gb), fmt.Sprintf("%d, %.2f", g.units, g.clock/1e9), digits(g.peak() / 1e12),
			fmt.Sprintf("%g to %g", g.boundary.Low, g.boundary.High), fmt.Sprintf("%g to %g", g.latency.Low, g.latency.High), g.sources,
		}))
	}
	return b.String()
}

// writePredictions puts the tables into a document.
func writePredictions(old string, list []prediction) (string, error) {
	text, err := between(old, predictionsBegin, predictionsEnd, predictionRows(list))
	if err != nil {
		return "", err
	}
	return between(text, devicesBegin, devicesEnd, deviceRows())
}

// predictAll predicts with the counts of a file, for all devices.
func predictAll(ctx context.Context, file string, m *measurements) ([]prediction, error) {
	table, err := readCounts(file)
	if err != nil {
		return nil, err
	}
	list, err := plans(ctx)
	if err != nil {
		return nil, err
	}
	return predict(list, table, m)
}

// document writes the predictions into a document.
func document(ctx context.Context, file, counts string) error {
	old, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	list, err := predictAll(ctx, counts, nil)
	if err != nil {
		return err
	}
	text, err := writePredictions(string(old), list)
	if err != nil {
		return fmt.Errorf("%s: %w", file, err)
	}
	return os.WriteFile(file, []byte(text), 0o644)
}

// kernelRows says what the dispatches of a prediction take, in the middle.
func (p *prediction) kernelRows() string {
	if p.lacks != nil {
		return fmt.Sprintf("%s, %s %s, %s: %v\n", p.gpu.name, p.title, p.dtype, p.test(), p.lacks)
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%s, %s %s, %s: %.0f us, %s tokens/s\n", p.gpu.name, p.title, p.dtype, p.test(), p.middle.micros, digits(p.rate(p.middle)))
	for _, r := range p.middle.rows {
		fmt.Fprintf(&b, "  %-26s %-13s %4d calls %9.1f us each, %4.1f %%, %s\n", r.kernel, r.size, r.calls, r.micros,
			100*r.micros*float64(r.calls)/p.middle.micros, r.limit)
	}
	return b.String()
}
