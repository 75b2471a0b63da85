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
	q      *pages.Sequence
}

// texts are eight texts of different lengths, of which two begin alike. Each is continued by more tokens.
func texts(t *testing.T, x *subject, more int) []*text {
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
			out, err := x.forward(t.Context(), s.tokens[at:end], at, lastLogits)
			if err != nil {
				t.Fatal(err)
			}
			row := slices.Clone(out.Logits)
			s.alone = append(s.alone, row)
			s.tokens = append(s.tokens, argmax(row))
		}
		list = append(list, s)
	}
	if err := x.goTo(0); err != nil { // what was evaluated alone is not shared
		t.Fatal(err)
	}
	return list
}

// step evaluates the next token of each of some texts, and a piece of others' prompts, and compares.
func step(t *testing.T, x *subject, what string, decoding, prompting []*text, piece int, bound float64) pipeline.Counters {
	t.Helper()
	var spans []Span
	var of []*text
	for _, s := range decoding {
		at := s.q.Len()
		spans, of = append(spans, Span{Sequence: s.q, Tokens: s.tokens[at : at+1]}), append(of, s)
	}
	for _, s := range prompting {
		at := s.q.Len()
		spans, of = append(spans, Span{Sequence: s.q, Tokens: s.tokens[at:min(s.prompt, at+piece)]}), append(of, s)
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

// acquire is a sequence of a prompt, of which at least the last token is to be evaluated.
func acquire(t *testing.T, x *subject, prompt []int) *pages.Sequence {
	t.Helper()
	q, err := x.Pages().Acquire(t.Context(), prompt, len(prompt)-1, pages.Batched)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(q.Release)
	return q
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
				o.Chunk = 64
				x := load(t, filepath.Join(fixtureDir, name), o, pipeline.Options{Path: path})
				const more = 6
				list := texts(t, x, more)
				for i, s := range list {
					s.q = acquire(t, x, s.tokens[:s.prompt])
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
				list[7].q = acquire(t, x, list[7].tokens[:list[7].prompt])
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
				alone, err := x.forward(t.Context(), list[0].tokens[:1], 0, lastLogits)
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
	path := filepath.Join(fixtureDir, "xverse")
	x := load(t, path, withPages(t, path, Options{Context: 192, Chunk: 64}, 3), pipeline.Options{})
	a, b := newText(t, x.Model), newText(t, x.Model)
	long := make([]int, 40)
	for name, c := range map[string]struct {
		spans []Span
		want  string
	}{
		"none":           {nil, "0 spans"},
		"an empty one":   {[]Span{{Sequence: a}}, "no tokens"},
		"empty ones":     {[]Span{{Sequence: a}, {Sequence: b}}, "no tokens"},
		"unknown token":  {[]Span{{Sequence: a, Tokens: []int{1 << 20}}}, "token 0 is 1048576"},
		"order":          {[]Span{{Sequence: a, Tokens: []int{1, 2}}, {Sequence: b, Tokens: []int{1}}}, "span 1 has one token"},
		"twice":          {[]Span{{Sequence: a, Tokens: []int{1}}, {Sequence: a, Tokens: []int{2}}}, "has already"},
		"too long":       {[]Span{{Sequence: a, Tokens: long}, {Sequence: b, Tokens: long}}, "80 tokens in a step; at most 64"},
		"full":           {[]Span{{Sequence: a, Tokens: []int{1}}, {Sequence: b, Tokens: make([]int, 64)}}, "at most"},
		"the context":    {[]Span{{Sequence: a, Tokens: make([]int, 193)}}, ErrContextFull.Error()},
		"only guesses":   {[]Span{{Sequence: a, Tokens: []int{1, 2}, Guesses: 2}}, "2 guesses among 2 tokens"},
		"two of them":    {[]Span{{Sequence: a, Tokens: []int{1, 2}, Guesses: 2}, {Sequence: b, Tokens: []int{1, 2}}}, "2 guesses among 2 tokens"},
		"known to go on": {[]Span{{Sequence: a, Tokens: []int{1, 2}}, {Sequence: b, Tokens: []int{1, 2}, Next: new(int)}}, "span 1 of 2 says what follows"},
		"guessed apart":  {[]Span{{Sequence: a, Tokens: make([]int, 65), Guesses: 1}}, "1 guesses among 65 tokens"},
	} {
		if _, err := x.Run(t.Context(), c.spans, lastLogits); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: error %v, want one with %q", name, err, c.want)
		}
	}
	run := func(what string, want error, spans ...Span) {
		t.Helper()
		if _, err := x.Run(t.Context(), spans, lastLogits); !errors.Is(err, want) {
			t.Errorf("%s: error %v, want %v", what, err, want)
		}
	}
	has := func(what string, lenA, lenB, used int) {
		t.Helper()
		if n := x.Pages().Metrics().Groups[pages.Global].InUse; a.Len() != lenA || b.Len() != lenB || n != used {
			t.Errorf("%s: %d and %d tokens in %d pages, want %d and %d in %d", what, a.Len(), b.Len(), n, lenA, lenB, used)
		}
	}
	ones := slices.Repeat([]int{1}, 65) // which b does not share with a
	run("two pages", nil, Span{Sequence: a, Tokens: make([]int, 120)})
	run("a chunk and a token", pages.ErrFull, Span{Sequence: b, Tokens: ones})
	has("a chunk that had room, and a token", 120, 64, 3)
	if _, err := b.Truncate(0); err != nil {
		t.Fatal(err)
	}
	run("one page for two", pages.ErrFull, Span{Sequence: a, Tokens: long[:30]}, Span{Sequence: b, Tokens: ones[:30]})
	has("one page for two", 120, 0, 2)
	a.Release()
	run("after the other was released", nil, Span{Sequence: b, Tokens: ones})
}

// TestGuessesAreCommittedByTheCaller evaluates guesses by themselves and in a batch. Of those the first is right, and what
// follows is what follows without guesses.
func TestGuessesAreCommittedByTheCaller(t *testing.T) {
	o := exact
	o.Chunk = 64
	x := load(t, filepath.Join(fixtureDir, "gemma2"), o, pipeline.Options{})
	list := texts(t, x, 4)[2:4]
	for _, s := range list {
		s.q = acquire(t, x, s.tokens[:s.prompt])
		if _, err := x.Run(t.Context(), []Span{{Sequence: s.q, Tokens: s.tokens[:s.prompt]}}, Tail{}); err != nil {
			t.Fatal(err)
		}
	}
	wrong := func(id int) int { return (id + 1) % x.cfg.VocabSize }
	for _, batch := range [][]*text{list[:1], list} {
		var spans []Span
		for _, s := range batch {
			next := s.tokens[s.q.Len():]
			spans = append(spans, Span{Sequence: s.q, Tokens: []int{next[0], next[1], wrong(next[2])}, Guesses: 2})
		}
		before := batch[0].q.Len()
		if _, err := x.Run(t.Context(), spans, Tail{}); err != nil {
			t.Fatal(err)
		}
		if n := batch[0].q.Len(); n != before+1 {
			t.Errorf("%d tokens, want %d", n, before+1)
		}
		for _, s := range batch {
			if err := s.q.Commit(s.tokens[s.q.Len()]); err != nil {
				t.Fatal(err)
			}
		}
		for _, s := range batch[:1] {
			step(t, x, "after a wrong guess", []*text{s}, nil, 0, 1e-4)
		}
		if len(batch) == 1 { // to be guessed again
			if _, err := batch[0].q.Truncate(batch[0].prompt); err != nil {
				t.Fatal(err)
			}
		}
	}
	step(t, x, "after wrong guesses in a batch", list[1:], nil, 0, 1e-4)
}
