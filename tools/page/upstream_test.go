package page

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"
)

// A standIn is in front of a server: it passes everything on but chat completions whose question ends with "fake NAME", which it answers
// as the server may, in OpenAI's documented form. It remembers what was asked.
type standIn struct {
	*httptest.Server
	mu     sync.Mutex
	bodies []map[string]any
	times  map[string]int // a NAME was asked for
	left   chan struct{}  // gets a value when a client leaves "fake slow"
}

func newStandIn(server string) *standIn {
	target, err := url.Parse(server)
	if err != nil {
		panic(err)
	}
	s := &standIn{times: map[string]int{}, left: make(chan struct{}, 1)}
	proxy := httputil.NewSingleHostReverseProxy(target)
	proxy.FlushInterval = -1
	s.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodPost || r.URL.Path != "/v1/chat/completions" {
			proxy.ServeHTTP(w, r)
			return
		}
		text, err := io.ReadAll(r.Body)
		if err != nil {
			return
		}
		var body map[string]any
		if err := json.Unmarshal(text, &body); err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		question, last := questionOf(body)
		s.mu.Lock()
		s.bodies = append(s.bodies, body)
		s.times[question]++
		times := s.times[question]
		s.mu.Unlock()
		if _, name, ok := strings.Cut(question, "fake "); ok { // there may be files before it
			s.answer(w, r, name, last, times)
			return
		}
		r.Body, r.ContentLength = io.NopCloser(strings.NewReader(string(text))), int64(len(text))
		proxy.ServeHTTP(w, r)
	}))
	return s
}

// questionOf is the last message of the user, and the role of the last message.
func questionOf(body map[string]any) (question, last string) {
	messages, _ := body["messages"].([]any)
	for _, m := range messages {
		m := m.(map[string]any)
		if last, _ = m["role"].(string); last == "user" {
			question, _ = m["content"].(string)
		}
	}
	return question, last
}

// asked is the body of the last request.
func (s *standIn) asked(t *testing.T) map[string]any {
	t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.bodies) == 0 {
		t.Fatal("nothing was asked")
	}
	return s.bodies[len(s.bodies)-1]
}

type object = map[string]any

// markdown is what answers to "fake markdown" have, with what an answer must not do.
const markdown = "# Title\n\nSome **bold**, *emphasis*, ~~gone~~, `code` and [a link](https://example.org/a?b=c \"x\"). " +
	"See https://example.org/bare.\n\n" +
	"- one\n- two\n  1. inner\n  2. more\n- [x] done\n\n> a quote\n> goes on\n\n" +
	"| Planet | Moons |\n| :-- | --: |\n| Earth | 1 |\n| Mars | 2 |\n\n" +
	"```go\npackage main\n\nfunc main() {\n\tprintln(\"<hi> & bye, with a line that is much longer than a phone's screen is wide, or so we hope\")\n}\n```\n\n" +
	"The area is $\\pi r^2$ and **注意：**这里没有空格。\n\n" +
	"<script>window.hacked = 1</script> <img src=x onerror=\"window.hacked = 1\"> [bad](javascript:window.hacked=1) " +
	"![a picture](https://example.org/track.png) [data](data:text/html,x)\n"

func (s *standIn) answer(w http.ResponseWriter, r *http.Request, name, last string, times int) {
	fail := func(code int, kind, message string, more object) {
		e := object{"code": code, "type": kind, "message": message}
		for k, v := range more {
			e[k] = v
		}
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(code)
		json.NewEncoder(w).Encode(object{"error": e})
	}
	send := func(data string) {
		fmt.Fprintf(w, "data: %s\n\n", data)
		w.(http.Flusher).Flush()
	}
	chunk := func(delta object, more object) {
		choice := object{"index": 0, "delta": delta, "finish_reason": nil}
		for k, v := range more {
			choice[k] = v
		}
		text, _ := json.Marshal(object{"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": "smollm2", "choices": []any{choice}})
		send(string(text))
	}
	say := func(text string) {
		for len(text) > 0 { // cut anywhere between characters
			end := min(len(text), 7)
			for end < len(text) && text[end]&0xC0 == 0x80 {
				end++
			}
			chunk(object{"content": text[:end]}, nil)
			text = text[end:]
		}
	}
	begin := func() {
		w.Header().Set("Content-Type", "text/event-stream")
		chunk(object{"role": "assistant", "content": ""}, nil)
	}
	end := func(reason string) {
		chunk(object{}, object{"finish_reason": reason})
		send(`{"choices":[],"usage":{"prompt_tokens":20,"completion_tokens":30,"total_tokens":50,"prompt_tokens_details":{"cached_tokens":5}},` +
			`"timings":{"cache_n":5,"prompt_n":15,"prompt_ms":100,"prompt_per_second":150,"predicted_n":30,"predicted_ms":1000,"predicted_per_second":30}}`)
		send("[DONE]")
	}
	switch name {
	case "markdown":
		begin()
		say(markdown)
		end("stop")
	case "reasoning":
		begin()
		for _, part := range []string{"The user ", "wants **", "a number**. ", "Seven is prime."} {
			chunk(object{"reasoning_content": part}, nil)
		}
		time.Sleep(300 * time.Millisecond)
		say("It is 7.")
		end("stop")
	case "tools":
		begin()
		if last == "tool" {
			say("It is sunny in Paris, and in Rome it rains.")
			end("stop")
			return
		}
		call := func(index int, id, name, arguments string) {
			f := object{"arguments": arguments}
			c := object{"index": index, "function": f}
			if id != "" {
				c["id"], c["type"], f["name"] = id, "function", name
			}
			chunk(object{"tool_calls": []any{c}}, nil)
		}
		call(0, "call_a", "weather", "")
		call(0, "", "", `{"city":`)
		call(0, "", "", `"Paris"}`)
		call(1, "call_b", "weather", `{"city":"Rome"}`)
		end("tool_calls")
	case "slow":
		begin()
		for i := 1; ; i++ {
			select {
			case <-r.Context().Done():
				s.left <- struct{}{}
				return
			case <-time.After(20 * time.Millisecond):
				say(fmt.Sprintf("word%d ", i))
			}
		}
	case "long":
		begin()
		for i := range 60 {
			say(fmt.Sprintf("Paragraph %d of a long answer.\n\n", i+1))
		}
		end("length")
	case "cut":
		begin()
		say("The beginning of")
		time.Sleep(time.Second) // a browser may drop what comes right before the end
		panic(http.ErrAbortHandler)
	case "error in the stream":
		begin()
		say("It begins")
		send(`{"error":{"code":500,"type":"server_error","message":"the model failed: the server's log says why"}}`)
	case "overflow":
		fail(400, "exceed_context_size_error", "request (5000 tokens) exceeds the available context size (4096 tokens), try increasing it",
			object{"n_prompt_tokens": 5000, "n_ctx": 4096})
	case "loading":
		if times == 1 {
			fail(503, "unavailable_error", "Loading model", nil)
			return
		}
		begin()
		say("Loaded now.")
		end("stop")
	case "refused":
		fail(400, "invalid_request_error", "temperature is 90: want 0 to 10", nil)
	case "failed":
		http.Error(w, "<html>Bad gateway</html>", http.StatusBadGateway)
	default:
		fail(404, "not_found_error", "no such answer", nil)
	}
}
