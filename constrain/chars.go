package constrain

import (
	"slices"
	"unicode/utf8"
)

// A runeSet is a set of characters: the first and the last of each range, in order, as package regexp/syntax has them.
type runeSet []rune

var anyRune = runeSet{0, utf8.MaxRune}

// runesOf is the set of some characters.
func runesOf(list ...rune) runeSet {
	slices.Sort(list)
	var s runeSet
	for _, r := range list {
		s = append(s, r, r)
	}
	return s.merged()
}

// merged puts the ranges of a set in order and joins those that touch.
func (s runeSet) merged() runeSet {
	var ranges [][2]rune
	for i := 0; i < len(s); i += 2 {
		ranges = append(ranges, [2]rune{s[i], s[i+1]})
	}
	slices.SortFunc(ranges, func(x, y [2]rune) int { return int(x[0] - y[0]) })
	var out runeSet
	for _, r := range ranges {
		if n := len(out); n > 0 && r[0] <= out[n-1]+1 {
			out[n-1] = max(out[n-1], r[1])
		} else {
			out = append(out, r[0], r[1])
		}
	}
	return out
}

// negated is every other character.
func (s runeSet) negated() runeSet {
	var out runeSet
	next := rune(0)
	for i := 0; i < len(s); i += 2 {
		if s[i] > next {
			out = append(out, next, s[i]-1)
		}
		next = s[i+1] + 1
	}
	if next <= utf8.MaxRune {
		out = append(out, next, utf8.MaxRune)
	}
	return out
}

// within is the part of a set from lo to hi, counted from lo.
func (s runeSet) within(lo, hi rune) runeSet {
	var out runeSet
	for i := 0; i < len(s) && s[i] <= hi; i += 2 {
		if s[i+1] >= lo {
			out = append(out, max(s[i], lo)-lo, min(s[i+1], hi)-lo)
		}
	}
	return out
}

// A digit is a part of the code of a character.
type digit struct {
	before string // what is written before it
	bits   int    // of the character's number
	write  func(value int) byteSet
}

// code is the characters lo to hi, whose number less base is written as digits.
type code struct {
	lo, hi, base rune
	digits       []digit
}

// utf8Codes are the forms of characters in UTF-8 (RFC 3629). Surrogates have none.
var utf8Codes = []code{
	{0, 0x7F, 0, []digit{{"", 7, plus(0)}}},
	{0x80, 0x7FF, 0, []digit{{"", 5, plus(0xC0)}, tail}},
	{0x800, 0xD7FF, 0, []digit{{"", 4, plus(0xE0)}, tail, tail}},
	{0xE000, 0xFFFF, 0, []digit{{"", 4, plus(0xE0)}, tail, tail}},
	{0x10000, utf8.MaxRune, 0, []digit{{"", 3, plus(0xF0)}, tail, tail, tail}},
}

// jsonCodes are the forms of characters in a JSON string (RFC 8259, section 7): as they are, except for quote, backslash and
// control characters; those and what is not ASCII also by number. The short escapes are in jsonEscapes.
var jsonCodes = append([]code{
	{0x20, '"' - 1, 0, utf8Codes[0].digits},
	{'"' + 1, '\\' - 1, 0, utf8Codes[0].digits},
	{'\\' + 1, 0x7F, 0, utf8Codes[0].digits},
	{0, 0x1F, 0, hex4},
	{0x7F, 0xD7FF, 0, hex4},
	{0xE000, 0xFFFF, 0, hex4},
	{0x10000, utf8.MaxRune, 0x10000, []digit{
		{`\u`, 0, letter('d')}, {"", 2, hex(8)}, {"", 4, hex(0)}, {"", 4, hex(0)},
		{`\u`, 0, letter('d')}, {"", 2, hex(12)}, {"", 4, hex(0)}, {"", 4, hex(0)},
	}},
}, utf8Codes[1:]...)

// jsonEscapes are the characters that have a short escape: a backslash and the letter beside them.
var jsonEscapes = map[rune]byte{'"': '"', '\\': '\\', '\b': 'b', '\f': 'f', '\n': 'n', '\r': 'r', '\t': 't'}

var (
	tail = digit{"", 6, plus(0x80)}
	hex4 = []digit{{`\u`, 4, hex(0)}, {"", 4, hex(0)}, {"", 4, hex(0)}, {"", 4, hex(0)}}
)

func plus(base byte) func(int) byteSet {
	return func(v int) (s byteSet) {
		s.add(base+byte(v), base+byte(v))
		return s
	}
}

func hex(base int) func(int) byteSet {
	return func(v int) (s byteSet) {
		if v += base; v < 10 {
			return plus('0')(v)
		}
		s.add('a'+byte(v-10), 'a'+byte(v-10))
		s.add('A'+byte(v-10), 'A'+byte(v-10))
		return s
	}
}

func letter(b byte) func(int) byteSet {
	return func(int) (s byteSet) {
		s.add(b, b)
		s.add(b-'a'+'A', b-'a'+'A')
		return s
	}
}

// utf8 is a character of the set.
func (a *arena) utf8(set runeSet) expr { return a.char(set, utf8Codes) }

// json is a character of the set in a JSON string.
func (a *arena) json(set runeSet) expr {
	var short byteSet
	for r, letter := range jsonEscapes {
		if len(set.within(r, r)) > 0 {
			short.add(letter, letter)
		}
	}
	return a.union(a.char(set, jsonCodes), a.concat(a.literal(`\`), a.bytes(short)))
}

func (a *arena) char(set runeSet, codes []code) expr {
	var list []expr
	for _, c := range codes {
		part := set.within(c.lo, c.hi)
		for i := range part {
			part[i] += c.lo - c.base
		}
		list = append(list, a.digits(part, c.digits))
	}
	return a.union(list...)
}

// digits is the numbers of a set. Digits after which the same may follow become one set of bytes.
func (a *arena) digits(set runeSet, list []digit) (e expr) {
	switch {
	case len(set) == 0:
		return none
	case len(list) == 0:
		return empty
	}
	d, below := list[0], 0
	for _, d := range list[1:] {
		below += d.bits
	}
	if full := len(set) == 2 && set[0] == 0 && set[1] == 1<<(d.bits+below)-1; full {
		if e, ok := a.full[&list[0]]; ok {
			return e
		}
		defer func() { a.full[&list[0]] = e }()
	}
	var order []expr
	groups := map[expr]byteSet{}
	for v := range 1 << d.bits {
		lo := rune(v) << below
		then := a.digits(set.within(lo, lo+1<<below-1), list[1:])
		if then == none {
			continue
		}
		group, ok := groups[then]
		if !ok {
			order = append(order, then)
		}
		for i, w := range d.write(v) {
			group[i] |= w
		}
		groups[then] = group
	}
	var out []expr
	for _, then := range order {
		out = append(out, a.concat(a.literal(d.before), a.bytes(groups[then]), then))
	}
	return a.union(out...)
}
