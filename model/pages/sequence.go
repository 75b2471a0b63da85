package pages

import (
	"context"
	"fmt"
	"slices"
)

// A Sequence is a text and the pages that hold its keys and values.
type Sequence struct {
	pool       *Pool
	provenance Provenance
	state      error // nil, ErrRetracted or ErrReleased

	tokens   []int // those at positions 0 to length-1; all that it had where it is retracted
	length   int
	reserved int // positions before this can be written or are committed

	tables     [Groups][]int32
	firstLocal int // the entries of the local group's table before this are 0
	changes    []Entry

	// Where this text or others are likely to be continued, besides its end.
	shared int // the position from which it differs from what was there
	prompt int // the end of its prompt

	match Match
}

// An Entry is a page table's entry that has changed. Page 0 means that nothing is there.
type Entry struct {
	Group Group
	Index int
	Page  int32
}

// Len is how many tokens are committed.
func (s *Sequence) Len() int { return s.length }

// Tokens returns the committed tokens, and after Retract those that it had. It is valid until the next call of a method
// of s.
func (s *Sequence) Tokens() []int { return s.tokens }

// Table returns the page table of a group: entry i is the page of positions i*PageSize and after. It is valid until the
// next call of a method of s.
func (s *Sequence) Table(g Group) []int32 { return s.tables[g] }

// Pages returns how many pages s has, and how many of them other sequences have too.
func (s *Sequence) Pages() (all, shared int) {
	for g := range s.pool.all() {
		for _, page := range s.tables[g] {
			if page == 0 {
				continue
			}
			if all++; s.pool.accounts[g].users(page) > 1 {
				shared++
			}
		}
	}
	return all, shared
}

// Match returns what the Acquire, Import or Resume that made s found.
func (s *Sequence) Match() Match { return s.match }

// page is the page with an index, 0 if there is none.
func (s *Sequence) page(g Group, i int) int32 {
	if i >= len(s.tables[g]) {
		return 0
	}
	return s.tables[g][i]
}

// set changes an entry of a page table.
func (s *Sequence) set(g Group, i int, page int32) {
	for len(s.tables[g]) <= i {
		s.tables[g] = append(s.tables[g], 0)
	}
	s.tables[g][i] = page
	s.changes = append(s.changes, Entry{g, i, page})
}

// Remake gives what is committed from now on another provenance. After Truncate it keeps what is evaluated again apart
// from what was there: Commit would take the old pages of the same tokens for it.
func (s *Sequence) Remake(made Provenance) { s.provenance = made }

// node is the tree's node of page i, which is full.
func (s *Sequence) node(i int) *node { return s.pool.accounts[Global].tree[s.tables[Global][i]].node }

// parent is the node under which page i belongs.
func (s *Sequence) parent(i int) *node {
	if i == 0 {
		return s.pool.root
	}
	return s.node(i - 1)
}

// Reserve makes positions Len to Len+n-1 writable: their pages are allocated, and a page that somebody else can see,
// or of which the tree holds positions that s has not, is copied. To allocate, it evicts unused pages, least recently
// used first. A reservation lasts until Truncate, and a smaller one does not shorten it.
//
// Reserve returns the entries of the page tables that have changed since the last Reserve, or since s was made with
// page tables of zeros, in order. They are valid until the next call of a method of s. With pages left from an earlier
// call Reserve allocates no memory.
//
// The error is ErrFull or ErrTooSmall, a *FullError, if there are too few pages: nothing has changed then. The Mover's
// error leaves s as it was, but unused pages may have been evicted.
func (s *Sequence) Reserve(ctx context.Context, n int) ([]Entry, error) {
	if s.state != nil {
		return nil, s.state
	}
	if n < 0 {
		return nil, fmt.Errorf("pages: reserve %d positions", n)
	}
	if s.length+n > s.reserved {
		if err := s.extend(ctx, s.length+n, s.length); err != nil {
			return nil, err
		}
	}
	changes := s.changes
	s.changes = s.changes[:0]
	return changes, nil
}

// extend reserves the positions up to end, in the local group only those from firstLocal on.
func (s *Sequence) extend(ctx context.Context, end, firstLocal int) error {
	p := s.pool
	first, last, row := s.length/p.pageSize, p.pagesFor(end), s.length%p.pageSize
	from := [Groups]int{Global: first, Local: max(first, firstLocal/p.pageSize)}
	var fresh, copied [Groups]int
	sole := true // nobody but the tree has the page that must be copied
	for g := range p.all() {
		for i := from[g]; i < last; i++ {
			if s.page(g, i) == 0 {
				fresh[g]++
			}
		}
		if row > 0 && !s.writable(g, first) {
			copied[g] = 1
			sole = sole && p.accounts[g].users(s.tables[g][first]) == 1
		}
	}
	need := plus(fresh, copied)
	if copied[Global] > 0 && sole && p.short(need) && !p.short(fresh) {
		// The tree gives up what it holds of the page, so that one sequence can always have the whole pool.
		p.remove(p.accounts[Global].tree[s.tables[Global][first]].node)
		need, copied = fresh, [Groups]int{}
	}
	if p.short(need) {
		return s.full(need, fresh)
	}
	if err := p.makeRoom(ctx, need); err != nil {
		return err
	}
	if err := s.copyPage(ctx, first, row, copied); err != nil {
		return err
	}
	for g := range p.all() {
		for i := from[g]; i < last; i++ {
			if s.page(g, i) == 0 {
				s.set(g, i, p.accounts[g].take())
			}
		}
	}
	s.tokens = slices.Grow(s.tokens, last*p.pageSize-s.length)
	s.reserved = end
	return nil
}

func plus(a, b [Groups]int) [Groups]int {
	for g := range a {
		a[g] += b[g]
	}
	return a
}

// full is the error for a reservation of more pages than are available, of which fresh ones are not copies. That one
// sequence has no room in one group matters more than that others have taken the room in another.
func (s *Sequence) full(need, fresh [Groups]int) error {
	var err *FullError
	for g := range s.pool.all() {
		a := &s.pool.accounts[g]
		if need[g] <= a.available() {
			continue
		}
		has := 0
		for _, page := range s.tables[g] {
			if page != 0 {
				has++
			}
		}
		e := &FullError{Group: g, Wanted: need[g], Available: a.available(), Needed: has + fresh[g], Pages: a.usable()}
		if err == nil || e.Is(ErrTooSmall) && !err.Is(ErrTooSmall) {
			err = e
		}
	}
	return err
}

// writable reports whether s may write page i from its length on: nobody else has the page, and the tree has no more of
// it than s.
func (s *Sequence) writable(g Group, i int) bool {
	a := &s.pool.accounts[g]
	page := s.tables[g][i]
	h := a.tree[page]
	return a.users(page) == 1 &&
		(h == nil || h.node.provenance == s.provenance && i*s.pool.pageSize+len(h.node.tokens) <= s.length)
}

// copyPage gives s a copy of the first rows of page i in each group with copied, for which there is room.
func (s *Sequence) copyPage(ctx context.Context, i, rows int, copied [Groups]int) error {
	p := s.pool
	p.moves = p.moves[:0]
	for g := range p.all() {
		if copied[g] > 0 {
			free := p.accounts[g].free
			p.moves = append(p.moves,
				Move{Kind: Copy, Group: g, From: s.tables[g][i], To: free[len(free)-1], Rows: rows})
		}
	}
	if err := p.move(ctx); err != nil {
		return err
	}
	for _, m := range p.moves {
		a := &p.accounts[m.Group]
		s.set(m.Group, i, a.take())
		a.unref(m.From, &a.unused)
	}
	p.metrics.Copies += int64(len(p.moves))
	return nil
}

// Commit says that these tokens' keys and values are written at position Len and after. From now on others may share
// them. Where the tree already has a whole page of the same tokens and provenance, s takes that page and gives up its
// own, so that sequences which evaluated the same text at the same time come to share it, as in SGLang. Where the tree
// has them as a part of a page, s keeps its own, which is freed when s gives it up.
//
// The error is ErrNotReserved if Reserve made no room for them, and nothing has changed then.
func (s *Sequence) Commit(tokens ...int) error {
	if s.state != nil {
		return s.state
	}
	if n := s.reserved - s.length; len(tokens) > n {
		return fmt.Errorf("%w: %d tokens at position %d, %d reserved", ErrNotReserved, len(tokens), s.length, n)
	}
	if len(tokens) == 0 {
		return nil
	}
	first := s.length / s.pool.pageSize
	s.tokens = append(s.tokens, tokens...)
	s.length += len(tokens)
	for i := first; i < s.pool.pagesFor(s.length); i++ {
		s.publish(i)
	}
	s.passWindow(s.length)
	return nil
}

// publish brings the committed tokens of page i into the tree.
func (s *Sequence) publish(i int) {
	p := s.pool
	tokens := s.tokens[i*p.pageSize : min((i+1)*p.pageSize, s.length)]
	parent := s.parent(i)
	cover := parent.beginning(s.provenance, tokens)
	own := p.accounts[Global].tree[s.tables[Global][i]]
	switch {
	case cover == nil && own == nil:
		p.insert(parent, s.provenance, tokens, [Groups]int32{s.page(Global, i), s.page(Local, i)})
	case cover == nil:
		// No sibling of its provenance begins with its tokens, so it keeps its place among them.
		own.node.tokens = append(own.node.tokens, tokens[len(own.node.tokens):]...)
	default:
		if own != nil {
			p.remove(own.node)
		}
		if len(tokens) == p.pageSize {
			s.adopt(i, cover)
		}
	}
}

// adopt replaces page i of s, a whole one, by that of a node with the same tokens, or gives the node the page where it
// has none on the device.
func (s *Sequence) adopt(i int, n *node) {
	for g := range s.pool.all() {
		a := &s.pool.accounts[g]
		h, own := &n.holds[g], s.page(g, i)
		switch {
		case own == 0: // outside of the window
		case h.page == 0:
			a.hold(h, own)
		default:
			a.ref(h.page)
			a.unref(own, nil)
			s.set(g, i, h.page)
		}
	}
}

// passWindow gives back the local pages that no query at position n or after sees.
func (s *Sequence) passWindow(n int) {
	if s.pool.groups == 1 {
		return
	}
	a := &s.pool.accounts[Local]
	first := s.pool.firstPage(Local, n)
	for i := s.firstLocal; i < first; i++ {
		page := s.page(Local, i)
		if page == 0 {
			continue
		}
		h, l := a.tree[page], &a.passed // a whole page is in the tree
		h.end = h.end || s.seenFrom(s.shared, i) || s.seenFrom(s.prompt, i)
		if h.end {
			l = &a.unused
		}
		s.set(Local, i, 0)
		a.unref(page, l)
	}
	s.firstLocal = first
}

// seenFrom reports whether a query at position n sees positions of page i in the local group.
func (s *Sequence) seenFrom(n, i int) bool {
	return i >= s.pool.firstPage(Local, n) && i < s.pool.pagesFor(n)
}

// Truncate gives up the tokens from n on, and what was reserved. It returns the new length, which is less than n where
// local pages that the query at n sees are no longer on the device. What was given up stays in the tree as long as
// there is room.
func (s *Sequence) Truncate(n int) (int, error) {
	if s.state != nil {
		return 0, s.state
	}
	if n < 0 {
		return s.length, fmt.Errorf("pages: truncate to %d tokens", n)
	}
	p := s.pool
	n = min(n, s.length)
	n = p.Resumable(n, func(i int) bool { return s.page(Local, i) != 0 || s.node(i).holds[Local].page != 0 })
	if p.groups > 1 {
		for i := p.firstPage(Local, n); i < p.pagesFor(n); i++ {
			if s.page(Local, i) == 0 {
				page := s.node(i).holds[Local].page
				p.accounts[Local].ref(page)
				s.set(Local, i, page)
			}
		}
		s.firstLocal = p.firstPage(Local, n)
	}
	if n < s.length {
		s.shared = n
	}
	s.giveUp(p.pagesFor(n))
	s.tokens = s.tokens[:n]
	s.length, s.reserved = n, n
	return n, nil
}

// giveUp takes the pages from index first on out of the page tables.
func (s *Sequence) giveUp(first int) {
	for g := range s.pool.all() {
		a := &s.pool.accounts[g]
		for i := len(s.tables[g]) - 1; i >= first; i-- {
			if page := s.tables[g][i]; page != 0 {
				if h := a.tree[page]; h != nil {
					h.end = true // for others that pass it later
				}
				s.set(g, i, 0)
				a.unref(page, &a.unused)
			}
		}
		s.tables[g] = s.tables[g][:min(first, len(s.tables[g]))]
	}
}

// Fork returns a second sequence with the same tokens and pages. What s has reserved is not shared. Which of the two
// writes first into the last page gets a copy.
func (s *Sequence) Fork() (*Sequence, error) {
	if s.state != nil {
		return nil, s.state
	}
	f := &Sequence{pool: s.pool, provenance: s.provenance, length: s.length, reserved: s.length,
		firstLocal: s.firstLocal, shared: s.length, prompt: s.prompt,
		match: Match{Tokens: s.length, Held: s.length, Differs: s.length}}
	f.tokens = append(make([]int, 0, s.pool.pagesFor(s.length+1)*s.pool.pageSize), s.tokens...)
	for g := range s.pool.all() {
		for i := range min(s.pool.pagesFor(s.length), len(s.tables[g])) {
			if page := s.tables[g][i]; page != 0 {
				s.pool.accounts[g].ref(page)
				f.set(g, i, page)
			}
		}
	}
	return f, nil
}

// Release gives up the sequence. What it has committed becomes an unused prefix, the most recently used one. To release
// it again does nothing.
func (s *Sequence) Release() {
	s.giveUp(0)
	s.tokens, s.changes = nil, nil
	s.length, s.reserved = 0, 0
	s.state = ErrReleased
}

// Retract gives up the pages of a sequence that is to go on later, so that others can have them: they are evicted when
// the others need them, to host memory while it has room, and otherwise dropped. Tokens still returns the tokens; Len
// is 0, and until Resume all else fails but Release.
func (s *Sequence) Retract() error {
	if s.state != nil {
		return s.state
	}
	s.giveUp(0)
	s.changes = s.changes[:0]
	s.length, s.reserved = 0, 0
	s.state = ErrRetracted
	s.pool.metrics.Retractions++
	return nil
}

// Resume brings back what is left of a retracted sequence, as Acquire does, and returns the tokens after that, which
// the caller evaluates again. The entries of its page tables count as changed since tables of zeros. After an error of
// the Mover the sequence is still retracted.
func (s *Sequence) Resume(ctx context.Context) (missing []int, err error) {
	if s.state != ErrRetracted {
		if s.state != nil {
			return nil, s.state
		}
		return nil, nil
	}
	tokens := s.tokens
	if err := s.acquire(ctx, tokens, len(tokens)); err != nil {
		return nil, err
	}
	s.state = nil
	return tokens[s.length:], nil
}
