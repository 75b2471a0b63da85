package version

import (
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
)

func TestStampedRevisionIsUsed(t *testing.T) {
	old := stamped
	defer func() { stamped = old }()
	for text, modified := range map[string]bool{"0123abcd": false, "0123abcd-dirty": true} {
		stamped = text
		if revision, got := Commit(); revision != "0123abcd" || got != modified { // tests have no stamp of Go's
			t.Errorf("%s: %s, %t", text, revision, got)
		}
	}
	stamped = ""
	if revision, modified := Commit(); revision != "" || modified {
		t.Errorf("without a stamp: %q, %t", revision, modified)
	}
}

// TestMakefileStampsTheRevision: the flag of the linker names the variable.
func TestMakefileStampsTheRevision(t *testing.T) {
	text, err := os.ReadFile(filepath.Join("..", "..", "Makefile"))
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(text), "-X pumice/internal/version.stamped=") {
		t.Error("the Makefile stamps no revision")
	}
}

func TestProgramIsHashed(t *testing.T) {
	sum, err := Program()
	if err != nil {
		t.Fatal(err)
	}
	tool, err := exec.LookPath("sha256sum")
	if err != nil {
		t.Skip("no sha256sum to compare with")
	}
	name, _ := os.Executable()
	out, err := exec.Command(tool, name).Output()
	if err != nil || !strings.HasPrefix(string(out), sum+" ") {
		t.Errorf("%s, sha256sum says %s (%v)", sum, out, err)
	}
	if !strings.Contains(Build(), runtime.GOARCH) || Release() == "" {
		t.Errorf("%q, %q", Build(), Release())
	}
}
