package constrain

import (
	"errors"
	"testing"
)

// testVocabulary has every byte, an end token and words that span tokens of JSON.
func testVocabulary(t testing.TB) *Vocabulary {
	t.Helper()
	var tokens []string
	for b := range 256 {
		tokens = append(tokens, string([]byte{byte(b)}))
	}
	tokens = append(tokens, "", "", "true", "false", "null", `{"`, `":`, `": "`, `","`, `", "`, `"}`, `"]`, `}}`, "},", "],", "[[", "]]",
		`{"a":`, "the", " the", "name", `name"`, `"name"`, "12", "00", ".5", "-1", "e1", "\n", "\n  ", "\n    ", "  ", "é", "日本", "\xe6\x97",
		`\"`, `\u00`, "ab", "abc", "aaaa", `"a`, `"b":1`, "a,b", "a\"b", `\n`, "\\")
	v, err := NewVocabulary(tokens, []int{256})
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// accepts reports whether a text is a whole one of the grammar.
func accepts(t testing.TB, g *Grammar, text string) bool {
	t.Helper()
	m := g.Matcher()
	if err := m.AcceptText(text); err != nil {
		if !errors.Is(err, ErrNotAllowed) {
			t.Fatalf("%q: %v", text, err)
		}
		return false
	}
	return m.MayEnd()
}

type schemaCase struct {
	name, schema string
	yes, no      []string
}

var schemaCases = []schemaCase{
	{"any", `true`, []string{`1`, `"a"`, `{"a":[1,{}]}`, `[]`, `null`, `-0.5e-3`, `{"a": 1, "a": 2}`, "{\n  \"a\": [\n    1\n  ]\n}"},
		[]string{``, `01`, `.5`, `1.`, `{a:1}`, `[1,]`, `"\x"`, "\"\n\"", `"\ud800"`, `{"a" 1}`, `1 `}},
	{"type null", `{"type":"null"}`, []string{"null"}, []string{"1", "nul", "nulll"}},
	{"type boolean", `{"type":"boolean"}`, []string{"true", "false"}, []string{"null", `"true"`}},
	{"type integer", `{"type":"integer"}`, []string{"0", "-0", "12", "1.0", "1.00"}, []string{"1.5", "01", "-", `"1"`}},
	{"type number", `{"type":"number"}`, []string{"0", "1.5", "1e5", "-1.5E+10", "1e-7"}, []string{"1e", "+1", "1e999", "NaN"}},
	{"type string", `{"type":"string"}`, []string{`""`, `"é"`, `"\u00e9"`, `"\ud83d\ude00"`, `"\n"`, `"/"`}, []string{`"`, `"\ud83d"`, `"\u12"`, "\"\x01\"", "\"\xff\""}},
	{"types", `{"type":["string","null"]}`, []string{`"a"`, `null`}, []string{`1`}},
	{"enum", `{"enum":["a","b/c",1,2.50,null,{"x":[1]},"é"]}`, []string{`"a"`, `"b/c"`, `1`, `1.0`, `2.5`, `2.50`, `null`, `{"x":[1]}`, `"é"`, `"\u00e9"`},
		[]string{`"ab"`, `"c"`, `11`, `2.55`, `{}`, `{"x":[2]}`, `{"x":[1],"y":1}`, `[1]`}},
	{"const", `{"const":{"a":"b","c":null}}`, []string{`{"a":"b","c":null}`, `{"c":null,"a":"b"}`}, []string{`{"a":"b"}`, `{"a":"b","c":1}`}},
	{"minimum", `{"type":"integer","minimum":5}`, []string{"5", "9", "10", "123", "5.0"}, []string{"4", "0", "-5", "-10"}},
	{"maximum", `{"type":"integer","maximum":120}`, []string{"120", "119", "99", "0", "-5", "-1000"}, []string{"121", "200", "1000"}},
	{"negative bounds", `{"type":"integer","minimum":-12,"maximum":-3}`, []string{"-12", "-3", "-9", "-10"}, []string{"-13", "-2", "0", "3", "-100"}},
	{"bounds", `{"type":"number","minimum":0.5,"exclusiveMaximum":10.25}`, []string{"0.5", "0.50", "0.51", "10.2", "10.249", "9"}, []string{"0.4", "0.49", "10.25", "10.250", "10.3", "11", "-1", "0"}},
	{"exclusive zero", `{"type":"number","exclusiveMinimum":0}`, []string{"0.1", "0.001", "1"}, []string{"0", "0.0", "-0", "-1"}},
	{"multipleOf", `{"type":"integer","multipleOf":3}`, []string{"0", "3", "-6", "12", "999", "3.0"}, []string{"1", "4", "-5", "3.5"}},
	{"multipleOf fraction", `{"multipleOf":0.05}`, []string{"0.05", "0.1", "1", "1.25", "1.250", `"x"`}, []string{"0.01", "1.26", "0.051"}},
	{"multipleOf in bounds", `{"multipleOf":7,"minimum":10,"maximum":20,"type":"number"}`, []string{"14", "14.0"}, []string{"7", "21", "1", "15"}},
	{"lengths", `{"type":"string","minLength":2,"maxLength":3}`, []string{`"ab"`, `"éé"`, `"日本語"`, `"\n\n"`, `"\ud83d\ude00b"`}, []string{`"a"`, `"abcd"`, `"\ud83d\ude00"`}},
	{"pattern", `{"type":"string","pattern":"^a+b$"}`, []string{`"ab"`, `"aaab"`}, []string{`"b"`, `"abb"`, `"xab"`}},
	{"pattern anywhere", `{"type":"string","pattern":"a[0-9]"}`, []string{`"a1"`, `"xxa1yy"`, `"aa1"`}, []string{`"a"`, `"1a"`}},
	{"pattern alternatives", `{"type":"string","pattern":"^a|b$"}`, []string{`"a"`, `"axx"`, `"xxb"`}, []string{`"xa"`, `"bx"`}},
	{"pattern and length", `{"type":"string","pattern":"^[a-z]+$","maxLength":3,"minLength":2}`, []string{`"ab"`, `"abc"`}, []string{`"a"`, `"abcd"`, `"A1"`}},
	{"pattern of an escape", `{"type":"string","pattern":"^\\\\\\n\"$"}`, []string{`"\\\n\""`, `"\\\u000a\""`}, []string{`"\\n\""`}},
	{"format date", `{"type":"string","format":"date"}`, []string{`"2024-02-29"`, `"2023-12-31"`, `"2000-02-29"`}, []string{`"2023-02-29"`, `"1900-02-29"`, `"2023-04-31"`, `"2023-13-01"`}},
	{"format time", `{"type":"string","format":"time"}`, []string{`"12:00:00Z"`, `"23:59:60Z"`, `"01:02:03.5+05:30"`}, []string{`"24:00:00Z"`, `"12:00:00"`}},
	{"format date-time", `{"type":"string","format":"date-time"}`, []string{`"2024-02-29T12:00:00Z"`}, []string{`"2024-02-30T12:00:00Z"`, `"2024-02-29 12:00:00Z"`}},
	{"format uuid", `{"type":"string","format":"uuid"}`, []string{`"123e4567-e89b-12d3-a456-426614174000"`}, []string{`"123e4567"`}},
	{"format email", `{"type":"string","format":"email"}`, []string{`"a.b@example.org"`, `"x@y"`}, []string{`"@y"`, `"a@-b"`, `"a..b@c"`}},
	{"format duration", `{"type":"string","format":"duration"}`, []string{`"P1Y2M3DT4H5M6S"`, `"P4W"`, `"PT36H"`}, []string{`"P"`, `"PT"`, `"P1D2H"`, `"P2S"`}},
	{"format hostname", `{"type":"string","format":"hostname"}`, []string{`"a"`, `"www.example.org"`}, []string{`"-a"`, `"a..b"`, `"xn--x"`, `""`}},
	{"format ipv6", `{"type":"string","format":"ipv6"}`, []string{`"::"`, `"::1"`, `"1:2:3:4:5:6:7:8"`, `"::ffff:1.2.3.4"`}, []string{`"1::2::3"`, `"12345::"`, `":1"`}},
	{"format uri", `{"type":"string","format":"uri"}`, []string{`"https://a@b.test:80/c?d=%20#e"`, `"urn:x:y"`, `"http://[::1]/"`}, []string{`"a/b"`, `"//a"`, `"http://a b"`, `"x:%zz"`}},
	{"properties", `{"type":"object","properties":{"a":{"type":"integer"},"b":{"type":"string"}},"required":["a"],"additionalProperties":false}`,
		[]string{`{"a":1}`, `{"a": 1, "b": "x"}`, `{"b":"x","a":1}`, "{\n  \"a\": 1\n}"},
		[]string{`{}`, `{"b":"x"}`, `{"a":1,"a":2}`, `{"a":1,"c":2}`, `{"a":"x"}`, `{"a":1,}`}},
	{"additional", `{"type":"object","properties":{"ab":{"type":"integer"}},"additionalProperties":{"type":"string"}}`,
		[]string{`{}`, `{"ab":1}`, `{"a":"x"}`, `{"abc":"x","ab":1}`, `{"":"x"}`}, []string{`{"ab":"x"}`, `{"\u0061b":"x"}`, `{"a":1}`}},
	{"required unnamed", `{"type":"object","required":["x"]}`, []string{`{"x":1}`, `{"y":1,"x":[]}`}, []string{`{}`, `{"y":1}`}},
	{"patternProperties", `{"type":"object","properties":{"x1":{"maximum":5}},"patternProperties":{"^x":{"type":"integer"},"z$":{"minimum":3}},"additionalProperties":false}`,
		[]string{`{"x1":5}`, `{"x2":100}`, `{"xz":3}`, `{"z":"s"}`}, []string{`{"x1":6}`, `{"x1":"s"}`, `{"xz":2}`, `{"y":1}`, `{"z":1}`}},
	{"propertyNames", `{"type":"object","propertyNames":{"pattern":"^[a-z]+$"}}`, []string{`{}`, `{"ab":1}`}, []string{`{"A":1}`, `{"":1}`}},
	{"dependentRequired", `{"type":"object","dependentRequired":{"a":["b"]},"additionalProperties":false,"properties":{"a":true,"b":true}}`,
		[]string{`{}`, `{"b":1}`, `{"a":1,"b":2}`, `{"b":1,"a":2}`}, []string{`{"a":1}`}},
	{"minProperties", `{"type":"object","properties":{"a":true,"b":true},"additionalProperties":false,"minProperties":1,"maxProperties":1}`,
		[]string{`{"a":1}`, `{"b":1}`}, []string{`{}`, `{"a":1,"b":1}`}},
	{"maxProperties open", `{"type":"object","maxProperties":2,"required":["a"]}`, []string{`{"a":1}`, `{"x":1,"a":2}`}, []string{`{"x":1,"y":2}`, `{"x":1,"y":1,"a":1}`}},
	{"items", `{"type":"array","items":{"type":"integer"},"minItems":1,"maxItems":3}`, []string{`[1]`, `[1,2,3]`, `[1, 2]`, "[\n  1,\n  2\n]"}, []string{`[]`, `[1,2,3,4]`, `["a"]`, `[1,]`}},
	{"prefixItems", `{"type":"array","prefixItems":[{"type":"integer"},{"type":"string"}],"items":{"type":"null"}}`,
		[]string{`[]`, `[1]`, `[1,"a"]`, `[1,"a",null,null]`}, []string{`["a"]`, `[1,2]`, `[1,"a",1]`}},
	{"prefixItems closed", `{"type":"array","prefixItems":[true,true],"items":false,"minItems":1}`, []string{`[1]`, `[1,2]`}, []string{`[]`, `[1,2,3]`}},
	{"prefix longer than maxItems", `{"type":"array","prefixItems":[true,true,true],"maxItems":2}`, []string{`[]`, `[1]`, `[1,2]`}, []string{`[1,2,3]`, `[1,2,3,4]`}},
	{"empty array", `{"type":"array","maxItems":0}`, []string{`[]`}, []string{`[1]`}},
	{"anyOf", `{"anyOf":[{"type":"integer"},{"type":"object","properties":{"a":{"const":1}},"required":["a"],"additionalProperties":false}]}`,
		[]string{`1`, `{"a":1}`}, []string{`"a"`, `{"a":2}`, `{}`}},
	{"allOf", `{"allOf":[{"properties":{"a":{"minimum":3}}},{"properties":{"a":{"maximum":5}},"required":["a"]}],"type":"object"}`,
		[]string{`{"a":4}`, `{"a":"x"}`, `{"a":5,"b":1}`}, []string{`{"a":2}`, `{"a":6}`, `{}`}},
	{"allOf closes one", `{"allOf":[{"properties":{"a":true},"additionalProperties":false},{"properties":{"a":true,"b":true}}],"type":"object"}`,
		[]string{`{}`, `{"a":1}`}, []string{`{"b":1}`}},
	{"oneOf numbers", `{"oneOf":[{"type":"integer"},{"type":"number","minimum":2}]}`, []string{`1`, `2.5`}, []string{`3`, `1.5`, `2.0`}},
	{"oneOf objects", `{"oneOf":[{"type":"object","properties":{"t":{"const":"a"}},"required":["t"]},{"type":"object","properties":{"t":{"const":"b"},"x":{"type":"null"}},"required":["t"]}]}`,
		[]string{`{"t":"a"}`, `{"t":"b","x":null}`, `{"x":1,"t":"a"}`}, []string{`{"t":"c"}`, `{}`, `{"t":"b","x":1}`, `{"x":1,"t":"b"}`}},
	{"not", `{"not":{"type":["string","object"]}}`, []string{`1`, `null`, `[]`}, []string{`"a"`, `{}`}},
	{"not enum", `{"type":"string","not":{"enum":["a","b"]}}`, []string{`"c"`, `"aa"`, `""`}, []string{`"a"`, `"b"`}},
	{"not of objects", `{"type":"object","not":{"properties":{"a":{"type":"integer"},"b":{"properties":{"c":{"const":1}}}},"required":["x"]}}`,
		[]string{`{}`, `{"a":1}`, `{"x":1,"a":"s"}`, `{"x":1,"b":{"c":2}}`}, []string{`{"x":1}`, `{"x":1,"a":1,"b":{}}`, `{"b":{"c":1},"x":1}`}},
	{"not of arrays", `{"type":"array","not":{"prefixItems":[{"type":"integer"}],"minItems":1,"maxItems":2}}`,
		[]string{`[]`, `["a"]`, `[1,2,3]`}, []string{`[1]`, `[1,"a"]`}},
	{"oneOf of objects that overlap", `{"type":"object","oneOf":[{"required":["a"]},{"required":["b"]}]}`, []string{`{"a":1}`, `{"c":1,"b":1}`}, []string{`{}`, `{"a":1,"b":2}`}},
	{"if", `{"type":"object","properties":{"kind":{"enum":["a","b"]}},"required":["kind"],"if":{"properties":{"kind":{"const":"a"}}},"then":{"required":["x"]},"else":{"properties":{"x":false}}}`,
		[]string{`{"kind":"a","x":1}`, `{"x":1,"kind":"a"}`, `{"kind":"b"}`}, []string{`{"kind":"a"}`, `{"kind":"b","x":1}`, `{"kind":"c"}`}},
	{"if without then", `{"if":{"additionalProperties":{"type":"integer"}},"else":{"type":"string"}}`, []string{`{"a":1}`, `"s"`, `1`}, []string{`{"a":"s"}`}},
	{"dependentSchemas", `{"type":"object","dependentSchemas":{"a":{"properties":{"b":{"type":"integer"}},"required":["b"]}}}`,
		[]string{`{}`, `{"b":"s"}`, `{"a":1,"b":2}`}, []string{`{"a":1}`, `{"a":1,"b":"s"}`}},
	{"ref", `{"$defs":{"n":{"type":"object","properties":{"v":{"type":"integer"},"next":{"$ref":"#/$defs/n"}},"required":["v"],"additionalProperties":false}},"$ref":"#/$defs/n"}`,
		[]string{`{"v":1}`, `{"v":1,"next":{"v":2,"next":{"v":3}}}`}, []string{`{"v":1,"next":{}}`, `{"next":{"v":1}}`}},
	{"anchor", `{"$defs":{"n":{"$anchor":"x","type":"integer"}},"type":"array","items":{"$ref":"#x"}}`, []string{`[1]`}, []string{`["a"]`}},
	{"recursive root", `{"type":["array","null"],"items":{"$ref":"#"}}`, []string{`null`, `[]`, `[[],[null]]`}, []string{`[1]`}},
	{"impossible property", `{"type":"object","properties":{"a":false,"b":{"$ref":"#/$defs/x"}},"$defs":{"x":{"type":"object","properties":{"y":{"$ref":"#/$defs/x"}},"required":["y"]}}}`,
		[]string{`{}`, `{"c":1}`}, []string{`{"a":1}`, `{"b":1}`}},
	{"annotations", `{"$schema":"https://json-schema.org/draft/2020-12/schema","title":"t","description":"d","default":1,"examples":[2],"$comment":"c","deprecated":true,"x-y":1,"type":"null"}`,
		[]string{`null`}, []string{`1`}},
	{"$id within", `{"$id":"https://x.test/a/root","$defs":{"t":{"$id":"t","$defs":{"n":{"$anchor":"n","type":"integer"}},"properties":{"v":{"$ref":"#n"},"w":{"$ref":"root#/$defs/s"}}},"s":{"type":"string"}},"$ref":"/a/t","type":"object"}`,
		[]string{`{"v":1,"w":"a"}`}, []string{`{"v":"a"}`, `{"w":1}`}},
	{"$id of a property", `{"type":"object","properties":{"$id":{"type":"string"},"enum":{"$anchor":"e","type":"integer"},"x":{"$ref":"#e"}},"additionalProperties":false}`,
		[]string{`{"$id":"a","x":1}`}, []string{`{"$id":1}`, `{"x":"a"}`}},
	{"unevaluatedProperties", `{"type":"object","properties":{"a":true},"patternProperties":{"^b":true},"unevaluatedProperties":false}`, []string{`{"a":1,"bb":2}`}, []string{`{"c":1}`}},
	{"siblings of $ref", `{"$defs":{"a":{"minimum":3}},"$ref":"#/$defs/a","maximum":5,"type":"number"}`, []string{`4`}, []string{`2`, `6`}},
	{"draft 7 siblings of $ref", `{"$schema":"http://json-schema.org/draft-07/schema#","definitions":{"a":{"type":"integer"}},"$ref":"#/definitions/a","maximum":5}`, []string{`4`, `6`}, []string{`"a"`}},
}

func TestSchemas(t *testing.T) {
	v := testVocabulary(t)
	for _, c := range schemaCases {
		t.Run(c.name, func(t *testing.T) {
			g, err := CompileSchema(v, []byte(c.schema), SchemaOptions{})
			if err != nil {
				t.Fatal(err)
			}
			for _, text := range c.yes {
				if !accepts(t, g, text) {
					t.Errorf("%s is refused", text)
				}
			}
			for _, text := range c.no {
				if accepts(t, g, text) {
					t.Errorf("%s is accepted", text)
				}
			}
		})
	}
}

func TestSchemasThatAreRefused(t *testing.T) {
	v := testVocabulary(t)
	for _, c := range []struct{ name, schema, pointer, keyword string }{
		{"if", `{"properties":{"a":{"if":{"items":{"type":"integer"}},"then":true}}}`, "/properties/a", "if"},
		{"contains", `{"items":{"contains":{}}}`, "/items", "contains"},
		{"uniqueItems", `{"uniqueItems":true}`, "", "uniqueItems"},
		{"unevaluatedProperties", `{"allOf":[{"properties":{"a":true}}],"unevaluatedProperties":false}`, "", "unevaluatedProperties"},
		{"dependencies", `{"dependencies":{}}`, "", "dependencies"},
		{"a format", `{"anyOf":[{"format":"idn-hostname"}]}`, "/anyOf/0", "format"},
		{"another document", `{"$ref":"https://example.org/x"}`, "", "$ref"},
		{"nothing", `{"$ref":"#/$defs/x"}`, "", "$ref"},
		{"a loop", `{"$ref":"#"}`, "", "$ref"},
		{"a loop of two", `{"$defs":{"a":{"anyOf":[{"$ref":"#/$defs/b"}]},"b":{"$ref":"#/$defs/a"}},"$ref":"#/$defs/a"}`, "/$defs/a", "$ref"},
		{"oneOf of objects", `{"oneOf":[{"additionalProperties":{"type":"string"}},{"required":["a"]}]}`, "", "oneOf"},
		{"not of objects", `{"not":{"patternProperties":{"a":{"type":"integer"}}}}`, "", "not"},
		{"a lookahead", `{"pattern":"(?=a)"}`, "", "pattern"},
		{"a type", `{"type":"int"}`, "", "type"},
		{"items of draft 7", `{"items":[{}]}`, "", "items"},
		{"minProperties", `{"minProperties":3}`, "", "minProperties"},
		{"a bound of draft 4", `{"exclusiveMinimum":true}`, "", "exclusiveMinimum"},
		{"a large multipleOf", `{"multipleOf":1234577}`, "", "multipleOf"},
		{"a dialect", `{"$schema":"http://json-schema.org/draft-04/schema#"}`, "", "$schema"},
		{"maxLength", `{"maxLength":1e300}`, "", "maxLength"},
		{"no schema", `{"items":3}`, "/items", ""},
		{"not JSON", `{"items":`, "/items", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := CompileSchema(v, []byte(c.schema), SchemaOptions{})
			var e *SchemaError
			if !errors.As(err, &e) {
				t.Fatalf("got %v, want a SchemaError", err)
			}
			if e.Pointer != c.pointer || e.Keyword != c.keyword {
				t.Errorf("got %q %q, want %q %q: %v", e.Pointer, e.Keyword, c.pointer, c.keyword, err)
			}
		})
	}
	for _, schema := range []string{`false`, `{"type":"integer","minimum":3,"maximum":2}`, `{"enum":[]}`,
		`{"type":"string","pattern":"^a$","minLength":2}`, `{"type":"integer","exclusiveMinimum":1,"exclusiveMaximum":2}`,
		`{"type":"object","properties":{"a":{"$ref":"#"}},"required":["a"]}`, `{"type":"number","multipleOf":10,"minimum":1,"maximum":9}`} {
		if _, err := CompileSchema(v, []byte(schema), SchemaOptions{}); !errors.Is(err, ErrNoText) {
			t.Errorf("%s: got %v, want ErrNoText", schema, err)
		}
	}
}

func TestCompactInOrder(t *testing.T) {
	v := testVocabulary(t)
	schema := `{"type":"object","properties":{"name":{"type":"string"},"age":{"type":"integer"},"x":{"const":"é\n"}},
		"required":["name","age","x"],"additionalProperties":false}`
	g, err := CompileSchema(v, []byte(schema), SchemaOptions{Compact: true, InOrder: true})
	if err != nil {
		t.Fatal(err)
	}
	m := g.Matcher()
	for _, step := range []struct{ forced, then string }{{`{"name":"`, `bob"`}, {`,"age":`, `12,`}, {`"x":"`, `é`}, {`\`, "n"}, {`"}`, ""}} {
		if got, err := m.forced(); err != nil || string(got) != step.forced {
			t.Fatalf("forced %q (%v), want %q", got, err, step.forced)
		}
		if err := m.AcceptText(step.forced + step.then); err != nil {
			t.Fatal(err)
		}
	}
	if forced, err := m.forced(); !m.MayEnd() || err != nil || len(forced) > 0 {
		t.Errorf("the text has not ended: %q (%v) may follow", forced, err)
	}
	if accepts(t, g, `{"age":12,"name":"bob","x":"é\n"}`) {
		t.Error("another order is accepted")
	}
}

func TestClosedObjects(t *testing.T) {
	v := testVocabulary(t)
	for schema, want := range map[string]map[string]bool{
		`{"properties":{"a":{"type":"integer"}}}`: {`{}`: true, `{"a": 1}`: true, `{"b": 1}`: false, `{"a": 1, "b": 1}`: false},
		`{"allOf":[{"properties":{"a":true}},{"properties":{"b":{"properties":{"c":true}}},"required":["b"]}]}`: {
			`{"b": {}}`: true, `{"a": 1, "b": {"c": 1}}`: true, `{"b": {"d": 1}}`: false, `{"b": 1, "c": 1}`: false},
		`{"properties":{"a":true},"additionalProperties":{"type":"null"}}`: {`{"b": null}`: true, `{"b": 1}`: false},
		`{"properties":{"a":true},"patternProperties":{"^b$":true}}`:       {`{"b": 1, "c": 1}`: true},
		`{"properties":{"a":true},"minProperties":1}`:                      {`{"a": 1}`: true, `{"b": 1}`: false, `{}`: false},
		`{"type":"object"}`: {`{"a": 1}`: true},
	} {
		g, err := CompileSchema(v, []byte(schema), SchemaOptions{Closed: true})
		if err != nil {
			t.Errorf("%s: %v", schema, err)
			continue
		}
		for text, want := range want {
			if accepts(t, g, text) != want {
				t.Errorf("%s: %s: accepted %t", schema, text, !want)
			}
		}
	}
}

func TestWholeNumbers(t *testing.T) {
	v := testVocabulary(t)
	for schema, want := range map[string]map[string]bool{
		`{"type":"integer","minimum":-5,"maximum":120}`: {"120": true, "-5": true, "1.0": false, "121": false},
		`{"enum":[3,2.5]}`:  {"3": true, "3.0": false, "2.5": true},
		`{"type":"number"}`: {"1.5": true, "1": true, "1e5": true},
	} {
		g, err := CompileSchema(v, []byte(schema), SchemaOptions{Whole: true})
		if err != nil {
			t.Fatal(err)
		}
		for text, want := range want {
			if accepts(t, g, text) != want {
				t.Errorf("%s: %s: accepted %t", schema, text, !want)
			}
		}
	}
}
