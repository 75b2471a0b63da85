package main

import (
	"encoding/json"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/rogpeppe/go-internal/testscript"
	"github.com/santhosh-tekuri/jsonschema/v6"
	"github.com/urfave/cli/v2"

	"pumice"
	"pumice/bench"
	"pumice/eval"
	"pumice/internal/licenses"
)

// schemas are the values that --json writes, by the name of their schema in docs/json.
var schemas = map[string]struct {
	title string
	value any
}{
	"answer":               {"pumice ask, chat and generate --json", answer{}},
	"answers":              {"pumice ask, chat and generate --json --answers N", []answer{}},
	"bench":                {"pumice bench --json", []bench.Result{}},
	"bench-compare":        {"pumice bench compare --json", bench.Comparison{}},
	"bench-load":           {"pumice bench --load N,... --json", []bench.LoadResult{}},
	"bench-parallel":       {"pumice bench -np N,... --json", []bench.ParallelResult{}},
	"detokenize":           {"pumice detokenize --json, and a line of --jsonl", decoding{}},
	"devices":              {"pumice devices --json", []pumice.DeviceInfo{}},
	"embed":                {"pumice embed --json", embedResult{}},
	"embed-line":           {"A line of pumice embed", []float32{}},
	"eval":                 {"pumice eval MODEL --json", eval.Summary{}},
	"eval-compare":         {"pumice eval compare --json", eval.Comparison{}},
	"eval-ls":              {"pumice eval ls --json", catalogue{}},
	"inspect":              {"pumice inspect --json", inspection{}},
	"kernels":              {"pumice kernels --json", []pumice.KernelStats{}},
	"licenses":             {"pumice licenses --json", []licenses.Work{}},
	"list":                 {"pumice list --json", []listed{}},
	"logits":               {"pumice logits --json", logitsResult{}},
	"perplexity":           {"pumice perplexity --json", eval.PerplexityResult{}},
	"ps":                   {"pumice ps --json", []running{}},
	"pull":                 {"pumice pull --json", []pulled{}},
	"quantize":             {"pumice quantize --json", quantized{}},
	"rm":                   {"pumice rm --json", []removed{}},
	"stop":                 {"pumice stop --json: the names", []string{}},
	"tokenize":             {"pumice tokenize --json, and a line of --jsonl", encoding{}},
	"tune":                 {"pumice tune --json", pumice.TuneResult{}},
	"tune-reset":           {"pumice tune --reset --json", forgotten{}},
	"verify":               {"pumice verify --json", []pumice.VerifyResult{}},
	"verify-compile-times": {"pumice verify --compile-times --json", compiledChecks{}},
}

// schemaDir has the schemas.
var schemaDir = filepath.Join("..", "..", "docs", "json")

// TestSchemasAreThoseOfTheTypes compares docs/json with the types that are written. -update writes the files; what that changes is
// what programs that read the output meet.
func TestSchemasAreThoseOfTheTypes(t *testing.T) {
	for name, s := range schemas {
		w := &schemaWriter{t: t, defs: map[string]any{}}
		schema := map[string]any{"$schema": "https://json-schema.org/draft/2020-12/schema", "title": s.title}
		maps.Copy(schema, w.schema(reflect.TypeOf(s.value), true))
		if len(w.defs) > 0 {
			schema["$defs"] = w.defs
		}
		text, err := json.MarshalIndent(schema, "", "  ")
		if err != nil {
			t.Fatal(err)
		}
		file := filepath.Join(schemaDir, name+".json")
		if *update {
			if err := os.WriteFile(file, append(text, '\n'), 0o644); err != nil {
				t.Fatal(err)
			}
			continue
		}
		if diff := cmp.Diff(string(readAll(t, file)), string(text)+"\n"); diff != "" {
			t.Errorf("%s: -file +type:\n%s", file, diff)
		}
	}
	files, err := filepath.Glob(filepath.Join(schemaDir, "*.json"))
	if err != nil || len(files) != len(schemas) {
		t.Errorf("%d schemas for %d outputs (%v)", len(files), len(schemas), err)
	}
}

// TestOutputsHaveSchemas: each command that has --json has a schema, and a script holds an output of it to each schema.
func TestOutputsHaveSchemas(t *testing.T) {
	for _, c := range newProgram(nil, nil, nil).app().Commands {
		writes := slices.ContainsFunc(c.Flags, func(f cli.Flag) bool { return f.Names()[0] == "json" })
		_, own := schemas[c.Name]
		own = own || slices.Contains([]string{"ask", "chat", "generate"}, c.Name) // answer
		if writes != own {
			t.Errorf("%s: --json %t, schema %t", c.Name, writes, own)
		}
	}
	var scripts strings.Builder
	files, err := filepath.Glob("testdata/script/*.txtar")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range append(files, "pull_test.go", "eval_linux_test.go") {
		scripts.Write(readAll(t, name))
	}
	for name := range schemas {
		if !strings.Contains(scripts.String(), "\nfits "+name+" ") && !strings.Contains(scripts.String(), fmt.Sprintf("fits(t, %q,", name)) {
			t.Errorf("no test holds an output to docs/json/%s.json", name)
		}
	}
}

// fits fails the test unless each line of a text, or the text, is what a schema describes.
func fits(t testing.TB, name, text string) {
	t.Helper()
	if err := fit(name, text); err != nil {
		t.Error(err)
	}
}

func fit(name, text string) error {
	schema, err := jsonschema.NewCompiler().Compile(filepath.Join(schemaDir, name+".json"))
	if err != nil {
		return err
	}
	lines := 0
	for line := range strings.Lines(text) {
		lines++
		v, err := jsonschema.UnmarshalJSON(strings.NewReader(line))
		if err == nil {
			err = schema.Validate(v)
		}
		if err != nil {
			return fmt.Errorf("%s: %w\n%.1000s", name, err, line)
		}
	}
	if lines == 0 {
		return fmt.Errorf("%s: there is no output", name)
	}
	return nil
}

// scriptFits is `fits SCHEMA FILE`: each line of the file fits docs/json/SCHEMA.json.
func scriptFits(ts *testscript.TestScript, _ bool, args []string) {
	ts.Check(fit(args[0], ts.ReadFile(args[1])))
}

// A schemaWriter describes types by what encoding/json makes of them, and by the comments of their fields.
type schemaWriter struct {
	t    *testing.T
	defs map[string]any
}

// schema is the schema of a type. The outermost one is written where it is, other structures as definitions.
func (w *schemaWriter) schema(typ reflect.Type, outermost bool) map[string]any {
	w.t.Helper()
	switch typ {
	case reflect.TypeFor[time.Time]():
		return map[string]any{"type": "string", "format": "date-time"}
	case reflect.TypeFor[jsonFields]():
		return map[string]any{"type": "object", "description": "values by key, in the file's order; a list of more than 64 elements is a text that gives their number"}
	}
	if typ.Implements(reflect.TypeFor[interface{ MarshalText() ([]byte, error) }]()) {
		return map[string]any{"type": "string"}
	}
	if typ.Implements(reflect.TypeFor[json.Marshaler]()) {
		w.t.Fatalf("%v: what it writes is not known", typ)
	}
	switch typ.Kind() {
	case reflect.Pointer:
		return map[string]any{"anyOf": []any{w.schema(typ.Elem(), false), map[string]any{"type": "null"}}}
	case reflect.Slice, reflect.Array:
		return map[string]any{"type": "array", "items": w.schema(typ.Elem(), false)}
	case reflect.Map:
		return map[string]any{"type": "object", "additionalProperties": w.schema(typ.Elem(), false)}
	case reflect.String:
		return map[string]any{"type": "string"}
	case reflect.Bool:
		return map[string]any{"type": "boolean"}
	case reflect.Float32, reflect.Float64:
		return map[string]any{"type": "number"}
	case reflect.Int, reflect.Int64, reflect.Int32, reflect.Uint, reflect.Uint32, reflect.Uint64, reflect.Uint8:
		return map[string]any{"type": "integer"}
	case reflect.Interface:
		return map[string]any{}
	case reflect.Struct:
		if outermost {
			return w.object(typ)
		}
		name := typ.Name()
		if name == "" {
			return w.object(typ)
		}
		if _, ok := w.defs[name]; !ok {
			w.defs[name] = nil // it may refer to itself
			w.defs[name] = w.object(typ)
		}
		return map[string]any{"$ref": "#/$defs/" + name}
	}
	w.t.Fatalf("%v: of no kind that JSON has", typ)
	return nil
}

func (w *schemaWriter) object(typ reflect.Type) map[string]any {
	properties, required := map[string]any{}, []string{}
	w.fields(typ, properties, &required)
	slices.Sort(required)
	return map[string]any{"type": "object", "properties": properties, "required": required, "additionalProperties": false}
}

func (w *schemaWriter) fields(typ reflect.Type, properties map[string]any, required *[]string) {
	comments := fieldComments(w.t, typ)
	for f := range typ.Fields() {
		tag, tagged := f.Tag.Lookup("json")
		name, options, _ := strings.Cut(tag, ",")
		switch {
		case name == "-" || !f.IsExported() && !f.Anonymous:
			continue
		case f.Anonymous && !tagged:
			w.fields(f.Type, properties, required)
			continue
		case name == "":
			name = f.Name
		}
		schema := w.schema(f.Type, false)
		if text := comments[f.Name]; text != "" {
			schema["description"] = text
		}
		properties[name] = schema
		if !strings.Contains(options, "omit") {
			*required = append(*required, name)
		} else if inner, ok := schema["anyOf"]; ok && f.Type.Kind() == reflect.Pointer { // where it is there it is not null
			delete(schema, "anyOf")
			maps.Copy(schema, inner.([]any)[0].(map[string]any))
		}
	}
}

// fieldComments are the comments of a type's fields in its source, by the fields' names.
func fieldComments(t *testing.T, typ reflect.Type) map[string]string {
	t.Helper()
	comments := map[string]string{}
	if typ.Name() == "" {
		return comments
	}
	dir := strings.TrimPrefix(strings.TrimPrefix(typ.PkgPath(), "pumice"), "/")
	if typ.PkgPath() == reflect.TypeFor[answer]().PkgPath() {
		dir = "cmd/pumice"
	}
	files, err := filepath.Glob(filepath.Join("..", "..", dir, "*.go"))
	if err != nil || len(files) == 0 {
		t.Fatalf("%v: no sources in %s (%v)", typ, dir, err)
	}
	for _, name := range files {
		file, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.ParseComments)
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range file.Decls {
			decl, ok := d.(*ast.GenDecl)
			if !ok {
				continue
			}
			for _, s := range decl.Specs {
				spec, ok := s.(*ast.TypeSpec)
				if !ok || spec.Name.Name != typ.Name() {
					continue
				}
				object, ok := spec.Type.(*ast.StructType)
				if !ok {
					continue
				}
				for _, f := range object.Fields.List {
					for _, n := range f.Names {
						comments[n.Name] = strings.Join(strings.Fields(f.Doc.Text()+" "+f.Comment.Text()), " ")
					}
				}
			}
		}
	}
	return comments
}
