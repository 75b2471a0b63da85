package constrain

import "slices"

// This file finds out what holds for rules that refer to each other.

// least finds the least solution of a property of expressions and rules: of says whether an expression has it, given those
// that have. It looks at an expression again only when an operand of it was found to have the property.
func (a *arena) least(of func(e expr, has func(expr) bool) bool) []bool {
	found := make([]bool, len(a.nodes))
	has := func(e expr) bool { return found[e] }
	users := make([][]expr, len(a.nodes))
	use := func(e, user expr) { users[e] = append(users[e], user) }
	for e := expr(1); int(e) < len(a.nodes); e++ {
		switch n := a.nodes[e]; n.kind {
		case kindConcat, kindUnion, kindBoth:
			use(n.a, e)
			use(n.b, e)
		case kindNot, kindRepeat:
			use(n.a, e)
		case kindRule:
			use(a.rules[n.n], e)
		case kindMembers:
			for _, v := range a.objects[n.a].values {
				use(v, e)
			}
			for _, other := range a.objects[n.a].others {
				use(other.key, e)
				use(other.value, e)
			}
		}
	}
	var queue []expr
	for e := expr(1); int(e) < len(a.nodes); e++ {
		if of(e, has) {
			found[e] = true
			queue = append(queue, users[e]...)
		}
	}
	for len(queue) > 0 {
		e := queue[len(queue)-1]
		queue = queue[:len(queue)-1]
		if !found[e] && of(e, has) {
			found[e] = true
			queue = append(queue, users[e]...)
		}
	}
	return found
}

// prune drops what has no text because a rule has none, and returns what is left of start.
func (a *arena) prune(start expr) expr {
	alive := a.least(func(e expr, has func(expr) bool) bool {
		switch n := a.nodes[e]; n.kind {
		case kindNone:
			return false
		case kindConcat:
			return has(n.a) && has(n.b)
		case kindUnion:
			return has(n.a) || has(n.b)
		case kindRepeat:
			return n.n == 0 || has(n.a)
		case kindRule:
			return has(a.rules[n.n])
		case kindMembers:
			o := a.objects[n.a].live(has)
			return o.satisfiable()
		}
		return true // regular, and constructors leave nothing without a text
	})
	if !slices.Contains(alive[3:], false) {
		return start
	}
	for _, o := range a.objects {
		*o = o.live(func(e expr) bool { return alive[e] })
		o.satisfiable()
	}
	pruned := make([]expr, len(alive))
	for e := expr(1); int(e) < len(alive); e++ {
		n := a.nodes[e]
		switch {
		case !alive[e]:
			pruned[e] = none
		case !a.is(e, ruled):
			pruned[e] = e
		case n.kind == kindConcat:
			pruned[e] = a.concat2(pruned[n.a], pruned[n.b])
		case n.kind == kindUnion:
			pruned[e] = a.union(pruned[n.a], pruned[n.b])
		case n.kind == kindRepeat:
			pruned[e] = a.repeat(pruned[n.a], int(n.n), int(n.m))
		default:
			pruned[e] = e
		}
	}
	for i := range a.rules {
		a.rules[i] = pruned[a.rules[i]]
	}
	for _, o := range a.objects {
		for i, v := range o.values {
			o.values[i] = pruned[v]
		}
		for i := range o.others {
			o.others[i].key, o.others[i].value = pruned[o.others[i].key], pruned[o.others[i].value]
		}
	}
	return pruned[start]
}

// live is the object without the properties whose values have no text.
func (o *object) live(has func(expr) bool) object {
	l := *o
	l.dead = slices.Clone(o.dead)
	for i, v := range o.values {
		l.dead[i] = l.dead[i] || !has(v)
	}
	l.others = slices.DeleteFunc(slices.Clone(o.others), func(x other) bool { return !has(x.key) || !has(x.value) })
	return l
}

// startsWithItself returns a rule that may start with itself, which reading from left to right has no end for; -1 if there is
// none.
func (a *arena) startsWithItself() int {
	nullables := a.least(func(e expr, has func(expr) bool) bool {
		switch n := a.nodes[e]; n.kind {
		case kindConcat:
			return has(n.a) && has(n.b)
		case kindUnion:
			return has(n.a) || has(n.b)
		case kindRepeat:
			return n.n == 0 || has(n.a)
		case kindRule:
			return has(a.rules[n.n])
		}
		return a.is(e, nullable)
	})
	const (
		unseen = iota
		entered
		left
	)
	state := make([]int, len(a.rules))
	var visit func(rule int) int
	visit = func(rule int) int {
		switch state[rule] {
		case left:
			return -1
		case entered:
			return rule
		}
		state[rule] = entered
		seen := map[expr]bool{}
		stack := []expr{a.rules[rule]}
		for len(stack) > 0 {
			e := stack[len(stack)-1]
			stack = stack[:len(stack)-1]
			if seen[e] || !a.is(e, ruled) {
				continue
			}
			seen[e] = true
			switch n := a.nodes[e]; n.kind {
			case kindConcat:
				if nullables[n.a] {
					stack = append(stack, n.b)
				}
				stack = append(stack, n.a)
			case kindUnion:
				stack = append(stack, n.a, n.b)
			case kindRepeat:
				stack = append(stack, n.a)
			case kindRule:
				if found := visit(int(n.n)); found >= 0 {
					return found
				}
			}
		}
		state[rule] = left
		return -1
	}
	for i := range a.rules {
		if found := visit(i); found >= 0 {
			return found
		}
	}
	return -1
}
