package model

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"pumice/internal/dtype"
	"pumice/pipeline"
)

// TestSequencesAreAsAlone evaluates tails of a text at once and one by one: with rotary positions of both kinds, with
// slopes, with a window shorter than the tokens, with keys and values of either type.
func TestSequencesAreAsAlone(t *testing.T) {
	for _, c := range []struct {
		fixture string
		kv      dtype.DType
	}{
		{"xverse", dtype.F32}, {"xverse", dtype.F16}, {"mistral", dtype.F16}, {"mpt", dtype.F16}, {"gemma2", dtype.F32}, {"chatglm2", dtype.F16}, {"falcon", dtype.F32},
	} {
		for _, path := range paths(t) {
			t.Run(fmt.Sprintf("%s/%s/%s", c.fixture, c.kv, path), func(t *testing.T) {
				if c.fixture != "xverse" && c.fixture != "mistral" {
					long(t)
				}
				o := Options{DType: dtype.F32, KVType: c.kv, Context: 256, Chunk: 100}
				// Kernels for chunks of different lengths sum in different orders, and now and then that rounds a key
				// to the other of two float16 numbers, 2^-11 of it apart.
				bound := 1e-4
				if c.kv == dtype.F16 {
					bound = 1e-3
				}
				testTails(t, load(t, filepath.Join(fixtureDir, c.fixture), o, pipeline.Options{Path: path}), bound)
			})
		}
	}
}

func testTails(t *testing.T, x *subject, bound float64) {
	t.Helper()
	vocab := x.cfg.VocabSize
	ids := func(n, seed int) []int {
		out := make([]int, n)
		for i := range out {
			out[i] = (seed*31 + i*i*7 + i*13) % vocab
		}
		return out
	}
	for _, c := range []struct {
		prefix  int
		lengths []int
	}{{130, []int{1, 20, 9, 60, 10}}, {8, []int{17, 3, 3}}, {0, []int{5, 1, 2}}, {61, []int{2}}} {
		prefix := ids(c.prefix, 1)
		var sequences [][]int
		var want [][]float32
		for i, n := range c.lengths {
			s := ids(n, i+2)
			sequences = append(sequences, s)
			out, err := x.forward(t.Context(), append(slices.Clone(prefix), s...), 0, lastLogits)
			if err != nil {
				t.Fatal(err)
			}
			want = append(want, slices.Clone(out.Logits))
		}
		if c.prefix > 0 {
			if _, err := x.forward(t.Context(), prefix, 0, Tail{}); err != nil {
				t.Fatal(err)
			}
		}
		for again := range 2 { // the first time has left the text as it was
			out, err := x.score(context.Background(), sequences, c.prefix, lastLogits)
			if err != nil {
				t.Fatal(err)
			}
			if len(out.Logits) != len(sequences)*vocab || out.Counters.Submits != 1 {
				t.Fatalf("%d logits by %d submits", len(out.Logits), out.Counters.Submits)
			}
			for i := range sequences {
				compare(t, fmt.Sprintf("prefix of %d, time %d, sequence %d", c.prefix, again, i), out.Logits[i*vocab:(i+1)*vocab], want[i], bound)
			}
		}
	}
}

func TestScoreRefuses(t *testing.T) {
	x := load(t, filepath.Join(fixtureDir, "xverse"), Options{Context: 64, Chunk: 32}, pipeline.Options{})
	for name, c := range map[string]struct {
		sequences [][]int
		position  int
		want      string
	}{
		"none":          {nil, 0, "no tokens"},
		"an empty one":  {[][]int{{1}, {}}, 0, "sequence 1 has no tokens"},
		"too many":      {slices.Repeat([][]int{{1}}, 17), 0, "17 sequences of 17 tokens together; at most 16 of 32"},
		"too long":      {[][]int{make([]int, 20), make([]int, 13)}, 0, "2 sequences of 33 tokens together; at most 16 of 32"},
		"unknown token": {[][]int{{1}, {1 << 20}}, 0, "token 1 is 1048576"},
		"full":          {[][]int{{1, 2}, {3}}, 62, ErrContextFull.Error()},
	} {
		t.Run(name, func(t *testing.T) {
			if c.position > 0 {
				if _, err := x.forward(t.Context(), make([]int, c.position), 0, Tail{}); err != nil {
					t.Fatal(err)
				}
			}
			_, err := x.score(context.Background(), c.sequences, c.position, lastLogits)
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("error %v, want one with %q", err, c.want)
			}
			if name == "full" && !errors.Is(err, ErrContextFull) {
				t.Errorf("%v is not ErrContextFull", err)
			}
			if n := x.text.Len(); n != c.position {
				t.Errorf("the text has %d tokens, had %d", n, c.position)
			}
		})
	}
}
