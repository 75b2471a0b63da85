package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"testing"
)

// TestWrittenFilesRunAlike evaluates each family's fixture and the GGUF file that quantize writes
// of it, in float32: the logits are the same within what orders of adding differ by.
func TestWrittenFilesRunAlike(t *testing.T) {
	if testing.Short() {
		t.Skip("-short: the run on the main driver has it")
	}
	if !hasDevice(t) {
		t.Skip("no Vulkan device")
	}
	t.Setenv("XDG_CACHE_HOME", t.TempDir())
	fixtures, err := os.ReadDir(filepath.Join(top(t), "testdata", "fixtures"))
	if err != nil {
		t.Fatal(err)
	}
	tokens := make([]int, 36) // of Mistral's window of 40
	for i := range tokens {
		tokens[i] = 3 + 13*i%500
	}
	for _, entry := range fixtures {
		if !entry.IsDir() {
			continue
		}
		t.Run(entry.Name(), func(t *testing.T) {
			dir := filepath.Join(top(t), "testdata", "fixtures", entry.Name())
			logits := func(path string) []float32 {
				output := filepath.Join(t.TempDir(), "logits")
				pumiceRun(t, "logits", path, "--tokens", commas(tokens), "--all", "--output", output, "--quiet", "--dtype", "f32", "--kv-type", "f32", "--context", "40")
				return floats(t, readAll(t, output))
			}
			compute := logits
			if entry.Name() == "bert" { // has no logits
				compute = func(path string) (vector []float32) {
					out := pumiceRun(t, "embed", path, "The quick brown fox", "--quiet", "--dtype", "f32", "--kv-type", "f32")
					if err := json.Unmarshal([]byte(out), &vector); err != nil {
						t.Fatal(err)
					}
					return vector
				}
			}
			want := compute(dir)
			types := []string{"f32"}
			switch entry.Name() { // stored so: nothing is lost
			case "llama":
				types = append(types, "f16")
			case "xverse":
				types = append(types, "bf16")
			}
			for _, d := range types {
				file := filepath.Join(t.TempDir(), d+".gguf")
				pumiceRun(t, "quantize", dir, file, "--type", d, "--quiet")
				near(t, d, compute(file), want, 1e-4)
			}
		})
	}
}
