package regular

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestReadFileReadsRegularFiles(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	want := bytes.Repeat([]byte("ab"), 50000)
	path := filepath.Join(dir, "file")
	if err := os.WriteFile(path, want, 0o600); err != nil {
		t.Fatal(err)
	}
	link := filepath.Join(dir, "link")
	if err := os.Symlink(path, link); err != nil {
		t.Skip(err)
	}
	for _, p := range []string{path, link} {
		got, err := ReadFile(p, int64(len(want)))
		if err != nil || !bytes.Equal(got, want) {
			t.Errorf("%s: %d bytes, %v", p, len(got), err)
		}
		var e *Error
		if _, err := ReadFile(p, int64(len(want))-1); !errors.As(err, &e) || e.Path != p || !strings.Contains(e.Msg, "larger") {
			t.Errorf("%s over its limit: %v", p, err)
		}
	}
	if _, err := ReadFile(filepath.Join(dir, "none"), 1); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("no file: %v", err)
	}
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if got, err := ReadFile(path, 0); err != nil || len(got) != 0 {
		t.Errorf("empty file: %d bytes, %v", len(got), err)
	}
}

func TestOpenRefusesWhatIsNoRegularFile(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	cases := map[string]string{dir: "a directory, not a regular file", os.DevNull: "a device, not a regular file"}
	if path := filepath.Join(dir, "pipe"); makePipe(path) == nil {
		cases[path] = "a named pipe, not a regular file"
		link := filepath.Join(dir, "link")
		if os.Symlink(path, link) == nil {
			cases[link] = "a named pipe, not a regular file"
		}
	}
	for path, want := range cases {
		f, err := Open(path) // a pipe that nobody writes to would wait here for ever
		var e *Error
		if !errors.As(err, &e) || e.Path != path || e.Msg != want {
			t.Errorf("%s: %v, %v; want %s", path, f, err, want)
		}
	}
}

// Files of /proc report a size of 0.
func TestReadFileReadsAFileWithoutASize(t *testing.T) {
	const path = "/proc/self/status"
	want, err := os.ReadFile(path)
	if err != nil {
		t.Skip(err)
	}
	if got, err := ReadFile(path, 1<<20); err != nil || len(got) < len(want)/2 {
		t.Errorf("%d bytes, %v", len(got), err)
	}
	if _, err := ReadFile(path, 100); err == nil {
		t.Error("100 bytes are enough for it")
	}
}
