package lint

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

const (
	module = "pumice"
	root   = "." // the root package's name in the tables below
)

// layers says which of our packages each may import outside its tests. A row covers the packages under it too, but
// those with a row of their own, and each may import itself and what its row covers. Imports point down only: vk knows nothing of tensors, pipeline nothing of
// families, model nothing of text, and the text side nothing of devices.
var layers = map[string][]string{
	"internal/atomicfile": {},
	"internal/bounded":    {},
	"internal/ggufwrite":  {"internal/dtype"},
	"internal/half":       {},
	"internal/humanize":   {},
	"internal/lint":       {},
	"internal/dtype":      {"internal/half"},
	"internal/ref":        {"internal/half", "internal/dtype"},
	"internal/gputest":    {"vk", "internal"},
	"internal/screentest": {},
	"internal/synth":      {"internal/dtype", "internal/ggufwrite", "internal/atomicfile"},
	"internal/regular":    {},
	"internal/licenses":   {},
	"internal/vkfault":    {"internal/gputest"},
	"internal/hostmem":    {},
	"internal/version":    {},
	"internal/loopback":   {},
	"internal/edit":       {},
	"internal/screen":     {},
	"internal/markdown":   {},
	"internal/lab":        {"pipeline", "shaders"},

	"vk":               {"internal/humanize", "internal/regular", "internal/atomicfile"},
	"vk/present":       {"vk", "shaders", "internal/atomicfile"},
	"internal/spirv":   {},
	"shaders":          {"internal/spirv"},
	"pipeline":         {"pipeline/kernels", "vk", "shaders", "internal/dtype", "internal/half", "internal/humanize", "internal/regular"},
	"pipeline/kernels": {"vk", "internal/dtype"},
	"pipeline/verify":  {"pipeline", "vk", "shaders", "internal/dtype", "internal/half", "internal/ref"},

	"checkpoint": {"internal/dtype", "internal/half", "internal/humanize", "internal/regular"},
	"model":      {"model/pages", "pipeline", "vk", "checkpoint", "internal/dtype", "internal/ggufwrite", "internal/half", "internal/humanize", "internal/hostmem", "internal/ref"},

	"model/pages": {},

	"tokenizer": {"internal/regular"},
	"chat":      {"tokenizer", "internal/regular"},
	"sample":    {},
	"constrain": {},

	"chat/toolcall": {"chat"},

	"store": {"internal/atomicfile", "internal/regular"},
	"hub":   {"store", "internal/humanize", "internal/regular"},

	"tools/spread":   {"checkpoint", "internal/dtype", "internal/ggufwrite", "internal/half"},
	"quantize":       {"model", "checkpoint", "tokenizer", "internal/atomicfile", "internal/dtype", "internal/ggufwrite"},
	"tools/licenses": {"internal/licenses"},
	"tools/variants": {"shaders"},
	"tools/gotest":   {},
	"tools/page":     {},
	"tools/clients":  {},
	"tools/hashes":   {"model", "pipeline", "pipeline/kernels", "vk", "checkpoint", "internal/dtype"},
	"tools/mutate":   {"pipeline/kernels", "shaders"},

	root: {"model", "pipeline", "vk", "checkpoint", "chat", "constrain", "sample", "store", "tokenizer",
		"internal/dtype", "internal/half", "internal/humanize", "internal/regular"},

	"eval":  {root, "chat", "sample", "tokenizer", "internal/atomicfile", "internal/humanize", "internal/regular", "internal/version"},
	"bench": {root, "vk", "chat", "sample", "tokenizer", "internal/atomicfile", "internal/humanize", "internal/regular", "internal/version"},

	"server": {root, "chat", "chat/toolcall", "constrain", "sample", "tokenizer"},

	"cmd/pumice":         {root, "hub", "store", "server", "quantize", "eval", "bench", "checkpoint", "chat", "chat/toolcall", "sample", "shaders", "tokenizer", "constrain", "internal"},
	"cmd/pumice-window":  {root, "internal/monitor", "internal/loopback"},
	"internal/monitor":   {root, "server", "vk", "vk/present", "internal/humanize"},
	"internal/simt":      {"internal/half", "internal/spirv"},
	"internal/coalesce":  {"internal/simt", "pipeline/kernels", "shaders", "vk", "internal/dtype"},
	"internal/isareport": {"model", "pipeline", "vk", "checkpoint", "internal/dtype", "internal/screen", "internal/synth"},
}

// testOnly are the packages that tests of any layer may import besides: the oracles, the makers of input, the device helpers.
var testOnly = []string{"checkpoint", "internal/bounded", "internal/ref", "internal/ggufwrite", "internal/synth", "internal/gputest", "internal/screentest", "internal/lab", "internal/vkfault", "internal/dtype", "internal/half", "internal/humanize", "sample"}

// confined names the imports that only some places may have. Places are as in layers; "test" is any _test.go file.
var confined = map[string][]string{
	"C":                               {"vk", "cmd/pumice"}, // cmd/pumice: a signal handler
	"unsafe":                          {"vk", "checkpoint"},
	"github.com/vulkan-go/vulkan":     {"vk"},
	"github.com/go-gl/glfw":           {"vk/present"},
	"golang.org/x/image":              {"vk/present"},
	"github.com/urfave/cli":           {"cmd"},
	"github.com/schollz/progressbar":  {"cmd"},
	"github.com/google/go-cmp":        {"test", "internal/gputest"},
	"pgregory.net/rapid":              {"test"},
	"github.com/santhosh-tekuri":      {"test"},
	"github.com/rogpeppe/go-internal": {"test"},
	"go.uber.org/goleak":              {"test", "internal/gputest"},
	"testing":                         {"test", "internal/gputest", "internal/screentest", "internal/bounded", "internal/vkfault"},
	"github.com/edsrzf/mmap-go":       {"checkpoint"},
	"github.com/dlclark/regexp2":      {"tokenizer"},
	"github.com/prometheus":           {"server"},
	"github.com/chromedp":             {"tools/page"}, // a module of its own
	"github.com/x448/float16":         {"internal/half"},
	"github.com/charmbracelet":        {"cmd", "internal/edit", "internal/screen", "internal/markdown"},
	"github.com/charmbracelet/x/vt":   {"test"},
	"github.com/yuin/goldmark":        {"internal/markdown"},
	"github.com/alecthomas/chroma":    {"internal/markdown"},
	"internal/ref":                    {"test", "pipeline/verify", "model", "cmd/pumice", "internal/gputest"},
}

// source is one parsed Go file of the module.
type source struct {
	file string // slash-separated, relative to the module
	pkg  string // its directory, as in layers
	ast  *ast.File
	set  *token.FileSet
}

func (s source) test() bool { return strings.HasSuffix(s.file, "_test.go") }

// sources parses the imports of every Go file of the module, whatever its build tags.
func sources(t *testing.T) []source {
	t.Helper()
	top := os.DirFS(filepath.Join("..", ".."))
	var all []source
	err := fs.WalkDir(top, ".", func(file string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() {
			if name := d.Name(); file != "." && (name == "testdata" || strings.HasPrefix(name, ".") || strings.HasPrefix(name, "_")) {
				return fs.SkipDir
			}
			return nil
		}
		if path.Ext(file) != ".go" {
			return nil
		}
		text, err := fs.ReadFile(top, file)
		if err != nil {
			return err
		}
		set := token.NewFileSet()
		parsed, err := parser.ParseFile(set, file, text, parser.ImportsOnly|parser.ParseComments)
		if err != nil {
			return err
		}
		all = append(all, source{file: file, pkg: path.Dir(file), ast: parsed, set: set})
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(all) == 0 {
		t.Fatal("no Go files found")
	}
	return all
}

// under reports whether package p is place or is below it. No package is below the root package.
func under(p, place string) bool {
	return p == place || place != root && strings.HasPrefix(p, place+"/")
}

func underAny(p string, places []string) bool {
	for _, place := range places {
		if under(p, place) {
			return true
		}
	}
	return false
}

// row returns the longest row of layers that covers p.
func row(p string) (string, bool) {
	for place := p; place != root; place = path.Dir(place) {
		if _, ok := layers[place]; ok {
			return place, true
		}
	}
	return root, p == root
}

// owns reports whether package p lies in the room of place: under it, and in no other row.
func owns(place, p string) bool {
	own, _ := row(p)
	return own == place
}

// ours turns an import path into a package name of layers.
func ours(importPath string) (string, bool) {
	if importPath == module {
		return root, true
	}
	return strings.CutPrefix(importPath, module+"/")
}

// checkImport returns why a file of package pkg may not import importPath, or "" if it may.
func checkImport(pkg string, test bool, importPath string) string {
	name := importPath
	place, known := row(pkg)
	if imported, ok := ours(importPath); ok {
		name = imported
		switch {
		case !known:
			return "its package has no row in layers: say what it may import"
		case owns(place, imported):
		case test && (underAny(imported, testOnly) || imported == pkg):
		case !underAny(imported, layers[place]):
			return fmt.Sprintf("%s may not import %s: imports point down", place, imported)
		}
	}
	for confinedName, places := range confined {
		if !under(name, confinedName) || underAny(pkg, places) {
			continue
		}
		if test && (confinedName == "unsafe" || len(places) > 0 && places[0] == "test") {
			continue
		}
		return fmt.Sprintf("%s is confined to %v", confinedName, places)
	}
	return ""
}

func TestImportsPointDown(t *testing.T) {
	for _, s := range sources(t) {
		for _, spec := range s.ast.Imports {
			importPath, err := strconv.Unquote(spec.Path.Value)
			if err != nil {
				t.Fatal(err)
			}
			if problem := checkImport(s.pkg, s.test(), importPath); problem != "" {
				t.Errorf("%s: import %q: %s", s.set.Position(spec.Pos()), importPath, problem)
			}
		}
	}
}

// TestTablesNameWhatExists: each package in layers and confined exists, or one under it does, and each confined import
// is imported.
func TestTablesNameWhatExists(t *testing.T) {
	packages, imports := map[string]bool{}, map[string]bool{}
	for _, s := range sources(t) {
		packages[s.pkg] = true
		for _, spec := range s.ast.Imports {
			importPath, err := strconv.Unquote(spec.Path.Value)
			if err != nil {
				t.Fatal(err)
			}
			if imported, ok := ours(importPath); ok {
				importPath = imported
			}
			imports[importPath] = true
		}
	}
	exists := func(all map[string]bool, place string) bool {
		for p := range all {
			if under(p, place) {
				return true
			}
		}
		return false
	}
	for place, may := range layers {
		for _, p := range append([]string{place}, may...) {
			if !exists(packages, p) {
				t.Errorf("layers, %s: there is no package %s", place, p)
			}
		}
	}
	for _, p := range testOnly {
		if !exists(packages, p) {
			t.Errorf("testOnly: there is no package %s", p)
		}
	}
	for name, places := range confined {
		if !exists(imports, name) {
			t.Errorf("confined: nothing imports %s", name)
		}
		for _, p := range places {
			if p != "test" && !exists(packages, p) {
				t.Errorf("confined, %s: there is no package %s", name, p)
			}
		}
	}
}

func TestCheckImport(t *testing.T) {
	for _, c := range []struct {
		pkg    string
		test   bool
		path   string
		accept bool
	}{
		{"model", false, "pumice/pipeline", true},
		{"pipeline", false, "pumice/model", false},
		{"model", false, "pumice/tokenizer", false},
		{"tokenizer", false, "pumice/vk", false},
		{"vk", false, "pumice/vk/internal/shim", true},
		{"vk", false, "pumice/internal/dtype", false},
		{"vk", false, "github.com/vulkan-go/vulkan", true},
		{"vk/internal/shim", false, "C", true},
		{"pipeline", false, "C", false},
		{"pipeline", false, "github.com/vulkan-go/vulkan", false},
		{"pipeline", false, "pumice/pipeline/kernels", true},
		{"pipeline", false, "pumice/pipeline/verify", false},
		{"pipeline/kernels", false, "pumice/pipeline", false},
		{"pipeline/verify", false, "pumice/internal/ref", true},
		{"pipeline", false, "pumice/internal/ref", false},
		{"model", false, "pumice/internal/ref", true},
		{"model", false, "pumice/model/pages", true},
		{"model/pages", false, "pumice/model", false},
		{"model/pages", false, "pumice/pipeline", false},
		{"pipeline", true, "pumice/internal/ref", true},
		{"pipeline", true, "pumice/model", false},
		{"cmd/pumice", false, "pumice/internal/ref", true},
		{".", false, "pumice/model", true},
		{".", true, "pumice", true},
		{"model", false, "pumice", false},
		{"bench", false, "pumice", true},
		{"chat", false, "testing", false},
		{"chat", true, "testing", true},
		{"cmd/pumice", false, "github.com/urfave/cli/v2", true},
		{"chat", false, "github.com/urfave/cli/v2", false},
		{"new", false, "pumice/vk", false},
		{"new", false, "fmt", true},
	} {
		if problem := checkImport(c.pkg, c.test, c.path); (problem == "") != c.accept {
			t.Errorf("%s (test %t) importing %s: got %q, want accepted %t", c.pkg, c.test, c.path, problem, c.accept)
		}
	}
}

func TestEveryPackageSaysWhatItIs(t *testing.T) {
	documented := map[string]bool{}
	for _, s := range sources(t) {
		if !s.test() {
			documented[s.pkg] = documented[s.pkg] || s.ast.Doc != nil
		}
	}
	for pkg, ok := range documented {
		if !ok {
			t.Errorf("%s has no package comment", pkg)
		}
	}
}

func TestLicenceIsApache2Unaltered(t *testing.T) {
	text, err := os.ReadFile(filepath.Join("..", "..", "LICENSE"))
	if err != nil {
		t.Fatal(err)
	}
	const want = "cfc7749b96f63bd31c3c42b5c471bf756814053e847c10f3eb003417bc523d30" // the text as its authors publish it
	sum := sha256.Sum256(text)
	if got := hex.EncodeToString(sum[:]); got != want {
		t.Errorf("LICENSE has SHA-256 %s, want %s", got, want)
	}
}
