package main

import (
	"bytes"
	"unicode/utf8"

	uv "github.com/charmbracelet/ultraviolet"
)

// A keystroke is what a person does at a keyboard: a key by its name in package ultraviolet, such as "ctrl+left", or text that is
// typed or pasted. Text holds nothing that a terminal may not be shown: control characters in what is pasted are their
// numbers, as wherever the program shows them.
type keystroke struct{ key, text string }

// A keyboard makes keystrokes of the bytes that a terminal sends.
type keyboard struct {
	decoder uv.EventDecoder
	rest    []byte // an incomplete character or sequence
	pasting bool
	pasted  []byte
}

const (
	esc        = 0x1b
	pasteStart = "\x1b[200~"
	pasteEnd   = "\x1b[201~"

	// longestSequence is how many bytes may belong to one key.
	longestSequence = 32
)

// push adds bytes and returns the keystrokes that they complete. Without more to come soon, an escape character alone is a key.
func (k *keyboard) push(data []byte, more bool) (strokes []keystroke) {
	in := append(k.rest, data...)
	for len(in) > 0 {
		if k.pasting {
			n := k.paste(in)
			if n == 0 {
				break
			}
			if in = in[n:]; !k.pasting {
				strokes = append(strokes, keystroke{text: pastedText(k.pasted)})
				k.pasted = nil
			}
			continue
		}
		n, whole := sequence(in)
		if !whole && (more || in[0] != esc) {
			break
		}
		if string(in[:n]) == pasteStart {
			k.pasting = true
		} else if s, ok := k.stroke(in[:n]); ok {
			strokes = append(strokes, s)
		}
		in = in[n:]
	}
	k.rest = bytes.Clone(in)
	return strokes
}

// paste takes bytes up to the end of what is pasted, and returns how many.
func (k *keyboard) paste(in []byte) int {
	if before, _, ended := bytes.Cut(in, []byte(pasteEnd)); ended {
		k.pasted, k.pasting = append(k.pasted, before...), false
		return len(before) + len(pasteEnd)
	}
	n := len(in)
	for i := 1; i < len(pasteEnd); i++ { // the end may be cut
		if bytes.HasSuffix(in, []byte(pasteEnd[:i])) {
			n = len(in) - i
		}
	}
	k.pasted = append(k.pasted, in[:n]...)
	return n
}

// pastedText is what becomes of pasted bytes. Terminals send carriage returns for ends of lines.
func pastedText(pasted []byte) string {
	pasted = bytes.ReplaceAll(pasted, []byte("\r\n"), []byte("\n"))
	return visibleProse(string(bytes.ReplaceAll(pasted, []byte("\r"), []byte("\n"))))
}

// stroke is what a whole character or sequence means; ok is false if it means nothing.
func (k *keyboard) stroke(in []byte) (s keystroke, ok bool) {
	if r, size := utf8.DecodeRune(in); r >= ' ' && r != 0x7f && size == len(in) {
		if r == utf8.RuneError && size == 1 {
			return keystroke{text: string(escapeBytes(nil, in))}, true
		}
		return keystroke{text: visibleProse(string(in))}, true
	}
	_, event := k.decoder.Decode(in)
	press, ok := event.(uv.KeyPressEvent)
	if !ok {
		return s, false
	}
	if press.Text != "" {
		return keystroke{text: visibleProse(press.Text)}, true
	}
	return keystroke{key: press.Keystroke()}, true
}

// sequence returns the length of the character or the escape sequence that bytes begin with; whole is false where more bytes
// may belong to it.
func sequence(in []byte) (n int, whole bool) {
	if in[0] != esc {
		if !utf8.FullRune(in) {
			return len(in), false
		}
		_, size := utf8.DecodeRune(in)
		return size, true
	}
	if len(in) == 1 {
		return 1, false
	}
	switch in[1] {
	case 'O': // SS3 and a letter, perhaps with a number between them
		for i := 2; i < min(len(in), longestSequence); i++ {
			if in[i] < '0' || in[i] > '9' {
				return i + 1, true
			}
		}
		return len(in), len(in) >= longestSequence
	case '[':
		for i := 2; i < len(in); i++ {
			switch b := in[i]; {
			case i == 2 && b == '[': // the Linux console's function keys
			case b < ' ' || b >= 0x7f || i == longestSequence:
				return i, true
			case b >= '@' && !(i == 3 && in[2] == '['):
				return i + 1, true
			case i == 3 && in[2] == '[':
				return i + 1, true
			}
		}
		return len(in), false
	case ']', 'P', '_', '^', 'X': // answers of terminals, up to their terminator
		for i := 2; i < len(in); i++ {
			if in[i] == '\a' {
				return i + 1, true
			}
			if in[i] == '\\' && in[i-1] == esc {
				return i + 1, true
			}
		}
		return len(in), len(in) > 4096
	case esc:
		return 1, true
	}
	n, whole = sequence(in[1:])
	return n + 1, whole
}
