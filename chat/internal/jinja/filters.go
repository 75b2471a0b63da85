package jinja

import (
	"math"
	"slices"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

type (
	filter func(in *interp, v any, a args) any
	test   func(in *interp, v any, a args) bool
)

var (
	filters map[string]filter
	tests   map[string]test
)

// The tables can't be initialised in their declarations, because they refer to functions that refer to the tables: map
// and select take the name of a filter or test.
func init() {
	filters = map[string]filter{
		"abs": func(in *interp, v any, a args) any {
			a.limit(0)
			switch n := number(defined(v)).(type) {
			case int64:
				return max(n, integers("-", 0, n).(int64))
			case float64:
				return math.Abs(n)
			}
			fail("abs needs a number")
			return nil
		},
		"attr": func(in *interp, v any, a args) any {
			a.limit(1, "name")
			x, _ := in.attribute(v, in.need(a, 0, "name").s)
			if x == nil {
				return in.missing(v, in.need(a, 0, "name").s)
			}
			return x
		},
		"capitalize": mapText(capitalize),
		"count":      length,
		"d":          defaultValue,
		"default":    defaultValue,
		"dictsort": func(in *interp, v any, a args) any {
			a.limit(0)
			items := in.items(v)
			slices.SortStableFunc(items, func(x, y any) int {
				return in.order(in.fold(x.(*list).items[0]), in.fold(y.(*list).items[0]))
			})
			return in.list(items...)
		},
		"e":      escape,
		"escape": escape,
		"first": func(in *interp, v any, a args) any {
			a.limit(0)
			if items := in.iterate(v); len(items) > 0 {
				return items[0]
			}
			return in.undefined("the first of an empty list", "", nil)
		},
		"float": func(in *interp, v any, a args) any {
			a.limit(1, "default")
			switch x := v.(type) {
			case text:
				if f, err := strconv.ParseFloat(numeral(x), 64); err == nil {
					return f
				}
			default:
				if n := number(v); n != nil {
					return toFloat(n)
				}
			}
			return orDefault(a, 0.0)
		},
		"format": func(in *interp, v any, a args) any { return in.percent(in.str(v), a.list) },
		"indent": indent,
		"int": func(in *interp, v any, a args) any {
			a.limit(1, "default")
			switch x := v.(type) {
			case text:
				s := numeral(x)
				if n, err := strconv.ParseInt(s, 10, 64); err == nil {
					return n
				}
				if f, err := strconv.ParseFloat(s, 64); err == nil && math.Abs(f) < 1<<62 {
					return int64(f)
				}
			default:
				switch n := number(v).(type) {
				case int64:
					return n
				case float64:
					if math.Abs(n) < 1<<62 {
						return int64(n)
					}
				}
			}
			return orDefault(a, int64(0))
		},
		"items": func(in *interp, v any, a args) any {
			a.limit(0)
			if _, ok := v.(undefined); ok {
				return in.list()
			}
			return in.list(in.items(v)...)
		},
		"join": func(in *interp, v any, a args) any {
			a.limit(2, "d", "attribute")
			sep, _ := a.get(0, "d")
			items := in.iterate(v)
			if attr, ok := a.get(1, "attribute"); ok {
				items = in.attributes(items, attr)
			}
			b := in.builder()
			for i, x := range items {
				if i > 0 && sep != nil {
					b.write(in.str(sep))
				}
				b.write(in.str(x))
			}
			return b.text()
		},
		"last": func(in *interp, v any, a args) any {
			a.limit(0)
			if items := in.iterate(v); len(items) > 0 {
				return items[len(items)-1]
			}
			return in.undefined("the last of an empty list", "", nil)
		},
		"length": length,
		"list": func(in *interp, v any, a args) any {
			a.limit(0)
			return in.list(in.clone(in.iterate(v))...)
		},
		"lower": mapText(strings.ToLower),
		"map": func(in *interp, v any, a args) any {
			items := in.iterate(v)
			if attr, ok := a.get(0, "attribute"); ok && len(a.list) == 0 {
				a.limit(0, "attribute", "default")
				out := in.attributes(items, attr)
				if def, ok := a.get(1, "default"); ok {
					for i := range out {
						if _, ok := out[i].(undefined); ok {
							out[i] = def
						}
					}
				}
				return in.list(out...)
			}
			name := in.need(a, 0, "filter").s
			f, ok := filters[name]
			if !ok {
				fail("filter %s is not supported", quote(name))
			}
			a.list, a.kind, a.name = a.list[1:], "filter", name
			out := in.room(len(items))
			for _, x := range items {
				in.read(x)
				in.readArgs(a)
				out = append(out, f(in, x, a))
			}
			return in.list(out...)
		},
		"max":        func(in *interp, v any, a args) any { return in.extreme(v, a, 1) },
		"min":        func(in *interp, v any, a args) any { return in.extreme(v, a, -1) },
		"reject":     selectBy(false, false),
		"rejectattr": selectBy(true, false),
		"replace": func(in *interp, v any, a args) any {
			a.limit(3, "old", "new", "count")
			return in.str(v).replace(in, in.need(a, 0, "old").s, in.need(a, 1, "new"), in.count(a, 2, "count"))
		},
		"reverse": func(in *interp, v any, a args) any {
			a.limit(0)
			if t, ok := v.(text); ok {
				return in.slice(t, nil, nil, int64(-1))
			}
			items := in.clone(in.iterate(v))
			slices.Reverse(items)
			return in.list(items...)
		},
		"round": func(in *interp, v any, a args) any {
			a.limit(2, "precision", "method")
			n := number(defined(v))
			if n == nil {
				fail("round needs a number")
			}
			places := 0
			if p, ok := a.get(0, "precision"); ok {
				k, _ := number(p).(int64)
				places = int(max(-300, min(k, 300)))
			}
			f := math.RoundToEven
			if m, ok := a.get(1, "method"); ok {
				switch in.str(m).s {
				case "ceil":
					f = math.Ceil
				case "floor":
					f = math.Floor
				case "common":
				default:
					fail("round: unknown method")
				}
			}
			scale := math.Pow(10, float64(places))
			return f(toFloat(n)*scale) / scale
		},
		"safe":       func(in *interp, v any, a args) any { return v },
		"select":     selectBy(false, true),
		"selectattr": selectBy(true, true),
		"sort": func(in *interp, v any, a args) any {
			a.limit(3, "reverse", "case_sensitive", "attribute")
			items := in.clone(in.iterate(v))
			sensitive, _ := a.get(1, "case_sensitive")
			keys := items
			if attr, ok := a.get(2, "attribute"); ok && attr != nil {
				keys = in.attributes(items, attr)
			}
			in.charge(2 * itemBytes * len(items))
			type pair struct{ key, v any }
			pairs := make([]pair, len(items))
			for i, x := range items {
				pairs[i] = pair{keys[i], x}
				if !in.truth(sensitive) {
					pairs[i].key = in.fold(keys[i])
				}
			}
			reverse, _ := a.get(0, "reverse")
			slices.SortStableFunc(pairs, func(x, y pair) int {
				if in.truth(reverse) {
					return in.order(y.key, x.key)
				}
				return in.order(x.key, y.key)
			})
			for i := range pairs {
				items[i] = pairs[i].v
			}
			return in.list(items...)
		},
		"string": func(in *interp, v any, a args) any { a.limit(0); return in.str(v) },
		"sum": func(in *interp, v any, a args) any {
			a.limit(2, "attribute", "start")
			items := in.iterate(v)
			if attr, ok := a.get(0, "attribute"); ok && attr != nil {
				items = in.attributes(items, attr)
			}
			var total any = int64(0)
			if s, ok := a.get(1, "start"); ok {
				total = s
			}
			for _, x := range items {
				total = in.binary("+", total, x)
			}
			return total
		},
		"title":  mapText(titleFilter),
		"tojson": tojson,
		"trim": func(in *interp, v any, a args) any {
			a.limit(1, "chars")
			return in.str(v).strip(in, true, true, cutSet(in, a, "chars"))
		},
		"unique": func(in *interp, v any, a args) any {
			a.limit(0)
			out, seen, odd := in.list(), in.dict(false), in.list() // odd holds the keys that can't be hashed
			for _, x := range in.iterate(v) {
				key := in.fold(x)
				k, ok := hashable(key)
				if ok {
					if _, again := seen.m[k]; again {
						continue
					}
					in.put(seen, k, nil)
				} else {
					if slices.ContainsFunc(odd.items, func(y any) bool { return in.equal(key, y) }) {
						continue
					}
					odd.add(&in.budget, key)
				}
				out.add(&in.budget, x)
			}
			return out
		},
		"upper":     mapText(strings.ToUpper),
		"wordcount": func(in *interp, v any, a args) any { a.limit(0); return int64(len(in.str(v).split(in, "", -1).items)) },
	}

	order := func(op string) test {
		return func(in *interp, v any, a args) bool {
			a.limit(1, "other")
			x, ok := a.get(0, "other")
			if !ok {
				fail("%s needs an argument", a.what())
			}
			return in.compare(op, v, x)
		}
	}
	is := func(f func(v any) bool) test {
		return func(in *interp, v any, a args) bool { a.limit(0); return f(v) }
	}
	divides := func(in *interp, v any, n int64) bool {
		m, ok := number(v).(int64)
		if !ok {
			fail("%s is not an integer", typeName(v))
		}
		return integers("%", m, n).(int64) == 0
	}
	tests = map[string]test{
		"defined":   is(func(v any) bool { _, u := v.(undefined); return !u }),
		"undefined": is(func(v any) bool { _, u := v.(undefined); return u }),
		"none":      is(func(v any) bool { return v == nil }),
		"boolean":   is(func(v any) bool { _, ok := v.(bool); return ok }),
		"true":      is(func(v any) bool { return v == any(true) }),
		"false":     is(func(v any) bool { return v == any(false) }),
		"integer":   is(func(v any) bool { _, ok := v.(int64); return ok }),
		"float":     is(func(v any) bool { _, ok := v.(float64); return ok }),
		"number":    is(func(v any) bool { return number(v) != nil }),
		"string":    is(func(v any) bool { _, ok := v.(text); return ok }),
		"mapping":   is(func(v any) bool { d, ok := v.(*dict); return ok && !d.namespace }),
		"sequence":  is(sequence),
		"iterable":  is(func(v any) bool { _, u := v.(undefined); return u || sequence(v) }),
		"callable":  is(func(v any) bool { _, ok := v.(function); return ok }),
		"lower":     is(func(v any) bool { t, ok := v.(text); return ok && cased(t.s, unicode.IsLower, unicode.IsUpper) }),
		"upper":     is(func(v any) bool { t, ok := v.(text); return ok && cased(t.s, unicode.IsUpper, unicode.IsLower) }),
		"odd":       func(in *interp, v any, a args) bool { a.limit(0); return !divides(in, v, 2) },
		"even":      func(in *interp, v any, a args) bool { a.limit(0); return divides(in, v, 2) },
		"divisibleby": func(in *interp, v any, a args) bool {
			a.limit(1, "num")
			x, _ := a.get(0, "num")
			n, ok := number(x).(int64)
			if !ok {
				fail("divisibleby needs an integer")
			}
			return divides(in, v, n)
		},
		"sameas": func(in *interp, v any, a args) bool {
			a.limit(1, "other")
			x, _ := a.get(0, "other")
			switch v.(type) {
			case *list, *dict:
				return v == x
			}
			return typeName(v) == typeName(x) && in.equal(v, x)
		},
		"in": func(in *interp, v any, a args) bool {
			a.limit(1, "seq")
			x, _ := a.get(0, "seq")
			return in.contains(x, v)
		},
		"filter": func(in *interp, v any, a args) bool { a.limit(0); _, ok := filters[in.str(v).s]; return ok },
		"test":   func(in *interp, v any, a args) bool { a.limit(0); _, ok := tests[in.str(v).s]; return ok },
		"eq":     order("=="), "equalto": order("=="),
		"ne": order("!="),
		"lt": order("<"), "lessthan": order("<"), "le": order("<="),
		"gt": order(">"), "greaterthan": order(">"), "ge": order(">="),
	}
	for op, name := range map[string]string{"==": "eq", "!=": "ne", "<": "lt", "<=": "le", ">": "gt", ">=": "ge"} {
		tests[op] = tests[name]
	}
}

func sequence(v any) bool {
	switch x := v.(type) {
	case *list, text:
		return true
	case *dict:
		return !x.namespace
	}
	return false
}

// cased reports whether s has cased letters and all of them are of the kind yes.
func cased(s string, yes, no func(rune) bool) bool {
	return strings.ContainsFunc(s, yes) && !strings.ContainsFunc(s, no)
}

func mapText(f func(string) string) filter {
	return func(in *interp, v any, a args) any {
		a.limit(0)
		return in.mapped(in.str(v), f)
	}
}

// numeral returns the text of a number without the space around it, or "" if it is too long to be one.
func numeral(t text) string {
	const longest = 1 << 10
	if s := strings.TrimSpace(t.s); len(s) <= longest {
		return s
	}
	return ""
}

func length(in *interp, v any, a args) any {
	a.limit(0)
	switch x := v.(type) {
	case text:
		return int64(x.len())
	case *dict:
		if !x.namespace {
			return int64(len(x.keys))
		}
	case *list:
		return int64(len(x.items))
	case undefined:
		return int64(0)
	}
	fail("%s has no length", typeName(v))
	return nil
}

func defaultValue(in *interp, v any, a args) any {
	a.limit(2, "default_value", "boolean")
	loose, _ := a.get(1, "boolean")
	_, missing := v.(undefined)
	if missing || (in.truth(loose) && !in.truth(v)) {
		if d, ok := a.get(0, "default_value"); ok {
			return d
		}
		return text{}
	}
	return v
}

func orDefault(a args, otherwise any) any {
	if d, ok := a.get(0, "default"); ok {
		return d
	}
	return otherwise
}

func escape(in *interp, v any, a args) any {
	a.limit(0)
	return in.str(v).each(in, escapes.Replace)
}

var escapes = strings.NewReplacer("&", "&amp;", "<", "&lt;", ">", "&gt;", `"`, "&#34;", "'", "&#39;")

// fold returns the key by which jinja2 sorts and compares if case does not matter.
func (in *interp) fold(v any) any {
	if t, ok := v.(text); ok {
		return in.mapped(t, strings.ToLower)
	}
	return v
}

func indent(in *interp, v any, a args) any {
	a.limit(3, "width", "first", "blank")
	pad := in.name("    ")
	if w, ok := a.get(0, "width"); ok {
		if t, ok := w.(text); ok {
			pad = t
		} else if n, ok := number(w).(int64); ok {
			pad = in.repeat(in.name(" "), n)
		}
	}
	first, _ := a.get(1, "first")
	blank, _ := a.get(2, "blank")
	b := in.builder()
	for i, line := range in.str(v).split(in, "\n", -1).items {
		l := line.(text)
		if i > 0 {
			b.writeString("\n")
		}
		if (i > 0 || in.truth(first)) && (l.s != "" || in.truth(blank)) {
			b.write(pad)
		}
		b.write(l)
	}
	return b.text()
}

func (in *interp) clone(items []any) []any { return append(in.room(len(items)), items...) }

// items returns a mapping's (key, value) tuples.
func (in *interp) items(v any) []any {
	d, ok := v.(*dict)
	if !ok || d.namespace {
		fail("items needs a mapping, got %s", typeName(v))
	}
	out := in.room(len(d.keys))
	for _, k := range d.keys {
		out = append(out, in.tuple(in.key(d, k), d.m[k]))
	}
	return out
}

// attributes returns the attribute attr of each item; "a.b" is attribute b of attribute a.
func (in *interp) attributes(items []any, attr any) []any {
	out := in.room(len(items))
	for _, x := range items {
		out = append(out, in.path(x, attr))
	}
	return out
}

func (in *interp) path(v, attr any) any {
	name, ok := attr.(text)
	if !ok {
		return in.item(v, attr)
	}
	in.read(name)
	for part := range strings.SplitSeq(name.s, ".") {
		if n, err := strconv.ParseInt(part, 10, 64); err == nil {
			v = in.item(v, n)
		} else {
			v = in.item(v, in.name(part))
		}
	}
	return v
}

func selectBy(attribute, keep bool) filter {
	return func(in *interp, v any, a args) any {
		a.limit(len(a.list))
		var attr any
		if attribute {
			attr = in.need(a, 0, "attribute")
			a.list = a.list[1:]
		}
		var f test
		if len(a.list) > 0 {
			name := in.need(a, 0, "test").s
			if f = tests[name]; f == nil {
				fail("test %s is not supported", quote(name))
			}
			a.list, a.kind, a.name = a.list[1:], "test", name
		}
		out := in.list()
		for _, x := range in.iterate(v) {
			in.step(1)
			y := x
			if attribute {
				y = in.path(x, attr)
			}
			ok := false
			if f != nil {
				in.read(y)
				in.readArgs(a)
				ok = f(in, y, a)
			} else {
				ok = in.truth(y)
			}
			if ok == keep {
				out.add(&in.budget, x)
			}
		}
		return out
	}
}

func (in *interp) extreme(v any, a args, sign int) any {
	a.limit(0)
	items := in.iterate(v)
	if len(items) == 0 {
		return in.undefined("the extreme of an empty list", "", nil)
	}
	best, bestKey := items[0], in.fold(items[0])
	for _, x := range items[1:] {
		if key := in.fold(x); in.order(key, bestKey)*sign > 0 {
			best, bestKey = x, key
		}
	}
	return best
}

// need returns a required string argument.
func (in *interp) need(a args, i int, name string) text {
	v, ok := a.get(i, name)
	t, isText := v.(text)
	if !ok || !isText {
		fail("%s needs a string for '%s'", a.what(), name)
	}
	return t
}

// count returns an optional integer argument, or -1 if it is missing.
func (in *interp) count(a args, i int, name string) int {
	v, ok := a.get(i, name)
	if !ok || v == nil {
		return -1
	}
	n, ok := number(v).(int64)
	if !ok {
		fail("%s needs an integer for '%s'", a.what(), name)
	}
	return int(max(-1, min(n, math.MaxInt32)))
}

// cutSet reports which characters strip and trim remove.
func cutSet(in *interp, a args, name string) func(rune) bool {
	v, ok := a.get(0, name)
	if !ok || v == nil {
		return isSpace
	}
	set := map[rune]bool{}
	for _, r := range in.need(a, 0, name).s {
		in.step(1)
		set[r] = true
	}
	return func(r rune) bool { return set[r] }
}

// percent implements Python's format % values for %s, %r, %d, %i, %x, %f with an optional precision, and %%.
func (in *interp) percent(format text, values []any) text {
	b := in.builder()
	s := format.s
	from, used := 0, 0
	for {
		i := strings.IndexByte(s[from:], '%')
		if i < 0 {
			break
		}
		i += from
		b.writeRange(format, from, i)
		j := i + 1
		for j < len(s) && strings.IndexByte("0123456789.", s[j]) >= 0 {
			j++
		}
		if j >= len(s) {
			fail("incomplete format")
		}
		from = j + 1
		if s[j] == '%' {
			b.writeString("%")
			continue
		}
		if used >= len(values) {
			fail("not enough arguments for the format string")
		}
		v := values[used]
		used++
		width, precision := s[i+1:j], 6
		if dot := strings.IndexByte(width, '.'); dot >= 0 {
			n, err := strconv.Atoi("0" + width[dot+1:])
			if err != nil || n > 100 {
				fail("bad format %s", quote(s[i:from]))
			}
			width, precision = width[:dot], n
		}
		var t text
		switch s[j] {
		case 's':
			t = in.str(v)
		case 'r':
			t = in.repr(v)
		case 'd', 'i', 'x':
			switch n := number(v).(type) {
			case int64:
				base := 10
				if s[j] == 'x' {
					base = 16
				}
				t = in.literal(strconv.FormatInt(n, base))
			case float64:
				if s[j] == 'x' || math.Abs(n) >= 1<<62 {
					fail("format %s needs an integer", quote(s[i:from]))
				}
				t = in.literal(strconv.FormatInt(int64(n), 10))
			default:
				fail("format %s needs a number", quote(s[i:from]))
			}
		case 'f':
			n := number(v)
			if n == nil {
				fail("format %s needs a number", quote(s[i:from]))
			}
			t = in.literal(strconv.FormatFloat(toFloat(n), 'f', precision, 64))
		default:
			fail("format %s is not supported", quote(s[i:from]))
		}
		if width != "" {
			n, err := strconv.Atoi(width)
			if err != nil || n > 1000 {
				fail("bad format %s", quote(s[i:from]))
			}
			pad := " "
			if width[0] == '0' && s[j] != 's' && s[j] != 'r' {
				pad = "0"
			}
			for range n - utf8.RuneCountInString(t.s) {
				b.writeString(pad)
			}
		}
		b.write(t)
	}
	if used < len(values) {
		if _, ok := values[0].(*dict); !ok || used > 0 {
			fail("not all arguments used by the format string")
		}
	}
	b.writeRange(format, from, len(s))
	return b.text()
}
