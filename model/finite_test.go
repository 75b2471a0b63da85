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
					x, err := Load(context.Background(), m, c, Options{Context: 16, DType: d})
					if err == nil {
						check(t, x.Close())
					}
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
