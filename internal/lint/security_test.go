package lint

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// testName matches the names of tests in docs/security.md: `PACKAGE`: TestA, TestB.
var testName = regexp.MustCompile("`([a-z/]+)`:|\\b((?:Test|Fuzz)[A-Z]\\w*)")

// Each test in docs/security.md must be in the package named there. The root package is called pumice.
func TestSecurityPageNamesTests(t *testing.T) {
	top := filepath.Join("..", "..")
	page, err := os.ReadFile(filepath.Join(top, "docs", "security.md"))
	if err != nil {
		t.Fatal(err)
	}
	tests := map[string]string{} // content of all test files, by package
	for line := range strings.Lines(string(page)) {
		if !strings.HasPrefix(line, "|") {
			continue
		}
		pkg := ""
		for _, m := range testName.FindAllStringSubmatch(line, -1) {
			if m[1] != "" {
				pkg = m[1]
				continue
			}
			if _, ok := tests[pkg]; !ok {
				dir := pkg
				if pkg == module {
					dir = root
				}
				files, err := filepath.Glob(filepath.Join(top, dir, "*_test.go"))
				if err != nil || pkg == "" {
					t.Fatalf("%s: no package (%v)", m[2], err)
				}
				for _, file := range files {
					text, err := os.ReadFile(file)
					if err != nil {
						t.Fatal(err)
					}
					tests[pkg] += string(text)
				}
			}
			if !strings.Contains(tests[pkg], "\nfunc "+m[2]+"(") {
				t.Errorf("docs/security.md: package %s has no test %s", pkg, m[2])
			}
		}
	}
	if len(tests) == 0 {
		t.Error("docs/security.md names no tests")
	}
}
