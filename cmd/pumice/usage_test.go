package main

import (
	"flag"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/urfave/cli/v2"
)

var update = flag.Bool("update", false, "write the messages of testdata/usage.txt as they are now")

// usageFile has command lines, each behind "$ ", and what the program answers.
const usageFile = "testdata/usage.txt"

// TestWrongUsage runs the command lines of usageFile: each is a mistake, with status 2, one line, and nothing on standard output.
func TestWrongUsage(t *testing.T) {
	t.Setenv("XDG_CACHE_HOME", t.TempDir())
	var got strings.Builder
	want := string(readAll(t, usageFile))
	for line := range strings.Lines(want) {
		command, ok := strings.CutPrefix(strings.TrimSpace(line), "$ pumice")
		if !ok {
			continue
		}
		out, status, message := pumiceStatus(t, shellWords(command)...)
		if status != exitUsage || out != "" || strings.Count(message, "\n") != 1 {
			t.Errorf("pumice %s: status %d, %q, %q", command, status, out, message)
		}
		fmt.Fprintf(&got, "$ pumice%s\n%s", command, message)
	}
	if *update {
		if err := os.WriteFile(usageFile, []byte(got.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	} else if diff := cmp.Diff(want, got.String()); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

// shellWords splits a command line at spaces that are not in single quotes.
func shellWords(line string) (words []string) {
	for _, m := range regexp.MustCompile(`'([^']*)'|\S+`).FindAllStringSubmatch(line, -1) {
		if strings.HasPrefix(m[0], "'") {
			words = append(words, m[1])
		} else {
			words = append(words, m[0])
		}
	}
	return words
}

// onTerminals is a message that TestFlagsOfAnswersNeedAQuestion sees.
const onTerminals = " needs a question: "

// TestEveryUsageErrorIsInTheFile finds the messages of usage errors in the source. Those that are errors of other packages
// have no text there.
func TestEveryUsageErrorIsInTheFile(t *testing.T) {
	text := string(readAll(t, usageFile))
	files, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	found := 0
	for _, name := range files {
		// Those of a conversation have tests of their own.
		if strings.HasSuffix(name, "_test.go") || slices.Contains([]string{"repl.go", "conversations.go"}, name) {
			continue
		}
		set := token.NewFileSet()
		file, err := parser.ParseFile(set, name, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(file, func(n ast.Node) bool {
			lit, ok := n.(*ast.CompositeLit)
			if !ok || len(lit.Elts) != 1 {
				return true
			}
			if typ, ok := lit.Type.(*ast.Ident); !ok || typ.Name != "usageError" {
				return true
			}
			if form := formOf(lit.Elts[0]); form != ".*" {
				found++
				if !strings.Contains(form, onTerminals) && !regexp.MustCompile("(?m)^(pumice|error): "+form+"$").MatchString(text) {
					t.Errorf("%s: no line of %s is like %s", set.Position(lit.Pos()), usageFile, form)
				}
			}
			return true
		})
	}
	if found < 50 {
		t.Errorf("%d messages found: the test does not see them", found)
	}
}

// formOf is a regular expression for the values of an expression of texts.
func formOf(e ast.Expr) string {
	switch e := e.(type) {
	case *ast.BasicLit:
		text, err := strconv.Unquote(e.Value)
		if err != nil {
			panic(err)
		}
		return regexp.QuoteMeta(text)
	case *ast.BinaryExpr:
		return formOf(e.X) + formOf(e.Y)
	case *ast.Ident:
		switch e.Name {
		case "llamaServerName":
			return llamaServerName
		case "llamaQuantizeName":
			return llamaQuantizeName
		}
	case *ast.CallExpr:
		if f, ok := e.Fun.(*ast.SelectorExpr); ok && f.Sel.Name == "Sprintf" {
			return regexp.MustCompile("%[a-z]").ReplaceAllString(formOf(e.Args[0]), ".*")
		}
	}
	return ".*"
}

// TestHelpFits: help and manual of each command have an example whose flags exist, and all flags; lines of help fit 80 columns,
// unless they are one word.
func TestHelpFits(t *testing.T) {
	app := newProgram(nil, nil, nil).app()
	pages := map[*helpPage][]cli.Flag{appPage(app): app.Flags}
	for _, command := range app.Commands {
		pages[commandPage(command)] = command.Flags
		if !command.Hidden && !slices.Contains(commandCategories, command.Category) {
			t.Errorf("%s: category %q", command.Name, command.Category)
		}
	}
	for page, flags := range pages {
		out, status, message := pumiceStatus(t, strings.Fields(page.command+" --help")...)
		if out != page.String() || status != 0 || message != "" {
			t.Errorf("%s --help: status %d, %q, %q", page.title(), status, message, out)
		}
		for line := range strings.Lines(out) {
			if len(line) > 81 && strings.Contains(strings.TrimSpace(line), " ") {
				t.Errorf("%s --help: a line has %d columns: %s", page.title(), len(line)-1, line)
			}
		}
		if before, _, ok := strings.Cut(out, "\nUsage:\n"); !ok || strings.Count(before, "\n  ") != len(examples[page.command]) || len(examples[page.command]) == 0 {
			t.Errorf("%s --help does not begin with examples: %s", page.title(), before)
		}
		for _, example := range examples[page.command] {
			_, line, _ := strings.Cut(example, "pumice ")
			line, _, _ = strings.Cut(line, " | ")
			if _, err := arrange(app, append([]string{"pumice"}, shellWords(line)...)); err != nil {
				t.Errorf("%s: %v", example, err)
			}
		}
		manual := page.roff()
		for _, f := range flags {
			for _, name := range f.Names() {
				if spelled := spelledFlag(f, name); !strings.Contains(out, spelled) || !strings.Contains(manual, escapeRoff(spelled)) {
					t.Errorf("help or manual of %s does not have %s", page.title(), spelled)
				}
			}
		}
	}
}

// TestEveryFlagIsParsed gives each flag of each command a value that it can't have, or none.
func TestEveryFlagIsParsed(t *testing.T) {
	app := newProgram(nil, nil, nil).app()
	for _, command := range app.Commands {
		for _, f := range slices.Concat(command.Flags, app.Flags) {
			for _, name := range f.Names() {
				spelled := spelledFlag(f, name)
				args := []string{command.Name, spelled + "=x"}
				want := fmt.Sprintf("pumice: %s \"x\": want %s\n", spelled, wanted(f))
				switch f.(type) {
				case *cli.StringFlag, *cli.StringSliceFlag: // any text is one
					args[1] = spelled
					want = fmt.Sprintf("pumice: %s needs a value\n", spelled)
				}
				if out, status, message := pumiceStatus(t, args...); status != exitUsage || out != "" || message != want {
					t.Errorf("pumice %s: status %d, %q; want %q", strings.Join(args, " "), status, message, want)
				}
			}
		}
	}
}

// elsewhere names the tests that use flags which no script does.
var elsewhere = map[string]string{"validation": "golden_test.go", "device": "eval_linux_test.go"}

// TestEveryFlagIsUsed: the scripts, or another test that elsewhere names, use each flag of each command as it is meant. Flags
// that several commands have in common are used with one of them.
func TestEveryFlagIsUsed(t *testing.T) {
	used := map[cli.Flag]bool{}
	app := newProgram(nil, nil, nil).app()
	flags := func(command *cli.Command) []cli.Flag { return slices.Concat(command.Flags, app.Flags) }
	named := func(list []cli.Flag, name string) cli.Flag {
		for _, f := range list {
			if slices.Contains(f.Names(), name) {
				return f
			}
		}
		return nil
	}
	scripts, err := filepath.Glob("testdata/script/*.txtar")
	if err != nil {
		t.Fatal(err)
	}
	help := map[string]bool{} // of used flags: common ones have the same
	for _, name := range scripts {
		for line := range strings.Lines(string(readAll(t, name))) {
			words := strings.Fields(strings.ReplaceAll(line, "'", " "))
			if len(words) > 0 && words[0] == "!" {
				words = words[1:]
			}
			at := slices.IndexFunc(words, func(w string) bool { return app.Command(w) != nil })
			if at < 1 || !slices.Contains([]string{"exec", "status", "pumice"}, words[0]) {
				continue
			}
			command := app.Command(words[at])
			for _, w := range words[1:] {
				if name, ok := strings.CutPrefix(w, "-"); ok {
					name, _, _ = strings.Cut(strings.TrimPrefix(name, "-"), "=")
					if f := named(flags(command), name); f != nil {
						used[f] = true
						help[f.String()] = true
					}
				}
			}
		}
	}
	for _, command := range app.Commands {
		for _, f := range flags(command) {
			if used[f] || help[f.String()] {
				continue
			}
			help[f.String()] = true
			where, ok := elsewhere[f.Names()[0]]
			if !ok || !strings.Contains(string(readAll(t, where)), "--"+f.Names()[0]) {
				t.Errorf("%s --%s: no script uses it", command.Name, f.Names()[0])
			}
		}
	}
}
