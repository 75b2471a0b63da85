package pumice

import (
	"errors"
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"pumice/model"
)

// lengths returns texts of so many tokens; those of text i are 10 i and the numbers after it.
func lengths(sizes ...int) (texts [][]int) {
	for i, n := range sizes {
		text := make([]int, n)
		for j := range text {
			text[j] = 10*i + j
		}
		texts = append(texts, text)
	}
	return texts
}

// TestEmbedFillsBatches: as many texts are evaluated together as a chunk has room for, in order, and each vector is made of
// its own text's rows.
func TestEmbedFillsBatches(t *testing.T) {
	for _, c := range []struct {
		name    string
		pooling Pooling
		sizes   []int
		context int
		calls   []int // tokens evaluated by each call, negative for several texts at once
	}{
		{"one", PoolingLast, []int{3}, 64, []int{3}},
		{"a batch of tokens", PoolingLast, []int{3, 4, 3, 1, 9}, 64, []int{-10, -10}},
		{"a batch of sequences", PoolingLast, []int{1, 1, 1, 1, 1}, 64, []int{-4, 1}},
		{"too long for a batch", PoolingLast, []int{3, 11, 2, 2}, 64, []int{3, 11, -4}},
		{"a short context", PoolingLast, []int{3, 3, 3}, 6, []int{-6, 3}},
		{"mean", PoolingMean, []int{3, 4, 3, 9}, 64, []int{-10, 9}},
		{"mean of several chunks", PoolingMean, []int{2, 2*PromptChunk + 3, 2, 2}, 2000, []int{2, PromptChunk, PromptChunk, 3, -4}},
		{"first token", PoolingCLS, []int{3, 60, 3, 9, 2}, 64, []int{-4, 1}},
	} {
		t.Run(c.name, func(t *testing.T) {
			f := newFake(t, nil)
			f.context = c.context
			texts := lengths(c.sizes...)
			var progress []int
			got, err := fakeEngine(f, nil).EmbedTokens(t.Context(), texts, EmbedOptions{Pooling: c.pooling, Normalization: NormalizeNone,
				Progress: func(done, total int) {
					if progress = append(progress, done); total != len(texts) {
						t.Errorf("%d texts in all", total)
					}
				}})
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(c.calls, f.calls); diff != "" {
				t.Errorf("evaluated (-want +got):\n%s", diff)
			}
			var want [][]float32
			for _, text := range texts {
				at := map[Pooling]float32{PoolingLast: float32(len(text) - 1), PoolingMean: float32(len(text)-1) / 2}[c.pooling]
				want = append(want, []float32{float32(text[0]) + at, at, 4})
			}
			if diff := cmp.Diff(want, got.Vectors); diff != "" {
				t.Errorf("vectors (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(c.sizes, got.Tokens); diff != "" {
				t.Errorf("tokens (-want +got):\n%s", diff)
			}
			if progress[len(progress)-1] != len(texts) || got.Counters.Submits != int64(len(c.calls)) || got.Normalized || got.Pooling != c.pooling {
				t.Errorf("progress %v, %+v", progress, got)
			}
		})
	}
}

func TestEmbedNormalizesAndCuts(t *testing.T) {
	e := fakeEngine(newFake(t, nil), nil)
	text := [][]int{{0, 3}} // its last row is 3, 1, 4
	unit := func(v ...float64) (out []float32) {
		sum := 0.0
		for _, x := range v {
			sum += x * x
		}
		for _, x := range v {
			out = append(out, float32(x/math.Sqrt(sum)))
		}
		return out
	}
	for _, c := range []struct {
		o    EmbedOptions
		want []float32
	}{
		{EmbedOptions{}, unit(3, 1, 4)},
		{EmbedOptions{Dimensions: 2}, unit(3, 1)},
		{EmbedOptions{Dimensions: 3, Normalization: NormalizeL2}, unit(3, 1, 4)},
		{EmbedOptions{Dimensions: 1, Normalization: NormalizeNone}, []float32{3}},
		{EmbedOptions{Dimensions: 2, Pooling: PoolingCLS}, []float32{0, 0}}, // of length 0
	} {
		got, err := e.EmbedTokens(t.Context(), text, c.o)
		if err != nil || got.Normalized != (c.o.Normalization != NormalizeNone) {
			t.Fatal(got, err)
		}
		if diff := cmp.Diff([][]float32{c.want}, got.Vectors); diff != "" {
			t.Errorf("%+v (-want +got):\n%s", c.o, diff)
		}
	}
}

func TestEmbedErrors(t *testing.T) {
	lost := errors.New("lost")
	for _, c := range []struct {
		name  string
		texts [][]int
		o     EmbedOptions
		err   error // of the device
		want  string
		index int // of the text; -1 if the error is about none
	}{
		{"no texts", nil, EmbedOptions{}, nil, "no texts to embed", -1},
		{"an empty text", [][]int{{1}, {}}, EmbedOptions{}, nil, "pumice: text 1: the prompt is empty", 1},
		{"an unknown token", [][]int{{1}, {2}, {1, 6000}}, EmbedOptions{}, nil, "pumice: text 2: model: token 1 is 6000", 2},
		{"a long text", lengths(2, 65), EmbedOptions{}, nil, "text 1: the prompt has 65 tokens, the context holds 64", 1},
		{"not finite", [][]int{{1}, {2, 5999}}, EmbedOptions{}, nil, "text 1: component 1 of the embedding is NaN", 1},
		{"not finite alone", [][]int{{5999}}, EmbedOptions{Pooling: PoolingMean}, nil, "text 0: component 1", 0},
		{"the device", [][]int{{1}, {2}}, EmbedOptions{}, lost, "lost", -1},
		{"pooling", [][]int{{1}}, EmbedOptions{Pooling: "max"}, nil, `Pooling "max": want one of last, mean, cls`, -1},
		{"normalization", [][]int{{1}}, EmbedOptions{Normalization: "l1"}, nil, `Normalization "l1": want`, -1},
		{"dimensions", [][]int{{1}}, EmbedOptions{Dimensions: 4}, nil, `Dimensions "4": want 0 (all) or 1 to 3`, -1},
		{"negative dimensions", [][]int{{1}}, EmbedOptions{Dimensions: -1}, nil, `Dimensions "-1"`, -1},
	} {
		t.Run(c.name, func(t *testing.T) {
			f := newFake(t, nil)
			f.err = c.err
			got, err := fakeEngine(f, nil).EmbedTokens(t.Context(), c.texts, c.o)
			if err == nil || !strings.Contains(err.Error(), c.want) || got.Vectors != nil {
				t.Fatalf("got %v, want %q", err, c.want)
			}
			var text *TextError
			if errors.As(err, &text) != (c.index >= 0) || text != nil && text.Index != c.index {
				t.Errorf("%#v is about another text than %d", err, c.index)
			}
		})
	}
	e := fakeEngine(newFake(t, nil), nil)
	var none *NoTokenizerError
	var about *TextError
	if _, err := e.Embed(t.Context(), []string{"a"}, EmbedOptions{}); !errors.As(err, &none) || errors.As(err, &about) {
		t.Errorf("without a tokenizer: %v", err)
	}
	e.text.tokenizer = xverseTokenizer(t) // adds no tokens
	if _, err := e.Embed(t.Context(), []string{"a", ""}, EmbedOptions{}); !errors.Is(err, ErrEmptyPrompt) || !errors.As(err, &about) || about.Index != 1 {
		t.Errorf("an empty text: %v", err)
	}
	if err := e.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := e.EmbedTokens(t.Context(), [][]int{{1}}, EmbedOptions{}); !errors.Is(err, ErrClosed) {
		t.Errorf("closed: %v", err)
	}
}

// TestEmbedAsTheFilesSay: what the caller does not choose is the model's own.
func TestEmbedAsTheFilesSay(t *testing.T) {
	unknown := errors.New("a dense module is not supported")
	for _, c := range []struct {
		files   model.Embedding
		err     error
		o, want EmbedOptions
	}{
		{model.Embedding{Normalized: true}, nil, EmbedOptions{}, EmbedOptions{Pooling: PoolingLast, Normalization: NormalizeL2, Dimensions: 3}},
		{model.Embedding{Pooling: PoolingMean}, nil, EmbedOptions{}, EmbedOptions{Pooling: PoolingMean, Normalization: NormalizeNone, Dimensions: 3}},
		{model.Embedding{Pooling: PoolingMean}, nil, EmbedOptions{Pooling: PoolingCLS, Normalization: NormalizeL2, Dimensions: 1},
			EmbedOptions{Pooling: PoolingCLS, Normalization: NormalizeL2, Dimensions: 1}},
		{model.Embedding{Pooling: PoolingCLS, Normalized: true}, nil, EmbedOptions{}, EmbedOptions{Pooling: PoolingCLS, Normalization: NormalizeL2, Dimensions: 3}},
		{model.Embedding{Normalized: true}, unknown, EmbedOptions{Pooling: PoolingLast}, EmbedOptions{Pooling: PoolingLast, Normalization: NormalizeL2, Dimensions: 3}},
	} {
		e := fakeEngine(newFake(t, nil), nil)
		e.model.embed, e.model.embedErr = c.files, c.err
		got, err := e.embedding(c.o)
		if diff := cmp.Diff(c.want, got); err != nil || diff != "" {
			t.Errorf("%+v: %v (-want +got):\n%s", c, err, diff)
		}
		if _, err := e.embedding(EmbedOptions{}); err != c.err {
			t.Errorf("%+v: %v", c, err)
		}
	}
}

// TestEncodersPoolWholeTexts: the first token's row needs all of a text, which is evaluated at once, also by itself.
func TestEncodersPoolWholeTexts(t *testing.T) {
	for pooling, at := range map[Pooling]func(n int) float32{
		PoolingCLS: func(int) float32 { return 0 }, PoolingLast: func(n int) float32 { return float32(n - 1) },
		"": func(n int) float32 { return float32(n-1) / 2 }, // the mean, where nothing says another
	} {
		f := newFake(t, nil)
		e := fakeEngine(f, nil)
		e.encoder = true
		sizes := []int{3, 7, 9, 1, 2}
		got, err := e.EmbedTokens(t.Context(), lengths(sizes...), EmbedOptions{Pooling: pooling, Normalization: NormalizeNone})
		if err != nil {
			t.Fatal(err)
		}
		var want [][]float32
		for i, n := range sizes {
			want = append(want, []float32{float32(10*i) + at(n), at(n), 4})
		}
		if diff := cmp.Diff(want, got.Vectors); diff != "" {
			t.Errorf("%s: vectors (-want +got):\n%s", pooling, diff)
		}
		if diff := cmp.Diff([]int{-10, -10, -2}, f.calls); diff != "" {
			t.Errorf("%s: evaluated (-want +got):\n%s", pooling, diff)
		}
	}
}

// TestSessionsGoOnAfterEmbed: texts of Embed take none of a session's pages.
func TestSessionsGoOnAfterEmbed(t *testing.T) {
	f := newFake(t, follow(3, 11, 12, 13))
	e := fakeEngine(f, nil)
	s := e.NewSession()
	generate(t, s, []int{1, 2, 3}, GenerateOptions{MaxTokens: 2})
	if _, err := e.EmbedTokens(t.Context(), [][]int{{1, 2}, {1, 2, 3, 11}}, EmbedOptions{}); err != nil {
		t.Fatal(err)
	}
	f.calls = nil
	generate(t, s, []int{1, 2, 3, 11, 12}, GenerateOptions{MaxTokens: 1})
	if r := s.Result(); r.Stats.CachedN != 4 || !slices.Equal(r.Tokens, []int{13}) || !slices.Equal(f.calls, []int{1}) {
		t.Errorf("%d tokens reused, then %v; evaluated %v", r.Stats.CachedN, r.Tokens, f.calls)
	}
}
