package model

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"pumice/internal/dtype"
	"pumice/internal/gputest"
	"pumice/pipeline"
	"pumice/pipeline/kernels"
)

// fixtures are checkpoints with random weights and the logits that an independent float64
// decoder computes; testdata/fixtures/README.md says how they were made.
var fixtures = []string{
	"baichuan", "baichuan2", "chatglm2", "falcon", "gemma2", "gemma3", "internlm", "llama", "llama-sharded", "llama3",
	"mistral", "mpt", "phi3", "qwen2", "qwen3", "smollm2", "smollm3", "xverse", "xverse-st",
}

const fixtureDir = "../testdata/fixtures"

// golden is the part of a fixture's golden.json that tests look at.
type golden struct {
	Stored    string `json:"stored_dtype"`
	Reference string
	Checks    []struct{ With string } `json:"cross_checks"`
	Prompts   []struct {
		Name   string
		IDs    []int
		Logits vector    `json:"last_logits"`
		Top1   []int     `json:"top1_per_position"`
		Margin []float64 `json:"top1_margin_per_position"`
		Greedy struct {
			IDs     []int
			Margins []float64
			Final   vector `json:"final_logits"`
		}
		Hidden []namedVector `json:"hidden_last_position"`
		Layer0 []namedVector `json:"layer0_last_position"`
	}
	blob []byte
}

type vector struct{ Offset, Count int }

type namedVector struct {
	Name   string
	Vector vector
}

func (g *golden) floats(v vector) []float32 {
	out := make([]float32, v.Count)
	for i := range out {
		out[i] = math.Float32frombits(binary.LittleEndian.Uint32(g.blob[v.Offset+4*i:]))
	}
	return out
}

func readGolden(t *testing.T, dir string) *golden {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(dir, "golden.json"))
	if err != nil {
		t.Fatal(err)
	}
	g := &golden{}
	if err := json.Unmarshal(b, g); err != nil {
		t.Fatal(err)
	}
	if g.blob, err = os.ReadFile(filepath.Join(dir, "golden.f32")); err != nil {
		t.Fatal(err)
	}
	return g
}

// long marks a test of what does not depend on the driver, or is checked on each by another: it
// is left out by -short, with which the package runs again on other drivers.
func long(t *testing.T) {
	t.Helper()
	if testing.Short() {
		t.Skip("-short: the run on the main driver has it")
	}
}

// paths are the kernel paths of the test device, each once.
func paths(t *testing.T) []kernels.Path {
	t.Helper()
	m, err := pipeline.NewManager(gputest.Open(t), pipeline.Options{})
	if err != nil {
		t.Fatal(err)
	}
	check(t, m.Close())
	if m.LayoutPath() == kernels.Base {
		return []kernels.Path{kernels.Base}
	}
	return []kernels.Path{kernels.Base, m.LayoutPath()}
}

// load opens a checkpoint on the test device.
func load(t *testing.T, path string, o Options, po pipeline.Options) *subject {
	t.Helper()
	m, err := pipeline.NewManager(gputest.Open(t), po)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { check(t, m.Close()) })
	return loadOn(t, path, o, m)
}

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Error(err)
	}
}

var exact = Options{DType: dtype.F32, KVType: dtype.F32, Context: 256}

// bounds are the largest absolute logit errors of testdata/fixtures/README.md.
const (
	exactBound = 1e-3
	halfBound  = 0.05
	halfMargin = 0.1 // greedy tokens are equal where the reference leads by more
)

func TestFixtureLogits(t *testing.T) {
	for _, name := range fixtures {
		for _, mode := range []struct {
			name   string
			o      Options
			bound  float64
			margin float64
		}{
			{"f32", exact, exactBound, 0},
			{"default", Options{Context: 256}, halfBound, halfMargin},
		} {
			t.Run(name+"/"+mode.name, func(t *testing.T) {
				if mode.name == "default" && name != "xverse" && name != "smollm2" {
					long(t)
				}
				x := load(t, filepath.Join(fixtureDir, name), mode.o, pipeline.Options{})
				worst := checkGolden(t, x, readGolden(t, filepath.Join(fixtureDir, name)), mode.bound, mode.margin)
				checkTable(t, name, mode.name == "default", worst)
			})
		}
	}
}

// checkGolden compares logits at every prompt's end, the argmax of every position, and the
// greedy continuation with its last logits. It returns the largest error of a logit.
func checkGolden(t *testing.T, x *subject, g *golden, bound, margin float64) (worst float64) {
	t.Helper()
	ctx := context.Background()
	for _, p := range g.Prompts {
		out, err := x.forward(ctx, p.IDs, 0, everyLogits)
		if err != nil {
			t.Fatal(err)
		}
		v := x.cfg.VocabSize
		for i := range p.IDs {
			row := out.Logits[i*v : (i+1)*v]
			if got := argmax(row); got != p.Top1[i] && p.Margin[i] > margin {
				t.Errorf("%s: position %d: argmax %d, want %d, which leads by %g", p.Name, i, got, p.Top1[i], p.Margin[i])
			}
		}
		worst = max(worst, compare(t, p.Name+" last logits", out.Logits[(len(p.IDs)-1)*v:], g.floats(p.Logits), bound))

		out, err = x.forward(ctx, p.IDs, 0, lastTop)
		if err != nil {
			t.Fatal(err)
		}
		for i, want := range p.Greedy.IDs {
			if out.Choices[0].ID != want {
				if p.Greedy.Margins[i] <= margin {
					break
				}
				t.Errorf("%s: greedy token %d is %d, want %d, which leads by %g", p.Name, i, out.Choices[0].ID, want, p.Greedy.Margins[i])
				break
			}
			if i+1 == len(p.Greedy.IDs) {
				break
			}
			if out, err = x.forward(ctx, []int{want}, len(p.IDs)+i, lastTop); err != nil {
				t.Fatal(err)
			}
		}
		last := len(p.Greedy.IDs) - 2 // the last step's logits follow the last but one token
		out, err = x.forward(ctx, p.Greedy.IDs[last:last+1], len(p.IDs)+last, lastLogits)
		if err != nil {
			t.Fatal(err)
		}
		worst = max(worst, compare(t, p.Name+" final logits", out.Logits, g.floats(p.Greedy.Final), bound))

		if turn := len(p.IDs) * 2 / 3; turn > 0 { // a second turn after a first is the whole
			if _, err = x.forward(ctx, p.IDs[:turn], 0, Tail{}); err != nil {
				t.Fatal(err)
			}
			if out, err = x.forward(ctx, p.IDs[turn:], turn, lastLogits); err != nil {
				t.Fatal(err)
			}
			worst = max(worst, compare(t, p.Name+" in two turns", out.Logits, g.floats(p.Logits), bound))
		}
	}
	return worst
}

// compare returns the largest error.
func compare(t *testing.T, what string, got, want []float32, bound float64) float64 {
	t.Helper()
	if len(got) != len(want) {
		t.Fatalf("%s: %d values, want %d", what, len(got), len(want))
	}
	worst, at := 0.0, 0
	for i := range got {
		d := math.Abs(float64(got[i]) - float64(want[i]))
		if !(d <= worst) {
			worst, at = d, i
		}
	}
	if !(worst <= bound) {
		t.Errorf("%s: max abs error %g at %d: got %v, want %v (bound %g)", what, worst, at, got[at], want[at], bound)
	}
	return worst
}

func argmax(row []float32) int {
	best := 0
	for i, v := range row {
		if v > row[best] {
			best = i
		}
	}
	return best
}

// TestPrefillSplitsAgree evaluates a prompt at once, in chunks and token by token, on every
// kernel path the device has.
func TestPrefillSplitsAgree(t *testing.T) {
	for _, name := range []string{"xverse", "smollm2"} {
		for _, path := range paths(t) {
			for _, chunk := range []int{1, 7, 32, 512} {
				t.Run(fmt.Sprintf("%s/%s/%d", name, path, chunk), func(t *testing.T) {
					if name != "smollm2" {
						long(t)
					}
					o := exact
					o.Chunk = chunk
					x := load(t, filepath.Join(fixtureDir, name), o, pipeline.Options{Path: path})
					g := readGolden(t, filepath.Join(fixtureDir, name))
					p := g.Prompts[len(g.Prompts)-1]
					out, err := x.forward(context.Background(), p.IDs, 0, lastLogits)
					if err != nil {
						t.Fatal(err)
					}
					compare(t, "last logits", out.Logits, g.floats(p.Logits), exactBound)
				})
			}
		}
	}
}

// TestWindowedCacheKeepsTheWindow runs prompts longer than what local layers keep.
func TestWindowedCacheKeepsTheWindow(t *testing.T) {
	for _, name := range []string{"mistral", "gemma2", "gemma3"} {
		for _, path := range paths(t) {
			t.Run(name+"/"+string(path), func(t *testing.T) {
				if name != "gemma3" { // which has local and global layers
					long(t)
				}
				o := exact
				o.Chunk = 16
				x := load(t, filepath.Join(fixtureDir, name), o, pipeline.Options{Path: path})
				keeps := (x.cfg.SlidingWindow + 16 + 7) / 8 * 8
				for i, l := range x.head().cache.Layers {
					want := o.Context
					if x.cfg.local(i) {
						want = keeps
					}
					if l.Positions != want {
						t.Errorf("layer %d keeps %d positions, want %d", i, l.Positions, want)
					}
				}
				checkGolden(t, x, readGolden(t, filepath.Join(fixtureDir, name)), exactBound, 0)
				// The token after so many still sees the last position of the first page, the one after that does not.
				sees := kernels.PageSize + x.cfg.SlidingWindow - 2
				for _, c := range []struct{ from, to, want int }{
					{sees, sees, sees}, {sees, 5, 5}, {sees + 1, sees + 1, sees + 1}, {sees + 1, sees, 0}, {sees + 1, 5, 0}, {5, 6, 5},
				} {
					if _, err := x.forward(t.Context(), make([]int, c.from), 0, Tail{}); err != nil {
						t.Fatal(err)
					}
					x.Pages().Clear() // forgets pages that no query of the text sees
					if got, err := x.text.Truncate(c.to); got != c.want || err != nil {
						t.Errorf("%d tokens cut to %d: %d, %v, want %d", c.from, c.to, got, err, c.want)
					}
				}
			})
		}
	}
}

// TestTapsMatchReference compares what happens inside the decoder; the first tap that differs
// is where to look.
func TestTapsMatchReference(t *testing.T) {
	for _, name := range fixtures {
		t.Run(name, func(t *testing.T) {
			if name != "smollm2" {
				long(t) // TestFixtureLogits has the same kernels
			}
			o := exact
			o.Taps = true
			x := load(t, filepath.Join(fixtureDir, name), o, pipeline.Options{})
			g := readGolden(t, filepath.Join(fixtureDir, name))
			p := g.Prompts[1]
			want := map[string][]float32{}
			for _, h := range p.Hidden {
				want[h.Name] = g.floats(h.Vector)
			}
			for _, h := range p.Layer0 {
				want["layer0."+h.Name] = g.floats(h.Vector)
			}
			if _, err := x.forward(context.Background(), p.IDs, 0, lastLogits); err != nil {
				t.Fatal(err)
			}
			plan, err := x.Plan(context.Background(), len(p.IDs), lastLogits)
			if err != nil {
				t.Fatal(err)
			}
			seen := 0
			for _, tap := range plan.TapNames() {
				w, ok := want[tap]
				if !ok {
					continue
				}
				seen++
				rows, cols := plan.Shape(tap)
				got := make([]float32, cols)
				if err := plan.Tap(tap, min(rows, len(p.IDs))-1, 1, got); err != nil {
					t.Fatal(err)
				}
				compare(t, tap, got, w, exactBound)
				if t.Failed() {
					t.FailNow()
				}
			}
			if want := x.cfg.NumHiddenLayers + 6; seen < want {
				t.Errorf("compared %d taps of %v, want at least %d", seen, plan.TapNames(), want)
			}
		})
	}
}

// TestDecodeCounters holds the decoder to one submit a token, no recording after the first,
// few bytes across the bus, and weights read once.
func TestDecodeCounters(t *testing.T) {
	x := load(t, filepath.Join(fixtureDir, "llama"), Options{Context: 64}, pipeline.Options{})
	ctx := context.Background()
	if _, err := x.forward(ctx, []int{5, 6, 7}, 0, lastTop); err != nil {
		t.Fatal(err)
	}
	for i := range 4 {
		out, err := x.forward(ctx, []int{8}, 3+i, lastTop)
		if err != nil {
			t.Fatal(err)
		}
		c := out.Counters
		if want := int64(0); i > 0 && c.Records != want {
			t.Errorf("token %d: %d command buffers recorded, want none", i, c.Records)
		}
		if c.Submits != 1 || c.HostToDeviceBytes > 64 || c.DeviceToHostBytes > 64 {
			t.Errorf("token %d: %d submits, %d bytes to the device, %d back", i, c.Submits, c.HostToDeviceBytes, c.DeviceToHostBytes)
		}
		cfg := x.cfg
		kv := int64(2*cfg.NumHiddenLayers*cfg.NumKeyValueHeads*cfg.HeadDim*2) * int64(3+i+1)
		if c.KVBytes != kv {
			t.Errorf("token %d: %d bytes of KV cache, want %d", i, c.KVBytes, kv)
		}
	}
}

func TestForwardRefusesBadInput(t *testing.T) {
	x := load(t, filepath.Join(fixtureDir, "smollm2"), Options{Context: 16}, pipeline.Options{})
	ctx := context.Background()
	if _, err := x.forward(ctx, []int{1, 640}, 0, lastTop); err == nil {
		t.Error("token 640 of a vocabulary of 640 was taken")
	}
	if _, err := x.forward(ctx, []int{-1}, 0, lastTop); err == nil {
		t.Error("token -1 was taken")
	}
	if _, err := x.forward(ctx, make([]int, 17), 0, lastTop); err == nil {
		t.Error("17 tokens were taken in a context of 16")
	}
	if _, err := x.forward(ctx, nil, 0, lastTop); err == nil {
		t.Error("no tokens were taken")
	}
	cancelled, cancel := context.WithCancel(ctx)
	cancel()
	if _, err := x.forward(cancelled, []int{1}, 0, lastTop); err == nil {
		t.Error("a cancelled evaluation went on")
	}
}

func TestBucketsReachTheChunk(t *testing.T) {
	for _, chunk := range []int{1, 7, 8, 100, 512, 4096} {
		l := buckets(chunk)
		if !slices.IsSorted(l) || l[len(l)-1] != chunk || l[0] != 1 {
			t.Errorf("buckets(%d) = %v", chunk, l)
		}
	}
}
