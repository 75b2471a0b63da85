package pumice

import (
	"io/fs"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/rs/zerolog"
)

// keeping is an engine whose texts are kept in a folder, up to a number of bytes.
func keeping(t *testing.T, dir string, window int, most int64) *Engine {
	t.Helper()
	c := newCounter(t)
	c.kv.window = window
	e := c.engine()
	var err error
	if e.disk, err = openKVDisk(e, dir, most, zerolog.Nop()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		e.disk.close()
		checkIdle(t, e)
	})
	return e
}

// keptFiles lists the files of a folder by name, with their sizes in all.
func keptFiles(t *testing.T, dir string) (names []string, bytes int64) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := entry.Info()
		if err != nil {
			return err
		}
		if info.Mode().Perm()&0o077 != 0 && path != dir {
			t.Errorf("%s has mode %s", path, info.Mode())
		}
		if !entry.IsDir() {
			names, bytes = append(names, path), bytes+info.Size()
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return names, bytes
}

// counted has a session count n tokens behind a prompt, and returns how many tokens of that the cache had.
func counted(t *testing.T, e *Engine, prompt []int, n int) int {
	t.Helper()
	s := e.NewSession()
	if err := count(t.Context(), s, prompt, n); err != nil {
		t.Fatal(err)
	}
	return s.Result().Stats.CachedN
}

// TestTextsAreKeptOnDisk has one engine after another continue texts that the first has evaluated.
func TestTextsAreKeptOnDisk(t *testing.T) {
	for _, window := range []int{0, 8} {
		dir := t.TempDir()
		first := keeping(t, dir, window, 1<<20)
		prompt := []int{1, 2, 3, 4, 5, 6, 7}
		if got := counted(t, first, prompt, 12); got != 0 {
			t.Errorf("window %d: %d tokens of the first text were cached", window, got)
		}
		first.disk.close()
		whole := 18 / fakePage * fakePage // the last of 19 tokens was not evaluated
		long := []int{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 40, 50}
		second := keeping(t, dir, window, 1<<20)
		for _, c := range []struct {
			text []int
			want int
		}{
			{[]int{9, 9, 9, 9, 9, 9}, 0},
			{long, whole},
			{long, len(long) - 1}, // the memory has more than the disk
			{[]int{1, 2, 3, 4, 30, 31, 32}, 4},
		} {
			got := counted(t, second, c.text, 3)
			if window > 0 && c.want == 4 { // the keys that it sees there were given up before
				continue
			}
			if got != c.want {
				t.Errorf("window %d: %d tokens of %v were cached, want %d", window, got, c.text, c.want)
			}
		}
	}
}

// TestDamagedTextsOnDiskAreEvaluated damages each file in another way.
func TestDamagedTextsOnDiskAreEvaluated(t *testing.T) {
	text := []int{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13}
	for what, damage := range map[string]func(name string, b []byte) error{
		"a bit":  func(name string, b []byte) error { b[1] ^= 4; return os.WriteFile(name, b, 0o600) },
		"cut":    func(name string, b []byte) error { return os.WriteFile(name, b[:len(b)-1], 0o600) },
		"empty":  func(name string, _ []byte) error { return os.WriteFile(name, nil, 0o600) },
		"gone":   func(name string, _ []byte) error { return os.Remove(name) },
		"a link": func(name string, _ []byte) error { _ = os.Remove(name); return os.Symlink(name, name) },
		"another's": func(name string, b []byte) error {
			other := name[:len(name)-len("0.global")] + "x.global"
			return os.Rename(name, other)
		},
	} {
		dir := t.TempDir()
		e := keeping(t, dir, 0, 1<<20)
		counted(t, e, text, 4)
		e.disk.close()
		names, _ := keptFiles(t, dir)
		if len(names) != 4 {
			t.Fatalf("%d files", len(names))
		}
		e = keeping(t, dir, 0, 1<<20) // has listed them
		for _, name := range names {
			b, err := os.ReadFile(name)
			if err != nil {
				t.Fatal(err)
			}
			if err := damage(name, b); err != nil {
				t.Fatal(err)
			}
		}
		if got := counted(t, e, text, 4); got != 0 {
			t.Errorf("%s: %d tokens were found", what, got)
		}
		if got := counted(t, e, text, 4); got != len(text)-1 {
			t.Errorf("%s: then %d tokens were found", what, got)
		}
	}
}

// TestTextsOnDiskAreGivenUp has room for some pages: those used longest ago are given up, of one text those at its end.
func TestTextsOnDiskAreGivenUp(t *testing.T) {
	const page = 4*fakePage + 4
	dir := t.TempDir()
	e := keeping(t, dir, 0, 8*page)
	for _, name := range []string{"new-1", "new-2"} {
		if err := os.WriteFile(filepath.Join(e.disk.dir, name), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	long := time.Now().Add(-2 * time.Hour)
	if err := os.Chtimes(filepath.Join(e.disk.dir, "new-1"), long, long); err != nil {
		t.Fatal(err)
	}
	text := func(first int) []int { return []int{first, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12} }
	for i := range 6 {
		counted(t, e, text(20+i), 1)
		e.disk.close()
		if _, bytes := keptFiles(t, dir); bytes > 8*page {
			t.Errorf("%d bytes after %d texts", bytes, i+1)
		}
		e = keeping(t, dir, 0, 8*page)
	}
	names, _ := keptFiles(t, e.disk.dir)
	for _, name := range names {
		if filepath.Base(name) == "new-1" {
			t.Error("what a process left two hours ago is still there")
		}
	}
	if got := counted(t, e, text(25), 1); got != 12 {
		t.Errorf("%d tokens of the last text are found, want 12", got)
	}
	if got := counted(t, e, text(20), 1); got != 0 {
		t.Errorf("%d tokens of the first text are found", got)
	}
}

// TestKVDiskNeedsAFolder has options that make no sense, and a folder that can't be made.
func TestKVDiskNeedsAFolder(t *testing.T) {
	for _, o := range []Options{{KVDisk: 1}, {KVDisk: -1, KVDir: t.TempDir()}} {
		if _, err := o.settings(); err == nil {
			t.Errorf("%d bytes in %q are fine", o.KVDisk, o.KVDir)
		}
	}
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := openKVDisk(newCounter(t).engine(), file, 1, zerolog.Nop()); err == nil {
		t.Error("a file is a folder")
	}
}
