package model

import (
	"errors"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"pumice/checkpoint"
	"pumice/internal/dtype"
	"pumice/internal/gputest"
	"pumice/pipeline"
)

// texts are evaluated by an encoder together.
var encoderTexts = [][]int{{2, 9, 3}, {2, 3}, {7}, {2, 30, 31, 32, 33, 34, 35, 36, 37, 38, 39, 40, 41, 42, 43, 44, 45, 46, 47, 48, 3}}

// TestEncoderSeesWholeTexts: the first row of a text depends on its last token, and rows of one text not on the others.
func TestEncoderSeesWholeTexts(t *testing.T) {
	for _, path := range paths(t) {
		t.Run(string(path), func(t *testing.T) {
			x := load(t, filepath.Join(fixtureDir, "bert"), exact, pipeline.Options{Path: path})
			rows := func(texts ...[]int) []float32 {
				out, err := x.Score(t.Context(), x.text, texts, everyHidden)
				if err != nil {
					t.Fatal(err)
				}
				return slices.Clone(out.Hidden)
			}
			size := x.cfg.HiddenSize
			together := rows(encoderTexts...)
			for i, text := range encoderTexts {
				alone := rows(text)
				compare(t, "a text among others", together[:len(alone)], alone, 1e-4)
				if together = together[len(alone):]; len(text) < 2 {
					continue
				}
				other := slices.Clone(text)
				other[len(other)-1]++
				if slices.Equal(rows(other)[:size], alone[:size]) {
					t.Errorf("text %d: its first row is the same with another last token", i)
				}
			}
			// As many as a step has, and then as long as the model's positions.
			sixteen := slices.Repeat([][]int{{2, 11, 12, 3}}, MaxSpans)
			if got := rows(sixteen...); !slices.Equal(got[:4*size], got[len(got)-4*size:]) {
				t.Error("the last of sixteen equal texts has other rows than the first")
			}
			long := slices.Repeat([]int{5, 6, 7, 8}, x.Context()/4)
			if got := len(rows(long)); got != x.Context()*size {
				t.Errorf("%d values for %d tokens", got, x.Context())
			}
		})
	}
}

// TestEncodersHaveNoNextToken: whatever asks for logits, or goes on with a text, is refused.
func TestEncodersHaveNoNextToken(t *testing.T) {
	x := load(t, filepath.Join(fixtureDir, "bert"), Options{}, pipeline.Options{})
	if x.Context() != 160 || x.opts.Chunk != 160 {
		t.Errorf("a context of %d in chunks of %d, want the model's 160 positions", x.Context(), x.opts.Chunk)
	}
	spans := []Span{{Sequence: x.text, Tokens: []int{2, 3}}}
	_, run := x.Run(t.Context(), spans, Tail{Rows: LastRows, Top: 1})
	_, prefill := x.Run(t.Context(), spans, Tail{})
	_, two := x.Run(t.Context(), []Span{spans[0], {Sequence: newText(t, x.Model), Tokens: []int{2}}}, Tail{})
	_, decode := x.Decode(t.Context(), x.text, 2, 1, nil)
	_, score := x.Score(t.Context(), x.text, [][]int{{2, 3}}, lastLogits)
	for i, err := range []error{run, prefill, two, decode, score} {
		if !errors.Is(err, ErrEncoder) {
			t.Errorf("%d: %v", i, err)
		}
	}
	if _, err := x.Score(t.Context(), x.text, [][]int{make([]int, 161)}, everyHidden); !errors.Is(err, ErrContextFull) ||
		!strings.Contains(err.Error(), "161 tokens at position 0 of a context of 160") {
		t.Errorf("a long text: %v", err)
	}
}

// TestEncoderContextIsCut: there is no vector for a position beyond the model's.
func TestEncoderContextIsCut(t *testing.T) {
	for asked, want := range map[int]int{0: 160, 64: 64, 4096: 160} {
		x := load(t, filepath.Join(fixtureDir, "bert"), Options{Context: asked, Chunk: 32}, pipeline.Options{})
		if x.Context() != want || x.opts.Chunk != want || x.Memory().CacheTokens != (want+63)/64*64 {
			t.Errorf("asked for %d: a context of %d, chunks of %d, a cache of %d tokens", asked, x.Context(), x.opts.Chunk, x.Memory().CacheTokens)
		}
	}
}

// TestEncoderNames runs a checkpoint that was saved with its head, as BertForMaskedLM: names have a prefix.
func TestEncoderNames(t *testing.T) {
	dir := changed(t, "bert", func(name string) string { return "bert." + name },
		func(s string) string { return strings.Replace(s, "BertModel", "BertForMaskedLM", 1) })
	prefixed, bare := load(t, dir, exact, pipeline.Options{}), load(t, filepath.Join(fixtureDir, "bert"), exact, pipeline.Options{})
	want, err := bare.Score(t.Context(), bare.text, encoderTexts, everyHidden)
	check(t, err)
	got, err := prefixed.Score(t.Context(), prefixed.text, encoderTexts, everyHidden)
	check(t, err)
	if !slices.Equal(got.Hidden, want.Hidden) {
		t.Error("results differ from those of the model without its head")
	}
}

// TestEncoderOnTwoDevices: the residual stream goes on from one to the other.
func TestEncoderOnTwoDevices(t *testing.T) {
	long(t)
	x, y := loadSplit(t, filepath.Join(fixtureDir, "bert"), exact, 2), load(t, filepath.Join(fixtureDir, "bert"), exact, pipeline.Options{})
	want, err := y.Score(t.Context(), y.text, encoderTexts, everyHidden)
	check(t, err)
	got, err := x.Score(t.Context(), x.text, encoderTexts, everyHidden)
	check(t, err)
	compare(t, "on two devices", got.Hidden, want.Hidden, 1e-5)
}

// TestEncoderCaches: with keys and values of every type, results are near those of float32.
func TestEncoderCaches(t *testing.T) {
	o := exact
	whole := load(t, filepath.Join(fixtureDir, "bert"), o, pipeline.Options{})
	out, err := whole.Score(t.Context(), whole.text, encoderTexts, everyHidden)
	check(t, err)
	want := slices.Clone(out.Hidden)
	for kv, bound := range map[dtype.DType]float64{dtype.F16: 0.01, dtype.Q8_0: 0.1} {
		o.KVType = kv
		x := load(t, filepath.Join(fixtureDir, "bert"), o, pipeline.Options{})
		got, err := x.Score(t.Context(), x.text, encoderTexts, everyHidden)
		check(t, err)
		compare(t, kv.String(), got.Hidden, want, bound)
	}
}

// TestOtherEncodersAreRefused names what of the configuration is not BERT.
func TestOtherEncodersAreRefused(t *testing.T) {
	m, err := pipeline.NewManager(gputest.Open(t), pipeline.Options{})
	check(t, err)
	defer m.Close()
	for _, c := range []struct{ old, new, want string }{
		{`"position_embedding_type": "absolute"`, `"position_embedding_type": "relative_key"`, "position_embedding_type"},
		{`{`, `{"is_decoder": true,`, "is_decoder"},
		{`{`, `{"add_cross_attention": true,`, "add_cross_attention"},
		{`{`, `{"is_causal": true,`, "is_causal"},
		{`"hidden_act": "gelu"`, `"hidden_act": "relu"`, "hidden_act"},
		{`"type_vocab_size": 2`, `"type_vocab_size": 0`, "type_vocab_size"},
		{`"type_vocab_size": 2`, `"type_vocab_size": 3`, "token_type_embeddings"},
		{`"max_position_embeddings": 160`, `"max_position_embeddings": 161`, "position_embeddings"},
		{`"num_attention_heads": 2`, `"num_attention_heads": 3`, "head_dim"},
	} {
		dir := changed(t, "bert", func(name string) string { return name }, func(s string) string { return strings.Replace(s, c.old, c.new, 1) })
		file, err := checkpoint.Open(t.Context(), dir)
		check(t, err)
		if x, err := Load(t.Context(), file, Options{}, m); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v", c.new, err)
			if err == nil {
				check(t, x.Close())
			}
		}
		check(t, file.Close())
	}
}
