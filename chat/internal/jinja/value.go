package jinja

import (
	"bytes"
	"encoding/json"
	"io"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"
	"unicode"
)

// value converts a Go value to a template's value.
func (in *interp) value(v any, foreign bool) any {
	in.enter()
	defer in.leave()
	switch x := v.(type) {
	case nil, bool, int64, float64:
		return x
	case int:
		return int64(x)
	case string:
		x = strings.ToValidUTF8(x, "\ufffd")
		if foreign {
			return in.foreign(x)
		}
		return in.literal(x)
	case Own:
		return in.value(string(x), false)
	case json.RawMessage:
		in.charge(len(x))
		d := json.NewDecoder(bytes.NewReader(x))
		d.UseNumber()
		out := in.decode(d, foreign)
		if _, err := d.Token(); err != io.EOF {
			fail("a variable is not one JSON value")
		}
		return out
	case json.Number:
		if n, err := strconv.ParseInt(x.String(), 10, 64); err == nil {
			return n
		}
		f, err := x.Float64()
		if err != nil {
			fail("number %s out of range", x)
		}
		return f
	case []any:
		l := in.list()
		for _, e := range x {
			l.add(&in.budget, in.value(e, foreign))
		}
		return l
	case map[string]any:
		d := in.dict(foreign)
		for _, k := range slices.Sorted(maps.Keys(x)) {
			in.put(d, k, in.value(x[k], foreign))
		}
		return d
	}
	fail("a variable of type %T is not supported", v)
	return nil
}

// decode reads one JSON value and keeps the order of objects' keys.
func (in *interp) decode(d *json.Decoder, foreign bool) any {
	in.enter()
	defer in.leave()
	t, err := d.Token()
	if err != nil {
		fail("a variable is not JSON: %v", err)
	}
	switch t {
	case json.Delim('['):
		l := in.list()
		for d.More() {
			l.add(&in.budget, in.decode(d, foreign))
		}
		_, err = d.Token()
		if err != nil {
			fail("a variable is not JSON: %v", err)
		}
		return l
	case json.Delim('{'):
		o := in.dict(foreign)
		for d.More() {
			k, err := d.Token()
			if err != nil {
				fail("a variable is not JSON: %v", err)
			}
			in.put(o, k.(string), in.decode(d, foreign))
		}
		if _, err := d.Token(); err != nil {
			fail("a variable is not JSON: %v", err)
		}
		return o
	}
	return in.value(t, foreign)
}

func hashable(v any) (any, bool) {
	switch x := v.(type) {
	case text:
		return x.s, true
	case bool:
		if x {
			return int64(1), true
		}
		return int64(0), true
	case float64:
		if x == math.Trunc(x) && math.Abs(x) < 1<<53 {
			return int64(x), true
		}
		return x, x == x
	case nil, int64:
		return x, true
	}
	return nil, false
}

// hash returns v as a dict's key.
func (in *interp) hash(v any) any {
	in.read(v)
	k, ok := hashable(v)
	if !ok {
		fail("%s can't be a key", typeName(v))
	}
	return k
}

func typeName(v any) string {
	switch x := v.(type) {
	case nil:
		return "none"
	case undefined:
		return x.String()
	case bool:
		return "a boolean"
	case int64:
		return "an integer"
	case float64:
		return "a float"
	case text:
		return "a string"
	case *list:
		if x.tuple {
			return "a tuple"
		}
		return "a list"
	case *dict:
		if x.namespace {
			return "a namespace"
		}
		return "a mapping"
	case function:
		return "function " + quote(x.name)
	}
	return "the loop"
}

// defined fails for undefined values, which no operation accepts.
func defined(v any) any {
	if u, ok := v.(undefined); ok {
		fail("%s is undefined", u)
	}
	return v
}

func (in *interp) truth(v any) bool {
	switch x := v.(type) {
	case nil, undefined:
		return false
	case bool:
		return x
	case int64:
		return x != 0
	case float64:
		return x != 0
	case text:
		return x.s != ""
	case *list:
		return len(x.items) > 0
	case *dict:
		return x.namespace || len(x.keys) > 0
	}
	return true
}

// number returns v as int64 or float64, a bool as 0 or 1, else nil.
func number(v any) any {
	switch x := v.(type) {
	case int64, float64:
		return x
	case bool:
		if x {
			return int64(1)
		}
		return int64(0)
	}
	return nil
}

func toFloat(v any) float64 {
	if n, ok := v.(int64); ok {
		return float64(n)
	}
	return v.(float64)
}

// str is Python's str, but gives "" for undefined.
func (in *interp) str(v any) text {
	switch x := v.(type) {
	case text:
		return x
	case undefined:
		return text{}
	}
	return in.repr(v)
}

// repr is Python's repr.
func (in *interp) repr(v any) text {
	b := in.builder()
	in.writeRepr(b, v)
	return b.text()
}

func (in *interp) writeRepr(b *builder, v any) {
	in.enter()
	defer in.leave()
	switch x := v.(type) {
	case nil:
		b.writeString("None")
	case undefined:
		b.writeString("Undefined")
	case bool:
		if x {
			b.writeString("True")
		} else {
			b.writeString("False")
		}
	case int64:
		b.writeString(strconv.FormatInt(x, 10))
	case float64:
		b.writeString(formatFloat(x))
	case text:
		in.writeQuoted(b, x)
	case *list:
		open, end := "[", "]"
		if x.tuple {
			open, end = "(", ")"
			if len(x.items) == 1 {
				end = ",)"
			}
		}
		b.writeString(open)
		for i, e := range x.items {
			if i > 0 {
				b.writeString(", ")
			}
			in.writeRepr(b, e)
		}
		b.writeString(end)
	case *dict:
		if x.namespace {
			b.writeString("<Namespace>")
			return
		}
		b.writeString("{")
		for i, k := range x.keys {
			if i > 0 {
				b.writeString(", ")
			}
			in.writeRepr(b, in.key(x, k))
			b.writeString(": ")
			in.writeRepr(b, x.m[k])
		}
		b.writeString("}")
	default:
		b.writeString("<" + typeName(v) + ">")
	}
}

// writeQuoted writes a string as Python's repr does.
func (in *interp) writeQuoted(b *builder, t text) {
	quote := "'"
	if strings.Contains(t.s, "'") && !strings.Contains(t.s, `"`) {
		quote = `"`
	}
	b.writeString(quote)
	b.write(t.each(in, func(s string) string {
		var w strings.Builder
		for _, r := range s {
			switch {
			case r == '\\' || string(r) == quote:
				w.WriteByte('\\')
				w.WriteRune(r)
			case r == '\n':
				w.WriteString(`\n`)
			case r == '\r':
				w.WriteString(`\r`)
			case r == '\t':
				w.WriteString(`\t`)
			case r == ' ' || unicode.IsPrint(r):
				w.WriteRune(r)
			case r < 0x100:
				w.WriteString(`\x` + hex(r, 2))
			case r < 0x10000:
				w.WriteString(`\u` + hex(r, 4))
			default:
				w.WriteString(`\U` + hex(r, 8))
			}
		}
		return w.String()
	}))
	b.writeString(quote)
}

func hex(r rune, width int) string {
	s := strconv.FormatInt(int64(r), 16)
	return strings.Repeat("0", max(0, width-len(s))) + s
}

// formatFloat is Python's repr of a float.
func formatFloat(f float64) string {
	switch {
	case math.IsInf(f, 1):
		return "inf"
	case math.IsInf(f, -1):
		return "-inf"
	case f != f:
		return "nan"
	}
	s := strconv.FormatFloat(f, 'e', -1, 64)
	exp, err := strconv.Atoi(s[strings.IndexByte(s, 'e')+1:])
	if err != nil || exp < -4 || exp >= 16 {
		return s
	}
	s = strconv.FormatFloat(f, 'f', -1, 64)
	if !strings.Contains(s, ".") {
		s += ".0"
	}
	return s
}

func (in *interp) equal(a, b any) bool {
	in.enter()
	defer in.leave()
	if x, y := number(a), number(b); x != nil && y != nil {
		m, okM := x.(int64)
		n, okN := y.(int64)
		if okM && okN {
			return m == n
		}
		return toFloat(x) == toFloat(y)
	}
	switch x := a.(type) {
	case nil:
		return b == nil
	case undefined:
		_, ok := b.(undefined)
		return ok
	case text:
		y, ok := b.(text)
		if !ok || len(x.s) != len(y.s) {
			return false
		}
		in.read(x)
		return x.s == y.s
	case *list:
		y, ok := b.(*list)
		if !ok || x.tuple != y.tuple || len(x.items) != len(y.items) {
			return false
		}
		for i := range x.items {
			if !in.equal(x.items[i], y.items[i]) {
				return false
			}
		}
		return true
	case *dict:
		y, ok := b.(*dict)
		if x == y {
			return true
		}
		if !ok || x.namespace || y.namespace || len(x.keys) != len(y.keys) {
			return false
		}
		for k, v := range x.m {
			w, ok := y.m[k]
			if !ok || !in.equal(v, w) {
				return false
			}
		}
		return true
	case *loop:
		return a == b
	}
	return false
}

// order returns a negative, zero or positive number if a is less than, equal to or greater than b.
func (in *interp) order(a, b any) int {
	in.enter()
	defer in.leave()
	if x, y := number(defined(a)), number(defined(b)); x != nil && y != nil {
		m, okM := x.(int64)
		n, okN := y.(int64)
		switch {
		case okM && okN && m < n:
			return -1
		case okM && okN && m > n:
			return 1
		case okM && okN:
			return 0
		case toFloat(x) < toFloat(y):
			return -1
		case toFloat(x) > toFloat(y):
			return 1
		}
		return 0
	}
	switch x := a.(type) {
	case text:
		if y, ok := b.(text); ok {
			in.step(min(len(x.s), len(y.s)) / bytesPerStep)
			return strings.Compare(x.s, y.s)
		}
	case *list:
		if y, ok := b.(*list); ok {
			for i := range min(len(x.items), len(y.items)) {
				if c := in.order(x.items[i], y.items[i]); c != 0 {
					return c
				}
			}
			return len(x.items) - len(y.items)
		}
	}
	fail("%s and %s have no order", typeName(a), typeName(b))
	return 0
}

func (in *interp) compare(op string, a, b any) bool {
	switch op {
	case "==":
		return in.equal(a, b)
	case "!=":
		return !in.equal(a, b)
	case "<":
		return in.order(a, b) < 0
	case "<=":
		return in.order(a, b) <= 0
	case ">":
		return in.order(a, b) > 0
	case ">=":
		return in.order(a, b) >= 0
	case "in":
		return in.contains(b, a)
	}
	return !in.contains(b, a)
}

func (in *interp) contains(c, v any) bool {
	switch x := c.(type) {
	case text:
		s, ok := v.(text)
		if !ok {
			fail("'in' a string needs a string, got %s", typeName(defined(v)))
		}
		in.read(x)
		in.read(s)
		return strings.Contains(x.s, s.s)
	case *list:
		for _, e := range x.items {
			if in.equal(e, v) {
				return true
			}
		}
		return false
	case *dict:
		in.read(v)
		k, ok := hashable(v)
		if !ok {
			return false
		}
		_, ok = x.m[k]
		return ok
	case undefined:
		return false
	}
	fail("'in' needs a string, a list or a mapping, got %s", typeName(c))
	return false
}

func (in *interp) iterate(v any) []any {
	switch x := v.(type) {
	case *list:
		return x.items
	case *dict:
		if !x.namespace {
			out := in.room(len(x.keys))
			for _, k := range x.keys {
				out = append(out, in.key(x, k))
			}
			return out
		}
	case text:
		return x.chars(in)
	case undefined:
		return nil
	}
	fail("%s can't be iterated over", typeName(v))
	return nil
}

func (x *binaryExpr) eval(in *interp, sc *scope) any {
	return in.binary(x.op, in.eval(x.l, sc), in.eval(x.r, sc))
}

// binary returns l op r.
func (in *interp) binary(op string, l, r any) any {
	l, r = defined(l), defined(r)
	in.step(1)
	in.read(l)
	in.read(r)
	if s, ok := l.(text); ok {
		switch y := r.(type) {
		case text:
			if op == "+" {
				return in.join(s, y)
			}
		case int64:
			if op == "*" {
				return in.repeat(s, y)
			}
		}
		if op == "%" {
			if t, ok := r.(*list); ok && t.tuple {
				return in.percent(s, t.items)
			}
			return in.percent(s, []any{r})
		}
	}
	if s, ok := r.(text); ok && op == "*" {
		if n, ok := l.(int64); ok {
			return in.repeat(s, n)
		}
	}
	if a, ok := l.(*list); ok {
		if b, ok := r.(*list); ok && op == "+" && a.tuple == b.tuple {
			items := in.room(len(a.items) + len(b.items))
			return in.alike(a, append(append(items, a.items...), b.items...))
		}
		if n, ok := r.(int64); ok && op == "*" {
			out := in.alike(a, nil)
			for range max(0, n) {
				in.step(1)
				for _, v := range a.items {
					out.add(&in.budget, v)
				}
			}
			return out
		}
	}
	a, b := number(l), number(r)
	if a == nil || b == nil {
		fail("'%s' does not work on %s and %s", op, typeName(l), typeName(r))
	}
	m, okM := a.(int64)
	n, okN := b.(int64)
	if okM && okN {
		return integers(op, m, n)
	}
	return floats(op, toFloat(a), toFloat(b))
}

func (in *interp) repeat(s text, n int64) text {
	b := in.builder()
	for range max(0, n) {
		in.step(1)
		b.write(s)
	}
	return b.text()
}

func integers(op string, m, n int64) any {
	switch op {
	case "+":
		if s := m + n; (s > m) == (n > 0) {
			return s
		}
	case "-":
		if d := m - n; (d < m) == (n > 0) {
			return d
		}
	case "*":
		if m == 0 || n == 0 {
			return int64(0)
		}
		if p := m * n; p/n == m && !(n == -1 && m == math.MinInt64) && !(m == -1 && n == math.MinInt64) {
			return p
		}
	case "/":
		return floats(op, float64(m), float64(n))
	case "//", "%":
		if n == 0 {
			fail("division by zero")
		}
		if n == -1 {
			if op == "%" {
				return int64(0)
			}
			return integers("*", m, -1)
		}
		q, r := m/n, m%n
		if r != 0 && (r < 0) != (n < 0) {
			q, r = q-1, r+n
		}
		if op == "//" {
			return q
		}
		return r
	case "**":
		if n < 0 {
			return floats(op, float64(m), float64(n))
		}
		p := int64(1)
		for range n {
			if p == 0 || (p == 1 && m == 1) {
				return p
			}
			if m == -1 {
				return 1 - 2*(n&1)
			}
			p = integers("*", p, m).(int64)
		}
		return p
	}
	fail("integer overflow in '%s'", op)
	return nil
}

func floats(op string, x, y float64) any {
	switch op {
	case "+":
		return x + y
	case "-":
		return x - y
	case "*":
		return x * y
	case "**":
		return math.Pow(x, y)
	}
	if y == 0 {
		fail("division by zero")
	}
	switch op {
	case "//":
		return math.Floor(x / y)
	case "%":
		r := math.Mod(x, y)
		if r != 0 && (r < 0) != (y < 0) {
			r += y
		}
		return r
	}
	return x / y
}

// loop is the variable loop inside a for.
type loop struct {
	items   []any
	at      int
	changed any
	seen    bool
}

func (l *loop) attribute(in *interp, name string) (any, bool) {
	n, i := int64(len(l.items)), int64(l.at)
	switch name {
	case "index":
		return i + 1, true
	case "index0":
		return i, true
	case "revindex":
		return n - i, true
	case "revindex0":
		return n - i - 1, true
	case "first":
		return i == 0, true
	case "last":
		return i == n-1, true
	case "length":
		return n, true
	case "depth":
		return int64(1), true
	case "depth0":
		return int64(0), true
	case "previtem":
		if i > 0 {
			return l.items[i-1], true
		}
		return in.undefined("loop.previtem", "", nil), true
	case "nextitem":
		if i+1 < n {
			return l.items[i+1], true
		}
		return in.undefined("loop.nextitem", "", nil), true
	case "cycle":
		return in.function(name, func(in *interp, a args) any {
			a.limit(len(a.list))
			if len(a.list) == 0 {
				fail("loop.cycle() needs arguments")
			}
			return a.list[l.at%len(a.list)]
		}), true
	case "changed":
		return in.function(name, func(in *interp, a args) any {
			a.limit(len(a.list))
			now := in.tuple(a.list...)
			if l.seen && in.equal(l.changed, now) {
				return false
			}
			l.changed, l.seen = now, true
			return true
		}), true
	}
	return nil, false
}

// attribute returns x.name if that is not a mapping's key: a method or a field of loop.
func (in *interp) attribute(v any, name string) (any, bool) {
	switch x := v.(type) {
	case undefined:
		fail("%s is undefined: it has no %s", x, quote(name))
	case *loop:
		return x.attribute(in, name)
	case text:
		if m, ok := textMethods[name]; ok {
			return in.function(name, func(in *interp, a args) any { in.read(v); return m(in, x, a) }), true
		}
	case *dict:
		if x.namespace {
			return nil, false
		}
		if m, ok := dictMethods[name]; ok {
			return in.function(name, func(in *interp, a args) any { in.read(v); return m(in, x, a) }), true
		}
	case *list:
		if m, ok := listMethods[name]; ok {
			return in.function(name, func(in *interp, a args) any { in.read(v); return m(in, x, a) }), true
		}
	}
	return nil, false
}
