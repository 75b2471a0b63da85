package jinja

import (
	"fmt"
	"go/ast"
	goparser "go/parser"
	gotoken "go/token"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"testing"
)

// growth has an expression for every filter, test, method, global and operator, on large values: x is a foreign string
// of 262144 bytes, s a list of 16384 strings, n a list of numbers, m a list of mappings with an attribute a, d a
// mapping.
var growth = map[string]map[string]string{
	"filter": {
		"abs": "-1|abs", "attr": "m|map('attr', 'a')|list", "capitalize": "x|capitalize", "count": "x|count", "d": "x|d(x)", "default": "u|default(x)",
		"dictsort": "d|dictsort", "e": "x|e", "escape": "x|escape", "first": "x|first", "float": "x|float", "format": "'%s%s'|format(x, x)",
		"indent": "x|indent(3)", "int": "x|int", "items": "d|items", "join": "s|join(', ')", "last": "x|last", "length": "x|length",
		"list": "x|list", "lower": "x|lower", "map": "m|map(attribute='a')|map('upper')|list", "max": "s|max", "min": "s|min",
		"reject": "n|reject('odd')", "rejectattr": "m|rejectattr('b')", "replace": "x|replace('a', 'bb')", "reverse": "s|reverse",
		"round": "1.5|round", "safe": "x|safe", "select": "n|select('odd')", "selectattr": "m|selectattr('a')", "sort": "s|sort",
		"string": "s|string", "sum": "n|sum", "title": "x|title", "tojson": "m|tojson(indent=4)", "trim": "x|trim('a')",
		"unique": "s|unique", "upper": "x|upper", "wordcount": "x|wordcount",
	},
	"test": {
		"defined": "x is defined", "undefined": "x is undefined", "none": "x is none", "boolean": "x is boolean", "true": "x is true",
		"false": "x is false", "integer": "x is integer", "float": "x is float", "number": "x is number", "string": "x is string",
		"mapping": "x is mapping", "sequence": "x is sequence", "iterable": "x is iterable", "callable": "x is callable",
		"lower": "x is lower", "upper": "x is upper", "odd": "1 is odd", "even": "1 is even", "divisibleby": "6 is divisibleby 3",
		"sameas": "x is sameas x", "in": "x is in [x]", "filter": "x is filter", "test": "x is test", "eq": "x is eq x",
		"equalto": "x is equalto x", "ne": "x is ne x", "lt": "x is lt x", "lessthan": "x is lessthan x", "le": "x is le x",
		"gt": "x is gt x", "greaterthan": "x is greaterthan x", "ge": "x is ge x", "==": "[x]|select('==', x)|list",
		"!=": "[x]|select('!=', x)|list", "<": "[x]|select('<', x)|list", "<=": "[x]|select('<=', x)|list",
		">": "[x]|select('>', x)|list", ">=": "[x]|select('>=', x)|list",
	},
	"string": {
		"capitalize": "x.capitalize()", "lower": "x.lower()", "title": "x.title()", "upper": "x.upper()", "strip": "x.strip('a')",
		"lstrip": "x.lstrip('a')", "rstrip": "x.rstrip('a')", "split": "x.split('a')", "rsplit": "x.rsplit('a', 100000)",
		"splitlines": "x.splitlines()", "partition": "x.partition('b')", "startswith": "x.startswith(x)", "endswith": "x.endswith(x)",
		"removeprefix": "x.removeprefix('a')", "removesuffix": "x.removesuffix('a')", "replace": "x.replace('a', 'bb')",
		"find": "x.find('zz')", "rfind": "x.rfind('zz')", "index": "x.index('B')", "count": "x.count('a')", "join": "x.join(['', '', ''])",
		"format": "'{}{}'.format(x, x)", "isalpha": "x.isalpha()", "isdigit": "x.isdigit()", "isalnum": "x.isalnum()",
		"isspace": "x.isspace()", "islower": "x.islower()", "isupper": "x.isupper()",
	},
	"mapping": {
		"items": "d.items()", "keys": "d.keys()", "values": "d.values()", "get": "d.get(x, x)", "copy": "d.copy()",
	},
	"list": {"count": "s.count(x)", "index": "s.index('item 5')"},
	"loop": {
		"index": "", "index0": "", "revindex": "", "revindex0": "", "first": "", "last": "", "length": "", "depth": "", "depth0": "",
		"previtem": "", "nextitem": "", "cycle": "cycle(x, x)", "changed": "changed(x)",
	},
	"global": {
		"range": "range(100000)", "dict": "dict(d)", "namespace": "namespace(d)", "strftime_now": "strftime_now(x)",
		"raise_exception": "raise_exception(x)",
	},
	"operator": {
		"+": "x + x", "~": "x ~ x", "*": "'ab' * 100000", "* list": "[1] * 100000", "+ list": "s + s", "%": "'%s %r' % (x, x)",
		"slice": "x[1:-1]", "slice by step": "x[::-1]", "slice of a list": "s[1:]", "index": "x[5]", "missing": "x['" + strings.Repeat("a", 5000) + "']",
		"list": "[x, x]", "tuple": "(x, x)", "dict": "{x: x}", "in": "'zz' in x", "in a mapping": "x in d", "==": "x == x", "<": "x < x", "not": "not x",
		"and": "x and x", "if": "x if x else x", "-": "-1", "call": "x.upper().lower()",
	},
}

// Every function is charged bytes for the values it makes, compared with the runtime's count of allocated bytes, and
// steps for the strings it reads. A new function without a case here fails the test.
func TestEveryFunctionIsCharged(t *testing.T) {
	methods := func(v any, names ...string) []string {
		for _, name := range names {
			in := &interp{budget: newBudget(t.Context())}
			if _, ok := in.attribute(v, name); !ok {
				t.Errorf("no attribute %s", name)
			}
		}
		return names
	}
	loopNames := methods(&loop{}, slices.Collect(maps.Keys(growth["loop"]))...)
	for kind, names := range map[string][]string{
		"filter": slices.Collect(maps.Keys(filters)), "test": slices.Collect(maps.Keys(tests)), "string": slices.Collect(maps.Keys(textMethods)),
		"mapping": slices.Collect(maps.Keys(dictMethods)), "list": slices.Collect(maps.Keys(listMethods)), "loop": loopNames,
		"global": slices.Collect(maps.Keys(globals)),
	} {
		for _, name := range names {
			if _, ok := growth[kind][name]; !ok {
				t.Errorf("%s %q has no case: add one whose result is large", kind, name)
			}
		}
		if len(names) != len(growth[kind]) {
			t.Errorf("%d cases for %d functions of kind %s", len(growth[kind]), len(names), kind)
		}
	}
	var s, n, m []any
	d := map[string]any{}
	for i := range 1 << 14 {
		key := fmt.Sprintf("item %d", i)
		s, n, m = append(s, key), append(n, i), append(m, map[string]any{"a": key})
		d[key] = i
	}
	vars := Variables{Foreign: map[string]any{"x": strings.Repeat("aB c&é\n", 1<<15), "s": s, "n": n, "m": m, "d": d}}
	taken := &interp{budget: newBudget(t.Context())}
	sc := taken.globals(vars)
	full := taken.budget
	long := regexp.MustCompile(`\bx\b`)
	for kind, cases := range growth {
		for name, source := range cases {
			if kind == "loop" {
				if source == "" {
					source = name
				}
				source = "{% for i in [1, 2] %}{% set r = loop." + source + " %}{% endfor %}"
			} else {
				source = "{% set r = " + source + " %}"
			}
			tm, err := Parse(t.Context(), "growth", source)
			if err != nil {
				t.Errorf("%s %s: %v", kind, name, err)
				continue
			}
			in := &interp{budget: full}
			bytes, steps, made := in.bytes, in.steps, allocated()
			func() {
				defer func() { err = recovered(recover(), "growth", 1, nil) }()
				in.run(tm.body, sc, in.builder())
			}()
			made, bytes, steps = allocated()-made, bytes-in.bytes, steps-in.steps
			if err != nil && name != "raise_exception" && !strings.Contains(err.Error(), "no order") {
				t.Errorf("%s %s: %v", kind, name, err)
			}
			// A string grows by a quarter at a time and leaves its old bytes as garbage; a step may make a number.
			if made > 6*bytes+16*steps+64<<10 {
				t.Errorf("%s %s: %d bytes were made, %d charged", kind, name, made, bytes)
			}
			if long.MatchString(source) && kind != "loop" && steps < 1000 && !slices.Contains([]string{"list", "tuple", "dict", "not", "and", "if"}, name) {
				t.Errorf("%s %s: %d steps for a string of 229376 bytes", kind, name, steps)
			}
		}
	}
}

// allocated returns how many bytes the process has ever allocated.
func allocated() int {
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int(m.TotalAlloc)
}

// A value made anywhere but in make.go might not be charged.
func TestValuesAreMadeInOnePlace(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	values := []string{"text", "list", "dict", "function", "undefined", "scope", "builder"}
	fields := []string{"items", "keys", "m", "vars", "foreign"}
	set := gotoken.NewFileSet()
	for _, name := range files {
		if name == "make.go" || strings.HasSuffix(name, "_test.go") {
			continue
		}
		f, err := goparser.ParseFile(set, name, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(f, func(n ast.Node) bool {
			switch x := n.(type) {
			case *ast.CompositeLit:
				if id, ok := x.Type.(*ast.Ident); ok && slices.Contains(values, id.Name) && len(x.Elts) > 0 {
					t.Errorf("%s: makes a %s: let make.go do it", set.Position(x.Pos()), id.Name)
				}
			case *ast.AssignStmt:
				for _, left := range x.Lhs {
					if i, ok := left.(*ast.IndexExpr); ok {
						left = i.X
					}
					if sel, ok := left.(*ast.SelectorExpr); ok && name != "parse.go" && slices.Contains(fields, sel.Sel.Name) {
						t.Errorf("%s: changes %s: let make.go do it", set.Position(x.Pos()), sel.Sel.Name)
					}
				}
			}
			return true
		})
	}
}

// Long conversations take at most a third of the limits.
func TestRealTemplatesAreFarFromTheLimits(t *testing.T) {
	files, err := filepath.Glob("../../testdata/templates/*.jinja")
	if err != nil || len(files) == 0 {
		t.Fatalf("%d templates, %v", len(files), err)
	}
	for _, file := range files {
		source, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		tm, err := Parse(t.Context(), file, string(source))
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range []struct{ turns, words int }{{1, 1}, {2001, 1}, {501, 100}, {5, 20000}} {
			var list []any
			for i := range c.turns {
				list = append(list, map[string]any{"role": []string{"user", "assistant"}[i%2], "content": strings.Repeat("word ", c.words)})
			}
			in := &interp{budget: newBudget(t.Context())}
			sc := in.globals(Variables{Template: map[string]any{"bos_token": "<s>", "eos_token": "</s>", "add_generation_prompt": true},
				Foreign: map[string]any{"messages": list}})
			bytes, steps := in.bytes, in.steps
			in.run(tm.body, sc, in.builder())
			if used := bytes - in.bytes; 3*used > bytes {
				t.Errorf("%s, %d turns of %d words: %d of %d bytes", filepath.Base(file), c.turns, c.words, used, bytes)
			}
			if used := steps - in.steps; 3*used > steps {
				t.Errorf("%s, %d turns of %d words: %d of %d steps", filepath.Base(file), c.turns, c.words, used, steps)
			}
		}
	}
}
