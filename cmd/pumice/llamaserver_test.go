package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"pumice"
	"pumice/sample"
)

// TestHostedErrors are in the words that ollama looks for.
func TestHostedErrors(t *testing.T) {
	for want, err := range map[string]error{
		"error: no such file":                       errors.New("pumice: no such file"),
		"error: --x: want y":                        &usageError{"--x: want y"},
		"error: failed to allocate device memory: ": fmt.Errorf("pumice: %w", pumice.ErrOutOfDeviceMemory),
	} {
		if got := hosted(err); !strings.HasPrefix(got, want) {
			t.Errorf("%v: %q, want %q", err, got, want)
		}
	}
}

// TestLlamaServersFlags reads the command lines of programs that host llama-server.
func TestLlamaServersFlags(t *testing.T) {
	for name, c := range map[string]struct {
		args  string
		check func(s *llamaSettings) bool
	}{
		"ollama 0.31": {"--model BLOB --port 4001 --host 127.0.0.1 --no-webui --offline -c 16384 -np 4 --log-verbosity 4 --no-log-prefix --no-log-timestamps " +
			"--cache-type-k q8_0 --cache-type-v q8_0 --flash-attn auto -b 512 -ub 512 -ngl 99 -t 8 --split-mode none --main-gpu 1 --context-shift --keep 4",
			func(s *llamaSettings) bool {
				return s.model == "BLOB" && s.names[0] == "BLOB" && s.port == 4001 && s.options.Context == 4096 && s.options.KVType == "q8_0" && s.options.Device == "1" && s.noPage
			}},
		"Docker Model Runner": {"-ngl 999 --metrics --model F.gguf --host /run/model.sock --ctx-size 4096 --jinja",
			func(s *llamaSettings) bool {
				return s.host == "/run/model.sock" && s.options.Context == 4096 && s.names[0] == "F" && !s.noPage
			}},
		"Lemonade": {"-m F --ctx-size 2048 --device Vulkan1 --port 8001 --jinja --metrics --embeddings",
			func(s *llamaSettings) bool { return s.options.Device == "1" && s.options.Context == 2048 }},
		"Docker Model Runner, without reasoning": {"-ngl 999 --metrics --model F.gguf --host /run/model.sock --reasoning-budget 0 --ctx-size -1 --jinja",
			func(s *llamaSettings) bool { return s.variables["enable_thinking"] == false && s.options.Context == 0 }},
		"Docker Model Runner, without a budget": {"-ngl 999 --metrics --model F.gguf --host /run/model.sock --reasoning-budget -1 --jinja",
			func(s *llamaSettings) bool { return len(s.variables) == 0 }},
		"a template's variables": {`-m F --reasoning off --chat-template-kwargs {"enable_thinking":true,"reasoning_effort":"low"}`,
			func(s *llamaSettings) bool {
				return s.variables["enable_thinking"] == true && s.variables["reasoning_effort"] == "low"
			}},
		"RamaLama": {"--host 0.0.0.0 --port 8080 --log-file /tmp/l --model F --no-warmup --reasoning on --alias small --ctx-size 0 --temp 0.3 --cache-reuse 256",
			func(s *llamaSettings) bool {
				var p sample.Params
				for _, set := range s.sampling {
					set(&p)
				}
				return s.names[0] == "small" && p.Temperature == .3 && s.variables["enable_thinking"] == true
			}},
		"textgen": {"--model F --batch-size 256 --ubatch-size 256 --port 5005 --no-webui --flash-attn on --ctx-size 8192 --gpu-layers 99 --fit off --cache-type-k f16 --cache-type-v f16 --parallel 1",
			func(s *llamaSettings) bool { return s.options.KVType == "f16" }},
		"of the Hub":            {"-hf a/b:Q8_0", func(s *llamaSettings) bool { return s.model == "hf:a/b:Q8_0" && s.names[0] == "b:Q8_0" }},
		"a file of the Hub":     {"--hf-repo a/b --hf-file c.gguf", func(s *llamaSettings) bool { return s.model == "hf:a/b:c.gguf" && s.names[0] == "b:c" }},
		"a model of embeddings": {"-m F --embedding --pooling mean", func(s *llamaSettings) bool { return s.pooling == pumice.PoolingMean }},
		"several names and adapters": {"-m F -a one,two --lora a.gguf,b.gguf", func(s *llamaSettings) bool {
			return slices.Equal(s.names, []string{"one", "two"}) && slices.Equal(s.options.LoRA, []string{"a.gguf", "b.gguf"})
		}},
		"flags with and without values": {"-m F --cpu-moe --log-colors auto --log-colors --flash-attn -c 256 --reasoning-effort low --no-ui", func(s *llamaSettings) bool {
			return s.options.Context == 256 && s.noPage && s.variables["reasoning_effort"] == "low" && strings.Join(s.ignored, " ") == "--cpu-moe --log-colors --log-colors --flash-attn"
		}},
		"two devices":             {"-m F -dev Vulkan0,Vulkan2", func(s *llamaSettings) bool { return slices.Equal(s.options.Devices, []string{"0", "2"}) }},
		"flags of other versions": {"-m F --new-flag --other value --last", func(s *llamaSettings) bool { return strings.Join(s.ignored, " ") == "--new-flag --other --last" }},
		"no model":                {"--port 7 --no-webui", func(s *llamaSettings) bool { return s.model == "" && s.port == 7 }},
	} {
		s, err := parseLlama(strings.Fields(c.args))
		if err != nil || !c.check(s) {
			t.Errorf("%s: %+v, %v", name, s, err)
		}
	}
	for args, want := range map[string]string{
		"--mmproj F":          "images",
		"-dr a/b":             "nothing is fetched",
		"--port":              "needs a value",
		"--port x":            "want a number",
		"model.gguf":          "unexpected argument",
		"-ctk q8_0":           "one type",
		"--rope-scale 2":      "not supported",
		"-m F --pooling rank": "want one of",

		"-m F -a one,":               "separated by commas",
		"-m F --ignore-eos":          "not supported",
		"--api-key-file /nowhere":    "no such file",
		"--reasoning-budget 2048":    "a budget of tokens is not supported",
		"--reasoning maybe":          "want on, off or auto",
		"--chat-template-kwargs [1]": "want a JSON object",
	} {
		if _, err := parseLlama(strings.Fields(args)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", args, err, want)
		}
	}
	for _, c := range []struct {
		args string
		as   bool
		rest int
	}{{"/usr/lib/ollama/llama-server -m F", true, 2}, {"pumice llama-server", true, 0}, {"pumice serve llama-server", false, 0}} {
		if rest, ok := calledAs(llamaServerName, strings.Fields(c.args)); ok != c.as || len(rest) != c.rest {
			t.Errorf("%s: %v, %t", c.args, rest, ok)
		}
	}
}

// TestLlamaServersEnvironment: variables stand for flags, which are stronger, and a key that is asked for is never left out.
func TestLlamaServersEnvironment(t *testing.T) {
	keys := filepath.Join(t.TempDir(), "keys")
	if err := os.WriteFile(keys, []byte("# ours\nthree\n\n four\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, value := range map[string]string{"LLAMA_ARG_MODEL": "F.gguf", "LLAMA_ARG_CTX_SIZE": "512", "LLAMA_ARG_DEVICE": "Vulkan0,Vulkan1", "LLAMA_API_KEY": "one,two",
		"LLAMA_ARG_API_KEY_FILE": keys, "LLAMA_ARG_HOST": "", "LLAMA_ARG_TEMPERATURE": "0.5"} {
		t.Setenv(name, value)
	}
	s, err := parseLlama([]string{"-c", "1024", "-dev", "Vulkan1"})
	if err != nil || s.model != "F.gguf" || s.options.Context != 1024 || s.options.Device != "1" || s.options.Devices != nil || s.host != "127.0.0.1" || len(s.sampling) != 1 {
		t.Errorf("%+v, %v", s, err)
	}
	if want := []string{"one", "two", "three", "four"}; !slices.Equal(s.keys, want) {
		t.Errorf("keys %q, want %q", s.keys, want)
	}
	if err := os.WriteFile(keys, []byte("# none\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := parseLlama(nil); err == nil || !strings.Contains(err.Error(), "it has no key") {
		t.Errorf("a file without keys: %v", err)
	}
	t.Setenv("LLAMA_ARG_API_KEY_FILE", "")
	t.Setenv("LLAMA_ARG_MMPROJ", "F")
	if _, err := parseLlama(nil); err == nil || !strings.Contains(err.Error(), "LLAMA_ARG_MMPROJ: images") {
		t.Errorf("images: %v", err)
	}
}

// TestLlamaServerSaysWhatItIs: Lemonade reads the version, and waits for it.
func TestLlamaServerSaysWhatItIs(t *testing.T) {
	if out := pumiceRun(t, "llama-server", "--version"); !regexp.MustCompile(`^version: \d+ \(pumice\)\nbuilt with go\S+ for \S+\n$`).MatchString(out) {
		t.Errorf("%q", out)
	}
	help := pumiceRun(t, "llama-server", "-m", "F", "--help")
	for _, want := range []string{"  -m, --model FILE\n", "nothing here:\n  --jinja, ", "  -fa, --flash-attn, --log-colors [on|off|auto]\n", "FILE: images and sounds are not supported\n"} {
		if !strings.Contains(help, want) {
			t.Errorf("%q is not in\n%s", want, help)
		}
	}
}
