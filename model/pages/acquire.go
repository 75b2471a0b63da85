package pages

import (
	"context"
	"slices"
)

// A Match says what a lookup has found.
type Match struct {
	Tokens  int // that were asked for
	Held    int // of these, that need not be evaluated
	Differs int // position of the first token that differs from everything in the tree; Tokens if none does
}

// Acquire returns a sequence that shares the longest prefix of tokens that can be resumed, of at most most tokens. What
// is in host memory is loaded. The caller evaluates the tokens from Len on: at least one if it needs logits, so most is
// len(tokens)-1 then.
//
// A prefix of n tokens can be resumed where the global group has positions 0 to n-1 and the local group those that the
// query at n sees. Where the device has no room for all of that, the prefix is shorter. The only errors are those of
// the Mover; nothing is held then.
func (p *Pool) Acquire(ctx context.Context, tokens []int, most int, made Provenance) (*Sequence, error) {
	s := &Sequence{pool: p, provenance: made}
	if err := s.acquire(ctx, tokens, most); err != nil {
		return nil, err
	}
	return s, nil
}

// acquire makes an empty sequence share a prefix of tokens.
func (s *Sequence) acquire(ctx context.Context, tokens []int, most int) error {
	p := s.pool
	l := lookup{pool: p, tokens: tokens, most: max(0, min(most, len(tokens))), want: s.provenance}
	l.descend(p.root)
	n := p.fit(l.best, l.held)
	if err := p.bring(ctx, l.best, n); err != nil {
		return err
	}
	p.metrics.Lookups++
	p.metrics.LookupTokens += int64(len(tokens))
	p.metrics.HitTokens += int64(n)
	if n > 0 {
		p.metrics.Hits++
	}
	s.match = Match{Tokens: len(tokens), Held: n, Differs: l.differs}
	s.length, s.reserved, s.shared, s.prompt = n, n, n, len(tokens)
	s.firstLocal = p.firstPage(Local, n)
	s.tokens = append(make([]int, 0, p.pagesFor(n+1)*p.pageSize), tokens[:n]...)
	for g := range p.all() {
		for i := p.firstPage(g, n); i < p.pagesFor(n); i++ {
			s.set(g, i, l.best[i].holds[g].page)
		}
	}
	return nil
}

// visible is the nodes along path that a query at position n sees.
func (p *Pool) visible(g Group, path []*node, n int) []*node {
	return path[p.firstPage(g, n):p.pagesFor(n)]
}

// fit shortens a prefix of n tokens along path until the device has room for what must be loaded.
func (p *Pool) fit(path []*node, n int) int {
	for {
		n = p.Resumable(n, func(i int) bool { return !path[i].holds[Local].empty() })
		excess, short := 0, Global
		for g := range p.all() {
			load, unused := 0, 0
			for _, node := range p.visible(g, path, n) {
				if h := &node.holds[g]; h.page == 0 {
					load++
				} else if h.list != nil {
					unused++ // it is available, but not for this
				}
			}
			if excess = load + unused - p.accounts[g].available(); load > 0 && excess > 0 {
				short = g
				break
			}
			excess = 0
		}
		if excess == 0 {
			return n
		}
		for i := p.pagesFor(n) - 1; excess > 0; i-- {
			if path[i].holds[short].page == 0 {
				excess--
				n = i * p.pageSize
			}
		}
	}
}

// bring loads what a prefix of n tokens along path has in host memory, and adds a page table's reference to each of its
// pages. After an error there are no more references than before.
func (p *Pool) bring(ctx context.Context, path []*node, n int) error {
	var need [Groups]int
	for g := range p.all() {
		a := &p.accounts[g]
		for _, node := range p.visible(g, path, n) {
			// Nothing of the prefix may be evicted to make room for the rest.
			if h := &node.holds[g]; h.page != 0 {
				a.ref(h.page)
			} else {
				a.host.remove(h)
				need[g]++
			}
		}
	}
	err := p.makeRoom(ctx, need)
	if err == nil {
		err = p.load(ctx, path, n)
	}
	if err == nil {
		return nil
	}
	for g := range p.all() {
		a := &p.accounts[g]
		for _, node := range slices.Backward(p.visible(g, path, n)) {
			if h := &node.holds[g]; h.page != 0 {
				a.unref(h.page, &a.unused)
			} else {
				a.host.push(h)
			}
		}
	}
	return err
}

// load moves what a prefix of n tokens along path has in host memory to free pages, with a page table's reference each.
func (p *Pool) load(ctx context.Context, path []*node, n int) error {
	p.moves = p.moves[:0]
	for g := range p.all() {
		free := p.accounts[g].free
		for _, node := range p.visible(g, path, n) {
			if h := &node.holds[g]; h.page == 0 {
				to := free[len(free)-1]
				free = free[:len(free)-1]
				p.moves = append(p.moves, Move{Kind: Load, Group: g, From: h.host, To: to, Rows: len(node.tokens)})
			}
		}
	}
	if err := p.move(ctx); err != nil {
		return err
	}
	for g := range p.all() {
		a := &p.accounts[g]
		for _, node := range p.visible(g, path, n) {
			if h := &node.holds[g]; h.page == 0 {
				a.hold(h, a.take())
			}
		}
	}
	p.metrics.Loaded += int64(len(p.moves))
	return nil
}
