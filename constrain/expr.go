package constrain

import (
	"cmp"
	"slices"
)

// An expr is an expression over bytes: a regular expression with intersection, complement and counted repetition, which may
// also refer to rules. It is the index of a node in an arena. Equal expressions have equal numbers, as far as the
// constructors below can tell that they are equal, and a node's operands have smaller numbers than the node.
type expr int32

const (
	none  expr = iota + 1 // no text at all
	empty                 // the empty text
)

type kind uint8

const (
	kindNone     kind = iota
	kindEmpty         // the empty text
	kindBytes         // one byte of the set sets[n]
	kindConcat        // a, then b
	kindUnion         // a or b; b may be a union
	kindBoth          // a and b at once; b may be an intersection
	kindNot           // every text but a
	kindRepeat        // a, n to m times; m < 0 is without end
	kindRule          // the texts of rules[n]
	kindMembers       // the rest of an object: objects[a], known properties seen[b], n members so far, m is atFirst or afterMember
	kindKey           // the rest of a known key: objects[a], seen[b] and n as above, at node m of the object's trie
	kindMultiple      // the rest of a multiple of multiples[a] whose digits so far have the remainder n; m is its place
)

// A node is an expression by its operands. It is its own key in the table of all nodes.
type node struct {
	kind kind
	a, b expr
	n, m int64
}

// A property of a node that is kept beside it.
type fact uint8

const (
	nullable fact = 1 << iota // the empty text is among its texts, not counting those of rules
	calls                     // it may start with a rule
	ruled                     // it refers to rules, so it may not be intersected
	endless                   // it repeats something without end, or many times
	checked                   // it is an intersection or a complement and known to have a text
)

// A byteSet is a set of bytes.
type byteSet [4]uint64

func (s *byteSet) add(lo, hi byte) {
	for b := int(lo); b <= int(hi); b++ {
		s[b/64] |= 1 << (b % 64)
	}
}

func (s *byteSet) has(b byte) bool { return s[b/64]>>(b%64)&1 != 0 }

// An arena holds the expressions of a grammar, and their derivatives as they are found.
type arena struct {
	nodes []node
	facts []fact
	moves []moves // by expression: where each byte leads
	ids   map[node]expr

	alphabet byteSet // the bytes that a text may have
	written  int64   // the same, as one of sets
	sets     []byteSet
	setIDs   map[byteSet]int64
	classes  map[string]*classes

	rules     []expr // that expressions refer to by number
	objects   []*object
	seen      []string // sets of properties, a bit each
	seenIDs   map[string]expr
	multiples []multiple
	callsOf   map[expr][]call
	expanded  map[expr]expr   // of kindMembers
	full      map[*digit]expr // all characters of a code, from one of its digits on

	whole bool // numbers without a fraction are written without zeros for one

	dead     map[expr]bool // intersections and complements without a text
	searched int           // steps of pruned
	err      error         // the first limit that was exceeded; from then on every expression is none
}

func newArena(alphabet byteSet) *arena {
	a := &arena{
		alphabet: alphabet, ids: map[node]expr{}, setIDs: map[byteSet]int64{}, classes: map[string]*classes{},
		seenIDs: map[string]expr{}, callsOf: map[expr][]call{}, expanded: map[expr]expr{}, full: map[*digit]expr{}, dead: map[expr]bool{},
	}
	a.nodes, a.facts, a.moves = make([]node, 1), make([]fact, 1), make([]moves, 1)
	a.written = a.setID(alphabet)
	a.node(node{kind: kindNone}, 0)
	a.node(node{kind: kindEmpty}, nullable)
	return a
}

func (a *arena) node(n node, f fact) expr {
	if e, ok := a.ids[n]; ok {
		return e
	}
	if len(a.nodes) >= maxNodes {
		a.fail(&LimitError{"expressions", maxNodes})
		return none
	}
	e := expr(len(a.nodes))
	a.nodes = append(a.nodes, n)
	a.facts = append(a.facts, f)
	a.moves = append(a.moves, moves{})
	a.ids[n] = e
	return e
}

func (a *arena) fail(err error) {
	if a.err == nil {
		a.err = err
	}
}

func (a *arena) is(e expr, f fact) bool { return a.facts[e]&f != 0 }

// bytes is one byte of a set.
func (a *arena) bytes(s byteSet) expr {
	for i := range s {
		s[i] &= a.alphabet[i]
	}
	if s == (byteSet{}) {
		return none
	}
	return a.node(node{kind: kindBytes, n: a.setID(s)}, 0)
}

func (a *arena) byteRange(lo, hi byte) expr {
	var s byteSet
	s.add(lo, hi)
	return a.bytes(s)
}

// literal is a text.
func (a *arena) literal(s string) expr {
	e := empty
	for i := len(s) - 1; i >= 0; i-- {
		e = a.concat(a.byteRange(s[i], s[i]), e)
	}
	return e
}

// concat is the texts of each expression after those of the one before. It is kept as a list: its first operand is no concat.
func (a *arena) concat(list ...expr) expr {
	e := empty
	for i := len(list) - 1; i >= 0; i-- {
		e = a.concat2(list[i], e)
	}
	return e
}

func (a *arena) concat2(x, y expr) expr {
	switch {
	case x == none || y == none:
		return none
	case x == empty:
		return y
	case y == empty:
		return x
	}
	if n := a.nodes[x]; n.kind == kindConcat {
		return a.concat2(n.a, a.concat2(n.b, y))
	}
	if n := a.nodes[x]; n.kind == kindRepeat && n.m < 0 && n.n == 0 && (x == y || a.nodes[y].kind == kindConcat && a.nodes[y].a == x) {
		return y // x* x* is x*
	}
	f := a.facts[x] & a.facts[y] & nullable
	f |= a.facts[x]&(calls|ruled|endless) | a.facts[y]&(ruled|endless)
	if a.is(x, nullable) {
		f |= a.facts[y] & calls
	}
	return a.node(node{kind: kindConcat, a: x, b: y}, f)
}

// operands appends the expressions that e, a union or an intersection, joins.
func (a *arena) operands(list []expr, k kind, e expr) []expr {
	for a.nodes[e].kind == k {
		list = append(list, a.nodes[e].a)
		e = a.nodes[e].b
	}
	return append(list, e)
}

// union is the texts of all expressions. Sets of bytes are merged, and expressions with the same beginning share it, so that
// a long list of literals becomes a trie.
func (a *arena) union(list ...expr) expr {
	var all []expr
	var set byteSet
	for _, e := range list {
		for _, x := range a.operands(nil, kindUnion, e) {
			switch n := a.nodes[x]; n.kind {
			case kindNone:
			case kindBytes:
				for i, w := range a.sets[n.n] {
					set[i] |= w
				}
			default:
				all = append(all, x)
			}
		}
	}
	if set != (byteSet{}) {
		all = append(all, a.bytes(set))
	}
	if len(all) < 2 {
		if len(all) == 0 {
			return none
		}
		return all[0]
	}
	return a.joined(kindUnion, a.factored(a.recounted(all)))
}

// recounted replaces repetitions of the same that differ in their number alone by one, if no number between is missing. An
// ambiguous text would otherwise have as many of them as it has characters.
func (a *arena) recounted(list []expr) []expr {
	type counted struct {
		of, then expr
		n, m     int64
	}
	var counts []counted
	rest := list[:0]
	for _, e := range list {
		head, then := a.nodes[e], empty
		if head.kind == kindConcat {
			head, then = a.nodes[head.a], head.b
		}
		if head.kind == kindRepeat {
			counts = append(counts, counted{head.a, then, head.n, head.m})
		} else {
			rest = append(rest, e)
		}
	}
	slices.SortFunc(counts, func(x, y counted) int {
		return cmp.Or(cmp.Compare(x.of, y.of), cmp.Compare(x.then, y.then), cmp.Compare(x.n, y.n))
	})
	for i := 0; i < len(counts); {
		c := counts[i]
		for i++; i < len(counts) && counts[i].of == c.of && counts[i].then == c.then && (c.m < 0 || counts[i].n <= c.m+1); i++ {
			if m := counts[i].m; c.m >= 0 && (m < 0 || m > c.m) {
				c.m = m
			}
		}
		rest = append(rest, a.concat2(a.repeat(c.of, int(c.n), int(c.m)), c.then))
	}
	return rest
}

// factored replaces expressions with the same beginning by one.
func (a *arena) factored(list []expr) []expr {
	head := func(e expr) expr {
		if n := a.nodes[e]; n.kind == kindConcat {
			return n.a
		}
		return e
	}
	slices.SortFunc(list, func(x, y expr) int {
		if d := int(head(x)) - int(head(y)); d != 0 {
			return d
		}
		return int(x) - int(y)
	})
	list = slices.Compact(list)
	out := list[:0]
	for i := 0; i < len(list); {
		j, h := i+1, head(list[i])
		for j < len(list) && head(list[j]) == h && h != empty {
			j++
		}
		if j == i+1 {
			out = append(out, list[i])
		} else {
			tails := make([]expr, 0, j-i)
			for _, e := range list[i:j] {
				if e == h {
					tails = append(tails, empty)
				} else {
					tails = append(tails, a.nodes[e].b)
				}
			}
			out = append(out, a.concat2(h, a.union(tails...)))
		}
		i = j
	}
	return out
}

// joined is a union or an intersection of a list, which it sorts.
func (a *arena) joined(k kind, list []expr) expr {
	slices.Sort(list)
	list = slices.Compact(list)
	e := list[len(list)-1]
	for i := len(list) - 2; i >= 0; i-- {
		x := list[i]
		f := (a.facts[x] | a.facts[e]) & (calls | ruled | endless)
		if k == kindUnion {
			f |= (a.facts[x] | a.facts[e]) & nullable
		} else {
			f |= a.facts[x] & a.facts[e] & nullable
		}
		e = a.node(node{kind: k, a: x, b: e}, f)
	}
	return e
}

// both is the texts that all expressions have in common; none may refer to a rule.
func (a *arena) both(list ...expr) expr { return a.pruned(a.rawBoth(list...)) }

// rawBoth is both, which may turn out to have no text.
func (a *arena) rawBoth(list ...expr) expr {
	var all []expr
	for _, e := range list {
		for _, x := range a.operands(nil, kindBoth, e) {
			switch {
			case x == none:
				return none
			case x != a.all():
				all = append(all, x)
			}
		}
	}
	if len(all) == 0 {
		return a.all()
	}
	for _, x := range all {
		if n := a.nodes[x]; n.kind == kindNot && slices.Contains(all, n.a) {
			return none
		}
	}
	return a.joined(kindBoth, all)
}

// all is every text.
func (a *arena) all() expr { return a.node(node{kind: kindNot, a: none}, nullable) }

// not is every text but those of e, which may not refer to a rule.
func (a *arena) not(e expr) expr { return a.pruned(a.rawNot(e)) }

func (a *arena) rawNot(e expr) expr {
	if n := a.nodes[e]; n.kind == kindNot {
		return n.a
	}
	return a.node(node{kind: kindNot, a: e}, ^a.facts[e]&nullable|endless)
}

// repeat is e, n to m times; m < 0 is without end.
func (a *arena) repeat(e expr, n, m int) expr {
	if a.is(e, nullable) {
		n = 0
	}
	switch {
	case m == 0 || e == empty || e == none && n == 0:
		return empty
	case e == none:
		return none
	case n == 1 && m == 1:
		return e
	}
	if x := a.nodes[e]; x.kind == kindRepeat && x.n == 0 && x.m < 0 {
		return e
	}
	f := a.facts[e] & (calls | ruled | endless)
	if m < 0 || m > 16 {
		f |= endless
	}
	if n == 0 {
		f |= nullable
	}
	return a.node(node{kind: kindRepeat, a: e, n: int64(n), m: int64(m)}, f)
}

func (a *arena) optional(e expr) expr { return a.union(empty, e) }

func (a *arena) star(e expr) expr { return a.repeat(e, 0, -1) }

// rule makes a rule, whose body is set later.
func (a *arena) rule() int {
	a.rules = append(a.rules, none)
	return len(a.rules) - 1
}

// ref is the texts of a rule.
func (a *arena) ref(rule int) expr {
	return a.node(node{kind: kindRule, n: int64(rule)}, calls|ruled)
}
