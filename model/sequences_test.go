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

// TestSequencesAreAsAlone evaluates sequences at once and one by one behind the same tokens: with rotary positions of
// both kinds, with slopes, with a window shorter than the tokens and a cache that goes round, with keys and values of
// either type.
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
				testSequences(t, load(t, filepath.Join(fixtureDir, c.fixture), o, pipeline.Options{Path: path}), bound)
			})
		}
	}
}

func testSequences(t *testing.T, x *Model, bound float64) {
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
		sum := 0
		for i, n := range c.lengths {
			s := ids(n, i+2)
			sequences = append(sequences, s)
			sum += n
			out, err := x.Forward(t.Context(), append(slices.Clone(prefix), s...), 0, lastLogits)
			if err != nil {
				t.Fatal(err)
			}
			want = append(want, slices.Clone(out.Logits))
		}
		written := 0
		if c.prefix > 0 {
			if _, err := x.Forward(t.Context(), prefix, 0, Tail{}); err != nil {
				t.Fatal(err)
			}
			written = c.prefix
		}
		for again := range 2 { // the second time behind what the first has left
			if !x.CanResume(written, c.prefix) {
				t.Fatalf("nothing can go on at %d behind %d", c.prefix, written)
			}
			out, err := x.ForwardSequences(context.Background(), sequences, c.prefix, lastLogits)
			if err != nil {
				t.Fatal(err)
			}
			if len(out.Logits) != len(sequences)*vocab || out.Counters.Submits != 1 {
				t.Fatalf("%d logits by %d submits", len(out.Logits), out.Counters.Submits)
			}
			for i := range sequences {
				compare(t, fmt.Sprintf("prefix of %d, time %d, sequence %d", c.prefix, again, i), out.Logits[i*vocab:(i+1)*vocab], want[i], bound)
			}
			written = c.prefix + sum
		}
	}
}

func TestForwardSequencesRefuses(t *testing.T) {
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
			_, err := x.ForwardSequences(context.Background(), c.sequences, c.position, lastLogits)
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("error %v, want one with %q", err, c.want)
			}
			if name == "full" && !errors.Is(err, ErrContextFull) {
				t.Errorf("%v is not ErrContextFull", err)
			}
		})
	}
}
