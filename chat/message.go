package chat

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
)

// A Message is one turn of a conversation. Roles are "system", "user", "assistant", and "tool" in formats that have it.
// Its JSON is that of OpenAI's API; reading accepts "reasoning" for "reasoning_content" too and ignores other fields.
type Message struct {
	Role    string
	Content string
	Parts   []Part // the content in parts, in place of Content

	Reasoning string     // what the assistant thought before its answer
	ToolCalls []ToolCall // what the assistant called after its answer

	ToolCallID string // of a tool's result: the call that it answers
	Name       string // of the tool whose result it is, or "" for that of the call; or of the participant who speaks
}

// A Part is a part of a message's content. Only text can be rendered: Type is "text".
type Part struct {
	Type string `json:"type"`
	Text string `json:"text"`
}

// A ToolCall is an assistant's call of a function.
type ToolCall struct {
	ID        string
	Name      string
	Arguments string // a JSON object; "" stands for {}
}

// A Tool is the definition of a function that the assistant may call. Its JSON is that of OpenAI's API, and templates
// get it in this form: {"type": "function", "function": {"name", "description", "parameters"}}.
type Tool struct {
	Name        string
	Description string
	Parameters  json.RawMessage // a JSON schema of the arguments, or nil
}

// text returns the content as one text. Several parts are separated by a newline, as in vLLM and llama.cpp.
func (m *Message) text() string {
	if m.Parts == nil {
		return m.Content
	}
	texts := make([]string, len(m.Parts))
	for i, p := range m.Parts {
		texts[i] = p.Text
	}
	return strings.Join(texts, "\n")
}

type jsonMessage struct {
	Role       string     `json:"role"`
	Content    any        `json:"content"`
	Reasoning  string     `json:"reasoning_content,omitempty"`
	ToolCalls  []ToolCall `json:"tool_calls,omitempty"`
	ToolCallID string     `json:"tool_call_id,omitempty"`
	Name       string     `json:"name,omitempty"`
}

// MarshalJSON implements json.Marshaler.
func (m Message) MarshalJSON() ([]byte, error) {
	j := jsonMessage{m.Role, m.Content, m.Reasoning, m.ToolCalls, m.ToolCallID, m.Name}
	if m.Parts != nil {
		j.Content = m.Parts
	}
	return json.Marshal(j)
}

// UnmarshalJSON implements json.Unmarshaler.
func (m *Message) UnmarshalJSON(data []byte) error {
	var content json.RawMessage
	var j struct {
		jsonMessage
		Other any `json:"reasoning"`
	}
	j.Content = &content
	if err := json.Unmarshal(data, &j); err != nil {
		return err
	}
	*m = Message{Role: j.Role, Reasoning: j.Reasoning, ToolCalls: j.ToolCalls, ToolCallID: j.ToolCallID, Name: j.Name}
	if other, ok := j.Other.(string); ok && m.Reasoning == "" {
		m.Reasoning = other
	}
	if bytes.HasPrefix(content, []byte("[")) {
		return json.Unmarshal(content, &m.Parts)
	}
	if content == nil { // missing, or null beside tool calls
		return nil
	}
	return json.Unmarshal(content, &m.Content)
}

type jsonFunction[T any] struct {
	ID       string `json:"id,omitempty"`
	Type     string `json:"type"`
	Function T      `json:"function"`
}

type jsonCall struct {
	Name      string          `json:"name"`
	Arguments json.RawMessage `json:"arguments"`
}

// MarshalJSON implements json.Marshaler.
func (c ToolCall) MarshalJSON() ([]byte, error) { return c.marshal(false) }

// marshal writes the arguments as a JSON object or as a string that holds one. What is no object stays a string.
func (c ToolCall) marshal(object bool) ([]byte, error) {
	arguments := strings.TrimSpace(c.Arguments)
	if arguments == "" {
		arguments = "{}"
	}
	raw := json.RawMessage(arguments)
	if !object || arguments[0] != '{' || !json.Valid(raw) {
		var err error
		if raw, err = json.Marshal(arguments); err != nil {
			return nil, err
		}
	}
	return json.Marshal(jsonFunction[jsonCall]{c.ID, "function", jsonCall{c.Name, raw}})
}

// UnmarshalJSON implements json.Unmarshaler. Arguments may be a string or an object.
func (c *ToolCall) UnmarshalJSON(data []byte) error {
	var j jsonFunction[jsonCall]
	if err := json.Unmarshal(data, &j); err != nil {
		return err
	}
	*c = ToolCall{ID: j.ID, Name: j.Function.Name}
	if a := j.Function.Arguments; bytes.HasPrefix(a, []byte(`"`)) {
		return json.Unmarshal(a, &c.Arguments)
	} else if string(a) != "null" {
		c.Arguments = string(a)
	}
	return nil
}

type jsonTool struct {
	Name        string          `json:"name"`
	Description string          `json:"description,omitempty"`
	Parameters  json.RawMessage `json:"parameters,omitempty"`
}

// MarshalJSON implements json.Marshaler.
func (t Tool) MarshalJSON() ([]byte, error) {
	return json.Marshal(jsonFunction[jsonTool]{Type: "function", Function: jsonTool(t)})
}

// UnmarshalJSON implements json.Unmarshaler. Tools that are not functions are errors.
func (t *Tool) UnmarshalJSON(data []byte) error {
	var j jsonFunction[jsonTool]
	if err := json.Unmarshal(data, &j); err != nil {
		return err
	}
	if j.Type != "function" || j.Function.Name == "" {
		return fmt.Errorf("chat: a tool of type %q with the function name %q is no function", j.Type, j.Function.Name)
	}
	*t = Tool(j.Function)
	return nil
}
