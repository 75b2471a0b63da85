package pumice

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"

	"pumice/model"
	"pumice/pipeline"
	"pumice/sample"
	"pumice/tokenizer"
)

func TestOnlyNewTokensAreEvaluated(t *testing.T) {
	f := newFake(t, follow(3, 11, 12, 13))
	s := fakeEngine(f, nil).NewSession()
	generate(t, s, []int{1, 2, 3}, GenerateOptions{MaxTokens: 3})
	if diff := cmp.Diff([]int{3, 1, 1}, f.calls); diff != "" {
		t.Errorf("first turn (-want +got):\n%s", diff)
	}

	// The last token, 13, was chosen but not evaluated.
	f.calls = nil
	generate(t, s, []int{1, 2, 3, 11, 12, 13, 20, 21}, GenerateOptions{MaxTokens: 1})
	if r := s.Result(); r.Stats.CachedN != 5 || r.Stats.PromptN != 3 || !slices.Equal(f.calls, []int{3}) {
		t.Errorf("second turn: cached %d, evaluated %d in calls of %v; want 5, 3, [3]", r.Stats.CachedN, r.Stats.PromptN, f.calls)
	}

	f.calls = nil
	generate(t, s, []int{1, 2, 9}, GenerateOptions{MaxTokens: 1})
	if r := s.Result(); r.Stats.CachedN != 2 {
		t.Errorf("edited prompt: cached %d, want 2", r.Stats.CachedN)
	}
	generate(t, s, []int{1, 2}, GenerateOptions{MaxTokens: 1})
	if r := s.Result(); r.Stats.CachedN != 1 || r.Stats.PromptN != 1 {
		t.Errorf("a prompt that is all in the cache: cached %d, evaluated %d; want its last token evaluated", r.Stats.CachedN, r.Stats.PromptN)
	}
	s.Reset()
	generate(t, s, []int{1, 2}, GenerateOptions{MaxTokens: 1})
	if r := s.Result(); r.Stats.CachedN != 0 {
		t.Errorf("after Reset: cached %d", r.Stats.CachedN)
	}
}

// TestTruncateBoundsReuse evaluates a prompt again after forgetting some of its tokens.
func TestTruncateBoundsReuse(t *testing.T) {
	f := newFake(t, nil)
	s := fakeEngine(f, nil).NewSession()
	prompt := []int{1, 2, 3, 4, 5, 6}
	for _, c := range []struct{ keep, evaluated int }{{6, 6}, {4, 2}, {99, 1}, {0, 6}, {-1, 6}} {
		s.Truncate(c.keep)
		for _, err := range s.Logits(t.Context(), prompt, false) {
			if err != nil {
				t.Fatal(err)
			}
		}
		if got := f.calls[len(f.calls)-1]; got != c.evaluated {
			t.Errorf("%d tokens kept: %d evaluated, want %d", c.keep, got, c.evaluated)
		}
	}
}

// TestScoreFillsBatches scores tails after a common prefix: as many at once as a batch and the context hold.
func TestScoreFillsBatches(t *testing.T) {
	tails := func(lengths ...int) (out [][]int) {
		for i, n := range lengths {
			out = append(out, slices.Repeat([]int{i + 1}, n))
		}
		return out
	}
	for _, c := range []struct {
		name   string
		prefix []int
		tails  [][]int
		before []int // tokens in the cache from another prompt
		calls  []int // tokens evaluated by each call, negative for several tails at once
	}{
		{"no tails", []int{5, 6}, nil, nil, []int{2}},
		{"one", []int{5, 6}, tails(3), nil, []int{2, 3}},
		{"a batch of tokens", []int{5, 6}, tails(3, 4, 3, 1, 9), nil, []int{2, -10, -10}},
		{"a batch of sequences", []int{5, 6}, tails(1, 1, 1, 1, 1), nil, []int{2, -4, 1}},
		{"too long for a batch", []int{5, 6}, tails(3, 11, 2, 2), nil, []int{2, 3, 11, -4}},
		{"the context's end", slices.Repeat([]int{7}, 57), tails(4, 3, 2), nil, []int{57, -7, 2}},
		{"no prefix", nil, tails(2, 3), nil, []int{-5}},
		{"the prefix is cached", []int{5, 6}, tails(1, 2), []int{5, 6}, []int{-3}},
		{"more than the prefix is cached", []int{5, 6}, tails(1, 2), []int{5, 6, 1}, []int{-3}},
		{"some of the prefix is cached", []int{5, 6}, tails(2), []int{5, 7}, []int{1, 2}},
	} {
		t.Run(c.name, func(t *testing.T) {
			f := newFake(t, nil)
			s := fakeEngine(f, nil).NewSession()
			if c.before != nil {
				for _, err := range s.Logits(t.Context(), c.before, false) {
					if err != nil {
						t.Fatal(err)
					}
				}
				f.calls = nil
			}
			n := 0
			for row, err := range s.Score(t.Context(), c.prefix, c.tails) {
				if err != nil {
					t.Fatal(err)
				}
				sum := 0
				for _, id := range slices.Concat(c.prefix, c.tails[n]) {
					sum += id
				}
				if len(row) != f.vocab || row[0] != float32(sum) && row[0] != 1 { // fake.Forward gives 1
					t.Errorf("row %d of %d logits says %g, want %d", n, len(row), row[0], sum)
				}
				n++
			}
			if n != len(c.tails) {
				t.Errorf("%d rows, want %d", n, len(c.tails))
			}
			if diff := cmp.Diff(c.calls, f.calls); diff != "" {
				t.Errorf("evaluated (-want +got):\n%s", diff)
			}
		})
	}
}

func TestScoreErrors(t *testing.T) {
	f := newFake(t, nil)
	s := fakeEngine(f, nil).NewSession()
	lost := errors.New("lost")
	full := slices.Repeat([]int{1}, 60)
	for _, c := range []struct {
		name   string
		prefix []int
		tails  [][]int
		err    error // of the device
		want   string
	}{
		{"nothing", nil, nil, nil, ErrEmptyPrompt.Error()},
		{"an empty tail", []int{1}, [][]int{{2}, {}}, nil, "tail 1 is empty"},
		{"an unknown token", []int{1}, [][]int{{2}, {1, 6000}}, nil, "tail 1: model: token 2 is 6000"},
		{"a full context", full, [][]int{{2}, full[:5]}, nil, "tail 1: pumice: the prompt has 65 tokens"},
		{"the device", []int{1}, [][]int{{2}, {3}}, lost, "lost"},
	} {
		t.Run(c.name, func(t *testing.T) {
			f.err = c.err
			n, last := 0, error(nil)
			for _, last = range s.Score(t.Context(), c.prefix, c.tails) {
				n++
			}
			if n != 1 || last == nil || !strings.Contains(last.Error(), c.want) {
				t.Errorf("%d elements, the last is %v; want one with %q", n, last, c.want)
			}
		})
	}
	f.err = nil
	for _, err := range s.Score(t.Context(), []int{1}, [][]int{{2}, {3}}) { // break, then use the session again
		if err != nil {
			t.Fatal(err)
		}
		break
	}
	rows := 0
	for _, err := range s.Score(t.Context(), []int{1}, [][]int{{2}, {3}}) {
		if err != nil {
			t.Fatal(err)
		}
		rows++
	}
	if rows != 2 {
		t.Errorf("%d rows after a break", rows)
	}
}

// TestWaitingForTheEngineEndsWithTheContext lets one session evaluate for ever while another one waits for it.
func TestWaitingForTheEngineEndsWithTheContext(t *testing.T) {
	f := newFake(t, nil)
	e := fakeEngine(f, nil)
	begun, end := make(chan struct{}), make(chan struct{})
	f.before = func() { close(begun); <-end }
	done := make(chan struct{})
	go func() {
		defer close(done)
		for range e.NewSession().Generate(context.Background(), []int{1}, GenerateOptions{MaxTokens: 1}) {
		}
	}()
	<-begun
	ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
	defer cancel()
	s := e.NewSession()
	for _, err := range s.Generate(ctx, []int{1}, GenerateOptions{}) {
		if !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Generate: %v", err)
		}
	}
	for _, err := range s.Logits(ctx, []int{1}, false) {
		if !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Logits: %v", err)
		}
	}
	for _, err := range s.Score(ctx, []int{1}, [][]int{{2}}) {
		if !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Score: %v", err)
		}
	}
	close(end)
	<-done
}

func TestSessionsShareTheCache(t *testing.T) {
	f := newFake(t, follow(3, 11, 12, 13))
	e := fakeEngine(f, nil)
	a, b := e.NewSession(), e.NewSession()
	step := 0
	for _, err := range a.Generate(t.Context(), []int{1, 2, 3}, GenerateOptions{MaxTokens: 3}) {
		if err != nil {
			t.Fatal(err)
		}
		if step++; step == 1 { // in the middle of a's answer
			generate(t, b, []int{7, 8, 9}, GenerateOptions{MaxTokens: 2})
		}
	}
	if diff := cmp.Diff([]int{3, 3, 1, 1, 1}, f.calls); diff != "" {
		t.Errorf("evaluated (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]int{11, 12, 13}, a.Result().Tokens); diff != "" {
		t.Errorf("tokens (-want +got):\n%s", diff)
	}
}

func TestLongPromptsReportProgress(t *testing.T) {
	f := newFake(t, nil)
	f.context = 4096
	var seen []int
	s := fakeEngine(f, nil).NewSession()
	generate(t, s, make([]int, 1200), GenerateOptions{MaxTokens: 1, OnPrompt: func(done, total int) { seen = append(seen, done, total) }})
	if diff := cmp.Diff([]int{256, 1200, 512, 1200, 768, 1200, 1024, 1200, 1112, 1200, 1200, 1200}, seen); diff != "" {
		t.Errorf("progress (-want +got):\n%s", diff)
	}
}

func TestWhatEndsAnAnswer(t *testing.T) {
	tok := xverseTokenizer(t)
	ids := tok.Encode("Hello 世界", tokenizer.EncodeOptions{})
	for _, c := range []struct {
		name    string
		ids     []int
		o       GenerateOptions
		ends    []int
		tokens  int
		reason  string
		context int
	}{
		{"first of several end tokens", []int{9, 3, 9}, GenerateOptions{}, []int{3, 5}, 2, FinishStop, 64},
		{"second of several end tokens", []int{9, 9, 5}, GenerateOptions{}, []int{3, 5}, 3, FinishStop, 64},
		{"end tokens ignored", []int{9, 3, 5, 7}, GenerateOptions{IgnoreEOS: true, MaxTokens: 4}, []int{3, 5}, 4, FinishLength, 64},
		{"the limit", ids, GenerateOptions{MaxTokens: 2}, []int{3}, 2, FinishLength, 64},
		{"a full context", []int{9, 9, 9, 9, 9}, GenerateOptions{}, []int{3}, 3, FinishLength, 4},
		{"a stop string that is a special token", []int{9, 9, 2, 9}, GenerateOptions{Stop: []string{"<|startoftext|>"}, IgnoreEOS: true}, nil, 3, FinishStop, 64},
	} {
		t.Run(c.name, func(t *testing.T) {
			f := newFake(t, follow(2, c.ids...))
			f.context = c.context
			s := fakeEngine(f, tok, c.ends...).NewSession()
			generate(t, s, []int{100, 101}, c.o)
			if r := s.Result(); len(r.Tokens) != c.tokens || r.FinishReason != c.reason || r.Stats.PredictedN != c.tokens {
				t.Errorf("got %v, %q; want %d tokens, %q", r.Tokens, r.FinishReason, c.tokens, c.reason)
			}
		})
	}
}

func TestSpecialTokensAreSpelledOnRequest(t *testing.T) {
	tok := xverseTokenizer(t)
	hello := tok.Encode("Hello", tokenizer.EncodeOptions{})
	ids := slices.Concat([]int{2}, hello, []int{2, 3}) // <|startoftext|>, and the end token
	for spelled, want := range map[bool]string{false: "Hello", true: "<|startoftext|>Hello<|startoftext|>"} {
		s := fakeEngine(newFake(t, follow(1, ids...)), tok, 3).NewSession()
		pieces := generate(t, s, []int{1}, GenerateOptions{SpecialTokens: spelled})
		if got := strings.Join(pieces, ""); got != want || s.Result().Text != want {
			t.Errorf("%t: got %q, want %q", spelled, got, want)
		}
	}
}

func TestStopStringsAcrossTokensNeverLeak(t *testing.T) {
	tok := xverseTokenizer(t)
	const answer = "one two\n\nHuman: three"
	ids := tok.Encode(answer, tokenizer.EncodeOptions{})
	for _, c := range []struct {
		stop []string
		want string
	}{
		{[]string{"\n\nHuman:"}, "one two"},
		{[]string{"Human"}, "one two\n\n"},
		{[]string{"two\n", "wo\n\nH"}, "one "},
		{[]string{"three!"}, answer}, // its beginning is held back until the end
		{nil, answer},
	} {
		f := newFake(t, follow(1, append(slices.Clone(ids), 3)...))
		s := fakeEngine(f, tok, 3).NewSession()
		pieces := generate(t, s, []int{1}, GenerateOptions{Stop: c.stop})
		if got := strings.Join(pieces, ""); got != c.want || s.Result().FinishReason != FinishStop {
			t.Errorf("stop %q: got %q, %q; want %q", c.stop, got, s.Result().FinishReason, c.want)
		}
	}
}

func TestStopperAgainstWholeText(t *testing.T) {
	stops := []string{"aab", "ab\n", "世界"}
	text := "xaaaab世世界ab\nz"
	for cut := range len(text) {
		for next := cut; next <= len(text); next++ {
			s := stopper{stops: stops}
			var shown string
			var hit bool
			for _, piece := range []string{text[:cut], text[cut:next], text[next:]} {
				if hit {
					break
				}
				var out string
				out, hit = s.push(piece)
				shown += out
			}
			if shown != "xaa" || !hit {
				t.Fatalf("cut at %d and %d: got %q, %t; want \"xaa\", true", cut, next, shown, hit)
			}
		}
	}
}

func TestTextIsWholeCharacters(t *testing.T) {
	tok := xverseTokenizer(t)
	const answer = "𝒜𝓑 👩‍👩‍👧 ok 𓀀"
	ids := tok.Encode(answer, tokenizer.EncodeOptions{})
	s := fakeEngine(newFake(t, follow(1, ids...)), tok).NewSession()
	var pieces []string
	for token, err := range s.Generate(t.Context(), []int{1}, GenerateOptions{MaxTokens: len(ids)}) {
		if err != nil {
			t.Fatal(err)
		}
		if !utf8.ValidString(token.Text) || strings.Contains(token.Text, "\uFFFD") {
			t.Errorf("text %q is not whole characters", token.Text)
		}
		pieces = append(pieces, token.Text)
	}
	if got := strings.Join(pieces, ""); got != answer {
		t.Errorf("got %q, want %q", got, answer)
	}
	// The limit cuts a character: the last token brings the rest.
	s = fakeEngine(newFake(t, follow(1, ids...)), tok).NewSession()
	pieces = generate(t, s, []int{1}, GenerateOptions{MaxTokens: 2})
	if got := strings.Join(pieces, ""); !utf8.ValidString(got) {
		t.Errorf("got %q", got)
	}
}

func TestBadPromptsAreErrors(t *testing.T) {
	f := newFake(t, nil)
	s := fakeEngine(f, nil).NewSession()
	run := func(prompt []int, o GenerateOptions) error {
		for _, err := range s.Generate(t.Context(), prompt, o) {
			if err != nil {
				return err
			}
		}
		return nil
	}
	if err := run(nil, GenerateOptions{}); !errors.Is(err, ErrEmptyPrompt) {
		t.Errorf("empty: %v", err)
	}
	var long *PromptError
	if err := run(make([]int, 65), GenerateOptions{}); !errors.As(err, &long) || long.Tokens != 65 || long.Context != 64 {
		t.Errorf("too long: %v", err)
	}
	var token *model.TokenError
	if err := run([]int{0, 6000}, GenerateOptions{}); !errors.As(err, &token) || token.Index != 1 {
		t.Errorf("token out of range: %v", err)
	}
	if err := run([]int{-1}, GenerateOptions{}); !errors.As(err, &token) {
		t.Errorf("negative token: %v", err)
	}
	var param *sample.ParamError
	if err := run([]int{1}, GenerateOptions{Sampling: sample.Params{TopP: 2}}); !errors.As(err, &param) {
		t.Errorf("sampling: %v", err)
	}
	var option *OptionError
	if err := run([]int{1}, GenerateOptions{MaxTokens: -1}); !errors.As(err, &option) {
		t.Errorf("limit: %v", err)
	}
	if err := run([]int{1}, GenerateOptions{Stop: []string{""}}); !errors.As(err, &option) {
		t.Errorf("empty stop string: %v", err)
	}
	var none *NoTokenizerError
	if err := run([]int{1}, GenerateOptions{Stop: []string{"x"}}); !errors.As(err, &none) {
		t.Errorf("stop string without tokenizer: %v", err)
	}
	if f.calls != nil {
		t.Errorf("something was evaluated: %v", f.calls)
	}
	if err := s.engine.Close(); err != nil {
		t.Fatal(err)
	}
	if err := run([]int{1}, GenerateOptions{}); !errors.Is(err, ErrClosed) {
		t.Errorf("closed: %v", err)
	}
}

func TestCancellingKeepsTheSession(t *testing.T) {
	f := newFake(t, follow(2, 11, 12, 13, 14))
	f.context = 4096
	s := fakeEngine(f, nil).NewSession()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var got []int
	var last error
	for token, err := range s.Generate(ctx, []int{1, 2}, GenerateOptions{}) {
		if last = err; err != nil {
			break
		}
		got = append(got, token.ID)
		if len(got) == 2 {
			cancel()
		}
	}
	if !errors.Is(last, context.Canceled) || !slices.Equal(got, []int{11, 12}) {
		t.Fatalf("got %v, %v; want [11 12], context.Canceled", got, last)
	}
	if r := s.Result(); r.FinishReason != "" || !slices.Equal(r.Tokens, got) {
		t.Errorf("result %+v", r)
	}
	generate(t, s, []int{1, 2, 11, 99}, GenerateOptions{MaxTokens: 1})
	if n := s.Result().Stats.CachedN; n != 3 {
		t.Errorf("after cancelling: cached %d, want 3", n)
	}

	// Cancelled during the prompt: the evaluated chunks are kept.
	ctx, cancel = context.WithCancel(t.Context())
	defer cancel()
	prompt := slices.Repeat([]int{5}, 1200)
	for _, err := range s.Generate(ctx, prompt, GenerateOptions{OnPrompt: func(int, int) { cancel() }}) {
		last = err
	}
	if !errors.Is(last, context.Canceled) {
		t.Fatal(last)
	}
	generate(t, s, prompt, GenerateOptions{MaxTokens: 1})
	if n := s.Result().Stats.CachedN; n != PromptChunk {
		t.Errorf("after cancelling a prompt: cached %d, want %d", n, PromptChunk)
	}
}

func TestFailedEvaluationIsForgotten(t *testing.T) {
	f := newFake(t, follow(2, 11, 12))
	s := fakeEngine(f, nil).NewSession()
	generate(t, s, []int{1, 2}, GenerateOptions{MaxTokens: 2})
	f.err = errors.New("lost")
	for _, err := range s.Generate(t.Context(), []int{1, 2, 11, 12}, GenerateOptions{}) {
		if !errors.Is(err, f.err) {
			t.Errorf("got %v, want %v", err, f.err)
		}
	}
	f.err = nil
	generate(t, s, []int{1, 2, 11, 12}, GenerateOptions{MaxTokens: 1})
	if n := s.Result().Stats.CachedN; n != 3 {
		t.Errorf("cached %d, want 3: failed tokens were never in the cache", n)
	}
}

func TestBreakKeepsTheSession(t *testing.T) {
	f := newFake(t, follow(2, 11, 12))
	s := fakeEngine(f, nil).NewSession()
	for range s.Generate(t.Context(), []int{1, 2}, GenerateOptions{}) {
		break
	}
	if diff := cmp.Diff([]int{11}, s.Result().Tokens); diff != "" {
		t.Errorf("tokens (-want +got):\n%s", diff)
	}
	for range s.Logits(t.Context(), []int{1, 2, 3}, true) {
		break
	}
	generate(t, s, []int{1, 2, 3}, GenerateOptions{MaxTokens: 1})
}

// TestResultsOfGenerations: each Generation has its own, and the Session that of the last.
func TestResultsOfGenerations(t *testing.T) {
	s := fakeEngine(newFake(t, follow(2, 11, 12, 13)), nil).NewSession()
	if r := s.Result(); r.Tokens != nil || r.FinishReason != "" {
		t.Errorf("before the first: %+v", r)
	}
	start := func(n int) *Generation {
		t.Helper()
		g, err := s.Start(Request{[]int{1, 2}, GenerateOptions{MaxTokens: n}})
		if err != nil {
			t.Fatal(err)
		}
		return g
	}
	next := func(g *Generation, want int) {
		t.Helper()
		if token, err := g.Next(t.Context()); err != nil || token.ID != want {
			t.Fatalf("token %d, %v; want %d", token.ID, err, want)
		}
	}
	check := func(what string, got Result, reason string, want ...int) {
		t.Helper()
		if !slices.Equal(got.PromptTokens, []int{1, 2}) || !slices.Equal(got.Tokens, want) || got.FinishReason != reason {
			t.Errorf("%s: %+v, want tokens %v, %q", what, got, want, reason)
		}
	}
	first := start(2)
	check("before the first token", first.Result(), "")
	next(first, 11)
	check("one token", first.Result(), "", 11)
	check("of the session", s.Result(), "", 11)
	next(first, 12)
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	check("closed", first.Result(), FinishLength, 11, 12)
	second := start(3)
	defer second.Close()
	next(second, 11)
	check("the second", second.Result(), "", 11)
	check("of the session", s.Result(), "", 11)
	check("the first, after the second has begun", first.Result(), FinishLength, 11, 12)
}

func TestCountersAreTheMeanOfDecodedTokens(t *testing.T) {
	f := newFake(t, nil)
	s := fakeEngine(f, nil).NewSession()
	generate(t, s, []int{1, 2}, GenerateOptions{MaxTokens: 4})
	// Call 1 is the prompt; calls 2, 3 and 4 count 20, 30 and 40.
	if c := s.Result().Counters; c.Submits != 1 || c.WeightBytes != 30 {
		t.Errorf("got %+v, want 1 submit and 30 bytes", c)
	}
	generate(t, s, []int{1, 2}, GenerateOptions{MaxTokens: 1})
	if c := s.Result().Counters; c != (pipeline.Counters{}) {
		t.Errorf("nothing was decoded, got %+v", c)
	}
}

func TestSamplingSeesTheWholeHistory(t *testing.T) {
	f := newFake(t, map[int]int{2: 50, 3: 50})
	s := fakeEngine(f, nil).NewSession()
	// The logit of 50 is 1 and others are 0: after one 50 the penalty takes it below them, and 0 is the lowest id that is left.
	o := GenerateOptions{MaxTokens: 2, Sampling: sample.Params{PresencePenalty: 2}}
	generate(t, s, []int{1, 2}, o)
	if diff := cmp.Diff([]int{50, 0}, s.Result().Tokens); diff != "" {
		t.Errorf("tokens (-want +got):\n%s", diff)
	}
}

func TestLogitsAtEveryPosition(t *testing.T) {
	f := newFake(t, follow(1, 5, 6, 7))
	f.context = 200
	s := fakeEngine(f, nil).NewSession()
	for _, c := range []struct {
		n    int
		all  bool
		want int
	}{{3, true, 3}, {3, false, 1}, {130, true, 130}, {130, false, 1}} {
		rows := 0
		for row, err := range s.Logits(t.Context(), make([]int, c.n), c.all) {
			if err != nil {
				t.Fatal(err)
			}
			if len(row) != f.vocab {
				t.Fatalf("row of %d logits", len(row))
			}
			if at := rows + 1; c.all && row[f.script[at]] != 1 {
				t.Errorf("row %d is not that of position %d", rows, rows)
			}
			rows++
		}
		if rows != c.want {
			t.Errorf("%d tokens, all %t: %d rows, want %d", c.n, c.all, rows, c.want)
		}
	}
}
