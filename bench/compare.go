package bench

import (
	"cmp"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
)

// A Comparison sets the rows of one file against those of another, or of several.
type Comparison struct {
	Base        string       `json:"base"` // file
	Rows        []Ratio      `json:"rows"`
	Differences []Difference `json:"differences"` // between the setups of Base and the others
	Missing     []string     `json:"missing"`     // rows that one of two files lacks
}

// A Ratio is a row's speed over that of the same row of the base.
type Ratio struct {
	File      string  `json:"file"` // or, of rows that were measured in turn, the device
	Model     string  `json:"model_type"`
	Test      string  `json:"test"`
	Metric    string  `json:"metric,omitempty"` // what is compared instead of tokens a second, a key of the row: median_ttft_ms, median_tpot_ms, speed_pp, speed_tg
	Base      float64 `json:"base_ts"`          // medians, in tokens a second, or what the metric is in
	Other     float64 `json:"other_ts"`
	Ratio     float64 `json:"ratio"` // of the medians, above 1 where the other is faster
	Low       float64 `json:"low"`   // bounds of the 95 % interval, by bootstrap
	High      float64 `json:"high"`
	BaseRuns  int     `json:"base_runs"`
	OtherRuns int     `json:"other_runs"`
	Verdict   string  `json:"verdict"` // faster, slower, noise, "too few runs", "no runs" or struck

	BaseKL  *float64 `json:"base_kl_exact,omitempty"` // divergences from exact probabilities
	OtherKL *float64 `json:"other_kl_exact,omitempty"`
}

// A Difference is a key of the setup that two files give different values.
type Difference struct {
	File  string `json:"file"`
	Key   string `json:"key"`
	Base  string `json:"base"`
	Other string `json:"other"`
}

// Verdicts of a Ratio. Struck rows, and those that ended before their first run, have no Ratio.
const (
	Faster  = "faster"
	Slower  = "slower"
	Noise   = "noise" // the interval has 1 in it
	TooFew  = "too few runs"
	NoRuns  = "no runs"
	Strike  = "struck"
	minRuns = 3 // below which an interval says nothing
)

// Compare compares the rows of each file with the same tests of the same models in base, and of the same device or program where a
// file has several. The models, and the devices, of two files that have one each may differ.
func Compare(base *File, others ...*File) *Comparison {
	c := &Comparison{Base: base.Path, Rows: []Ratio{}, Differences: []Difference{}, Missing: []string{}}
	first := base.measurements()
	for _, f := range others {
		rows := f.measurements()
		oneEach, oneLane := sameModel(first) && sameModel(rows), !severalLanes(first) && !severalLanes(rows)
		key := func(m measurement) string {
			key := m.test
			if !oneEach {
				key += "\n" + m.ModelType
			}
			if !oneLane {
				key += "\n" + m.lane()
			}
			return key
		}
		for _, b := range first {
			i := slices.IndexFunc(rows, func(m measurement) bool { return key(m) == key(b) })
			if i < 0 {
				c.Missing = append(c.Missing, fmt.Sprintf("%s: %s, %s", f.Path, b.ModelType, b.test))
				continue
			}
			c.Rows = append(c.Rows, ratios(f.Path, b, rows[i])...)
		}
		for _, m := range rows {
			if !slices.ContainsFunc(first, func(b measurement) bool { return key(m) == key(b) }) {
				c.Missing = append(c.Missing, fmt.Sprintf("%s: %s, %s", base.Path, m.ModelType, m.test))
			}
		}
		c.Differences = append(c.Differences, differences(f.Path, first, rows)...)
	}
	return c
}

// sameModel reports whether all rows are of one model.
func sameModel(rows []measurement) bool {
	return !slices.ContainsFunc(rows, func(m measurement) bool { return m.ModelType != rows[0].ModelType })
}

// ratio compares two rows.
func ratio(file string, base, other measurement) Ratio {
	r := Ratio{File: file, Model: other.ModelType, Test: other.test, Base: base.median, Other: other.median, BaseRuns: len(base.samples), OtherRuns: len(other.samples),
		BaseKL: base.KLExact, OtherKL: other.KLExact}
	switch {
	case base.Struck || other.Struck:
		r.Verdict = Strike
		return r
	case base.median <= 0 || other.median <= 0:
		r.Verdict = NoRuns
		return r
	}
	r.Ratio = other.median / base.median
	r.Low, r.High = bootstrap(base.samples, other.samples)
	r.judge()
	return r
}

func (r *Ratio) judge() {
	switch {
	case min(r.BaseRuns, r.OtherRuns) < minRuns:
		r.Verdict = TooFew
	case r.Low > 1:
		r.Verdict = Faster
	case r.High < 1:
		r.Verdict = Slower
	default:
		r.Verdict = Noise
	}
}

// ratios compares two rows in all that was measured of both.
func ratios(file string, base, other measurement) []Ratio {
	list := []Ratio{ratio(file, base, other)}
	if list[0].Ratio == 0 {
		return list
	}
	for _, b := range base.also {
		i := slices.IndexFunc(other.also, func(s series) bool { return s.metric == b.metric })
		if i < 0 {
			continue
		}
		o := other.also[i]
		r := list[0]
		r.Metric, r.Base, r.Other, r.BaseRuns, r.OtherRuns = b.metric, median(b.values), median(o.values), len(b.values), len(o.values)
		if !(r.Base > 0 && r.Other > 0) { // of an older version, or a single token
			continue
		}
		r.Ratio = r.Other / r.Base
		if r.Low, r.High = bootstrap(b.values, o.values); b.time {
			r.Ratio, r.Low, r.High = 1/r.Ratio, 1/r.High, 1/r.Low
		}
		r.judge()
		list = append(list, r)
	}
	return list
}

// interval is the 95 % interval; "" of too few runs to have one.
func (r Ratio) interval() string {
	if r.Verdict == TooFew {
		return ""
	}
	return fmt.Sprintf("%.3f to %.3f", r.Low, r.High)
}

// name is the test, and the metric if there is one, as the tables' columns are called.
func (r Ratio) name() string {
	switch r.Metric {
	case "":
		return r.Test
	case "median_ttft_ms":
		return r.Test + ", TTFT ms"
	case "median_tpot_ms":
		return r.Test + ", TPOT ms"
	case "speed_pp":
		return r.Test + ", S_PP"
	case "speed_tg":
		return r.Test + ", S_TG"
	}
	return r.Test + ", " + r.Metric
}

// bootstrap is the interval that holds 95 % of the ratios of medians of samples that are drawn from both with replacement (Efron
// 1979). With the few runs of a benchmark it is a little narrow.
func bootstrap(base, other []float64) (low, high float64) {
	const draws = 10000
	rng := rand.New(rand.NewPCG(1, 2))
	again := func(x, into []float64) float64 {
		for i := range into {
			into[i] = x[rng.IntN(len(x))]
		}
		slices.Sort(into)
		return quantile(into, 0.5)
	}
	b, o, ratios := make([]float64, len(base)), make([]float64, len(other)), make([]float64, draws)
	for i := range ratios {
		ratios[i] = again(other, o) / again(base, b)
	}
	slices.Sort(ratios)
	return quantile(ratios, 0.025), quantile(ratios, 0.975)
}

// differences lists what the setups of two files' rows have different, where each file has one value.
func differences(file string, base, other []measurement) (list []Difference) {
	values := func(rows []measurement) (names []string, all map[string]string) {
		all = map[string]string{}
		for _, m := range rows {
			setupValues(m.Setup, func(name, value string) {
				old, ok := all[name]
				switch {
				case !ok:
					names = append(names, name)
					all[name] = value
				case old != value:
					all[name] = "several"
				}
			})
		}
		return names, all
	}
	names, b := values(base)
	_, o := values(other)
	for _, name := range names {
		if b[name] != o[name] && name != "load_ms" {
			list = append(list, Difference{file, name, b[name], o[name]})
		}
	}
	return list
}

// answers are the divergences from exact probabilities, once for the rows of a model and a file.
func (c *Comparison) answers() string {
	var lines []string
	for _, r := range c.Rows {
		if r.BaseKL == nil || r.OtherKL == nil {
			continue
		}
		line := fmt.Sprintf("KL divergence from exact probabilities: %.2g, in %s %.2g\n", *r.BaseKL, r.File, *r.OtherKL)
		if !slices.Contains(lines, line) {
			lines = append(lines, line)
		}
	}
	return strings.Join(lines, "")
}

// Table is the comparison for people.
func (c *Comparison) Table() string {
	var b strings.Builder
	fmt.Fprintf(&b, "base: %s\n", c.Base)
	width, tests := 5, 22
	for _, r := range c.Rows {
		width, tests = max(width, len([]rune(r.Model))), max(tests, len([]rune(r.name())))
	}
	file := ""
	for _, r := range c.Rows {
		if r.File != file {
			file = r.File
			fmt.Fprintf(&b, "\n%s\n%-*s  %-*s %10s %10s %7s  %-15s\n", file, width, "model", tests, "test", "base t/s", "t/s", "ratio", "95 %")
		}
		if r.Ratio == 0 {
			fmt.Fprintf(&b, "%-*s  %-*s %10s %10s %7s  %-15s %s\n", width, r.Model, tests, r.Test, "", "", "", "", r.Verdict)
			continue
		}
		fmt.Fprintf(&b, "%-*s  %-*s %10.2f %10.2f %7.3f  %-14s  %s\n", width, r.Model, tests, r.name(), r.Base, r.Other, r.Ratio, r.interval(), r.Verdict)
	}
	if n := len(c.Rows); n > 1 {
		sum, counted := 0.0, 0
		for _, r := range c.Rows {
			if r.Ratio > 0 && r.Metric == "" {
				sum += math.Log(r.Ratio)
				counted++
			}
		}
		if counted > 1 {
			fmt.Fprintf(&b, "\ngeometric mean of %d ratios: %.3f\n", counted, math.Exp(sum/float64(counted)))
		}
	}
	b.WriteString(c.answers())
	for _, d := range c.Differences {
		fmt.Fprintf(&b, "differs in %s: %s, in %s %s\n", d.Key, cmp.Or(d.Base, `""`), d.File, cmp.Or(d.Other, `""`))
	}
	for _, m := range c.Missing {
		fmt.Fprintf(&b, "missing in %s\n", m)
	}
	return b.String()
}
