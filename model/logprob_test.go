package model

import (
	"math"
	"path/filepath"
	"slices"
	"testing"

	"pumice/internal/ref"
	"pumice/pipeline"
)

// The device's log-probabilities are those of its own logits, whatever chunks a text comes in, and few bytes cross the
// bus for them. gemma2 caps its logits.
func TestLogProbs(t *testing.T) {
	for _, name := range []string{"smollm2", "gemma2"} {
		for _, path := range paths(t) {
			t.Run(name+"/"+string(path), func(t *testing.T) {
				o := exact
				o.Chunk = 16
				x := load(t, filepath.Join(fixtureDir, name), o, pipeline.Options{Path: path})
				vocab := x.cfg.VocabSize
				tokens := make([]int, 41)
				for i := range tokens {
					tokens[i] = (i*i*11 + 5) % vocab
				}
				rows, err := x.forward(t.Context(), tokens, 0, Tail{Rows: EveryRow, Logits: true})
				if err != nil {
					t.Fatal(err)
				}
				logits := slices.Clone(rows.Logits)
				row := func(i int) []float64 {
					out := make([]float64, vocab)
					for c := range out {
						out[c] = float64(logits[i*vocab+c])
					}
					return out
				}
				const top = 5
				out, err := x.forward(t.Context(), tokens, 0, Tail{Rows: EveryRow, LogProbs: true, Top: top})
				if err != nil {
					t.Fatal(err)
				}
				if len(out.LogProbs) != len(tokens) {
					t.Fatalf("%d log-probabilities", len(out.LogProbs))
				}
				for i, lp := range out.LogProbs {
					sum, next := ref.LogSumExp(row(i)), 0.0
					if i+1 < len(tokens) {
						next = row(i)[tokens[i+1]] - sum
					}
					if math.Abs(float64(lp.Sum)-sum) > 1e-4 || math.Abs(float64(lp.Next)-next) > 1e-4 {
						t.Errorf("after token %d: %+v, want %g and %g", i, lp, next, sum)
					}
					best := ref.TopK(row(i), top)
					if !slices.Equal(out.Choices[i].IDs, best) {
						t.Errorf("after token %d: the likeliest are %v, want %v", i, out.Choices[i].IDs, best)
					}
				}
				plain, err := x.forward(t.Context(), tokens, 0, Tail{Rows: EveryRow, LogProbs: true})
				if err != nil {
					t.Fatal(err)
				}
				for i, lp := range plain.LogProbs {
					if want := (LogProb{Next: out.LogProbs[i].Next}); lp != want {
						t.Errorf("after token %d: %+v without the likeliest tokens, want %+v", i, lp, want)
					}
				}
				n := int64(len(tokens))
				if got := plain.Counters.DeviceToHostBytes; len(plain.LogProbs) != len(tokens) || got != 4*n {
					t.Errorf("%d log-probabilities for %d tokens, %d bytes; want 4 a token", len(plain.LogProbs), n, got)
				}
				if got := out.Counters.DeviceToHostBytes; got != (8+8*top)*n {
					t.Errorf("%d bytes for %d tokens with the likeliest, want %d a token", got, n, 8+8*top)
				}
				last, err := x.forward(t.Context(), tokens[40:], 40, Tail{Rows: LastRows, LogProbs: true, Top: pipeline.TopLogits})
				if err != nil {
					t.Fatal(err)
				}
				if got, want := float64(last.LogProbs[0].Sum), ref.LogSumExp(row(40)); math.Abs(got-want) > 1e-4 || last.LogProbs[0].Next != 0 {
					t.Errorf("one token: %+v, want %g", last.LogProbs[0], want)
				}
				sequences := [][]int{tokens[:7], tokens[:1], tokens[:4]} // the rows of each are those of the whole text
				every, err := x.score(t.Context(), sequences, 0, Tail{Rows: EveryRow, LogProbs: true})
				if err != nil {
					t.Fatal(err)
				}
				ends, err := x.score(t.Context(), sequences, 0, Tail{Rows: LastRows, LogProbs: true})
				if err != nil {
					t.Fatal(err)
				}
				at := 0
				for n, s := range sequences {
					for i := range s {
						want := out.LogProbs[i].Next
						if i+1 == len(s) {
							want = 0
						}
						if got := every.LogProbs[at].Next; math.Abs(float64(got-want)) > 1e-4 {
							t.Errorf("sequence %d, after token %d: %g, want %g", n, i, got, want)
						}
						at++
					}
					if got, want := ends.LogProbs[n].Sum, out.LogProbs[len(s)-1].Sum; math.Abs(float64(got-want)) > 1e-4 {
						t.Errorf("the end of sequence %d: %g, want %g", n, got, want)
					}
				}
			})
		}
	}
}
