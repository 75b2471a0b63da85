package server

import (
	"bytes"
	"encoding/json"
	"slices"

	"pumice"
	"pumice/chat"
	"pumice/chat/toolcall"
	"pumice/constrain"
)

// A function is a tool that a request offers.
type function struct {
	chat.Tool
	strict bool // its calls have to fit its schema
}

func (f *function) UnmarshalJSON(b []byte) error {
	if err := json.Unmarshal(b, &f.Tool); err != nil {
		return invalid("tools", "tools: %v", err)
	}
	var more struct {
		Function struct {
			Strict bool `json:"strict"`
		} `json:"function"`
	}
	err := json.Unmarshal(b, &more)
	f.strict = more.Function.Strict
	return err
}

// parameters is the schema of the function's arguments, which are an object.
func (f *function) parameters() []byte {
	var fields map[string]json.RawMessage
	if !given(f.Parameters) {
		return nil
	}
	if json.Unmarshal(f.Parameters, &fields) != nil || fields["type"] != nil {
		return f.Parameters
	}
	object := []byte(`{"type":"object"`)
	if len(fields) > 0 {
		object = append(object, ',')
	}
	return append(object, bytes.TrimSpace(f.Parameters)[1:]...)
}

// A toolChoice says whether the model may call functions (auto), must not (none) or has to (required), and which one then.
type toolChoice struct {
	mode string // "" is auto
	name string // the only one; "": any
}

func (c *toolChoice) UnmarshalJSON(b []byte) error {
	var named struct {
		Type     string `json:"type"`
		Name     string `json:"name"`
		Function struct {
			Name string `json:"name"`
		} `json:"function"`
	}
	*c = toolChoice{}
	switch {
	case b[0] == 'n':
		return nil
	case b[0] == '"':
		if err := json.Unmarshal(b, &c.mode); err != nil {
			return err
		}
		if !slices.Contains([]string{"auto", "none", "required"}, c.mode) {
			return invalid("tool_choice", "tool_choice %q: want auto, none, required or a function", c.mode)
		}
		return nil
	}
	if err := json.Unmarshal(b, &named); err != nil || named.Type != "function" || named.Name+named.Function.Name == "" {
		return invalid("tool_choice", "tool_choice: want auto, none, required or a function")
	}
	c.mode, c.name = "required", named.Name+named.Function.Name
	return nil
}

// offered are the functions that the model is told of.
func (q *conversation) offered() []chat.Tool {
	var list []chat.Tool
	if q.choice.mode != "none" {
		for _, f := range q.tools {
			list = append(list, f.Tool)
		}
	}
	return list
}

// callable are the functions that it may call.
func (q *conversation) callable() ([]function, error) {
	list := q.tools
	if q.choice.mode == "none" {
		list = nil
	}
	if q.choice.name != "" {
		list = slices.DeleteFunc(slices.Clone(list), func(f function) bool { return f.Name != q.choice.name })
	}
	if q.choice.mode == "required" && len(list) == 0 {
		return nil, invalid("tool_choice", "tool_choice asks for a call of a function that is not in tools")
	}
	return list, nil
}

// maxCalls is how many calls a model that has to call functions makes at most.
const maxCalls = 8

// A callForm is how calls are written that have to fit a grammar.
type callForm struct {
	syntax toolcall.Syntax // that reads them
	mark   string          // with which they begin, where no other text does, or ""
	constrain.ToolOptions
}

// formOf is the form for a model that writes calls in a syntax. One that is not JSON is replaced by one that is.
func formOf(syntax toolcall.Syntax) callForm {
	switch syntax {
	case toolcall.Hermes, toolcall.QwenXML:
		return callForm{toolcall.Hermes, "<tool_call>", constrain.ToolOptions{Prefix: "<tool_call>\n", Suffix: "\n</tool_call>", Separator: "\n"}}
	case toolcall.Mistral:
		return callForm{toolcall.Mistral, "[TOOL_CALLS]", constrain.ToolOptions{Begin: "[TOOL_CALLS][", End: "]", Separator: ", "}}
	case toolcall.Llama3:
		return callForm{toolcall.Llama3, "", constrain.ToolOptions{ArgumentsKey: "parameters", Separator: "; "}}
	}
	return callForm{toolcall.JSON, "", constrain.ToolOptions{Separator: "\n"}}
}

// marks are what reasoning and calls begin and end with, which some models have as special tokens.
var marks = []string{"<think>", "</think>", "[THINK]", "[/THINK]", "<tool_call>", "</tool_call>", "[TOOL_CALLS]"}

// A reading is how an answer is read, and what it has to fit.
type reading struct {
	syntax     toolcall.Syntax
	options    toolcall.Options
	special    bool                 // special tokens are spelled
	constraint *constraint          // nil: any text will do
	grammars   []*constrain.Grammar // of the constraint's matchers
}

// reading is how the answers are read to a prompt that has begun the reasoning with a mark, or not: "".
func (q *conversation) reading(e *use, thinking string) (*reading, error) {
	f, err := e.ChatFormat()
	if err != nil {
		return nil, err
	}
	functions, err := q.callable()
	if err != nil {
		return nil, err
	}
	content, err := q.format.compile(e, q.IgnoreEOS)
	if err != nil {
		return nil, err
	}
	x := &reading{syntax: toolcall.Detect(f.Template()), options: toolcall.Options{Thinking: thinking}}
	for _, f := range functions {
		x.options.Tools = append(x.options.Tools, f.Tool)
	}
	form := formOf(x.syntax)
	var before []free
	switch {
	case q.choice.mode == "required":
		err = x.hold(e, q, functions, form, true)
	case content != nil && len(functions) > 0: // either
		x.grammars = append(x.grammars, content)
		err = x.hold(e, q, functions, form, false)
		x.options.Eager = false // what begins like a call may be content
	case content != nil:
		x.grammars = append(x.grammars, content)
	case form.syntax == x.syntax && form.mark != "" && slices.ContainsFunc(functions, func(f function) bool { return f.strict }):
		before = []free{{until: form.mark, mayEnd: true, keep: true}}
		err = x.hold(e, q, functions, form, false)
	}
	if err != nil {
		return nil, err
	}
	tok := e.Tokenizer()
	x.special = len(functions)+len(x.grammars) > 0 || slices.ContainsFunc(marks, func(mark string) bool {
		id, ok := tok.TokenID(mark)
		return ok && tok.IsSpecial(id)
	})
	if len(x.grammars) == 0 {
		return x, nil
	}
	v, err := e.vocabulary()
	if err != nil {
		return nil, err
	}
	x.constraint = &constraint{vocabulary: v, think: -1, free: before}
	for _, mark := range []string{"<think>", "[THINK]"} {
		closing := mark[:1] + "/" + mark[1:]
		if id, ok := tok.TokenID(mark); ok && thinking == "" {
			x.constraint.think, x.constraint.closing = id, closing
		} else if mark == thinking {
			x.constraint.free = slices.Concat([]free{{until: closing}}, before)
		}
	}
	return x, nil
}

// hold has calls fit a grammar: those of all functions, or of those that are strict.
func (x *reading) hold(e *use, q *conversation, functions []function, form callForm, all bool) error {
	var tools []constrain.Tool
	for _, f := range functions {
		t := constrain.Tool{Name: f.Name, Parameters: []byte(`{"type":"object"}`)}
		if all || f.strict {
			t.Parameters = f.parameters()
		}
		tools = append(tools, t)
	}
	o := form.ToolOptions
	o.Closed, o.Whole = true, true
	if !q.oneCall && q.choice.name == "" {
		o.MaxCalls = maxCalls
	}
	if q.IgnoreEOS {
		return invalid("ignore_eos", "ignore_eos: a call ends the answer")
	}
	g, err := compile(e, "tools", func(v *constrain.Vocabulary) (*constrain.Grammar, error) { return constrain.CompileTools(v, tools, o) })
	if err != nil {
		return err
	}
	x.syntax, x.options.Eager = form.syntax, true
	x.grammars = append(x.grammars, g)
	return nil
}

// restrict has an answer fit what the reading says.
func (x *reading) restrict(o *pumice.GenerateOptions) {
	o.SpecialTokens = x.special
	if x.constraint == nil {
		return
	}
	c := *x.constraint
	for _, g := range x.grammars {
		c.matchers = append(c.matchers, g.Matcher())
	}
	o.Constraint = &c
}
