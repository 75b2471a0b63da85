package constrain

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
)

// allowed lists the tokens of a mask.
func allowed(mask []uint32) []int {
	var ids []int
	for i, w := range mask {
		for b := range 32 {
			if w>>b&1 != 0 {
				ids = append(ids, 32*i+b)
			}
		}
	}
	return ids
}

// byDefinition is the mask as it is defined: a token is allowed if its bytes may follow.
func byDefinition(m *Matcher) []int {
	v := m.g.vocabulary
	var ids []int
	for id, s := range v.tokens {
		if slices.Contains(v.ends, id) && m.MayEnd() || s != "" && m.Clone().AcceptText(s) == nil {
			ids = append(ids, id)
		}
	}
	return ids
}

// sample draws a text: tokens at random, and after so many of them those that end it soon. It is "" if it does not end.
func sample(t testing.TB, g *Grammar, rng *rand.Rand, tokens int, check func(*Matcher, []uint32)) string {
	t.Helper()
	v := g.vocabulary
	m, mask := g.Matcher(), make([]uint32, (v.size+31)/32)
	var text []byte
	for n := 0; n < tokens+200; n++ {
		if err := m.Mask(mask); err != nil {
			t.Fatalf("%q: %v", text, err)
		}
		if check != nil {
			check(m, mask)
		}
		ids := allowed(mask)
		if len(ids) == 0 {
			t.Fatalf("%q leads nowhere", text)
		}
		id := ids[rng.IntN(len(ids))]
		if n >= tokens || rng.IntN(8) == 0 {
			var ends []int
			for _, i := range ids {
				if s := v.tokens[i]; s == "" || s == "}" || s == "]" || s == `"` {
					ends = append(ends, i)
				}
			}
			if m.MayEnd() {
				id = v.ends[0]
			} else if len(ends) > 0 && rng.IntN(4) > 0 {
				id = ends[rng.IntN(len(ends))]
			}
		}
		if err := m.Accept(id); err != nil {
			t.Fatalf("%q, token %q: %v", text, v.tokens[id], err)
		}
		if v.tokens[id] == "" {
			return string(text)
		}
		text = append(text, v.tokens[id]...)
	}
	return ""
}

func TestMaskIsByDefinition(t *testing.T) {
	v := testVocabulary(t)
	check := func(t *testing.T, g *Grammar, err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		rng := rand.New(rand.NewPCG(1, 2))
		for range 3 {
			text := sample(t, g, rng, 30, func(m *Matcher, mask []uint32) {
				if got, want := allowed(mask), byDefinition(m); !slices.Equal(got, want) {
					t.Fatalf("allowed %v, want %v", got, want)
				}
			})
			if text != "" && !accepts(t, g, text) {
				t.Errorf("%q was drawn and is not accepted", text)
			}
		}
	}
	for i, c := range schemaCases {
		t.Run(c.name, func(t *testing.T) {
			g, err := CompileSchema(v, []byte(c.schema), SchemaOptions{Compact: i%2 == 0, InOrder: i%3 == 0})
			check(t, g, err)
		})
	}
	for i, source := range grammars {
		t.Run(fmt.Sprintf("grammar %d", i), func(t *testing.T) {
			g, err := CompileGBNF(v, source)
			check(t, g, err)
		})
	}
	for _, pattern := range patterns {
		t.Run(pattern, func(t *testing.T) {
			g, err := CompileRegex(v, pattern)
			check(t, g, err)
		})
	}
}

// TestMaskOfManyTokensIsByDefinition has tokens of all kinds of characters, longer than some strings may be.
func TestMaskOfManyTokensIsByDefinition(t *testing.T) {
	tokens := make([]string, 3000)
	madeUp(tokens)
	tokens[2998], tokens[2997], tokens[2996] = "                                        ", "a-b_c.d/e", "x\x7f"
	v, err := NewVocabulary(tokens, []int{2999})
	if err != nil {
		t.Fatal(err)
	}
	rng := rand.New(rand.NewPCG(1, 2))
	for _, schema := range []string{
		`{"type":"string"}`, `{"type":"string","maxLength":9}`, `{"type":"string","minLength":5,"maxLength":50}`,
		`{"type":"string","pattern":"^[A-Za-z0-9 _-]{1,40}$","minLength":3}`, `{"type":"string","pattern":"^[A-Z][a-z]*( [A-Z][a-z]*)*$"}`,
		`{"type":"string","pattern":"^[^a-c]*$"}`, `{"type":"string","pattern":"^[\\x20-\\x7e]*$"}`, `{"type":"string","pattern":"^\\pL{2,}$"}`,
		`{"additionalProperties":{"type":"integer"},"properties":{"abc":{"type":"string"}},"type":"object"}`,
	} {
		g, err := CompileSchema(v, []byte(schema), SchemaOptions{})
		if err != nil {
			t.Fatal(err)
		}
		for range 2 {
			n := 0
			sample(t, g, rng, 10, func(m *Matcher, mask []uint32) {
				if n++; n > 8 {
					return
				}
				if got, want := allowed(mask), byDefinition(m); !slices.Equal(got, want) {
					t.Fatalf("%s: after %q %d tokens are allowed, want %d", schema, m.text, len(got), len(want))
				}
			})
		}
	}
}
