package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestFallback has another program take over what llama-server has and pumice doesn't, with the same arguments.
func TestFallback(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	other := filepath.Join(dir, "other")
	if err := os.WriteFile(other, []byte("#!/bin/sh\necho \"$*\"\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	foreign := filepath.Join(dir, "foreign")
	if err := writeXVERSE(foreign, filepath.Join(top(t), "tokenizer", "testdata", "xverse-a")); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(foreign, "config.json"), []byte(`{"architectures":["RwkvForCausalLM"],"model_type":"rwkv"}`), 0o644); err != nil {
		t.Fatal(err)
	}
	for _, x := range []struct{ args, refusal string }{
		{"-m F.gguf --port 0 --mmproj P.gguf", "error: llama-server --mmproj: images and sounds are not supported"},
		{"-m F.gguf --port 0 --embeddings --reranking", "error: llama-server --reranking: reranking is not supported"},
		{"-m " + foreign + " --port 0 --jinja", "RwkvForCausalLM"},
	} {
		args := append([]string{"llama-server"}, strings.Fields(x.args)...)
		c := command(t, args...)
		c.Env = append(c.Env, "PUMICE_FALLBACK_SERVER="+other)
		if out, err := c.Output(); err != nil || strings.TrimSpace(string(out)) != x.args {
			t.Errorf("%s: the other program has %q, %v", x.args, out, err)
		}
		if out, err := command(t, args...).CombinedOutput(); err == nil || !strings.Contains(string(out), x.refusal) {
			t.Errorf("%s, without another program: %s, %v", x.args, out, err)
		}
	}
}
