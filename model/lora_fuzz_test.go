package model

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"pumice/checkpoint"
	"pumice/internal/bounded"
)

// adapterWeights is a safetensors file of zeros, F32 tensors by their shapes.
func adapterWeights(shapes map[string][]int) []byte {
	header := map[string]any{}
	at := 0
	for name, shape := range shapes {
		n := 4
		for _, d := range shape {
			n *= d
		}
		header[name] = map[string]any{"dtype": "F32", "shape": shape, "data_offsets": []int{at, at + n}}
		at += n
	}
	text, err := json.Marshal(header)
	if err != nil {
		panic(err)
	}
	b := binary.LittleEndian.AppendUint64(nil, uint64(len(text)))
	return append(append(b, text...), make([]byte, at)...)
}

const smallAdapter = `{"peft_type": "LORA", "r": 2, "lora_alpha": 4}`

func smallFactors() map[string][]int {
	return map[string][]int{"base_model.model.m.q_proj.lora_A.weight": {2, 3}, "base_model.model.m.q_proj.lora_B.weight": {5, 2}}
}

// readAdapter opens an adapter and decodes its factors, as loading does.
func readAdapter(ctx context.Context, dir string) error {
	list, err := openAdapters(ctx, []LoRA{{Path: dir}})
	if err != nil {
		return err
	}
	defer list.Close()
	return checkpoint.Guard(func() error {
		for _, u := range list[0].updates {
			if err := u.open(ctx); err != nil {
				return err
			}
			values := make([]float32, u.a.Cols())
			for r := range min(u.b.Rows(), 4) {
				u.add(values, r)
			}
			u.close()
		}
		return nil
	})
}

func writeAdapter(t testing.TB, config string, weights []byte) string {
	dir := t.TempDir()
	for name, data := range map[string][]byte{"adapter_config.json": []byte(config), "adapter_model.safetensors": weights} {
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func FuzzAdapter(f *testing.F) {
	f.Add(smallAdapter, adapterWeights(smallFactors()))
	f.Add(`{"peft_type": "LORA", "r": 2, "lora_alpha": 1e300, "use_rslora": true, "rank_pattern": {"q_proj": 7}, "alpha_pattern": {"q_proj": 3}}`,
		adapterWeights(map[string][]int{"base_model.model.q_proj.lora_A.weight": {7, 9}, "base_model.model.q_proj.lora_B.weight": {8, 7}}))
	f.Add(`{"peft_type": "LORA", "r": 9223372036854775807, "lora_alpha": -1, "target_modules": "((a+)+)+$", "bias": "none"}`, []byte("PK\x03\x04"))
	f.Fuzz(func(t *testing.T, config string, weights []byte) {
		dir := writeAdapter(t, config, weights)
		bounded.Run(t, len(config)+len(weights), func(ctx context.Context) {
			var format *checkpoint.FormatError
			var unsupported *checkpoint.UnsupportedError
			var refused *ConfigError
			err := readAdapter(ctx, dir)
			if err != nil && !errors.As(err, &format) && !errors.As(err, &unsupported) && !errors.As(err, &refused) && !errors.Is(err, context.Canceled) {
				t.Errorf("untyped error: %v", err)
			}
		})
	})
}

// TestAdaptersCostWhatTheirFilesDo reads adapters that are made to cost more than their size.
func TestAdaptersCostWhatTheirFilesDo(t *testing.T) {
	patterns := func(key string, n int) string {
		var b strings.Builder
		fmt.Fprintf(&b, `{"peft_type": "LORA", "r": 1, "lora_alpha": 1, %q: {`, key)
		for i := range n {
			fmt.Fprintf(&b, `"p%d": %d,`, i, i+1)
		}
		return b.String() + `"q": 1}}`
	}
	modules := map[string][]int{}
	for i := range 1 << 12 {
		modules[fmt.Sprintf("base_model.model.%s.%d.lora_A.weight", strings.Repeat("a.", 100), i)] = []int{1, 1}
		modules[fmt.Sprintf("base_model.model.%s.%d.lora_B.weight", strings.Repeat("a.", 100), i)] = []int{1, 1}
	}
	for _, c := range []struct {
		name    string
		config  string
		weights []byte
	}{
		{"many alphas", patterns("alpha_pattern", 1<<14-2), adapterWeights(modules)},
		{"many ranks", patterns("rank_pattern", 1<<14-2), adapterWeights(modules)},
		{"a regular expression that backtracks", strings.Replace(smallAdapter, "{", `{"target_modules": "`+strings.Repeat("(a*)*", 1000)+`$",`, 1), adapterWeights(smallFactors())},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := writeAdapter(t, c.config, c.weights)
			bounded.Run(t, len(c.config)+len(c.weights), func(ctx context.Context) {
				if err := readAdapter(ctx, dir); err != nil && !errors.Is(err, context.Canceled) {
					t.Error(err)
				}
			})
		})
	}
}

func TestShrinkingFactorsAreErrors(t *testing.T) {
	t.Parallel()
	dir := writeAdapter(t, smallAdapter, adapterWeights(smallFactors()))
	list, err := openAdapters(t.Context(), []LoRA{{Path: dir}})
	if err != nil {
		t.Fatal(err)
	}
	defer list.Close()
	if err := os.Truncate(filepath.Join(dir, "adapter_model.safetensors"), 0); err != nil {
		t.Fatal(err)
	}
	var format *checkpoint.FormatError
	if err := list[0].updates["m.q_proj"].open(t.Context()); !errors.As(err, &format) {
		t.Errorf("got %v, want a FormatError", err)
	}
}

func TestAdaptersStopWhenCancelled(t *testing.T) {
	t.Parallel()
	dir := writeAdapter(t, smallAdapter, adapterWeights(smallFactors()))
	list, err := openAdapters(t.Context(), []LoRA{{Path: dir}})
	if err != nil {
		t.Fatal(err)
	}
	defer list.Close()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := list[0].updates["m.q_proj"].open(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("open: %v", err)
	}
	if _, err := openAdapters(ctx, []LoRA{{Path: dir}}); !errors.Is(err, context.Canceled) {
		t.Errorf("openAdapters: %v", err)
	}
}
