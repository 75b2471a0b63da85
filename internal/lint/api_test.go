package lint

import (
	"bytes"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// apiPackages are the packages beside the root package whose types its exported declarations may name.
var apiPackages = []string{"chat", "constrain", "sample", "tokenizer"}

// loggerName is the one type of another module that they may name.
const loggerName = "zerolog.Logger"

// aliasFile has the root package's names for types of lower packages, in which it may name these.
const aliasFile = "aliases.go"

// foreignNames are what exported declarations of a file name of packages that are neither Go's nor apiPackages, such as
// "model.Config". With aliases, those that only give a type another name don't count.
func foreignNames(file *ast.File, aliases bool) []string {
	packages := map[string]bool{} // those that count
	for _, spec := range file.Imports {
		importPath, _ := strconv.Unquote(spec.Path.Value)
		name := importPath[strings.LastIndex(importPath, "/")+1:]
		internal, isOurs := ours(importPath)
		packages[name] = isOurs && !slices.Contains(apiPackages, internal) || !isOurs && strings.Contains(importPath, ".")
	}
	var names []string
	collect := func(node ast.Node) {
		ast.Inspect(node, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.Field: // of a struct: exported ones count, and embedded ones
				if len(n.Names) > 0 && !slices.ContainsFunc(n.Names, (*ast.Ident).IsExported) {
					if _, inStruct := node.(*ast.TypeSpec); inStruct {
						return false
					}
				}
			case *ast.SelectorExpr:
				if x, ok := n.X.(*ast.Ident); ok && packages[x.Name] {
					names = append(names, x.Name+"."+n.Sel.Name)
				}
			}
			return true
		})
	}
	for _, decl := range file.Decls {
		switch d := decl.(type) {
		case *ast.FuncDecl:
			if d.Name.IsExported() && (d.Recv == nil || ast.IsExported(receiver(d))) {
				collect(d.Type)
			}
		case *ast.GenDecl:
			for _, spec := range d.Specs {
				switch spec := spec.(type) {
				case *ast.TypeSpec:
					_, named := spec.Type.(*ast.SelectorExpr)
					if alias := spec.Assign.IsValid() && named; spec.Name.IsExported() && !(aliases && alias) {
						collect(spec)
					}
				case *ast.ValueSpec: // its value has the same type without naming it, and constants are values
					if slices.ContainsFunc(spec.Names, (*ast.Ident).IsExported) && spec.Type != nil {
						collect(spec.Type)
					}
				}
			}
		}
	}
	return names
}

// receiver is the type of a method.
func receiver(d *ast.FuncDecl) string {
	x := d.Recv.List[0].Type
	if p, ok := x.(*ast.StarExpr); ok {
		x = p.X
	}
	return x.(*ast.Ident).Name
}

// TestAPINamesItsOwnTypes: a caller of the root package need not import the packages below it.
func TestAPINamesItsOwnTypes(t *testing.T) {
	files, err := filepath.Glob("../../*.go")
	if err != nil {
		t.Fatal(err)
	}
	checked := map[string]bool{}
	for _, name := range files {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		parsed, err := parser.ParseFile(token.NewFileSet(), name, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		base := filepath.Base(name)
		checked[base] = true
		for _, n := range foreignNames(parsed, base == aliasFile) {
			if n != loggerName {
				t.Errorf("%s: an exported declaration names %s: give it a name in %s", base, n, aliasFile)
			}
		}
	}
	if !checked[aliasFile] {
		t.Errorf("there is no %s", aliasFile)
	}
}

// TestShortProgramsStayShort counts the lines of examples, empty ones aside: what most callers do needs little code.
func TestShortProgramsStayShort(t *testing.T) {
	const file = "../../example_test.go"
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	set := token.NewFileSet()
	parsed, err := parser.ParseFile(set, file, text, 0)
	if err != nil {
		t.Fatal(err)
	}
	most := map[string]int{
		"ExampleEngine_EncodeChat":       20, // a chat
		"ExampleEngine_Embed":            15, // embeddings
		"ExampleSession_Logits_decoding": 60, // a decoding loop of the caller's
	}
	for _, decl := range parsed.Decls {
		d, ok := decl.(*ast.FuncDecl)
		if !ok || most[d.Name.Name] == 0 {
			continue
		}
		body := text[set.Position(d.Body.Lbrace).Offset+1 : set.Position(d.Body.Rbrace).Offset]
		lines := 0
		for line := range bytes.Lines(body) {
			if len(bytes.TrimSpace(line)) > 0 {
				lines++
			}
		}
		if lines > most[d.Name.Name] {
			t.Errorf("%s has %d lines, at most %d are wanted", d.Name.Name, lines, most[d.Name.Name])
		}
		delete(most, d.Name.Name)
	}
	for name := range most {
		t.Errorf("%s has no %s", file, name)
	}
}

func TestForeignNamesAreFound(t *testing.T) {
	const source = `package p
import ("io"; "pumice/chat"; "pumice/model"; "pumice/vk"; "github.com/rs/zerolog")
type A struct { io.Reader; model.Embedded; b vk.Hidden; C, d []*model.Field; f func(vk.Hidden) }
type B = model.Alias
type G = []model.Many
type c struct { X vk.Hidden }
func (a *A) M(x *vk.In, m chat.Message) map[string]model.Out { return vk.Hidden() }
func (a *A) m(x vk.Hidden) {}
func (c) M(x vk.Hidden) {}
type I interface { M(zerolog.Logger) }
const D = vk.Value
var E model.Variable
`
	file, err := parser.ParseFile(token.NewFileSet(), "p.go", source, 0)
	if err != nil {
		t.Fatal(err)
	}
	want := []string{"model.Embedded", "model.Field", "model.Alias", "model.Many", "vk.In", "model.Out", "zerolog.Logger", "model.Variable"}
	if got := foreignNames(file, false); !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
	want = slices.DeleteFunc(want, func(n string) bool { return n == "model.Alias" })
	if got := foreignNames(file, true); !slices.Equal(got, want) {
		t.Errorf("where aliases are: %q, want %q", got, want)
	}
}
