package pages

import (
	"slices"
	"sort"
)

// A node of the prefix tree is a page of committed tokens: those at depth*PageSize and after, where depth counts its
// ancestors without the root. Only a node of PageSize tokens has children.
//
// What holds between two calls of the package:
//   - No node's tokens begin with those of a sibling of the same provenance, so a page has one place in the tree. Hence
//     of the siblings sorted by tokens, a neighbour of a text shares most leading tokens with it.
//   - A node of a provenance other than Batched has ancestors of its own provenance only.
//   - Full pages of a living sequence are pages of the tree. So where a node's global page is in use, those of its
//     ancestors are, and where it is on the device, those of its ancestors are.
//   - In the lists of the global group, nodes come before their ancestors: pages of a sequence are unused at the same
//     time, the last one first, and whoever uses a node uses its ancestors. So the first of a list has no children that
//     are in it, and least recently used pages are found without a search for leaves.
type node struct {
	parent     *node
	provenance Provenance
	tokens     []int   // 1 to PageSize; capacity PageSize
	children   []*node // sorted by provenance, then by tokens
	holds      [Groups]holding
}

// search returns the index of the first child that does not sort before these tokens.
func (n *node) search(made Provenance, tokens []int) int {
	return sort.Search(len(n.children), func(i int) bool {
		c := n.children[i]
		if c.provenance != made {
			return c.provenance > made
		}
		return slices.Compare(c.tokens, tokens) >= 0
	})
}

// firstMade and nextMade go through the provenances among n's children that a request for want may use. Each returns
// the index of the first child of one, or the number of children.
func (n *node) firstMade(want Provenance) int {
	if want == Batched {
		return 0
	}
	i := n.search(want, nil)
	if i < len(n.children) && n.children[i].provenance == want {
		return i
	}
	return len(n.children)
}

func (n *node) nextMade(want Provenance, i int) int {
	if want != Batched {
		return len(n.children)
	}
	made := n.children[i].provenance
	return i + sort.Search(len(n.children)-i, func(j int) bool { return n.children[i+j].provenance > made })
}

// nearest returns the child of a provenance that has most leading tokens in common with tokens, and how many.
func (n *node) nearest(made Provenance, tokens []int) (best *node, rows int) {
	i := n.search(made, tokens)
	for _, c := range n.children[max(0, i-1):min(i+1, len(n.children))] {
		if c.provenance != made {
			continue
		}
		if k := common(c.tokens, tokens); k > rows {
			best, rows = c, k
		}
	}
	return best, rows
}

// beginning returns the child of a provenance whose tokens begin with tokens, or nil.
func (n *node) beginning(made Provenance, tokens []int) *node {
	i := n.search(made, tokens)
	if i == len(n.children) {
		return nil
	}
	if c := n.children[i]; c.provenance == made && common(c.tokens, tokens) == len(tokens) {
		return c
	}
	return nil
}

// common is how many leading tokens a and b have in common.
func common(a, b []int) int {
	n := min(len(a), len(b))
	for i := range n {
		if a[i] != b[i] {
			return i
		}
	}
	return n
}

// insert adds a child for tokens with which no child of its provenance begins. It holds these pages, 0 meaning none.
func (p *Pool) insert(parent *node, made Provenance, tokens []int, pages [Groups]int32) {
	n := &node{parent: parent, provenance: made, tokens: append(make([]int, 0, p.pageSize), tokens...)}
	i := parent.search(made, tokens)
	if i > 0 {
		before := parent.children[i-1]
		if before.provenance == made && common(before.tokens, tokens) == len(before.tokens) {
			p.remove(before) // all that it has is in n, too
			i--
		}
	}
	parent.children = slices.Insert(parent.children, i, n)
	for g := range n.holds {
		n.holds[g] = holding{node: n, host: noHost}
		if pages[g] != 0 {
			p.accounts[g].hold(&n.holds[g], pages[g])
		}
	}
}

// remove takes n and its descendants out of the tree. Pages that sequences use stay theirs.
func (p *Pool) remove(n *node) {
	for len(n.children) > 0 {
		p.remove(n.children[len(n.children)-1])
	}
	for g := range p.all() {
		p.accounts[g].drop(&n.holds[g])
	}
	i := n.parent.search(n.provenance, n.tokens)
	n.parent.children = slices.Delete(n.parent.children, i, i+1)
	n.parent = nil
}

// forget gives up what the tree holds of a node in one group. A node without its global page is of no use.
func (p *Pool) forget(h *holding) {
	if h == &h.node.holds[Global] {
		p.remove(h.node)
	} else {
		p.accounts[Local].drop(h)
	}
}

// A lookup finds the longest prefix of tokens in the tree that can be resumed.
type lookup struct {
	pool   *Pool
	tokens []int
	most   int
	want   Provenance

	path []*node // the nodes to where the search is

	best    []*node // the pages of the prefix found
	held    int     // how many tokens it has
	differs int     // how many tokens the tree has, whether or not they can be resumed
}

// descend looks among n's descendants. It follows one child of each provenance, so several only where the same tokens
// were evaluated in several ways.
func (l *lookup) descend(n *node) {
	size := l.pool.pageSize
	at := len(l.path) * size
	rest := l.tokens[at:min(at+size, len(l.tokens))]
	last := true
	for i := n.firstMade(l.want); i < len(n.children); i = n.nextMade(l.want, i) {
		child, rows := n.nearest(n.children[i].provenance, rest)
		if rows == 0 {
			continue
		}
		last = false
		l.path = append(l.path, child)
		if rows == size {
			l.descend(child)
		} else {
			l.end(at + rows)
		}
		l.path = l.path[:len(l.path)-1]
	}
	if last {
		l.end(at)
	}
}

// end takes the prefix of n tokens along the path if it is better than the best so far.
func (l *lookup) end(n int) {
	l.differs = max(l.differs, n)
	n = l.pool.Resumable(min(n, l.most), func(i int) bool { return !l.path[i].holds[Local].empty() })
	if n > l.held {
		l.held = n
		l.best = append(l.best[:0], l.path[:l.pool.pagesFor(n)]...)
	}
}
