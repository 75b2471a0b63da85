package chat

import (
	"context"
	"encoding/json"
	"slices"
	"strings"

	"pumice/chat/internal/jinja"
)

// takes is what a template was found to take of a conversation. transformers passes to a template what its caller gave,
// and templates differ in the form that they expect.
type takes struct {
	tools bool      // definitions of tools
	calls *callForm // tool calls, in this form; nil if it takes none
	parts bool      // a user's content as a list of parts
}

// callForm is the form of a message with tool calls.
type callForm struct {
	text bool // arguments are JSON text, not an object
	null bool // empty content is none, not ""
}

// callForms are the forms in the order in which they are tried. Objects come first: a template that takes both writes
// them with tojson, so that they look as in training whichever spacing a client chose. DeepSeek's templates concatenate
// the text and tell a call by its content, which is none.
var callForms = []callForm{{}, {null: true}, {text: true}, {text: true, null: true}}

// message returns a message as transformers' callers write it.
func (k takes) message(m Message) (map[string]any, error) {
	var role, content any = m.Role, m.text()
	if slices.Contains(roles, m.Role) {
		role = jinja.Own(m.Role)
	}
	if m.Parts != nil && k.parts && m.Role == "user" {
		list := make([]any, len(m.Parts))
		for i, p := range m.Parts {
			list[i] = map[string]any{"type": p.Type, "text": p.Text}
		}
		content = list
	}
	out := map[string]any{"role": role}
	if len(m.ToolCalls) > 0 {
		calls := make([]json.RawMessage, len(m.ToolCalls))
		for i, c := range m.ToolCalls {
			var err error
			if calls[i], err = c.marshal(!k.calls.text); err != nil {
				return nil, err
			}
		}
		list, err := json.Marshal(calls)
		if err != nil {
			return nil, err
		}
		out["tool_calls"] = json.RawMessage(list)
		if content == "" && k.calls.null {
			content = nil
		}
	}
	out["content"] = content
	for key, text := range map[string]string{"reasoning_content": m.Reasoning, "tool_call_id": m.ToolCallID, "name": m.Name} {
		if text != "" {
			out[key] = text
		}
	}
	return out, nil
}

// tried finds out what the template takes, once, by rendering a small conversation in each form and looking for it in
// the result. The error is that of rendering when ctx has ended.
func (t *jinjaTemplate) tried(ctx context.Context) (takes, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.takes != nil {
		return *t.takes, nil
	}
	const key, value = "pumice_key", "pumice_value"
	tool := Tool{Name: "pumice_tool", Description: "-", Parameters: json.RawMessage(`{"type": "object", "properties": {"` + key +
		`": {"type": "string", "description": "-"}}, "required": ["` + key + `"]}`)}
	ask := Message{Role: "user", Content: value}
	parts := Message{Role: "user", Parts: []Part{{"text", value}}}
	// Mistral's templates want ids of nine letters and digits.
	call := Message{Role: "assistant", ToolCalls: []ToolCall{{"pumice001", tool.Name, `{"` + key + `": "` + value + `"}`}}}
	result := Message{Role: "tool", Content: "-", ToolCallID: "pumice001", Name: tool.Name}
	shown := func(k takes, o Options, msgs ...Message) string {
		list := make([]any, len(msgs))
		for i, m := range msgs {
			list[i], _ = k.message(m) // these have a JSON form
		}
		spans, err := t.render(ctx, list, o)
		if err != nil {
			return ""
		}
		var b strings.Builder
		for _, s := range spans {
			b.WriteString(s.Text)
		}
		return b.String()
	}
	var found takes
	found.tools = strings.Contains(shown(takes{}, Options{Tools: []Tool{tool}}, ask), tool.Name)
	// Where a template expects a text, a list would be shown as Python writes it.
	text := shown(takes{parts: true}, Options{}, parts)
	found.parts = strings.Contains(text, value) && !strings.Contains(text, `'`+value) && !strings.Contains(text, `"`+value)
	for _, form := range callForms {
		text := shown(takes{calls: &form}, Options{Tools: []Tool{tool}, NoGenerationPrompt: true}, Message{Role: "user", Content: "-"}, call, result)
		ok := strings.Contains(text, value) && !strings.Contains(text, key+`': '`) // not Python's repr
		if form.text {
			ok = strings.Contains(text, call.ToolCalls[0].Arguments)
		}
		if ok {
			found.calls = &form
			break
		}
	}
	if ctx.Err() != nil { // what was found is of renderings that it ended
		_, err := t.render(ctx, nil, Options{})
		return takes{}, err
	}
	t.takes = &found
	return found, nil
}
