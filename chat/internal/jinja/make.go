package jinja

import "strings"

// Only this file makes values that take memory, so that each is charged to the budget. TestValuesAreMadeInOnePlace
// checks that.

// literal returns a string of the template's own.
func (b *budget) literal(s string) text {
	b.charge(textBytes + len(s))
	return text{s: s}
}

// foreign returns a string that came from the variables.
func (b *budget) foreign(s string) text {
	if s == "" {
		return text{}
	}
	b.charge(textBytes + spanBytes + len(s))
	return text{s: s, foreign: []span{{0, len(s)}}}
}

// mapped applies f to t as a whole, for functions that look at more than single characters. The result is foreign if
// any byte of t is.
func (b *budget) mapped(t text, f func(string) string) text {
	b.charge(textBytes + spanBytes + len(t.s)) // before f, whose result is about as large
	s := f(t.s)
	b.charge(max(0, len(s)-len(t.s)))
	if len(t.foreign) > 0 && s != "" {
		return text{s: s, foreign: []span{{0, len(s)}}}
	}
	return text{s: s}
}

// substring returns the bytes [from, to) of t, which it shares.
func (b *budget) substring(t text, from, to int) text {
	spans := t.within(from, to)
	b.charge(textBytes + spanBytes*len(spans))
	out := text{s: t.s[from:to]}
	if len(spans) > 0 {
		out.foreign = make([]span, len(spans))
		for i, f := range spans {
			out.foreign[i] = span{max(f.from, from) - from, min(f.to, to) - from}
		}
	}
	return out
}

// key returns a dict's key as a template sees it. It shares the key's bytes.
func (b *budget) key(d *dict, k any) any {
	s, ok := k.(string)
	if !ok {
		return k
	}
	b.charge(textBytes + spanBytes)
	if d.foreign && s != "" {
		return text{s: s, foreign: []span{{0, len(s)}}}
	}
	return text{s: s}
}

// name returns a string that shares the bytes of s, a literal.
func (b *budget) name(s string) text {
	b.charge(textBytes)
	return text{s: s}
}

// builder joins texts.
type builder struct {
	in      *budget
	b       strings.Builder
	foreign []span
}

func (b *budget) builder() *builder { return &builder{in: b} }

func (b *builder) write(t text) { b.writeRange(t, 0, len(t.s)) }

// writeRange writes the bytes [from, to) of t.
func (b *builder) writeRange(t text, from, to int) {
	spans := t.within(from, to)
	b.in.charge(to - from + spanBytes*len(spans))
	at := b.b.Len() - from
	b.b.WriteString(t.s[from:to])
	for _, f := range spans {
		f.from = at + max(f.from, from)
		f.to = at + min(f.to, to)
		if n := len(b.foreign); n > 0 && b.foreign[n-1].to == f.from {
			b.foreign[n-1].to = f.to
		} else {
			b.foreign = append(b.foreign, f)
		}
	}
}

func (b *builder) writeString(s string) {
	b.in.charge(len(s))
	b.b.WriteString(s)
}

// text returns the text written. The builder must not be used again.
func (b *builder) text() text {
	b.in.charge(textBytes)
	return text{s: b.b.String(), foreign: b.foreign}
}

// list and tuple keep items.
func (b *budget) list(items ...any) *list {
	b.charge(textBytes + itemBytes*len(items))
	return &list{items: items}
}

func (b *budget) tuple(items ...any) *list {
	l := b.list(items...)
	l.tuple = true
	return l
}

// alike returns a list, or a tuple if l is one.
func (b *budget) alike(l *list, items []any) *list {
	made := b.list(items...)
	made.tuple = l.tuple
	return made
}

// room returns an empty slice with space for n elements.
func (b *budget) room(n int) []any {
	b.charge(itemBytes * n)
	return make([]any, 0, n)
}

// add appends to a list under construction.
func (l *list) add(b *budget, v any) {
	b.charge(itemBytes)
	l.items = append(l.items, v)
}

// dict returns an empty dict; foreign says that its keys come from the variables.
func (b *budget) dict(foreign bool) *dict {
	b.charge(entryBytes)
	return &dict{m: map[any]any{}, foreign: foreign}
}

// put sets an entry of a dict under construction, or an attribute of a namespace.
func (b *budget) put(d *dict, k, v any) {
	if _, ok := d.m[k]; !ok {
		b.charge(entryBytes)
		d.keys = append(d.keys, k)
	}
	d.m[k] = v
}

func (b *budget) function(name string, call func(in *interp, a args) any) function {
	b.charge(functionBytes)
	return function{name, call}
}

// undefined returns the value of a missing item, called what and name in errors; of is the value that lacks it.
func (b *budget) undefined(what, name string, of any) undefined {
	b.charge(textBytes)
	u := undefined{what: what, name: name}
	if of != nil {
		u.of = typeName(of)
	}
	return u
}

// child returns a scope inside s.
func (b *budget) child(s *scope) *scope {
	b.charge(scopeBytes)
	return &scope{vars: map[string]any{}, up: s}
}

// set assigns a variable.
func (b *budget) set(s *scope, name string, v any) {
	if _, ok := s.vars[name]; !ok {
		b.charge(entryBytes)
	}
	s.vars[name] = v
}

// putComputed is put with a key that a template computed. One foreign key makes all keys of the dict count as foreign.
func (in *interp) putComputed(d *dict, key, v any) {
	if t, ok := key.(text); ok && len(t.foreign) > 0 {
		d.foreign = true
	}
	in.put(d, in.hash(key), v)
}
