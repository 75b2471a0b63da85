// Package toolcall reads what models answer: content, reasoning and calls of tools, as the text arrives.
//
// A Parser takes an answer piece by piece and returns Deltas; however the text is cut, they add up to the same message.
// A Syntax says how the model writes calls; Detect finds it from the model's chat template. What looks like a call but
// is none (cut off, malformed, of an unknown function) is content, so every byte of an answer is content, reasoning,
// part of a call, or a mark of one of these and the white space next to it.
//
// The text must spell special tokens, such as [TOOL_CALLS] and <|python_tag|>, but not the one that ends the answer. The
// package writes no prompts (that is package chat) and decides on no finish reason.
package toolcall

import (
	"strings"

	"pumice/chat"
)

// A Syntax is a way to write tool calls.
type Syntax string

// The syntaxes. Arguments are JSON objects, and calls may follow one another, if not said otherwise.
const (
	// None has no calls, only reasoning.
	None Syntax = ""
	// Hermes is <tool_call>{"name": ..., "arguments": ...}</tool_call> (model cards of Hermes 2 Pro, Qwen2.5, Qwen3 and
	// SmolLM3), or a list of these between the tags (SmolLM2). The last closing tag may be missing. Qwen2.5-Coder forgets
	// the tags, so what JSON has counts too.
	Hermes Syntax = "hermes"
	// QwenXML is <tool_call><function=NAME><parameter=KEY>VALUE</parameter></function></tool_call> (template of
	// Qwen3-Coder). A newline at each end of a value belongs to its tags. The outer tags may be missing: the model
	// forgets them.
	QwenXML Syntax = "qwen3-coder"
	// Llama3 is {"name": ..., "parameters": ...} where a line begins, after <|python_tag|> or not, several with ";"
	// between them or in a list; also <|python_tag|>NAME.call(KEY=VALUE) and Pythonic (Meta's prompt format pages of
	// Llama 3.1 and 3.2).
	Llama3 Syntax = "llama3"
	// Pythonic is [NAME(KEY=VALUE, ...), ...] where a line begins, with Python's literals as values (Meta's page of
	// Llama 3.2); also between <|python_start|> and <|python_end|> (Llama 4).
	Pythonic Syntax = "pythonic"
	// Mistral is [TOOL_CALLS][{"name": ..., "arguments": ...}] or [TOOL_CALLS]NAME[ARGS]{...}, perhaps with [CALL_ID]ID
	// before [ARGS] (tokenizers v3 to v13 of mistral-common).
	Mistral Syntax = "mistral"
	// ChatGLM3 is a line with the function's name, then a block ```python with tool_call(KEY=VALUE, ...)
	// (process_response of modeling_chatglm.py).
	ChatGLM3 Syntax = "chatglm3"
	// JSON is {"name": ..., "arguments": ...} or a list of these where a line begins, in a block ```json or not, for
	// models that were trained on no syntax.
	JSON Syntax = "json"
)

// Detect returns the syntax that a chat template asks for. The first row that fits counts:
//
//	<arg_key>, <｜tool, <|channel|>        None: GLM-4.5, DeepSeek and gpt-oss have syntaxes that are not known here
//	<function= and <parameter=             QwenXML
//	[TOOL_CALLS]                           Mistral
//	<tool_call>                            Hermes
//	func_name1( or <|python_start|>        Pythonic
//	<|python_tag|>                         Llama3
//	[gMASK]sop                             ChatGLM3
//	tools                                  JSON
//	anything else                          None
func Detect(template string) Syntax {
	has := func(text string) bool { return strings.Contains(template, text) }
	switch {
	case has("<arg_key>"), has("<｜tool"), has("<|channel|>"):
		return None
	case has("<function=") && has("<parameter="):
		return QwenXML
	case has("[TOOL_CALLS]"):
		return Mistral
	case has("<tool_call>"):
		return Hermes
	case has("func_name1("), has("<|python_start|>"):
		return Pythonic
	case has("<|python_tag|>"):
		return Llama3
	case has("[gMASK]sop"):
		return ChatGLM3
	case has("tools"):
		return JSON
	}
	return None
}

// Options configure a Parser.
type Options struct {
	// Tools are the functions that may be called. A call of any other is content, so without tools there are no calls.
	// Values that a syntax writes without a type get that of the function's schema.
	Tools []chat.Tool
	// Thinking is the mark with which the prompt began the reasoning, or "" (chat.Prompt.Thinking). An answer may begin
	// it by itself, with <think> or [THINK]; the closing mark has a slash after the bracket.
	Thinking string
	// Eager returns a call as it arrives, once its name is known. If it does not parse in the end, what was returned
	// stands, with arguments that are not JSON, and the text after that is content. Without Eager a call is returned
	// when it is complete.
	Eager bool
	// NewID returns the id of a call for which the model wrote none; nil stands for nine random letters and digits, as
	// Mistral's templates require.
	NewID func() string
}

// A Kind says what a Delta is a piece of.
type Kind int

// The kinds of deltas.
const (
	Content Kind = iota
	Reasoning
	Call
)

// A Delta is a piece of an answer. It ends with a whole character if the text pushed does.
type Delta struct {
	Kind Kind
	Text string // of a call: a fragment of its arguments, which together are a JSON object

	Index    int    // of a call: its number in the answer, from 0
	ID, Name string // of a call, in its first delta only
}

// An Answer adds up deltas. The zero value is empty.
type Answer struct {
	content, reasoning strings.Builder
	calls              []chat.ToolCall
	arguments          []*strings.Builder // of the calls
}

// Add adds deltas.
func (a *Answer) Add(deltas ...Delta) {
	for _, d := range deltas {
		switch d.Kind {
		case Content:
			a.content.WriteString(d.Text)
		case Reasoning:
			a.reasoning.WriteString(d.Text)
		case Call:
			if d.Index == len(a.calls) {
				a.calls = append(a.calls, chat.ToolCall{ID: d.ID, Name: d.Name})
				a.arguments = append(a.arguments, new(strings.Builder))
			}
			a.arguments[d.Index].WriteString(d.Text)
		}
	}
}

// Message returns the answer so far.
func (a *Answer) Message() chat.Message {
	m := chat.Message{Role: "assistant", Content: a.content.String(), Reasoning: a.reasoning.String()}
	for i, c := range a.calls {
		c.Arguments = a.arguments[i].String()
		m.ToolCalls = append(m.ToolCalls, c)
	}
	return m
}

// Parse parses a whole answer.
func Parse(syntax Syntax, o Options, text string) chat.Message {
	p := New(syntax, o)
	var a Answer
	a.Add(p.Push(text)...)
	a.Add(p.Close()...)
	return a.Message()
}
