package server

import (
	"encoding/json"
	"strings"

	"pumice"
	"pumice/constrain"
)

// A format are the fields by which requests say what a text has to fit.
type format struct {
	Grammar  string          `json:"grammar"`     // llama-server's: GBNF
	Schema   json.RawMessage `json:"json_schema"` // llama-server's
	Response responseFormat  `json:"response_format"`
}

// A responseFormat is OpenAI's. The schema is in json_schema, or in the Responses API and with llama-server beside the type.
type responseFormat struct {
	Type   string          `json:"type"`
	Name   string          `json:"name"`
	Schema json.RawMessage `json:"schema"`
	Nested struct {
		Schema json.RawMessage `json:"schema"`
	} `json:"json_schema"`
}

// schema is the JSON Schema that the format asks for, or nil.
func (f responseFormat) schema() (json.RawMessage, error) {
	schema := f.Nested.Schema
	if !given(schema) {
		schema = f.Schema
	}
	switch {
	case f.Type == "" || f.Type == "text":
		return nil, nil
	case f.Type == "json_object" && !given(schema):
		return json.RawMessage(`{"type":"object"}`), nil
	case f.Type != "json_object" && f.Type != "json_schema":
		return nil, invalid("response_format", "response_format %q: want text, json_object or json_schema", f.Type)
	case !given(schema):
		return nil, invalid("response_format", "response_format json_schema has no schema")
	}
	return schema, nil
}

// given reports whether a field is there and not null.
func given(field json.RawMessage) bool { return len(field) > 0 && string(field) != "null" }

// compile is the grammar that a text has to fit, or nil.
func (f *format) compile(e *use, ignoreEOS bool) (*constrain.Grammar, error) {
	param, schema := "response_format", f.Schema
	response, err := f.Response.schema()
	if err != nil {
		return nil, err
	}
	set := 0
	for _, is := range []bool{response != nil, given(schema), f.Grammar != ""} {
		if is {
			set++
		}
	}
	switch {
	case set == 0:
		return nil, nil
	case set > 1:
		return nil, invalid("grammar", "want one of response_format, json_schema and grammar")
	case ignoreEOS:
		return nil, invalid("ignore_eos", "ignore_eos: a text that has to fit a grammar ends with it")
	case given(schema):
		param = "json_schema"
	case response != nil:
		schema = response
	default:
		param = "grammar"
	}
	return compile(e, param, func(v *constrain.Vocabulary) (*constrain.Grammar, error) {
		if f.Grammar != "" {
			return constrain.CompileGBNF(v, f.Grammar)
		}
		return constrain.CompileSchema(v, schema, constrain.SchemaOptions{Closed: true, Whole: true})
	})
}

// compile makes the grammar that the field called param asks for. What it can't be is the client's mistake.
func compile(e *use, param string, front func(v *constrain.Vocabulary) (*constrain.Grammar, error)) (*constrain.Grammar, error) {
	v, err := e.vocabulary()
	if err != nil {
		return nil, err
	}
	g, err := front(v)
	if err != nil {
		return nil, invalid(param, "%s: %s", param, strings.ReplaceAll(err.Error(), "constrain: ", ""))
	}
	return g, nil
}

// restrict has a text fit a grammar, if there is one.
func restrict(o *pumice.GenerateOptions, g *constrain.Grammar) {
	if g != nil {
		o.Constraint, o.SpecialTokens = g.Matcher(), true // a string of JSON may have a mark in it
	}
}
