package jinja

import (
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"
)

// The methods of Python's str, dict and list that chat templates use. None changes its receiver.

var textMethods = map[string]func(in *interp, t text, a args) any{
	"capitalize": textMap(capitalize),
	"lower":      textMap(strings.ToLower),
	"title":      textMap(title),
	"upper":      textMap(strings.ToUpper),
	"strip":      stripper(true, true),
	"lstrip":     stripper(true, false),
	"rstrip":     stripper(false, true),
	"split": func(in *interp, t text, a args) any {
		sep, limit := splitArgs(in, a)
		return t.split(in, sep, limit)
	},
	"rsplit": func(in *interp, t text, a args) any {
		sep, limit := splitArgs(in, a)
		return t.rsplit(in, sep, limit)
	},
	"splitlines": func(in *interp, t text, a args) any {
		a.limit(0)
		out := in.list()
		for from := 0; from < len(t.s); {
			i, n := strings.IndexAny(t.s[from:], "\n\r\v\f\x1c\x1d\x1e\u0085\u2028\u2029"), 0
			if i < 0 {
				i = len(t.s) - from
			} else if _, n = utf8.DecodeRuneInString(t.s[from+i:]); strings.HasPrefix(t.s[from+i:], "\r\n") {
				n = 2
			}
			out.add(&in.budget, in.substring(t, from, from+i))
			from += i + n
		}
		return out
	},
	"partition": func(in *interp, t text, a args) any {
		a.limit(1)
		sep := in.need(a, 0, "sep")
		if i := strings.Index(t.s, sep.s); i >= 0 {
			return in.tuple(in.substring(t, 0, i), sep, in.substring(t, i+len(sep.s), len(t.s)))
		}
		return in.tuple(t, text{}, text{})
	},
	"startswith": affix(strings.HasPrefix),
	"endswith":   affix(strings.HasSuffix),
	"removeprefix": func(in *interp, t text, a args) any {
		a.limit(1)
		return in.substring(t, len(t.s)-len(strings.TrimPrefix(t.s, in.need(a, 0, "prefix").s)), len(t.s))
	},
	"removesuffix": func(in *interp, t text, a args) any {
		a.limit(1)
		return in.substring(t, 0, len(strings.TrimSuffix(t.s, in.need(a, 0, "suffix").s)))
	},
	"replace": func(in *interp, t text, a args) any {
		a.limit(3, "count")
		return t.replace(in, in.need(a, 0, "old").s, in.need(a, 1, "new"), in.count(a, 2, "count"))
	},
	"find":  finder(strings.Index, false),
	"rfind": finder(strings.LastIndex, false),
	"index": finder(strings.Index, true),
	"count": func(in *interp, t text, a args) any {
		a.limit(1)
		return int64(strings.Count(t.s, in.need(a, 0, "sub").s))
	},
	"join": func(in *interp, t text, a args) any {
		a.limit(1)
		v, _ := a.get(0, "iterable")
		b := in.builder()
		for i, x := range in.iterate(v) {
			s, ok := x.(text)
			if !ok {
				fail("join needs strings, got %s", typeName(x))
			}
			if i > 0 {
				b.write(t)
			}
			b.write(s)
		}
		return b.text()
	},
	"format":  braces,
	"isalpha": every(unicode.IsLetter),
	"isdigit": every(unicode.IsDigit),
	"isalnum": every(func(r rune) bool { return unicode.IsLetter(r) || unicode.IsNumber(r) }),
	"isspace": every(isSpace),
	"islower": func(in *interp, t text, a args) any { a.limit(0); return cased(t.s, unicode.IsLower, unicode.IsUpper) },
	"isupper": func(in *interp, t text, a args) any { a.limit(0); return cased(t.s, unicode.IsUpper, unicode.IsLower) },
}

var dictMethods = map[string]func(in *interp, d *dict, a args) any{
	"items": func(in *interp, d *dict, a args) any { a.limit(0); return in.list(in.items(d)...) },
	"keys":  func(in *interp, d *dict, a args) any { a.limit(0); return in.list(in.iterate(d)...) },
	"values": func(in *interp, d *dict, a args) any {
		a.limit(0)
		l := in.list()
		for _, k := range d.keys {
			l.add(&in.budget, d.m[k])
		}
		return l
	},
	"get": func(in *interp, d *dict, a args) any {
		a.limit(2)
		if len(a.list) == 0 {
			fail("get() needs a key")
		}
		if v, ok := d.m[in.hash(a.list[0])]; ok {
			return v
		}
		if len(a.list) > 1 {
			return a.list[1]
		}
		return nil
	},
	"copy": func(in *interp, d *dict, a args) any {
		a.limit(0)
		c := in.dict(d.foreign)
		for _, k := range d.keys {
			in.put(c, k, d.m[k])
		}
		return c
	},
}

var listMethods = map[string]func(in *interp, l *list, a args) any{
	"count": func(in *interp, l *list, a args) any {
		a.limit(1)
		v, _ := a.get(0, "value")
		n := int64(0)
		for _, x := range l.items {
			if in.equal(x, v) {
				n++
			}
		}
		return n
	},
	"index": func(in *interp, l *list, a args) any {
		a.limit(1)
		v, _ := a.get(0, "value")
		for i, x := range l.items {
			if in.equal(x, v) {
				return int64(i)
			}
		}
		fail("the value is not in the list")
		return nil
	},
}

func textMap(f func(string) string) func(in *interp, t text, a args) any {
	return func(in *interp, t text, a args) any {
		a.limit(0)
		return in.mapped(t, f)
	}
}

func stripper(left, right bool) func(in *interp, t text, a args) any {
	return func(in *interp, t text, a args) any {
		a.limit(1)
		return t.strip(in, left, right, cutSet(in, a, "chars"))
	}
}

func splitArgs(in *interp, a args) (string, int) {
	a.limit(2, "sep", "maxsplit")
	limit := in.count(a, 1, "maxsplit")
	if v, ok := a.get(0, "sep"); !ok || v == nil {
		return "", limit
	}
	sep := in.need(a, 0, "sep").s
	if sep == "" {
		fail("empty separator")
	}
	return sep, limit
}

// affix is startswith or endswith, with one string or a tuple of them.
func affix(has func(s, x string) bool) func(in *interp, t text, a args) any {
	return func(in *interp, t text, a args) any {
		a.limit(1)
		v, _ := a.get(0, "prefix")
		if l, ok := v.(*list); ok {
			for _, x := range l.items {
				in.step(1)
				in.read(x)
				if s, ok := x.(text); ok && has(t.s, s.s) {
					return true
				}
			}
			return false
		}
		return has(t.s, in.need(a, 0, "prefix").s)
	}
}

func finder(find func(s, sub string) int, must bool) func(in *interp, t text, a args) any {
	return func(in *interp, t text, a args) any {
		a.limit(1)
		i := find(t.s, in.need(a, 0, "sub").s)
		if i < 0 {
			if must {
				fail("substring not found")
			}
			return int64(-1)
		}
		return int64(utf8.RuneCountInString(t.s[:i]))
	}
}

func every(is func(rune) bool) func(in *interp, t text, a args) any {
	return func(in *interp, t text, a args) any {
		a.limit(0)
		return t.s != "" && !strings.ContainsFunc(t.s, func(r rune) bool { return !is(r) })
	}
}

// braces implements str.format with fields {}, {0} and {name}, without format specifications.
func braces(in *interp, t text, a args) any {
	b := in.builder()
	s := t.s
	from, auto := 0, 0
	for i := 0; i < len(s); {
		switch {
		case s[i] != '{' && s[i] != '}':
			i++
			continue
		case i+1 < len(s) && s[i+1] == s[i]:
			b.writeRange(t, from, i+1)
			i += 2
		case s[i] == '}':
			fail("single '}' in a format string")
		default:
			n := strings.IndexByte(s[i:], '}')
			if n < 0 {
				fail("single '{' in a format string")
			}
			b.writeRange(t, from, i)
			field := s[i+1 : i+n]
			k := -1
			if field == "" {
				k = auto
				auto++
			} else if field[0] >= '0' && field[0] <= '9' && len(field) < 4 {
				k = 0
				for _, c := range field {
					k = 10*k + int(c-'0')
				}
			}
			if strings.ContainsAny(field, "!:.[") {
				fail("format field %s is not supported", quote(field))
			}
			v, ok := a.get(max(k, 0), field)
			if k < 0 {
				named := args{names: a.names, values: a.values}
				v, ok = named.get(0, field)
			}
			if !ok {
				fail("no argument for format field %s", quote(field))
			}
			b.write(in.str(v))
			i += n + 1
		}
		from = i
	}
	b.writeRange(t, from, len(s))
	return b.text()
}

var globals = map[string]func(in *interp, a args) any{
	"range": func(in *interp, a args) any {
		a.limit(3)
		var n [3]int64
		for i, v := range a.list {
			x, ok := number(v).(int64)
			if !ok {
				fail("range() needs integers")
			}
			n[i] = x
		}
		from, to, by := n[0], n[1], n[2]
		switch len(a.list) {
		case 0:
			fail("range() needs an argument")
		case 1:
			from, to, by = 0, n[0], 1
		case 2:
			by = 1
		}
		if by == 0 {
			fail("range() with step 0")
		}
		l := in.list()
		for i := from; (by > 0 && i < to) || (by < 0 && i > to); i += by {
			if len(l.items) >= maxRange {
				fail("range() of more than %d elements", maxRange)
			}
			l.add(&in.budget, i)
			if (by > 0 && i > to-by) || (by < 0 && i < to-by) {
				break // the next would not fit, or overflow
			}
		}
		return l
	},
	"dict": func(in *interp, a args) any { return in.entries("dict()", a) },
	"namespace": func(in *interp, a args) any {
		d := in.entries("namespace()", a)
		d.namespace = true
		return d
	},
	"raise_exception": func(in *interp, a args) any {
		a.limit(1, "message")
		v, _ := a.get(0, "message")
		msg := in.str(v).s
		panic(bail{msg: msg[:min(len(msg), maxRaised)], raised: true})
	},
	"strftime_now": func(in *interp, a args) any {
		a.limit(1, "format")
		format := in.need(a, 0, "format")
		t := strftime(in, format.s)
		if len(format.foreign) > 0 {
			return in.foreign(t.s)
		}
		return t
	},
}

// entries makes a mapping from the entries of another mapping and from named arguments.
func (in *interp) entries(what string, a args) *dict {
	src := &dict{}
	if len(a.list) > 0 {
		var ok bool
		if src, ok = a.list[0].(*dict); !ok || len(a.list) > 1 {
			fail("%s needs a mapping or named arguments", what)
		}
	}
	d := in.dict(src.foreign)
	for _, k := range src.keys {
		in.put(d, k, src.m[k])
	}
	for i, name := range a.names {
		in.put(d, name, a.values[i])
	}
	return d
}

// strftime is Python's datetime.strftime in the C locale.
func strftime(in *interp, format string) text {
	t := in.now
	layouts := map[byte]string{
		'a': "Mon", 'A': "Monday", 'b': "Jan", 'B': "January", 'd': "02", 'm': "01", 'y': "06", 'Y': "2006", 'H': "15",
		'I': "03", 'M': "04", 'S': "05", 'p': "PM", 'j': "002", 'F': "2006-01-02", 'T': "15:04:05", 'D': "01/02/06",
		'h': "Jan", 'R': "15:04", 'c': "Mon Jan _2 15:04:05 2006", 'x': "01/02/06", 'X': "15:04:05", 'e': "_2",
	}
	b := in.builder()
	for i := 0; i < len(format); i++ {
		c := format[i]
		if c != '%' || i+1 == len(format) {
			b.writeString(format[i : i+1])
			continue
		}
		i++
		plain := format[i] == '-' && i+1 < len(format) // no leading zero
		if plain {
			i++
		}
		layout, ok := layouts[format[i]]
		switch {
		case ok && plain:
			b.writeString(strings.TrimLeft(t.Format(layout), "0"))
		case ok:
			b.writeString(t.Format(layout))
		case format[i] == '%':
			b.writeString("%")
		case format[i] == 'f':
			b.writeString(fmt.Sprintf("%06d", t.Nanosecond()/1000))
		case format[i] == 'z' || format[i] == 'Z': // as Python's naive datetime.now()
		default:
			fail("strftime_now: %s is not supported", quote("%"+format[i:i+1]))
		}
	}
	return b.text()
}
