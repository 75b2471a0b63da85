package server

import (
	"crypto/rand"
	"encoding/json"
	"net/http"
	"slices"
	"strings"
	"time"

	"pumice"
	"pumice/chat"
	"pumice/chat/toolcall"
)

// A responsesRequest is the body of /v1/responses (OpenAI API reference, "Create a model response"). The server keeps no
// responses: the input is the whole conversation.
type responsesRequest struct {
	sampling
	format
	Model        string        `json:"model"`
	Instructions string        `json:"instructions"`
	Input        responseInput `json:"input"`
	Previous     string        `json:"previous_response_id"`
	Stream       bool          `json:"stream"`

	MaxOutputTokens *int              `json:"max_output_tokens"`
	Tools           []json.RawMessage `json:"tools"`
	Choice          json.RawMessage   `json:"tool_choice"`
	Parallel        *bool             `json:"parallel_tool_calls"`
	Text            struct {
		Format responseFormat `json:"format"`
	} `json:"text"`
	Reasoning struct {
		Effort string `json:"effort"`
	} `json:"reasoning"`
	Include     []string          `json:"include"`
	TopLogProbs int               `json:"top_logprobs"`
	Metadata    map[string]string `json:"metadata"`
	Variables   map[string]any    `json:"chat_template_kwargs"`
}

// responseInput is a text of the user's, or items.
type responseInput []responseItem

// A responseItem is a message, a call, a call's result or some reasoning.
type responseItem struct {
	Type      string       `json:"type"`
	Role      string       `json:"role"`
	Content   contentParts `json:"content"`
	Summary   contentParts `json:"summary"`
	CallID    string       `json:"call_id"`
	Name      string       `json:"name"`
	Arguments string       `json:"arguments"`
	Output    contentParts `json:"output"`
}

// contentParts are a text, or parts.
type contentParts []chat.Part

func (l *contentParts) UnmarshalJSON(b []byte) error {
	return textOrList(b, (*[]chat.Part)(l), func(text string) chat.Part { return chat.Part{Type: "text", Text: text} })
}

func (l contentParts) text() string {
	var texts []string
	for _, p := range l {
		texts = append(texts, p.Text)
	}
	return strings.Join(texts, "\n")
}

func (l *responseInput) UnmarshalJSON(b []byte) error {
	return textOrList(b, (*[]responseItem)(l), func(text string) responseItem {
		return responseItem{Role: "user", Content: contentParts{{Type: "text", Text: text}}}
	})
}

// conversation is what the request asks for.
func (q *responsesRequest) conversation() (*conversation, error) {
	if q.Previous != "" {
		return nil, invalid("previous_response_id", "previous_response_id: this server keeps no responses; send the whole conversation as input")
	}
	c := &conversation{sampling: q.sampling, format: q.format, oneCall: q.Parallel != nil && !*q.Parallel,
		variables: withEffort(q.Variables, q.Reasoning.Effort), n: 1, topLogProbs: q.TopLogProbs, stream: q.Stream}
	c.logProbs = slices.Contains(q.Include, "message.output_text.logprobs")
	if q.Text.Format.Type != "" {
		c.format.Response = q.Text.Format
	}
	if q.MaxOutputTokens != nil {
		c.MaxTokens = q.MaxOutputTokens
	}
	if given(q.Choice) {
		if err := json.Unmarshal(q.Choice, &c.choice); err != nil {
			return nil, err
		}
	}
	for _, raw := range q.Tools {
		var t struct {
			Type        string          `json:"type"`
			Name        string          `json:"name"`
			Description string          `json:"description"`
			Parameters  json.RawMessage `json:"parameters"`
			Strict      bool            `json:"strict"`
		}
		if err := json.Unmarshal(raw, &t); err != nil {
			return nil, invalid("tools", "tools: %v", err)
		}
		if t.Type != "function" { // Codex offers tools that only OpenAI's server has
			continue
		}
		if t.Name == "" {
			return nil, invalid("tools", "tools: a function has no name")
		}
		c.tools = append(c.tools, function{chat.Tool{Name: t.Name, Description: t.Description, Parameters: t.Parameters}, t.Strict})
	}
	return c, q.messages(c)
}

// messages fills in the messages. Templates want one message of the system, which comes first.
func (q *responsesRequest) messages(c *conversation) error {
	var system []string
	if q.Instructions != "" {
		system = append(system, q.Instructions)
	}
	assistant := func(more bool) *chat.Message { // the message that an item of the assistant's belongs to
		if n := len(c.messages); more && n > 0 && c.messages[n-1].Role == "assistant" {
			return &c.messages[n-1]
		}
		c.messages = append(c.messages, chat.Message{Role: "assistant"})
		return &c.messages[len(c.messages)-1]
	}
	for i, item := range q.Input {
		switch {
		case item.Type == "function_call":
			m := assistant(true)
			m.ToolCalls = append(m.ToolCalls, chat.ToolCall{ID: item.CallID, Name: item.Name, Arguments: item.Arguments})
		case item.Type == "function_call_output":
			c.messages = append(c.messages, chat.Message{Role: "tool", Parts: item.Output, ToolCallID: item.CallID})
		case item.Type == "reasoning":
			text := item.Content.text()
			if text == "" {
				text = item.Summary.text()
			}
			assistant(false).Reasoning = text
		case item.Type != "" && item.Type != "message":
			return invalid("input", "input: item %d has the type %q, which this server does not have", i, item.Type)
		case item.Role == "system" || item.Role == "developer":
			system = append(system, item.Content.text())
		case item.Role == "assistant":
			last := assistant(true)
			if len(last.Parts)+len(last.ToolCalls) > 0 {
				last = assistant(false)
			}
			last.Parts = item.Content
		default: // prompt refuses roles that there are not
			c.messages = append(c.messages, chat.Message{Role: item.Role, Parts: item.Content})
		}
	}
	if len(system) > 0 {
		c.messages = slices.Insert(c.messages, 0, chat.Message{Role: "system", Content: strings.Join(system, "\n\n")})
	}
	return nil
}

func (s *Server) responses(w http.ResponseWriter, r *http.Request) error {
	var q responsesRequest
	e, c, err := s.beginConversation(w, r, &q, &q.Model)
	if err != nil {
		return err
	}
	defer e.leave()
	return s.converse(w, r, e, c, &responsesProtocol{response: q.response(e.model.Name), logProbs: c.logProbs})
}

// A response is an answer in the form of the Responses API.
type response struct {
	ID           string            `json:"id"`
	Object       string            `json:"object"`
	CreatedAt    int64             `json:"created_at"`
	Status       string            `json:"status"`
	Error        any               `json:"error"`
	Incomplete   any               `json:"incomplete_details"`
	Instructions *string           `json:"instructions"`
	MaxTokens    *int              `json:"max_output_tokens"`
	Model        string            `json:"model"`
	Output       []any             `json:"output"`
	Parallel     bool              `json:"parallel_tool_calls"`
	Previous     *string           `json:"previous_response_id"`
	Reasoning    any               `json:"reasoning"`
	Store        bool              `json:"store"`
	Temperature  *float32          `json:"temperature"`
	Text         any               `json:"text"`
	Choice       json.RawMessage   `json:"tool_choice"`
	Tools        []json.RawMessage `json:"tools"`
	TopP         *float32          `json:"top_p"`
	Truncation   string            `json:"truncation"`
	Usage        any               `json:"usage"`
	Metadata     map[string]string `json:"metadata"`
}

// response is what the answer repeats of the request.
func (q *responsesRequest) response(model string) response {
	x := response{ID: "resp_" + rand.Text(), Object: "response", CreatedAt: time.Now().Unix(), Status: "in_progress", Instructions: orNull(q.Instructions),
		MaxTokens: q.MaxOutputTokens, Model: model, Output: []any{}, Parallel: q.Parallel == nil || *q.Parallel,
		Reasoning:   map[string]any{"effort": orNull(q.Reasoning.Effort), "summary": nil},
		Temperature: q.Temperature, Text: map[string]any{"format": map[string]string{"type": "text"}}, Choice: q.Choice, Tools: q.Tools, TopP: q.TopP,
		Truncation: "disabled", Metadata: q.Metadata}
	if f := q.Text.Format; f.Type != "" && f.Type != "text" {
		x.Text = map[string]any{"format": map[string]any{"type": f.Type, "name": f.Name, "schema": f.Schema}}
	}
	if !given(x.Choice) {
		x.Choice = json.RawMessage(`"auto"`)
	}
	if x.Tools == nil {
		x.Tools = []json.RawMessage{}
	}
	if x.Metadata == nil {
		x.Metadata = map[string]string{}
	}
	return x
}

// responsesProtocol writes an answer as a response, whose output is an item for each block.
type responsesProtocol struct {
	response response
	logProbs bool
	out      *stream
	sequence int    // of the next event
	id       string // of the item under way
}

// fields are those of an event or an item.
type fields = map[string]any

// part is the content of an item that has any.
func (p *responsesProtocol) part(b *block, text string, probs []chatProb) fields {
	if b.kind == toolcall.Reasoning {
		return fields{"type": "reasoning_text", "text": text}
	}
	if probs == nil {
		probs = []chatProb{}
	}
	return fields{"type": "output_text", "text": text, "annotations": []any{}, "logprobs": probs}
}

// item is a block as an item; one that has just begun has no content.
func (p *responsesProtocol) item(b *block, status string, content ...any) fields {
	if content == nil {
		content = []any{}
	}
	switch b.kind {
	case toolcall.Reasoning:
		return fields{"type": "reasoning", "id": p.id, "status": status, "summary": []any{}, "content": content}
	case toolcall.Call:
		return fields{"type": "function_call", "id": p.id, "call_id": b.id, "name": b.name, "status": status, "arguments": b.text.String()}
	}
	return fields{"type": "message", "id": p.id, "role": "assistant", "status": status, "content": content}
}

// begun makes up the id of an item.
func (p *responsesProtocol) begun(b *block) {
	p.id = [...]string{toolcall.Content: "msg_", toolcall.Reasoning: "rs_", toolcall.Call: "fc_"}[b.kind] + rand.Text()
}

// ended is an item that is complete, with its part.
func (p *responsesProtocol) ended(a *answer, b *block) (item, part fields) {
	var probs []chatProb
	if p.logProbs && b.kind == toolcall.Content {
		probs = a.chatProbs(0)
	}
	part = p.part(b, b.text.String(), probs)
	status := "completed"
	if b == a.last() && a.finish() == pumice.FinishLength {
		status = "incomplete"
	}
	item = p.item(b, status, part)
	p.response.Output = append(p.response.Output, item)
	return item, part
}

func (p *responsesProtocol) whole(list []*answer) any {
	for _, b := range list[0].blocks {
		p.begun(b)
		p.ended(list[0], b)
	}
	p.finish(list[0])
	return p.response
}

// finish fills in what is known at the end.
func (p *responsesProtocol) finish(a *answer) {
	p.response.Status = "completed"
	if a.finish() == pumice.FinishLength {
		p.response.Status, p.response.Incomplete = "incomplete", fields{"reason": "max_output_tokens"}
	}
	used := usageOf([]*task{a.task})
	p.response.Usage = fields{
		"input_tokens": used.PromptTokens, "input_tokens_details": fields{"cached_tokens": used.Details.CachedTokens},
		"output_tokens": used.CompletionTokens, "output_tokens_details": fields{"reasoning_tokens": a.thought}, "total_tokens": used.TotalTokens,
	}
}

func (p *responsesProtocol) writer(out *stream) writer {
	p.out = out
	return p
}

func (p *responsesProtocol) send(name string, f fields) error {
	f["type"], f["sequence_number"] = name, p.sequence
	p.sequence++
	return p.out.event(name, f)
}

// sendOf sends an event about a block's item, or with content about its content.
func (p *responsesProtocol) sendOf(b *block, name string, f fields) error {
	f["item_id"], f["output_index"] = p.id, b.index
	if b.kind != toolcall.Call {
		f["content_index"] = 0
	}
	return p.send(name, f)
}

func (p *responsesProtocol) begin([]*answer) error {
	if err := p.send("response.created", fields{"response": p.response}); err != nil {
		return err
	}
	return p.send("response.in_progress", fields{"response": p.response})
}

func (p *responsesProtocol) open(_ *answer, b *block) error {
	p.begun(b)
	if err := p.send("response.output_item.added", fields{"output_index": b.index, "item": p.item(b, "in_progress")}); err != nil {
		return err
	}
	if b.kind == toolcall.Call {
		return nil
	}
	return p.sendOf(b, "response.content_part.added", fields{"part": p.part(b, "", nil)})
}

func (p *responsesProtocol) more(a *answer, b *block, text string) error {
	f := fields{"delta": text}
	if b.kind == toolcall.Content {
		f["logprobs"] = []chatProb{}
		if p.logProbs {
			f["logprobs"], a.told = a.chatProbs(a.told), len(a.probs)
		}
	}
	return p.sendOf(b, responseEvents[b.kind]+".delta", f)
}

// responseEvents are the names of events about blocks, but for their ends.
var responseEvents = [...]string{toolcall.Content: "response.output_text", toolcall.Reasoning: "response.reasoning_text",
	toolcall.Call: "response.function_call_arguments"}

func (p *responsesProtocol) shut(a *answer, b *block) error {
	item, part := p.ended(a, b)
	done := fields{"text": b.text.String()}
	switch b.kind {
	case toolcall.Call:
		done = fields{"arguments": b.text.String(), "name": b.name}
	case toolcall.Content:
		done["logprobs"] = part["logprobs"]
	}
	if err := p.sendOf(b, responseEvents[b.kind]+".done", done); err != nil {
		return err
	}
	if b.kind != toolcall.Call {
		if err := p.sendOf(b, "response.content_part.done", fields{"part": part}); err != nil {
			return err
		}
	}
	return p.send("response.output_item.done", fields{"output_index": b.index, "item": item})
}

func (p *responsesProtocol) end(list []*answer) error {
	p.finish(list[0])
	return p.send("response."+p.response.Status, fields{"response": p.response})
}

func (p *responsesProtocol) fail(err *requestError) error {
	p.response.Status, p.response.Error = "failed", fields{"code": err.Type, "message": err.Message}
	return p.send("response.failed", fields{"response": p.response})
}
