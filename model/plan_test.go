package model

import (
	"context"
	"encoding/json"
	"errors"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"pumice/checkpoint"
	"pumice/internal/dtype"
	"pumice/internal/gputest"
	"pumice/internal/synth"
	"pumice/pipeline"
	"pumice/vk"
)

// TestMemoryPlanCountsEveryBuffer evaluates with every plan that a model may record and compares the sum of the
// device's allocations with the plan: with taps, on several devices, and with weights that fill several blocks of
// memory.
func TestMemoryPlanCountsEveryBuffer(t *testing.T) {
	wide, err := synth.Lookup("xverse", synth.Tiny)
	if err != nil {
		t.Fatal(err)
	}
	wide.Vocab = 40_000
	fixture := filepath.Join(fixtureDir, "llama")
	for _, c := range []struct {
		name, path string
		o          Options
		stages     int
		plans      bool // evaluate with all of them; else only load
	}{
		{"one device", fixture, Options{Context: 128, Chunk: 4}, 1, true},
		{"taps", fixture, Options{Context: 128, Chunk: 2, Taps: true}, 1, true},
		{"two stages", fixture, Options{Context: 128, Chunk: 2}, 2, true},
		{"weights of several blocks", hollow(t, wide, dtype.F32).Path(), Options{Context: 128}, 1, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			dev := gputest.OpenWith(t, gputest.Options{NoValidation: true})
			var managers []*pipeline.Manager
			for range c.stages {
				m, err := pipeline.NewManager(dev, pipeline.Options{})
				if err != nil {
					t.Fatal(err)
				}
				t.Cleanup(func() { check(t, m.Close()) })
				managers = append(managers, m)
			}
			before := allocated(t, dev)
			s := loadOn(t, c.path, c.o, managers...)
			p := s.Memory()
			planned := p.TotalBytes - p.StagingBytes
			if c.plans {
				useEveryPlan(t, s)
			}
			buffers := int64(14 * c.stages)
			for i, x := range s.stages {
				if !c.plans {
					continue
				}
				unplanned := maps.Clone(x.plans)
				for _, k := range x.planKeys() {
					if delete(unplanned, k); x.plans[k] == nil && k.singles+k.sequences == 0 {
						t.Errorf("stage %d: nothing used the plan of %d tokens for %s", i, k.tokens, k.tail)
					}
					if _, err := x.plan(t.Context(), k); err != nil { // batches that nothing used
						t.Fatal(err)
					}
				}
				for k := range unplanned { // TestSharedMemoryTakesEveryBatch
					if k.singles+k.sequences == 0 {
						t.Errorf("stage %d: a plan of %d tokens for %s that is not planned", i, k.tokens, k.tail)
					}
				}
			}
			rounding := 64 * buffers // by the driver, of each buffer up; or down, where our padding would end a block
			if dev.PhysicalDevice().Type != vk.CPU {
				rounding *= 1024
			}
			took := allocated(t, dev) - before
			if diff := took - planned; diff > rounding || diff < -rounding {
				t.Errorf("%d bytes of device memory, planned %d, a difference of %d where %d are rounding: %+v", took, planned, diff, rounding, p)
			}
			t.Logf("%d bytes, planned %d", took, planned)
		})
	}
}

// allocated is the sum of a device's allocations.
func allocated(t *testing.T, dev *vk.Device) int64 {
	t.Helper()
	info, err := dev.Memory()
	if err != nil {
		t.Fatal(err)
	}
	return info.AllocatedBytes
}

// useEveryPlan evaluates as many tokens as each plan takes, for everything that Run, Score and Decode give, and some
// batches.
func useEveryPlan(t *testing.T, s *subject) {
	t.Helper()
	for _, n := range s.head().buckets {
		tokens := make([]int, n)
		for _, p := range planned {
			if _, err := s.forward(t.Context(), tokens, 0, p.tail); err != nil {
				t.Fatal(err)
			}
		}
		sequences := [][]int{tokens}
		if n > 1 {
			sequences = [][]int{tokens[:1], tokens[1:]}
		}
		for _, tail := range []Tail{lastLogits, lastHidden} {
			if _, err := s.score(t.Context(), sequences, n, tail); err != nil {
				t.Fatal(err)
			}
		}
	}
	a, b := newText(t, s.Model), newText(t, s.Model)
	for _, p := range planned {
		if p.tail.Rows == EveryRow {
			continue
		}
		if _, err := s.Run(t.Context(), []Span{{Sequence: a, Tokens: []int{1}}, {Sequence: b, Tokens: []int{2}}}, p.tail); err != nil {
			t.Fatal(err)
		}
	}
	n := min(4, s.MaxSteps()) // which the device chooses: the largest logit's, and drawn ones
	draw := &pipeline.Draw{Temperature: 1, TopK: 8, TopP: 1, Uniform: make([]float32, n)}
	_, err1 := s.decode(t.Context(), 1, 1, n, nil)
	_, err2 := s.decode(t.Context(), 1, 1, n, draw)
	if err := errors.Join(err1, err2); err != nil {
		t.Fatal(err)
	}
}

// TestSharedMemoryTakesEveryPlan compares the planned arena and Frame with the largest that a plan asks for: with one
// token, where candidates of a large vocabulary take more than its logits, with chunks between two buckets, and with
// taps.
func TestSharedMemoryTakesEveryPlan(t *testing.T) {
	m, err := pipeline.NewManager(gputest.Open(t), pipeline.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { check(t, m.Close()) }()
	wide, err := synth.Lookup("xverse", synth.Tiny)
	if err != nil {
		t.Fatal(err)
	}
	wide.Vocab = 100_000
	files := map[string]*checkpoint.Checkpoint{"a large vocabulary": hollow(t, wide, dtype.F16)}
	for _, name := range []string{"llama", "gemma2", "gemma3", "falcon", "mpt"} {
		if files[name], err = checkpoint.Open(t.Context(), filepath.Join(fixtureDir, name)); err != nil {
			t.Fatal(err)
		}
		defer files[name].Close()
	}
	for name, c := range files {
		for _, chunk := range []int{1, 2, 7, 128} {
			for _, taps := range []bool{false, true} {
				l, err := newLoading(c, Options{Context: 128, Chunk: chunk, Taps: taps})
				if err != nil {
					t.Fatal(err)
				}
				for _, layers := range []layerRange{l.cfg.allLayers(), {0, 1}, {1, l.cfg.NumHiddenLayers}} {
					w, err := l.bind(m, layers)
					if err != nil {
						t.Fatal(err)
					}
					var want pipeline.Need
					x := l.dry(m, w)
					for _, k := range x.planKeys() {
						n, err := x.builder(k).Need()
						if err != nil {
							t.Fatal(err)
						}
						want = want.Max(n)
					}
					if got, err := l.need(m, w); err != nil || got != want {
						t.Errorf("%s, chunk %d, taps %t, layers %v: planned %+v, %v; plans ask for %+v", name, chunk, taps, layers, got, err, want)
					}
				}
			}
		}
	}
}

// TestSharedMemoryTakesEveryBatch compares the planned arena and Frame with what the plan asks for by which each mix of
// spans is evaluated, on every path.
func TestSharedMemoryTakesEveryBatch(t *testing.T) {
	long(t)
	dev := gputest.Open(t)
	any, err := pipeline.NewManager(dev, pipeline.Options{})
	if err != nil {
		t.Fatal(err)
	}
	available := any.Paths()
	check(t, any.Close())
	for _, path := range available {
		m, err := pipeline.NewManager(dev, pipeline.Options{Path: path})
		if err != nil {
			t.Fatal(err)
		}
		defer func() { check(t, m.Close()) }()
		for _, name := range []string{"llama", "gemma2", "mpt"} {
			c, err := checkpoint.Open(t.Context(), filepath.Join(fixtureDir, name))
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			for _, chunk := range []int{1, 2, 7, 40, 200} {
				l, err := newLoading(c, Options{Context: 1024, Chunk: chunk})
				if err != nil {
					t.Fatal(err)
				}
				for _, layers := range []layerRange{l.cfg.allLayers(), {0, 1}, {1, l.cfg.NumHiddenLayers}} {
					w, err := l.bind(m, layers)
					if err != nil {
						t.Fatal(err)
					}
					have, err := l.need(m, w)
					if err != nil {
						t.Fatal(err)
					}
					g := l.dry(m, w)
					for k := range batchKeysOf(&Model{cfg: l.cfg, opts: l.opts, stages: []*stage{g}}) {
						if !layers.hasHead(l.cfg) {
							k = k.between()
						}
						if want, err := g.builder(k).Need(); err != nil || have.Max(want) != have {
							t.Errorf("%s, %s, chunk %d, layers %v, %+v: %v, needs %+v of %+v", path, name, chunk, layers, k, err, want, have)
						}
					}
				}
			}
		}
	}
}

// batchKeysOf are the keys of the plans of all batches that leave what is planned of last rows.
func batchKeysOf(x *Model) map[planKey]bool {
	keys := map[planKey]bool{}
	for singles := range MaxSpans + 1 {
		for others := range MaxSpans + 1 - singles {
			least, most := singles+2*others, x.MaxTokens(singles, others)
			if singles+others < 2 || least > most {
				continue
			}
			for tokens := least; tokens <= most && (others > 0 || tokens == least); tokens++ {
				spans := make([]Span, singles+others)
				for i := range spans {
					spans[i].Tokens = make([]int, 1+min(1, max(0, i+1-singles)))
				}
				if others > 0 {
					spans[singles].Tokens = make([]int, 2+tokens-least)
				}
				for _, p := range planned {
					if p.tail.Rows != EveryRow {
						keys[x.batchKey(spans, p.tail)] = true
					}
				}
			}
		}
	}
	return keys
}

// TestContextsBeyondABindingDoNotFit asks for more positions than one binding holds the rotary angles of, though their
// keys would fit.
func TestContextsBeyondABindingDoNotFit(t *testing.T) {
	dir := t.TempDir()
	from := filepath.Join(fixtureDir, "smollm2")
	entries, err := os.ReadDir(from)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		b, err := os.ReadFile(filepath.Join(from, e.Name()))
		if err != nil {
			t.Fatal(err)
		}
		if e.Name() == "config.json" {
			config := map[string]any{}
			if err := json.Unmarshal(b, &config); err != nil {
				t.Fatal(err)
			}
			config["max_position_embeddings"] = 1 << 24
			if b, err = json.Marshal(config); err != nil {
				t.Fatal(err)
			}
		}
		if err := os.WriteFile(filepath.Join(dir, e.Name()), b, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	c, err := checkpoint.Open(t.Context(), dir)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	dev := gputest.OpenWith(t, gputest.Options{NoValidation: true})
	m, err := pipeline.NewManager(dev, pipeline.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { check(t, m.Close()) }()
	cfg, err := ReadConfig(c)
	if err != nil {
		t.Fatal(err)
	}
	most := m.MaxTablePositions(cfg.Rope.Dim)
	o := Options{Context: most, KVType: dtype.Q8_0}
	if keys := m.MaxCachePositions(cfg.cacheShape(&o, cfg.allLayers())); keys <= most {
		t.Fatalf("the fixture's keys fit %d positions, its angles %d", keys, most)
	}
	var fit *FitError
	if _, err := Estimate(t.Context(), m, c, o); errors.As(err, &fit) && strings.Contains(fit.Device, "bindings") {
		t.Errorf("%d positions: %v", most, err)
	}
	o.Context++
	_, err = Estimate(t.Context(), m, c, o)
	if !errors.As(err, &fit) || !strings.Contains(err.Error(), "bindings for rotary angles") || fit.Needed <= fit.Available {
		t.Errorf("%d positions: %v", o.Context, err)
	}
	if _, err := Load(context.Background(), c, o, m); !errors.As(err, &fit) {
		t.Errorf("loading: %v", err)
	}
}
