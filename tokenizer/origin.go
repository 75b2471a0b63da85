package tokenizer

import (
	"bytes"
	"slices"
	"unicode"

	"github.com/rivo/uniseg"
)

// normalized normalizes s. foreign says which bytes of s are foreign, and outForeign which bytes of out derive from
// these. A nil foreign stays nil.
func (t *Tokenizer) normalized(e *encoder, s []byte, foreign []bool) (out []byte, outForeign []bool, moved bool) {
	if t.normalizer == nil {
		return s, foreign, false
	}
	out, moved = e.normalize(t.normalizer, s)
	if foreign == nil || e.err != nil {
		return out, nil, moved
	}
	if alike := !slices.Contains(foreign, !foreign[0]); alike {
		return out, slices.Repeat(foreign[:1], len(out)), moved
	}
	o := &origin{}
	o.rewrite(t.normalizer, e, s, foreign)
	if !bytes.Equal(o.text, out) { // a bug: take everything as foreign, which is safe
		return out, slices.Repeat([]bool{true}, len(out)), moved
	}
	return out, o.foreign, moved
}

// origin collects normalized text and records which of its bytes are foreign.
type origin struct {
	text    []byte
	foreign []bool
}

func (o *origin) add(text []byte, foreign bool) {
	o.text = append(o.text, text...)
	o.foreign = append(o.foreign, slices.Repeat([]bool{foreign}, len(text))...)
}

func (o *origin) keep(text []byte, foreign []bool) {
	o.text = append(o.text, text...)
	o.foreign = append(o.foreign, foreign...)
}

// rewrite appends the result of n for s. It does the same as n.normalize, but in small steps and slowly, so that it can
// follow foreign bytes.
func (o *origin) rewrite(n normalizer, e *encoder, s []byte, foreign []bool) {
	alone := func(s []byte) []byte { out, _ := n.normalize(e, s); return out }
	// each normalizes sections of s that do not depend on each other.
	each := func(length func(s []byte) int) {
		for i := 0; i < len(s) && e.err == nil; {
			k := i + length(s[i:])
			if out := alone(s[i:k]); bytes.Equal(out, s[i:k]) {
				o.keep(out, foreign[i:k])
			} else {
				o.add(out, slices.Contains(foreign[i:k], true))
			}
			i = k
		}
	}
	runeLen := func(s []byte) int { _, k := decodeRune(s); return k }
	switch n := n.(type) {
	case normSequence:
		for _, p := range n {
			step := &origin{}
			step.rewrite(p, e, s, foreign)
			s, foreign = step.text, step.foreign
		}
		o.keep(s, foreign)
	case unicodeNorm:
		each(func(s []byte) int { return n.form.NextBoundary(s, true) })
	case mapNorm:
		each(runeLen)
	case byteLevelNorm:
		each(func([]byte) int { return 1 })
	case precompiledNorm:
		each(func(s []byte) int { c, _, _, _ := uniseg.FirstGraphemeCluster(s, -1); return len(c) })
	case stripNorm:
		from := 0
		if n.left {
			from = len(s) - len(bytes.TrimLeftFunc(s, unicode.IsSpace))
		}
		k := len(alone(s))
		o.keep(s[from:from+k], foreign[from:from+k])
	case prependNorm:
		if len(s) > 0 {
			o.add(n.text, foreign[0])
		}
		o.keep(s, foreign)
	case replaceNorm:
		for i := 0; i < len(s); {
			k := -1
			if len(n.old) > 0 {
				k = bytes.Index(s[i:], n.old)
			}
			if k < 0 {
				o.keep(s[i:], foreign[i:])
				break
			}
			o.keep(s[i:i+k], foreign[i:i+k])
			i += k
			o.add(n.new, slices.Contains(foreign[i:i+len(n.old)], true))
			i += len(n.old)
		}
	case replaceRegexNorm:
		from := 0
		n.re.each(e, len(e.runeBufs)-1, s, func(start, end int) {
			o.keep(s[from:start], foreign[from:start])
			// The replacement of an empty match derives from the text on both sides.
			o.add(n.new, slices.Contains(foreign[max(0, start-1):min(len(s), end+1)], true))
			from = end
		})
		o.keep(s[from:], foreign[from:])
	case *pieceNorm:
		o.pieces(n, e, s, foreign)
	}
}

// pieces is rewrite for SentencePiece's normalizer.
func (o *origin) pieces(p *pieceNorm, e *encoder, s []byte, foreign []bool) {
	skip := func(n int) { s, foreign = s[n:], foreign[n:] }
	for p.removeExtraWhitespaces && len(s) > 0 {
		r, n := p.next(e, s)
		if string(r) != " " {
			break
		}
		skip(n)
	}
	if len(s) == 0 {
		return
	}
	space := []byte(" ")
	if p.escapeWhitespaces {
		space = []byte(spaceSymbol)
	}
	if p.addDummyPrefix && !p.whitespaceAsSuffix {
		o.add(space, foreign[0])
	}
	last := foreign[len(foreign)-1]
	afterSpace := p.removeExtraWhitespaces
	for len(s) > 0 {
		r, n := p.next(e, s)
		from := foreign[:n]
		if !bytes.Equal(r, s[:n]) {
			from = slices.Repeat([]bool{slices.Contains(from, true)}, len(r))
		}
		for afterSpace && len(r) > 0 && r[0] == ' ' {
			r, from = r[1:], from[1:]
		}
		for i, c := range r {
			if c == ' ' {
				o.add(space, from[i])
			} else {
				o.add([]byte{c}, from[i])
			}
		}
		if len(r) > 0 {
			afterSpace = r[len(r)-1] == ' '
		}
		afterSpace = afterSpace && p.removeExtraWhitespaces
		skip(n)
	}
	if p.removeExtraWhitespaces {
		for bytes.HasSuffix(o.text, space) {
			o.text = o.text[:len(o.text)-len(space)]
			o.foreign = o.foreign[:len(o.text)]
		}
	}
	if p.addDummyPrefix && p.whitespaceAsSuffix {
		o.add(space, last)
	}
}
