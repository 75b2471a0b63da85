package pumice

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"pumice/checkpoint"
	"pumice/internal/bounded"
	"pumice/internal/dtype"
	"pumice/internal/ggufwrite"
	"pumice/model"
	"pumice/sample"
)

// withGeneration opens a copy of the llama fixture with another generation_config.json.
func withGeneration(t *testing.T, config string) *checkpoint.Checkpoint {
	t.Helper()
	dir := t.TempDir()
	for _, name := range []string{"config.json", "model.safetensors"} {
		text, err := os.ReadFile(filepath.Join("testdata/fixtures/llama", name))
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name), text, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if config != "" {
		if err := os.WriteFile(filepath.Join(dir, "generation_config.json"), []byte(config), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	c, err := checkpoint.Open(t.Context(), dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

func TestGenerationConfig(t *testing.T) {
	table := sample.Default()
	xverse := table
	xverse.Temperature, xverse.TopK, xverse.TopP, xverse.RepeatPenalty = 0.5, 30, 0.85, 1.1
	greedy := table
	greedy.Temperature = 0
	for _, c := range []struct {
		name, config string
		want         sample.Params
		ends         []int
	}{
		{"absent", "", table, []int{2}},
		{"silent", `{"eos_token_id": null, "top_k": null}`, table, []int{2}},
		{"XVERSE's", `{"eos_token_id": 3, "temperature": 0.5, "top_k": 30, "top_p": 0.85, "repetition_penalty": 1.1, "do_sample": true}`, xverse, []int{3}},
		{"several ends", `{"eos_token_id": [5, 7, 5]}`, table, []int{5, 7}},
		{"do_sample false", `{"temperature": 0.6, "do_sample": false}`, greedy, []int{2}},
	} {
		t.Run(c.name, func(t *testing.T) {
			ck := withGeneration(t, c.config)
			p, err := samplingDefaults(ck)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(c.want, p); diff != "" {
				t.Errorf("sampling (-want +got):\n%s", diff)
			}
			config, err := model.ReadConfig(ck)
			if err != nil {
				t.Fatal(err)
			}
			ends, err := endTokens(ck, config, nil)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(c.ends, ends); diff != "" {
				t.Errorf("end tokens (-want +got):\n%s", diff)
			}
		})
	}
	// A hundred thousand ids take linear time, whether they are all equal or all different.
	for _, c := range []struct {
		name string
		id   func(i int) int
		fail bool
	}{{"one id", func(int) int { return 7 }, false}, {"many ids", func(i int) int { return i }, true}} {
		list := make([]int, 100_000)
		for i := range list {
			list[i] = c.id(i)
		}
		text, err := json.Marshal(map[string]any{"eos_token_id": list})
		if err != nil {
			t.Fatal(err)
		}
		ck := withGeneration(t, string(text))
		config, err := model.ReadConfig(ck)
		if err != nil {
			t.Fatal(err)
		}
		bounded.Run(t, len(text), func(context.Context) {
			if ends, err := endTokens(ck, config, nil); (err != nil) != c.fail || err == nil && !slices.Equal(ends, []int{7}) {
				t.Errorf("%s: %d ends, %v", c.name, len(ends), err)
			}
		})
	}
}

// TestBadGenerationConfigIsTheFiles checks that mistakes in the model's file are not reported as the caller's, which
// are *sample.ParamError.
func TestBadGenerationConfigIsTheFiles(t *testing.T) {
	t.Parallel()
	for config, want := range map[string]string{
		`{"temperature": -5}`:          "temperature: -5: want 0 (greedy) or a finite number",
		`{"temperature": 1e300}`:       "temperature: +Inf: want",
		`{"top_k": -1}`:                "top_k: -1: want 0 (off) or a count",
		`{"top_k": "many"}`:            "top_k: ",
		`{"top_p": 1.5}`:               "top_p: 1.5: want 0 to 1",
		`{"min_p": -0.5}`:              "min_p: -0.5: want 0 to 1",
		`{"repetition_penalty": -1.1}`: "repetition_penalty: -1.1: want",
	} {
		_, err := samplingDefaults(withGeneration(t, config))
		var param *sample.ParamError
		var format *checkpoint.FormatError
		if errors.As(err, &param) || !errors.As(err, &format) || !strings.Contains(err.Error(), "generation_config.json: ") || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %s", config, err, want)
		}
	}
}

func TestGGUFSamplingAndEnds(t *testing.T) {
	path := filepath.Join(t.TempDir(), "model.gguf")
	err := ggufwrite.Write(path, []ggufwrite.KV{
		{Key: "general.architecture", Value: "llama"},
		{Key: "general.sampling.temp", Value: float32(0.25)},
		{Key: "general.sampling.top_k", Value: int32(7)},
		{Key: "general.sampling.penalty_last_n", Value: int32(-1)},
		{Key: "tokenizer.ggml.eos_token_id", Value: uint32(4)},
		{Key: "tokenizer.ggml.eot_token_id", Value: uint32(9)},
	}, []ggufwrite.Tensor{ggufwrite.Float32s("output_norm.weight", dtype.F32, []int{32}, make([]float32, 32))})
	if err != nil {
		t.Fatal(err)
	}
	c, err := checkpoint.Open(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	want := sample.Default()
	want.Temperature, want.TopK = 0.25, 7
	got, err := samplingDefaults(c)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("sampling (-want +got):\n%s", diff)
	}
	ends, err := endTokens(c, &model.Config{EOSTokenIDs: []int{4}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]int{4, 9}, ends); diff != "" {
		t.Errorf("end tokens (-want +got):\n%s", diff)
	}
}
