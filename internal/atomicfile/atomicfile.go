// Package atomicfile writes files that appear whole or not at all.
//
// A file is written under a hidden name of its own beside its target, and renamed when it is on the disk. The writer holds a
// lock on this temporary file as long as it lives. What a killed writer left behind is therefore known by its free lock, and the
// next write in the same folder removes it.
//
// A symbolic link to a regular file is followed: the file that it points to is replaced, and the link stays. Links of other users in a
// folder such as /tmp are refused. A file that is replaced keeps its permissions, a new one has 0666 less the umask. Other hard links
// to a replaced file keep the old content.
package atomicfile

import (
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"syscall"
)

// A TargetError is a path that cannot be written as a whole: it is there and no regular file.
type TargetError struct {
	Path string
	Msg  string
}

func (e *TargetError) Error() string { return fmt.Sprintf("%s: %s", e.Path, e.Msg) }

// Create makes the file at path with what fill writes. If something is there, also something that came while fill wrote, the
// error is fs.ErrExist and nothing changes.
func Create(path string, fill func(f *os.File) error) error {
	switch _, err := os.Lstat(path); {
	case err == nil:
		return exists(path)
	case path == "" || !errors.Is(err, fs.ErrNotExist):
		return err
	}
	return write(target{path: path, mode: newMode}, fill, renameNew)
}

// Replace makes the file at path with what fill writes, in the place of a regular file that may be there. If anything else is
// there, the error is a *TargetError, or that of the system where the file may not be written.
func Replace(path string, fill func(f *os.File) error) error {
	t, err := find(path)
	if err != nil {
		return err
	}
	if t.stream {
		return &TargetError{path, "only a regular file can be replaced"}
	}
	return write(t, fill, replace)
}

// Write is Replace, but a device, a pipe or an open file such as /dev/stdout is written to directly.
func Write(path string, fill func(f *os.File) error) (err error) {
	t, err := find(path)
	if err != nil {
		return err
	}
	if !t.stream {
		return write(t, fill, replace)
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_TRUNC, 0)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	return fill(f)
}

// WriteBytes is Write of data.
func WriteBytes(path string, data []byte) error {
	return Write(path, func(f *os.File) error {
		_, err := f.Write(data)
		return err
	})
}

const newMode fs.FileMode = 0o666

// A target is where a file is to appear.
type target struct {
	path   string      // links are followed
	mode   fs.FileMode // permissions that it gets, before the umask where it is new
	exists bool
	stream bool // no regular file, or one that is reached through a process's open files
}

// find looks at what is at path.
func find(path string) (target, error) {
	info, err := os.Stat(path)
	if path != "" && errors.Is(err, fs.ErrNotExist) {
		if _, err := os.Lstat(path); err == nil {
			return target{}, &TargetError{path, "the symbolic link points to nothing"}
		}
		return target{path: path, mode: newMode}, nil
	}
	if err != nil {
		return target{}, err
	}
	switch mode := info.Mode(); {
	case mode.IsDir():
		return target{}, &TargetError{path, "it is a directory"}
	case mode.Type() == fs.ModeDevice: // and no character device
		return target{}, &TargetError{path, "it is a block device"}
	}
	real, open, err := follow(path)
	if err != nil {
		return target{}, err
	}
	if open || !info.Mode().IsRegular() {
		return target{stream: true}, nil
	}
	f, err := os.OpenFile(real, os.O_WRONLY, 0) // a rename would also replace a file that is protected against writing
	if err != nil {
		return target{}, err
	}
	return target{path: real, mode: info.Mode().Perm(), exists: true}, f.Close()
}

// maxLinks is how many links the system follows.
const maxLinks = 40

// follow returns the path that links at path lead to. open says that they lead to an open file of a process, as
// /dev/stdout does.
func follow(path string) (real string, open bool, err error) {
	for range maxLinks {
		dir, err := filepath.EvalSymlinks(filepath.Dir(path))
		if err != nil {
			return "", false, err
		}
		if dir, err = filepath.Abs(dir); err != nil {
			return "", false, err
		}
		path = filepath.Join(dir, filepath.Base(path))
		if strings.HasPrefix(path, "/proc/") {
			return path, true, nil
		}
		link, err := os.Readlink(path)
		if errors.Is(err, syscall.EINVAL) { // no link
			return path, false, nil
		}
		if err == nil {
			err = trap(path, dir)
		}
		if err != nil {
			return "", false, err
		}
		if !filepath.IsAbs(link) {
			link = filepath.Join(dir, link)
		}
		path = link
	}
	return "", false, &TargetError{path, "too many symbolic links"}
}

// trap refuses a symbolic link that somebody else has put into a folder such as /tmp, where all may make files: it could lead to a file
// of the user's. Linux refuses these itself where fs.protected_symlinks is set, and by the same rule.
func trap(path, dir string) error {
	link, err := os.Lstat(path)
	if err != nil {
		return err
	}
	folder, err := os.Stat(dir)
	if err != nil {
		return err
	}
	by := link.Sys().(*syscall.Stat_t).Uid
	if folder.Mode()&fs.ModeSticky == 0 || folder.Mode().Perm()&0o002 == 0 || by == uint32(os.Geteuid()) || by == folder.Sys().(*syscall.Stat_t).Uid {
		return nil
	}
	return &TargetError{path, fmt.Sprintf("the symbolic link is user %d's", by)}
}

// write fills a temporary file and lets rename give it the target's name.
func write(t target, fill func(f *os.File) error, rename func(from, to string) error) (err error) {
	removeStale(filepath.Dir(t.path))
	f, err := temporary(t)
	if err != nil {
		return about(t.path, err)
	}
	renamed := false
	defer func() {
		if !renamed { // also where fill panics
			os.Remove(f.Name())
		}
		if closeErr := f.Close(); err == nil { // gives up the lock
			err = about(t.path, closeErr)
		}
	}()
	if err = fill(f); err != nil {
		return about(t.path, err)
	}
	if err = f.Sync(); err != nil {
		return about(t.path, err)
	}
	if err = rename(f.Name(), t.path); err != nil {
		return about(t.path, err)
	}
	renamed = true
	return nil
}

// replace is rename(2). Its errors name the target alone.
func replace(from, to string) error {
	err := os.Rename(from, to)
	var link *os.LinkError
	if errors.As(err, &link) {
		return &fs.PathError{Op: link.Op, Path: to, Err: link.Err}
	}
	return err
}

// renameNew is replace for a target that must not be there.
func renameNew(from, to string) error {
	err := os.Link(from, to)
	switch {
	case err == nil:
		return os.Remove(from)
	case errors.Is(err, fs.ErrExist):
		return exists(to)
	}
	// Not every file system has hard links.
	if _, err := os.Lstat(to); err == nil {
		return exists(to)
	}
	return replace(from, to)
}

func exists(path string) error { return &fs.PathError{Op: "create", Path: path, Err: fs.ErrExist} }

// about makes an error with the temporary file name the file that was asked for.
func about(path string, err error) error {
	var file *fs.PathError
	if errors.As(err, &file) && isTemporary(filepath.Base(file.Path)) {
		file.Path = path
	}
	return err
}

// A temporary file is called .NAME.RANDOM.pumice-partial, where NAME is the target's, shortened to what the system takes, and
// RANDOM has 16 digits.
const (
	suffix       = ".pumice-partial"
	randomDigits = 16
	maxName      = 255 - len("..") - randomDigits - len(suffix) // NAME_MAX
)

func temporaryName(path string) string {
	name := filepath.Base(path)
	if len(name) > maxName {
		name = strings.ToValidUTF8(name[:maxName], "")
	}
	return filepath.Join(filepath.Dir(path), fmt.Sprintf(".%s.%0*x%s", name, randomDigits, rand.Uint64(), suffix))
}

func isTemporary(name string) bool {
	name, ok := strings.CutSuffix(name, suffix)
	if !ok || len(name) < randomDigits+len("..") || name[0] != '.' {
		return false
	}
	random := name[len(name)-randomDigits-1:]
	return random[0] == '.' && strings.Trim(random[1:], "0123456789abcdef") == ""
}

// temporary creates a target's temporary file and locks it.
func temporary(t target) (*os.File, error) {
	for {
		name := temporaryName(t.path)
		f, err := os.OpenFile(name, os.O_CREATE|os.O_EXCL|os.O_RDWR, t.mode)
		if err != nil {
			return nil, err
		}
		// Between these two calls another process may take the file for a stale one.
		lockErr := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		if lockErr == syscall.EWOULDBLOCK || !isAt(f, name) {
			f.Close()
			continue
		}
		// A file system without locks gives another error. Then nobody can lock the file to remove it.
		if t.exists {
			if err := f.Chmod(t.mode); err != nil { // against the umask
				return nil, errors.Join(err, f.Close(), os.Remove(name))
			}
		}
		return f, nil
	}
}

// removeStale removes the temporary files of killed writers from a folder.
func removeStale(dir string) {
	entries, _ := os.ReadDir(dir) // what cannot be read cannot be cleaned either
	for _, e := range entries {
		if !e.Type().IsRegular() || !isTemporary(e.Name()) {
			continue
		}
		name := filepath.Join(dir, e.Name())
		f, err := os.OpenFile(name, os.O_RDWR|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0)
		if err != nil {
			continue
		}
		if syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB) == nil && isAt(f, name) {
			os.Remove(name)
		}
		f.Close()
	}
}

// isAt reports whether name still is the open file.
func isAt(f *os.File, name string) bool {
	there, err := os.Lstat(name)
	if err != nil {
		return false
	}
	info, err := f.Stat()
	return err == nil && os.SameFile(there, info)
}
