// Package atomicfile writes files atomically: other processes see all of the new content or none.
//
// A file is written to a hidden temporary file beside its target, which is renamed once it is on the disk. The writer
// holds a lock on the temporary file until it ends. An unlocked temporary file therefore belongs to a killed writer,
// and the next write in the same folder removes it.
//
// A symbolic link to a regular file is followed: the file that it points to is replaced, and the link stays. Links of other users in a
// folder such as /tmp are refused. A replaced file keeps its permissions, and a new one gets 0666 less the umask. Other
// hard links to a replaced file keep the old content.
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

// A TargetError says that a path can't be written atomically, because it exists and is not a regular file.
type TargetError struct {
	Path string
	Msg  string
}

func (e *TargetError) Error() string { return fmt.Sprintf("%s: %s", e.Path, e.Msg) }

// Create creates the file path with the content that fill writes. If path exists, even if it was created while fill
// wrote, the error is fs.ErrExist and nothing changes.
func Create(path string, fill func(f *os.File) error) error {
	switch _, err := os.Lstat(path); {
	case err == nil:
		return exists(path)
	case path == "" || !errors.Is(err, fs.ErrNotExist):
		return err
	}
	return write(target{path: path, mode: newMode}, fill, renameNew)
}

// Replace creates the file path with the content that fill writes, or replaces the regular file path. If path is
// anything else, the error is a *TargetError; if the file may not be written, it is the system's.
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

// Write is Replace, except that it writes directly to a device, a pipe or an open file such as /dev/stdout.
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

// WriteBytes is Write with the content data.
func WriteBytes(path string, data []byte) error {
	return Write(path, func(f *os.File) error {
		_, err := f.Write(data)
		return err
	})
}

const newMode fs.FileMode = 0o666

// A target describes the file to write.
type target struct {
	path   string      // path with all links followed
	mode   fs.FileMode // permissions to set; for a new file before the umask
	exists bool
	stream bool // not a regular file, or one opened by a process and named through it
}

// find returns the target at path.
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
	case mode.Type() == fs.ModeDevice: // without fs.ModeCharDevice
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

// maxLinks is the number of links that the system follows.
const maxLinks = 40

// follow returns the path to which links at path lead. open says that they lead to an open file of a process, as
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
		if errors.Is(err, syscall.EINVAL) { // not a link
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

// trap refuses a symbolic link that another user has put into a folder such as /tmp, where everyone may create files:
// it could lead to a file of this user. Linux refuses such links by the same rule if fs.protected_symlinks is set.
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
	return &TargetError{path, fmt.Sprintf("the symbolic link belongs to user %d", by)}
}

// write fills a temporary file and calls rename to give it the target's name.
func write(t target, fill func(f *os.File) error, rename func(from, to string) error) (err error) {
	removeStale(filepath.Dir(t.path))
	f, err := temporary(t)
	if err != nil {
		return about(t.path, err)
	}
	renamed := false
	defer func() {
		if !renamed { // also if fill panics
			os.Remove(f.Name())
		}
		if closeErr := f.Close(); err == nil { // also releases the lock
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

// replace is rename(2), but its errors name only the target.
func replace(from, to string) error {
	err := os.Rename(from, to)
	var link *os.LinkError
	if errors.As(err, &link) {
		return &fs.PathError{Op: link.Op, Path: to, Err: link.Err}
	}
	return err
}

// renameNew is replace for a target that must not exist.
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

// about changes an error about the temporary file to name path instead.
func about(path string, err error) error {
	var file *fs.PathError
	if errors.As(err, &file) && isTemporary(filepath.Base(file.Path)) {
		file.Path = path
	}
	return err
}

// A temporary file has the name .NAME.RANDOM.pumice-partial, where NAME is the target's name, shortened to the system's
// limit, and RANDOM has 16 digits.
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
		// Between these two calls another process may consider the file stale and remove it.
		lockErr := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		if lockErr == syscall.EWOULDBLOCK || !isAt(f, name) {
			f.Close()
			continue
		}
		// A file system without locks gives another error. Then no process can lock the file to remove it.
		if t.exists {
			if err := f.Chmod(t.mode); err != nil { // the umask must not apply
				return nil, errors.Join(err, f.Close(), os.Remove(name))
			}
		}
		return f, nil
	}
}

// removeStale removes the temporary files of killed writers from a folder.
func removeStale(dir string) {
	entries, _ := os.ReadDir(dir) // a folder that can't be read is not cleaned
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

// isAt reports whether name is still the open file f.
func isAt(f *os.File, name string) bool {
	there, err := os.Lstat(name)
	if err != nil {
		return false
	}
	info, err := f.Stat()
	return err == nil && os.SameFile(there, info)
}
