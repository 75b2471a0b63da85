package main

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"
)

// hostile is what a stranger may write into any string: sequences that set the title, fill the clipboard, hide and clear, a
// carriage return, C1 characters, DEL, and invisible characters that reorder a line.
const hostile = "\x1b]0;title\a\x1b]52;c;cm0=\a\x1b[8m\x1b[2J\u009b31m\x7f\r\u202e\u2066\u200b\ufeff\U000e0041!"

// hostileBytes are the same as bytes that need not be UTF-8.
const hostileBytes = hostile + "\x9b31m\x9d0;t\x9c\xff"

// TestNothingHostileReachesTheTerminal runs every command on a terminal with a model whose path, vocabulary, tensors, metadata and
// chat template are a stranger's, and looks for control characters other than the program's own.
func TestNothingHostileReachesTheTerminal(t *testing.T) {
	device := hasDevice(t)
	t.Setenv("XDG_CACHE_HOME", t.TempDir())
	t.Setenv("NO_COLOR", "1")
	dir := filepath.Join(t.TempDir(), "a"+strings.ReplaceAll(hostile, "/", ""))
	files := writeHostile(t, dir)
	model, gguf := files["model"], filepath.Join(dir, "model.gguf")
	mmlu := []string{"eval", model, "--tasks", "mmlu_anatomy", "--data-dir", "mmlu=" + files["mmlu"], "--num-fewshot", "0", "--max-length", "1000",
		"--output-path", filepath.Join(dir, "results"), "--log-samples", "--write-out", "--chart", filepath.Join(dir, "chart.svg")}
	hub := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasPrefix(r.URL.Path, "/api/models/o/names/") {
			json.NewEncoder(w).Encode(map[string]any{"sha": strings.Repeat("a", 40), "siblings": []any{map[string]any{"rfilename": hostile + ".gguf"}}})
			return
		}
		if r.URL.Path == "/v1/models" {
			json.NewEncoder(w).Encode(map[string]any{"data": []any{map[string]any{"id": hostile, "status": map[string]any{"value": hostile}}}})
			return
		}
		if r.URL.Path == "/models/unload" {
			w.WriteHeader(http.StatusConflict)
			json.NewEncoder(w).Encode(map[string]any{"error": map[string]string{"message": hostile}})
			return
		}
		w.WriteHeader(http.StatusNotFound)
		json.NewEncoder(w).Encode(map[string]string{"error": hostile})
	}))
	defer hub.Close()
	for _, path := range []string{"hf/hub/models--o--n/snapshots/" + strings.Repeat("a", 40) + "/" + hostile + ".gguf", "ollama/manifests/" + hostile + "/a/b/" + hostile} {
		path = filepath.Join(dir, filepath.FromSlash(path))
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte("{}"), 0o644)); err != nil {
			t.Fatal(err)
		}
	}
	for name, value := range map[string]string{"HF_ENDPOINT": hub.URL, "HF_HOME": filepath.Join(dir, "hf"), "HF_HUB_CACHE": "", "HF_HUB_OFFLINE": "", "OLLAMA_MODELS": filepath.Join(dir, "ollama")} {
		t.Setenv(name, value)
	}
	rows, err := json.Marshal([]map[string]any{{"model_type": hostile, "gpu_info": hostile, "program": hostile, "driver": hostile, "error": hostile,
		"n_prompt": 0, "n_gen": 8, "test_time": "2026-11-30T12:00:00Z", "samples_ts": []int{10}}})
	if err := errors.Join(err, os.WriteFile(filepath.Join(dir, "rows.json"), rows, 0o644)); err != nil {
		t.Fatal(err)
	}
	const onDevice, onHost = true, false
	// Cases of a command in order; those that need a device are left out without one.
	cases := map[string][]struct {
		device bool
		args   []string
	}{
		"inspect": {{onHost, []string{"inspect", model}}, {onHost, []string{"inspect", model, "--json"}},
			{onHost, []string{"inspect", files["architecture"]}}, {onHost, []string{"inspect", files["dtype"]}}},
		"tokenize": {{onHost, []string{"tokenize", model, hostile}}, {onHost, []string{"tokenize", model, hostile, "--json"}},
			{onHost, []string{"tokenize", model, "--messages", files["refused"]}}, {onHost, []string{"tokenize", model, "--messages", files["role"]}},
			{onHost, []string{"tokenize", model, "--messages", files["unknown"]}},
			{onHost, []string{"tokenize", model, "--messages", files["role"], "--chat-template", files["broken"]}},
			{onHost, []string{"tokenize", model, "--messages", files["role"], "--chat-template", hostile}}, {onHost, []string{"tokenize", files["normalizer"], "a"}}},
		"detokenize": {{onHost, []string{"detokenize", model, "256,257,7,27,155,194,155,258"}},
			{onHost, []string{"detokenize", model, "256,7,27", "--json"}}, {onHost, []string{"detokenize", model, hostile}}},
		"quantize": {{onHost, []string{"quantize", model, gguf, "--pure"}}, {onHost, []string{"quantize", files["architecture"], gguf}},
			{onHost, []string{"quantize", model, gguf, "--type", hostile}}},
		"synth":      {{onHost, []string{"synth", "--family", hostile, "--output", dir + "/s"}}, {onHost, []string{"synth", "--family", "llama", "--output", dir}}},
		"completion": {{onHost, []string{"completion", hostile}}, {onHost, []string{"completion", "fish"}}},
		"devices":    {{onDevice, []string{"devices"}}, {onHost, []string{"devices", hostile}}},
		"chat": {{onDevice, []string{"chat", model, "-p", hostile, "-n", "12", "--temp", "3", "--seed", "1", "--verbose"}},
			{onDevice, []string{"chat", model, "-p", "refuse"}}, {onDevice, []string{"chat", model, "-p", "undefined"}}},
		"ask": {{onDevice, []string{"ask", "-m", model, hostile, "-n", "12", "--temp", "3", "--seed", "1"}}, {onHost, []string{"ask", "a", "--schema", files["schema"]}},
			{onHost, []string{"ask", "a", "--messages", hostile}}},
		"ps":   {{onHost, []string{"ps", "--host", hostile}}, {onHost, []string{"ps", "--host", hub.Listener.Addr().(*net.TCPAddr).IP.String(), "--port", fmt.Sprint(hub.Listener.Addr().(*net.TCPAddr).Port)}}},
		"stop": {{onHost, []string{"stop", hostile, "--port", fmt.Sprint(hub.Listener.Addr().(*net.TCPAddr).Port)}}},
		"man":  {{onHost, []string{"man", hostile}}},
		"generate": {{onDevice, []string{"generate", gguf, "-p", "a", "-n", "40", "--temp", "3", "--seed", "1", "--log-level", "debug"}},
			{onDevice, []string{"generate", model, "-p", "a", "--device", hostile}}, {onDevice, []string{"generate", model, "--lora", hostile, "-p", "a"}},
			{onHost, []string{"generate", hostile, "-p", "a"}}, {onHost, []string{"generate", "--" + hostile}}},
		"logits":  {{onDevice, []string{"logits", model, "-p", "a"}}},
		"embed":   {{onDevice, []string{"embed", model, hostile, "--json"}}, {onHost, []string{"embed", model, "a", "--pooling", hostile}}, {onDevice, []string{"embed", files["modules"], "a"}}},
		"kernels": {{onDevice, []string{"kernels", model}}, {onHost, []string{"kernels", "--types", hostile}}, {onHost, []string{"kernels", hostile}}},
		"verify":  {{onDevice, []string{"verify", "--types", hostile}}},
		"tune":    {{onDevice, []string{"tune", "--types", hostile}}},
		"bench": {{onHost, []string{"bench", files["architecture"]}}, {onHost, []string{"bench", model, "-p", hostile}},
			{onHost, []string{"bench", model, "--preset", hostile}}, {onHost, []string{"bench", model, "--peer", hostile}}, {onHost, []string{"bench", "roofline", hostile}},
			{onDevice, []string{"bench", model, "-p", "4", "-n", "0", "-r", "1", "--stamp=false", "--peer", "llama-bench=" + hostile}},
			{onDevice, []string{"bench", model, "-p", "4", "-n", "2", "-r", "1", "--stamp=false", "--load", "1", "--peer", hub.URL}},
			{onHost, []string{"bench", "show", dir + "/rows.json"}}, {onHost, []string{"bench", "compare", dir + "/rows.json", dir + "/rows.json"}}},
		"perplexity": {{onDevice, []string{"perplexity", model, "--tokens", "1,2,3,4,5,6,7,8", "--window", "4"}}, {onDevice, []string{"perplexity", model, "--file", hostile}}},
		"eval": {{onDevice, mmlu}, {onHost, []string{"eval", "ls"}}, {onHost, []string{"eval", model, "--tasks", hostile}},
			{onHost, []string{"eval", "merge", files["results"], "--output-path", dir + "/merged"}},
			{onDevice, []string{"eval", "merge", dir + "/results", "--output-path", dir + "/merged"}}, {onDevice, []string{"eval", model, "--tasks", "mmlu_anatomy", "--output-path", dir + "/results", "--data-dir", "mmlu=" + files["mmlu"]}},
			{onDevice, []string{"eval", "compare", dir + "/results", dir + "/results"}}},
		"serve":    {{onHost, []string{"serve", "--port", "0", hostile}}, {onHost, []string{"serve", "--host", hostile, model}}},
		"licenses": {{onHost, []string{"licenses", hostile}}},
		"pull": {{onHost, []string{"pull", hostile}}, {onHost, []string{"pull", "hf:o/n:" + hostile}}, {onHost, []string{"pull", "hf:o/names"}},
			{onHost, []string{"pull", "hf:o/message"}}, {onHost, []string{"pull", "ollama:" + hostile}}},
		"list": {{onHost, []string{"list"}}, {onHost, []string{"list", hostile}}},
		"rm":   {{onHost, []string{"rm", hostile}}, {onHost, []string{"rm", "ollama:" + hostile}}, {onHost, []string{"rm", "hf:o/n@" + hostile}}},
		"help": {{onHost, []string{"help", hostile}}, {onHost, []string{"--help"}}, {onHost, []string{hostile}}},
	}
	for _, c := range newProgram(os.Stdin, os.Stdout, os.Stderr).app().Commands {
		if _, ok := cases[c.Name]; !ok {
			t.Errorf("no case runs %s", c.Name)
		}
	}
	// The file that quantize makes is another command's model.
	order := append([]string{"quantize"}, slices.DeleteFunc(slices.Sorted(maps.Keys(cases)), func(s string) bool { return s == "quantize" })...)
	shown := map[string]bool{}
	for _, name := range order {
		for i, c := range cases[name] {
			if c.device && !device {
				continue
			}
			t.Run(fmt.Sprint(name, " ", i), func(t *testing.T) {
				text, status := onTerminal(t, c.args...)
				for _, bad := range uncontrolled(text) {
					t.Fatalf("status %d; %q at byte %d of %q", status, bad.text, bad.at, text)
				}
				for _, escape := range []string{`\x1b]0;title\x07`, `\u009b31m`, `\x7f`, `\x0d`, `\u202e`, `\u2066`, `\U000e0041`} {
					shown[escape] = shown[escape] || strings.Contains(text, escape)
				}
				t.Logf("status %d: %.300q", status, text)
			})
		}
	}
	for escape, ok := range shown {
		if !ok {
			t.Errorf("%s was never shown: the test is not hostile", escape)
		}
	}
}

// TestDumbTerminalIsNotRedrawn looks for the spinner and the bar on a terminal that can only print.
func TestDumbTerminalIsNotRedrawn(t *testing.T) {
	if !hasDevice(t) {
		t.Skip("no Vulkan device")
	}
	t.Setenv("XDG_CACHE_HOME", t.TempDir())
	t.Setenv("TERM", "dumb")
	shown, status := onTerminal(t, "generate", filepath.Join(top(t), "testdata", "fixtures", "smollm2"), "--tokens", "1,2", "-n", "2")
	if rest := strings.ReplaceAll(shown, "\r\n", ""); status != 0 || strings.ContainsAny(rest, "\r\x1b") {
		t.Errorf("status %d: %q", status, shown)
	}
}

// onTerminal runs the program in this process on a terminal and returns what is shown there.
func onTerminal(t *testing.T, args ...string) (shown string, status int) {
	t.Helper()
	slave, master, err := newTerminal()
	if err != nil {
		t.Skipf("no pseudo-terminal: %v", err)
	}
	defer master.Close()
	all := make(chan string)
	go func() {
		text, _ := io.ReadAll(master) // ends with EIO
		all <- string(text)
	}()
	status = newProgram(slave, slave, slave).run(append([]string{"pumice"}, args...))
	slave.Close()
	return <-all, status
}

// own are the sequences that the program writes itself: the terminal's ends of lines, the spinner and the bars.
var own = regexp.MustCompile(`\r\n|\r[-|/\\]|\r +\r|\r(?:loading|writing|fetching|checking|measuring|evaluating) [^\r\n]*`)

type control struct {
	text string
	at   int
}

// uncontrolled are the characters in text that a terminal must not be sent.
func uncontrolled(text string) (found []control) {
	text = own.ReplaceAllString(text, "\n")
	for at := 0; at < len(text); {
		r, size := utf8.DecodeRuneInString(text[at:])
		switch {
		case r == '\n' || r == '\t' || strings.ContainsRune(neighbourly, r):
		case r == utf8.RuneError && size == 1, unicode.In(r, unicode.Cc, unicode.Cf, unicode.Zl, unicode.Zp):
			found = append(found, control{text[at : at+size], at})
		}
		at += size
	}
	return found
}

// writeHostile makes a model and other inputs below dir.
func writeHostile(t *testing.T, dir string) map[string]string {
	t.Helper()
	files := map[string]string{}
	write := func(path string, text []byte) {
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, text, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	object := func(path string, v any) {
		text, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		write(path, text)
	}
	fixture := filepath.Join(top(t), "testdata", "fixtures", "smollm2")
	weights := readAll(t, filepath.Join(fixture, "model.safetensors"))
	files["schema"] = filepath.Join(dir, "schema.json")
	object(files["schema"], map[string]any{"properties": map[string]any{hostile: map[string]any{"type": hostile}}})
	var config map[string]any
	if err := json.Unmarshal(readAll(t, filepath.Join(fixture, "config.json")), &config); err != nil {
		t.Fatal(err)
	}
	config[hostile] = hostile
	with := func(key string, value any) map[string]any {
		c := maps.Clone(config)
		c[key] = value
		return c
	}
	directory := func(name string, config any, tensorType string) string {
		path := filepath.Join(dir, name)
		object(filepath.Join(path, "config.json"), config)
		write(filepath.Join(path, "model.safetensors"), withTensor(t, weights, hostile, tensorType))
		files[name] = path
		return path
	}
	model := directory("model", config, "F32")
	directory("architecture", with("architectures", []string{hostile}), "F32")
	directory("dtype", config, hostile)
	tokenizer := hostileTokenizer(int(config["vocab_size"].(float64)))
	object(filepath.Join(model, "tokenizer.json"), tokenizer)
	object(filepath.Join(model, "tokenizer_config.json"), map[string]any{"bos_token": hostile, "chat_template": "{% for m in messages %}" +
		"{% if 'refuse' in m.content %}{{ raise_exception('" + hostile + "') }}{% elif 'undefined' in m.content %}{{ m['" + hostile + "'].x }}{% endif %}" +
		"{{ m.content }}{% endfor %}"})
	modules := directory("modules", config, "F32")
	object(filepath.Join(modules, "tokenizer.json"), tokenizer)
	object(filepath.Join(modules, "modules.json"), []map[string]string{{"type": hostile, hostile: hostile}})
	other := maps.Clone(tokenizer)
	other["normalizer"] = map[string]any{"type": hostile}
	files["normalizer"] = filepath.Join(dir, "normalizer")
	object(filepath.Join(files["normalizer"], "tokenizer.json"), other)

	for name, messages := range map[string]any{
		"refused": []map[string]string{{"role": "user", "content": "refuse"}},
		"role":    []map[string]string{{"role": "user", "content": hostile}, {"role": hostile, "content": hostile}},
		"unknown": []map[string]string{{hostile: ""}},
	} {
		files[name] = filepath.Join(dir, name+".json")
		object(files[name], messages)
	}
	files["broken"] = filepath.Join(dir, "broken.jinja")
	write(files["broken"], []byte("{{ '\\"+hostile+"' | "+hostile+" }}"))
	files["mmlu"] = filepath.Join(dir, "mmlu")
	row := []byte("\"" + hostileBytes + "\"," + strings.Repeat("\""+hostile+"\",", 4) + "A\n")
	good := []byte("\"" + hostile + "\"," + strings.Repeat("\""+hostile+"\",", 4) + "A\n")
	write(filepath.Join(files["mmlu"], "data", "test", "anatomy_test.csv"), append(good, row...))
	write(filepath.Join(files["mmlu"], "data", "dev", "anatomy_dev.csv"), good)
	files["results"] = filepath.Join(dir, "results_"+hostile+".json")
	object(files["results"], map[string]any{"config": hostile, "results": map[string]any{hostile: hostile}})
	return files
}

// withTensor adds a tensor of one element to a safetensors file.
func withTensor(t *testing.T, file []byte, name, dtype string) []byte {
	t.Helper()
	n := binary.LittleEndian.Uint64(file)
	var header map[string]any
	if err := json.Unmarshal(file[8:8+n], &header); err != nil {
		t.Fatal(err)
	}
	data := file[8+n:]
	header[name] = map[string]any{"dtype": dtype, "shape": []int{1}, "data_offsets": []int{len(data), len(data) + 4}}
	text, err := json.Marshal(header)
	if err != nil {
		t.Fatal(err)
	}
	return slices.Concat(binary.LittleEndian.AppendUint64(nil, uint64(len(text))), text, data, make([]byte, 4))
}

// byteLevel are the bytes in the letters of a byte-level vocabulary.
func byteLevel() (spelt [256]string) {
	other := rune(256)
	for b := range spelt {
		if b >= '!' && b <= '~' || b >= 0xa1 && b <= 0xac || b >= 0xae {
			spelt[b] = string(rune(b))
			continue
		}
		spelt[b] = string(other)
		other++
	}
	return spelt
}

// hostileTokenizer is a tokenizer.json of a byte-level vocabulary: every byte, then tokens that spell hostileBytes.
func hostileTokenizer(size int) map[string]any {
	spelt := byteLevel()
	vocab := map[string]int{}
	for b, s := range spelt {
		vocab[s] = b
	}
	for id := len(vocab); id < size; id++ {
		var token strings.Builder
		for _, b := range []byte(fmt.Sprint(hostileBytes, id)) {
			token.WriteString(spelt[b])
		}
		vocab[token.String()] = id
	}
	byteLevel := map[string]any{"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": false}
	return map[string]any{"version": "1.0", "added_tokens": []any{}, "normalizer": nil, "pre_tokenizer": byteLevel, "post_processor": nil, "decoder": byteLevel,
		"model": map[string]any{"type": "BPE", "unk_token": nil, "fuse_unk": false, "byte_fallback": false, "vocab": vocab, "merges": []string{}}}
}
