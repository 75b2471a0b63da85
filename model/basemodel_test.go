package model

import (
	"encoding/binary"
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"pumice/checkpoint"
	"pumice/pipeline"
)

// withoutHead writes the checkpoint of a fixture as it is saved without its head: names lack the prefix "model.". config
// changes the text of config.json.
func withoutHead(t *testing.T, fixture string, config func(string) string) string {
	t.Helper()
	return changed(t, fixture, func(name string) string { return strings.TrimPrefix(name, "model.") }, config)
}

// changed writes the checkpoint of a fixture with other names of its tensors and another config.json.
func changed(t *testing.T, fixture string, name, config func(string) string) string {
	t.Helper()
	dir := t.TempDir()
	read := func(name string) []byte {
		b, err := os.ReadFile(filepath.Join(fixtureDir, fixture, name))
		check(t, err)
		return b
	}
	write := func(name string, b []byte) { check(t, os.WriteFile(filepath.Join(dir, name), b, 0o600)) }
	file := read("model.safetensors")
	n := binary.LittleEndian.Uint64(file)
	var header map[string]json.RawMessage
	check(t, json.Unmarshal(file[8:8+n], &header))
	renamed := map[string]json.RawMessage{}
	for key, entry := range header {
		if key != "__metadata__" {
			key = name(key)
		}
		renamed[key] = entry
	}
	text, err := json.Marshal(renamed)
	check(t, err)
	write("model.safetensors", slices.Concat(binary.LittleEndian.AppendUint64(nil, uint64(len(text))), text, file[8+n:]))
	write("config.json", []byte(config(string(read("config.json")))))
	return dir
}

// TestModelsSavedWithoutTheirHead runs a model that was saved as Qwen3Model: it computes what the whole one does.
func TestModelsSavedWithoutTheirHead(t *testing.T) {
	dir := withoutHead(t, "qwen3", func(s string) string { return strings.Replace(s, "Qwen3ForCausalLM", "Qwen3Model", 1) })
	bare, whole := load(t, dir, exact, pipeline.Options{}), load(t, filepath.Join(fixtureDir, "qwen3"), exact, pipeline.Options{})
	ids := readGolden(t, filepath.Join(fixtureDir, "qwen3")).Prompts[2].IDs
	tail := Tail{Rows: LastRows, Logits: true, Hidden: true}
	want, err := whole.forward(t.Context(), ids, 0, tail)
	check(t, err)
	got, err := bare.forward(t.Context(), ids, 0, tail)
	check(t, err)
	if !slices.Equal(got.Logits, want.Logits) || !slices.Equal(got.Hidden, want.Hidden) {
		t.Error("results differ from the whole model's")
	}
}

// TestAttentionBothWaysIsRefused: the decoder would compute something else from such weights without a word.
func TestAttentionBothWaysIsRefused(t *testing.T) {
	for _, key := range []string{`"is_causal": false`, `"use_bidirectional_attention": true`} {
		dir := withoutHead(t, "qwen3", func(s string) string { return strings.Replace(s, "{", "{"+key+",", 1) })
		c, err := checkpoint.Open(t.Context(), dir)
		check(t, err)
		name, _, _ := strings.Cut(strings.Trim(key, `"`), `"`)
		if _, err := ReadConfig(c); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: %v", key, err)
		}
		check(t, c.Close())
	}
}
