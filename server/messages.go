package server

import (
	"crypto/rand"
	"encoding/json"
	"net/http"
	"slices"
	"strings"

	"pumice"
	"pumice/chat"
	"pumice/chat/toolcall"
)

// A messagesRequest is the body of /v1/messages (Anthropic API reference, "Create a Message").
type messagesRequest struct {
	sampling
	format
	Model    string             `json:"model"`
	System   contentBlocks      `json:"system"`
	Messages []anthropicMessage `json:"messages"`
	Stream   bool               `json:"stream"`

	StopSequences texts             `json:"stop_sequences"`
	Tools         []anthropicTool   `json:"tools"`
	Choice        *anthropicChoice  `json:"tool_choice"`
	Thinking      anthropicThinking `json:"thinking"`
	Variables     map[string]any    `json:"chat_template_kwargs"`
	OutputFormat  *responseFormat   `json:"output_format"`
	OutputConfig  struct {
		Format *responseFormat `json:"format"`
	} `json:"output_config"`
}

type anthropicMessage struct {
	Role    string        `json:"role"`
	Content contentBlocks `json:"content"`
}

// contentBlocks are a text, or blocks.
type contentBlocks []contentBlock

// A contentBlock is a part of a message or of a tool's result, of those kinds that models of text can read.
type contentBlock struct {
	Type      string          `json:"type"`
	Text      string          `json:"text"`        // text
	Thinking  string          `json:"thinking"`    // thinking
	ID        string          `json:"id"`          // tool_use
	Name      string          `json:"name"`        // tool_use
	Input     json.RawMessage `json:"input"`       // tool_use
	ToolUseID string          `json:"tool_use_id"` // tool_result
	Content   contentBlocks   `json:"content"`     // tool_result
}

func (l *contentBlocks) UnmarshalJSON(b []byte) error {
	return textOrList(b, (*[]contentBlock)(l), func(text string) contentBlock { return contentBlock{Type: "text", Text: text} })
}

type anthropicTool struct {
	Type        string          `json:"type"`
	Name        string          `json:"name"`
	Description string          `json:"description"`
	Schema      json.RawMessage `json:"input_schema"`
	Strict      bool            `json:"strict"`
}

type anthropicChoice struct {
	Type            string `json:"type"`
	Name            string `json:"name"`
	DisableParallel bool   `json:"disable_parallel_tool_use"`
}

type anthropicThinking struct {
	Type string `json:"type"`
}

// billing begins a block that Claude Code puts before the system prompt. It changes with each request, so that no prompt would
// be found in the cache.
const billing = "x-anthropic-billing-header:"

// conversation is what the request asks for.
func (q *messagesRequest) conversation() (*conversation, error) {
	c := &conversation{sampling: q.sampling, format: q.format, variables: q.Variables, n: 1, stream: q.Stream}
	c.Stop = slices.Concat(q.Stop, q.StopSequences)
	q.System = slices.DeleteFunc(q.System, func(b contentBlock) bool { return strings.HasPrefix(b.Text, billing) })
	system, err := q.System.parts("system")
	if err != nil {
		return nil, err
	}
	if len(system) > 0 {
		c.messages = append(c.messages, chat.Message{Role: "system", Parts: system})
	}
	for _, m := range q.Messages {
		list, err := m.messages()
		if err != nil {
			return nil, err
		}
		c.messages = append(c.messages, list...)
	}
	for _, t := range q.Tools {
		if t.Type != "" && t.Type != "custom" {
			return nil, invalid("tools", "tools: %q is a tool of type %q, which only Anthropic's server has", t.Name, t.Type)
		}
		if t.Name == "" {
			return nil, invalid("tools", "tools: a tool has no name")
		}
		c.tools = append(c.tools, function{chat.Tool{Name: t.Name, Description: t.Description, Parameters: t.Schema}, t.Strict})
	}
	if x := q.Choice; x != nil {
		mode, ok := map[string]string{"auto": "auto", "any": "required", "tool": "required", "none": "none"}[x.Type]
		if !ok || (x.Type == "tool") != (x.Name != "") {
			return nil, invalid("tool_choice", "tool_choice %q: want auto, any, none, or tool with a name", x.Type)
		}
		c.choice, c.oneCall = toolChoice{mode, x.Name}, x.DisableParallel
	}
	for _, f := range []*responseFormat{q.OutputFormat, q.OutputConfig.Format} {
		if f != nil {
			c.format.Response = *f
		}
	}
	switch q.Thinking.Type {
	case "":
	case "enabled", "adaptive", "disabled": // Qwen3's templates, and those made after them, ask for this variable
		if c.variables == nil {
			c.variables = map[string]any{}
		}
		c.variables["enable_thinking"] = q.Thinking.Type != "disabled"
	default:
		return nil, invalid("thinking", "thinking %q: want enabled, adaptive or disabled", q.Thinking.Type)
	}
	return c, nil
}

// parts are blocks of text as parts of a message.
func (l contentBlocks) parts(param string) ([]chat.Part, error) {
	var parts []chat.Part
	for _, b := range l {
		if b.Type != "text" {
			return nil, invalid(param, "%s: a block of type %q: the model reads texts alone", param, b.Type)
		}
		parts = append(parts, chat.Part{Type: "text", Text: b.Text})
	}
	return parts, nil
}

// messages are the turns that a message has: results of tools come before what the user says.
func (m *anthropicMessage) messages() ([]chat.Message, error) {
	if m.Role != "user" && m.Role != "assistant" && m.Role != "system" {
		return nil, invalid("messages", "a message has the role %q; want user or assistant", m.Role)
	}
	var results []chat.Message
	own := chat.Message{Role: m.Role}
	for _, b := range m.Content {
		switch {
		case b.Type == "thinking" && m.Role == "assistant":
			own.Reasoning += b.Thinking
		case b.Type == "redacted_thinking":
		case b.Type == "tool_use" && m.Role == "assistant":
			call := chat.ToolCall{ID: b.ID, Name: b.Name}
			if given(b.Input) {
				call.Arguments = string(b.Input)
			}
			own.ToolCalls = append(own.ToolCalls, call)
		case b.Type == "tool_result" && m.Role == "user":
			parts, err := b.Content.parts("messages")
			if err != nil {
				return nil, err
			}
			results = append(results, chat.Message{Role: "tool", Parts: parts, ToolCallID: b.ToolUseID})
		default:
			parts, err := contentBlocks{b}.parts("messages")
			if err != nil {
				return nil, err
			}
			own.Parts = append(own.Parts, parts...)
		}
	}
	if len(results) > 0 && len(own.Parts) == 0 {
		return results, nil
	}
	return append(results, own), nil
}

func (s *Server) messages(w http.ResponseWriter, r *http.Request) error {
	var q messagesRequest
	e, c, err := s.beginConversation(w, r, &q, &q.Model)
	if err != nil {
		return err
	}
	defer e.leave()
	return s.converse(w, r, e, c, &messagesProtocol{stops: c.Stop, message: message{ID: "msg_" + rand.Text(), Type: "message",
		Role: "assistant", Model: e.model.Name, Content: []any{}}})
}

// countTokens says how long the prompt of a request is.
func (s *Server) countTokens(w http.ResponseWriter, r *http.Request) error {
	var q messagesRequest
	e, c, err := s.beginConversation(w, r, &q, &q.Model)
	if err != nil {
		return err
	}
	defer e.leave()
	p, err := c.prompt(r.Context(), e)
	if err != nil {
		return err
	}
	reply(w, http.StatusOK, map[string]int{"input_tokens": len(p.IDs)})
	return nil
}

// A message is an answer in Anthropic's form.
type message struct {
	ID         string         `json:"id"`
	Type       string         `json:"type"`
	Role       string         `json:"role"`
	Model      string         `json:"model"`
	Content    []any          `json:"content"`
	StopReason *string        `json:"stop_reason"`
	Stop       *string        `json:"stop_sequence"`
	Usage      anthropicUsage `json:"usage"`
}

type anthropicUsage struct {
	Input   int `json:"input_tokens"` // but for those that the cache had
	Cached  int `json:"cache_read_input_tokens"`
	Created int `json:"cache_creation_input_tokens"`
	Output  int `json:"output_tokens"`
}

type textBlock struct {
	Type string `json:"type"`
	Text string `json:"text"`
}

type thinkingBlock struct {
	Type      string `json:"type"`
	Thinking  string `json:"thinking"`
	Signature string `json:"signature"`
}

type toolUseBlock struct {
	Type  string          `json:"type"`
	ID    string          `json:"id"`
	Name  string          `json:"name"`
	Input json.RawMessage `json:"input"`
}

// anthropicBlock is a block with a text.
func anthropicBlock(b *block, text string) any {
	switch b.kind {
	case toolcall.Reasoning:
		return thinkingBlock{"thinking", text, ""}
	case toolcall.Call:
		input := json.RawMessage(text)
		if !json.Valid(input) { // none yet, or it was cut off
			input = json.RawMessage("{}")
		}
		return toolUseBlock{"tool_use", b.id, b.name, input}
	}
	return textBlock{"text", text}
}

// messagesProtocol writes an answer as a message.
type messagesProtocol struct {
	stops   []string
	message message
	out     *stream
}

func (p *messagesProtocol) whole(list []*answer) any {
	a := list[0]
	for _, b := range a.blocks {
		p.message.Content = append(p.message.Content, anthropicBlock(b, b.text.String()))
	}
	p.finish(a)
	return p.message
}

// finish fills in what is known at the end.
func (p *messagesProtocol) finish(a *answer) {
	reason := "end_turn"
	switch stop := stopped(a.task, p.stops); {
	case a.finish() == finishCalls:
		reason = "tool_use"
	case a.finish() == pumice.FinishLength:
		reason = "max_tokens"
	case stop != "":
		reason, p.message.Stop = "stop_sequence", &stop
	}
	p.message.StopReason = &reason
	used := usageOf([]*task{a.task})
	p.message.Usage = anthropicUsage{Input: used.PromptTokens - used.Details.CachedTokens, Cached: used.Details.CachedTokens, Output: used.CompletionTokens}
}

func (p *messagesProtocol) writer(out *stream) writer {
	p.out = out
	out.pingWith("event: ping\ndata: {\"type\":\"ping\"}\n\n")
	return p
}

// An anthropicEvent is an event of a stream.
type anthropicEvent struct {
	Type    string          `json:"type"`
	Message *message        `json:"message,omitempty"`
	Index   *int            `json:"index,omitempty"` // of the block
	Block   any             `json:"content_block,omitempty"`
	Delta   any             `json:"delta,omitempty"`
	Usage   *anthropicUsage `json:"usage,omitempty"`
}

func (p *messagesProtocol) send(e anthropicEvent) error { return p.out.event(e.Type, e) }

func (p *messagesProtocol) begin(list []*answer) error {
	p.message.Usage.Input = len(list[0].request.Prompt)
	if err := p.send(anthropicEvent{Type: "message_start", Message: &p.message}); err != nil {
		return err
	}
	return p.send(anthropicEvent{Type: "ping"})
}

func (p *messagesProtocol) open(_ *answer, b *block) error {
	return p.send(anthropicEvent{Type: "content_block_start", Index: &b.index, Block: anthropicBlock(b, "")})
}

func (p *messagesProtocol) more(_ *answer, b *block, text string) error {
	var delta any
	switch b.kind {
	case toolcall.Reasoning:
		delta = map[string]string{"type": "thinking_delta", "thinking": text}
	case toolcall.Call:
		delta = map[string]string{"type": "input_json_delta", "partial_json": text}
	default:
		delta = map[string]string{"type": "text_delta", "text": text}
	}
	return p.send(anthropicEvent{Type: "content_block_delta", Index: &b.index, Delta: delta})
}

func (p *messagesProtocol) shut(_ *answer, b *block) error {
	return p.send(anthropicEvent{Type: "content_block_stop", Index: &b.index})
}

func (p *messagesProtocol) end(list []*answer) error {
	p.finish(list[0])
	delta := map[string]any{"stop_reason": p.message.StopReason, "stop_sequence": p.message.Stop}
	if err := p.send(anthropicEvent{Type: "message_delta", Delta: delta, Usage: &p.message.Usage}); err != nil {
		return err
	}
	return p.send(anthropicEvent{Type: "message_stop"})
}

func (p *messagesProtocol) fail(err *requestError) error {
	return p.out.event("error", anthropicError(err))
}

// anthropicError is an error in Anthropic's form.
func anthropicError(err *requestError) any {
	kind, ok := map[int]string{http.StatusBadRequest: "invalid_request_error", http.StatusUnauthorized: "authentication_error",
		http.StatusForbidden: "permission_error", http.StatusNotFound: "not_found_error",
		http.StatusRequestEntityTooLarge: "request_too_large", http.StatusServiceUnavailable: "overloaded_error"}[err.Code]
	if !ok {
		kind = "api_error"
	}
	return map[string]any{"type": "error", "error": map[string]string{"type": kind, "message": err.Message}}
}
