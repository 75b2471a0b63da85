package constrain_test

import (
	"fmt"

	"pumice/constrain"
)

// A vocabulary of the bytes and an end token; that of a model comes from Tokenizer.TokenBytes, with "" for special tokens.
func vocabulary() *constrain.Vocabulary {
	tokens := make([]string, 257)
	for b := range 256 {
		tokens[b] = string([]byte{byte(b)})
	}
	v, err := constrain.NewVocabulary(tokens, []int{256})
	if err != nil {
		panic(err)
	}
	return v
}

// text spells tokens of this vocabulary.
func text(ids []int) string {
	var b []byte
	for _, id := range ids {
		b = append(b, byte(id))
	}
	return string(b)
}

func ExampleCompileSchema() {
	g, err := constrain.CompileSchema(vocabulary(), []byte(`{
		"type": "object",
		"properties": {"colour": {"enum": ["red", "green"]}, "size": {"type": "integer", "minimum": 10}},
		"required": ["colour", "size"],
		"additionalProperties": false
	}`), constrain.SchemaOptions{Compact: true, InOrder: true})
	if err != nil {
		fmt.Println(err)
		return
	}
	m := g.Matcher() // a Constraint for pumice.GenerateOptions
	for _, chosen := range []string{"r", "2", "5", "}"} {
		ids, err := m.Forced()
		if err != nil {
			fmt.Println(err)
			return
		}
		forced := text(ids)
		if err := m.AcceptText(forced + chosen); err != nil {
			fmt.Println(err)
			return
		}
		fmt.Printf("%s then %s\n", forced, chosen)
	}
	fmt.Println("may end:", m.MayEnd())
	// Output:
	// {"colour":" then r
	// ed","size": then 2
	//  then 5
	//  then }
	// may end: true
}

func ExampleCompileSchema_refused() {
	_, err := constrain.CompileSchema(vocabulary(), []byte(`{"properties": {"tags": {"uniqueItems": true}}}`), constrain.SchemaOptions{})
	fmt.Println(err)
	// Output: constrain: schema at "/properties/tags": uniqueItems: not supported
}

func ExampleCompileGBNF() {
	g, err := constrain.CompileGBNF(vocabulary(), `
root ::= sum "\n"
sum  ::= term ("+" term)*
term ::= [0-9]+ | "(" sum ")"
`)
	if err != nil {
		fmt.Println(err)
		return
	}
	m := g.Matcher()
	mask := make([]uint32, 9)
	for _, token := range []int{'(', '1', '2'} {
		if err := m.Accept(token); err != nil {
			fmt.Println(err)
			return
		}
	}
	if err := m.Mask(mask); err != nil {
		fmt.Println(err)
		return
	}
	for token := range 256 {
		if mask[token/32]>>(token%32)&1 != 0 {
			fmt.Printf("%c", token)
		}
	}
	fmt.Println()
	// Output: )+0123456789
}

func ExampleCompileRegex() {
	g, err := constrain.CompileRegex(vocabulary(), `(yes|no)!*`)
	if err != nil {
		fmt.Println(err)
		return
	}
	m := g.Matcher()
	fmt.Println(m.AcceptText("yes"), m.MayEnd())
	fmt.Println(m.AcceptText("?"))
	// Output:
	// <nil> true
	// constrain: the token is not allowed here: byte 0 of "?"
}

func ExampleCompileTools() {
	tools := []constrain.Tool{
		{Name: "now"},
		{Name: "weather", Parameters: []byte(`{"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"],
			"additionalProperties": false}`)},
	}
	g, err := constrain.CompileTools(vocabulary(), tools, constrain.ToolOptions{
		SchemaOptions: constrain.SchemaOptions{Compact: true}, Prefix: "<tool_call>\n", Suffix: "\n</tool_call>"})
	if err != nil {
		fmt.Println(err)
		return
	}
	m := g.Matcher()
	for _, chosen := range []string{"w", "Oslo\"}"} {
		ids, err := m.Forced()
		if err != nil {
			fmt.Println(err)
			return
		}
		forced := text(ids)
		if err := m.AcceptText(forced + chosen); err != nil {
			fmt.Println(err)
			return
		}
		fmt.Print(forced + chosen)
	}
	ids, err := m.Forced()
	fmt.Println(text(ids), err)
	// Output:
	// <tool_call>
	// {"name":"weather","arguments":{"city":"Oslo"}}
	// </tool_call> <nil>
}
