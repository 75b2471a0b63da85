package lint

import (
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// forTests are library packages that only tests import. They may name what a person who runs tests sets.
var forTests = []string{"internal/bounded", "internal/gputest", "internal/screentest", "internal/vkfault"}

// commandLine matches what only a user of the command line has: a flag, an environment variable of the program, a
// target of the Makefile, a subcommand.
func commandLine(t *testing.T) *regexp.Regexp {
	t.Helper()
	makefile, err := os.ReadFile(filepath.Join("..", "..", "Makefile"))
	if err != nil {
		t.Fatal(err)
	}
	var targets []string
	for _, m := range regexp.MustCompile(`(?m)^([a-z][-a-z]*):`).FindAllStringSubmatch(string(makefile), -1) {
		targets = append(targets, m[1])
	}
	var commands []string
	files, err := filepath.Glob(filepath.Join("..", "..", "cmd", "pumice", "*.go"))
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range regexp.MustCompile(`&cli\.Command\{\n\t\tName: +"([a-z]+)"`).FindAllStringSubmatch(string(text), -1) {
			commands = append(commands, m[1])
		}
	}
	if len(targets) < 5 || len(commands) < 10 {
		t.Fatalf("targets %q of the Makefile and commands %q: some were not found", targets, commands)
	}
	return regexp.MustCompile(`(^|[^-0-9A-Za-z])--[a-z]|PUMICE_[A-Z]|\bmake (` + strings.Join(targets, "|") + `)\b|\bpumice (` +
		strings.Join(commands, "|") + `)\b`)
}

// TestLibrariesDoNotNameFlags keeps flags, variables, make targets and subcommands out of the strings of libraries: a
// program that imports them has none of these. Libraries return data in typed errors, and cmd/pumice adds what to try.
func TestLibrariesDoNotNameFlags(t *testing.T) {
	re := commandLine(t)
	checked := 0
	for _, s := range sources(t) {
		if s.test() || s.ast.Name.Name == "main" || underAny(s.pkg, forTests) {
			continue
		}
		set := token.NewFileSet()
		file, err := parser.ParseFile(set, filepath.Join("..", "..", s.file), nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(file, func(n ast.Node) bool {
			literal, ok := n.(*ast.BasicLit)
			if !ok || literal.Kind != token.STRING {
				return true
			}
			text, err := strconv.Unquote(literal.Value)
			if err != nil {
				t.Fatal(err)
			}
			checked++
			if found := re.FindString(text); found != "" {
				t.Errorf("%s: %q names %q: return data, and let cmd/pumice name it", set.Position(n.Pos()), text, found)
			}
			return true
		})
	}
	if checked < 1000 {
		t.Errorf("only %d strings were checked", checked)
	}
}

func TestCommandLine(t *testing.T) {
	re := commandLine(t)
	for text, want := range map[string]bool{
		"would fit: --context 2048": true, "--dtype": true, "`--temp` is": true, "fetch it with make chat": true,
		"run make isa-report": true, "`pumice eval ls` lists them": true, "what pumice tune found": true, "set PUMICE_DEVICE": true,

		"a--b": false, "-- end": false, "---": false, "--": false, "pumice: model": false, "make more than": false,
		"pumice pipeline cache 2": false, "pumice chats": false,
	} {
		if got := re.MatchString(text); got != want {
			t.Errorf("%q: got %t, want %t", text, got, want)
		}
	}
}
