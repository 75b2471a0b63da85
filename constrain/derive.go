package constrain

import (
	"encoding/binary"
	"slices"
)

// This file finds derivatives: what may follow a first byte. They make a deterministic automaton of an expression, one
// state at a time (Brzozowski 1964; Owens, Reppy and Turon 2009, "Regular-expression derivatives re-examined").

// moves is the row of an expression in the automaton.
type moves struct {
	*classes
	next []expr // by class; 0 is not known yet
}

// classes says which bytes an expression cannot tell apart.
type classes struct {
	of   [256]uint8
	reps []byte // one byte of each class
}

// A call is a rule that an expression may start with, and what follows then.
type call struct {
	rule int
	then expr
}

// step is what may follow byte b in the texts of e that start with it, rules aside.
func (a *arena) step(e expr, b byte) expr {
	if m := &a.moves[e]; m.classes != nil {
		if d := m.next[m.of[b]]; d != 0 {
			return d
		}
	}
	return a.firstStep(e, b)
}

// firstStep is step for a byte of a class that no text has had yet.
func (a *arena) firstStep(e expr, b byte) expr {
	c := a.classesOf(e)
	if m := &a.moves[e]; m.classes == nil {
		m.classes, m.next = c, make([]expr, len(c.reps))
	}
	class := c.of[b]
	d := a.derive(e, c.reps[class])
	if a.err != nil {
		return none
	}
	a.moves[e].next[class] = d
	return d
}

func (a *arena) derive(e expr, b byte) expr {
	switch n := a.nodes[e]; n.kind {
	case kindBytes:
		if a.sets[n.n].has(b) {
			return empty
		}
	case kindConcat:
		d := a.concat2(a.step(n.a, b), n.b)
		if a.is(n.a, nullable) {
			d = a.union(d, a.step(n.b, b))
		}
		return d
	case kindUnion:
		var list []expr
		for _, x := range a.operands(nil, kindUnion, e) {
			if d := a.step(x, b); d != none {
				list = append(list, d)
			}
		}
		return a.union(list...)
	case kindBoth, kindNot:
		return a.pruned(a.deriveRaw(e, b))
	case kindRepeat:
		return a.concat2(a.step(n.a, b), a.repeat(n.a, max(0, int(n.n)-1), max(-1, int(n.m)-1)))
	case kindMembers:
		return a.step(a.expand(e), b)
	case kindKey:
		return a.stepKey(n, b)
	case kindMultiple:
		return a.stepMultiple(n, b)
	}
	return none
}

// deriveRaw is derive without looking whether an intersection has a text.
func (a *arena) deriveRaw(e expr, b byte) expr {
	switch n := a.nodes[e]; n.kind {
	case kindBoth:
		var list []expr
		for _, x := range a.operands(nil, kindBoth, e) {
			d := a.step(x, b)
			if d == none {
				return none
			}
			list = append(list, d)
		}
		return a.rawBoth(list...)
	case kindNot:
		return a.rawNot(a.step(n.a, b))
	}
	return a.step(e, b)
}

// pruned is e, or none if e is an intersection or a complement without a text. It searches for a text; on the way to one
// every expression has one too.
func (a *arena) pruned(e expr) expr {
	if k := a.nodes[e].kind; k != kindBoth && k != kindNot || a.is(e, checked|nullable) {
		return e
	}
	if a.dead[e] {
		return none
	}
	from := map[expr]expr{e: none}
	stack := []expr{e}
	for len(stack) > 0 && a.err == nil {
		x := stack[len(stack)-1]
		stack = stack[:len(stack)-1]
		for _, b := range a.classesOf(x).reps {
			if !a.alphabet.has(b) {
				continue
			}
			d := a.deriveRaw(x, b)
			if _, ok := from[d]; ok || d == none || a.dead[d] {
				continue
			}
			from[d] = x
			k := a.nodes[d].kind
			if k != kindBoth && k != kindNot || a.is(d, checked|nullable) {
				for y := x; y != none; y = from[y] {
					a.facts[y] |= checked
				}
				return e
			}
			if a.searched++; a.searched > maxSearch {
				a.fail(&LimitError{"steps to find out whether intersections have a text", maxSearch})
				return none
			}
			stack = append(stack, d)
		}
	}
	if a.err == nil {
		for x := range from {
			a.dead[x] = true
		}
	}
	return none
}

// classesOf finds which bytes e cannot tell apart: those that are in the same ones of the sets that its texts may start
// with, and in the alphabet or not.
func (a *arena) classesOf(e expr) *classes {
	if c := a.moves[e].classes; c != nil {
		return c
	}
	list := a.starts([]int64{a.written}, e)
	slices.Sort(list)
	list = slices.Compact(list)
	key := make([]byte, 0, 4*len(list))
	for _, s := range list {
		key = binary.LittleEndian.AppendUint32(key, uint32(s))
	}
	if c, ok := a.classes[string(key)]; ok {
		return c
	}
	c := &classes{}
	class := [256]int{}
	n := 1
	for _, s := range list { // split each class by the set
		split := map[int]int{}
		for b := range 256 {
			if a.sets[s].has(byte(b)) {
				to, ok := split[class[b]]
				if !ok {
					to = n
					n++
					split[class[b]] = to
				}
				class[b] = to
			}
		}
	}
	renumbered := map[int]int{}
	for b := range 256 {
		to, ok := renumbered[class[b]]
		if !ok {
			to = len(c.reps)
			renumbered[class[b]] = to
			c.reps = append(c.reps, byte(b))
		}
		c.of[b] = uint8(to)
	}
	a.classes[string(key)] = c
	return c
}

// starts appends the sets of bytes that decide about the first byte of e.
func (a *arena) starts(list []int64, e expr) []int64 {
	for {
		switch n := a.nodes[e]; n.kind {
		case kindBytes:
			return append(list, n.n)
		case kindConcat:
			list = a.starts(list, n.a)
			if !a.is(n.a, nullable) {
				return list
			}
			e = n.b
		case kindUnion, kindBoth:
			list = a.starts(list, n.a)
			e = n.b
		case kindNot, kindRepeat:
			e = n.a
		case kindMembers:
			e = a.expand(e)
		case kindKey:
			return a.keyStarts(list, n)
		case kindMultiple:
			return a.multipleStarts(list)
		default:
			return list
		}
	}
}

// setOf numbers the set of one byte.
func (a *arena) setOf(b byte) int64 {
	var s byteSet
	s.add(b, b)
	return a.setID(s)
}

func (a *arena) setID(s byteSet) int64 {
	id, ok := a.setIDs[s]
	if !ok {
		id = int64(len(a.sets))
		a.sets = append(a.sets, s)
		a.setIDs[s] = id
	}
	return id
}

// callsFrom lists the rules that e may start with.
func (a *arena) callsFrom(e expr) []call {
	if !a.is(e, calls) {
		return nil
	}
	if list, ok := a.callsOf[e]; ok {
		return list
	}
	var list []call
	add := func(from []call, then expr) {
		for _, c := range from {
			c.then = a.concat2(c.then, then)
			i := slices.IndexFunc(list, func(d call) bool { return d.rule == c.rule })
			if i < 0 {
				list = append(list, c)
			} else {
				list[i].then = a.union(list[i].then, c.then)
			}
		}
	}
	switch n := a.nodes[e]; n.kind {
	case kindRule:
		add([]call{{int(n.n), empty}}, empty)
	case kindConcat:
		add(a.callsFrom(n.a), n.b)
		if a.is(n.a, nullable) {
			add(a.callsFrom(n.b), empty)
		}
	case kindUnion:
		for _, x := range a.operands(nil, kindUnion, e) {
			add(a.callsFrom(x), empty)
		}
	case kindRepeat:
		add(a.callsFrom(n.a), a.repeat(n.a, max(0, int(n.n)-1), max(-1, int(n.m)-1)))
	case kindMembers:
		add(a.callsFrom(a.expand(e)), empty)
	}
	if a.err == nil {
		a.callsOf[e] = list
	}
	return list
}
