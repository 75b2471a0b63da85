package model

import (
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"pumice/model/pages"
	"pumice/pipeline"
)

// A text is a sequence under test, and what it gives alone: the logits after each token from the end of its prompt on,
// greedily.
type text struct {
	tokens []int // prompt, then what follows
	prompt int
	alone  [][]float32
	q      *Sequence
}

// texts are eight texts of different lengths, of which two begin alike. Each is continued by more tokens.
func texts(t *testing.T, x *Model, more int) []*text {
	t.Helper()
	var list []*text
	for i, n := range []int{1, 5, 17, 40, 63, 64, 65, 100} {
		s := &text{tokens: make([]int, n), prompt: n}
		for j := range s.tokens {
			seed := i
			if i >= 6 && j < 50 {
				seed = 6
			}
			s.tokens[j] = (seed*31 + j*j*7 + j*13 + 1) % x.cfg.VocabSize
		}
		for at, end := 0, n; len(s.alone) <= more; at, end = end, end+1 {
			out, err := x.Forward(t.Context(), s.tokens[at:end], at, lastLogits)
			if err != nil {
				t.Fatal(err)
			}
			row := slices.Clone(out.Logits)
			s.alone = append(s.alone, row)
			s.tokens = append(s.tokens, argmax(row))
		}
		list = append(list, s)
	}
	return list
}

// step evaluates the next token of each of some texts, and a piece of others' prompts, and compares.
func step(t *testing.T, x *Model, what string, decoding, prompting []*text, piece int, bound float64) pipeline.Counters {
	t.Helper()
	var spans []Span
	var of []*text
	for _, s := range decoding {
		at := s.q.Len()
		spans, of = append(spans, Span{s.q, s.tokens[at : at+1]}), append(of, s)
	}
	for _, s := range prompting {
		at := s.q.Len()
		spans, of = append(spans, Span{s.q, s.tokens[at:min(s.prompt, at+piece)]}), append(of, s)
	}
	slices.SortStableFunc(spans, func(a, b Span) int { return min(len(a.Tokens), 2) - min(len(b.Tokens), 2) })
	slices.SortStableFunc(of, func(a, b *text) int {
		n := func(s *text) int {
			for _, span := range spans {
				if span.Sequence == s.q {
					return min(len(span.Tokens), 2)
				}
			}
			return 0
		}
		return n(a) - n(b)
	})
	out, err := x.Run(t.Context(), spans, lastLogits)
	if err != nil {
		t.Fatalf("%s: %v", what, err)
	}
	vocab := x.cfg.VocabSize
	if len(out.Logits) != len(spans)*vocab {
		t.Fatalf("%s: %d logits for %d spans", what, len(out.Logits), len(spans))
	}
	for i, s := range of {
		if i := s.q.Len() - s.prompt; i < 0 {
			continue
		}
		want := s.alone[s.q.Len()-s.prompt]
		row := out.Logits[i*vocab : (i+1)*vocab]
		compare(t, fmt.Sprintf("%s: text %d", what, s.prompt), row, want, bound)
		if got := argmax(row); got != s.tokens[s.q.Len()] {
			t.Errorf("%s: text %d goes on with %d, alone with %d", what, s.prompt, got, s.tokens[s.q.Len()])
		}
	}
	return out.Counters
}

// TestTextsInABatchAreAsAlone evaluates eight texts together, at mixed positions: prompts in pieces of different
// lengths beside texts that go on token by token, then all token by token. Their logits are those of each alone.
func TestTextsInABatchAreAsAlone(t *testing.T) {
	for _, name := range fixtures {
		for _, path := range paths(t) {
			t.Run(name+"/"+string(path), func(t *testing.T) {
				if name != "smollm2" {
					long(t)
				}
				o := exact
				o.Chunk, o.Pages = 64, 24
				x := load(t, filepath.Join(fixtureDir, name), o, pipeline.Options{Path: path})
				const more = 6
				list := texts(t, x, more)
				for i, s := range list {
					var err error
					if s.q, err = x.Acquire(t.Context(), s.tokens[:s.prompt], s.prompt-1); err != nil {
						t.Fatal(err)
					}
					defer s.q.Release()
					if i == 7 { // the one before it has been evaluated by then
						break
					}
				}
				const bound = 1e-4
				step(t, x, "short prompts", list[:1], list[1:3], 32, bound)
				step(t, x, "beside pieces of 20", list[:3], list[3:5], 20, bound)
				step(t, x, "beside the rest", list[:2], list[3:5], 24, bound)
				step(t, x, "one long piece", nil, list[4:5], 60, bound)
				for list[5].q.Len() < list[5].prompt {
					step(t, x, "a prompt of 64", list[3:5], list[5:6], 33, bound)
				}
				for list[6].q.Len() < list[6].prompt {
					step(t, x, "a prompt of 65", nil, list[6:7], 64, bound)
				}
				list[7].q.Release()
				var err error
				if list[7].q, err = x.Acquire(t.Context(), list[7].tokens[:list[7].prompt], list[7].prompt-1); err != nil {
					t.Fatal(err)
				}
				defer list[7].q.Release()
				if list[7].q.Len() != 50 && x.cfg.SlidingWindow == 0 {
					t.Errorf("%d tokens of a beginning of 50 are shared", list[7].q.Len())
				}
				for list[7].q.Len() < list[7].prompt {
					step(t, x, "a prompt of 100", list[5:7], list[7:8], 40, bound)
				}
				for _, s := range list { // all the same distance from their prompts
					for s.q.Len() < s.prompt+more-2 {
						step(t, x, "alone in a batch", []*text{s}, nil, 0, bound)
					}
				}
				c := step(t, x, "all together", list, nil, 0, bound)
				step(t, x, "all together again", list, nil, 0, bound)
				alone, err := x.Forward(t.Context(), list[0].tokens[:1], 0, lastLogits)
				if err != nil {
					t.Fatal(err)
				}
				if c.Submits != 1 || c.WeightBytes > alone.Counters.WeightBytes*101/100+8*int64(x.cfg.HiddenSize)*4 {
					t.Errorf("eight texts read %d bytes of weights in %d submissions, one reads %d", c.WeightBytes, c.Submits, alone.Counters.WeightBytes)
				}
				t.Logf("%d dispatches for eight tokens, %d for one", c.Dispatches, alone.Counters.Dispatches)
			})
		}
	}
}

// TestRunRefuses has steps that make no sense, and one for which there are too few pages. None changes a sequence.
func TestRunRefuses(t *testing.T) {
	o := Options{Context: 256, Chunk: 64, Pages: 3}
	x := load(t, filepath.Join(fixtureDir, "xverse"), o, pipeline.Options{})
	acquire := func() *Sequence {
		q, err := x.Acquire(t.Context(), nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(q.Release)
		return q
	}
	a, b := acquire(), acquire()
	long := make([]int, 40)
	for name, c := range map[string]struct {
		spans []Span
		want  string
	}{
		"none":          {nil, "0 spans"},
		"an empty one":  {[]Span{{a, nil}}, "no tokens"},
		"unknown token": {[]Span{{a, []int{1 << 20}}}, "token 0 is 1048576"},
		"order":         {[]Span{{a, []int{1, 2}}, {b, []int{1}}}, "span 1 has one token"},
		"twice":         {[]Span{{a, []int{1}}, {a, []int{2}}}, "has already"},
		"too long":      {[]Span{{a, long}, {b, long}}, "80 tokens in a step; at most 64"},
		"full":          {[]Span{{a, []int{1}}, {b, make([]int, 64)}}, "at most"},
	} {
		if _, err := x.Run(t.Context(), c.spans, lastLogits); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: error %v, want one with %q", name, err, c.want)
		}
	}
	for range 3 {
		if _, err := x.Run(t.Context(), []Span{{a, make([]int, 60)}}, lastLogits); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := x.Run(t.Context(), []Span{{b, long}}, lastLogits); !errors.Is(err, pages.ErrFull) {
		t.Errorf("a full pool: %v", err)
	}
	if a.Len() != 180 || b.Len() != 0 {
		t.Errorf("%d and %d tokens", a.Len(), b.Len())
	}
	a.Release()
	if _, err := x.Run(t.Context(), []Span{{b, long}}, lastLogits); err != nil {
		t.Errorf("after the other was released: %v", err)
	}
	if _, err := load(t, filepath.Join(fixtureDir, "xverse"), Options{Context: 64}, pipeline.Options{}).Acquire(t.Context(), nil, 0); err == nil {
		t.Error("a model without pages has sequences")
	}
}
