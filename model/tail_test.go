package model

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"pumice/pipeline"
)

// Tails that several tests evaluate for.
var (
	lastTop        = Tail{Rows: LastRows, Top: 1}
	lastCandidates = Tail{Rows: LastRows, Top: pipeline.TopLogits}
	lastLogits     = Tail{Rows: LastRows, Logits: true}
	lastHidden     = Tail{Rows: LastRows, Hidden: true}
	everyMargin    = Tail{Rows: EveryRow, Top: 1, Margin: true}
	everyLogits    = Tail{Rows: EveryRow, Logits: true}
	everyHidden    = Tail{Rows: EveryRow, Hidden: true}
	everyProbs     = Tail{Rows: EveryRow, LogProbs: true}
	lastProbs      = Tail{Rows: LastRows, Top: pipeline.TopLogits, LogProbs: true}
)

// TestHiddenMatchesReference compares the residual stream after the final norm with the goldens: of the last token, as
// the last of every token in several chunks, and of several sequences.
func TestHiddenMatchesReference(t *testing.T) {
	for _, name := range fixtures {
		t.Run(name, func(t *testing.T) {
			if name != "smollm2" && name != "falcon" {
				long(t) // an RMSNorm, and a LayerNorm with a bias
			}
			o := exact
			o.Chunk = 32
			x := load(t, filepath.Join(fixtureDir, name), o, pipeline.Options{})
			g := readGolden(t, filepath.Join(fixtureDir, name))
			size := x.cfg.HiddenSize
			for _, p := range g.Prompts {
				i := slices.IndexFunc(p.Hidden, func(v namedVector) bool { return v.Name == "final_norm" })
				want := g.floats(p.Hidden[i].Vector)
				out, err := x.forward(t.Context(), p.IDs, 0, lastHidden)
				check(t, err)
				compare(t, p.Name+" last row", out.Hidden, want, exactBound)
				if got := out.Counters.DeviceToHostBytes; got != int64(4*size) || out.Logits != nil || out.Choices != nil {
					t.Errorf("%s: %d bytes back for %d values, %d logits, %d choices", p.Name, got, size, len(out.Logits), len(out.Choices))
				}
				out, err = x.forward(t.Context(), p.IDs, 0, everyHidden)
				check(t, err)
				if len(out.Hidden) != len(p.IDs)*size {
					t.Fatalf("%s: %d values for %d tokens of %d", p.Name, len(out.Hidden), len(p.IDs), size)
				}
				every := slices.Clone(out.Hidden)
				compare(t, p.Name+" last of every row", every[(len(p.IDs)-1)*size:], want, exactBound)

				n := min(len(p.IDs), 20) // every row is the last one of the tokens up to it
				sequences := [][]int{p.IDs[:(n+1)/2], p.IDs[:1]}
				out, err = x.score(t.Context(), sequences, 0, lastHidden)
				check(t, err)
				for i, s := range sequences {
					compare(t, fmt.Sprintf("%s, sequence of %d", p.Name, len(s)), out.Hidden[i*size:(i+1)*size], every[(len(s)-1)*size:len(s)*size], exactBound)
				}
			}
		})
	}
}

// TestTailsAreIndependent asks for several things at once: each is, bit for bit, what it is when it is asked for alone,
// and one submission brings all.
func TestTailsAreIndependent(t *testing.T) {
	x := load(t, filepath.Join(fixtureDir, "gemma2"), Options{Context: 64, Chunk: 40}, pipeline.Options{})
	all := make([]int, 30)
	for i := range all {
		all[i] = (i*i*5 + 7) % x.cfg.VocabSize
	}
	for _, n := range []int{1, 2, 30} {
		tokens := all[:n]
		for _, tail := range []Tail{
			{Rows: LastRows, Top: 5, Logits: true, Hidden: true, Stream: true},
			{Rows: LastRows, Top: pipeline.TopLogits, Hidden: true},
			{Rows: LastRows, Top: 1, Stream: true},
			{Rows: LastRows, Margin: true, Top: 3},
			{Rows: EveryRow, Hidden: true, Stream: true},
			{Rows: EveryRow, Top: 3, Margin: true, Hidden: true},
			{Rows: EveryRow, Top: 1, LogProbs: true},
			{Rows: LastRows, Top: 4, LogProbs: true, Hidden: true},
		} {
			t.Run(fmt.Sprintf("%d tokens, %s", n, tail), func(t *testing.T) {
				got, err := x.forward(t.Context(), tokens, 0, tail)
				check(t, err)
				got.Logits, got.Hidden, got.Stream = slices.Clone(got.Logits), slices.Clone(got.Hidden), slices.Clone(got.Stream)
				if got.Counters.Submits != 1 {
					t.Errorf("%d submissions", got.Counters.Submits)
				}
				logits, err := x.forward(t.Context(), tokens, 0, Tail{Rows: tail.Rows, Logits: true})
				check(t, err)
				if tail.Logits {
					compare(t, "logits", got.Logits, logits.Logits, 1e-4) // a norm of its own, or that in the product
				}
				rows := len(logits.Logits) / x.cfg.VocabSize
				if want := rows * min(1, tail.pairs()); len(got.Choices) != want {
					t.Fatalf("%d choices, want %d", len(got.Choices), want)
				}
				for i, c := range got.Choices {
					row := logits.Logits[i*x.cfg.VocabSize:][:x.cfg.VocabSize]
					if best := argmax(row); c.ID != best {
						t.Errorf("row %d: token %d, want %d", i, c.ID, best)
					}
					want := tail.Top
					if want == 1 && !tail.LogProbs {
						want = 0
					}
					if len(c.IDs) != want || len(c.Logits) != want {
						t.Errorf("row %d: %d tokens, want %d", i, len(c.IDs), want)
					}
					for j, id := range c.IDs {
						compare(t, "a large logit", c.Logits[j:j+1], row[id:id+1], 1e-4)
					}
					if tail.Margin && c.Margin != c.Logits[0]-c.Logits[1] {
						t.Errorf("row %d: margin %g of %v", i, c.Margin, c.Logits[:2])
					}
				}
				hidden, err := x.forward(t.Context(), tokens, 0, Tail{Rows: tail.Rows, Hidden: true})
				check(t, err)
				if tail.Hidden && !slices.Equal(got.Hidden, hidden.Hidden) {
					t.Error("hidden rows differ")
				}
				stream, err := x.forward(t.Context(), tokens, 0, Tail{Stream: true})
				check(t, err)
				if tail.Stream && !slices.Equal(got.Stream, stream.Stream) || len(stream.Stream) != n*x.cfg.HiddenSize {
					t.Error("the residual stream differs")
				}
			})
		}
	}
}

// TestTailsBeyondTheMemoryPlan asks for more than the buffers take that the memory plan counts.
func TestTailsBeyondTheMemoryPlan(t *testing.T) {
	x := load(t, filepath.Join(fixtureDir, "smollm2"), Options{Context: 64}, pipeline.Options{})
	tail := Tail{Rows: EveryRow, Logits: true, Hidden: true, Stream: true}
	_, err := x.forward(t.Context(), []int{1, 2, 3}, 0, tail)
	if err == nil || !strings.Contains(err.Error(), "plan of 64 tokens for every row: logits, hidden; stream needs a read-back buffer") {
		t.Errorf("%s: %v", tail, err)
	}
	if _, err := x.forward(t.Context(), []int{1, 2, 3}, 0, everyLogits); err != nil {
		t.Error(err)
	}
}

func TestTailsThatMakeNoSense(t *testing.T) {
	x := load(t, filepath.Join(fixtureDir, "smollm2"), Options{Context: 16}, pipeline.Options{})
	for _, c := range []struct {
		tail Tail
		want string
	}{
		{Tail{Rows: LastRows}, "last rows, and results asked of them: false"},
		{Tail{Top: 1}, "no rows, and results asked of them: true"},
		{Tail{Hidden: true, Stream: true}, "no rows"},
		{Tail{Rows: LastRows, Top: pipeline.TopLogits + 1}, "the 65 largest logits"},
		{Tail{Rows: EveryRow, Top: -1}, "the -1 largest logits"},
		{Tail{Rows: 3, Logits: true}, "rows 3"},
	} {
		_, err1 := x.forward(t.Context(), []int{1}, 0, c.tail)
		_, err2 := x.score(t.Context(), [][]int{{1}, {2}}, 0, c.tail)
		for _, err := range []error{err1, err2} {
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%+v: %v, want an error with %q", c.tail, err, c.want)
			}
		}
	}
	for tail, want := range map[Tail]string{
		{}:                                      "nothing",
		{Stream: true}:                          "stream",
		{Rows: LastRows, Top: 64, Hidden: true}: "last rows: top 64, hidden",
		lastProbs:                               "last rows: top 64, log-probabilities",
		{Rows: EveryRow, Top: 1, Margin: true, Logits: true, Stream: true}: "every row: top 1, margin, logits; stream",
	} {
		if got := tail.String(); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}
