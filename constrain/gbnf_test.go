package constrain

import (
	"errors"
	"testing"
)

var grammars = []string{
	`root ::= "a" "b"`,
	`root ::= ( "a" | "b" )* "c"`,
	`root ::= expr
expr ::= term (("+" | "-") term)*   # sums
term ::= num | "(" expr ")"
num  ::= [0-9]+`,
	`root ::= "a" root "b" | ""`,
	`root ::= "a" root "a" | "b"`,
	`root ::= item{2,3} "."
item ::= [^\n.]
`,
	"root ::= (\n  \"x\"\n  | y\n)\ny ::= \"y\" |\n  \"z\"",
	`root ::= "\x41\u00e9\n" | [\[\]^-]+ | "\""`,
	`root ::= list
list ::= "-" " " [a-z]+ "\n" list?`,
	`root ::= a b
a ::= "a"*
b ::= ("a" | "b")? b2
b2 ::= "ab" | "b" b2`,
	`root ::= . .{0,2}`,
	`# JSON, as in llama.cpp
root   ::= object
value  ::= object | array | string | number | ("true" | "false" | "null") ws
object ::=
  "{" ws (
            string ":" ws value
    ("," ws string ":" ws value)*
  )? "}" ws
array  ::=
  "[" ws (
            value
    ("," ws value)*
  )? "]" ws
string ::=
  "\"" (
    [^"\\\x7F\x00-\x1F] |
    "\\" (["\\bfnrt] | "u" [0-9a-fA-F]{4}) # escapes
  )* "\"" ws
number ::= ("-"? ([0-9] | [1-9] [0-9]{0,15})) ("." [0-9]+)? ([eE] [-+]? [0-9] [1-9]{0,15})? ws
ws ::= | " " | "\n" [ \t]{0,20}
`,
}

func TestGrammars(t *testing.T) {
	v := testVocabulary(t)
	for i, c := range []struct{ yes, no []string }{
		{[]string{"ab"}, []string{"a", "abb"}},
		{[]string{"c", "abac"}, []string{"", "ab"}},
		{[]string{"1", "1+(2-3)", "((12))"}, []string{"", "1+", "(1", "1+()"}},
		{[]string{"", "ab", "aabb"}, []string{"a", "abb", "aab"}},
		{[]string{"b", "aba", "aaabaaa"}, []string{"", "a", "aab"}},
		{[]string{"ab.", "éab."}, []string{"a.", "abcd.", "ab"}},
		{[]string{"x", "y", "z"}, []string{"xy", ""}},
		{[]string{"Aé\n", "[]^-", `"`}, []string{"A", ""}},
		{[]string{"- a\n", "- a\n- bc\n"}, []string{"- a", ""}},
		{[]string{"ab", "aab", "bab", "aabbab"}, []string{"", "a", "ba"}},
		{[]string{"a", "日本é"}, []string{"", "abcd"}},
		{[]string{`{}`, "{\n  \"a\": [1, \"b\\n\\u00e9\", {\"é\":null}] , \"c\":-1.5e3\n}"}, []string{`{`, `[]`, `{"a"}`, `{"a":"\x"}`}},
	} {
		g, err := CompileGBNF(v, grammars[i])
		if err != nil {
			t.Fatalf("%s: %v", grammars[i], err)
		}
		for _, text := range c.yes {
			if !accepts(t, g, text) {
				t.Errorf("%s: %q is refused", grammars[i], text)
			}
		}
		for _, text := range c.no {
			if accepts(t, g, text) {
				t.Errorf("%s: %q is accepted", grammars[i], text)
			}
		}
	}
}

func TestGrammarsThatAreRefused(t *testing.T) {
	v := testVocabulary(t)
	for _, c := range []struct {
		source string
		line   int
		offset int
	}{
		{`root = "a"`, 1, 5},
		{`start ::= "a"`, 1, 0},
		{"root ::= a\n", 1, 9},
		{"root ::= \"a\nb\"", 1, 9},
		{"root ::= (\"a\"", 1, 9},
		{"root ::= [a", 1, 9},
		{"root ::= \"a\"\nroot ::= \"b\"", 2, 13},
		{"root ::= \"a\"{2,1}", 1, 12},
		{"root ::= \"\\q\"", 1, 10},
		{"root ::= \"a\" )", 1, 13},
		{"root ::= root \"a\" | \"b\"", 1, 0},
		{"root ::= a\na ::= b? a \"x\" | \"y\"\nb ::= \"b\"", 2, 11},
	} {
		_, err := CompileGBNF(v, c.source)
		var e *SyntaxError
		if !errors.As(err, &e) || e.Line != c.line || e.Offset != c.offset {
			t.Errorf("%s: got %v, want an error in line %d at byte %d", c.source, err, c.line, c.offset)
		}
	}
	for _, source := range []string{`root ::= "a" root`, "root ::= a\na ::= \"x\" a"} {
		if _, err := CompileGBNF(v, source); !errors.Is(err, ErrNoText) {
			t.Errorf("%s: got %v, want ErrNoText", source, err)
		}
	}
	var limit *LimitError
	if _, err := CompileGBNF(v, `root ::= "a"{1,99999999}`); !errors.As(err, &limit) {
		t.Errorf("a large repetition: got %v", err)
	}
}
