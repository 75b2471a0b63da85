package server

import (
	"crypto/rand"
	"net/http"
	"strings"
	"time"

	"pumice/chat"
	"pumice/chat/toolcall"
)

// A chatRequest is the body of /v1/chat/completions (OpenAI API reference, "Create chat completion").
type chatRequest struct {
	sampling
	format
	Model    string         `json:"model"`
	Messages []chat.Message `json:"messages"`
	N        *int           `json:"n"`

	Stream        bool          `json:"stream"`
	StreamOptions streamOptions `json:"stream_options"`
	LogProbs      bool          `json:"logprobs"`
	TopLogProbs   int           `json:"top_logprobs"`

	Tools    []function `json:"tools"`
	Choice   toolChoice `json:"tool_choice"`
	Parallel *bool      `json:"parallel_tool_calls"`

	Variables map[string]any `json:"chat_template_kwargs"`
	Effort    string         `json:"reasoning_effort"`
}

type streamOptions struct {
	IncludeUsage bool `json:"include_usage"`
}

// end ends a stream of chunks, with the usage if that was asked for.
func (o streamOptions) end(out *stream, chunk completion, tasks []*task) error {
	if o.IncludeUsage {
		used := usageOf(tasks)
		chunk.Choices, chunk.Usage = []any{}, &used
		if err := out.send(chunk); err != nil {
			return err
		}
	}
	return out.done()
}

// conversation is what the request asks for.
func (q *chatRequest) conversation() (*conversation, error) {
	n, _, err := choices(q.N, q.Stream, nil)
	if err != nil {
		return nil, err
	}
	c := &conversation{sampling: q.sampling, format: q.format, messages: q.Messages, tools: q.Tools, choice: q.Choice,
		oneCall: q.Parallel != nil && !*q.Parallel, variables: withEffort(q.Variables, q.Effort),
		n: n, logProbs: q.LogProbs, topLogProbs: q.TopLogProbs, stream: q.Stream}
	return c, nil
}

// withEffort adds how much the model is to reason to a template's variables.
func withEffort(variables map[string]any, effort string) map[string]any {
	if effort == "" {
		return variables
	}
	if variables == nil {
		variables = map[string]any{}
	}
	variables["reasoning_effort"] = effort
	return variables
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

// A chatText is a message, or what a chunk adds to one.
type chatText struct {
	Role      string     `json:"role,omitempty"`
	Content   any        `json:"content,omitempty"` // nil: missing; a nil pointer: null
	Reasoning string     `json:"reasoning_content,omitempty"`
	Same      string     `json:"reasoning,omitempty"` // the same: clients read one or the other
	Calls     []chatCall `json:"tool_calls,omitempty"`
}

// A chatCall is a call, or what a chunk adds to one: id, type and name come first.
type chatCall struct {
	Index    *int         `json:"index,omitempty"` // in a chunk
	ID       string       `json:"id,omitempty"`
	Type     string       `json:"type,omitempty"`
	Function chatFunction `json:"function"`
}

type chatFunction struct {
	Name      string `json:"name,omitempty"`
	Arguments string `json:"arguments"`
}

func (s *Server) chat(w http.ResponseWriter, r *http.Request) error {
	var q chatRequest
	e, c, err := s.beginConversation(w, r, &q, &q.Model)
	if err != nil {
		return err
	}
	defer e.leave()
	return s.converse(w, r, e, c, &chatProtocol{q: &q, model: e.model.Name})
}

// chatProtocol writes answers as chat completions.
type chatProtocol struct {
	q     *chatRequest
	model string
	out   *stream
	chunk completion
}

func (p *chatProtocol) whole(list []*answer) any {
	out := newCompletion("chatcmpl", "chat.completion", p.model)
	for _, a := range list {
		text := a.text(toolcall.Content)
		m := &chatText{Role: "assistant", Content: text, Reasoning: a.text(toolcall.Reasoning)}
		m.Same = m.Reasoning
		for _, b := range a.blocks {
			if b.kind == toolcall.Call {
				m.Calls = append(m.Calls, chatCall{ID: b.id, Type: "function", Function: chatFunction{b.name, b.text.String()}})
			}
		}
		if len(m.Calls) > 0 && strings.TrimSpace(text) == "" {
			m.Content = (*string)(nil)
		}
		finish := a.finish()
		out.Choices = append(out.Choices, chatChoice{Index: a.index, Message: m, Probs: p.q.probs(a.task, 0), Finish: &finish})
	}
	used, took := usageOf(tasksOf(list)), timingsOf(list[0].task)
	out.Usage, out.Timings = &used, &took
	return out
}

func (p *chatProtocol) writer(out *stream) writer {
	p.out, p.chunk = out, newCompletion("chatcmpl", "chat.completion.chunk", p.model)
	return p
}

// send sends a chunk of an answer, with the log-probabilities of the tokens since the last one. The chunk with the role comes
// before the first one, not before the prompt is evaluated: llama-server does so, and programs that measure take the time of the
// first chunk for that of the prompt.
func (p *chatProtocol) send(a *answer, c chatChoice) error {
	if !a.begun {
		a.begun = true
		if err := p.write(a, chatChoice{Delta: &chatText{Role: "assistant", Content: ""}}); err != nil {
			return err
		}
	}
	if a.told < len(a.probs) {
		c.Probs, a.told = p.q.probs(a.task, a.told), len(a.probs)
	}
	return p.write(a, c)
}

func (p *chatProtocol) write(a *answer, c chatChoice) error {
	c.Index = a.index
	p.chunk.Choices = []any{c}
	return p.out.send(p.chunk)
}

func (p *chatProtocol) begin([]*answer) error { return nil }

func (p *chatProtocol) open(a *answer, b *block) error {
	if b.kind != toolcall.Call {
		return nil
	}
	index := a.calls - 1
	return p.send(a, chatChoice{Delta: &chatText{Calls: []chatCall{{&index, b.id, "function", chatFunction{Name: b.name}}}}})
}

func (p *chatProtocol) more(a *answer, b *block, text string) error {
	d := &chatText{}
	switch b.kind {
	case toolcall.Content:
		d.Content = text
	case toolcall.Reasoning:
		d.Reasoning, d.Same = text, text
	case toolcall.Call:
		index := a.calls - 1
		d.Calls = []chatCall{{Index: &index, Function: chatFunction{Arguments: text}}}
	}
	return p.send(a, chatChoice{Delta: d})
}

func (p *chatProtocol) shut(*answer, *block) error { return nil }

func (p *chatProtocol) end(list []*answer) error {
	for i, a := range list {
		finish := a.finish()
		if i == len(list)-1 {
			took := timingsOf(list[0].task)
			p.chunk.Timings = &took
		}
		if err := p.send(a, chatChoice{Delta: &chatText{}, Finish: &finish}); err != nil {
			return err
		}
	}
	return p.q.StreamOptions.end(p.out, p.chunk, tasksOf(list))
}

func (p *chatProtocol) fail(err *requestError) error { return p.out.fail(err) }
