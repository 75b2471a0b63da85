package main

import (
	"encoding/json"
	"fmt"
	"os"
	"regexp"
	"strings"

	"pumice/pipeline"
	"pumice/pipeline/kernels"
)

// measurements are what a report.json of tools/gpu-lab.sh says of its device.
type measurements struct {
	gpu       *gpu
	boundary  float64 // microseconds of a dispatch that does nothing behind a barrier; 0: not measured
	bandwidth float64 // bytes a second that are read; 0: not measured
	converts  float64 // conversions of bytes a unit and clock; 0: not measured

	products map[string]float64 // microseconds of a cold product of one token, by kernel and size
	profiled map[string]float64 // microseconds of a dispatch of a test, by type of weights, test, kernel and size
	results  map[string]float64 // tokens a second by type of weights and test
}

// measuredEfficiency is the share of the measured bandwidth that kernels are taken to read at.
var measuredEfficiency = span{0.93, 1}

// labResult is a result of pumice bench.
type labResult struct {
	GPU       string  `json:"gpu_info"`
	Prompt    int     `json:"n_prompt"`
	Generated int     `json:"n_gen"`
	Depth     int     `json:"n_depth"`
	Rate      float64 `json:"avg_ts"`
	Read      float64 `json:"read_bandwidth"`
	Kernels   []struct {
		Kernel string  `json:"kernel"`
		Size   string  `json:"size"`
		Calls  int     `json:"calls"`
		NS     float64 `json:"ns"`
	} `json:"kernels"`
}

// test is its name; decoding has that of scenarios, however many tokens were generated.
func (r labResult) test() string {
	s := scenario{tokens: r.Prompt, depth: r.Depth}
	if r.Generated > 0 {
		s.tokens = 1
	}
	return s.test()
}

// labLine is a line of a Go benchmark.
type labLine struct {
	Name   string  `json:"name"`
	Micros float64 `json:"us/dispatch"`
	Rate   float64 `json:"MB/s"`
}

var barrierRow, matvecRow = regexp.MustCompile(`^Barrier/all_memory/132$`), regexp.MustCompile(`^Matvec/(\w+)/(\w+)/cold/(\d+x\d+)$`)

// readMeasurements reads a report.json. Stages that failed are left out.
func readMeasurements(file string) (*measurements, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	var report struct {
		Small  bool
		Stages []struct {
			Stage, Kind string
			Data        json.RawMessage
		}
	}
	if err := json.Unmarshal(text, &report); err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	if report.Small {
		return nil, fmt.Errorf("%s is of a rehearsal at small sizes", file)
	}
	m := &measurements{products: map[string]float64{}, profiled: map[string]float64{}, results: map[string]float64{}}
	var names []string
	for _, s := range report.Stages {
		what, weights, _ := strings.Cut(s.Stage, " ")
		switch {
		case s.Kind == "text":
		case s.Stage == "devices":
			var list []struct{ Name, Type string }
			if err = json.Unmarshal(s.Data, &list); err == nil {
				for _, d := range list {
					names = append(names, d.Name)
				}
			}
		case s.Stage == "probe":
			var probe struct{ Rates map[string]float64 }
			err = json.Unmarshal(s.Data, &probe)
			m.converts = probe.Rates["convert_byte"]
		case s.Kind == "go":
			var list []labLine
			err = json.Unmarshal(s.Data, &list)
			for _, l := range list {
				m.line(l)
			}
		case (what == "bench" || what == "profile") && !strings.Contains(weights, " "): // of another model
			var list []labResult
			err = json.Unmarshal(s.Data, &list)
			for _, r := range list {
				names = append([]string{r.GPU}, names...)
				m.result(what, weights, r)
			}
		}
		if err != nil {
			return nil, fmt.Errorf("%s: stage %s: %w", file, s.Stage, err)
		}
	}
	for _, name := range names {
		for i := range gpus {
			if m.gpu == nil && gpus[i].is(name) {
				m.gpu = &gpus[i]
			}
		}
	}
	if m.gpu == nil {
		return nil, fmt.Errorf("%s: no predictions are made for any of %q", file, names)
	}
	return m, nil
}

// is reports whether a driver's name of a device is that of g, and not of a relative like the RTX 3060 Ti.
func (g *gpu) is(name string) bool {
	_, rest, ok := strings.Cut(name, g.part)
	return ok && !relative.MatchString(rest)
}

var relative = regexp.MustCompile(`^ *(Ti|SUPER|XT|D|Laptop)\b`)

func (m *measurements) line(l labLine) {
	if barrierRow.MatchString(l.Name) {
		m.boundary = l.Micros
	}
	if l.Name == "Read/512MiB" {
		m.bandwidth = max(m.bandwidth, l.Rate*1e6)
	}
	if at := matvecRow.FindStringSubmatch(l.Name); at != nil && l.Micros > 0 {
		kernel := kernels.Path(at[2]).Variant("matvec_" + strings.ToLower(at[1]))
		m.products[kernel+" "+at[3]] = l.Micros
	}
}

func (m *measurements) result(stage, weights string, r labResult) {
	m.bandwidth = max(m.bandwidth, r.Read)
	if stage == "bench" && r.Prompt*r.Generated == 0 {
		m.results[weights+" "+r.test()] = r.Rate
	}
	for _, k := range r.Kernels {
		if k.Calls > 0 {
			m.profiled[strings.Join([]string{weights, r.test(), k.Kernel, k.Size}, " ")] = k.NS / 1e3 / float64(k.Calls)
		}
	}
}

// labWeights is the name of a type in names of stages.
func (s scenario) labWeights() string { return strings.ToLower(s.dtype.String()) }

// dispatch is the measured time of a dispatch, barrier included: by the profile of the test, or by that of another depth, or by
// the benchmark of products.
func (m *measurements) dispatch(p *plan, d pipeline.Dispatch) (micros float64, ok bool) {
	if m == nil || p.title != measuredModel {
		return 0, false
	}
	shallow := p.scenario
	shallow.depth = 0
	for _, s := range []scenario{p.scenario, shallow} {
		if s.depth != p.depth && strings.HasPrefix(d.Kernel, "attention_") {
			continue // which depends on it
		}
		if micros, ok = m.profiled[strings.Join([]string{s.labWeights(), s.test(), d.Kernel, d.Size}, " ")]; ok {
			return micros, true
		}
	}
	micros, ok = m.products[d.Kernel+" "+d.Size]
	return micros, ok
}

// measuredModel is the model of the lab's stages without a name.
const measuredModel = "Llama 2 7B"

// beside writes predictions without and with the measurements beside what was measured.
func beside(before, after []prediction, m *measurements) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s: ", m.gpu.name)
	for _, x := range []struct {
		name, unit  string
		value, each float64
	}{{"boundary", "us", m.boundary, 1}, {"reads", "GB/s", m.bandwidth, gb}, {"conversions", "a clock and unit", m.converts, 1}} {
		if x.value > 0 {
			fmt.Fprintf(&b, "%s %s %s; ", x.name, digits(x.value/x.each), x.unit)
		}
	}
	fmt.Fprintf(&b, "%d products and %d dispatches of profiles\n", len(m.products), len(m.profiled))
	b.WriteString("| model | weights | test | measured | predicted | from | to | off | with what was measured | off |\n|---|---|---|---:|---:|---:|---:|---:|---:|---:|\n")
	for i, p := range before {
		if p.gpu != m.gpu || !p.fits() || p.lacks != nil {
			continue
		}
		got, off := "-", func(float64) string { return "" }
		if rate, ok := m.results[p.labWeights()+" "+p.test()]; ok && p.title == measuredModel {
			got, off = digits(rate), func(predicted float64) string { return fmt.Sprintf("%+.0f %%", 100*(predicted/rate-1)) }
		}
		own, with := p.rate(p.middle), p.rate(after[i].middle)
		b.WriteString(row(p.title, []string{
			p.dtype.String(), p.test(), got, digits(own), digits(p.rate(p.slow)), digits(p.rate(p.fast)), off(own), digits(with), off(with),
		}))
	}
	return b.String()
}
