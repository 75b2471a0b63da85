package tokenizer

import "fmt"

// FormatError reports a tokenizer file that violates its format.
type FormatError struct {
	File string
	Path string // JSON path ("model.merges[3]"), protobuf field, or GGUF key
	Msg  string
}

func (e *FormatError) Error() string {
	if e.Path == "" {
		return fmt.Sprintf("tokenizer: %s: %s", e.File, e.Msg)
	}
	return fmt.Sprintf("tokenizer: %s: %s: %s", e.File, e.Path, e.Msg)
}

// UnsupportedError reports a component that is well formed but not implemented.
type UnsupportedError struct {
	File    string
	Path    string
	Feature string
}

func (e *UnsupportedError) Error() string {
	if e.Path == "" {
		return fmt.Sprintf("tokenizer: %s: unsupported %s", e.File, e.Feature)
	}
	return fmt.Sprintf("tokenizer: %s: %s: unsupported %s", e.File, e.Path, e.Feature)
}

// EncodeError reports text that a tokenizer can't encode: a word is unknown and the
// model has no unknown token, or the text exceeds a limit on time or memory.
type EncodeError struct {
	File string
	Msg  string
}

func (e *EncodeError) Error() string { return fmt.Sprintf("tokenizer: %s: %s", e.File, e.Msg) }
