package checkpoint

import (
	"errors"
	"fmt"
	"os"
	"unsafe"

	"github.com/edsrzf/mmap-go"

	"pumice/internal/regular"
)

// mapping is a whole file mapped read-only. Its pages are read on first access
// and belong to the system's cache, not to the process. Ranges are checked
// against the size that the file had when it was opened; Guard handles a file
// that is truncated later.
type mapping struct {
	file string
	data mmap.MMap
}

func mapFile(path string) (*mapping, error) {
	f, size, err := openRegular(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if size == 0 {
		return nil, badFormat(path, 0, "the file is empty")
	}
	if int64(int(size)) != size {
		return nil, &UnsupportedError{path, fmt.Sprintf("a file of %d bytes on this machine", size)}
	}
	data, err := mmap.MapRegion(f, int(size), mmap.RDONLY, 0, 0)
	if err != nil {
		return nil, fmt.Errorf("checkpoint: map %s: %w", path, err)
	}
	m := &mapping{path, data}
	m.register()
	return m, nil
}

// address returns the start of the mapping in memory. It is only compared.
func (m *mapping) address() uintptr { return uintptr(unsafe.Pointer(unsafe.SliceData(m.data))) }

func (m *mapping) close() error {
	if m.data == nil {
		return nil
	}
	m.unregister()
	return m.data.Unmap()
}

// readFile returns the content of a small file of at most limit bytes.
func readFile(path string, limit int64) ([]byte, error) {
	data, err := regular.ReadFile(path, limit)
	return data, fileError(path, err)
}

// openRegular opens a file for reading and returns its size.
func openRegular(path string) (*os.File, int64, error) {
	f, err := regular.Open(path)
	if err != nil {
		return nil, 0, fileError(path, err)
	}
	info, err := f.Stat()
	if err != nil {
		f.Close()
		return nil, 0, fileError(path, err)
	}
	return f, info.Size(), nil
}

// fileError converts the error of opening or reading a file to one of this package.
func fileError(path string, err error) error {
	var odd *regular.Error
	switch {
	case err == nil:
		return nil
	case errors.As(err, &odd):
		return badFormat(path, -1, "%s", odd.Msg)
	}
	return fmt.Errorf("checkpoint: %w", err)
}
