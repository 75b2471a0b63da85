// Package pages accounts for the pages of a paged KV cache: which page holds which positions of which sequence, who
// else may read it, and what is given up when room is needed. It moves no bytes and knows no device: a Mover does.
//
// A page is PageSize positions of all layers of a group. Global layers see every earlier position; local layers see a
// sliding window. Each Sequence has a page table for each group, as in PagedAttention (Kwon et al. 2023,
// arXiv:2309.06180, sec. 4). Pages are counted by reference. What sequences have committed is in a prefix tree, whose
// nodes are pages, so that others share it, during the sequence's life and after it (RadixAttention, Zheng et al. 2023,
// arXiv:2312.07104, sec. 3). Before a sequence writes, Reserve makes sure that nobody else can see the positions that
// it is going to write.
//
// A Pool and its sequences are used by one goroutine at a time. A page is used again as soon as nobody refers to it:
// work on the device that uses a sequence's pages must be submitted before the sequence gives them up, and take place
// before what is submitted later.
package pages

import (
	"context"
	"fmt"
	"math"
)

// A Group is the layers that share a page table.
type Group int

const (
	Global Group = iota // layers that see every earlier position
	Local               // layers that see a sliding window

	// Groups is how many groups there are at most.
	Groups = 2
)

func (g Group) String() string {
	if g == Local {
		return "local"
	}
	return "global"
}

// A Provenance says how keys and values were made. Two values are equal only if the same tokens yield the same bits.
// What it encodes is the caller's business, for example a hash of the positions at which a prompt was cut.
type Provenance uint64

// Batched is the provenance of what was made in steps shared with other sequences. A request for it takes pages of any
// provenance; a request for another provenance takes only pages of that one.
const Batched Provenance = 0

// Options describe a Pool.
type Options struct {
	PageSize  int         // positions in a page; 0 means 64
	Pages     [Groups]int // pages on the device, including page 0, which no table entry with content names
	HostPages [Groups]int // pages that fit into host memory; 0 turns it off
	Window    int         // positions that a query of a local layer sees, its own included; 0 means no local group
	Mover     Mover
}

// A Pool is the pages of a KV cache and the prefix tree over them.
type Pool struct {
	pageSize int
	window   int
	groups   int // 1 or 2
	accounts [Groups]account
	root     *node
	mover    Mover
	moves    []Move // a buffer
	metrics  Metrics
}

// New returns a pool whose pages are all free.
func New(o Options) (*Pool, error) {
	if o.PageSize == 0 {
		o.PageSize = 64
	}
	p := &Pool{pageSize: o.PageSize, window: o.Window, groups: 1, mover: o.Mover, root: &node{}}
	if o.Window > 0 {
		p.groups = 2
	}
	switch {
	case o.PageSize < 0:
		return nil, fmt.Errorf("pages: a page of %d positions", o.PageSize)
	case o.Window < 0 || o.Window == 1:
		return nil, fmt.Errorf("pages: a window of %d positions, want 0 or at least 2", o.Window)
	case o.Window == 0 && (o.Pages[Local] != 0 || o.HostPages[Local] != 0):
		return nil, fmt.Errorf("pages: %d pages and %d in host memory for local layers without a window",
			o.Pages[Local], o.HostPages[Local])
	case o.Mover == nil:
		return nil, fmt.Errorf("pages: there is no Mover")
	}
	for g := range p.all() {
		if n := o.Pages[g]; n < 2 || n > math.MaxInt32 {
			return nil, fmt.Errorf("pages: %d pages for %s layers, want at least 2, the reserved one included", n, g)
		}
		if n := o.HostPages[g]; n < 0 || n > math.MaxInt32 {
			return nil, fmt.Errorf("pages: %d pages in host memory for %s layers", n, g)
		}
		p.accounts[g].init(o.Pages[g], o.HostPages[g])
	}
	return p, nil
}

// all is the groups that the pool has, to range over.
func (p *Pool) all() Group { return Group(p.groups) }

// PageSize is how many positions a page has.
func (p *Pool) PageSize() int { return p.pageSize }

// pagesFor is how many pages hold so many positions.
func (p *Pool) pagesFor(positions int) int { return (positions + p.pageSize - 1) / p.pageSize }

// firstPage is the index of the first page that a query at this position sees.
func (p *Pool) firstPage(g Group, position int) int {
	if g == Global {
		return 0
	}
	return max(0, position-p.window+1) / p.pageSize
}

// Resumable is the greatest n, at most most, at which a sequence can go on: held reports whether page i of the local
// group is held, and the pages of [n-window+1, n) must be. Any goroutine may call it.
func (p *Pool) Resumable(most int, held func(page int) bool) int {
	if p.groups == 1 {
		return most
	}
	n := most
	for i := p.pagesFor(n) - 1; i >= p.firstPage(Local, n); i-- {
		if !held(i) {
			n = i * p.pageSize
		}
	}
	return n
}

// Metrics are counts of a Pool. Those of its groups are as they are now; all others count from New.
type Metrics struct {
	Groups [Groups]GroupMetrics

	Lookups      int64 // calls of Acquire, Import and Resume
	Hits         int64 // lookups that found at least one token
	LookupTokens int64 // tokens that lookups asked for
	HitTokens    int64 // tokens that lookups found

	Copies      int64 // pages copied because somebody else could see what was to be overwritten
	Saved       int64 // pages moved to host memory
	Loaded      int64 // pages moved back
	Dropped     int64 // pages evicted from the device without being saved
	HostDropped int64 // pages evicted from host memory
	Retractions int64 // calls of Retract that took a sequence's pages
}

// GroupMetrics count the pages of one group. InUse, Cached and Free add up to the pages of the device without page 0.
type GroupMetrics struct {
	InUse  int // in at least one page table
	Cached int // held for later requests only; given up when room is needed
	Free   int
	Host   int // in host memory
}

// Metrics returns the pool's counts.
func (p *Pool) Metrics() Metrics {
	m := p.metrics
	for g := range p.all() {
		a := &p.accounts[g]
		cached := a.unused.n + a.passed.n
		m.Groups[g] = GroupMetrics{
			InUse:  a.usable() - cached - len(a.free),
			Cached: cached,
			Free:   len(a.free),
			Host:   a.host.n,
		}
	}
	return m
}

// Evict moves the n least recently used unused pages of a group to host memory, or drops those that it has no room for.
// Pages are evicted whenever room is needed; Evict is for doing it earlier, many in one Move. It returns the Mover's
// error; nothing was moved then.
func (p *Pool) Evict(ctx context.Context, g Group, n int) error {
	a := &p.accounts[g]
	var need [Groups]int
	need[g] = len(a.free) + min(n, a.available()-len(a.free))
	return p.makeRoom(ctx, need)
}

// Clear forgets everything that no sequence uses, on the device and in host memory.
func (p *Pool) Clear() {
	for g := range p.all() {
		a := &p.accounts[g]
		for _, l := range []*list{&a.unused, &a.passed, &a.host} {
			for l.n > 0 {
				p.forget(l.first())
			}
		}
	}
}
