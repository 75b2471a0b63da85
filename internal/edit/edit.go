// Package edit is the text that a person types and the cursor in it. A Buffer moves and removes what a person takes for a
// character, a grapheme cluster of any number of code points. The package reads no keys and draws nothing.
package edit

import (
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/rivo/uniseg"
)

// A Buffer is a text of lines that are separated by newlines, and a cursor between two clusters of it. The zero value is
// empty.
type Buffer struct {
	text   string
	at     int    // byte index of the cursor
	killed string // what the last kill removed
	goal   int    // the column to which Vertical goes, from 1; 0: that of the cursor
}

// Text returns the text.
func (b *Buffer) Text() string { return b.text }

// Before returns the text before the cursor.
func (b *Buffer) Before() string { return b.text[:b.at] }

// Set replaces the text and puts the cursor at its end.
func (b *Buffer) Set(text string) { b.text, b.at, b.goal = text, len(text), 0 }

// Insert inserts text at the cursor. A combining mark joins the cluster before it.
func (b *Buffer) Insert(text string) {
	b.text = b.text[:b.at] + text + b.text[b.at:]
	b.at, b.goal = b.boundary(b.at+len(text)), 0
}

// ReplaceBefore replaces the n bytes before the cursor.
func (b *Buffer) ReplaceBefore(n int, text string) {
	b.cut(b.at-n, b.at)
	b.Insert(text)
}

// boundary is the end of the cluster that the byte before at belongs to.
func (b *Buffer) boundary(at int) int {
	end := b.lineStart(at)
	for end < at {
		end = b.after(end)
	}
	return end
}

// after is the end of the cluster that begins at byte at. What is followed by ASCII, or nothing, joins nothing.
func (b *Buffer) after(at int) int {
	if b.text[at] < utf8.RuneSelf && b.text[at] != '\r' && (at+1 == len(b.text) || b.text[at+1] < utf8.RuneSelf) {
		return at + 1
	}
	cluster, _, _, _ := uniseg.FirstGraphemeClusterInString(b.text[at:], -1)
	return at + len(cluster)
}

// before is the beginning of the cluster that ends at byte at.
func (b *Buffer) before(at int) int {
	if at == 0 {
		return 0
	}
	if b.text[at-1] == '\n' {
		return at - 1
	}
	begin := b.lineStart(at)
	for end := b.after(begin); end < at; end = b.after(begin) {
		begin = end
	}
	return begin
}

func (b *Buffer) lineStart(at int) int { return strings.LastIndexByte(b.text[:at], '\n') + 1 }

func (b *Buffer) lineEnd(at int) int {
	if n := strings.IndexByte(b.text[at:], '\n'); n >= 0 {
		return at + n
	}
	return len(b.text)
}

// inWord reports whether a word goes on with a character.
func inWord(r rune) bool {
	return unicode.IsLetter(r) || unicode.IsNumber(r) || unicode.IsMark(r) || r == '_'
}

func isSpace(r rune) bool { return unicode.IsSpace(r) }

func notSpace(r rune) bool { return !isSpace(r) }

func notInWord(r rune) bool { return !inWord(r) }

// skipLeft is the position before the characters left of at for which is holds.
func (b *Buffer) skipLeft(at int, is func(rune) bool) int {
	for at > 0 {
		r, size := utf8.DecodeLastRuneInString(b.text[:at])
		if !is(r) {
			break
		}
		at -= size
	}
	return at
}

// skipRight is the position behind the characters right of at for which is holds.
func (b *Buffer) skipRight(at int, is func(rune) bool) int {
	for at < len(b.text) {
		r, size := utf8.DecodeRuneInString(b.text[at:])
		if !is(r) {
			break
		}
		at += size
	}
	return at
}

func (b *Buffer) wordLeft() int  { return b.skipLeft(b.skipLeft(b.at, notInWord), inWord) }
func (b *Buffer) wordRight() int { return b.skipRight(b.skipRight(b.at, notInWord), inWord) }

// Do edits as a key asks, and reports whether it is one of the keys that edit. Keys have the names of package ultraviolet.
func (b *Buffer) Do(key string) bool {
	b.goal = 0
	switch key {
	case "left", "ctrl+b":
		b.at = b.before(b.at)
	case "right", "ctrl+f":
		if b.at < len(b.text) {
			b.at = b.after(b.at)
		}
	case "ctrl+left", "alt+left", "alt+b":
		b.at = b.wordLeft()
	case "ctrl+right", "alt+right", "alt+f":
		b.at = b.wordRight()
	case "home", "ctrl+a":
		b.at = b.lineStart(b.at)
	case "end", "ctrl+e":
		b.at = b.lineEnd(b.at)
	case "ctrl+home", "alt+<":
		b.at = 0
	case "ctrl+end", "alt+>":
		b.at = len(b.text)
	case "backspace", "ctrl+h", "shift+backspace":
		b.cut(b.before(b.at), b.at)
	case "delete", "ctrl+d":
		if b.at < len(b.text) {
			b.cut(b.at, b.after(b.at))
		}
	case "ctrl+w":
		b.kill(b.skipLeft(b.skipLeft(b.at, isSpace), notSpace), b.at)
	case "alt+backspace", "ctrl+backspace":
		b.kill(b.wordLeft(), b.at)
	case "alt+d", "ctrl+delete", "alt+delete":
		b.kill(b.at, b.wordRight())
	case "ctrl+u":
		b.kill(b.lineStart(b.at), b.at)
	case "ctrl+k":
		if end := b.lineEnd(b.at); end > b.at {
			b.kill(b.at, end)
		} else if end < len(b.text) {
			b.kill(end, end+1)
		}
	case "ctrl+y":
		b.Insert(b.killed)
	case "ctrl+t":
		b.transpose()
	case "alt+enter", "shift+enter":
		b.Insert("\n")
	default:
		return false
	}
	return true
}

func (b *Buffer) cut(from, to int) {
	b.text = b.text[:from] + b.text[to:]
	b.at = from
}

func (b *Buffer) kill(from, to int) {
	if from < to {
		b.killed = b.text[from:to]
		b.cut(from, to)
	}
}

// transpose exchanges the clusters beside the cursor, or the two before it at the end of a line.
func (b *Buffer) transpose() {
	middle := b.at
	if middle == b.lineEnd(middle) {
		middle = b.before(middle)
	}
	begin := b.before(middle)
	if begin == middle || b.text[begin] == '\n' || middle == len(b.text) || b.text[middle] == '\n' {
		return
	}
	end := b.after(middle)
	b.text = b.text[:begin] + b.text[middle:end] + b.text[begin:middle] + b.text[end:]
	b.at = end
}
