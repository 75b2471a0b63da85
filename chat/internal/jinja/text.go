package jinja

import (
	"strings"
	"unicode"
	"unicode/utf8"
)

// text is a string value that knows which of its bytes are foreign: foreign is sorted, disjoint and not adjacent.
type text struct {
	s       string
	foreign []span
}

type span struct{ from, to int }

func literal(s string) text { return text{s: s} }

func foreignText(s string) text {
	if s == "" {
		return text{}
	}
	return text{s: s, foreign: []span{{0, len(s)}}}
}

// like returns s marked foreign if any byte of t is: for operations that do not keep bytes apart.
func (t text) like(s string) text {
	if len(t.foreign) > 0 {
		return foreignText(s)
	}
	return literal(s)
}

// slice returns the bytes [from, to).
func (t text) slice(from, to int) text {
	out := text{s: t.s[from:to]}
	for _, f := range t.foreign {
		if a, b := max(f.from, from), min(f.to, to); a < b {
			out.foreign = append(out.foreign, span{a - from, b - from})
		}
	}
	return out
}

func (t text) spans() []Span {
	var out []Span
	at := 0
	for _, f := range t.foreign {
		if at < f.from {
			out = append(out, Span{Text: t.s[at:f.from]})
		}
		out = append(out, Span{Text: t.s[f.from:f.to], Foreign: true})
		at = f.to
	}
	if at < len(t.s) {
		out = append(out, Span{Text: t.s[at:]})
	}
	return out
}

// each maps every uniform piece of t by f, keeping its mark.
func (t text) each(in *interp, f func(string) string) text {
	b := builder{in: in}
	for _, s := range t.spans() {
		piece := literal(f(s.Text))
		if s.Foreign {
			piece = foreignText(piece.s)
		}
		b.write(piece)
	}
	return b.text()
}

// builder joins texts.
type builder struct {
	in      *interp
	b       []byte
	foreign []span
}

func (b *builder) write(t text) {
	b.in.charge(len(t.s))
	at := len(b.b)
	b.b = append(b.b, t.s...)
	for _, f := range t.foreign {
		f.from += at
		f.to += at
		if n := len(b.foreign); n > 0 && b.foreign[n-1].to == f.from {
			b.foreign[n-1].to = f.to
		} else {
			b.foreign = append(b.foreign, f)
		}
	}
}

func (b *builder) writeString(s string) {
	b.in.charge(len(s))
	b.b = append(b.b, s...)
}

func (b *builder) text() text { return text{s: string(b.b), foreign: b.foreign} }

func (in *interp) join(parts ...text) text {
	b := builder{in: in}
	for _, p := range parts {
		b.write(p)
	}
	return b.text()
}

func (t text) len() int { return utf8.RuneCountInString(t.s) }

// isSpace is Python's str.isspace for a character.
func isSpace(r rune) bool { return unicode.IsSpace(r) || (r >= 0x1c && r <= 0x1f) }

// strip cuts the characters for which cut holds, on the left, the right, or both.
func (t text) strip(left, right bool, cut func(rune) bool) text {
	from, to := 0, len(t.s)
	if left {
		from = to - len(strings.TrimLeftFunc(t.s, cut))
	}
	if right {
		to = from + len(strings.TrimRightFunc(t.s[from:], cut))
	}
	return t.slice(from, to)
}

// split is Python's str.split: at sep, or at runs of white space when sep is empty; at most limit cuts, limit < 0 any number.
func (t text) split(in *interp, sep string, limit int) []any {
	in.charge(len(t.s))
	var out []any
	if sep != "" {
		from := 0
		for limit != 0 {
			i := strings.Index(t.s[from:], sep)
			if i < 0 {
				break
			}
			in.charge(48)
			out = append(out, t.slice(from, from+i))
			from += i + len(sep)
			limit--
		}
		return append(out, t.slice(from, len(t.s)))
	}
	rest := t.strip(true, false, isSpace)
	for rest.s != "" {
		i := strings.IndexFunc(rest.s, isSpace)
		if i < 0 || limit == 0 {
			return append(out, rest)
		}
		in.charge(48)
		out = append(out, rest.slice(0, i))
		rest = rest.slice(i, len(rest.s)).strip(true, false, isSpace)
		limit--
	}
	return out
}

// rsplit is split from the right.
func (t text) rsplit(in *interp, sep string, limit int) []any {
	if sep == "" || limit < 0 {
		if limit >= 0 {
			fail("rsplit with a limit needs a separator")
		}
		return t.split(in, sep, limit)
	}
	in.charge(len(t.s))
	var out []any
	to := len(t.s)
	for limit > 0 {
		i := strings.LastIndex(t.s[:to], sep)
		if i < 0 {
			break
		}
		in.charge(48)
		out = append(out, t.slice(i+len(sep), to))
		to = i
		limit--
	}
	out = append(out, t.slice(0, to))
	for i, j := 0, len(out)-1; i < j; i, j = i+1, j-1 {
		out[i], out[j] = out[j], out[i]
	}
	return out
}

// replace puts new for old, at most limit times, limit < 0 always.
func (t text) replace(in *interp, old string, new text, limit int) text {
	b := builder{in: in}
	in.charge(len(t.s))
	from := 0
	if old == "" {
		for i, r := range t.s {
			if limit == 0 {
				break
			}
			b.write(new)
			b.write(t.slice(i, i+utf8.RuneLen(r)))
			from = i + utf8.RuneLen(r)
			limit--
		}
		if limit != 0 {
			b.write(new)
		}
	} else {
		for limit != 0 {
			i := strings.Index(t.s[from:], old)
			if i < 0 {
				break
			}
			b.write(t.slice(from, from+i))
			b.write(new)
			from += i + len(old)
			limit--
		}
	}
	b.write(t.slice(from, len(t.s)))
	return b.text()
}

// chars returns the characters, each a text.
func (t text) chars(in *interp) []any {
	in.charge(48 * len(t.s))
	out := make([]any, 0, len(t.s))
	for i := 0; i < len(t.s); {
		_, n := utf8.DecodeRuneInString(t.s[i:])
		out = append(out, t.slice(i, i+n))
		i += n
	}
	return out
}

// title is Python's str.title: a letter after a non-letter is upper case, any other lower case.
func title(s string) string {
	var b strings.Builder
	inWord := false
	for _, r := range s {
		if inWord {
			b.WriteRune(unicode.ToLower(r))
		} else {
			b.WriteRune(unicode.ToTitle(r))
		}
		inWord = unicode.IsLetter(r)
	}
	return b.String()
}

// titleFilter is jinja2's filter of that name: words start after '-', '(', '{', '[', '<' and white space only.
func titleFilter(s string) string {
	var b strings.Builder
	inWord := false
	for _, r := range s {
		if inWord {
			b.WriteRune(unicode.ToLower(r))
		} else {
			b.WriteRune(unicode.ToUpper(r))
		}
		inWord = !isSpace(r) && !strings.ContainsRune("-({[<", r)
	}
	return b.String()
}

func capitalize(s string) string {
	r, n := utf8.DecodeRuneInString(s)
	if n == 0 {
		return s
	}
	return string(unicode.ToTitle(r)) + strings.ToLower(s[n:])
}
