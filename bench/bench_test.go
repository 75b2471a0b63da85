package bench

import (
	"context"
	"math"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"pumice"
	"pumice/internal/gputest"
)

func TestTestsAreEveryLengthAtEveryDepth(t *testing.T) {
	o := Options{Prompt: []int{512, 0}, Gen: []int{128}, Depth: []int{0, 2048}}
	var names []string
	for _, x := range o.Tests() {
		names = append(names, x.Name())
	}
	if diff := cmp.Diff([]string{"pp512", "tg128", "pp512 @ d2048", "tg128 @ d2048"}, names); diff != "" {
		t.Error(diff)
	}
	if got, want := o.Context(), 2048+512+1; got != want {
		t.Errorf("context %d, want %d", got, want)
	}
}

func TestSpread(t *testing.T) {
	mean, dev := spread([]float64{2, 4, 4, 4, 5, 5, 7, 9})
	if mean != 5 || math.Abs(dev-math.Sqrt(32.0/7)) > 1e-12 {
		t.Errorf("mean %v, deviation %v", mean, dev)
	}
}

// The kernels of a profile account for the dispatches of the run it is of.
func TestProfileHasEveryDispatch(t *testing.T) {
	gputest.Open(t) // skips without a device
	e, err := pumice.Open(t.Context(), "../testdata/fixtures/llama", pumice.Options{Context: 64, Profile: true})
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	if _, err := e.Profile(); err == nil {
		t.Error("a profile before anything ran")
	}
	err = Run(t.Context(), e, Options{Prompt: []int{8}, Gen: []int{4}, Reps: 1, Profile: true}, func(r Result) {
		calls, text := 0, Profile(r)
		sizes, operations := map[string]KernelTime{}, int64(0)
		for _, k := range r.Kernels {
			calls += k.Calls
			if k.NS < 0 || !strings.Contains(text, k.Kernel) || !strings.Contains(text, k.Size) {
				t.Errorf("%s: %+v in %q", r.Test().Name(), k, text)
			}
			sizes[k.Size] = k
			operations += k.Operations
		}
		if last := r.Kernels[len(r.Kernels)-1]; last.Kernel != pumice.Gaps || last.Calls != 0 {
			t.Errorf("%s: the last row is %+v", r.Test().Name(), last)
		}
		// The head's weights are read once, in F16, with x and y of at most 16 sequences.
		if head := sizes["640x128"]; head.Calls != 1 || head.Bytes <= 640*128*2 || head.Bytes > 640*128*2+16*4*(640+128) {
			t.Errorf("%s: the head is %+v", r.Test().Name(), head)
		}
		if operations <= r.Counters.Operations {
			t.Errorf("%s: %d operations, %d of them of products", r.Test().Name(), operations, r.Counters.Operations)
		}
		if calls != int(r.Counters.Dispatches) {
			t.Errorf("%s: %d calls of %d dispatches", r.Test().Name(), calls, r.Counters.Dispatches)
		}
	})
	if err != nil {
		t.Fatal(err)
	}
}

// TestRunMeasuresAModel runs short tests on a fixture: what is timed is what was asked for.
func TestRunMeasuresAModel(t *testing.T) {
	gputest.Open(t) // skips without a device
	e, err := pumice.Open(context.Background(), "../testdata/fixtures/llama", pumice.Options{Context: 64})
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	var got []Result
	o := Options{Prompt: []int{8}, Gen: []int{4}, Depth: []int{0, 16}, Reps: 2}
	if err := Run(context.Background(), e, o, func(r Result) { got = append(got, r) }); err != nil {
		t.Fatal(err)
	}
	if len(got) != 4 {
		t.Fatalf("%d results, want 4", len(got))
	}
	for _, r := range got {
		if len(r.SampleTS) != 2 || !(r.AvgTS > 0) || r.MedianTS <= 0 || r.Warmups < 2 {
			t.Errorf("%s: samples %v", r.Test().Name(), r.SampleTS)
		}
		if r.CopyBandwidth <= 0 || (r.NGen > 0) != (r.BytesPerSec > 0) || (r.NGen > 0) != (r.ReadShare > 0) {
			t.Errorf("%s: %g bytes a second of %g", r.Test().Name(), r.BytesPerSec, r.CopyBandwidth)
		}
		c := e.Config()
		layer := c.HiddenSize*c.HeadDim*2*(c.NumAttentionHeads+c.NumKeyValueHeads) + 3*c.HiddenSize*c.IntermediateSize
		tokens := max(r.NPrompt, 1) // of which the last alone goes through the head
		if want := int64(2 * (tokens*c.NumHiddenLayers*layer + c.HiddenSize*c.VocabSize)); r.Counters.Operations != want || r.FLOPs <= 0 {
			t.Errorf("%s: %d operations, want %d; %g a second", r.Test().Name(), r.Counters.Operations, want, r.FLOPs)
		}
		if r.NGen > 0 {
			kv := r.Counters.KVBytes / (2 * 3 * 128 * 2) // bytes a position: both sides, layers, columns, f16
			if want := int64(r.NDepth + 1); kv < want || kv > want+4 {
				t.Errorf("%s: a token read %d positions of cache, want about %d", r.Test().Name(), kv, want)
			}
		}
		if !strings.Contains(TableRow(r), r.Test().Name()) {
			t.Errorf("the row of %s is %q", r.Test().Name(), TableRow(r))
		}
	}
	if err := Run(context.Background(), e, Options{Prompt: []int{65}, Reps: 1}, nil); err == nil {
		t.Error("a test that exceeds the context ran")
	}
}

// TestEnginesTakeTurns runs a preset on two engines: rows alternate, each engine's last one has the score, and the rounds so
// far were told.
func TestEnginesTakeTurns(t *testing.T) {
	gputest.Open(t) // skips without a device
	var engines []*pumice.Engine
	for range 2 {
		e, err := pumice.Open(t.Context(), "../testdata/fixtures/llama", pumice.Options{Context: 32})
		if err != nil {
			t.Fatal(err)
		}
		defer e.Close()
		engines = append(engines, e)
	}
	preset := &Preset{Name: "localscore", scored: true, Tests: []Both{{8, 4}, {4, 2}}, Tasks: []string{"long"}}
	var got []Result
	var partial [][]Result
	o := Options{Preset: preset, Prompt: []int{999}, Reps: 2, Partial: func(list []Result) { partial = append(partial, list) }}
	if err := RunAll(t.Context(), engines, o, func(r Result) { got = append(got, r) }); err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, r := range got {
		names = append(names, r.Test().Name()+" "+r.Task)
		if r.PromptTS <= 0 || r.GenTS <= 0 || r.TTFTMS <= 0 || r.Preset != "localscore" {
			t.Errorf("%+v", r)
		}
		if last := r.NPrompt == 4; last != (r.Score != nil) || last && !(r.Score.Score > 0 && r.Score.Tests == 2) {
			t.Errorf("%s: %+v", r.Test().Name(), r.Score)
		}
	}
	if diff := cmp.Diff([]string{"pp8+tg4 long", "pp8+tg4 long", "pp4+tg2 ", "pp4+tg2 "}, names); diff != "" {
		t.Error(diff)
	}
	if len(partial) != 1 || len(partial[0]) != 4 || len(partial[0][3].SampleTS) != 1 || partial[0][3].MedianTS <= 0 {
		t.Errorf("%d times partial results: %+v", len(partial), partial)
	}
	if foot := TableFoot(got); strings.Count(foot, "localscore: score ") != 2 {
		t.Error(foot)
	}
}

// A model that leaves no room to measure the copy bandwidth is measured all the same.
func TestFootWithoutCopying(t *testing.T) {
	r := Result{NGen: 8, BytesPerSec: 2e9, SampleTS: []float64{1}}
	if foot := TableFoot([]Result{r}); !strings.Contains(foot, "2.00 GB/s, no room to measure the copy bandwidth") {
		t.Error(foot)
	}
	r.CopyBandwidth = 8e9
	if foot := TableFoot([]Result{r}); !strings.Contains(foot, "2.00 GB/s, 25 % of the copy bandwidth;") {
		t.Error(foot)
	}
	r.ReadShare = 0.5
	if foot := TableFoot([]Result{r}); !strings.Contains(foot, "25 % of the copy bandwidth, 50 % of the read bandwidth;") {
		t.Error(foot)
	}
}
