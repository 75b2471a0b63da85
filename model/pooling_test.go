package model

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"pumice/checkpoint"
	"pumice/internal/dtype"
	"pumice/internal/ggufwrite"
)

func TestEmbeddingOfADirectory(t *testing.T) {
	const (
		transformer = `{"idx": 0, "path": "", "type": "sentence_transformers.models.Transformer"}`
		pool        = `{"idx": 1, "path": "1_Pooling", "type": "sentence_transformers.sentence_transformer.modules.pooling.Pooling"}`
		normalize   = `{"idx": 2, "path": "2_Normalize", "type": "sentence_transformers.models.Normalize"}`
		all         = "[" + transformer + ", " + pool + ", " + normalize + "]"
	)
	for _, c := range []struct {
		name, modules, config string // "" for files that are missing
		want                  Embedding
		err                   string
	}{
		{"no files", "", "", Embedding{"", true}, ""},
		{"Qwen3-Embedding", all, `{"word_embedding_dimension": 1024, "pooling_mode_cls_token": false, "pooling_mode_lasttoken": true, "include_prompt": true}`, Embedding{PoolingLast, true}, ""},
		{"mean", all, `{"pooling_mode_mean_tokens": true}`, Embedding{PoolingMean, true}, ""},
		{"cls", all, `{"pooling_mode_cls_token": true, "pooling_mode_mean_tokens": false}`, Embedding{PoolingCLS, true}, ""},
		{"nothing chosen", all, `{}`, Embedding{PoolingMean, true}, ""},
		{"newer files", all, `{"pooling_mode": "lasttoken"}`, Embedding{PoolingLast, true}, ""},
		{"newer files, one in a list", all, `{"pooling_mode": ["cls"]}`, Embedding{PoolingCLS, true}, ""},
		{"not normalized", "[" + transformer + "," + pool + "]", `{"pooling_mode": "mean"}`, Embedding{PoolingMean, false}, ""},
		{"without modules.json", "", `{"pooling_mode_mean_tokens": true}`, Embedding{PoolingMean, true}, ""},
		{"two modes", all, `{"pooling_mode_cls_token": true, "pooling_mode_mean_tokens": true}`, Embedding{}, `pooling by "cls_token, mean_tokens" is not supported`},
		{"another mode", all, `{"pooling_mode": "weightedmean"}`, Embedding{}, `pooling by "weightedmean" is not supported`},
		{"without the prompt", all, `{"pooling_mode": "mean", "include_prompt": false}`, Embedding{}, `"mean, without the prompt"`},
		{"a dense layer", strings.Replace(all, "Normalize", "Dense", 2), `{"pooling_mode": "mean"}`, Embedding{}, `module 2, "sentence_transformers.models.Dense"`},
		{"no pooling", "[" + transformer + "]", `{"pooling_mode": "mean"}`, Embedding{}, "without a Pooling module"},
		{"a missing configuration", all, "", Embedding{}, "no such file"},
		{"a configuration that is none", all, "[]", Embedding{}, "want a JSON object"},
		{"a wrong type", all, `{"pooling_mode_mean_tokens": 1}`, Embedding{}, "pooling_mode_mean_tokens: want true or false"},
		{"no list", "{}", `{}`, Embedding{}, "want a JSON array"},
		{"a folder elsewhere", strings.Replace(all, "1_Pooling", "../1_Pooling", 1), `{}`, Embedding{}, `[1].path: "../1_Pooling" is not the name of a folder`},
		{"a folder in a folder", strings.Replace(all, "1_Pooling", "a/b", 1), `{}`, Embedding{}, "is not the name of a folder"},
		{"no name of a folder", strings.Replace(all, "1_Pooling", "..", 1), `{}`, Embedding{}, "is not the name of a folder"},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := t.TempDir()
			for name, text := range map[string]string{"modules.json": c.modules, "1_Pooling/config.json": c.config} {
				if text == "" {
					continue
				}
				if err := os.MkdirAll(filepath.Dir(filepath.Join(dir, name)), 0o755); err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			got, err := readEmbedding(dir)
			checkEmbedding(t, got, err, c.want, c.err)
		})
	}
}

func checkEmbedding(t *testing.T, got Embedding, err error, want Embedding, message string) {
	t.Helper()
	switch {
	case message != "":
		if err == nil || !strings.Contains(err.Error(), message) {
			t.Errorf("got %v, want %q", err, message)
		}
	case err != nil || got != want:
		t.Errorf("got %+v, %v; want %+v", got, err, want)
	}
}

func TestEmbeddingOfAGGUFFile(t *testing.T) {
	for _, c := range []struct {
		name string
		kind any // nil for a file without the key
		want Pooling
		err  string
	}{
		{"no key", nil, "", ""}, {"none", uint32(0), "", ""}, {"mean", uint32(1), PoolingMean, ""}, {"cls", uint32(2), PoolingCLS, ""},
		{"last", uint32(3), PoolingLast, ""}, {"unspecified", int32(-1), "", ""},
		{"rank", uint32(4), "", "qwen3.pooling_type 4 is not supported"}, {"a word", "mean", "", "qwen3.pooling_type: want an integer"},
	} {
		t.Run(c.name, func(t *testing.T) {
			meta := []ggufwrite.KV{{Key: "general.architecture", Value: "qwen3"}}
			if c.kind != nil {
				meta = append(meta, ggufwrite.KV{Key: "qwen3.pooling_type", Value: c.kind})
			}
			path := filepath.Join(t.TempDir(), "model.gguf")
			if err := ggufwrite.Write(path, meta, []ggufwrite.Tensor{ggufwrite.Float32s("x", dtype.F32, []int{1}, []float32{1})}); err != nil {
				t.Fatal(err)
			}
			file, err := checkpoint.Open(t.Context(), path)
			if err != nil {
				t.Fatal(err)
			}
			got, err := ReadEmbedding(file)
			checkEmbedding(t, got, err, Embedding{c.want, true}, c.err)
			if err := file.Close(); err != nil {
				t.Error(err)
			}
		})
	}
}

// TestExportsSayHowEmbeddingsAreMade: the GGUF file of an embedding model has its pooling, that of another model none, and a
// note where there is no number for it.
func TestExportsSayHowEmbeddingsAreMade(t *testing.T) {
	const key = "qwen3.pooling_type"
	dense := withoutHead(t, "qwen3", func(s string) string { return s })
	if err := os.WriteFile(filepath.Join(dense, "modules.json"), []byte(`[{"type": "Dense"}]`), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		path  string
		want  any
		notes int
	}{{filepath.Join(fixtureDir, "qwen3-embedding"), uint32(3), 0}, {filepath.Join(fixtureDir, "qwen3"), nil, 0}, {dense, nil, 1}} {
		file, err := checkpoint.Open(t.Context(), c.path)
		if err != nil {
			t.Fatal(err)
		}
		x, err := NewExport(file)
		if err != nil {
			t.Fatal(err)
		}
		var got any
		for _, kv := range x.Pairs {
			if kv.Key == key {
				got = kv.Value
			}
		}
		if got != c.want || len(x.Notes) != c.notes {
			t.Errorf("%s: %s is %v, want %v; notes %q", c.path, key, got, c.want, x.Notes)
		}
		check(t, file.Close())
	}
}
