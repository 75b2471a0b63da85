package lint

import (
	"go/ast"
	"go/parser"
	"go/token"
	"maps"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// apiPackages are the packages beside the root package whose types its exported declarations may name.
var apiPackages = []string{"chat", "sample", "tokenizer"}

// foreignNames are what exported declarations of a file name of packages that are neither Go's nor apiPackages, such as
// "model.Config".
func foreignNames(file *ast.File) []string {
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
					if spec.Name.IsExported() {
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

// TestDocListsWhatTheAPINames: the list in the root package's documentation has what its exported declarations name of
// packages that are not part of the API, and nothing else.
func TestDocListsWhatTheAPINames(t *testing.T) {
	files, err := filepath.Glob("../../*.go")
	if err != nil {
		t.Fatal(err)
	}
	named, doc := map[string]bool{}, ""
	for _, name := range files {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		parsed, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.ParseComments)
		if err != nil {
			t.Fatal(err)
		}
		for _, n := range foreignNames(parsed) {
			named[n] = true
		}
		if parsed.Doc != nil {
			doc += parsed.Doc.Text()
		}
	}
	listed := map[string]bool{}
	for line := range strings.Lines(doc) {
		item, ok := strings.CutPrefix(strings.TrimSpace(line), "- ")
		if !ok {
			continue
		}
		types, _, _ := strings.Cut(item, ":")
		for _, n := range strings.Split(types, ", ") {
			listed[n] = true
		}
	}
	for _, n := range slices.Sorted(maps.Keys(named)) {
		if !listed[n] {
			t.Errorf("an exported declaration names %s, and doc.go does not list it", n)
		}
	}
	for _, n := range slices.Sorted(maps.Keys(listed)) {
		if !named[n] {
			t.Errorf("doc.go lists %s, and no exported declaration names it", n)
		}
	}
}

func TestForeignNamesAreFound(t *testing.T) {
	const source = `package p
import ("io"; "pumice/chat"; "pumice/model"; "pumice/vk"; "github.com/rs/zerolog")
type A struct { io.Reader; model.Embedded; b vk.Hidden; C, d []*model.Field; f func(vk.Hidden) }
type B = model.Alias
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
	want := []string{"model.Embedded", "model.Field", "model.Alias", "vk.In", "model.Out", "zerolog.Logger", "model.Variable"}
	if got := foreignNames(file); !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
}
