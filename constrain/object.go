package constrain

import "slices"

// An object says what the members of a JSON object are. Known properties may come in any order, each once: what may follow
// depends on the set of those seen, and is found only for the sets that a text reaches.
type object struct {
	keys                    []string // known properties, as JSON strings without the first quote
	values                  []expr
	dead                    []bool  // no value fits
	needed                  []int   // properties that must be there
	needs                   [][]int // by property: those that must be there with it
	others                  []other // unknown properties
	trie                    []keyNode
	min                     int
	max                     int // -1 is without end
	ordered                 bool
	open, comma, colon, end expr // what is between the members
}

// other is a kind of unknown properties.
type other struct {
	key   expr
	value expr
}

// A keyNode is a beginning of known keys.
type keyNode struct {
	next  []byte
	child []int
	below []int // the keys that begin so
	key   int   // the key that ends here, or -1
}

// Places of kindMembers: after the brace, and after a member.
const (
	atFirst = iota
	afterMember
)

// build makes the trie of the known keys.
func (o *object) build() {
	o.trie = []keyNode{{key: -1}}
	for i, key := range o.keys {
		at := 0
		for _, b := range []byte(key) {
			o.trie[at].below = append(o.trie[at].below, i)
			j := slices.Index(o.trie[at].next, b)
			if j < 0 {
				j = len(o.trie[at].next)
				o.trie[at].next = append(o.trie[at].next, b)
				o.trie[at].child = append(o.trie[at].child, len(o.trie))
				o.trie = append(o.trie, keyNode{key: -1})
			}
			at = o.trie[at].child[j]
		}
		o.trie[at].key = i
		o.trie[at].below = append(o.trie[at].below, i)
	}
}

// A seenSet is a set of known properties, a bit each.
type seenSet []byte

func (s seenSet) has(i int) bool { return s[i/8]>>(i%8)&1 != 0 }

func (s seenSet) add(i int) { s[i/8] |= 1 << (i % 8) }

// missing lists the properties that must still come.
func (o *object) missing(seen seenSet) []int {
	want := slices.Clone(o.needed)
	in := make(seenSet, len(seen))
	for _, i := range want {
		in.add(i)
	}
	grow := func(list []int) {
		for _, j := range list {
			if !in.has(j) {
				in.add(j)
				want = append(want, j)
			}
		}
	}
	for i, list := range o.needs {
		if seen.has(i) {
			grow(list)
		}
	}
	for k := 0; k < len(want); k++ {
		if o.needs != nil {
			grow(o.needs[want[k]])
		}
	}
	return slices.DeleteFunc(want, seen.has)
}

// completes reports whether an object can still end, of which n members are there, the known ones in seen; last is the last
// known one, or -1.
func (o *object) completes(seen seenSet, n, last int) bool {
	missing := o.missing(seen)
	for _, i := range missing {
		if o.dead[i] || o.ordered && i < last {
			return false
		}
	}
	if o.max >= 0 && n+len(missing) > o.max {
		return false
	}
	if len(o.others) > 0 || n >= o.min {
		return true
	}
	for i := range o.keys {
		if !seen.has(i) && !o.dead[i] && !(o.ordered && i < last) {
			n++
		}
	}
	return n >= o.min
}

// last is the last property in a set that keeps the order.
func (o *object) last(seen seenSet) int {
	for i := len(o.keys) - 1; i >= 0; i-- {
		if seen.has(i) {
			return i
		}
	}
	return -1
}

// allows reports whether a property may come next.
func (o *object) allows(i int, seen seenSet, n int) bool {
	if o.needs == nil && o.max < 0 && o.min == 0 && !o.ordered {
		return !seen.has(i) && !o.dead[i]
	}
	last := o.last(seen)
	if seen.has(i) || o.dead[i] || o.ordered && i < last {
		return false
	}
	with := slices.Clone(seen)
	with.add(i)
	return o.completes(with, n+1, i)
}

// satisfiable drops the properties that can't be there, and reports whether an object can be written at all.
func (o *object) satisfiable() bool {
	for changed := true; changed; {
		changed = false
		for i := range o.needs {
			if !o.dead[i] && slices.ContainsFunc(o.needs[i], func(j int) bool { return o.dead[j] }) {
				o.dead[i], changed = true, true
			}
		}
	}
	return o.completes(make(seenSet, (len(o.keys)+7)/8), 0, -1)
}

// object is the texts of an object.
func (a *arena) object(o *object) expr {
	o.build()
	a.objects = append(a.objects, o)
	seen := a.seenID(make(seenSet, (len(o.keys)+7)/8))
	return a.concat(a.literal("{"), a.members(expr(len(a.objects)-1), seen, 0, atFirst))
}

func (a *arena) seenID(s seenSet) expr {
	id, ok := a.seenIDs[string(s)]
	if !ok {
		id = expr(len(a.seen))
		a.seen = append(a.seen, string(s))
		a.seenIDs[string(s)] = id
	}
	return id
}

func (a *arena) members(o, seen expr, n int, place int) expr {
	if obj := a.objects[o]; obj.min == 0 && obj.max < 0 {
		n = 0 // nobody counts
	}
	return a.node(node{kind: kindMembers, a: o, b: seen, n: int64(n), m: int64(place)}, calls|ruled|endless)
}

// expand is what may follow in an object.
func (a *arena) expand(members expr) expr {
	if e, ok := a.expanded[members]; ok {
		return e
	}
	n := a.nodes[members]
	o, seen, count := a.objects[n.a], seenSet(a.seen[n.b]), int(n.n)
	var list []expr
	if slices.ContainsFunc(o.trie[0].below, func(i int) bool { return o.allows(i, seen, count) }) {
		list = append(list, a.concat(a.literal(`"`), a.key(n.a, n.b, count, 0)))
	}
	if o.max < 0 || count+1+len(o.missing(seen)) <= o.max {
		for _, other := range o.others {
			list = append(list, a.concat(other.key, o.colon, other.value, a.members(n.a, n.b, count+1, afterMember)))
		}
	}
	between := o.open
	if n.m == afterMember {
		between = o.comma
	}
	e := a.concat(between, a.union(list...))
	if count >= o.min && len(o.missing(seen)) == 0 {
		e = a.union(e, a.concat(o.end, a.literal("}")))
	}
	if a.err == nil {
		a.expanded[members] = e
	}
	return e
}

func (a *arena) key(o, seen expr, count, at int) expr {
	return a.node(node{kind: kindKey, a: o, b: seen, n: int64(count), m: int64(at)}, ruled|endless)
}

func (a *arena) stepKey(n node, b byte) expr {
	o, seen, count := a.objects[n.a], seenSet(a.seen[n.b]), int(n.n)
	at := &o.trie[n.m]
	j := slices.Index(at.next, b)
	if j < 0 || !a.alphabet.has(b) {
		return none
	}
	at = &o.trie[at.child[j]]
	if !slices.ContainsFunc(at.below, func(i int) bool { return o.allows(i, seen, count) }) {
		return none
	}
	if at.key < 0 {
		return a.key(n.a, n.b, count, o.trie[n.m].child[j])
	}
	with := slices.Clone(seen)
	with.add(at.key)
	return a.concat(o.colon, o.values[at.key], a.members(n.a, a.seenID(with), count+1, afterMember))
}

func (a *arena) keyStarts(list []int64, n node) []int64 {
	for _, b := range a.objects[n.a].trie[n.m].next {
		list = append(list, a.setOf(b))
	}
	return list
}
