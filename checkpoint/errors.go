package checkpoint

import (
	"fmt"
	"strconv"
)

// FormatError says that a file is not what its format demands: it is cut off,
// corrupt, or made to harm.
type FormatError struct {
	File   string
	Offset int64 // in bytes from the start of File; -1 when no one place is at fault
	Msg    string
}

func (e *FormatError) Error() string {
	if e.Offset < 0 {
		return fmt.Sprintf("checkpoint: %s: %s", e.File, e.Msg)
	}
	return fmt.Sprintf("checkpoint: %s: at byte %d: %s", e.File, e.Offset, e.Msg)
}

// incomplete ends the message about a file that ends too early.
const incomplete = " (an incomplete download?)"

// endsBefore is the error about a file of size bytes in which a tensor's bytes
// are missing. The tensors need as many bytes as the whole file has.
func endsBefore(file, tensor string, size int, need uint64) error {
	return badFormat(file, -1, "the file ends before the end of tensor %q: it has %d bytes, its tensors need %d"+incomplete, tensor, size, need)
}

// UnsupportedError says that a file is in order but uses something that this
// package does not read.
type UnsupportedError struct {
	File, Feature string
}

func (e *UnsupportedError) Error() string {
	return fmt.Sprintf("checkpoint: %s: %s is not supported", e.File, clip(e.Feature, 1000))
}

func badFormat(file string, offset int64, format string, args ...any) error {
	return &FormatError{File: file, Offset: offset, Msg: shorten(fmt.Sprintf(format, args...))}
}

// shorten keeps what a hostile file puts into an error message to a few lines.
func shorten(s string) string { return clip(s, 300) }

func clip(s string, limit int) string {
	if len(s) > limit {
		return s[:limit] + "..."
	}
	return s
}

func quote(s string) string { return strconv.Quote(shorten(s)) }
