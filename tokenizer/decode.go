package tokenizer

import (
	"strings"
	"unicode/utf8"
)

// decoder is a step of decoding, which rewrites a list of tokens. mid says that text precedes these tokens, so that
// rules for the first token don't apply. e bounds the size of the result: a decoder that would exceed it changes
// nothing.
type decoder interface {
	decode(e *encoder, toks []token, mid bool) []token
}

type decSequence []decoder

func (d decSequence) decode(e *encoder, toks []token, mid bool) []token {
	for _, p := range d {
		toks = p.decode(e, toks, mid)
	}
	return toks
}

func joined(s string) []token { return []token{{-1, s}} }

// byteLevelDecoder is ByteLevel: characters become bytes. A token with a character
// outside the alphabet, such as an added token, is not changed.
type byteLevelDecoder struct{}

func (byteLevelDecoder) decode(_ *encoder, toks []token, _ bool) []token {
	var b []byte
	for _, t := range toks {
		n := len(b)
		var ok bool
		if b, ok = byteLevelBytes(b, t.text); !ok {
			b = append(b[:n], t.text...)
		}
	}
	return joined(lossy(b))
}

// lossy decodes UTF-8 with U+FFFD for each maximal broken part (Unicode, section 3.9),
// as Rust and the WHATWG do; Go would give one for each byte.
func lossy(b []byte) string {
	if utf8.Valid(b) {
		return string(b)
	}
	var out strings.Builder
	for len(b) > 0 {
		r, n := utf8.DecodeRune(b)
		if r == utf8.RuneError && n == 1 {
			n = brokenLen(b)
		}
		out.WriteRune(r)
		b = b[n:]
	}
	return out.String()
}

// brokenLen returns the length of the maximal incomplete character that b starts with.
func brokenLen(b []byte) int {
	lo, hi, want := byte(0x80), byte(0xBF), 0
	switch c := b[0]; {
	case c >= 0xC2 && c <= 0xDF:
		want = 1
	case c >= 0xE0 && c <= 0xEF:
		want = 2
		if c == 0xE0 {
			lo = 0xA0
		} else if c == 0xED {
			hi = 0x9F
		}
	case c >= 0xF0 && c <= 0xF4:
		want = 3
		if c == 0xF0 {
			lo = 0x90
		} else if c == 0xF4 {
			hi = 0x8F
		}
	}
	n := 1
	for ; n <= want && n < len(b) && b[n] >= lo && b[n] <= hi; n++ {
		lo, hi = 0x80, 0xBF
	}
	return n
}

// byteFallbackDecoder is ByteFallback: consecutive <0xNN> tokens are decoded as UTF-8. If they
// are not valid UTF-8, each byte becomes U+FFFD.
type byteFallbackDecoder struct{}

func (byteFallbackDecoder) decode(_ *encoder, toks []token, _ bool) []token {
	var out []token
	var run []byte
	flush := func() {
		if len(run) == 0 {
			return
		}
		if utf8.Valid(run) {
			out = append(out, token{-1, string(run)})
		} else {
			out = append(out, token{-1, strings.Repeat("\uFFFD", len(run))})
		}
		run = run[:0]
	}
	for _, t := range toks {
		if b, ok := isByteToken(t.text); ok {
			run = append(run, b)
			continue
		}
		flush()
		out = append(out, t)
	}
	flush()
	return out
}

type fuseDecoder struct{}

func (fuseDecoder) decode(_ *encoder, toks []token, _ bool) []token {
	var b strings.Builder
	for _, t := range toks {
		b.WriteString(t.text)
	}
	return joined(b.String())
}

type replaceDecoder struct{ old, new string }

func (d replaceDecoder) decode(e *encoder, toks []token, _ bool) []token {
	if d.old == "" {
		return toks
	}
	for i := range toks {
		n := strings.Count(toks[i].text, d.old)
		if n > 0 && e.made(max(0, n*(len(d.new)-len(d.old)))) {
			toks[i].text = strings.ReplaceAll(toks[i].text, d.old, d.new)
		}
	}
	return toks
}

// regexReplaceDecoder is Replace with a regular expression.
type regexReplaceDecoder struct{ n replaceRegexNorm }

func (d regexReplaceDecoder) decode(e *encoder, toks []token, _ bool) []token {
	for i := range toks {
		if out, _ := d.n.normalize(e, []byte(toks[i].text)); e.err == nil {
			toks[i].text = string(out)
		}
	}
	return toks
}

// metaspaceDecoder is Metaspace; with strip it removes the first token's spaces.
type metaspaceDecoder struct {
	replacement string
	strip       bool
}

func (d metaspaceDecoder) decode(_ *encoder, toks []token, mid bool) []token {
	for i := range toks {
		space := " "
		if i == 0 && !mid && d.strip {
			space = ""
		}
		toks[i].text = strings.ReplaceAll(toks[i].text, d.replacement, space)
	}
	return toks
}

// stripDecoder is Strip: it removes content from a token, up to start times at its start and up to stop times at its
// end. fused is set if the decoders before it leave one token, whose start is then that of the text.
type stripDecoder struct {
	content     string
	start, stop int
	fused       bool
}

func (d stripDecoder) decode(_ *encoder, toks []token, mid bool) []token {
	for i := range toks {
		s := toks[i].text
		if !(mid && d.fused) {
			for k := 0; k < d.start && strings.HasPrefix(s, d.content); k++ {
				s = s[len(d.content):]
			}
		}
		for k := 0; k < d.stop && strings.HasSuffix(s, d.content); k++ {
			s = s[:len(s)-len(d.content)]
		}
		toks[i].text = s
	}
	return toks
}

// wordPieceDecoder is WordPiece: it puts a space before each token that doesn't continue a word.
type wordPieceDecoder struct {
	prefix  string
	cleanup bool
}

func (d wordPieceDecoder) decode(_ *encoder, toks []token, mid bool) []token {
	for i := range toks {
		if i > 0 || mid {
			if rest, ok := strings.CutPrefix(toks[i].text, d.prefix); ok {
				toks[i].text = rest
			} else {
				toks[i].text = " " + toks[i].text
			}
		}
		if d.cleanup {
			toks[i].text = cleanUp(toks[i].text)
		}
	}
	return toks
}

// cleanUp removes the spaces that word-piece tokenization puts before punctuation and
// contractions.
func cleanUp(s string) string {
	for _, p := range [...][2]string{
		{" .", "."}, {" ?", "?"}, {" !", "!"}, {" ,", ","}, {" ' ", "'"}, {" n't", "n't"}, {" 'm", "'m"},
		{" do not", " don't"}, {" 's", "'s"}, {" 've", "'ve"}, {" 're", "'re"},
	} {
		s = strings.ReplaceAll(s, p[0], p[1])
	}
	return s
}

// bpeDecoder is BPEDecoder: the suffix that ends a word becomes a space, except at the end.
type bpeDecoder struct{ suffix string }

func (d bpeDecoder) decode(_ *encoder, toks []token, _ bool) []token {
	for i := range toks {
		space := " "
		if i == len(toks)-1 {
			space = ""
		}
		if d.suffix != "" {
			toks[i].text = strings.ReplaceAll(toks[i].text, d.suffix, space)
		}
	}
	return toks
}

// ctcDecoder is CTC: it removes repeats and padding.
type ctcDecoder struct {
	pad, delimiter string
	cleanup        bool
}

func (d ctcDecoder) decode(_ *encoder, toks []token, _ bool) []token {
	var out []token
	for i, t := range toks {
		if i > 0 && toks[i-1].text == t.text {
			continue
		}
		s := t.text
		if d.pad != "" {
			s = strings.ReplaceAll(s, d.pad, "")
		}
		if d.cleanup {
			s = cleanUp(s)
			if d.delimiter != "" {
				s = strings.ReplaceAll(s, d.delimiter, " ")
			}
		}
		if s != "" {
			out = append(out, token{t.id, s})
		}
	}
	return out
}

// pieceDecoder is SentencePiece's Decode.
type pieceDecoder struct {
	bytes      map[int32]byte // byte pieces
	unk        int32
	unkText    string
	plain      map[int32]bool // added and control tokens, whose text is not changed
	stripFirst bool           // add_dummy_prefix or remove_extra_whitespaces
	stripAll   bool           // remove_extra_whitespaces: strip every leading space, not only one
}

func (d *pieceDecoder) decode(_ *encoder, toks []token, mid bool) []token {
	var b strings.Builder
	var run []byte
	flush := func() {
		for len(run) > 0 {
			r, n := utf8.DecodeRune(run)
			b.WriteRune(r)
			run = run[n:]
		}
	}
	atStart, seen := !mid, false
	for _, t := range toks {
		if c, ok := d.bytes[t.id]; ok {
			run = append(run, c)
			continue
		}
		flush()
		if seen || b.Len() > 0 {
			atStart = false
		}
		seen = false
		switch {
		case t.id == d.unk:
			b.WriteString(d.unkText)
		case d.plain[t.id]:
			b.WriteString(t.text)
		default:
			s := t.text
			if atStart && d.stripFirst {
				var ok bool
				if s, ok = strings.CutPrefix(s, spaceSymbol); ok && !d.stripAll {
					seen = true
				}
			}
			b.WriteString(strings.ReplaceAll(s, spaceSymbol, " "))
		}
	}
	flush()
	return joined(b.String())
}
