package model

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"pumice/checkpoint"
	"pumice/internal/dtype"
	"pumice/internal/gputest"
	"pumice/internal/synth"
	"pumice/pipeline"
)

// TestMemoryPlanCountsEveryBuffer runs every kind of plan and compares what the device has then given with what was planned.
func TestMemoryPlanCountsEveryBuffer(t *testing.T) {
	dev := gputest.OpenWith(t, gputest.Options{NoValidation: true})
	free := func() int64 {
		info, err := dev.Memory()
		if err != nil {
			t.Fatal(err)
		}
		if info.Budget {
			t.Skip("the driver counts other programs' memory too")
		}
		return info.FreeBytes
	}
	m, err := pipeline.NewManager(dev, pipeline.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { check(t, m.Close()) }()
	c, err := checkpoint.Open(t.Context(), filepath.Join(fixtureDir, "llama"))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	before := free()
	x, err := Load(context.Background(), m, c, Options{Context: 128, Chunk: 8})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { check(t, x.Close()) }()
	ctx := context.Background()
	tokens := make([]int, 8)
	var errs []error
	forward := func(n, position int, want Want) {
		_, err := x.Forward(ctx, tokens[:n], position, want)
		errs = append(errs, err)
	}
	for _, want := range []Want{Nothing, Logits, Argmax, Candidates} {
		forward(1, 0, want)
		forward(8, 0, want)
	}
	forward(8, 0, AllArgmax)
	forward(8, 0, AllLogits)
	for _, sequences := range [][][]int{{{1}, {2}}, {tokens[:4], tokens[:3], tokens[:1]}} {
		_, err := x.ForwardSequences(ctx, sequences, 8)
		errs = append(errs, err)
	}
	_, err = x.Decode(ctx, 1, 8, 4, Argmax, nil)
	if err := errors.Join(append(errs, err)...); err != nil {
		t.Fatal(err)
	}
	took, p := before-free(), x.Memory()
	const rounding = 16 << 10 // of the driver, for some thirty buffers
	if planned := p.TotalBytes - p.StagingBytes; took > planned+rounding {
		t.Errorf("%d bytes of device memory for %d plans, planned %d: %+v", took, len(x.plans), planned, p)
	} else {
		t.Logf("%d bytes for %d plans, planned %d", took, len(x.plans), planned)
	}
}

// TestArenaTakesEveryPlan compares the planned arena with the largest one that a plan asks for: with one token, where
// candidates of a large vocabulary take more than its logits, with chunks between two buckets, and with taps.
func TestArenaTakesEveryPlan(t *testing.T) {
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
					var arena, own int64
					x := l.dryModel(m, w)
					for _, k := range x.planKeys() {
						b := x.builder(k)
						n, err := b.ArenaBytes()
						if err != nil {
							t.Fatal(err)
						}
						arena = max(arena, n)
						own += b.OutputBytes()
					}
					gotArena, gotOwn, err := l.planBytes(m, w)
					if err != nil || gotArena != arena || gotOwn != own {
						t.Errorf("%s, chunk %d, taps %t, layers %v: planned an arena of %d and %d bytes beside it, error %v; plans ask for %d and %d",
							name, chunk, taps, layers, gotArena, gotOwn, err, arena, own)
					}
				}
			}
		}
	}
}

// TestContextsBeyondABindingDoNotFit asks for more positions than one binding holds the rotary angles of, though their keys would fit.
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
	if keys := m.MaxCachePositions(cfg.cacheShape(&o, most, cfg.allLayers())); keys <= most {
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
	if _, err := Load(context.Background(), m, c, o); !errors.As(err, &fit) {
		t.Errorf("loading: %v", err)
	}
}
