package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"pumice/bench"
	"pumice/internal/loopback"
)

func TestParsePeer(t *testing.T) {
	for text, want := range map[string]peerFlag{
		"llama-bench=a b/llama-bench": {program: "llama-bench", path: "a b/llama-bench"},
		"llama-server=/x=y":           {program: "llama-server", path: "/x=y"},
		"http://127.0.0.1:8080/v1":    {host: "127.0.0.1", port: 8080},
		"http://localhost":            {host: "localhost", port: 80},
		"llama-server=http://[::1]:9": {host: "::1", port: 9},
	} {
		if got, err := parsePeer(text); err != nil || got != want {
			t.Errorf("%q: %+v, %v", text, got, err)
		}
	}
	for _, text := range []string{"", "llama-bench", "llama-bench=", "vllm=/x", "https://127.0.0.1", "http://", "http://a/b", "http://a:b"} {
		if got, err := parsePeer(text); err == nil {
			t.Errorf("%q: %+v", text, got)
		}
	}
	if _, _, err := (peerFlag{host: "192.0.2.1", port: 80}).open(t.Context(), "", "", 0, 1); err == nil {
		t.Error("a server on another machine")
	}
}

// TestLlamaBenchIsAsked runs a program that writes what llama-bench writes.
func TestLlamaBenchIsAsked(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("the program is a shell script")
	}
	path := filepath.Join(t.TempDir(), "llama-bench")
	script := `#!/bin/sh
test "$GGML_VK_VISIBLE_DEVICES" = 3 || exit 4
case "$*" in
"-m m.gguf -r 1 -o json -d 16 -p 0 -n 8") p=0 n=8 d=16 ;;
"-m m.gguf -r 1 -o json -d 0 -p 0 -n 0 -pg 4,2") p=4 n=2 d=0 ;;
*) echo "no test like $*" >&2; exit 3 ;;
esac
echo '[{"build_commit":"abc","model_type":"llama 7B","flash_attn":false,"n_prompt":99,"n_gen":0,"samples_ns":[1]},'
echo "{\"build_commit\":\"abc\",\"n_prompt\":$p,\"n_gen\":$n,\"n_depth\":$d,\"samples_ns\":[250000000]}]"
`
	if err := os.WriteFile(path, []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	peer, end, err := peerFlag{program: llamaBenchName, path: path, devices: "3"}.open(t.Context(), "m.gguf", "", 0, 1)
	if err != nil {
		t.Fatal(err)
	}
	defer end()
	for _, test := range []bench.Test{{Gen: 8, Depth: 16}, {Prompt: 4, Gen: 2}} {
		got, err := peer.Measure(t.Context(), test, nil)
		if err != nil || got.Took != 250*time.Millisecond || got.Setup == nil || got.Setup.BuildCommit != "abc" {
			t.Errorf("%s: %+v, %v", test.Name(), got, err)
		}
	}
	if _, err := peer.Measure(t.Context(), bench.Test{Prompt: 5}, nil); err == nil || !strings.Contains(err.Error(), "no test like") {
		t.Errorf("a program that fails: %v", err)
	}
	if !peer.Warms {
		t.Error("llama-bench warms up by itself")
	}
}

// TestPeerServers asks servers that tell their own times and servers that don't, and one that refuses a text.
func TestPeerServers(t *testing.T) {
	refused, own := 0, true
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/v1/models":
			fmt.Fprint(w, `{"data":[{"id":"a model"}]}`)
			return
		case "/props":
			fmt.Fprint(w, `{"build_info":"b1"}`)
			return
		}
		var q struct {
			Model     string
			Prompt    []int
			MaxTokens int  `json:"max_tokens"`
			Cache     bool `json:"cache_prompt"`
		}
		if err := json.NewDecoder(r.Body).Decode(&q); err != nil || q.Model != "a model" {
			t.Errorf("%+v, %v", q, err)
		}
		if refused < 2 {
			refused++
			w.WriteHeader(http.StatusInternalServerError)
			return
		}
		time.Sleep(20 * time.Millisecond)
		for i := range q.MaxTokens {
			if i > 0 {
				time.Sleep(10 * time.Millisecond)
			}
			fmt.Fprintf(w, "data: {\"choices\":[{\"text\":\"x\"}]}\n\n")
			w.(http.Flusher).Flush()
		}
		timings := ""
		if own {
			timings = fmt.Sprintf(`,"timings":{"prompt_ms":%d,"predicted_ms":7.5}`, len(q.Prompt))
		}
		fmt.Fprintf(w, "data: {\"choices\":[],\"usage\":{\"completion_tokens\":%d}%s}\n\ndata: [DONE]\n\n", q.MaxTokens, timings)
	}))
	defer server.Close()
	f, err := parsePeer(server.URL)
	if err != nil {
		t.Fatal(err)
	}
	peer, end, err := f.open(t.Context(), "m.gguf", "llama 7B", 0, 1)
	if err != nil {
		t.Fatal(err)
	}
	defer end()
	if peer.Setup.BuildCommit != "b1" || peer.Setup.Program != strings.TrimPrefix(server.URL, "http://") || peer.Setup.ModelType != "llama 7B" {
		t.Errorf("%+v", peer.Setup)
	}
	for range 2 {
		if _, err := peer.Measure(t.Context(), bench.Test{Prompt: 3}, []int{1, 2, 3}); !errors.Is(err, bench.ErrRefused) {
			t.Errorf("a refused text: %v", err)
		}
	}
	for test, want := range map[bench.Test]bench.PeerRun{
		{Prompt: 3}:                   {Took: 3 * time.Millisecond},
		{Gen: 2}:                      {Took: 7500 * time.Microsecond},
		{Prompt: 4, Gen: 2, Depth: 5}: {Took: 16500 * time.Microsecond, Prompt: 9 * time.Millisecond, Gen: 7500 * time.Microsecond},
	} {
		got, err := peer.Measure(t.Context(), test, make([]int, test.Depth+max(1, test.Prompt)))
		if err != nil || got != want {
			t.Errorf("%s: %+v, %v", test.Name(), got, err)
		}
	}
	own = false
	for _, x := range []struct {
		test  bench.Test
		least time.Duration
	}{{bench.Test{Prompt: 3}, 20 * time.Millisecond}, {bench.Test{Gen: 4}, 40 * time.Millisecond}, {bench.Test{Prompt: 1, Gen: 4}, 60 * time.Millisecond}} {
		got, err := peer.Measure(t.Context(), x.test, []int{1, 2, 3})
		if err != nil || got.Took < x.least || got.Took > x.least+10*time.Second {
			t.Errorf("%s without its times: %+v, %v", x.test.Name(), got, err)
		}
	}
}

// TestPeerAnswers: a server's pieces are counted, its errors are its own, and one that tells nothing of what it keeps has no sequences.
func TestPeerAnswers(t *testing.T) {
	says := ""
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var q struct {
			Slot *int `json:"id_slot"`
		}
		if r.URL.Path != "/v1/completions" {
			w.WriteHeader(http.StatusNotFound)
			return
		}
		if err := json.NewDecoder(r.Body).Decode(&q); err != nil {
			t.Error(err)
		}
		fmt.Fprint(w, says)
		if q.Slot != nil {
			fmt.Fprintf(w, "data: {\"timings\":{\"prompt_n\":%d}}\n\n", *q.Slot)
		}
	}))
	defer server.Close()
	f, err := parsePeer(server.URL)
	if err != nil {
		t.Fatal(err)
	}
	peer, end, err := f.open(t.Context(), "m.gguf", "", 0, 4)
	if err != nil {
		t.Fatal(err)
	}
	defer end()
	const piece, usage = `data: {"choices":[{"text":"x"}]}` + "\n\n", `data: {"usage":{"completion_tokens":2}}` + "\n\n"
	for _, c := range []struct {
		says, wrong string
		pieces      int
	}{
		{piece + piece + usage, "", 2},
		{usage, "", 1}, // tokens without a text
		{piece, "2 tokens were asked for, 0 came", 1},
		{"data: {\"error\":{\"message\":\"no UTF-8\"}}\n\n", "no UTF-8", 0},
		{"data: <html>\n\n", "invalid character", 0},
		{"<html>", "2 tokens were asked for, 0 came", 0},
	} {
		pieces := 0
		says = c.says
		n, err := peer.Ask(t.Context(), []int{1, 2}, 2, func() { pieces++ })
		if pieces != c.pieces || c.wrong == "" && (n != 2 || err != nil) || c.wrong != "" && (err == nil || !strings.Contains(err.Error(), c.wrong)) {
			t.Errorf("%q: %d pieces, %d tokens, %v", c.says, pieces, n, err)
		}
	}
	says = usage
	if n, err := peer.Sequence(t.Context(), 3, []int{1, 2}, 2); n != 3 || err != nil {
		t.Errorf("%d tokens, %v", n, err)
	}
	server.Close()
	if _, _, err := f.open(t.Context(), "m.gguf", "", 0, 4); err == nil || !strings.Contains(err.Error(), "refused") {
		t.Errorf("a server that has gone: %v", err)
	}
}

// TestLlamaServerEnds: the error of a request says why the server has ended, unless the server has answered it.
func TestLlamaServerEnds(t *testing.T) {
	s := &runningServer{ended: make(chan struct{}), err: errors.New("exit status 7")}
	s.said.WriteString("GGML_ASSERT: the device is lost\n")
	close(s.ended)
	if err := s.why(t.Context(), io.ErrUnexpectedEOF); err == nil || err.Error() != "it has ended in the middle: exit status 7: GGML_ASSERT: the device is lost" {
		t.Error(err)
	}
	for _, err := range []error{nil, &loopback.StatusError{Status: 500}} {
		if got := s.why(t.Context(), err); got != err {
			t.Errorf("%v became %v", err, got)
		}
	}
}

// TestLlamaServerTellsItsDevices reads what llama-server lists.
func TestLlamaServerTellsItsDevices(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("the program is a shell script")
	}
	path := filepath.Join(t.TempDir(), llamaServerName)
	for _, c := range []struct{ says, backends, devices string }{
		{"Available devices:\n  (none)", "CPU", ""},
		{"Available devices:\n  Vulkan0: llvmpipe (LLVM 19.1.7, 256 bits) (24105 MiB, 23231 MiB free)", "Vulkan", "llvmpipe (LLVM 19.1.7, 256 bits)"},
		{"x: y\nAvailable devices:\n  CUDA0: A (1 MiB, 1 MiB free)\n  CUDA1: B (1 MiB, 1 MiB free)\n  Vulkan0: A (1 MiB, 1 MiB free)", "CUDA,Vulkan", "A + B + A"},
	} {
		script := fmt.Sprintf("#!/bin/sh\ntest \"$* $%s\" = '--list-devices 1' && cat <<END\n%s\nEND\n", visibleDevices, c.says)
		if err := os.WriteFile(path, []byte(script), 0o755); err != nil {
			t.Fatal(err)
		}
		backends, devices, err := peerFlag{program: llamaServerName, path: path, devices: "1"}.listDevices(t.Context())
		if err != nil || backends != c.backends || devices != c.devices {
			t.Errorf("%q: %q, %q, %v", c.says, backends, devices, err)
		}
	}
	if _, _, err := (peerFlag{program: llamaServerName, path: path, devices: "2"}).listDevices(t.Context()); err == nil {
		t.Error("a program that fails")
	}
}
