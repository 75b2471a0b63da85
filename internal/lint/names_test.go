package lint

import (
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

var (
	// docPath is a link, or a file or folder of the module in code quotes or in running text.
	docPath = regexp.MustCompile(`\]\(([^)#]+)(?:#[^)]*)?\)|(?:^|[\s` + "`" + `(])((?:bench|chat|checkpoint|cmd|constrain|docs|eval|internal|model|pipeline|quantize|sample|` +
		`shaders|testdata|tokenizer|tools|vk)/[\w.-]+(?:/[\w.-]+)*)`)
	docTest = regexp.MustCompile(`\b(?:Test|Fuzz|Benchmark)[A-Z]\w*`)
)

// TestDocumentsNameWhatExists: links, paths and tests in README.md, CONTRIBUTING.md and docs exist. Design notes are left as
// they were written.
func TestDocumentsNameWhatExists(t *testing.T) {
	top := filepath.Join("..", "..")
	documents, err := filepath.Glob(filepath.Join(top, "docs", "*.md"))
	if err != nil {
		t.Fatal(err)
	}
	documents = append(documents, filepath.Join(top, "README.md"), filepath.Join(top, "CONTRIBUTING.md"))
	var tests []string
	for _, s := range sources(t) {
		if !s.test() {
			continue
		}
		text, err := os.ReadFile(filepath.Join(top, s.file))
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range regexp.MustCompile(`(?m)^func (\w+)\(`).FindAllStringSubmatch(string(text), -1) {
			tests = append(tests, m[1])
		}
	}
	placeholder := regexp.MustCompile(`\b[A-Z]{4,}\b`)
	found := 0
	for _, document := range documents {
		text, err := os.ReadFile(document)
		if err != nil {
			t.Fatal(err)
		}
		n := 0
		for line := range strings.Lines(string(text)) {
			n++
			for _, m := range docPath.FindAllStringSubmatch(line, -1) {
				name, from := m[1], filepath.Dir(document)
				if name == "" {
					name, from = strings.TrimRight(m[2], "."), top
				}
				if strings.Contains(name, "://") || placeholder.MatchString(strings.TrimSuffix(path.Base(name), path.Ext(name))) && m[2] != "" {
					continue
				}
				found++
				if _, err := os.Stat(filepath.Join(from, filepath.FromSlash(name))); err != nil {
					t.Errorf("%s:%d: there is no %s", document, n, name)
				}
			}
			for _, name := range docTest.FindAllString(line, -1) { // what -run is given is a beginning
				found++
				if !slices.ContainsFunc(tests, func(s string) bool { return strings.HasPrefix(s, name) }) {
					t.Errorf("%s:%d: there is no test %s", document, n, name)
				}
			}
		}
	}
	if found < 100 {
		t.Errorf("only %d names were found", found)
	}
}
