package tokenizer

import (
	"bytes"
	"time"
	"unicode"
	"unicode/utf8"

	"golang.org/x/text/unicode/norm"
)

// normalizer rewrites text before it is split. It must not change s; the result may
// share its memory. moved reports that the start of the text was dropped, so that
// the result's start is no longer that of the text.
type normalizer interface {
	normalize(e *encoder, s []byte) (out []byte, moved bool)
}

type normSequence []normalizer

// maxGrowth bounds the bytes that all stages together, normalizers and pre-tokenizers, may make per byte of text. Each
// stage makes a new text: 64 allows a dozen stages that keep the length, or NFKD, which grows a text up to 18 times,
// and three more.
const maxGrowth = 64

// newEncoder returns an encoder without a word cache, for the given number of pre-tokenizers and a text of n bytes.
func newEncoder(stages, n int) *encoder {
	e := &encoder{scratch: make([][]byte, stages), runeBufs: make([]runeBuf, stages+1)}
	e.allow(n)
	return e
}

// allow sets the limits for a text of n bytes.
func (e *encoder) allow(n int) {
	e.room = maxGrowth * (n + maxReplacement)
	e.steps = maxGrowth * (n + maxReplacement)
	e.deadline = time.Now().Add(matchTimeout + time.Duration(n)*matchPerByte)
}

// made spends n bytes that a stage has made or will make, and reports whether to continue.
func (e *encoder) made(n int) bool {
	if e.room -= n; e.room < 0 {
		e.fail("the normalizer and pre-tokenizers make more than %d times the bytes of the text", maxGrowth)
	}
	return e.err == nil
}

// spend spends n steps of searching for tokens. There are 64 steps per byte of text: real vocabularies have no token so
// long that searching for it at each byte in vain would take more.
func (e *encoder) spend(n int) {
	if e.steps -= n; e.steps < 0 {
		e.fail("finding tokens takes more than %d steps per byte", maxGrowth)
	}
}

func (n normSequence) normalize(e *encoder, s []byte) ([]byte, bool) {
	moved := false
	for _, p := range n {
		var m bool
		if s, m = e.normalize(p, s); e.err != nil {
			return nil, false
		}
		moved = moved || m
	}
	return s, moved
}

// normalize runs a normalizer and spends the bytes of its result.
func (e *encoder) normalize(n normalizer, s []byte) (out []byte, moved bool) {
	if _, ok := n.(normSequence); ok {
		return n.normalize(e, s) // each of its normalizers spends its own
	}
	out, moved = n.normalize(e, s)
	e.made(len(out))
	return out, moved
}

// unicodeNorm is NFC, NFD, NFKC or NFKD.
type unicodeNorm struct{ form norm.Form }

func (n unicodeNorm) normalize(_ *encoder, s []byte) ([]byte, bool) {
	if n.form.IsNormal(s) {
		return s, false
	}
	return n.form.Bytes(s), false
}

// mapNorm rewrites each character by itself; the function appends the replacement of r.
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
	if r == 0x130 { // the only character whose lower case has two
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

// nmt cleans text by SentencePiece's nmt rules.
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

// bertNorm says what BERT's normalizer does, in this order.
type bertNorm struct{ clean, chinese, strip, lower bool }

func (b bertNorm) sequence() (n normSequence) {
	if b.clean {
		n = append(n, mapNorm(bertClean))
	}
	if b.chinese {
		n = append(n, mapNorm(bertChinese))
	}
	if b.strip {
		n = append(n, unicodeNorm{norm.NFD}, mapNorm(bertAccents))
	}
	if b.lower {
		n = append(n, mapNorm(lowercase))
	}
	return n
}

// bertClean drops control characters and replaces every space by U+0020.
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

// stripNorm is Strip: it removes spaces from the left, the right or both ends.
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

// prependNorm is Prepend, which leaves an empty text empty.
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
	if k == 0 || !e.made(max(0, k*(len(n.new)-len(n.old)))) {
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
		if e.made(len(n.new)) {
			out = append(append(out, s[from:start]...), n.new...)
		}
		from = end
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
