package model

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"pumice/checkpoint"
	"pumice/internal/bounded"
)

// describe reads a checkpoint's configuration and all that is known of its tensors without a device.
func describe(ctx context.Context, path string) error {
	c, err := checkpoint.Open(ctx, path)
	if err != nil {
		return err
	}
	defer c.Close()
	if _, err := ReadConfig(c); err != nil {
		return err
	}
	_, err = NewExport(c)
	return err
}

// checkDescribed checks that describing the checkpoint at path costs what size bytes may, and that errors are typed and
// short.
func checkDescribed(t *testing.T, path string, size int) {
	t.Helper()
	bounded.Run(t, size, func(ctx context.Context) {
		err := describe(ctx, path)
		if err == nil || errors.Is(err, context.Canceled) {
			return
		}
		var format *checkpoint.FormatError
		var unsupported *checkpoint.UnsupportedError
		var refused *ConfigError
		if !errors.As(err, &format) && !errors.As(err, &unsupported) && !errors.As(err, &refused) {
			t.Errorf("untyped error: %v", err)
		}
		if len(err.Error()) > 4096 {
			t.Errorf("a message of %d bytes", len(err.Error()))
		}
	})
}

// number is the value of a key of config.json.
var number = regexp.MustCompile(`("\w+": )-?[0-9][0-9.e-]*`)

// FuzzConfig changes the config.json beside the weights of the fixtures.
func FuzzConfig(f *testing.F) {
	fixtures := []string{"bert", "gemma3", "llama", "phi3", "qwen2", "qwen3", "smollm3", "xverse-st"}
	var weights []string
	for i, name := range fixtures {
		path, err := filepath.Abs(filepath.Join(fixtureDir, name, "model.safetensors"))
		if err != nil {
			f.Fatal(err)
		}
		weights = append(weights, path)
		config, err := os.ReadFile(filepath.Join(fixtureDir, name, "config.json"))
		if err != nil {
			f.Fatal(err)
		}
		f.Add(uint8(i), config)
		for _, value := range []string{"-1", "0", "1e15", "1e-320", "9223372036854775807", "[]", "null"} {
			f.Add(uint8(i), number.ReplaceAll(config, []byte("${1}"+value)))
		}
	}
	f.Add(uint8(0), []byte(`{"architectures": ["`+strings.Repeat("Llama", 10000)+`"`+strings.Repeat(`, "x"`, 10000)+`]}`))
	f.Add(uint8(0), []byte(`{"architectures": ["LlamaForCausalLM"], "hidden_act": "`+strings.Repeat("silu", 10000)+`"}`))
	f.Fuzz(func(t *testing.T, family uint8, config []byte) {
		dir := t.TempDir()
		if err := os.Symlink(weights[int(family)%len(weights)], filepath.Join(dir, "model.safetensors")); err != nil {
			t.Skip(err)
		}
		if err := os.WriteFile(filepath.Join(dir, "config.json"), config, 0o600); err != nil {
			t.Fatal(err)
		}
		checkDescribed(t, dir, len(config))
	})
}

// FuzzGGUF changes a whole GGUF file of a small model.
func FuzzGGUF(f *testing.F) {
	path := filepath.Join(f.TempDir(), "model.gguf")
	writeLlama(f, path, llamaShape{hidden: 8, layers: 1, heads: 2, kvHeads: 1, inner: 4, vocab: 3})
	file, err := os.ReadFile(path)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(file)
	f.Fuzz(func(t *testing.T, data []byte) {
		path := filepath.Join(t.TempDir(), "model.gguf")
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
		checkDescribed(t, path, len(data))
	})
}

// TestOddNumbersInConfigs puts each odd value in the place of each number of each configuration.
func TestOddNumbersInConfigs(t *testing.T) {
	for _, name := range []string{"gemma3", "phi3"} {
		config, err := os.ReadFile(filepath.Join(fixtureDir, name, "config.json"))
		if err != nil {
			t.Fatal(err)
		}
		path, err := filepath.Abs(filepath.Join(fixtureDir, name, "model.safetensors"))
		if err != nil {
			t.Fatal(err)
		}
		for _, at := range number.FindAllSubmatchIndex(config, -1) {
			for _, value := range []string{"-1", "0", "0.5", "1e15", "1e300", "1e999", "-9223372036854775808", "9223372036854775807", `"8"`, "[]", "{}", "null"} {
				dir := t.TempDir()
				if err := os.Symlink(path, filepath.Join(dir, "model.safetensors")); err != nil {
					t.Skip(err)
				}
				odd := append(append(append([]byte{}, config[:at[3]]...), value...), config[at[1]:]...)
				if err := os.WriteFile(filepath.Join(dir, "config.json"), odd, 0o600); err != nil {
					t.Fatal(err)
				}
				checkDescribed(t, dir, len(odd))
			}
		}
	}
}
