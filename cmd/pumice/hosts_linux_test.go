package main

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"
)

// llamaCommand prepares llama-server as a child process.
func llamaCommand(t *testing.T, args ...string) *exec.Cmd {
	t.Helper()
	c := command(t, args...)
	path, err := exec.LookPath(llamaServerName) // testscript.Main put it into PATH
	if err != nil {
		t.Fatal(err)
	}
	c.Path, c.Args[0] = path, llamaServerName
	return c
}

// A guest is a server that was started as a host starts llama-server, and is asked over the host's connection.
type guest struct {
	t       *testing.T
	c       *exec.Cmd
	log     bytes.Buffer // complete when ended is closed
	ended   chan struct{}
	client  http.Client
	address string
}

// host starts llama-server with a host's arguments and waits until /health says that it is ready. PORT in the arguments is a free
// port of this machine, SOCKET a socket in the folder that the server is started in.
func host(t *testing.T, args string) *guest {
	t.Helper()
	dir, err := os.MkdirTemp("", "host") // a short name, which sockets need
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	g := &guest{t: t, ended: make(chan struct{}), address: "http://localhost"}
	network, address := "unix", filepath.Join(dir, "runner-0.sock")
	if strings.Contains(args, "PORT") {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		network, address = "tcp", l.Addr().String()
		l.Close()
		g.address = "http://" + address
	}
	args = strings.NewReplacer("PORT", address[strings.LastIndexByte(address, ':')+1:], "SOCKET", "runner-0.sock").Replace(args)
	transport := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, network, address)
	}}
	t.Cleanup(transport.CloseIdleConnections)
	g.client.Transport = transport
	g.c = llamaCommand(t, strings.Fields(args)...)
	g.c.Dir, g.c.Stderr, g.c.SysProcAttr = dir, &g.log, &syscall.SysProcAttr{Setpgid: true}
	if err := g.c.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { g.c.Process.Kill(); <-g.ended })
	go func() { g.c.Wait(); close(g.ended) }()
	for range 3000 {
		select {
		case <-g.ended:
			t.Fatalf("it ended: %s", &g.log)
		case <-time.After(10 * time.Millisecond):
		}
		r, err := g.client.Get(g.address + "/health")
		if err != nil { // it does not listen yet
			continue
		}
		text, _ := io.ReadAll(r.Body)
		r.Body.Close()
		if r.StatusCode == http.StatusOK {
			return g
		}
		if r.StatusCode != http.StatusServiceUnavailable || !strings.Contains(string(text), "Loading model") {
			t.Fatalf("/health: %s: %s", r.Status, text)
		}
	}
	t.Fatal("it is never ready")
	return nil
}

// ask posts a body, or gets without one.
func (g *guest) ask(path, body string, header ...string) (int, string) {
	g.t.Helper()
	method := http.MethodPost
	if body == "" {
		method = http.MethodGet
	}
	r, err := http.NewRequest(method, g.address+path, strings.NewReader(body))
	if err != nil {
		g.t.Fatal(err)
	}
	for i := 0; i < len(header); i += 2 {
		if header[i] == "Host" {
			r.Host = header[i+1]
		}
		r.Header.Set(header[i], header[i+1])
	}
	answer, err := g.client.Do(r)
	if err != nil {
		g.t.Fatal(err)
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	if err != nil {
		g.t.Fatal(err)
	}
	return answer.StatusCode, string(text)
}

// get is ask for an answer that must be there.
func (g *guest) get(path, body string, header ...string) (answer map[string]any) {
	g.t.Helper()
	code, text := g.ask(path, body, header...)
	if err := json.Unmarshal([]byte(text), &answer); err != nil || code != http.StatusOK {
		g.t.Fatalf("%s: %d %s", path, code, text)
	}
	return answer
}

// events are those of a stream, but for [DONE].
func (g *guest) events(path, body string, header ...string) (list []map[string]any) {
	g.t.Helper()
	code, text := g.ask(path, body, header...)
	if code != http.StatusOK {
		g.t.Fatalf("%s: %d %s", path, code, text)
	}
	for line := range strings.Lines(text) {
		data, ok := strings.CutPrefix(strings.TrimSpace(line), "data: ")
		var event map[string]any
		switch {
		case !ok || data == "[DONE]":
		case json.Unmarshal([]byte(data), &event) != nil:
			g.t.Fatalf("%s: %s", path, data)
		default:
			list = append(list, event)
		}
	}
	return list
}

// stop ends the server with a signal to its process group, as llama-swap does, and checks that it ends soon.
func (g *guest) stop(s syscall.Signal) {
	g.t.Helper()
	if err := syscall.Kill(-g.c.Process.Pid, s); err != nil {
		g.t.Fatal(err)
	}
	select {
	case <-g.ended:
	case <-time.After(10 * time.Second):
		g.t.Fatalf("it does not end after %v", s)
	}
	if !g.c.ProcessState.Success() {
		g.t.Errorf("after %v: %v: %s", s, g.c.ProcessState, &g.log)
	}
}

// timed checks the numbers of an answer that hosts show, of n tokens that were generated.
func timed(t *testing.T, event map[string]any, n float64) {
	t.Helper()
	timings, _ := event["timings"].(map[string]any)
	for _, name := range []string{"cache_n", "prompt_n", "prompt_ms", "prompt_per_second", "predicted_ms", "predicted_per_second"} {
		if _, ok := timings[name].(float64); !ok {
			t.Errorf("there is no %s: %v", name, event)
		}
	}
	if timings["predicted_n"] != n {
		t.Errorf("%v tokens, want %v: %v", timings["predicted_n"], n, event)
	}
}

const hello = `"messages":[{"role":"user","content":"Hello"}],"max_tokens":4,"ignore_eos":true`

// TestDockerModelRunner has the arguments and requests of docker/model-runner v1.2.9 (pkg/inference/backends/llamacpp,
// pkg/inference/scheduling/runner.go, pkg/metrics/aggregated_handler.go), which speaks over a socket.
func TestDockerModelRunner(t *testing.T) {
	t.Parallel()
	devices, err := llamaCommand(t, "--list-devices").CombinedOutput()
	if _, list, ok := strings.Cut(string(devices), "Available devices:\n"); err != nil || !ok || !regexp.MustCompile(`\s{2}.*:\s`).MatchString(list) {
		t.Errorf("its probe for GPUs: %s, %v", devices, err)
	}
	template := filepath.Join(t.TempDir(), "template.jinja")
	if err := os.WriteFile(template, []byte("{% for m in messages %}{{ m.role }} {{ m.content }} {% endfor %}"), 0o644); err != nil {
		t.Fatal(err)
	}
	t.Run("completion", func(t *testing.T) {
		t.Parallel()
		g := host(t, "-ngl 999 --metrics --model "+chatModel(t)+" --host SOCKET --chat-template-file "+template+" --reasoning-budget 0 --ctx-size 256 --jinja")
		if list := g.get("/v1/models", "")["data"].([]any); len(list) != 1 || list[0].(map[string]any)["id"] != "model" {
			t.Errorf("models: %v", list)
		}
		list := g.events("/v1/chat/completions", `{"model":"ai/tiny","stream":true,"stream_options":{"include_usage":true},`+hello+`}`)
		if usage, _ := list[len(list)-1]["usage"].(map[string]any); usage["completion_tokens"] != 4.0 {
			t.Errorf("usage: %v", usage)
		}
		if prompt := g.get("/apply-template", `{`+hello+`}`)["prompt"]; prompt != "user Hello " {
			t.Errorf("the prompt is %q", prompt)
		}
		if m := g.get("/v1/messages", `{"model":"ai/tiny",`+hello+`}`); m["type"] != "message" {
			t.Errorf("a message: %v", m)
		}
		code, metrics := g.ask("/metrics", "", "Host", "unix")
		if code != http.StatusOK || !strings.Contains(metrics, "llamacpp:tokens_predicted_total{") || regexp.MustCompile(`[{,](backend|model|mode)=`).MatchString(metrics) {
			t.Errorf("it adds the labels backend, model and mode to: %d %s", code, metrics)
		}
		g.stop(syscall.SIGINT)
		if _, err := os.Stat(filepath.Join(g.c.Dir, "runner-0.sock")); !os.IsNotExist(err) {
			t.Errorf("the socket is left: %v", err)
		}
	})
	t.Run("embedding", func(t *testing.T) {
		t.Parallel()
		g := host(t, "-ngl 999 --metrics --model "+filepath.Join(top(t), "testdata", "fixtures", "bert")+" --host SOCKET --embeddings --ctx-size -1 --jinja")
		data := g.get("/v1/embeddings", `{"model":"ai/tiny","input":["a rock","that floats"]}`)["data"].([]any)
		if len(data) != 2 || len(data[1].(map[string]any)["embedding"].([]any)) != 32 {
			t.Errorf("embeddings: %v", data)
		}
		g.stop(syscall.SIGINT)
	})
}

// TestLemonade has the arguments and requests of lemonade-sdk/lemonade at e385039 (src/cpp/server/backends/llamacpp,
// wrapped_server.cpp, streaming_proxy.cpp).
func TestLemonade(t *testing.T) {
	t.Parallel()
	version, err := llamaCommand(t, "--version").Output()
	if err != nil || !regexp.MustCompile(`^version:\s*\d+`).Match(version) {
		t.Errorf("its probe for the version: %s, %v", version, err)
	}
	g := host(t, "-m "+chatModel(t)+" --ctx-size 256 --device Vulkan0 --port PORT --jinja --metrics --embeddings -fa on --no-mmap -b 512")
	list := g.events("/v1/chat/completions", `{"model":"Tiny-GGUF","stream":true,"stream_options":{"include_usage":true},"max_completion_tokens":4,"temperature":0.7,`+
		`"top_k":20,"top_p":0.8,"min_p":0.05,"repeat_penalty":1.1,"seed":1,"chat_template_kwargs":{"enable_thinking":false},`+hello+`}`)
	last := list[len(list)-1] // of the last with usage or timings it reads both
	timed(t, last, 4)
	if usage, _ := last["usage"].(map[string]any); usage["completion_tokens"] != 4.0 {
		t.Errorf("usage: %v", last)
	}
	timed(t, g.get("/v1/completions", `{"model":"Tiny-GGUF","prompt":"Hello","max_tokens":4,"ignore_eos":true}`), 4)
	if r := g.get("/v1/responses", `{"model":"Tiny-GGUF","input":"Hello","max_output_tokens":4}`); r["object"] != "response" {
		t.Errorf("a response: %v", r)
	}
	if data := g.get("/v1/embeddings", `{"model":"Tiny-GGUF","input":"Hello"}`)["data"].([]any); len(data) != 1 {
		t.Errorf("embeddings: %v", data)
	}
	if tokens := g.get("/tokenize", `{"content":"Hello"}`)["tokens"].([]any); len(tokens) == 0 {
		t.Error("no tokens")
	}
	code, slots := g.ask("/slots", "")
	if code != http.StatusOK || !strings.HasPrefix(slots, `[{"id":0,`) {
		t.Errorf("slots: %d %s", code, slots)
	}
	for _, path := range []string{"/v1/rerank", "/slots/0?action=erase"} { // its answer to its own client has the message
		if code, text := g.ask(path, `{"query":"a","documents":["b"]}`); code != http.StatusNotFound || !strings.Contains(text, "there is no POST "+strings.TrimSuffix(path, "?action=erase")) {
			t.Errorf("%s: %d %s", path, code, text)
		}
	}
	g.stop(syscall.SIGTERM)
}

// TestLlamaSwap has the arguments and requests of mostlygeek/llama-swap at 0bdb372 (config.example.yaml,
// internal/process/process_command.go, internal/server/metrics.go), which passes on the Host by which it was asked.
func TestLlamaSwap(t *testing.T) {
	t.Parallel()
	g := host(t, "--port PORT --model "+chatModel(t)+" --ctx-size 256 --temperature 0.7")
	asked := []string{"Host", "192.168.1.7:8080", "X-Forwarded-For", "192.168.1.8"}
	timed(t, g.get("/v1/chat/completions", `{"model":"tiny",`+hello+`}`, asked...), 4)
	list := g.events("/v1/chat/completions", `{"model":"tiny","stream":true,`+hello+`}`, asked...)
	timed(t, list[len(list)-1], 4)
	timed(t, g.get("/completion", `{"prompt":"Hello","n_predict":4,"ignore_eos":true}`, asked...), 4)
	list = g.events("/completion", `{"prompt":"Hello","n_predict":4,"ignore_eos":true,"stream":true}`, asked...)
	timed(t, list[len(list)-1], 4)
	input, output := 0.0, 0.0
	for _, event := range g.events("/v1/messages", `{"model":"tiny","stream":true,`+hello+`}`, asked...) {
		for _, holder := range []any{event, event["message"]} {
			m, _ := holder.(map[string]any)
			usage, _ := m["usage"].(map[string]any)
			in, _ := usage["input_tokens"].(float64)
			out, _ := usage["output_tokens"].(float64)
			input, output = max(input, in), max(output, out)
		}
	}
	if input < 1 || output != 4 {
		t.Errorf("a streamed message has %v and %v tokens", input, output)
	}
	if p := g.get("/props", "", asked...); p["total_slots"] == nil {
		t.Errorf("props: %v", p)
	}
	g.stop(syscall.SIGTERM)
}

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
