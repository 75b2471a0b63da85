package constrain

import "fmt"

// A Tool is a function that a model may call.
type Tool struct {
	Name       string
	Parameters []byte // the JSON Schema of its arguments; empty if it takes none
}

// ToolOptions say how calls of tools are written: {"name": NAME, "arguments": ARGUMENTS}, with text around it.
type ToolOptions struct {
	SchemaOptions
	Begin, End     string // around all calls
	Prefix, Suffix string // around each call
	Separator      string // between calls
	MaxCalls       int    // 0 is one
	ArgumentsKey   string // "" is "arguments"; Llama 3 has "parameters"
}

// tools is the texts of calls.
func (a *arena) tools(tools []Tool, o ToolOptions) (expr, error) {
	if o.ArgumentsKey == "" {
		o.ArgumentsKey = "arguments"
	}
	if o.MaxCalls < 0 || o.MaxCalls > maxRepeats {
		return none, &LimitError{"calls", maxRepeats}
	}
	c := newCompiler(a, nil, o.SchemaOptions)
	colon, comma := c.colon(), c.comma()
	var calls []expr
	names := map[string]bool{}
	for _, t := range tools {
		if names[t.Name] {
			return none, fmt.Errorf("constrain: two tools are called %q", t.Name)
		}
		names[t.Name] = true
		parameters := string(t.Parameters)
		if parameters == "" {
			parameters = `{"type":"object","additionalProperties":false}`
		}
		arguments, err := a.schema(parameters, o.SchemaOptions)
		if err != nil {
			return none, fmt.Errorf("tool %q: %w", t.Name, err)
		}
		calls = append(calls, a.concat(a.literal(`"`+quoted(t.Name)), comma, a.literal(`"`+quoted(o.ArgumentsKey)), colon, arguments))
	}
	call := a.concat(a.literal(o.Prefix+"{"), c.space(), a.literal(`"name"`), colon, a.union(calls...), c.space(), a.literal("}"+o.Suffix))
	if call == none {
		return none, nil
	}
	more := a.repeat(a.concat(a.literal(o.Separator), call), 0, max(0, o.MaxCalls-1))
	return a.concat(a.literal(o.Begin), call, more, a.literal(o.End)), nil
}
