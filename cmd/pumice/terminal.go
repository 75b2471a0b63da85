package main

import (
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"unicode"
	"unicode/utf8"

	"golang.org/x/term"
)

func isTerminal(f *os.File) bool { return term.IsTerminal(int(f.Fd())) }

// A stream is standard output or standard error. What the program writes comes from models, files and drivers, whose
// authors are strangers, and a terminal obeys what it is shown: an escape sequence can change its title, fill the clipboard
// or rewrite what stands above. So on a terminal a stream shows control characters by their numbers, as \x1b. Files and pipes
// get every byte as it is.
type stream struct {
	file     *os.File
	terminal bool

	mu      sync.Mutex
	console *console // which writes it above what is typed; nil: none
	pending []byte   // the beginning of a character, or a carriage return: what follows decides how it is shown
}

func newStream(f *os.File) *stream { return &stream{file: f, terminal: isTerminal(f)} }

// redrawn reports whether what s shows can be written over: it is a terminal that knows control sequences.
func (s *stream) redrawn() bool { return s.terminal && os.Getenv("TERM") != "dumb" }

// Write writes names, messages and tables. A terminal shows of them only what is visible.
func (s *stream) Write(text []byte) (int, error) { return s.write(text, inNames) }

// prose writes text in a human language, such as a model's answer, in which some scripts need invisible characters.
func (s *stream) prose(text string) error {
	_, err := s.write([]byte(text), inProse)
	return err
}

func (s *stream) write(text []byte, shown func(rune) bool) (int, error) {
	if !s.terminal {
		return s.file.Write(text)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	out, rest := appendVisible(nil, append(s.pending, text...), shown)
	s.pending = append([]byte(nil), rest...)
	if err := s.put(out); err != nil {
		return 0, err
	}
	return len(text), nil
}

// put writes what may be shown. The caller has the lock.
func (s *stream) put(text []byte) error {
	if s.console != nil {
		s.console.print(string(text))
		return nil
	}
	_, err := s.file.Write(text)
	return err
}

// attach has a console show what is written, nil none.
func (s *stream) attach(c *console) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.console = c
}

// flush shows what waits for its end.
func (s *stream) flush() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.flushLocked()
}

func (s *stream) flushLocked() error {
	if len(s.pending) == 0 {
		return nil
	}
	text := s.pending
	s.pending = nil
	return s.put(escapeBytes(nil, text))
}

// styled is the stream for what may hold control sequences: those of the program itself, around texts that are visible.
func (s *stream) styled() io.Writer { return styled{s} }

type styled struct{ s *stream }

func (w styled) Write(text []byte) (int, error) {
	w.s.mu.Lock()
	defer w.s.mu.Unlock()
	if err := w.s.flushLocked(); err != nil {
		return 0, err
	}
	return len(text), w.s.put(text)
}

// visible is text as Write shows it on a terminal.
func visible(text string) string {
	out, rest := appendVisible(nil, []byte(text), inNames)
	return string(escapeBytes(out, rest))
}

// visibleProse is the same for text in a human language.
func visibleProse(text string) string {
	out, rest := appendVisible(nil, []byte(text), inProse)
	return string(escapeBytes(out, rest))
}

// visibleValue makes the strings of a decoded JSON value visible.
func visibleValue(v any) any {
	switch v := v.(type) {
	case string:
		return visible(v)
	case []any:
		for i := range v {
			v[i] = visibleValue(v[i])
		}
	case map[string]any:
		for key := range v {
			v[key] = visibleValue(v[key])
		}
	}
	return v
}

// appendVisible appends text to out with its characters that are not shown replaced by their numbers in Go's notation: bytes
// and control characters below 0x80 as \x1b, others as \u202e. A carriage return before a newline is left out. rest is the end
// of text that can't be judged yet.
func appendVisible(out, text []byte, shown func(rune) bool) (visible, rest []byte) {
	for len(text) > 0 {
		r, size := utf8.DecodeRune(text)
		switch {
		case r == utf8.RuneError && size == 1:
			if !utf8.FullRune(text) {
				return out, text
			}
			out = escapeBytes(out, text[:1])
		case r == '\r' && len(text) == 1:
			return out, text
		case r == '\r' && text[1] == '\n':
		case shown(r):
			out = append(out, text[:size]...)
		default:
			out = appendEscape(out, r)
		}
		text = text[size:]
	}
	return out, nil
}

func appendEscape(out []byte, r rune) []byte {
	switch {
	case r < utf8.RuneSelf:
		return fmt.Appendf(out, `\x%02x`, r)
	case r <= 0xffff:
		return fmt.Appendf(out, `\u%04x`, r)
	}
	return fmt.Appendf(out, `\U%08x`, r)
}

func escapeBytes(out, text []byte) []byte {
	for _, b := range text {
		out = fmt.Appendf(out, `\x%02x`, b)
	}
	return out
}

// inNames reports whether a character is shown as itself in names and messages: nothing there may be invisible or change the
// order of what stands beside it.
func inNames(r rune) bool {
	return r == '\n' || r == '\t' || unicode.IsGraphic(r) && !unicode.In(r, unicode.Other_Default_Ignorable_Code_Point, unicode.Variation_Selector)
}

// inProse reports the same for prose. There joiners and marks of direction stay, which Arabic, Hebrew, Indic scripts and emoji
// need and which act on their neighbours alone. Embeddings, overrides and isolates are escaped: they reorder a whole line.
func inProse(r rune) bool {
	if r == '\n' || r == '\t' || strings.ContainsRune(neighbourly, r) {
		return true
	}
	return !unicode.In(r, unicode.Cc, unicode.Zl, unicode.Zp) && (!unicode.Is(unicode.Cf, r) || unicode.Is(unicode.Prepended_Concatenation_Mark, r))
}

// neighbourly are soft hyphen, Arabic letter mark, zero width space, non-joiner and joiner, left-to-right and right-to-left
// mark, and word joiner.
const neighbourly = "\u00ad\u061c\u200b\u200c\u200d\u200e\u200f\u2060"
