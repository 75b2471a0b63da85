package server

import (
	"crypto/rand"
	"encoding/json"
	"net/http"
	"strings"
	"time"

	"pumice"
	"pumice/chat"
)

// A chatRequest is the body of /v1/chat/completions (OpenAI API reference, "Create chat completion").
type chatRequest struct {
	sampling
	Model    string        `json:"model"`
	Messages []chatMessage `json:"messages"`
	N        *int          `json:"n"`

	Stream        bool          `json:"stream"`
	StreamOptions streamOptions `json:"stream_options"`
	LogProbs      bool          `json:"logprobs"`
	TopLogProbs   int           `json:"top_logprobs"`

	ResponseFormat responseFormat  `json:"response_format"`
	Tools          []any           `json:"tools"`
	ToolChoice     json.RawMessage `json:"tool_choice"`

	Variables map[string]any `json:"chat_template_kwargs"`
	Effort    string         `json:"reasoning_effort"`
}

type streamOptions struct {
	IncludeUsage bool `json:"include_usage"`
}

// end ends a stream of chunks, with the usage if that was asked for. The client may be gone.
func (o streamOptions) end(out *stream, chunk completion, tasks []*task) {
	if o.IncludeUsage {
		used := usageOf(tasks)
		chunk.Choices, chunk.Usage = []any{}, &used
		if err := out.send(chunk); err != nil {
			return
		}
	}
	_ = out.done()
}

type responseFormat struct {
	Type string `json:"type"`
}

type chatMessage struct {
	Role    string  `json:"role"`
	Content content `json:"content"`
}

// content is a text, or parts that are texts.
type content string

func (c *content) UnmarshalJSON(b []byte) error {
	*c = ""
	switch b[0] {
	case 'n':
		return nil
	case '"':
		return json.Unmarshal(b, (*string)(c))
	}
	var parts []struct {
		Type string `json:"type"`
		Text string `json:"text"`
	}
	if err := json.Unmarshal(b, &parts); err != nil {
		return invalid("messages", "the content of a message is neither a text nor a list of parts")
	}
	var all strings.Builder
	for _, p := range parts {
		if p.Type != "text" && p.Type != "input_text" && p.Type != "output_text" {
			return invalid("messages", "a message has a part of type %q, and the model reads texts alone", p.Type)
		}
		all.WriteString(p.Text)
	}
	*c = content(all.String())
	return nil
}

// prompt is what the model is asked to continue.
func (q *chatRequest) prompt(r *http.Request, e *use) ([]int, error) {
	if len(q.Messages) == 0 {
		return nil, invalid("messages", "there are no messages")
	}
	switch q.ResponseFormat.Type {
	case "", "text":
	default:
		return nil, invalid("response_format", "response_format %q is not supported", q.ResponseFormat.Type)
	}
	if choice := string(q.ToolChoice); len(q.Tools) > 0 && choice != `"none"` {
		return nil, invalid("tools", "tools are not supported")
	}
	var messages []chat.Message
	for i, m := range q.Messages {
		switch m.Role {
		case "developer":
			m.Role = "system"
		case "system", "user", "assistant":
		default:
			return nil, invalid("messages", "message %d has the role %q; want system, developer, user or assistant", i, m.Role)
		}
		messages = append(messages, chat.Message{Role: m.Role, Content: string(m.Content)})
	}
	o := chat.Options{Variables: q.Variables}
	if q.Effort != "" {
		if o.Variables == nil {
			o.Variables = map[string]any{}
		}
		o.Variables["reasoning_effort"] = q.Effort
	}
	p, err := e.EncodeChat(r.Context(), messages, o)
	return p.IDs, err
}

// A completion is an answer of OpenAI's protocol, or a chunk of one.
type completion struct {
	ID      string   `json:"id"`
	Object  string   `json:"object"`
	Created int64    `json:"created"`
	Model   string   `json:"model"`
	Choices []any    `json:"choices"`
	Usage   *usage   `json:"usage,omitempty"`
	Timings *timings `json:"timings,omitempty"`
}

// newCompletion begins an answer of a kind, as in "chatcmpl".
func newCompletion(kind, object, model string) completion {
	return completion{ID: kind + "-" + rand.Text(), Object: object, Created: time.Now().Unix(),
		Model: model, Choices: []any{}}
}

type chatChoice struct {
	Index   int        `json:"index"`
	Message *chatText  `json:"message,omitempty"`
	Delta   *chatText  `json:"delta,omitempty"`
	Probs   *chatProbs `json:"logprobs"`
	Finish  *string    `json:"finish_reason"`
}

type chatText struct {
	Role    string  `json:"role,omitempty"`
	Content *string `json:"content,omitempty"`
}

func (s *Server) chat(w http.ResponseWriter, r *http.Request) {
	var q chatRequest
	e := s.begin(w, r, &q, &q.Model)
	if e == nil {
		return
	}
	defer e.leave()
	tasks, err := q.tasks(r, e)
	if err == nil {
		err = start(tasks)
	}
	if err != nil {
		s.fail(w, r, err)
		return
	}
	defer closeAll(tasks)
	if q.Stream {
		s.streamChat(w, r, &q, tasks)
		return
	}
	if err := run(r.Context(), tasks); err != nil {
		s.fail(w, r, err)
		return
	}
	out := newCompletion("chatcmpl", "chat.completion", e.model.Name)
	for _, t := range tasks {
		result := t.g.Result()
		out.Choices = append(out.Choices, chatChoice{Index: t.index, Message: &chatText{Role: "assistant", Content: &result.Text},
			Probs: q.probs(t, 0), Finish: &result.FinishReason})
	}
	used, took := usageOf(tasks), timingsOf(tasks[0])
	out.Usage, out.Timings = &used, &took
	reply(w, http.StatusOK, out)
}

// tasks are the answers that the request asks for.
func (q *chatRequest) tasks(r *http.Request, e *use) ([]*task, error) {
	n, _, err := choices(q.N, q.Stream, nil)
	if err != nil {
		return nil, err
	}
	o, err := q.options(e)
	if err != nil {
		return nil, err
	}
	if !q.LogProbs && q.TopLogProbs > 0 {
		return nil, invalid("top_logprobs", "top_logprobs is %d without logprobs", q.TopLogProbs)
	}
	o.LogProbs, o.TopLogProbs = q.LogProbs, q.TopLogProbs
	ids, err := q.prompt(r, e)
	if err != nil {
		return nil, err
	}
	var tasks []*task
	for i := range n {
		t := &task{index: i, engine: e, request: pumice.Request{Prompt: ids, GenerateOptions: o}, each: func(*task, pumice.Token) error { return nil }}
		o.Sampling.Seed++
		tasks = append(tasks, t)
	}
	return tasks, nil
}

// streamChat sends an answer as it comes.
func (s *Server) streamChat(w http.ResponseWriter, r *http.Request, q *chatRequest, tasks []*task) {
	out := newStream(w)
	defer out.close()
	chunk := newCompletion("chatcmpl", "chat.completion.chunk", tasks[0].engine.model.Name)
	send := func(c chatChoice) error {
		chunk.Choices = []any{c}
		return out.send(chunk)
	}
	text := func(s string) *string { return &s }
	for _, t := range tasks {
		if err := send(chatChoice{Index: t.index, Delta: &chatText{Role: "assistant", Content: text("")}}); err != nil {
			return
		}
		t.each = func(t *task, token pumice.Token) error {
			if token.Text == "" && token.Prob == nil {
				return nil
			}
			return send(chatChoice{Index: t.index, Delta: &chatText{Content: &token.Text}, Probs: q.probs(t, len(t.probs)-1)})
		}
	}
	if err := run(r.Context(), tasks); err != nil {
		s.broken(out, r, err)
		return
	}
	for i, t := range tasks {
		finish := t.g.Result().FinishReason
		if i == len(tasks)-1 {
			took := timingsOf(tasks[0])
			chunk.Timings = &took
		}
		if err := send(chatChoice{Index: t.index, Delta: &chatText{}, Finish: &finish}); err != nil {
			return
		}
	}
	q.StreamOptions.end(out, chunk, tasks)
}

// broken ends a stream with an error.
func (s *Server) broken(out *stream, r *http.Request, err error) {
	if r.Context().Err() != nil {
		return
	}
	s.log.Error().Err(err).Str("path", r.URL.Path).Msg("an answer broke off")
	_ = out.send(map[string]any{"error": explain(err)})
}
