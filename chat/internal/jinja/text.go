package jinja

import (
	"slices"
	"sort"
	"strings"
	"unicode"
	"unicode/utf8"
)

// text is a string value that records which of its bytes are foreign: the ranges in foreign are sorted, disjoint and
// not adjacent.
type text struct {
	s       string
	foreign []span
}

type span struct{ from, to int }

// within returns the foreign ranges that overlap the bytes [from, to).
func (t text) within(from, to int) []span {
	i := sort.Search(len(t.foreign), func(i int) bool { return t.foreign[i].to > from })
	n := sort.Search(len(t.foreign)-i, func(n int) bool { return t.foreign[i+n].from >= to })
	return t.foreign[i : i+n]
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

// each applies f to every span of t that is all foreign or all own, and keeps that property.
func (t text) each(in *interp, f func(string) string) text {
	b := in.builder()
	for _, s := range t.spans() {
		piece := f(s.Text)
		if s.Foreign {
			b.write(in.foreign(piece))
		} else {
			b.writeString(piece)
		}
	}
	return b.text()
}

func (in *interp) join(parts ...text) text {
	b := in.builder()
	for _, p := range parts {
		b.write(p)
	}
	return b.text()
}

func (t text) len() int { return utf8.RuneCountInString(t.s) }

// isSpace is Python's str.isspace for a character.
func isSpace(r rune) bool { return unicode.IsSpace(r) || (r >= 0x1c && r <= 0x1f) }

// strip removes the characters for which cut holds, on the left, the right, or both.
func (t text) strip(in *interp, left, right bool, cut func(rune) bool) text {
	from, to := 0, len(t.s)
	if left {
		from = to - len(strings.TrimLeftFunc(t.s, cut))
	}
	if right {
		to = from + len(strings.TrimRightFunc(t.s[from:], cut))
	}
	return in.substring(t, from, to)
}

// split implements Python's str.split: it splits at sep, or at white space if sep is empty, at most limit times; limit
// < 0 sets no limit.
func (t text) split(in *interp, sep string, limit int) *list {
	out := in.list()
	from := 0
	if sep != "" {
		for ; limit != 0; limit-- {
			i := strings.Index(t.s[from:], sep)
			if i < 0 {
				break
			}
			out.add(&in.budget, in.substring(t, from, from+i))
			from += i + len(sep)
		}
		out.add(&in.budget, in.substring(t, from, len(t.s)))
		return out
	}
	for ; ; limit-- {
		from = len(t.s) - len(strings.TrimLeftFunc(t.s[from:], isSpace))
		if from == len(t.s) {
			return out
		}
		i := strings.IndexFunc(t.s[from:], isSpace)
		if i < 0 || limit == 0 {
			i = len(t.s) - from
		}
		out.add(&in.budget, in.substring(t, from, from+i))
		from += i
	}
}

// rsplit is split from the right.
func (t text) rsplit(in *interp, sep string, limit int) *list {
	if sep == "" || limit < 0 {
		if limit >= 0 {
			fail("rsplit with a limit needs a separator")
		}
		return t.split(in, sep, limit)
	}
	out := in.list()
	to := len(t.s)
	for ; limit > 0; limit-- {
		i := strings.LastIndex(t.s[:to], sep)
		if i < 0 {
			break
		}
		out.add(&in.budget, in.substring(t, i+len(sep), to))
		to = i
	}
	out.add(&in.budget, in.substring(t, 0, to))
	slices.Reverse(out.items)
	return out
}

// replace replaces old by new, at most limit times; limit < 0 sets no limit.
func (t text) replace(in *interp, old string, new text, limit int) text {
	b := in.builder()
	from := 0
	if old == "" {
		for i, r := range t.s {
			if limit == 0 {
				break
			}
			b.write(new)
			b.writeRange(t, i, i+utf8.RuneLen(r))
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
			b.writeRange(t, from, from+i)
			b.write(new)
			from += i + len(old)
			limit--
		}
	}
	b.writeRange(t, from, len(t.s))
	return b.text()
}

// chars returns the characters, each as a text.
func (t text) chars(in *interp) []any {
	out := in.room(t.len())
	for i := 0; i < len(t.s); {
		_, n := utf8.DecodeRuneInString(t.s[i:])
		out = append(out, in.substring(t, i, i+n))
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

// titleFilter is jinja2's filter title: words start only after '-', '(', '{', '[', '<' and white space.
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
