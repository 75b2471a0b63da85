package checkpoint

import (
	"fmt"
	"strconv"
)

// FormatError says that a file violates its format: it is incomplete, corrupt
// or malicious.
type FormatError struct {
	File   string
	Offset int64 // in bytes from the start of File; -1 if the error has no single position
	Msg    string
}

func (e *FormatError) Error() string {
	if e.Offset < 0 {
		return fmt.Sprintf("checkpoint: %s: %s", e.File, e.Msg)
	}
	return fmt.Sprintf("checkpoint: %s: at byte %d: %s", e.File, e.Offset, e.Msg)
}

// incomplete ends the messages about a file that ends too early.
const incomplete = " (an incomplete download?)"

// endsBefore returns the error about a file of size bytes that ends before a
// tensor's last byte. need is the size that the file needs for its tensors.
func endsBefore(file, tensor string, size int, need uint64) error {
	return badFormat(file, -1, "the file ends before the end of tensor %q: it has %d bytes, its tensors need %d"+incomplete, tensor, size, need)
}

// UnsupportedError says that a file uses a feature that this package does not
// read, although the file may be valid.
type UnsupportedError struct {
	File, Feature string
}

func (e *UnsupportedError) Error() string {
	return fmt.Sprintf("checkpoint: %s: %s is not supported", e.File, clip(e.Feature, 1000))
}

func badFormat(file string, offset int64, format string, args ...any) error {
	return &FormatError{File: file, Offset: offset, Msg: shorten(fmt.Sprintf(format, args...))}
}

// shorten limits text from a hostile file to a few lines of an error message.
func shorten(s string) string { return clip(s, 300) }

func clip(s string, limit int) string {
	if len(s) > limit {
		return s[:limit] + "..."
	}
	return s
}

func quote(s string) string { return strconv.Quote(shorten(s)) }
