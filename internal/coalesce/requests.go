package main

import (
	"cmp"
	"slices"

	"pumice/internal/simt"
)

const (
	sector = 32  // bytes that a GPU moves between its caches and memory at least
	line   = 128 // of a cache
	banks  = 32  // of shared memory, of four bytes
)

// A Site is the accesses of one instruction, or of several that a compiler joins.
type Site struct {
	Binding  int // or simt.Shared
	Store    bool
	Bytes    int // of a lane
	Line     int // of the source, 0 where the module does not say
	Requests int // by a subgroup

	// Of buffers: what the requests touch, and the least that their different bytes fill.
	Sectors, LeastSectors int
	Lines, LeastLines     int

	// Of shared memory: a request goes by in phases of lanes that ask for 128 bytes. A phase takes a cycle for each word that
	// its lanes ask of the same bank.
	Phases, Cycles, Ways int // Ways is the most of a phase
}

// A Trace is what workgroups of a kernel have asked for.
type Trace struct {
	Sites []*Site

	// What a workgroup needs of buffers: sectors that it touches, and bytes of those that it uses.
	Sectors, Bytes [2]int // of loads and stores

	at      map[siteKey]*Site
	pending []request
	touched [2]map[[2]int]uint32
}

type siteKey struct {
	first, binding, bytes int
	store                 bool
}

// A request is one access of a subgroup.
type request struct {
	simt.Access
	at []int64
}

// Add takes an access.
func (t *Trace) Add(a simt.Access) {
	if len(t.pending) > 0 && t.pending[0].Sequence != a.Sequence {
		t.flush()
	}
	t.pending = append(t.pending, request{a, slices.Clone(a.At)})
}

// flush joins what is pending as compilers do: loads, or stores, of a block by the same lanes of adjacent bytes, up to 16 that
// are aligned to their number, if nothing is stored to the binding between them.
func (t *Trace) flush() {
	list := t.pending
	for i := range list {
		a := &list[i]
		for j := i + 1; j < len(list) && a.Bytes > 0 && a.Bytes < 16; j++ {
			b := &list[j]
			if b.Bytes == 0 || b.Binding != a.Binding {
				continue
			}
			if b.Store != a.Store {
				break
			}
			if joins(a, b) {
				if b.at[0] < a.at[0] {
					a.at = b.at
				}
				a.Bytes += b.Bytes
				b.Bytes = 0
				j = i // others may be beside both
			}
		}
	}
	for i := range list {
		if list[i].Bytes > 0 {
			t.count(&list[i])
		}
	}
	t.pending = t.pending[:0]
}

// joins reports whether two requests can be one.
func joins(a, b *request) bool {
	n := a.Bytes + b.Bytes
	if len(a.at) != len(b.at) || n > 16 {
		return false
	}
	if a.at[0] > b.at[0] {
		a, b = b, a
	}
	align := int64(4)
	switch {
	case n > 8:
		align = 16
	case n > 4:
		align = 8
	}
	for i := range a.at {
		if b.at[i]-a.at[i] != int64(a.Bytes) || a.at[i]%align != 0 {
			return false
		}
	}
	return true
}

// count adds a request to its site.
func (t *Trace) count(r *request) {
	if t.at == nil {
		t.at = map[siteKey]*Site{}
		t.touched = [2]map[[2]int]uint32{{}, {}}
	}
	key := siteKey{r.Site, r.Binding, r.Bytes, r.Store}
	s := t.at[key]
	if s == nil {
		s = &Site{Binding: r.Binding, Store: r.Store, Bytes: r.Bytes, Line: r.Line}
		t.at[key] = s
		t.Sites = append(t.Sites, s)
	}
	s.Requests++
	if r.Binding == simt.Shared {
		phases, cycles, ways := conflicts(r.at, r.Bytes)
		s.Phases, s.Cycles, s.Ways = s.Phases+phases, s.Cycles+cycles, max(s.Ways, ways)
		return
	}
	bytes, sectors, lines := footprint(r.at, r.Bytes)
	s.Sectors, s.LeastSectors = s.Sectors+sectors, s.LeastSectors+(bytes+sector-1)/sector
	s.Lines, s.LeastLines = s.Lines+lines, s.LeastLines+(bytes+line-1)/line
	touched := t.touched[kind(r.Store)]
	for _, a := range r.at {
		for end := a + int64(r.Bytes); a < end; {
			next := min(end, (a/sector+1)*sector)
			touched[[2]int{r.Binding, int(a / sector)}] |= uint32(1<<(next-a)-1) << (a % sector)
			a = next
		}
	}
}

func kind(store bool) int {
	if store {
		return 1
	}
	return 0
}

// footprint counts different bytes, and the sectors and lines that they are in.
func footprint(at []int64, bytes int) (different, sectors, lines int) {
	sorted := slices.Clone(at)
	slices.Sort(sorted)
	end, lastSector, lastLine := int64(-1), int64(-1), int64(-1)
	for _, a := range sorted {
		from, to := max(a, end), a+int64(bytes)
		if from >= to {
			continue
		}
		different += int(to - from)
		for s := max(from/sector, lastSector+1); s <= (to-1)/sector; s++ {
			sectors, lastSector = sectors+1, s
		}
		for l := max(from/line, lastLine+1); l <= (to-1)/line; l++ {
			lines, lastLine = lines+1, l
		}
		end = to
	}
	return different, sectors, lines
}

// conflicts counts the phases of a request to shared memory, the cycles that they take, and the most that one takes. Lanes go
// by in their order, as many as ask for 128 bytes together; those that ask for the same word are served at once.
func conflicts(at []int64, bytes int) (phases, cycles, ways int) {
	for some := range slices.Chunk(at, banks*4/max(bytes, 4)) {
		var words [4 * banks]int64
		n := 0
		for _, a := range some {
			for w := a / 4; w <= (a+int64(bytes)-1)/4; w++ {
				words[n] = w
				n++
			}
		}
		slices.Sort(words[:n])
		var of [banks]int
		for i, w := range words[:n] {
			if i == 0 || w != words[i-1] {
				of[w%banks]++
			}
		}
		most := slices.Max(of[:])
		phases, cycles, ways = phases+1, cycles+most, max(ways, most)
	}
	return phases, cycles, ways
}

// EndWorkgroup counts what a workgroup has touched.
func (t *Trace) EndWorkgroup() {
	t.flush()
	for k := range t.touched {
		for _, mask := range t.touched[k] {
			t.Sectors[k]++
			for ; mask != 0; mask &= mask - 1 {
				t.Bytes[k]++
			}
		}
		clear(t.touched[k])
	}
}

// ratio is a by b, 0 of nothing.
func ratio(a, b int) float64 {
	if b == 0 {
		return 0
	}
	return float64(a) / float64(b)
}

// Requests is the sectors of loads, or of stores, beside the least.
func (t *Trace) Requests(store bool) float64 {
	a, b := 0, 0
	for _, s := range t.Sites {
		if s.Store == store && s.Binding != simt.Shared {
			a, b = a+s.Sectors, b+s.LeastSectors
		}
	}
	return ratio(a, b)
}

// Memory is the bytes of the sectors that workgroups touch by loads, or by stores, beside those that they use.
func (t *Trace) Memory(store bool) float64 {
	return ratio(sector*t.Sectors[kind(store)], t.Bytes[kind(store)])
}

// Conflicts is the cycles of shared memory beside phases.
func (t *Trace) Conflicts() float64 {
	a, b := 0, 0
	for _, s := range t.Sites {
		a, b = a+s.Cycles, b+s.Phases
	}
	return ratio(a, b)
}

// Worst is the site of buffers with the most sectors beyond the least, or of shared memory with the most cycles beyond the
// phases; nil: no site has any.
func (t *Trace) Worst(shared bool) *Site {
	beyond := func(s *Site) int {
		if shared {
			return s.Cycles - s.Phases
		}
		return s.Sectors - s.LeastSectors
	}
	if len(t.Sites) == 0 {
		return nil
	}
	worst := slices.MaxFunc(t.Sites, func(a, b *Site) int { return cmp.Compare(beyond(a), beyond(b)) })
	if beyond(worst) <= 0 {
		return nil
	}
	return worst
}
