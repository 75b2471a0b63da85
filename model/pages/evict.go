package pages

import "context"

// short reports whether fewer pages are available than needed.
func (p *Pool) short(need [Groups]int) bool {
	for g := range p.all() {
		if need[g] > p.accounts[g].available() {
			return true
		}
	}
	return false
}

// makeRoom evicts pages until so many are free. The caller knows that as many are available.
func (p *Pool) makeRoom(ctx context.Context, need [Groups]int) error {
	var saved [Groups]int
	for g := range p.all() {
		a := &p.accounts[g]
		excess := func() int { return need[g] - len(a.free) }
		for excess() > 0 && a.passed.n > 0 {
			p.evict(a.passed.first())
		}
		// Host memory is for what was used last: of what goes now its end, which has the ancestors of the rest, and
		// before that what went earlier.
		for excess() > len(a.freeHost)+a.host.n {
			p.evict(a.unused.first())
		}
		saved[g] = max(0, excess())
		for len(a.freeHost) < saved[g] {
			p.evict(a.host.first())
		}
	}
	return p.save(ctx, saved)
}

// evict drops a page that only the tree has, and what is of no use without it.
func (p *Pool) evict(h *holding) {
	pages, hostPages := p.countFree()
	p.forget(h)
	pagesNow, hostPagesNow := p.countFree()
	p.metrics.Dropped += int64(pagesNow - pages)
	p.metrics.HostDropped += int64(hostPagesNow - hostPages)
}

// countFree is how many pages of all groups are free on the device and in host memory.
func (p *Pool) countFree() (pages, hostPages int) {
	for g := range p.all() {
		pages += len(p.accounts[g].free)
		hostPages += len(p.accounts[g].freeHost)
	}
	return pages, hostPages
}

// save moves the n[g] least recently used unused pages of each group to host memory, which has room for them.
func (p *Pool) save(ctx context.Context, n [Groups]int) error {
	p.moves = p.moves[:0]
	for g := range p.all() {
		a := &p.accounts[g]
		h, free := a.unused.first(), a.freeHost
		for range n[g] {
			to := free[len(free)-1]
			free = free[:len(free)-1]
			p.moves = append(p.moves, Move{Kind: Save, Group: g, From: h.page, To: to, Rows: len(h.node.tokens)})
			h = h.next
		}
	}
	if err := p.move(ctx); err != nil {
		return err
	}
	for _, m := range p.moves {
		a := &p.accounts[m.Group]
		h := a.unused.first()
		a.drop(h)
		h.host = m.To
		a.freeHost = a.freeHost[:len(a.freeHost)-1]
		a.host.push(h)
	}
	p.metrics.Saved += int64(len(p.moves))
	return nil
}

// move has p.moves done, if there are any.
func (p *Pool) move(ctx context.Context) error {
	if len(p.moves) == 0 {
		return nil
	}
	return p.mover.Move(ctx, p.moves)
}
