package constrain

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"

	"pumice/internal/bounded"
)

// hostile are sources that ask for much.
var hostile = []struct{ name, kind, source string }{
	{"nested repetitions", "regex", `((a{1,30}){1,30}){1,1}b`},
	{"many ambiguous stars", "regex", `(a*)*(a*)*(a|b)*(a?){100}c`},
	{"a dense class", "regex", `(\pL|\pN|\p{Greek})*[^\pL]\pS`},
	{"exponential backwards", "regex", `(a|b)*a(a|b){200}`},
	{"long alternatives", "regex", strings.Repeat("abcdefgh|", 5000)},
	{"rules that double", "gbnf", doubling(40)},
	{"ambiguous recursion", "gbnf", "root ::= \"a\" root root | \"a\""},
	{"a long chain of rules", "gbnf", chain(20000)},
	{"deep groups", "gbnf", "root ::= " + strings.Repeat("(", 100000)},
	{"counts of counts", "gbnf", `root ::= (((("a"? "b"?){1000}){1000}){1000})`},
	{"deep arrays", "schema", strings.Repeat(`{"items":`, 100000)},
	{"a long string", "schema", `{"type":"string","minLength":1000000,"pattern":"a$"}`},
	{"lengths against a pattern", "schema", `{"type":"string","minLength":3,"maxLength":2000,"pattern":"(ab|cd){400}"}`},
	{"patterns against each other", "schema", `{"type":"string","allOf":[{"pattern":"^(a|b)*a(a|b){60}$"},{"pattern":"^(a|b)*b(a|b){50}$"},{"pattern":"^((a|b){7})*$"}]}`},
	{"intersection that is empty late", "schema", `{"type":"string","allOf":[{"pattern":"^(a{997})+$"},{"pattern":"^(a{991})+$"},{"maxLength":900000}],"minLength":1}`},
	{"anyOf of anyOf", "schema", anyOfs(6)},
	{"a bound of many digits", "schema", `{"type":"number","minimum":1e60,"maximum":1e61,"multipleOf":9973}`},
	{"no multiple in a wide range", "schema", `{"type":"integer","exclusiveMinimum":997000000,"exclusiveMaximum":997000997,"multipleOf":997}`},
	{"many properties", "schema", manyProperties(1000)},
	{"many patterns", "schema", `{"patternProperties":{"a":true,"b":true,"c":true,"d":true,"e":true,"f":true,"g":{"minLength":1},"h":true}}`},
	{"references to references", "schema", references(1500)},
}

func doubling(n int) string {
	var b strings.Builder
	b.WriteString("root ::= r0\n")
	for i := range n {
		fmt.Fprintf(&b, "r%d ::= r%d r%d \"x\"*\n", i, i+1, i+1)
	}
	fmt.Fprintf(&b, "r%d ::= \"a\"*\n", n)
	return b.String()
}

func chain(n int) string {
	var b strings.Builder
	b.WriteString("root ::= r0\n")
	for i := range n {
		fmt.Fprintf(&b, "r%d ::= \"a\" r%d\n", i, i+1)
	}
	fmt.Fprintf(&b, "r%d ::= \"a\"*\n", n)
	return b.String()
}

func anyOfs(depth int) string {
	if depth == 0 {
		return `{"properties":{"a":{"minimum":3}}}`
	}
	s := anyOfs(depth - 1)
	return fmt.Sprintf(`{"allOf":[{"anyOf":[%s,%s]},{"anyOf":[%s,{"required":["b"]}]}]}`, s, s, s)
}

func manyProperties(n int) string {
	var names []string
	for i := range n {
		names = append(names, fmt.Sprintf(`"property%d":{"type":"string","maxLength":%d}`, i, i))
	}
	return `{"type":"object","properties":{` + strings.Join(names, ",") + `},"minProperties":3,"maxProperties":900,"required":["property7"],"additionalProperties":false}`
}

func references(n int) string {
	var defs []string
	for i := range n {
		defs = append(defs, fmt.Sprintf(`"d%d":{"allOf":[{"$ref":"#/$defs/d%d"},{"properties":{"p%d":{"$ref":"#/$defs/d0"}}}]}`, i, i+1, i))
	}
	return fmt.Sprintf(`{"$defs":{%s,"d%d":{"type":"object"}},"$ref":"#/$defs/d0"}`, strings.Join(defs, ","), n)
}

func compileKind(v *Vocabulary, kind, source string) (*Grammar, error) {
	switch kind {
	case "regex":
		return CompileRegex(v, source)
	case "gbnf":
		return CompileGBNF(v, source)
	}
	return CompileSchema(v, []byte(source), SchemaOptions{})
}

// typed reports whether an error is one of those that callers are told of.
func typed(err error) bool {
	var schema *SchemaError
	var syntax *SyntaxError
	var limit *LimitError
	return errors.As(err, &schema) || errors.As(err, &syntax) || errors.As(err, &limit) || errors.Is(err, ErrNoText) || errors.Is(err, ErrNotAllowed)
}

// use compiles a source and reads a text as far as it goes, with the masks on the way.
func use(t testing.TB, v *Vocabulary, kind, source, text string) {
	t.Helper()
	g, err := compileKind(v, kind, source)
	if err != nil {
		if !typed(err) {
			t.Errorf("%s: %v is of no type", kind, err)
		}
		return
	}
	m, mask := g.Matcher(), make([]uint32, (v.size+31)/32)
	for i := 0; ; i++ {
		if err := m.Mask(mask); err != nil {
			if !typed(err) {
				t.Errorf("%s: %v is of no type", kind, err)
			}
			return
		}
		ids := allowed(mask)
		if len(ids) == 0 {
			t.Errorf("%s %.200s: %q leads nowhere", kind, source, m.text)
		}
		if i == len(text) || len(ids) == 0 {
			return
		}
		if err := m.Accept(ids[int(text[i])*len(ids)/256]); err != nil {
			if !typed(err) {
				t.Errorf("%s: %v is of no type", kind, err)
			}
			return
		}
	}
}

func TestHostileGrammarsAreBounded(t *testing.T) {
	v := testVocabulary(t)
	for _, c := range hostile {
		t.Run(c.name, func(t *testing.T) {
			bounded.Run(t, 1<<20, func(context.Context) { use(t, v, c.kind, c.source, "\x30\x60\x7f\xa0\xc0\x30\x60\x7f\xff\x01") })
		})
	}
}

func FuzzSchema(f *testing.F) {
	v := testVocabulary(f)
	for _, c := range schemaCases {
		f.Add(c.schema, "abcdefgh")
	}
	f.Fuzz(func(t *testing.T, source, text string) { fuzz(t, v, "schema", source, text) })
}

func FuzzGBNF(f *testing.F) {
	v := testVocabulary(f)
	for _, source := range grammars {
		f.Add(source, "abcdefgh")
	}
	f.Fuzz(func(t *testing.T, source, text string) { fuzz(t, v, "gbnf", source, text) })
}

func FuzzRegex(f *testing.F) {
	v := testVocabulary(f)
	for _, pattern := range patterns {
		f.Add(pattern, "abcdefgh")
	}
	f.Fuzz(func(t *testing.T, source, text string) { fuzz(t, v, "regex", source, text) })
}

func fuzz(t *testing.T, v *Vocabulary, kind, source, text string) {
	if len(source) > 4096 || len(text) > 64 {
		t.Skip()
	}
	bounded.Run(t, 1<<20, func(context.Context) { use(t, v, kind, source, text) })
}

func TestMatchersShareAGrammar(t *testing.T) {
	v := testVocabulary(t)
	g, err := CompileSchema(v, []byte(`{"type":"object","properties":{"a":{"type":"string"},"b":{"type":"array","items":{"$ref":"#"}}}}`), SchemaOptions{})
	if err != nil {
		t.Fatal(err)
	}
	text := `{"a":"x","b":[{"a":"éé"},{"c": 1.5}]}`
	var all sync.WaitGroup
	for range 4 {
		all.Go(func() {
			m, mask := g.Matcher(), make([]uint32, (v.size+31)/32)
			for i := range len(text) {
				if err := m.Mask(mask); err != nil || mask[text[i]/32]>>(text[i]%32)&1 == 0 {
					t.Errorf("%q is not allowed after %q (%v)", text[i], text[:i], err)
				}
				if err := m.Accept(int(text[i])); err != nil {
					t.Error(err)
				}
			}
			if !m.MayEnd() {
				t.Error("the text may not end")
			}
		})
	}
	all.Wait()
}

// TestGrammarsAreRenewed: a grammar that has found too much starts again, and texts go on.
func TestGrammarsAreRenewed(t *testing.T) {
	v := testVocabulary(t)
	g, err := CompileSchema(v, []byte(`{"type":"array","items":{"type":"integer"},"maxItems":100}`), SchemaOptions{})
	if err != nil {
		t.Fatal(err)
	}
	m := g.Matcher()
	if err := m.AcceptText(`[1,2`); err != nil {
		t.Fatal(err)
	}
	before := g.m
	g.maxNodes = 0
	other := m.Clone()
	if err := m.AcceptText(`,3]`); err != nil || !m.MayEnd() {
		t.Errorf("after renewal: %v, may end %t", err, m.MayEnd())
	}
	if g.m == before {
		t.Error("the grammar was not renewed")
	}
	if err := other.AcceptText(`]`); err != nil || !other.MayEnd() {
		t.Errorf("another text: %v, may end %t", err, other.MayEnd())
	}
}
