package lint

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// The stages of tools/test.sh are those that its header and CONTRIBUTING.md describe, in the same order.
func TestStagesAreDescribed(t *testing.T) {
	read := func(name string) string {
		text, err := os.ReadFile(filepath.Join("..", "..", name))
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	script, page := read("tools/test.sh"), read("CONTRIBUTING.md")
	list := regexp.MustCompile(`(?m)^STAGES=\((.*)\)$`).FindStringSubmatch(script)
	if list == nil {
		t.Fatal("tools/test.sh has no line STAGES=(...)")
	}
	stages := strings.Fields(list[1])
	names := func(text, pattern string) (all []string) {
		for _, m := range regexp.MustCompile(pattern).FindAllStringSubmatch(text, -1) {
			if slices.Contains(stages, m[1]) {
				all = append(all, m[1])
			}
		}
		return all
	}
	if diff := cmp.Diff(stages, names(script, `(?m)^#   ([a-z0-9-]+) +\S`)); diff != "" {
		t.Errorf("header of tools/test.sh: (-stages +described)\n%s", diff)
	}
	if diff := cmp.Diff(stages, names(page, "(?m)^\\| `([a-z0-9-]+)` \\|")); diff != "" {
		t.Errorf("table of CONTRIBUTING.md: (-stages +described)\n%s", diff)
	}
}
