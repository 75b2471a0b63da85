package constrain

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"errors"
	"math/rand/v2"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/santhosh-tekuri/jsonschema/v6"
)

// A suiteGroup is a schema of the JSON Schema Test Suite, with values.
type suiteGroup struct {
	Description string
	Schema      json.RawMessage
	Tests       []struct {
		Description string
		Data        json.RawMessage
		Valid       bool
	}
}

func suite(t testing.TB) (groups []suiteGroup) {
	t.Helper()
	f, err := os.Open("testdata/suite.json.gz")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	var files []struct {
		File   string
		Groups []suiteGroup
	}
	if err := json.NewDecoder(z).Decode(&files); err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		for _, g := range f.Groups {
			g.Description = f.File + ": " + g.Description
			groups = append(groups, g)
		}
	}
	return groups
}

// respelled is a JSON value as programs write it.
func respelled(t testing.TB, text []byte) string {
	t.Helper()
	d := json.NewDecoder(bytes.NewReader(text))
	d.UseNumber()
	var v any
	if err := d.Decode(&v); err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(b.String())
}

// validator compiles a schema with another implementation.
func validator(t testing.TB, schema []byte) (*jsonschema.Schema, error) {
	t.Helper()
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(schema))
	if err != nil {
		return nil, err
	}
	c := jsonschema.NewCompiler()
	c.AssertFormat()
	if err := c.AddResource("https://test.invalid/schema", doc); err != nil {
		return nil, err
	}
	return c.Compile("https://test.invalid/schema")
}

func valid(t testing.TB, s *jsonschema.Schema, text string) error {
	t.Helper()
	doc, err := jsonschema.UnmarshalJSON(strings.NewReader(text))
	if err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	return s.Validate(doc)
}

// otherwise are tests of the suite, by the end of their description, that differ, with the reason.
var otherwise = map[string]string{
	"is only an annotation by default":                             "formats are asserted",
	"valid leap second, positive time-offset":                      "leap seconds are in UTC",
	"valid leap second, large positive time-offset":                "leap seconds are in UTC",
	"valid leap second, negative time-offset":                      "leap seconds are in UTC",
	"valid leap second, large negative time-offset":                "leap seconds are in UTC",
	"a valid date-time with a leap second, with minus offset":      "leap seconds are in UTC",
	"a quoted string with a space in the local part is valid":      "local parts are not quoted",
	"a quoted string with a double dot in the local part is valid": "local parts are not quoted",
	"a quoted string with a @ in the local part is valid":          "local parts are not quoted",
	"an IPv4-address-literal after the @ is valid":                 "domains are names",
	"an IPv6-address-literal after the @ is valid":                 "domains are names",
	"valid if optional overflow handling is implemented":           "bounded numbers have no exponent",
}

// differs reports whether a test is one that is known to differ.
func differs(group, test string) bool {
	for end := range otherwise {
		if strings.HasSuffix(test, end) {
			return true
		}
	}
	if strings.HasSuffix(group, "validation of A-label (punycode) host names") {
		return true // labels of other scripts
	}
	return strings.HasSuffix(group, `ECMA 262 \s matches whitespace`) || strings.HasSuffix(group, `ECMA 262 \S matches everything but whitespace`) // RE2's \s
}

// TestSuite: schemas of the suite that compile accept its valid values and no others, and texts drawn are valid by another
// implementation. Which keywords are refused, and how often, shows whether support grows or shrinks.
func TestSuite(t *testing.T) {
	v := testVocabulary(t)
	rng := rand.New(rand.NewPCG(1, 2))
	refused := map[string]int{}
	compiled := 0
	for _, group := range suite(t) {
		g, err := CompileSchema(v, group.Schema, SchemaOptions{})
		var schemaErr *SchemaError
		switch {
		case errors.As(err, &schemaErr):
			refused[schemaErr.Keyword]++
			continue
		case err != nil && !errors.Is(err, ErrNoText):
			t.Errorf("%s: %s: %v", group.Description, group.Schema, err)
			continue
		}
		compiled++
		for _, c := range group.Tests {
			text := respelled(t, c.Data)
			if got := err == nil && accepts(t, g, text); got != c.Valid && !differs(group.Description, c.Description) {
				t.Errorf("%s: %s\n%s: %s: accepted %t, want %t", group.Description, group.Schema, c.Description, text, got, c.Valid)
			}
		}
		if err != nil {
			continue
		}
		other, err := validator(t, group.Schema)
		if err != nil {
			continue
		}
		for range 5 {
			if text := sample(t, g, rng, 12, nil); text != "" {
				if err := valid(t, other, text); err != nil {
					t.Errorf("%s: %s\n%s is drawn: %v", group.Description, group.Schema, text, err)
				}
			}
		}
	}
	want := map[string]int{
		"$dynamicRef": 17, "$ref": 23, "$schema": 2, "contains": 22, "format": 9, "minProperties": 1, "multipleOf": 1, "oneOf": 1,
		"unevaluatedItems": 12, "unevaluatedProperties": 20, "uniqueItems": 3,
	}
	if diff := cmp.Diff(want, refused); diff != "" || compiled != 313 {
		t.Errorf("%d schemas compiled, want 313; refused, by keyword (-want +got):\n%s", compiled, diff)
	}
}
