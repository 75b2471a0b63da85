package vk_test

import (
	"os"
	"os/exec"
	"strings"
	"testing"
)

// TestWithoutCgoThereIsOneError: without cgo the package is two files, one of which has the package's comment, and the other one an error that
// says what is missing.
func TestWithoutCgoThereIsOneError(t *testing.T) {
	list := exec.Command("go", "list", "-e", "-f", "{{.GoFiles}}", ".")
	list.Env = append(os.Environ(), "CGO_ENABLED=0")
	out, err := list.CombinedOutput()
	if got := strings.TrimSpace(string(out)); err != nil || got != "[doc.go nocgo.go]" {
		t.Errorf("%s, %v", got, err)
	}
}
