package main

import (
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"pumice/internal/dtype"
	"pumice/pipeline"
	"pumice/pipeline/kernels"
)

// round is a device whose numbers are round: ten units, 1 GHz, 1 TB/s, no pipes but xu.
var round = gpu{
	name: "round", vendor: nvidia, least: 32, most: 32, units: 10, schedulers: 4, width: 32, clock: 1e9, bandwidth: 1e12, memory: 1e12,
	near: 1e12, cached: 1e12, local: 100 << 10, rates: [pipes]float64{xu: 16}, level1: 128, operations: 1000, twice: 1, standIn: "ampere", convert: true,
}

// exact is what of it is not uncertain.
var exact = assumptions{boundary: 3, latency: 1, efficiency: 1, matrixShare: 1, busy: 1, slower: 1, convert: true}

// TestTime has a case for each limit, worked out by hand. Ten workgroups on ten units, one each, make ten trips of four
// subgroups.
func TestTime(t *testing.T) {
	with := func(change func(d *demand)) demand {
		d := demand{subgroups: 4, lanes: 32, trips: 10, loop: Work{Instructions: 100}}
		change(&d)
		return d
	}
	for _, c := range []struct {
		name       string
		workgroups int
		demand     demand
		count      Count
		want       cost
	}{
		// 100 instructions of one subgroup a scheduler: 0.1 us a trip.
		{"issue", 10, with(func(*demand) {}), Count{}, cost{1, byIssue}},
		// Each unit has two workgroups, so 0.2 us.
		{"issue of two", 20, with(func(*demand) {}), Count{}, cost{2, byIssue}},
		// It has room for one: two turns of 0.1 us.
		{"issue in turn", 20, with(func(*demand) {}), Count{Waves: 4}, cost{2, byIssue}},
		// 10 MB in ten trips at 1 TB/s, and a load more.
		{"memory", 10, with(func(d *demand) { d.far, d.hops = 10e6, 1 }), Count{}, cost{11, byMemory}},
		// 50 conversions of 4 * 32 lanes at 16 a clock: 0.4 us.
		{"converter", 10, with(func(d *demand) { d.loop.Pipes[xu] = 50 }), Count{}, cost{4, byConvert}},
		// A load of 1 us, then 0.1 us of instructions.
		{"latency", 10, with(func(d *demand) { d.waits = 1 }), Count{}, cost{11, byLatency}},
		// One subgroup has a scheduler for itself, but no other.
		{"latency of one", 10, with(func(d *demand) { d.waits, d.subgroups = 1, 1 }), Count{}, cost{11, byLatency}},
		{"ahead", 10, with(func(d *demand) { d.waits, d.ahead = 1, true }), Count{}, cost{10, byLatency}},
		// 2e6 operations at 1000 a clock.
		{"matrix", 10, with(func(d *demand) { d.matrix = 2e6 }), Count{}, cost{20, byMatrix}},
		// 256,000 bytes at 128 a clock.
		{"shared", 10, with(func(d *demand) { d.shared = 256000 }), Count{}, cost{20, byShared}},
		// Ten workgroups of 300,000 bytes at 1 TB/s.
		{"cache", 10, with(func(d *demand) { d.near = 300000 }), Count{}, cost{30, byCache}},
		// Half of the units stand still: the other five take 5 MB in ten trips at 1 TB/s.
		{"few", 5, with(func(d *demand) { d.far = 5e6 }), Count{}, cost{5, byMemory}},
	} {
		got := round.time(c.workgroups, c.demand, c.count, exact, round.bandwidth)
		if math.Abs(got.micros-c.want.micros) > 1e-9 || got.limit != c.want.limit {
			t.Errorf("%s: %+v, want %+v", c.name, got, c.want)
		}
	}
	// Without the converter its work is integer operations', which nothing bounds on this device.
	in := exact
	in.convert = false
	d := with(func(d *demand) { d.loop.Pipes[xu] = 50 })
	if got := round.time(10, d, Count{}, in, 1e12); math.Abs(got.micros-1) > 1e-9 || got.limit != byIssue {
		t.Errorf("without conversions: %+v", got)
	}
	// Matrices that keep the schedulers busy: 0.1 us and 2 us.
	blocked := round.with(func(g *gpu) { g.blocks = true })
	if got := blocked.time(10, with(func(d *demand) { d.matrix = 2e6 }), Count{}, exact, 1e12); math.Abs(got.micros-21) > 1e-9 {
		t.Errorf("blocked: %+v", got)
	}
}

// product is a dispatch of 4096 x 4096 weights of Q4_0 by workgroups of 16 rows.
func product(waits bool) pipeline.Dispatch {
	return pipeline.Dispatch{
		Kernel: "matvec_q4_0_sg", Size: "4096x4096", Workgroups: 256, Lanes: 32, Waits: waits, WeightBytes: 9437184, Tiles: 1,
		Constants: []kernels.Constant{{Name: "WORKGROUP", Value: 128}, {Name: "AHEAD", Value: 1}},
	}
}

func TestDemand(t *testing.T) {
	loop := Count{Weights: 128, Loop: Work{Instructions: 590, Loads: 7, LoadBytes: 112}}
	d, err := round.demand(product(true), Count{}, loop, 1, 0)
	// 16 rows of 4096 by 128 invocations of 128 weights.
	want := demand{subgroups: 4, lanes: 32, trips: 4, loop: loop.Loop, waits: 1, ahead: true, hops: 1, tail: 0.1, shared: 112 * 128, far: 9437184}
	if diff := cmp.Diff(want, d, cmp.AllowUnexported(demand{})); err != nil || diff != "" {
		t.Errorf("%v %s", err, diff)
	}
	tile := pipeline.Dispatch{
		Kernel: "matmul_q4_0_cm", Size: "12288x4096", Workgroups: 96 * 8, Lanes: 32, Tiles: 8, WeightBytes: 28311552,
		Constants: []kernels.Constant{{Name: "WORKGROUP", Value: 256}, {Name: "SUBGROUPS_M", Value: 4}},
	}
	d, err = round.with(func(g *gpu) { g.cache = 1e9 }).demandOf(tile, 512)
	// A tile of 128 rows and 64 tokens, 32 columns a trip; fragments of 32 rows and 32 tokens for each of eight subgroups, and
	// the tile itself, two bytes each; 18 bytes for 32 weights.
	want = demand{
		subgroups: 8, lanes: 32, trips: 128, waits: cacheLatency, ahead: true, hops: 1, matrix: 2 * 128 * 64 * 32,
		shared: 8*(32+32)*32*2 + (128+64)*32*2, near: 128*18 + 64*32*2, far: 28311552, local: 2 * 80 * (128 + 64),
	}
	if diff := cmp.Diff(want, d, cmp.AllowUnexported(demand{})); err != nil || diff != "" {
		t.Errorf("%v %s", err, diff)
	}
	// With columns in four splits there are four times the workgroups, of a quarter of the trips.
	tile.Workgroups *= 4
	tile.Constants = append(tile.Constants, kernels.Constant{Name: "SPLITS", Value: 4})
	want.trips = 32
	d, err = round.with(func(g *gpu) { g.cache = 1e9 }).demandOf(tile, 512)
	if diff := cmp.Diff(want, d, cmp.AllowUnexported(demand{})); err != nil || diff != "" {
		t.Errorf("split: %v %s", err, diff)
	}
	tile.Workgroups, tile.Constants = tile.Workgroups/4, tile.Constants[:2]
	// Where no cache keeps the weights, each turn of workgroups reads them again: 768 on 64 units, which have room for the shared
	// memory of three, are four turns.
	d, err = round.with(func(g *gpu) { g.units = 64 }).demandOf(tile, 512)
	if got := d.far / 28311552; err != nil || math.Abs(got-4) > 1e-9 {
		t.Errorf("%v, reads the weights %g times", err, got)
	}
}

// demandOf is demand without counts.
func (g gpu) demandOf(d pipeline.Dispatch, tokens int) (demand, error) {
	return g.demand(d, Count{}, Count{}, tokens, 0)
}

func TestEstimate(t *testing.T) {
	table := countTable{"ampere": {
		{Kernel: "matvec_q4_0_sg", Constants: "WORKGROUP=64", Weights: 1},
		{Kernel: "matvec_q4_0_sg", Constants: "WORKGROUP=128 AHEAD=1", Weights: 128},
	}}
	p := plan{gpu: &round, scenario: scenario{title: measuredModel, shape: shape{dtype: dtype.Q4_0}, tokens: 1}, minimum: 1 << 40,
		dispatches: []pipeline.Dispatch{product(false), product(true)}}
	e, err := p.estimate(table, exact, nil)
	// Each: 9437184 bytes at 1 TB/s, a load and the sum of lanes; before the second a boundary of 3 us.
	each := 9.437184 + 1 + 0.1
	if err != nil || math.Abs(e.micros-2*each-3) > 1e-6 || math.Abs(e.by[byMemory]-2*each) > 1e-6 || e.by[byBoundary] != 3 {
		t.Errorf("%v %+v", err, e)
	}
	if len(e.rows) != 1 || e.rows[0].calls != 2 || math.Abs(e.rows[0].micros-each-1.5) > 1e-6 {
		t.Errorf("%+v", e.rows)
	}
	m := &measurements{products: map[string]float64{"matvec_q4_0_sg 4096x4096": 20}}
	if e, err = p.estimate(table, exact, m); err != nil || math.Abs(e.micros-40) > 1e-9 || math.Abs(e.by[byMeasuring]-40) > 1e-9 {
		t.Errorf("measured: %v %+v", err, e)
	}
	if e, err = p.estimate(table, exact, &measurements{boundary: 5}); err != nil || math.Abs(e.micros-2*each-5) > 1e-6 {
		t.Errorf("with a boundary of 5: %v %+v", err, e)
	}
	p.dispatches[0].Kernel = "matvec_q9_sg"
	list, err := predict([]plan{p}, table, nil)
	if err != nil || !strings.Contains(predictionRows(list), "no counts (make isa-report) of matvec_q9_sg on ampere") {
		t.Errorf("%v\n%s", err, predictionRows(list))
	}
}

// TestMeasurements reads the lab's report of a made-up RTX 4090.
func TestMeasurements(t *testing.T) {
	m, err := readMeasurements("../lab/testdata/report.json")
	if err != nil {
		t.Fatal(err)
	}
	if m.gpu.is("NVIDIA GeForce RTX 4090 D") || !m.gpu.is("NVIDIA GeForce RTX 4090 (NVK AD102)") {
		t.Error("the wrong device")
	}
	if m.gpu.name != "RTX 4090" || m.boundary != 2.5 || m.bandwidth != 950e9 || m.converts != 0 {
		t.Errorf("%+v", m)
	}
	if got := m.results["q4_0 tg128 @ d4096"]; got != 95 {
		t.Errorf("decode at depth: %g", got)
	}
	p := plan{gpu: m.gpu, scenario: scenario{title: measuredModel, shape: shape{dtype: dtype.Q4_0}, tokens: 1, depth: 4096}}
	for _, c := range []struct {
		kernel, size string
		want         float64
		ok           bool
	}{
		{"matvec_q4_0_sg", "22016x4096", 187.5, true}, // of the profile of another depth, before that of the benchmark
		{"matvec_q4_0_sg", "4096x4096", 15.7, true},   // of the benchmark
		{"matvec_q4_0_sg", "1x1", 0, false},
	} {
		if got, ok := m.dispatch(&p, pipeline.Dispatch{Kernel: c.kernel, Size: c.size}); got != c.want || ok != c.ok {
			t.Errorf("%s %s: %g %t", c.kernel, c.size, got, ok)
		}
	}
	p.depth = 0
	one := []prediction{{plan: &p, middle: estimate{micros: 5000}, slow: estimate{micros: 10000}, fast: estimate{micros: 4000}}}
	text := beside(one, []prediction{{plan: &p, middle: estimate{micros: 5555}}}, m)
	if !strings.Contains(text, "| Llama 2 7B | Q4_0 | tg128 | 190 | 200 | 100 | 250 | +5 % | 180 | -5 % |\n") {
		t.Error(text)
	}
	file := filepath.Join(t.TempDir(), "report.json")
	for _, c := range [][2]string{
		{`{"small": true}`, "rehearsal"},
		{`{"stages": [{"stage": "devices", "kind": "json", "data": [{"name": "llvmpipe", "type": "cpu"}]}]}`, "no predictions are made"},
		{`{`, "unexpected end"},
	} {
		if err := os.WriteFile(file, []byte(c[0]), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := readMeasurements(file); err == nil || !strings.Contains(err.Error(), c[1]) {
			t.Errorf("%s: %v", c[0], err)
		}
	}
}

// TestCountsOfTheLikestConstants: a device that stands in may have been compiled with others.
func TestCountsOfTheLikestConstants(t *testing.T) {
	file := filepath.Join(t.TempDir(), "counts.json")
	table := countTable{"ampere": {{Kernel: "k", Constants: "A=1 B=2", Waves: 1}, {Kernel: "k", Constants: "A=1 B=3", Waves: 2}, {Kernel: "k", Waves: 3}}}
	if err := writeCounts(file, countTable{"ampere": nil, "dg2": {{Kernel: "x"}}}); err != nil {
		t.Fatal(err)
	}
	if err := writeCounts(file, table); err != nil {
		t.Fatal(err)
	}
	table, err := readCounts(file)
	if err != nil || len(table["dg2"]) != 1 {
		t.Fatalf("%v %v", err, table)
	}
	for _, c := range []struct {
		b    uint32
		want int
	}{{2, 1}, {3, 2}, {4, 1}} {
		got, err := table.of("ampere", pipeline.Dispatch{Kernel: "k", Constants: []kernels.Constant{{Name: "A", Value: 1}, {Name: "B", Value: c.b}}})
		if err != nil || got.Waves != c.want {
			t.Errorf("B = %d: %v %+v", c.b, err, got)
		}
	}
}

// TestPlansOfDescribedDevices: what package pipeline plans for devices that are only described.
func TestPlansOfDescribedDevices(t *testing.T) {
	list, err := plans(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]string{}
	for _, p := range list {
		if p.title != "Llama 2 7B" || p.dtype != dtype.Q4_0 || p.depth > 0 {
			continue
		}
		waits := 0
		kinds := map[string]int{}
		for _, d := range p.dispatches {
			if d.Waits {
				waits++
			}
			switch kind, _, _ := strings.Cut(d.Kernel, "_"); kind {
			case "matvec", "matmul", "attention":
				kinds[kind]++
			}
		}
		got[p.gpu.name+" "+p.test()] = fmt.Sprint(len(p.dispatches), " ", waits, " ", p.weights/1e6, " MB ", kinds)
	}
	for name, want := range map[string]string{
		// Five dispatches a layer, the table's row before, and norm, head, largest logit and step behind; each waits for the
		// one before it.
		"H100 tg128":        "165 164 3717 MB map[attention:32 matvec:129]",
		"RX 7900 XTX tg128": "165 164 3717 MB map[attention:32 matvec:129]",
		"RTX 4090 pp512":    "421 420 3718 MB map[attention:32 matmul:128 matvec:1]",
		"RX 6800 pp512":     "421 420 3718 MB map[attention:32 matmul:128 matvec:1]",
		"Arc A770 pp512":    "421 420 3718 MB map[attention:32 matmul:128 matvec:1]",
	} {
		if got[name] != want {
			t.Errorf("%s: %s, want %s", name, got[name], want)
		}
	}
}

// TestTheOneMeasurement keeps docs/predictions.md true about how far the model is off: it asks the model for the products of one token that an H200 took 4.53 ms for in Q4_0 and 5.37 in Q8_0
// (docs/design/0004, kernels of bb0e0e4): workgroups of one subgroup and four rows, a lane 32 or 64 consecutive columns of each,
// and x not in shared memory. Neighbouring lanes read x 128 bytes apart or more, so that each of its loads, and of the norm's
// gain, takes as many turns of the first-level cache as there are lanes.
func TestTheOneMeasurement(t *testing.T) {
	g := &gpus[0]
	if g.name != "H200" {
		t.Fatal(g.name)
	}
	for _, c := range []struct {
		dtype            dtype.DType
		perWeight, waves float64 // docs/isa.md at bb0e0e4, Ampere
		columns          float64 // of a lane in a trip
		loads            float64 // of weights, 16 bytes each
		measured         float64 // microseconds
		off, without     float64 // as docs/predictions.md has it: with and without the turns
	}{
		{dtype.Q4_0, 4.68, 24, 32, 4, 4530, -0.12, -0.59},
		{dtype.Q8_0, 4.10, 16, 64, 16, 5370, -0.23, -0.61},
	} {
		micros := func(in assumptions, turns float64) (sum float64) {
			for _, x := range []struct {
				rows, cols, times float64
				norm              bool
			}{{12288, 4096, 32, true}, {4096, 4096, 32, false}, {22016, 4096, 32, true}, {4096, 11008, 32, false}, {32000, 4096, 1, false}} {
				reads := c.columns / 4 // of x
				if x.norm {
					reads *= 2
				}
				d := demand{
					subgroups: 1, lanes: 32, trips: math.Ceil(x.cols / c.columns / 32), waits: 1, hops: 1,
					loop:   Work{Instructions: int(c.perWeight * c.columns * 4)},
					shared: turns*128*reads + 512*c.loads,
					far:    x.rows * x.cols * float64(c.dtype.BlockBytes()) / float64(c.dtype.BlockSize()),
				}
				took := g.time(int(x.rows/4), d, Count{Waves: int(c.waves)}, in, g.bandwidth*in.efficiency)
				sum += x.times * (took.micros + in.boundary)
			}
			return sum
		}
		slow, middle, fast := micros(g.assume(0, true), 32), micros(g.assume(0.5, true), 32), micros(g.assume(1, true), 32)
		off, without := middle/c.measured-1, micros(g.assume(0.5, true), 4)/c.measured-1
		t.Logf("%s: %.0f us (%.0f to %.0f), measured %.0f: %+.0f %%, without the turns %+.0f %%", c.dtype, middle, fast, slow, c.measured, 100*off, 100*without)
		if math.Abs(off-c.off) > 0.01 || math.Abs(without-c.without) > 0.01 {
			t.Errorf("%s: off by %.2f and without the turns %.2f, docs/predictions.md says %.2f and %.2f", c.dtype, off, without, c.off, c.without)
		}
	}
}
