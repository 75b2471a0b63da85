package atomicfile

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// text returns a fill that writes s.
func text(s string) func(*os.File) error {
	return func(f *os.File) error {
		_, err := f.WriteString(s)
		return err
	}
}

// never returns a fill that must not be called.
func never(t *testing.T) func(*os.File) error {
	return func(*os.File) error {
		t.Error("wrote to a target that must be refused")
		return nil
	}
}

func put(t *testing.T, name, content string, mode fs.FileMode) string {
	t.Helper()
	if err := os.WriteFile(name, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(name, mode); err != nil {
		t.Fatal(err)
	}
	return name
}

// tree lists a folder: each name with its content, or with its type.
func tree(t *testing.T, dir string) map[string]string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]string{}
	for _, e := range entries {
		if out[e.Name()] = e.Type().String(); e.Type().IsRegular() {
			b, err := os.ReadFile(filepath.Join(dir, e.Name()))
			if err != nil {
				t.Fatal(err)
			}
			out[e.Name()] = string(b)
		}
	}
	return out
}

func check(t *testing.T, dir string, want map[string]string) {
	t.Helper()
	if diff := cmp.Diff(want, tree(t, dir)); diff != "" {
		t.Errorf("files (-want +got):\n%s", diff)
	}
}

func TestReplaceKeepsPermissions(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for _, mode := range []fs.FileMode{0o600, 0o640, 0o666, 0o755} {
		name := put(t, filepath.Join(dir, "f"), "old", mode)
		if err := Replace(name, text("new")); err != nil {
			t.Fatal(err)
		}
		if info, err := os.Stat(name); err != nil || info.Mode() != mode {
			t.Errorf("permissions %v, want %v: %v", info.Mode(), mode, err)
		}
	}
	check(t, dir, map[string]string{"f": "new"})
}

func TestNewFileHasTheUmask(t *testing.T) { // not parallel: the umask is the process's
	defer syscall.Umask(syscall.Umask(0o027))
	dir := t.TempDir()
	for name, make := range map[string]func(string, func(*os.File) error) error{"create": Create, "replace": Replace, "write": Write} {
		if err := make(filepath.Join(dir, name), text(name)); err != nil {
			t.Fatal(err)
		}
		if info, err := os.Stat(filepath.Join(dir, name)); err != nil || info.Mode() != 0o640 {
			t.Errorf("%s: permissions %v, want 0640: %v", name, info.Mode(), err)
		}
	}
	check(t, dir, map[string]string{"create": "create", "replace": "replace", "write": "write"})
}

func TestReplaceFollowsLinksToFiles(t *testing.T) {
	t.Parallel()
	dir, elsewhere := t.TempDir(), t.TempDir()
	put(t, filepath.Join(elsewhere, "file"), "old", 0o640)
	for from, to := range map[string]string{"direct": filepath.Join(elsewhere, "file"), "chain": "direct", "dangling": "nothing", "loop": "loop"} {
		if err := os.Symlink(to, filepath.Join(dir, from)); err != nil {
			t.Fatal(err)
		}
	}
	if err := Replace(filepath.Join(dir, "chain"), text("new")); err != nil {
		t.Fatal(err)
	}
	check(t, elsewhere, map[string]string{"file": "new"})
	for _, name := range []string{"dangling", "loop"} {
		if err := Replace(filepath.Join(dir, name), never(t)); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
	link := fs.ModeSymlink.String()
	check(t, dir, map[string]string{"direct": link, "chain": link, "dangling": link, "loop": link})
}

// TestReplaceRefusesOthersLinks uses a link of another user in a folder where everyone may create files.
func TestReplaceRefusesOthersLinks(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		t.Skip("only root can make a link another user's")
	}
	dir, elsewhere := t.TempDir(), t.TempDir()
	precious := put(t, filepath.Join(elsewhere, "precious"), "old", 0o644)
	link := filepath.Join(dir, "link")
	if err := os.Symlink(precious, link); err != nil {
		t.Fatal(err)
	}
	const other = 12345
	if err := os.Lchown(link, other, other); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(dir, 0o777|fs.ModeSticky); err != nil {
		t.Fatal(err)
	}
	for _, write := range []func(string, func(*os.File) error) error{Replace, Write} {
		if err := write(link, never(t)); err == nil {
			t.Error("the link was followed")
		}
	}
	check(t, elsewhere, map[string]string{"precious": "old"})
	if err := os.Lchown(dir, other, other); err != nil { // the owner of the folder may put links there
		t.Fatal(err)
	}
	if err := Replace(link, text("new")); err != nil {
		t.Error(err)
	}
	check(t, elsewhere, map[string]string{"precious": "new"})
}

// TestOtherThanFiles tries to replace targets that are not regular files. Only Write accepts some of them, and writes
// directly.
func TestOtherThanFiles(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	fifo := filepath.Join(dir, "fifo")
	if err := syscall.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(filepath.Join(dir, "folder"), 0o700); err != nil {
		t.Fatal(err)
	}
	socket, err := syscall.Socket(syscall.AF_UNIX, syscall.SOCK_STREAM, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer syscall.Close(socket)
	if err := syscall.Bind(socket, &syscall.SockaddrUnix{Name: filepath.Join(dir, "socket")}); err != nil {
		t.Fatal(err)
	}
	opened, err := os.Create(filepath.Join(dir, "opened"))
	if err != nil {
		t.Fatal(err)
	}
	defer opened.Close()
	descriptor := fmt.Sprintf("/proc/self/fd/%d", opened.Fd())
	before := tree(t, dir)

	for _, path := range []string{fifo, filepath.Join(dir, "folder"), filepath.Join(dir, "socket"), "/dev/null", "/dev/full", descriptor, "/dev/stdin"} {
		var target *TargetError
		if err := Replace(path, never(t)); !errors.As(err, &target) {
			t.Errorf("replacing %s: %v", path, err)
		}
		if err := Create(path, never(t)); !errors.Is(err, fs.ErrExist) {
			t.Errorf("creating %s: %v", path, err)
		}
	}
	for _, path := range []string{filepath.Join(dir, "folder"), filepath.Join(dir, "socket"), filepath.Join(dir, "nothing", "f"), ""} {
		if err := Write(path, never(t)); err == nil {
			t.Errorf("writing to %q: no error", path)
		}
	}
	check(t, dir, before)

	if err := Write("/dev/null", text("x")); err != nil {
		t.Error(err)
	}
	if err := Write("/dev/full", text("x")); !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("/dev/full: %v", err)
	}
	read := make(chan string)
	go func() {
		b, _ := os.ReadFile(fifo)
		read <- string(b)
	}()
	if err := WriteBytes(fifo, []byte("through the pipe")); err != nil {
		t.Fatal(err)
	}
	if got := <-read; got != "through the pipe" {
		t.Errorf("pipe gave %q", got)
	}
	if err := WriteBytes(descriptor, []byte("into the open file")); err != nil {
		t.Fatal(err)
	}
	before["opened"] = "into the open file"
	check(t, dir, before)
	b := make([]byte, 100)
	if n, _ := opened.ReadAt(b, 0); string(b[:n]) != "into the open file" {
		t.Errorf("the open file was replaced; it has %q", b[:n])
	}
}

func TestFailureLeavesTheOldFile(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	name := put(t, filepath.Join(dir, "f"), "old", 0o644)
	broken := errors.New("broken")
	if err := Replace(name, func(f *os.File) error {
		f.WriteString("half")
		return broken
	}); err != broken {
		t.Errorf("error %v", err)
	}
	func() {
		defer func() { recover() }()
		Replace(name, func(*os.File) error { panic("in fill") })
	}()
	err := Replace(name, func(f *os.File) error { return &fs.PathError{Op: "write", Path: f.Name(), Err: syscall.ENOSPC} })
	if want := "write " + name + ": no space left on device"; err == nil || err.Error() != want {
		t.Errorf("error %v, want %s", err, want)
	}
	check(t, dir, map[string]string{"f": "old"})
}

func TestCreateReplacesNothing(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	name := filepath.Join(dir, "f")
	err := Create(name, func(f *os.File) error {
		put(t, name, "came meanwhile", 0o644)
		return text("mine")(f)
	})
	if !errors.Is(err, fs.ErrExist) {
		t.Errorf("error %v", err)
	}
	if err := Create(name, never(t)); !errors.Is(err, fs.ErrExist) {
		t.Errorf("error %v", err)
	}
	check(t, dir, map[string]string{"f": "came meanwhile"})
}

// TestStaleFilesAreRemoved puts files of killed writers beside other files.
func TestStaleFilesAreRemoved(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	stale := filepath.Base(temporaryName("f"))
	foreign := []string{".f.partial", "f.1.partial", stale[1:], "x" + stale, stale + "x", ".f.0123456789abcdeX" + suffix, suffix, "0123456789abcdef" + suffix}
	want := map[string]string{"f": "new"}
	for _, name := range foreign {
		put(t, filepath.Join(dir, name), "foreign", 0o600)
		want[name] = "foreign"
	}
	for _, name := range []string{stale, filepath.Base(temporaryName("other"))} {
		put(t, filepath.Join(dir, name), "stale", 0o600)
	}
	link := filepath.Base(temporaryName("f"))
	if err := os.Symlink("f.1.partial", filepath.Join(dir, link)); err != nil {
		t.Fatal(err)
	}
	want[link] = fs.ModeSymlink.String()
	err := Replace(filepath.Join(dir, "f"), func(f *os.File) error {
		// The file of the active writer is kept.
		if err := Replace(filepath.Join(dir, "f"), text("another writer")); err != nil {
			return err
		}
		return text("new")(f)
	})
	if err != nil {
		t.Fatal(err)
	}
	check(t, dir, want)
}

func TestLongNames(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	long := strings.Repeat("é", 127) + "x" // 255 bytes
	if err := Replace(filepath.Join(dir, long), text("new")); err != nil {
		t.Error(err)
	}
	check(t, dir, map[string]string{long: "new"})
	for _, make := range []func(string, func(*os.File) error) error{Create, Replace, Write} {
		if err := make(filepath.Join(dir, long+"y"), never(t)); !errors.Is(err, syscall.ENAMETOOLONG) {
			t.Errorf("a name of 256 bytes: %v", err)
		}
	}
}

func TestManyWritersOfOneFile(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	name := filepath.Join(dir, "f")
	var wait sync.WaitGroup
	for i := range 16 {
		wait.Go(func() {
			for range 10 {
				if err := Replace(name, text(strings.Repeat(string(rune('a'+i)), 10000))); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wait.Wait()
	got, err := os.ReadFile(name)
	if err != nil || len(got) != 10000 || bytes.Count(got, got[:1]) != len(got) {
		t.Errorf("%d bytes, a mixture of several writers: %v", len(got), err)
	}
	if entries, err := os.ReadDir(dir); err != nil || len(entries) != 1 {
		t.Errorf("left over: %v, %v", entries, err)
	}
}

func TestProtectedFileIsKept(t *testing.T) {
	t.Parallel()
	if os.Geteuid() == 0 {
		t.Skip("root may write every file")
	}
	dir := t.TempDir()
	name := put(t, filepath.Join(dir, "f"), "old", 0o444)
	if err := Replace(name, never(t)); !errors.Is(err, fs.ErrPermission) {
		t.Errorf("error %v", err)
	}
	check(t, dir, map[string]string{"f": "old"})
}
