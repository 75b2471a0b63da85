package model

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"pumice/checkpoint"
)

// TestShrinkingFilesFailToLoad cuts a file short while the model is loaded, which must not end the process.
func TestShrinkingFilesFailToLoad(t *testing.T) {
	adapter := newAdapter(6, nil, map[string][3]int{"lm_head": {4, 640, 128}}, "").write(t)
	for _, c := range []struct {
		name   string
		shrink string
		when   func(done, total int64) bool
	}{
		{"matrices", "model.safetensors", func(done, _ int64) bool { return done > 0 }},
		{"vectors", "model.safetensors", func(done, total int64) bool { return done == total }},
		{"adapter", filepath.Join(adapter, "adapter_model.safetensors"), func(done, _ int64) bool { return done > 0 }},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := t.TempDir()
			if err := os.CopyFS(dir, os.DirFS(filepath.Join(fixtureDir, "llama"))); err != nil {
				t.Fatal(err)
			}
			path := c.shrink
			if !filepath.IsAbs(path) {
				path = filepath.Join(dir, path)
			}
			o := Options{Context: 16, Workers: 1, LoRA: []LoRA{{Path: adapter}}}
			o.Progress = func(done, total int64) {
				if c.when(done, total) {
					check(t, os.Truncate(path, 0))
				}
			}
			err := tryLoad(t, dir, o)
			var format *checkpoint.FormatError
			if !errors.As(err, &format) || format.File != path || !strings.Contains(format.Msg, "shrank") {
				t.Errorf("got %v, want that %s shrank", err, path)
			}
		})
	}
}
