package jinja

import (
	"fmt"
	"math"
	"slices"
	"strings"
)

// Values are nil (none), undefined, bool, int64, float64, text, *list, *dict, function and *loop.

// undefined is the value of a missing item, with its description for errors.
type undefined struct{ what, name, of string }

func (u undefined) String() string {
	s := u.what
	if u.name != "" {
		s = strings.TrimSpace(s + " " + quote(u.name))
	}
	if u.of != "" {
		s += " of " + u.of
	}
	return s
}

type list struct {
	items []any
	tuple bool
}

// dict keeps the order of insertion. Keys are nil, bool, int64, float64 or Go strings.
type dict struct {
	keys      []any
	m         map[any]any
	foreign   bool // a key came from the variables, so all keys count as foreign
	namespace bool // attributes may be set
}

type function struct {
	name string
	call func(in *interp, a args) any
}

// args are the arguments of a call. Arguments beyond those that a function takes are an error.
type args struct {
	kind   string // filter, test or function
	name   string
	list   []any
	names  []string
	values []any
}

// what describes the function in errors.
func (a *args) what() string { return fmt.Sprintf("%s '%s'", a.kind, a.name) }

// get returns argument i, or the one called name.
func (a *args) get(i int, name string) (any, bool) {
	if i < len(a.list) {
		return a.list[i], true
	}
	for j, n := range a.names {
		if n == name {
			return a.values[j], true
		}
	}
	return nil, false
}

// limit fails for arguments beyond the first n, and for named arguments other than names.
func (a *args) limit(n int, names ...string) {
	if len(a.list) > n {
		fail("%s takes at most %d arguments, got %d", a.what(), n, len(a.list))
	}
	for _, name := range a.names {
		if !slices.Contains(names, name) {
			fail("%s has no argument %s", a.what(), quote(name))
		}
	}
}

type scope struct {
	vars map[string]any
	up   *scope
}

func (s *scope) get(name string) (any, bool) {
	for ; s != nil; s = s.up {
		if v, ok := s.vars[name]; ok {
			return v, true
		}
	}
	return nil, false
}

type ctl uint8

const (
	ctlNone ctl = iota
	ctlBreak
	ctlContinue
)

type (
	stmt interface {
		exec(in *interp, sc *scope, out *builder) ctl
	}
	expr interface {
		eval(in *interp, sc *scope) any
	}

	dataStmt   struct{ t text }
	outputStmt struct {
		line int
		x    expr
	}
	ifStmt struct {
		lines     []int
		conds     []expr
		bodies    [][]stmt
		otherwise []stmt
	}
	forStmt struct {
		line            int
		target          *target
		list, cond      expr
		body, otherwise []stmt
	}
	jumpStmt struct{ c ctl }
	setStmt  struct {
		line    int
		target  *target
		x       expr // nil stands for body's text, with filters applied
		filters expr // on a holeExpr
		body    []stmt
	}
	macroStmt struct {
		name     string
		params   []string
		defaults []expr
		body     []stmt
	}
	filterStmt struct {
		line int
		x    expr
		body []stmt
	}
	withStmt struct {
		line   int
		names  []*target
		values []expr
		body   []stmt
	}
	target struct {
		names, attrs []string
		many         bool
	}

	constExpr struct{ v any }
	nameExpr  struct{ name string }
	holeExpr  struct{} // the text that a filter block or block set is applied to
	listExpr  struct {
		items []expr
		tuple bool
	}
	dictExpr  struct{ keys, values []expr }
	condExpr  struct{ then, cond, otherwise expr }
	logicExpr struct {
		or   bool
		l, r expr
	}
	notExpr     struct{ x expr }
	negExpr     struct{ x expr }
	compareExpr struct {
		first expr
		ops   []string
		rest  []expr
	}
	binaryExpr struct {
		op   string
		l, r expr
	}
	concatExpr struct{ parts []expr }
	attrExpr   struct {
		x    expr
		name string
	}
	itemExpr  struct{ x, key expr }
	sliceExpr struct{ x, from, to, step expr }
	arguments struct {
		list  []expr
		names []string
		named []expr
	}
	callExpr struct {
		f    expr
		args arguments
	}
	filterExpr struct {
		name string
		f    filter
		x    expr
		args arguments
	}
	testExpr struct {
		name string
		f    test
		x    expr
		args arguments
		not  bool
	}
)

func (in *interp) run(body []stmt, sc *scope, out *builder) ctl {
	in.enter()
	defer in.leave()
	for _, s := range body {
		in.step(1)
		if c := s.exec(in, sc, out); c != ctlNone {
			return c
		}
	}
	return ctlNone
}

func (in *interp) eval(x expr, sc *scope) any {
	in.enter()
	v := x.eval(in, sc)
	in.leave()
	return v
}

func (s *dataStmt) exec(in *interp, sc *scope, out *builder) ctl {
	out.write(s.t)
	return ctlNone
}

func (s *outputStmt) exec(in *interp, sc *scope, out *builder) ctl {
	in.line = s.line
	out.write(in.str(in.eval(s.x, sc)))
	return ctlNone
}

func (s *ifStmt) exec(in *interp, sc *scope, out *builder) ctl {
	for i, c := range s.conds {
		in.line = s.lines[i]
		if in.truth(in.eval(c, sc)) {
			return in.run(s.bodies[i], sc, out)
		}
	}
	return in.run(s.otherwise, sc, out)
}

func (s *forStmt) exec(in *interp, sc *scope, out *builder) ctl {
	in.line = s.line
	items := in.iterate(in.eval(s.list, sc))
	if s.cond != nil {
		kept := in.list()
		for _, x := range items {
			inner := in.child(sc)
			s.target.set(in, inner, x)
			if in.truth(in.eval(s.cond, inner)) {
				kept.add(&in.budget, x)
			}
		}
		items = kept.items
	}
	if len(items) == 0 {
		return in.run(s.otherwise, sc, out)
	}
	l := &loop{items: items}
	for i, x := range items {
		l.at = i
		inner := in.child(sc)
		in.set(inner, "loop", l)
		s.target.set(in, inner, x)
		if in.run(s.body, inner, out) == ctlBreak {
			break
		}
	}
	return ctlNone
}

func (s *jumpStmt) exec(in *interp, sc *scope, out *builder) ctl { return s.c }

// hole names the variable that holds a block's text for its filters; a template can't spell it.
const hole = " text"

func (in *interp) capture(body []stmt, sc *scope) text {
	b := in.builder()
	in.run(body, in.child(sc), b)
	return b.text()
}

func (s *setStmt) exec(in *interp, sc *scope, out *builder) ctl {
	in.line = s.line
	if s.x != nil {
		s.target.set(in, sc, in.eval(s.x, sc))
		return ctlNone
	}
	inner := in.child(sc)
	in.set(inner, hole, in.capture(s.body, sc))
	s.target.set(in, sc, in.eval(s.filters, inner))
	return ctlNone
}

func (s *filterStmt) exec(in *interp, sc *scope, out *builder) ctl {
	in.line = s.line
	inner := in.child(sc)
	in.set(inner, hole, in.capture(s.body, sc))
	out.write(in.str(in.eval(s.x, inner)))
	return ctlNone
}

func (s *withStmt) exec(in *interp, sc *scope, out *builder) ctl {
	in.line = s.line
	inner := in.child(sc)
	for i, t := range s.names {
		t.set(in, inner, in.eval(s.values[i], sc))
	}
	return in.run(s.body, inner, out)
}

func (s *macroStmt) exec(in *interp, sc *scope, out *builder) ctl {
	in.set(sc, s.name, in.function(s.name, func(in *interp, a args) any {
		a.limit(len(s.params), s.params...)
		line := in.line
		inner := in.child(sc)
		for i, name := range s.params {
			v, ok := a.get(i, name)
			if !ok && s.defaults[i] != nil {
				v, ok = in.eval(s.defaults[i], inner), true
			}
			if !ok {
				v = in.undefined("", name, nil)
			}
			in.set(inner, name, v)
		}
		b := in.builder()
		in.run(s.body, inner, b)
		in.line = line
		return b.text()
	}))
	return ctlNone
}

func (t *target) set(in *interp, sc *scope, v any) {
	if !t.many {
		t.setOne(in, sc, 0, v)
		return
	}
	items := in.iterate(v)
	if len(items) != len(t.names) {
		fail("%d values for %d names", len(items), len(t.names))
	}
	for i, x := range items {
		t.setOne(in, sc, i, x)
	}
}

func (t *target) setOne(in *interp, sc *scope, i int, v any) {
	if t.attrs[i] == "" {
		in.set(sc, t.names[i], v)
		return
	}
	x, _ := sc.get(t.names[i])
	ns, ok := x.(*dict)
	if !ok || !ns.namespace {
		fail("'%s' is not a namespace: its attributes can't be set", t.names[i])
	}
	in.put(ns, t.attrs[i], v)
}

func (x constExpr) eval(in *interp, sc *scope) any { return x.v }

func (x *nameExpr) eval(in *interp, sc *scope) any {
	if v, ok := sc.get(x.name); ok {
		return v
	}
	if f, ok := globals[x.name]; ok {
		return in.function(x.name, f)
	}
	return in.undefined("", x.name, nil)
}

func (x *holeExpr) eval(in *interp, sc *scope) any {
	v, _ := sc.get(hole)
	return v
}

func (x *listExpr) eval(in *interp, sc *scope) any {
	items := in.room(len(x.items))
	for _, i := range x.items {
		items = append(items, in.eval(i, sc))
	}
	if x.tuple {
		return in.tuple(items...)
	}
	return in.list(items...)
}

func (x *dictExpr) eval(in *interp, sc *scope) any {
	d := in.dict(false)
	for i, k := range x.keys {
		in.putComputed(d, in.eval(k, sc), in.eval(x.values[i], sc))
	}
	return d
}

func (x *condExpr) eval(in *interp, sc *scope) any {
	if in.truth(in.eval(x.cond, sc)) {
		return in.eval(x.then, sc)
	}
	if x.otherwise == nil {
		return in.undefined("the value of an 'if' without 'else'", "", nil)
	}
	return in.eval(x.otherwise, sc)
}

func (x *logicExpr) eval(in *interp, sc *scope) any {
	l := in.eval(x.l, sc)
	if in.truth(l) == x.or {
		return l
	}
	return in.eval(x.r, sc)
}

func (x *notExpr) eval(in *interp, sc *scope) any { return !in.truth(in.eval(x.x, sc)) }

func (x *negExpr) eval(in *interp, sc *scope) any {
	switch v := number(in.eval(x.x, sc)).(type) {
	case int64:
		if v == math.MinInt64 {
			fail("integer overflow")
		}
		return -v
	case float64:
		return -v
	}
	fail("'-' needs a number")
	return nil
}

func (x *compareExpr) eval(in *interp, sc *scope) any {
	l := in.eval(x.first, sc)
	for i, op := range x.ops {
		r := in.eval(x.rest[i], sc)
		if !in.compare(op, l, r) {
			return false
		}
		l = r
	}
	return true
}

func (x *concatExpr) eval(in *interp, sc *scope) any {
	b := in.builder()
	for _, p := range x.parts {
		b.write(in.str(in.eval(p, sc)))
	}
	return b.text()
}

func (x *attrExpr) eval(in *interp, sc *scope) any {
	v := in.eval(x.x, sc)
	if a, ok := in.attribute(v, x.name); ok {
		return a
	}
	if d, ok := v.(*dict); ok {
		if a, ok := d.m[x.name]; ok {
			return a
		}
	}
	return in.missing(v, x.name)
}

func (in *interp) missing(v any, name string) any {
	if u, ok := v.(undefined); ok {
		fail("%s is undefined: it has no %s", u, quote(name))
	}
	return in.undefined("attribute", name, v)
}

func (x *itemExpr) eval(in *interp, sc *scope) any {
	return in.item(in.eval(x.x, sc), in.eval(x.key, sc))
}

// item returns x[key]; a string key may also name an attribute.
func (in *interp) item(v, key any) any {
	in.read(v)
	in.read(key)
	switch c := v.(type) {
	case undefined:
		fail("%s is undefined: it can't be indexed", c)
	case *dict:
		if k, ok := hashable(key); ok {
			if x, ok := c.m[k]; ok {
				return x
			}
		}
	case *list:
		if i, ok := index(key, len(c.items)); ok {
			return c.items[i]
		}
	case text:
		if n, ok := number(key).(int64); ok {
			chars := c.len()
			if i, ok := index(n, chars); ok {
				return in.slice(c, int64(i), int64(i)+1, nil)
			}
		}
	}
	if name, ok := key.(text); ok {
		if a, ok := in.attribute(v, name.s); ok {
			return a
		}
		return in.missing(v, name.s)
	}
	return in.undefined("element", in.repr(key).s, v)
}

// index resolves a Python index, which counts from the end if it is negative.
func index(key any, n int) (int, bool) {
	i, ok := number(key).(int64)
	if !ok {
		return 0, false
	}
	if i < 0 {
		i += int64(n)
	}
	return int(i), i >= 0 && i < int64(n)
}

func (x *sliceExpr) eval(in *interp, sc *scope) any {
	bound := func(e expr) any {
		if e == nil {
			return nil
		}
		return in.eval(e, sc)
	}
	return in.slice(in.eval(x.x, sc), bound(x.from), bound(x.to), bound(x.step))
}

// slice returns x[from:to:step] for lists and strings; nil bounds are open.
func (in *interp) slice(v, from, to, step any) any {
	bound := func(x any, what string) (int64, bool) {
		if x == nil {
			return 0, false
		}
		n, ok := number(x).(int64)
		if !ok {
			fail("a slice's %s must be an integer", what)
		}
		return n, true
	}
	var items []any
	str, isText := v.(text)
	l, isList := v.(*list)
	in.read(v)
	switch {
	case isText:
		if step == nil { // the usual case needs no list of characters
			n := int64(str.len())
			a, okA := bound(from, "start")
			b, okB := bound(to, "end")
			i, j := sliceBound(a, okA, 0, n), sliceBound(b, okB, n, n)
			if i >= j {
				return text{}
			}
			return in.substring(str, runeOffset(str.s, i), runeOffset(str.s, j))
		}
		items = str.chars(in)
	case isList:
		items = l.items
	default:
		if u, ok := v.(undefined); ok {
			fail("%s is undefined: it can't be sliced", u)
		}
		fail("%s can't be sliced", typeName(v))
	}
	by, ok := bound(step, "step")
	if !ok {
		by = 1
	}
	if by == 0 {
		fail("a slice's step must not be 0")
	}
	n := int64(len(items))
	a, okA := bound(from, "start")
	b, okB := bound(to, "end")
	out := in.list()
	if by > 0 {
		j := sliceBound(b, okB, n, n)
		for i := sliceBound(a, okA, 0, n); i < j; i += by {
			out.add(&in.budget, items[i])
			if by > n {
				break
			}
		}
	} else {
		// As in Python, bounds are clamped to [-1, n-1].
		i, j := n-1, int64(-1)
		if okA {
			i = min(resolve(a, n), n-1)
		}
		if okB {
			j = max(resolve(b, n), -1)
		}
		for ; i > j && i >= 0; i += by {
			out.add(&in.budget, items[i])
			if by < -n {
				break
			}
		}
	}
	if isList {
		out.tuple = l.tuple
		return out
	}
	bld := in.builder()
	for _, c := range out.items {
		bld.write(c.(text))
	}
	return bld.text()
}

func resolve(i, n int64) int64 {
	if i < 0 {
		return max(i+n, -1)
	}
	return i
}

func sliceBound(i int64, ok bool, def, n int64) int64 {
	if !ok {
		return def
	}
	if i < 0 {
		i += n
	}
	return max(0, min(i, n))
}

func runeOffset(s string, n int64) int {
	for i := range s {
		if n == 0 {
			return i
		}
		n--
	}
	return len(s)
}

func (in *interp) arguments(kind, name string, a arguments, sc *scope) args {
	out := args{kind: kind, name: name, names: a.names}
	if len(a.list) > 0 {
		out.list = in.room(len(a.list))
	}
	for _, x := range a.list {
		out.list = append(out.list, in.eval(x, sc))
	}
	if len(a.named) > 0 {
		out.values = in.room(len(a.named))
	}
	for _, x := range a.named {
		out.values = append(out.values, in.eval(x, sc))
	}
	in.readArgs(out)
	return out
}

func (x *callExpr) eval(in *interp, sc *scope) any {
	f, ok := in.eval(x.f, sc).(function)
	if !ok {
		what := "the value"
		switch n := x.f.(type) {
		case *nameExpr:
			what = quote(n.name)
		case *attrExpr:
			what = "method " + quote(n.name)
		}
		fail("%s can't be called: it is undefined or not supported", what)
	}
	return f.call(in, in.arguments("function", f.name, x.args, sc))
}

func (x *filterExpr) eval(in *interp, sc *scope) any {
	v := in.eval(x.x, sc)
	in.read(v)
	return x.f(in, v, in.arguments("filter", x.name, x.args, sc))
}

func (x *testExpr) eval(in *interp, sc *scope) any {
	v := in.eval(x.x, sc)
	in.read(v)
	return x.f(in, v, in.arguments("test", x.name, x.args, sc)) != x.not
}
