package page

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"
)

// In the pages of Open WebUI.
const (
	webUIAnswer = `#response-content-container`
	webUIStop   = `button[aria-label=Stop]`
)

// TestOpenWebUI has Open WebUI list the server's model, chat with it, show an answer while it comes, and stop another.
func TestOpenWebUI(t *testing.T) {
	if openWebUI == "" {
		t.Skip("tools/openwebui.sh sets PUMICE_TEST_OPENWEBUI")
	}
	url := serveOpenWebUI(t)
	x := newTab(t, url, browser, chromedp.WithNewBrowserContext())
	x.do(chromedp.Navigate(url))
	news := `document.querySelector('[role=dialog] button[aria-label=Close]')`
	x.wait(news)
	x.script(news + `.click()`) // it may still be on its way to its place
	x.wait("!" + news)
	ask := func(question string) {
		t.Helper()
		answers := x.count(webUIAnswer)
		x.click("#chat-input")
		x.insert(question)
		x.wait(`document.querySelector('#send-message-button:not([disabled])')`)
		x.keys(kb.Enter)
		x.wait(fmt.Sprintf(`document.querySelectorAll(%q).length > %d`, webUIAnswer, answers))
	}

	x.click("#model-selector-model-button")
	const option = "#model-selector-list [role=option]"
	x.wait(fmt.Sprintf(`document.querySelector(%q)`, option))
	if models := eval[[]string](x, fmt.Sprintf(`[...document.querySelectorAll(%q)].map(e => e.dataset.value)`, option)); !slices.Equal(models, []string{"smollm2"}) {
		t.Fatalf("the models are %q", models)
	}
	x.shot("models")
	x.click(option)

	const question = "What is the capital of France? Tell me about it."
	want, reason := answerOf(t, 1000, question)
	if reason != "stop" || !strings.Contains(want, "Paris") {
		t.Fatalf("the server answers %q (%s)", want, reason)
	}
	x.script(fmt.Sprintf(`window.lengths = new Set(); new MutationObserver(() => lengths.add(document.querySelector(%q)?.innerText.length)).observe(
		document.body, {subtree: true, childList: true, characterData: true})`, webUIAnswer))
	ask(question)
	x.wait(fmt.Sprintf(`document.querySelector(%q).innerText.includes('Paris')`, webUIAnswer))
	x.wait(fmt.Sprintf(`!document.querySelector(%q)`, webUIStop))
	if got := x.text(webUIAnswer); got != want {
		t.Errorf("the answer is %q, and the server's %q", got, want)
	}
	if lengths := eval[[]int](x, `[...lengths].filter(n => n > 0)`); len(lengths) < 10 || !slices.IsSorted(lengths) || lengths[len(lengths)-1] != len(want) {
		t.Errorf("the answer was shown with lengths of %d", lengths)
	}
	x.shot("answered")

	// Left alone, this answer has limit tokens and more.
	const limit = 200
	story, reason := answerOf(t, limit, question, want, longStory)
	if reason != "length" {
		t.Fatalf("the story is too short: %q", story)
	}
	before := predicted(t)
	ask(longStory)
	x.wait(fmt.Sprintf(`[...document.querySelectorAll(%q)].at(-1).innerText.length > 20`, webUIAnswer))
	x.click(webUIStop)
	x.wait(fmt.Sprintf(`!document.querySelector(%q)`, webUIStop))
	idle(t)
	if n := predicted(t) - before; n >= limit {
		t.Errorf("the server generated %d tokens of an answer that was stopped", n)
	}
	if stopped := x.text(webUIAnswer); !strings.HasPrefix(story, stopped) || len(stopped) <= 20 {
		t.Errorf("of %q was shown %q", story, stopped)
	}
	x.shot("stopped")
}

// serveOpenWebUI starts Open WebUI with the server as the only one that it may ask, and waits until it is ready.
func serveOpenWebUI(t *testing.T) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	host, port, _ := net.SplitHostPort(listener.Addr().String())
	listener.Close()
	home := t.TempDir()
	log, err := os.Create(filepath.Join(home, "log"))
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	cmd := exec.Command(openWebUI, "serve", "--host", host, "--port", port)
	cmd.Dir, cmd.Stdout, cmd.Stderr = home, log, log
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + home, "DATA_DIR=" + home + "/data", "STATIC_DIR=" + home + "/static",
		"USE_SLIM_DOCKER=true", // it has what its requirements-slim.txt says
		"OFFLINE_MODE=true", "HF_HUB_OFFLINE=1", "ANONYMIZED_TELEMETRY=False", "DO_NOT_TRACK=true", "SCARF_NO_ANALYTICS=true", "GLOBAL_LOG_LEVEL=WARNING",
		"WEBUI_AUTH=False", "WEBUI_SECRET_KEY=of a server that answers on loopback alone", "CORS_ALLOW_ORIGIN=http://" + host + ":" + port,
		"ENABLE_TITLE_GENERATION=False", "ENABLE_FOLLOW_UP_GENERATION=False", "ENABLE_TAGS_GENERATION=False", // a small model rambles there
		"ENABLE_OLLAMA_API=False", "OPENAI_API_BASE_URL=" + server.url + "/v1", "OPENAI_API_KEY=none",
		`DEFAULT_MODEL_PARAMS={"temperature": 0, "function_calling": "legacy"}`} // legacy: without tools, of which the model's template knows nothing
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	t.Cleanup(func() {
		cmd.Process.Kill()
		<-ended
		if text, _ := os.ReadFile(log.Name()); t.Failed() {
			t.Logf("Open WebUI's log:\n%s", text)
		}
	})
	url := "http://" + host + ":" + port
	for end := time.Now().Add(3 * time.Minute); ; time.Sleep(100 * time.Millisecond) {
		if r, err := http.Get(url + "/health"); err == nil {
			r.Body.Close()
			return url
		}
		select {
		case err := <-ended:
			ended <- err
			t.Fatalf("Open WebUI ended: %v", err)
		default:
			if time.Now().After(end) {
				t.Fatal("Open WebUI does not start")
			}
		}
	}
}

// answerOf is the server's own answer to a conversation, of max tokens at most, and why that ended.
func answerOf(t *testing.T, max int, conversation ...string) (text, reason string) {
	t.Helper()
	var messages []object
	for i, content := range conversation {
		messages = append(messages, object{"role": []string{"user", "assistant"}[i%2], "content": content})
	}
	body, _ := json.Marshal(object{"model": "smollm2", "temperature": 0, "max_tokens": max, "messages": messages})
	r, err := http.Post(server.url+"/v1/chat/completions", "application/json", bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	defer r.Body.Close()
	var answer struct {
		Choices []struct {
			Message      struct{ Content string }
			FinishReason string `json:"finish_reason"`
		}
	}
	if err := json.NewDecoder(r.Body).Decode(&answer); err != nil || len(answer.Choices) != 1 {
		t.Fatal(r.Status, err)
	}
	return answer.Choices[0].Message.Content, answer.Choices[0].FinishReason
}

// idle waits a few seconds for the server to work on nothing for a second.
func idle(t *testing.T) {
	t.Helper()
	since, end, before := time.Now(), time.Now().Add(5*time.Second), predicted(t)
	for ; time.Since(since) < time.Second; time.Sleep(50 * time.Millisecond) {
		if now := predicted(t); now != before || metric(t, "llamacpp:requests_processing") > 0 {
			since, before = time.Now(), now
		}
		if time.Now().After(end) {
			t.Fatal("the server is still at work")
		}
	}
}

// predicted is the number of tokens that the server has generated.
func predicted(t *testing.T) int {
	t.Helper()
	return metric(t, "llamacpp:tokens_predicted_total")
}

func metric(t *testing.T, name string) int {
	t.Helper()
	r, err := http.Get(server.url + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer r.Body.Close()
	text, err := io.ReadAll(r.Body)
	if err != nil {
		t.Fatal(err)
	}
	m := regexp.MustCompile(`(?m)^` + name + `\{[^}]*\} (\S+)$`).FindSubmatch(text)
	if m == nil {
		t.Fatalf("no %s in %s", name, text)
	}
	value, err := strconv.ParseFloat(string(m[1]), 64)
	if err != nil {
		t.Fatal(err)
	}
	return int(value)
}
