package jinja

import (
	"math"
	"slices"
	"strconv"
	"strings"
)

// tojson is Python's json.dumps with ensure_ascii off and no HTML escapes, as transformers' filter tojson.
func tojson(in *interp, v any, a args) any {
	a.limit(4, "ensure_ascii", "indent", "separators", "sort_keys")
	w := jsonWriter{in: in, b: in.builder(), comma: ", ", colon: ": ", indent: -1}
	if x, ok := a.get(0, "ensure_ascii"); ok {
		w.ascii = in.truth(x)
	}
	if x, ok := a.get(1, "indent"); ok && x != nil {
		if t, ok := x.(text); ok {
			w.pad, w.indent = t.s, 1
		} else if n, ok := number(x).(int64); ok {
			w.pad, w.indent = strings.Repeat(" ", int(max(0, min(n, 64)))), 1
		} else {
			fail("tojson: indent must be a number or a string")
		}
		w.comma = ","
	}
	if x, ok := a.get(2, "separators"); ok && x != nil {
		s := in.iterate(x)
		if len(s) != 2 {
			fail("tojson: separators must be two strings")
		}
		w.comma, w.colon = in.str(s[0]).s, in.str(s[1]).s
	}
	if x, ok := a.get(3, "sort_keys"); ok {
		w.sorted = in.truth(x)
	}
	w.write(v, 0)
	return w.b.text()
}

type jsonWriter struct {
	in            *interp
	b             *builder
	comma, colon  string
	pad           string
	indent        int
	ascii, sorted bool
}

func (w *jsonWriter) newline(level int) {
	if w.indent >= 0 {
		w.b.writeString("\n")
		for range level {
			w.b.writeString(w.pad)
		}
	}
}

func (w *jsonWriter) write(v any, level int) {
	w.in.enter()
	defer w.in.leave()
	switch x := v.(type) {
	case nil:
		w.b.writeString("null")
	case bool:
		w.b.writeString(strconv.FormatBool(x))
	case int64:
		w.b.writeString(strconv.FormatInt(x, 10))
	case float64:
		switch {
		case x != x:
			w.b.writeString("NaN")
		case math.IsInf(x, 1):
			w.b.writeString("Infinity")
		case math.IsInf(x, -1):
			w.b.writeString("-Infinity")
		default:
			w.b.writeString(formatFloat(x))
		}
	case text:
		w.quote(x)
	case *list:
		w.b.writeString("[")
		for i, e := range x.items {
			if i > 0 {
				w.b.writeString(w.comma)
			}
			w.newline(level + 1)
			w.write(e, level+1)
		}
		if len(x.items) > 0 {
			w.newline(level)
		}
		w.b.writeString("]")
	case *dict:
		if x.namespace {
			fail("tojson: a namespace has no JSON form")
		}
		keys := x.keys
		if w.sorted {
			keys = append(w.in.room(len(keys)), keys...)
			slices.SortFunc(keys, func(a, b any) int { return w.in.order(w.in.key(x, a), w.in.key(x, b)) })
		}
		w.b.writeString("{")
		for i, k := range keys {
			if i > 0 {
				w.b.writeString(w.comma)
			}
			w.newline(level + 1)
			switch key := w.in.key(x, k).(type) {
			case text:
				w.quote(key)
			default:
				w.b.writeString(`"`)
				w.write(key, 0)
				w.b.writeString(`"`)
			}
			w.b.writeString(w.colon)
			w.write(x.m[k], level+1)
		}
		if len(keys) > 0 {
			w.newline(level)
		}
		w.b.writeString("}")
	case undefined:
		fail("tojson: %s is undefined", x)
	default:
		fail("tojson: %s has no JSON form", typeName(v))
	}
}

func (w *jsonWriter) quote(t text) {
	w.b.writeString(`"`)
	w.b.write(t.each(w.in, func(s string) string {
		var b strings.Builder
		for _, r := range s {
			switch {
			case r == '"' || r == '\\':
				b.WriteByte('\\')
				b.WriteRune(r)
			case r == '\n':
				b.WriteString(`\n`)
			case r == '\r':
				b.WriteString(`\r`)
			case r == '\t':
				b.WriteString(`\t`)
			case r == '\b':
				b.WriteString(`\b`)
			case r == '\f':
				b.WriteString(`\f`)
			case r >= 0x10000 && w.ascii:
				r -= 0x10000
				b.WriteString(`\u` + hex(0xd800+r>>10, 4) + `\u` + hex(0xdc00+r&0x3ff, 4))
			case r < 0x20 || (r >= 0x7f && w.ascii):
				b.WriteString(`\u` + hex(r, 4))
			default:
				b.WriteRune(r)
			}
		}
		return b.String()
	}))
	w.b.writeString(`"`)
}
