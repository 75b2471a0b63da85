package vk

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"testing"
)

// TestCachesOfOthersAreNeitherReadNorWritten gives folder and file another owner, or lets other users write to them.
func TestCachesOfOthersAreNeitherReadNorWritten(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("files have no user ids")
	}
	chmod := func(mode fs.FileMode) func(string) error {
		return func(path string) error { return os.Chmod(path, mode) }
	}
	toNobody := func(path string) error { return os.Chown(path, 65534, 65534) }
	nothing := func(string) error { return nil }
	key := []byte("key")
	for _, c := range []struct {
		name         string
		dir, file    func(string) error
		reads, write bool
	}{
		{"one's own", nothing, nothing, true, true},
		{"readable by others", chmod(0o755), chmod(0o644), true, true},
		{"folder written by all", chmod(0o777), nothing, false, false},
		{"folder written by all, sticky", chmod(0o777 | fs.ModeSticky), nothing, false, false},
		{"folder written by the group", chmod(0o770), nothing, false, false},
		{"file written by the group", nothing, chmod(0o664), false, true}, // it is replaced
		{"folder of another user", toNobody, nothing, false, false},
		{"file of another user", nothing, toNobody, false, true},
		{"symbolic link", nothing, func(path string) error {
			return errors.Join(os.Rename(path, path+".real"), os.Symlink(path+".real", path))
		}, true, true},
		{"symbolic link to a file of another user", nothing, func(path string) error {
			return errors.Join(os.Chown(path, 65534, 65534), os.Rename(path, path+".real"), os.Symlink(path+".real", path))
		}, false, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "cache")
			path := filepath.Join(dir, "x.pipelines")
			if err := WriteFile(path, encodeCache(key, "kernels", []byte("data"))); err != nil {
				t.Fatal(err)
			}
			err := errors.Join(c.file(path), c.dir(dir))
			if errors.Is(err, fs.ErrPermission) {
				t.Skipf("only root gives files away: %v", err)
			}
			if err != nil {
				t.Fatal(err)
			}
			if _, err := readCache(path, key, "kernels"); (err == nil) != c.reads {
				t.Errorf("reading: %v", err)
			}
			err = WriteFile(path, encodeCache(key, "kernels", []byte("more")))
			var foreign *ForeignError
			if c.write && err != nil || !c.write && !errors.As(err, &foreign) {
				t.Errorf("writing: %v", err)
			}
			if data, err := readCache(path, key, "kernels"); c.write && (err != nil || string(data) != "more") {
				t.Errorf("reading the written file: %q, %v", data, err)
			}
		})
	}
}

// TestNoFolderIsMadeInAnotherUsersFolder runs in the situation of sudo with the user's HOME.
func TestNoFolderIsMadeInAnotherUsersFolder(t *testing.T) {
	home := filepath.Join(t.TempDir(), "home")
	if err := os.Mkdir(home, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Chown(home, 65534, 65534); err != nil {
		t.Skipf("only root gives folders away: %v", err)
	}
	var foreign *ForeignError
	if err := WriteFile(filepath.Join(home, ".cache", "pumice", "x"), nil); !errors.As(err, &foreign) || foreign.Path != home {
		t.Errorf("%v", err)
	}
	if list, _ := os.ReadDir(home); len(list) > 0 {
		t.Errorf("made %v", list)
	}
}
