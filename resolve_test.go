package pumice

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestResolve(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("XDG_CACHE_HOME", dir)
	t.Setenv("HF_HOME", "")
	t.Setenv("HF_HUB_CACHE", "")
	t.Setenv("OLLAMA_MODELS", dir+"/ollama")
	var missing *ModelError
	if _, err := Resolve("smollm2"); !errors.As(err, &missing) || !missing.Hub {
		t.Errorf("the default model: %v; want one that can be fetched", err)
	}
	for _, c := range []struct{ name, says string }{
		{"smollm2", "Q4_1.gguf is not there"},
		{"hf:owner/name", "it is not in " + dir + "/huggingface/hub"},
		{"hf:owner", "want hf:owner/name"},
		{"ollama:name", "ollama pull fetches it"},
		{"ollama:a/b/c/d", "want ollama:"},
		{"no/such/file.gguf", "no such file"},
		{"", "GGUF file"},
	} {
		if _, err := Resolve(c.name); !errors.As(err, &missing) || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%q: %v, want a ModelError that says %q", c.name, err, c.says)
		}
	}
	if path, err := Resolve(dir); err != nil || path != dir {
		t.Errorf("a path: %q, %v", path, err)
	}
	hub := dir + "/huggingface/hub/models--QuantFactory--SmolLM2-135M-Instruct-GGUF/snapshots/ab810cf68114990406fdf996510dd3d3c6adbdf5/SmolLM2-135M-Instruct.Q4_1.gguf"
	if err := errors.Join(os.MkdirAll(filepath.Dir(hub), 0o755), os.WriteFile(hub, nil, 0o644)); err != nil {
		t.Fatal(err)
	}
	if path, err := Resolve("smollm2"); err != nil || path != hub {
		t.Errorf("in the Hub's cache: got %q, %v; want %q", path, err, hub)
	}
	file := dir + "/pumice/models/smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
	if err := os.MkdirAll(dir+"/pumice/models/smollm2", 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if path, err := Resolve("smollm2"); err != nil || path != file {
		t.Errorf("got %q, %v; want %q", path, err, file)
	}
}
