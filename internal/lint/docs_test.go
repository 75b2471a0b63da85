package lint

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"
)

// docColumns is the longest line of a document, in characters. Tables and code are as wide as they need.
const docColumns = 120

// docLink is a relative link of a document, without its fragment.
var docLink = regexp.MustCompile(`\]\(([^)#: ]+)(?:#[^)]*)?\)`)

// docs are the documents that people read, relative to the module.
func docs(t *testing.T) []string {
	t.Helper()
	files := []string{"README.md", "CONTRIBUTING.md", "CHANGELOG.md"}
	for _, pattern := range []string{"docs/*.md", "docs/design/*.md"} {
		list, err := filepath.Glob(filepath.Join("..", "..", pattern))
		if err != nil || len(list) == 0 {
			t.Fatalf("%s: %d files (%v)", pattern, len(list), err)
		}
		for _, file := range list {
			files = append(files, strings.TrimPrefix(filepath.ToSlash(file), "../../"))
		}
	}
	return files
}

// longLines lists the lines of a document that are longer than docColumns and could be broken: not in a table, not in code
// (between fences, or indented by four after an empty line), and with a space to break at.
func longLines(text string) []string {
	var long []string
	fenced, code, empty := false, false, true
	number := 0
	for line := range strings.Lines(text) {
		number++
		line = strings.TrimRight(line, "\n")
		words := strings.TrimSpace(line)
		if strings.HasPrefix(words, "```") {
			fenced = !fenced
			continue
		}
		code = strings.HasPrefix(line, "    ") && (empty || code)
		empty = words == ""
		if fenced || code || strings.HasPrefix(words, "|") || !strings.Contains(words, " ") {
			continue
		}
		if n := utf8.RuneCountInString(line); n > docColumns {
			long = append(long, fmt.Sprintf("line %d has %d characters", number, n))
		}
	}
	return long
}

func TestDocsWrap(t *testing.T) {
	for _, file := range docs(t) {
		text, err := os.ReadFile(filepath.Join("..", "..", file))
		if err != nil {
			t.Fatal(err)
		}
		for _, line := range longLines(string(text)) {
			t.Errorf("%s: %s; at most %d fit", file, line, docColumns)
		}
	}
}

func TestLongLinesOfDocsAreFound(t *testing.T) {
	long := strings.Repeat("word ", 24) + "x" // 121
	for _, c := range []struct {
		name, text string
		want       []string
	}{
		{"120 characters", strings.Repeat("wörd ", 24), nil},
		{"prose", "a\n\n" + long + "\n", []string{"line 3 has 121 characters"}},
		{"an item", "- a\n    " + long + "\n", []string{"line 2 has 125 characters"}},
		{"a table", "| " + long + " |\n", nil},
		{"fences", "```\n" + long + "\n```\n" + long, []string{"line 4 has 121 characters"}},
		{"indented code", "a\n\n    " + long + "\n    " + long + "\n\n" + long, []string{"line 6 has 121 characters"}},
		{"one word", strings.Repeat("x", 200), nil},
	} {
		if got := longLines(c.text); !slices.Equal(got, c.want) {
			t.Errorf("%s: %q, want %q", c.name, got, c.want)
		}
	}
}

func TestLinksOfDocsExist(t *testing.T) {
	links := 0
	for _, file := range docs(t) {
		text, err := os.ReadFile(filepath.Join("..", "..", file))
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range docLink.FindAllStringSubmatch(string(text), -1) {
			links++
			if _, err := os.Stat(filepath.Join("..", "..", filepath.Dir(file), m[1])); err != nil {
				t.Errorf("%s: %v", file, err)
			}
		}
	}
	if links == 0 {
		t.Error("the documents have no links")
	}
}
