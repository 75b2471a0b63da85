package model

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"pumice/checkpoint"
	"pumice/internal/dtype"
	"pumice/internal/gputest"
	"pumice/pipeline"
	"pumice/pipeline/kernels"
)

// rewritten is a directory with a fixture's tensors in float32 after edit, and its configuration with the keys of
// config replaced.
func rewritten(t *testing.T, fixture string, config map[string]any, edit func(tensors map[string]stored)) string {
	t.Helper()
	from, dir := filepath.Join(fixtureDir, fixture), t.TempDir()
	c, err := checkpoint.Open(t.Context(), from)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { check(t, c.Close()) }()
	tensors := map[string]stored{}
	for _, name := range c.Names() {
		x, _ := c.Tensor(name)
		s := stored{dtype: dtype.F32, shape: x.Shape}
		for i := range x.Rows() {
			row := make([]float32, x.Cols())
			x.DType.Decode(row, x.Row(i, nil))
			s.values = append(s.values, row...)
		}
		tensors[name] = s
	}
	edit(tensors)
	writeSafetensors(t, filepath.Join(dir, "model.safetensors"), tensors)
	b, err := os.ReadFile(filepath.Join(from, "config.json"))
	if err != nil {
		t.Fatal(err)
	}
	keys := map[string]any{}
	if err := json.Unmarshal(b, &keys); err != nil {
		t.Fatal(err)
	}
	maps.Copy(keys, config)
	if b, err = json.Marshal(keys); err != nil {
		t.Fatal(err)
	}
	check(t, os.WriteFile(filepath.Join(dir, "config.json"), b, 0o644))
	return dir
}

// A conversion never makes an ordinary weight of a NaN, an infinity or a weight that the type cannot hold: the load
// fails, and names tensor, row, element and value.
func TestConversionsRefuseWhatTheyWouldHide(t *testing.T) {
	long(t)
	places := map[string]int{ // tensor and element
		"model.embed_tokens.weight": 5*96 + 3, "model.layers.1.mlp.down_proj.weight": 1000, "model.layers.1.mlp.gate_proj.weight": 7,
		"model.layers.0.self_attn.k_proj.weight": 3, "model.layers.0.input_layernorm.weight": 3, "model.layers.0.self_attn.k_proj.bias": 2,
	}
	values := map[string]float64{"NaN": math.NaN(), "+Inf": math.Inf(1), "-Inf": math.Inf(-1), "3e+08": 3e8}
	for what, value := range values {
		for _, name := range slices.Sorted(maps.Keys(places)) {
			var cols int
			dir := rewritten(t, "qwen2", nil, func(tensors map[string]stored) {
				x, ok := tensors[name]
				if !ok {
					t.Fatalf("no tensor %s", name)
				}
				x.values[places[name]] = float32(value)
				cols = x.shape[len(x.shape)-1]
			})
			vector := !strings.Contains(name, "proj.weight") && !strings.Contains(name, "embed")
			types := []dtype.DType{dtype.Q4_0}
			if what == "NaN" && strings.Contains(name, "embed") { // that each type refuses each value is package dtype's test
				types = dtype.Weights()
			}
			for _, d := range types {
				t.Run(fmt.Sprintf("%s of %s as %s", what, name, d), func(t *testing.T) {
					err := loadError(t, dir, d)
					kept := d.ForRow(cols) // which may be F16
					switch {
					case vector && what == "3e+08", !vector && kept == dtype.F32, !vector && kept == dtype.BF16 && what == "3e+08":
						if err != nil {
							t.Errorf("what needs no conversion, or can hold it: %v", err)
						}
						return
					case err == nil:
						t.Fatal("the model was loaded")
					}
					var e *dtype.RangeError
					if !strings.Contains(err.Error(), name) || !strings.Contains(err.Error(), what) || !vector && (!errors.As(err, &e) || e.Row*cols+e.Index != places[name]) {
						t.Errorf("%v", err)
					}
				})
			}
		}
	}
}

// Whatever an evaluation is to leave, logits that are not finite are an error which names their position, and no token
// is chosen.
func TestLogitsMustBeFinite(t *testing.T) {
	ctx := context.Background()
	spoilt := func(name string, at int, value float64) string {
		return rewritten(t, "smollm2", nil, func(tensors map[string]stored) { tensors[name].values[at] = float32(value) })
	}
	tokens := []int{7, 5, 9, 11, 13}
	fails := func(t *testing.T, what string, err error, position int) {
		t.Helper()
		var e *NotFiniteError
		if !errors.As(err, &e) || e.Position != position || !strings.Contains(err.Error(), "not finite") {
			t.Errorf("%s: %v, want an error after position %d", what, err, position)
		}
	}
	t.Run("tails", func(t *testing.T) { // from token 5 on, which is at position 1
		x := load(t, spoilt("model.embed_tokens.weight", 5*96+3, math.NaN()), Options{Context: 64}, pipeline.Options{})
		for _, tail := range []Tail{lastTop, lastCandidates, lastLogits, lastProbs} {
			out, err := x.forward(ctx, tokens, 0, tail)
			fails(t, tail.String(), err, len(tokens)-1)
			if len(out.Choices) != 0 {
				t.Errorf("%s: chose %v", tail, out.Choices)
			}
		}
		// With a tied embedding the NaN is in every position's logit of token 5.
		for _, tail := range []Tail{everyLogits, everyMargin, everyProbs, {Rows: EveryRow, Top: 5, LogProbs: true}} {
			_, err := x.forward(ctx, tokens, 0, tail)
			fails(t, tail.String(), err, 0)
		}
		_, err := x.forward(ctx, tokens, 0, Tail{}) // which nobody looks at
		check(t, err)
		_, err = x.decode(t.Context(), 9, 5, min(4, x.MaxSteps()), nil)
		fails(t, "decode", err, 5)
		_, err = x.decode(t.Context(), 9, 5, 1, &pipeline.Draw{Temperature: 1, TopK: 4, TopP: 1, Uniform: make([]float32, 1)})
		fails(t, "decode of candidates", err, 5)
		_, err = x.score(t.Context(), [][]int{{7, 9}, {5}, {11}}, 0, lastLogits)
		fails(t, "sequences", err, 1)
	})
	t.Run("behind a soft cap", func(t *testing.T) {
		dir := rewritten(t, "gemma2", nil, func(tensors map[string]stored) {
			tensors["model.layers.0.mlp.up_proj.weight"].values[100] = float32(math.NaN())
		})
		x := load(t, dir, Options{Context: 64}, pipeline.Options{})
		_, err := x.forward(ctx, tokens, 0, lastLogits)
		fails(t, "logits", err, len(tokens)-1)
		_, err = x.forward(ctx, tokens, 0, everyProbs)
		fails(t, "log-probabilities", err, 0)
	})
	t.Run("an infinity in one row of the head", func(t *testing.T) {
		dir := rewritten(t, "qwen2", map[string]any{"tie_word_embeddings": false}, func(tensors map[string]stored) {
			head := tensors["model.embed_tokens.weight"]
			head.values = slices.Clone(head.values)
			head.values[5*head.shape[1]] = float32(math.Inf(1))
			tensors["lm_head.weight"] = head
		})
		x := load(t, dir, Options{Context: 64}, pipeline.Options{})
		for _, tail := range []Tail{everyLogits, everyProbs, lastProbs} {
			_, err := x.forward(ctx, tokens, 0, tail)
			want := 0
			if tail.Rows == LastRows {
				want = len(tokens) - 1
			}
			fails(t, tail.String(), err, want)
		}
	})
	t.Run("queries by matrices", func(t *testing.T) {
		m, err := pipeline.NewManager(gputest.Open(t), pipeline.Options{})
		check(t, err)
		available := m.Paths()
		check(t, m.Close())
		if !slices.Contains(available, kernels.CM) {
			t.Skip("the device has no cooperative matrices")
		}
		dir := spoilt("model.layers.2.self_attn.q_proj.weight", 100, math.NaN())
		_, err = load(t, dir, Options{Context: 64}, pipeline.Options{Path: kernels.CM}).forward(ctx, tokens, 0, lastLogits)
		fails(t, "logits", err, len(tokens)-1)
	})
	for _, c := range []struct {
		what, name string
		value      float64
	}{
		{"a NaN in values", "model.layers.0.self_attn.v_proj.weight", math.NaN()}, {"an infinity in keys", "model.layers.1.self_attn.k_proj.weight", math.Inf(1)},
		{"a NaN in the MLP", "model.layers.1.mlp.down_proj.weight", math.NaN()}, {"an infinity in the MLP", "model.layers.0.mlp.gate_proj.weight", math.Inf(-1)},
	} {
		dir := spoilt(c.name, 100, c.value)
		types := []dtype.DType{dtype.F16}
		if strings.Contains(c.name, "attn") {
			types = []dtype.DType{dtype.F16, dtype.Q8_0}
		}
		for _, kv := range types {
			t.Run(fmt.Sprintf("%s/%s", c.what, kv), func(t *testing.T) {
				x := load(t, dir, Options{Context: 64, KVType: kv}, pipeline.Options{})
				_, err := x.forward(ctx, tokens, 0, lastLogits)
				fails(t, "logits", err, len(tokens)-1)
				_, err = x.forward(ctx, tokens, 0, Tail{})
				check(t, err)
				_, err = x.decode(t.Context(), 9, 5, 1, nil)
				fails(t, "decode", err, 5)
			})
		}
	}
}

// MPT's clip and gemma2's soft cap of scores make an ordinary number of a NaN on the device, so such a weight is
// refused.
func TestClampedWeightsMustBeFinite(t *testing.T) {
	for _, c := range []struct {
		fixture, name string
		config        map[string]any
	}{
		{"mpt", "transformer.blocks.1.attn.Wqkv.weight", map[string]any{"attn_config": map[string]any{"alibi": true, "alibi_bias_max": 8, "clip_qkv": 8.0}}},
		{"gemma2", "model.layers.1.self_attn.k_proj.weight", nil},
	} {
		dir := rewritten(t, c.fixture, c.config, func(tensors map[string]stored) {
			x := tensors[c.name]
			x.values[7*x.shape[1]+5] = float32(math.NaN())
		})
		if err := loadError(t, dir, dtype.Invalid); err == nil || !strings.Contains(err.Error(), "tensor "+c.name+": element 5 of row 7 is NaN") {
			t.Errorf("loading: %v", err)
		}
	}
}

// loadError is what is wrong with a model whose weights are converted to a type, or kept with dtype.Invalid.
func loadError(t *testing.T, dir string, d dtype.DType) error {
	t.Helper()
	m, err := pipeline.NewManager(gputest.Open(t), pipeline.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { check(t, m.Close()) }()
	c, err := checkpoint.Open(t.Context(), dir)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { check(t, c.Close()) }()
	x, err := Load(context.Background(), c, Options{Context: 16, DType: d}, m)
	if err == nil {
		check(t, x.Close())
	}
	return err
}
