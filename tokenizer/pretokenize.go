package tokenizer

import (
	"bytes"
	"cmp"
	"slices"
	"sort"
	"sync"
	"unicode"
	"unicode/utf8"
)

// preTokenizer splits text into pre-tokens, and may rewrite it. Pre-tokens
// passed to emit are valid until emit returns. first says that s begins the
// whole text; stage is the index of the encoder's scratch buffer to use.
type preTokenizer interface {
	split(e *encoder, stage int, s []byte, first bool, emit func(s []byte, first bool))
}

// classSplit splits on single characters of a class.
type classSplit struct {
	class  uint8
	how    behavior
	except rune // a character of the class to ignore; 0 for none
}

func (p classSplit) split(_ *encoder, _ int, s []byte, first bool, emit func([]byte, bool)) {
	t := bmpClass()
	sp := splitter{s: s, first: first, how: p.how, emit: emit}
	for i := 0; i < len(s); {
		r, n := decodeRune(s[i:])
		if classOf(t, r)&p.class != 0 && (r != p.except || r == 0) {
			sp.found(i, i+n)
		}
		i += n
	}
	sp.finish()
}

// bertSplit is BERT's pre-tokenizer: words and single punctuation characters.
func bertSplit() []preTokenizer {
	return []preTokenizer{classSplit{class: classSpace, how: removed}, classSplit{class: classPunct, how: isolated}}
}

// stringSplit splits on every occurrence of a string.
type stringSplit struct {
	pattern []byte
	how     behavior
	invert  bool
}

func (p stringSplit) split(_ *encoder, _ int, s []byte, first bool, emit func([]byte, bool)) {
	sp := splitter{s: s, first: first, how: p.how, invert: p.invert, emit: emit}
	if len(p.pattern) > 0 {
		for i := 0; ; {
			k := bytes.Index(s[i:], p.pattern)
			if k < 0 {
				break
			}
			sp.found(i+k, i+k+len(p.pattern))
			i += k + len(p.pattern)
		}
	}
	sp.finish()
}

// scanSplit splits with a scanner whose matches cover the text.
type scanSplit struct {
	scan   func([]byte) int
	how    behavior
	invert bool
}

func (p scanSplit) split(_ *encoder, _ int, s []byte, first bool, emit func([]byte, bool)) {
	if p.how == isolated {
		for i := 0; i < len(s); {
			n := p.scan(s[i:])
			emit(s[i:i+n], first && i == 0)
			i += n
		}
		return
	}
	sp := splitter{s: s, first: first, how: p.how, invert: p.invert, emit: emit}
	for i := 0; i < len(s); {
		n := p.scan(s[i:])
		sp.found(i, i+n)
		i += n
	}
	sp.finish()
}

// digitSplit splits consecutive digits as \p{N}{1,max} does, or as [0-9]{max} with exact set.
type digitSplit struct {
	max    int
	ascii  bool // [0-9] instead of \p{N}
	exact  bool // max digits, not fewer
	how    behavior
	invert bool
}

func (p digitSplit) split(_ *encoder, _ int, s []byte, first bool, emit func([]byte, bool)) {
	t := bmpClass()
	sp := splitter{s: s, first: first, how: p.how, invert: p.invert, emit: emit}
	start, count := 0, 0
	for i := 0; i < len(s); {
		r, n := decodeRune(s[i:])
		digit := classOf(t, r)&classNumber != 0
		if p.ascii {
			digit = r >= '0' && r <= '9'
		}
		if digit {
			if count == 0 {
				start = i
			}
			if count++; count == p.max {
				sp.found(start, i+n)
				count = 0
			}
		} else {
			if count > 0 && !p.exact {
				sp.found(start, i)
			}
			count = 0
		}
		i += n
	}
	if count > 0 && !p.exact {
		sp.found(start, len(s))
	}
	sp.finish()
}

// regexSplit splits on the matches of a regular expression.
type regexSplit struct {
	re     *pattern
	how    behavior
	invert bool
}

func (p regexSplit) split(e *encoder, stage int, s []byte, first bool, emit func([]byte, bool)) {
	sp := splitter{s: s, first: first, how: p.how, invert: p.invert, emit: emit}
	if !p.re.each(e, stage, s, sp.found) {
		return
	}
	sp.finish()
}

// byteLevelSplit is ByteLevel: it may put a space before the text, splits by GPT-2's pattern,
// then maps every byte to a character. raw leaves out the last step, for a model that
// works on bytes.
type byteLevelSplit struct {
	addPrefixSpace, useRegex, raw bool
}

func (p byteLevelSplit) split(e *encoder, stage int, s []byte, first bool, emit func([]byte, bool)) {
	if p.addPrefixSpace && !e.goesOn() && s[0] != ' ' {
		s = append([]byte{' '}, s...)
	}
	for i := 0; i < len(s); {
		n := len(s)
		if p.useRegex {
			n = scanGPT2(s[i:])
		}
		w := s[i : i+n]
		if !p.raw {
			e.scratch[stage] = appendByteLevel(e.scratch[stage][:0], w)
			w = e.scratch[stage]
		}
		emit(w, first && i == 0)
		i += n
	}
}

// metaspaceSplit is Metaspace: spaces become replacement, and a pre-token starts at each.
type metaspaceSplit struct {
	replacement string
	prepend     uint8 // one of the prepend constants
	cut         bool
}

const (
	prependNever = iota
	prependFirst // only at the start of the whole text
	prependAlways
)

func (p metaspaceSplit) split(e *encoder, stage int, s []byte, first bool, emit func([]byte, bool)) {
	b := e.scratch[stage][:0]
	if (p.prepend == prependAlways || p.prepend == prependFirst && first) && !e.goesOn() {
		if s[0] != ' ' && !bytes.HasPrefix(s, []byte(p.replacement)) {
			b = append(b, p.replacement...)
		}
	}
	for _, c := range s {
		if c == ' ' {
			b = append(b, p.replacement...)
		} else {
			b = append(b, c)
		}
	}
	e.scratch[stage] = b
	if !p.cut {
		emit(b, first)
		return
	}
	sep := []byte(p.replacement)
	for start := 0; start < len(b); {
		end := len(b)
		if from := start + 1; from < len(b) {
			if k := bytes.Index(b[from:], sep); k >= 0 {
				end = from + k
			}
		}
		emit(b[start:end], first && start == 0)
		start = end
	}
}

// wordSplit is Whitespace: pre-tokens match \w+ or [^\w\s]+, and spaces are dropped.
type wordSplit struct{}

func (wordSplit) split(_ *encoder, _ int, s []byte, first bool, emit func([]byte, bool)) {
	t := bmpClass()
	for i := 0; i < len(s); {
		r, n := decodeRune(s[i:])
		var end int
		switch c := classOf(t, r); {
		case c&classWord != 0:
			end = runWhile(t, s, i+n, classWord)
		case c&classSpace == 0:
			end = runUntil(t, s, i+n, classWord|classSpace)
		default:
			i += n
			continue
		}
		emit(s[i:end], first && i == 0)
		i = end
	}
}

// charSplit is CharDelimiterSplit.
type charSplit struct{ r rune }

func (p charSplit) split(e *encoder, stage int, s []byte, first bool, emit func([]byte, bool)) {
	stringSplit{pattern: utf8.AppendRune(nil, p.r), how: removed}.split(e, stage, s, first, emit)
}

// fixedSplit is FixedLength: pre-tokens have length characters.
type fixedSplit struct{ length int }

func (p fixedSplit) split(_ *encoder, _ int, s []byte, first bool, emit func([]byte, bool)) {
	start, count := 0, 0
	for i := 0; i < len(s); {
		_, n := decodeRune(s[i:])
		i += n
		if count++; count == p.length || i == len(s) {
			emit(s[start:i], first && start == 0)
			start, count = i, 0
		}
	}
}

// scriptSplit is UnicodeScripts: it cuts where the script changes. Hiragana and Katakana
// count as Han, and a space as the script around it; leading spaces are lost, as in
// Hugging Face's library.
type scriptSplit struct{}

func (scriptSplit) split(_ *encoder, _ int, s []byte, first bool, emit func([]byte, bool)) {
	start, last := -1, ""
	for i := 0; i < len(s); {
		r, n := decodeRune(s[i:])
		if script := scriptOf(r); script != "" {
			if script != last {
				if start >= 0 {
					emit(s[start:i], first && start == 0)
				}
				start = i
			}
			last = script
		}
		i += n
	}
	if start >= 0 {
		emit(s[start:], first && start == 0)
	}
}

func scriptOf(r rune) string {
	switch {
	case r == ' ':
		return ""
	case r == 0x30FC:
		return "Han"
	case r < utf8.RuneSelf:
		if r|0x20 >= 'a' && r|0x20 <= 'z' {
			return "Latin"
		}
		return "Common"
	case unicode.In(r, unicode.Han, unicode.Hiragana, unicode.Katakana):
		return "Han"
	}
	ranges := scriptRanges()
	i := sort.Search(len(ranges), func(i int) bool { return ranges[i].last >= r })
	if i < len(ranges) && ranges[i].first <= r {
		return ranges[i].name
	}
	return ""
}

// scriptRange is a range of characters of one script.
type scriptRange struct {
	first, last rune
	name        string
}

// scriptRanges lists the scripts in order of their characters: searching unicode.Scripts takes microseconds.
var scriptRanges = sync.OnceValue(func() []scriptRange {
	var all []scriptRange
	for name, table := range unicode.Scripts {
		add := func(first, last, stride rune) {
			if stride == 1 {
				all = append(all, scriptRange{first, last, name})
				return
			}
			for r := first; r <= last; r += stride {
				all = append(all, scriptRange{r, r, name})
			}
		}
		for _, r := range table.R16 {
			add(rune(r.Lo), rune(r.Hi), rune(r.Stride))
		}
		for _, r := range table.R32 {
			add(rune(r.Lo), rune(r.Hi), rune(r.Stride))
		}
	}
	slices.SortFunc(all, func(a, b scriptRange) int { return cmp.Compare(a.first, b.first) })
	return all
})
