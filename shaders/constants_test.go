package shaders

import (
	"go/ast"
	"go/constant"
	"go/parser"
	"go/token"
	"go/types"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

var (
	goName = regexp.MustCompile(`\b(pipeline|kernels|present)\.([A-Za-z]\w*)\b`)
	define = regexp.MustCompile(`^#define\s+(\w+)\s+(\d+|0x[0-9a-f]+)u?\s*//`)
)

// A Go constant that a comment of the GLSL names exists, and a #define whose comment names one has its value:
//
//	#define LOG 32u // entries: pipeline.MaxBurst
func TestDefinesHaveTheValuesOfTheirGoConstants(t *testing.T) {
	t.Parallel()
	packages := map[string]*types.Package{}
	compared := 0
	err := fs.WalkDir(os.DirFS("."), ".", func(file string, d fs.DirEntry, err error) error {
		if ext := filepath.Ext(file); err != nil || ext != ".comp" && ext != ".glsl" {
			return err
		}
		text, err := os.ReadFile(file)
		if err != nil {
			return err
		}
		n := 0
		for line := range strings.Lines(string(text)) {
			n++
			for _, m := range goName.FindAllStringSubmatch(line, -1) {
				if packages[m[1]] == nil {
					packages[m[1]] = declarations(t, m[1])
				}
				object := packages[m[1]].Scope().Lookup(m[2])
				if object == nil {
					t.Errorf("%s:%d: package %s has no %s", file, n, m[1], m[2])
					continue
				}
				defined := define.FindStringSubmatch(line)
				if defined == nil {
					continue
				}
				compared++
				c, ok := object.(*types.Const)
				if !ok || c.Val().Kind() == constant.Unknown {
					t.Errorf("%s:%d: the value of %s is not known", file, n, m[0])
				} else if want := constant.MakeFromLiteral(defined[2], token.INT, 0); !constant.Compare(c.Val(), token.EQL, want) {
					t.Errorf("%s:%d: %s is %s, %s is %s", file, n, defined[1], defined[2], m[0], c.Val())
				}
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if compared == 0 {
		t.Error("no #define names a Go constant")
	}
}

// declarations type-checks a package by itself: constants that need no import have values.
func declarations(t *testing.T, name string) *types.Package {
	t.Helper()
	dir := map[string]string{"pipeline": "../pipeline", "kernels": "../pipeline/kernels", "present": "../vk/present"}[name]
	set := token.NewFileSet()
	var files []*ast.File
	names, err := filepath.Glob(filepath.Join(dir, "*.go"))
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		f, err := parser.ParseFile(set, name, nil, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		files = append(files, f)
	}
	config := types.Config{
		Error:            func(error) {}, // there is no importer
		IgnoreFuncBodies: true,
	}
	p, _ := config.Check(name, set, files, nil)
	return p
}
