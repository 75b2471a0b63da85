package tokenizer

import (
	"bytes"
	"unicode"
	"unicode/utf8"

	"golang.org/x/text/unicode/norm"
)

// normalizer rewrites text before it is split. It must not change s; the result may
// share its memory. moved reports that the start of the text was dropped, so that
// what is left no longer begins the original.
type normalizer interface {
	normalize(e *encoder, s []byte) (out []byte, moved bool)
}

type normSequence []normalizer

// maxGrowth bounds what normalizers may make of a text; NFKD's worst is 18.
const maxGrowth = 64

// grown reports whether a text of n bytes has become too long to go on, or normalizing failed.
func (e *encoder) grown(out, n int) bool {
	if out > maxGrowth*(n+maxPiece) {
		e.fail("the normalizer makes the text more than %d times as long", maxGrowth)
	}
	return e.err != nil
}

func (n normSequence) normalize(e *encoder, s []byte) ([]byte, bool) {
	moved := false
	full := len(s)
	for _, p := range n {
		var m bool
		s, m = p.normalize(e, s)
		moved = moved || m
		if e.grown(len(s), full) {
			return nil, false
		}
	}
	return s, moved
}

// unicodeNorm is NFC, NFD, NFKC or NFKD.
type unicodeNorm struct{ form norm.Form }

func (n unicodeNorm) normalize(_ *encoder, s []byte) ([]byte, bool) {
	if n.form.IsNormal(s) {
		return s, false
	}
	return n.form.Bytes(s), false
}

// mapNorm rewrites each character alone; the function appends what replaces r.
type mapNorm func(dst []byte, r rune) []byte

func (n mapNorm) normalize(_ *encoder, s []byte) ([]byte, bool) {
	out := make([]byte, 0, len(s)+len(s)/8)
	moved := false
	for i := 0; i < len(s); {
		r, k := decodeRune(s[i:])
		i += k
		out = n(out, r)
		moved = moved || len(out) == 0
	}
	return out, moved
}

func lowercase(dst []byte, r rune) []byte {
	if r == 0x130 { // the one lower case of two characters
		return append(dst, "i\u0307"...)
	}
	return utf8.AppendRune(dst, unicode.ToLower(r))
}

func stripAccents(dst []byte, r rune) []byte {
	if unicode.Is(unicode.M, r) {
		return dst
	}
	return utf8.AppendRune(dst, r)
}

// nmt is the cleaning of SentencePiece's nmt rules.
func nmt(dst []byte, r rune) []byte {
	switch {
	case r >= 1 && r <= 8, r == 0xB, r >= 0xE && r <= 0x1F, r == 0x7F, r == 0x8F, r == 0x9F:
		return dst
	case r == '\t', r == '\n', r == '\f', r == '\r', r == 0x1680, r >= 0x200B && r <= 0x200F,
		r == 0x2028, r == 0x2029, r == 0x2581, r == 0xFEFF, r == 0xFFFD:
		return append(dst, ' ')
	}
	return utf8.AppendRune(dst, r)
}

// bertClean drops control characters and makes every space a plain one.
func bertClean(dst []byte, r rune) []byte {
	c := classOf(bmpClass(), r)
	switch {
	case r == '\t', r == '\n', r == '\r', c&(classSpace|classControl) == classSpace:
		return append(dst, ' ')
	case r == utf8.RuneError, c&classControl != 0:
		return dst
	}
	return utf8.AppendRune(dst, r)
}

// bertChinese puts spaces around CJK ideographs.
func bertChinese(dst []byte, r rune) []byte {
	if r >= 0x3400 && (r <= 0x4DBF || r >= 0x4E00 && r <= 0x9FFF || r >= 0xF900 && r <= 0xFAFF ||
		r >= 0x20000 && r <= 0x2A6DF || r >= 0x2A700 && r <= 0x2B81F ||
		r >= 0x2B920 && r <= 0x2CEAF || r >= 0x2F800 && r <= 0x2FA1F) { // 2B920: as the reference has it
		return append(utf8.AppendRune(append(dst, ' '), r), ' ')
	}
	return utf8.AppendRune(dst, r)
}

func bertAccents(dst []byte, r rune) []byte {
	if unicode.Is(unicode.Mn, r) {
		return dst
	}
	return utf8.AppendRune(dst, r)
}

// stripNorm is Strip: spaces go from the left, the right or both ends.
type stripNorm struct{ left, right bool }

func (n stripNorm) normalize(_ *encoder, s []byte) ([]byte, bool) {
	before := len(s)
	if n.left {
		s = bytes.TrimLeftFunc(s, unicode.IsSpace)
	}
	moved := len(s) < before
	if n.right {
		s = bytes.TrimRightFunc(s, unicode.IsSpace)
	}
	return s, moved
}

// prependNorm is Prepend: nothing goes before an empty text.
type prependNorm struct{ text []byte }

func (n prependNorm) normalize(_ *encoder, s []byte) ([]byte, bool) {
	if len(s) == 0 {
		return s, false
	}
	return append(append(make([]byte, 0, len(n.text)+len(s)), n.text...), s...), false
}

// replaceNorm is Replace with a string.
type replaceNorm struct{ old, new []byte }

func (n replaceNorm) normalize(e *encoder, s []byte) ([]byte, bool) {
	if len(n.old) == 0 {
		return s, false
	}
	k := bytes.Count(s, n.old)
	if k == 0 || e.grown(len(s)+k*(len(n.new)-len(n.old)), len(s)) {
		return s, false
	}
	return bytes.ReplaceAll(s, n.old, n.new), len(n.new) == 0 && bytes.HasPrefix(s, n.old)
}

// replaceRegexNorm is Replace with a regular expression; the replacement is literal.
type replaceRegexNorm struct {
	re  *pattern
	new []byte
}

func (n replaceRegexNorm) normalize(e *encoder, s []byte) ([]byte, bool) {
	var out []byte
	from, moved := 0, false
	if !n.re.each(e, len(e.runeBufs)-1, s, func(start, end int) {
		moved = moved || start == 0 && end > 0 && len(n.new) == 0
		out = append(append(out, s[from:start]...), n.new...)
		from = end
		e.grown(len(out), len(s))
	}) {
		return nil, false
	}
	return append(out, s[from:]...), moved
}

// byteLevelNorm is ByteLevel as a normalizer.
type byteLevelNorm struct{}

func (byteLevelNorm) normalize(_ *encoder, s []byte) ([]byte, bool) {
	return appendByteLevel(make([]byte, 0, len(s)+len(s)/2), s), false
}
