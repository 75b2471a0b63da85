package eval

import (
	"bytes"
	"context"
	"errors"
	"io"
	"iter"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"pumice"
	"pumice/internal/gputest"
)

// perplexitySession is a model whose logits depend on the last two tokens.
type perplexitySession struct {
	vocab int
	noise float64
	calls [][]int
	err   error // of LogProbs
}

func (p *perplexitySession) Truncate(int) {}

func (p *perplexitySession) row(a, b int) []float32 {
	r := rand.New(rand.NewPCG(uint64(a), uint64(b)))
	row := make([]float32, p.vocab)
	for i := range row {
		row[i] = float32(3*r.NormFloat64() + p.noise*float64(i%2))
	}
	return row
}

func (p *perplexitySession) Logits(_ context.Context, ids []int, _ bool) iter.Seq2[[]float32, error] {
	p.calls = append(p.calls, ids)
	return func(yield func([]float32, error) bool) {
		before := -1
		for _, id := range ids {
			if !yield(p.row(before, id), nil) {
				return
			}
			before = id
		}
	}
}

func (p *perplexitySession) LogProbs(_ context.Context, ids []int, _ int) ([]pumice.LogProb, error) {
	p.calls = append(p.calls, ids)
	if p.err != nil {
		return nil, p.err
	}
	var list []pumice.LogProb
	before := -1
	for i, id := range ids[:len(ids)-1] {
		next := ids[i+1]
		list = append(list, pumice.LogProb{TokenProb: pumice.TokenProb{ID: next, LogProb: p.logProbs(before, id)[next]}})
		before = id
	}
	return list, nil
}

func (p *perplexitySession) logProbs(a, b int) []float64 {
	row := p.row(a, b)
	sum := 0.0
	for _, v := range row {
		sum += math.Exp(float64(v))
	}
	out := make([]float64, len(row))
	for i, v := range row {
		out[i] = float64(v) - math.Log(sum)
	}
	return out
}

func tokenText(n, vocab int) []int {
	r := rand.New(rand.NewPCG(1, 2))
	ids := make([]int, n)
	for i := range ids {
		ids[i] = r.IntN(vocab)
	}
	return ids
}

// TestPerplexityWindows sums by hand over the tokens that llama-perplexity predicts.
func TestPerplexityWindows(t *testing.T) {
	const vocab, n = 11, 75
	ids := tokenText(n, vocab)
	for _, c := range []struct {
		name      string
		o         PerplexityOptions
		predicted []int // indexes of the predicted tokens
		windows   int
	}{
		{"second halves", PerplexityOptions{Context: 10, BOS: -1}, []int{6, 7, 8, 9, 16, 17, 18, 19, 26, 27, 28, 29, 36, 37, 38, 39, 46, 47, 48, 49, 56, 57, 58, 59, 66, 67, 68, 69}, 7},
		{"some windows", PerplexityOptions{Context: 10, Chunks: 2, BOS: 3}, []int{6, 7, 8, 9, 16, 17, 18, 19}, 2},
		{"odd window", PerplexityOptions{Context: 11, Chunks: 1, BOS: -1}, []int{6, 7, 8, 9, 10}, 1},
		{"stride", PerplexityOptions{Context: 30, Stride: 5, Chunks: 2, BOS: 3}, []int{25, 26, 27, 28, 29, 30, 31, 32, 33, 34}, 2},
		{"stride to the end", PerplexityOptions{Context: 30, Stride: 20, BOS: -1}, []int{10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30, 31, 32, 33, 34, 35, 36, 37, 38, 39, 40, 41, 42, 43, 44, 45, 46, 47, 48, 49, 50, 51, 52, 53, 54, 55, 56, 57, 58, 59, 60, 61, 62, 63, 64, 65, 66, 67, 68, 69}, 3},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := &perplexitySession{vocab: vocab}
			got, err := perplexity(t.Context(), s, ids, c.o)
			if err != nil {
				t.Fatal(err)
			}
			var nll, nll2 float64
			for _, at := range c.predicted {
				v := -s.logProbs(ids[at-2], ids[at-1])[ids[at]]
				nll += v
				nll2 += v * v
			}
			k := float64(len(c.predicted))
			nll, nll2 = nll/k, nll2/k
			want := math.Exp(nll)
			wantError := want * math.Sqrt((nll2-nll*nll)/(k-1))
			if got.Tokens != len(c.predicted) || got.Chunks != c.windows || math.Abs(got.Perplexity-want) > 1e-9*want || math.Abs(got.Error-wantError) > 1e-9*want {
				t.Errorf("got %+v, want %g +/- %g over %d tokens in %d windows", got, want, wantError, len(c.predicted), c.windows)
			}
			if first := s.calls[0][0]; c.o.BOS >= 0 && c.o.Stride == 0 && first != c.o.BOS || (c.o.BOS < 0 || c.o.Stride > 0) && first != ids[0] {
				t.Errorf("the first window begins with token %d", first)
			}
		})
	}
	var short *ShortTextError
	if _, err := perplexity(t.Context(), &perplexitySession{vocab: vocab}, ids[:19], PerplexityOptions{Context: 10}); !errors.As(err, &short) {
		t.Errorf("19 tokens in windows of 10: %v", err)
	}
}

// TestPerplexityOfLogits has the device's log-probabilities, and with a base rows of logits: the perplexity is the same.
func TestPerplexityOfLogits(t *testing.T) {
	gputest.Open(t) // or skip
	for _, name := range []string{"llama", "gemma2"} {
		engine, err := pumice.Open(t.Context(), filepath.Join("../testdata/fixtures", name), pumice.Options{Context: 64, Device: os.Getenv("PUMICE_DEVICE")})
		if err != nil {
			t.Fatal(err)
		}
		vocab := engine.Config().VocabSize
		ids := tokenText(300, vocab)
		o := PerplexityOptions{Context: 50, BOS: -1}
		got, err := Perplexity(t.Context(), engine, ids, o)
		if err != nil {
			t.Fatal(err)
		}
		o.Base = NewBaseWriter(io.Discard, vocab)
		want, err := Perplexity(t.Context(), engine, ids, o)
		if err != nil {
			t.Fatal(err)
		}
		t.Logf("%s: %.10g, of logits %.10g", name, got.Perplexity, want.Perplexity)
		if got.Tokens != want.Tokens || math.Abs(got.Perplexity-want.Perplexity) > 1e-6*want.Perplexity || math.Abs(got.Error-want.Error) > 1e-6*want.Perplexity {
			t.Errorf("%s: %+v, of logits %+v", name, got, want)
		}
		if err := engine.Close(); err != nil {
			t.Error(err)
		}
	}
}

func TestPerplexityNamesTheWindow(t *testing.T) {
	s := &perplexitySession{vocab: 11, err: errors.New("a logit is not finite")}
	_, err := perplexity(t.Context(), s, tokenText(40, 11), PerplexityOptions{Context: 10, BOS: -1})
	if !errors.Is(err, s.err) || !strings.Contains(err.Error(), "token 0") {
		t.Errorf("%v", err)
	}
}

// TestDivergence writes a base and compares the same model and another one with it.
func TestDivergence(t *testing.T) {
	const vocab = 101
	ids := tokenText(80, vocab)
	name := filepath.Join(t.TempDir(), "base")
	var file bytes.Buffer
	w := NewBaseWriter(&file, vocab)
	base, err := perplexity(t.Context(), &perplexitySession{vocab: vocab}, ids, PerplexityOptions{Context: 16, BOS: -1, Base: w})
	if err != nil {
		t.Fatal(err)
	}
	if err := w.Flush(); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(name, file.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	compare := func(noise float64) PerplexityResult {
		f, err := os.Open(name)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		r, err := NewBaseReader(f)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(ids, r.Tokens); diff != "" {
			t.Errorf("tokens (-want +got):\n%s", diff)
		}
		got, err := perplexity(t.Context(), &perplexitySession{vocab: vocab, noise: noise}, nil, PerplexityOptions{BOS: -1, Compare: r})
		if err != nil {
			t.Fatal(err)
		}
		return got
	}
	same := compare(0)
	if same.Perplexity != base.Perplexity || math.Abs(same.KL.Mean) > 1e-5 || same.KL.SameTop != 1 || math.Abs(same.KL.Ratio-1) > 1e-3 {
		t.Errorf("the same model: %+v, %+v; want perplexity %g", same, same.KL, base.Perplexity)
	}
	a, b := &perplexitySession{vocab: vocab}, &perplexitySession{vocab: vocab, noise: 1}
	want, n := 0.0, 0
	for at := range ids {
		if at%16 <= 8 {
			continue
		}
		p, q := a.logProbs(ids[at-2], ids[at-1]), b.logProbs(ids[at-2], ids[at-1])
		for i := range p {
			want += math.Exp(p[i]) * (p[i] - q[i])
		}
		n++
	}
	want /= float64(n)
	if got := compare(1); got.Tokens != n || math.Abs(got.KL.Mean-want) > 2e-4*want {
		t.Errorf("another model: %+v over %d tokens, want a divergence of %g over %d", got.KL, got.Tokens, want, n)
	}
	// An incomplete file, or another kind of file.
	for _, text := range [][]byte{nil, file.Bytes()[:len(file.Bytes())-1], append([]byte("_logits?"), file.Bytes()[8:]...), append([]byte("_logits_\xff\xff\xff\xff"), file.Bytes()[12:]...)} {
		if err := os.WriteFile(name, text, 0o600); err != nil {
			t.Fatal(err)
		}
		f, err := os.Open(name)
		if err != nil {
			t.Fatal(err)
		}
		var re *ResultError
		if _, err := NewBaseReader(f); !errors.As(err, &re) {
			t.Errorf("%d bytes: %v", len(text), err)
		}
		f.Close()
	}
}
