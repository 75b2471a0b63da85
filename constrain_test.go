package pumice

import (
	"encoding/json"
	"math/rand/v2"
	"path/filepath"
	"strings"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"

	"pumice/constrain"
	"pumice/tokenizer"
)

var _ Forcer = (*constrain.Matcher)(nil)

// vocabularyOf is the vocabulary of a tokenizer, which ends texts with its own end token.
func vocabularyOf(t *testing.T, tok *tokenizer.Tokenizer) (v *constrain.Vocabulary, end int) {
	t.Helper()
	tokens := make([]string, tok.VocabSize()+1)
	end = tok.VocabSize()
	for id := range tok.VocabSize() {
		if b, ok := tok.TokenBytes(id); ok && !tok.IsSpecial(id) {
			tokens[id] = string(b)
		}
	}
	v, err := constrain.NewVocabulary(tokens, []int{end})
	if err != nil {
		t.Fatal(err)
	}
	return v, end
}

// TestConstrainedTextsAreValid draws tokens of several tokenizers under the masks of a schema: what they decode to is valid.
func TestConstrainedTextsAreValid(t *testing.T) {
	const schema = `{"type": "object", "properties": {
		"name": {"type": "string", "minLength": 1, "maxLength": 12}, "größe": {"type": "number", "minimum": 0, "maximum": 3},
		"tags": {"type": "array", "items": {"type": "string", "pattern": "^[a-z]+$", "maxLength": 9}, "maxItems": 3},
		"day": {"type": "string", "format": "date"}, "next": {"anyOf": [{"$ref": "#"}, {"type": "null"}]}
	}, "required": ["name", "next"], "additionalProperties": false}`
	doc, err := jsonschema.UnmarshalJSON(strings.NewReader(schema))
	if err != nil {
		t.Fatal(err)
	}
	c := jsonschema.NewCompiler()
	c.AssertFormat()
	if err := c.AddResource("https://test.invalid/schema", doc); err != nil {
		t.Fatal(err)
	}
	validator, err := c.Compile("https://test.invalid/schema")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"bbpe-qwen2/tokenizer.json", "bbpe-llama3/tokenizer.json", "spm-llama/tokenizer.model", "spm-internlm/tokenizer.model", "xverse-b/tokenizer.json"} {
		t.Run(name, func(t *testing.T) {
			tok, err := tokenizer.Open(t.Context(), filepath.Join("tokenizer", "testdata", filepath.FromSlash(name)))
			if err != nil {
				t.Fatal(err)
			}
			v, end := vocabularyOf(t, tok)
			g, err := constrain.CompileSchema(v, []byte(schema), constrain.SchemaOptions{})
			if err != nil {
				t.Fatal(err)
			}
			rng := rand.New(rand.NewPCG(1, 2))
			mask := make([]uint32, (v.Size()+31)/32)
			complete, known := 0, 0
			for range 20 {
				m, ids, logits := g.Matcher(), []int{}, make([]float32, v.Size())
				for !m.Ended() && len(ids) < 500 {
					forced, err := m.Forced()
					for _, id := range forced {
						if err == nil {
							err = m.Mask(mask)
						}
						if mask[id/32]>>(id%32)&1 == 0 {
							t.Fatalf("token %d is forced after %q, and not allowed", id, tok.Decode(ids, false))
						}
						if err == nil {
							err = m.Accept(id)
						}
						ids = append(ids, id)
					}
					known += len(forced)
					if err == nil {
						err = m.Mask(mask)
					}
					if err != nil {
						t.Fatal(err)
					}
					best := -1
					for id := range logits {
						if logits[id] = rng.Float32(); mask[id/32]>>(id%32)&1 != 0 && (best < 0 || logits[id] > logits[best]) {
							best = id
						}
					}
					if best < 0 {
						t.Fatalf("%q leads nowhere", tok.Decode(ids, false))
					}
					if err := m.Accept(best); err != nil {
						t.Fatal(err)
					}
					if best != end {
						ids = append(ids, best)
					}
				}
				if !m.Ended() {
					continue
				}
				complete++
				text := tok.Decode(ids, false)
				var value any
				if err := json.Unmarshal([]byte(text), &value); err != nil {
					t.Fatalf("%s: %v", text, err)
				}
				if err := validator.Validate(value); err != nil {
					t.Errorf("%s: %v", text, err)
				}
			}
			if known == 0 {
				t.Error("no token is forced")
			}
			if complete < 10 {
				t.Errorf("only %d of 20 texts ended", complete)
			}
		})
	}
}
