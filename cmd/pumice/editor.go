package main

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"unicode/utf8"

	"golang.org/x/term"
)

// editor reads messages from a terminal, with line editing and history. A signal that ends the program ends a read.
type editor struct {
	fd      int
	keys    *keyboard
	out     io.Writer
	paste   bool // the terminal can mark what is pasted
	term    *term.Terminal
	history term.History
}

func (p *program) newEditor() *editor {
	e := &editor{fd: int(p.stdin.Fd()), keys: &keyboard{in: p.input("-")}, out: p.stdout.styled(), paste: p.stdout.redrawn()}
	e.renew()
	e.history = e.term.History
	return e
}

// renew forgets the line that is being typed.
func (e *editor) renew() {
	e.term = term.NewTerminal(struct {
		io.Reader
		io.Writer
	}{e.keys, e.out}, "")
	if e.history != nil {
		e.term.History = e.history
	}
}

const quotes = `"""`

// message asks for one message with a prompt: a line, what was pasted in one piece, or the lines between triple quotes.
// io.EOF means that the person wants to leave, errCtrlC that what they had typed is dropped, context.Canceled that a
// signal ends the program. The terminal gets the prompt as it is.
func (e *editor) message(prompt string) (string, error) {
	text, err := e.lines(prompt)
	if err != nil {
		return "", err
	}
	body, quoted := strings.CutPrefix(text, quotes)
	if !quoted {
		return text, nil
	}
	parts := []string{body}
	for !strings.HasSuffix(parts[len(parts)-1], quotes) {
		more, err := e.lines("... ")
		if err != nil {
			return "", err
		}
		parts = append(parts, more)
	}
	return strings.Trim(strings.TrimSuffix(strings.Join(parts, "\n"), quotes), "\n"), nil
}

// lines reads one line, or several that are pasted.
func (e *editor) lines(prompt string) (string, error) {
	state, err := term.MakeRaw(e.fd)
	if err != nil {
		return "", fmt.Errorf("terminal: %w", err)
	}
	defer func() {
		if e.paste {
			e.term.SetBracketedPasteMode(false)
		}
		term.Restore(e.fd, state)
	}()
	if w, h, err := term.GetSize(e.fd); err == nil && w > 0 {
		e.term.SetSize(w, h)
	}
	if e.paste {
		e.term.SetBracketedPasteMode(true)
	}
	e.term.SetPrompt(prompt)
	var pasted []string
	for {
		text, err := e.term.ReadLine()
		if errors.Is(err, errCtrlC) {
			fmt.Fprint(e.out, "^C\r\n")
			e.renew()
			return "", err
		}
		if err != nil && err != term.ErrPasteIndicator {
			if err != io.EOF {
				fmt.Fprint(e.out, "\r\n") // the error message begins a line
			}
			return "", err
		}
		pasted = append(pasted, text)
		if err == nil {
			return strings.Join(pasted, "\n"), nil
		}
		e.term.SetPrompt("... ")
	}
}

// errCtrlC says that the person pressed Ctrl-C at the prompt.
var errCtrlC = errors.New("Ctrl-C")

const (
	ctrlC = 3
	esc   = 0x1b
)

// keyboard passes typed and pasted bytes to the line editor. The editor shows pasted text as it is, so keyboard
// replaces control characters in it by their numbers, as any stream does.
type keyboard struct {
	in      io.Reader
	pasting bool
	again   bool   // Ctrl-C was the last key
	typed   []byte // read, but not yet sorted
	ready   []byte // for Read to return
	err     error  // of in
}

// Read gives errCtrlC after what was typed before it, and io.EOF when it is pressed again.
func (k *keyboard) Read(b []byte) (int, error) {
	for len(k.ready) == 0 {
		if len(k.typed) > 0 && !k.pasting && k.typed[0] == ctrlC {
			k.typed = k.typed[1:]
			if k.again {
				return 0, io.EOF
			}
			k.again = true
			return 0, errCtrlC
		}
		n := len(k.typed)
		k.sort()
		if len(k.typed) < n {
			k.again = false
			continue
		}
		if k.err != nil {
			return 0, k.err
		}
		var more [4096]byte
		if n, k.err = k.in.Read(more[:]); n > 0 {
			k.typed = append(k.typed, more[:n]...)
		}
	}
	n := copy(b, k.ready)
	k.ready = k.ready[n:]
	return n, nil
}

const (
	pasteStart = "\x1b[200~"
	pasteEnd   = "\x1b[201~"
)

// sort moves bytes from typed to ready, up to a Ctrl-C or an incomplete character or sequence.
func (k *keyboard) sort() {
	for len(k.typed) > 0 {
		switch b := k.typed[0]; {
		case b == ctrlC && !k.pasting:
			return
		case b == esc:
			n, whole := k.sequence()
			if !whole {
				return
			}
			k.typed = k.typed[n:]
		case !utf8.FullRune(k.typed):
			return
		default:
			r, size := utf8.DecodeRune(k.typed)
			switch {
			case r == utf8.RuneError && size == 1:
				k.ready = escapeBytes(k.ready, k.typed[:1])
			case r == '\r' || !k.pasting && r < ' ' || inProse(r) && r != utf8.RuneError: // the editor stumbles over U+FFFD
				k.ready = append(k.ready, k.typed[:size]...)
			case !k.pasting && r == '\x7f':
				k.ready = append(k.ready, '\x7f') // backspace
			default:
				k.ready = appendEscape(k.ready, r)
			}
			k.typed = k.typed[size:]
		}
	}
}

// sequence reads the escape sequence at the beginning of typed, appends to ready what the editor should get for it,
// and returns its length; whole is false where more bytes may belong to it. The editor knows only keys that send a CSI
// sequence that ends in a letter or a tilde.
func (k *keyboard) sequence() (n int, whole bool) {
	end := pasteStart
	if k.pasting {
		end = pasteEnd
	}
	switch text := string(k.typed[:min(len(k.typed), len(end))]); {
	case text == end:
		k.pasting = !k.pasting
		k.ready = append(k.ready, end...)
		return len(end), true
	case k.pasting && strings.HasPrefix(end, text):
		return 0, false
	case k.pasting:
		k.ready = appendEscape(k.ready, esc)
		return 1, true
	}
	switch {
	case len(k.typed) == 1:
		return 0, false
	case k.typed[1] == 'O': // SS3, and a letter
		return 3, len(k.typed) >= 3
	case k.typed[1] < ' ' || k.typed[1] >= '\x7f':
		return 1, true
	case k.typed[1] != '[': // a key together with Alt
		return 2, true
	}
	const longest = 16
	for i, b := range k.typed[2:] {
		if b < ' ' || b >= '\x7f' || i == longest {
			return i + 2, true
		}
		if b >= '@' {
			if b == '~' || b >= 'a' && b <= 'z' || b >= 'A' && b <= 'Z' {
				k.ready = append(k.ready, k.typed[:i+3]...)
			}
			return i + 3, true
		}
	}
	return 0, false
}
