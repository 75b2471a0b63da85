// Package regular opens files that users and models name, and only regular files: opening a pipe would wait for its
// writer, and a device may have no end. Symbolic links to regular files are followed.
package regular

import (
	"fmt"
	"io"
	"io/fs"
	"os"
	"syscall"
)

// An Error says that a path is not a regular file, or that the file is too large.
type Error struct{ Path, Msg string }

func (e *Error) Error() string { return fmt.Sprintf("%s: %s", e.Path, e.Msg) }

// Open opens a regular file for reading. If path is anything else the error is an *Error; other errors are those of
// os.Open.
func Open(path string) (*os.File, error) {
	// Opening a device may have an effect on it, so the type is checked first.
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if err := check(path, info); err != nil {
		return nil, err
	}
	// A pipe may have replaced the file meanwhile. O_NONBLOCK opens it without waiting.
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	if info, err = f.Stat(); err == nil {
		err = check(path, info)
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

// ReadFile returns the content of a regular file of at most limit bytes. If path is anything else the error is an
// *Error; other errors are those of os.ReadFile.
func ReadFile(path string, limit int64) ([]byte, error) {
	f, err := Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	tooLarge := &Error{path, fmt.Sprintf("larger than %d bytes", limit)}
	if info.Size() > limit {
		return nil, tooLarge
	}
	data := make([]byte, 0, info.Size()+512) // io.ReadAll would leave up to four times the file as garbage
	for {
		n, err := f.Read(data[len(data):cap(data)])
		data = data[:len(data)+n]
		if int64(len(data)) > limit { // the file has grown, or has no size as in /proc
			return nil, tooLarge
		}
		if err == io.EOF {
			return data, nil
		}
		if err != nil {
			return nil, err
		}
		if len(data) == cap(data) {
			data = append(data, 0)[:len(data)]
		}
	}
}

func check(path string, info fs.FileInfo) error {
	mode := info.Mode()
	what := ""
	switch {
	case mode.IsRegular():
		return nil
	case mode.IsDir():
		what = "a directory"
	case mode&fs.ModeNamedPipe != 0:
		what = "a named pipe"
	case mode&fs.ModeSocket != 0:
		what = "a socket"
	case mode&fs.ModeDevice != 0:
		what = "a device"
	default:
		what = mode.Type().String()
	}
	return &Error{path, what + ", not a regular file"}
}
