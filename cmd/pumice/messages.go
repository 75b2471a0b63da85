package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"pumice"
	"pumice/chat"
	"pumice/internal/humanize"
)

// jsonMessage is a message as a program writes it down.
type jsonMessage struct {
	Role      string       `json:"role"`
	Content   *jsonContent `json:"content"`
	Reasoning string       `json:"reasoning_content"` // of an assistant, as a conversation at the terminal writes it
}

// jsonContent is a text, or a list of parts as OpenAI's API has it, all of which are text.
type jsonContent string

func (c *jsonContent) UnmarshalJSON(text []byte) error {
	var parts []struct {
		Type string  `json:"type"`
		Text *string `json:"text"`
	}
	if json.Unmarshal(text, (*string)(c)) == nil {
		return nil
	}
	if err := json.Unmarshal(text, &parts); err != nil || len(parts) == 0 {
		return errors.New(`"content" must be a text or a list of {"type":"text","text":...}`)
	}
	var all strings.Builder
	for _, part := range parts {
		if part.Type != "text" {
			return fmt.Errorf(`a part of "content" has type %q: only "text" can be used`, part.Type)
		}
		if part.Text == nil {
			return errors.New(`a part of "content" has no text`)
		}
		all.WriteString(*part.Text)
	}
	*c = jsonContent(all.String())
	return nil
}

// roles are those of OpenAI's API. The model's chat format decides which of them it takes.
var roles = []string{"system", "developer", "user", "assistant", "tool", "function"}

// conversation checks messages.
func conversation(list []jsonMessage) ([]chat.Message, error) {
	if len(list) == 0 {
		return nil, pumice.ErrEmptyPrompt
	}
	messages := make([]chat.Message, len(list))
	for i, m := range list {
		if !slices.Contains(roles, m.Role) {
			return nil, fmt.Errorf("message %d: role %q is not one of %s", i, m.Role, strings.Join(roles, ", "))
		}
		if m.Content == nil {
			return nil, fmt.Errorf("message %d: no content", i)
		}
		messages[i] = chat.Message{Role: m.Role, Content: string(*m.Content), Reasoning: m.Reasoning}
	}
	return messages, nil
}

// maxMessagesBytes bounds a file with a conversation: far more than any context holds.
const maxMessagesBytes = 16 << 20

// readMessages reads a conversation from a JSON file, from standard input for "-".
func (p *program) readMessages(name string) ([]chat.Message, error) {
	return readMessages(p.input(name), name)
}

func readMessages(r io.Reader, name string) ([]chat.Message, error) {
	text, err := io.ReadAll(io.LimitReader(r, maxMessagesBytes+1))
	if err != nil {
		return nil, err
	}
	if len(text) > maxMessagesBytes {
		return nil, fmt.Errorf("%s: more than %s of messages", name, humanize.Bytes(maxMessagesBytes))
	}
	messages, err := parseMessages(string(text))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return messages, nil
}

func parseMessages(text string) ([]chat.Message, error) {
	var list []jsonMessage
	d := json.NewDecoder(strings.NewReader(text))
	d.DisallowUnknownFields()
	if err := d.Decode(&list); err != nil {
		return nil, fmt.Errorf(`want [{"role":"user","content":"..."},...]: %w`, plainJSONError(err))
	}
	if _, err := d.Token(); err != io.EOF {
		return nil, errors.New("there is text after the list of messages")
	}
	return conversation(list)
}

// plainJSONError is an error of encoding/json without the names of Go's types.
func plainJSONError(err error) error {
	var wrong *json.UnmarshalTypeError
	switch {
	case errors.As(err, &wrong) && wrong.Field != "":
		return fmt.Errorf("at byte %d: %q is of type %s", wrong.Offset, wrong.Field, wrong.Value)
	case errors.As(err, &wrong):
		return fmt.Errorf("at byte %d: a value of type %s", wrong.Offset, wrong.Value)
	case err == io.EOF:
		return errors.New("the file is empty")
	}
	return err
}
