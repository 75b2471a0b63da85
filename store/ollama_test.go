package store

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

const digest = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"

// manifest is one of ollama's, with a model of five bytes and more layers.
func manifest(layers string) string {
	return fmt.Sprintf(`{"schemaVersion":2,"config":{"digest":"sha256:x"},"layers":[{"mediaType":"application/vnd.ollama.image.model","digest":"sha256:%s","size":5}%s]}`, digest, layers)
}

func TestOllamasModels(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("OLLAMA_MODELS", dir)
	blob := filepath.Join(dir, "blobs", "sha256-"+digest)
	put(t, blob, "GGUF.")
	for path, text := range map[string]string{
		"registry.ollama.ai/library/small/latest":  manifest(`,{"mediaType":"application/vnd.ollama.image.template","digest":"sha256:y","size":3}`),
		"registry.ollama.ai/library/small/1b-q4_0": manifest(""),
		"registry.ollama.ai/user/own/v1":           manifest(""),
		"hf.co/owner/repo-GGUF/Q4_K_M":             manifest(""),
		"localhost:5000/a/b/c":                     manifest(""),
		"registry.ollama.ai/library/adapted/a":     manifest(`,{"mediaType":"application/vnd.ollama.image.adapter","digest":"sha256:` + digest + `","size":5}`),
		"registry.ollama.ai/library/several/a":     manifest(`,{"mediaType":"application/vnd.ollama.image.model","digest":"sha256:` + digest + `","size":5}`),
		"registry.ollama.ai/library/cut/a":         strings.Replace(manifest(""), `"size":5`, `"size":6`, 1),
		"registry.ollama.ai/library/hostile/a":     strings.Replace(manifest(""), digest, "../../../etc/passwd", 1),
		"registry.ollama.ai/library/none/a":        `{"layers":[]}`,
		"registry.ollama.ai/library/broken/a":      `{"layers":`,
	} {
		put(t, filepath.Join(dir, "manifests", path), text)
	}
	good := []string{"ollama:hf.co/owner/repo-GGUF:Q4_K_M", "ollama:localhost:5000/a/b:c", "ollama:small:1b-q4_0", "ollama:small:latest", "ollama:user/own:v1"}
	for _, name := range append(good, "ollama:small", "ollama:library/small", "ollama:registry.ollama.ai/library/small:latest") {
		if path, err := Find(name); err != nil || path != blob {
			t.Errorf("%s: %q, %v", name, path, err)
		}
	}
	for name, says := range map[string]string{
		"ollama:big": "ollama pull fetches it", "ollama:small:2b": "ollama pull", "ollama:adapted:a": "adapter", "ollama:several:a": "several files",
		"ollama:cut:a": "missing or incomplete", "ollama:hostile:a": "digest", "ollama:none:a": "no GGUF file", "ollama:broken:a": "unexpected end",
		"ollama:": "want ollama:", "ollama:../x": "want ollama:", "ollama:a/../x": "want ollama:", "ollama:a:..": "want ollama:", "ollama:a/b/c/d": "want ollama:", "ollama:a:b:c": "want ollama:",
	} {
		if path, err := Find(name); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%s: %q, %v; want %q", name, path, err, says)
		}
	}
	all, err := listOllama()
	if err != nil {
		t.Fatal(err)
	}
	var complete []string
	for _, m := range all {
		if !m.Incomplete {
			complete = append(complete, m.Name)
			if m.Bytes != 5 || m.Path != blob || m.Source != Ollama {
				t.Errorf("%+v", m)
			}
		}
	}
	if strings.Join(complete, " ") != strings.Join(good, " ") || len(all) != len(good)+5 {
		t.Errorf("%q of %d models", complete, len(all))
	}
	if _, err := Remove("ollama:small"); err == nil || !strings.Contains(err.Error(), "ollama rm") {
		t.Errorf("%v", err)
	}
	if err := os.Remove(blob); err != nil {
		t.Fatal(err)
	}
	var missing *NotFoundError
	if _, err := Find("ollama:small"); !errors.As(err, &missing) || missing.Pull {
		t.Errorf("%v", err)
	}
}
