package pages

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
)

// A row is what a fake device keeps for a position: a hash of all tokens up to there, and how it was made. The zero row
// is poison: what was never written, or was freed since.
type row struct {
	text uint64
	made Provenance
}

// garbage is what an evaluation leaves behind that was not committed.
var garbage = row{text: 1}

// after is the hash of a text that has another token.
func after(text uint64, token int) uint64 {
	const prime = 0x9E3779B97F4A7C15
	x := (text ^ uint64(token+2)) * prime
	return x ^ x>>29 | 2
}

// hashes returns the hash at each position of a text.
func hashes(tokens []int) []uint64 {
	all := make([]uint64, len(tokens))
	var text uint64
	for i, token := range tokens {
		text = after(text, token)
		all[i] = text
	}
	return all
}

var errMove = errors.New("the move failed")

// A device is a Mover with rows instead of keys and values.
type device struct {
	size  int
	pages [Groups][][]row
	host  [Groups][][]row
	fail  bool // the next Move fails
	moves []Move
	calls int
}

func newDevice(o Options) *device {
	d := &device{size: o.PageSize}
	for g := range Groups {
		d.pages[g], d.host[g] = blank(o.Pages[g], d.size), blank(o.HostPages[g], d.size)
	}
	return d
}

func blank(pages, size int) [][]row {
	all := make([][]row, pages)
	for i := range all {
		all[i] = make([]row, size)
	}
	return all
}

func (d *device) Move(ctx context.Context, moves []Move) error {
	d.calls++
	d.moves = append(d.moves, moves...)
	fail := d.fail || ctx.Err() != nil
	d.fail = false
	type place struct {
		group Group
		host  bool
		page  int32
	}
	reads, writes := map[place]bool{}, map[place]bool{}
	for _, m := range moves {
		from, to := place{m.Group, m.Kind == Load, m.From}, place{m.Group, m.Kind == Save, m.To}
		if writes[from] || writes[to] || reads[to] {
			panic(fmt.Sprintf("moves %v depend on their order", moves))
		}
		if m.Rows < 1 || m.Rows > d.size || !from.host && from.page == 0 || !to.host && to.page == 0 {
			panic(fmt.Sprintf("move %+v", m))
		}
		reads[from], writes[to] = true, true
		source, target := d.pages[m.Group], d.pages[m.Group]
		if from.host {
			source = d.host[m.Group]
		}
		if to.host {
			target = d.host[m.Group]
		}
		clear(target[m.To])
		if !fail {
			copy(target[m.To], source[m.From][:m.Rows])
		}
	}
	if fail {
		return errMove
	}
	return nil
}

// A live is a sequence with what it should hold: the tests' model of it.
type live struct {
	*Sequence
	made      Provenance
	text      []int
	retracted bool
	importing int             // the length that it will have when Import's extents are filled
	table     [Groups][]int32 // the page tables on the device, brought up to date by what Reserve returns
}

// A world is a pool on a fake device, and its living sequences.
type world struct {
	t reporter
	*Pool
	device *device
	living []*live
}

func newWorld(t *testing.T, o Options) *world {
	t.Helper()
	d := newDevice(o)
	o.Mover = d
	p, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	return &world{t: t, Pool: p, device: d}
}

// start acquires a sequence for a text without evaluating anything.
func (w *world) start(tokens []int, most int, made Provenance) *live {
	w.t.Helper()
	s, err := w.Acquire(context.Background(), tokens, most, made)
	if err != nil {
		w.t.Fatalf("Acquire: %v", err)
	}
	return w.add(s, tokens[:s.Len()], made)
}

func (w *world) add(s *Sequence, tokens []int, made Provenance) *live {
	l := &live{Sequence: s, made: made, text: slices.Clone(tokens)}
	w.living = append(w.living, l)
	return l
}

// say starts a sequence and evaluates what it does not share.
func (w *world) say(tokens []int, made Provenance) *live {
	w.t.Helper()
	l := w.start(tokens, len(tokens), made)
	w.must(w.extend(l, tokens[l.Len():]...))
	return l
}

// end releases sequences.
func (w *world) end(all ...*live) {
	for _, l := range all {
		l.Release()
		w.living = slices.DeleteFunc(w.living, func(x *live) bool { return x == l })
	}
}

// extend evaluates tokens.
func (w *world) extend(l *live, tokens ...int) error {
	w.t.Helper()
	if err := w.reserve(l, len(tokens)); err != nil {
		return err
	}
	w.evaluate(l, tokens...)
	w.must(l.Commit(tokens...))
	l.text = append(l.text, tokens...)
	w.check()
	return nil
}

// reserve calls Reserve, and brings the tables on the device up to date.
func (w *world) reserve(l *live, n int) error {
	w.t.Helper()
	changes, err := l.Reserve(context.Background(), n)
	if err != nil {
		return err
	}
	for _, e := range changes {
		for len(l.table[e.Group]) <= e.Index {
			l.table[e.Group] = append(l.table[e.Group], 0)
		}
		l.table[e.Group][e.Index] = e.Page
	}
	for g := range w.all() {
		want := l.Table(g)
		got := l.table[g]
		for len(got) > len(want) && got[len(got)-1] == 0 {
			got = got[:len(got)-1]
		}
		if !slices.Equal(got, want) {
			w.t.Fatalf("%s table on the device is %v, want %v", g, got, want)
		}
	}
	return nil
}

// evaluate writes the rows of tokens at Len and after through the tables on the device.
func (w *world) evaluate(l *live, tokens ...int) {
	w.t.Helper()
	var text uint64
	if n := len(l.text); n > 0 {
		text = hashes(l.text)[n-1]
	}
	for i, token := range tokens {
		text = after(text, token)
		w.write(l, len(l.text)+i, row{text, l.made})
	}
}

// write writes a row, which nobody else may see.
func (w *world) write(l *live, position int, r row) {
	w.t.Helper()
	i, at := position/w.pageSize, position%w.pageSize
	for g := range w.all() {
		page := l.table[g][i]
		if page == 0 {
			w.t.Fatalf("position %d has no %s page", position, g)
		}
		for _, other := range w.living {
			if other != l && other.page(g, i) == page && position < other.Len() {
				w.t.Fatalf("position %d is written into %s page %d, which another sequence sees", position, g, page)
			}
		}
		if h := w.accounts[g].tree[page]; h != nil && at < len(h.node.tokens) {
			w.t.Fatalf("position %d is written into %s page %d, of which the tree has %d rows", position, g, page,
				len(h.node.tokens))
		}
		w.device.pages[g][page][at] = r
	}
}

func (w *world) must(err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatalf("%v", err)
	}
}

// check compares what every living sequence sees with its model, checks the pool's accounts, and poisons what is free.
func (w *world) check() {
	w.t.Helper()
	for _, l := range w.living {
		w.checkSequence(l)
	}
	w.checkAccounts()
	for g := range w.all() {
		a := &w.accounts[g]
		for _, page := range a.free {
			clear(w.device.pages[g][page])
		}
		for _, page := range a.freeHost {
			clear(w.device.host[g][page])
		}
	}
}

func (w *world) checkSequence(l *live) {
	w.t.Helper()
	if !slices.Equal(l.Tokens(), l.text) {
		w.t.Fatalf("a sequence has tokens %v, want %v", l.Tokens(), l.text)
	}
	want := len(l.text)
	if l.retracted {
		want = 0
	}
	if l.Len() != want {
		w.t.Fatalf("a sequence has length %d, want %d", l.Len(), want)
	}
	all := hashes(l.text)
	for g := range w.all() {
		first := 0
		if g == Local {
			first = max(0, max(l.Len(), l.importing)-w.window+1)
		}
		for i := range min(first/w.pageSize, len(l.Table(g))) {
			if page := l.Table(g)[i]; page != 0 {
				w.t.Fatalf("%s page %d is still held at length %d", g, i, l.Len())
			}
		}
		for i := first; i < l.Len(); i++ {
			page := l.Table(g)[i/w.pageSize]
			if page == 0 {
				w.t.Fatalf("position %d of %d has no %s page", i, l.Len(), g)
			}
			got := w.device.pages[g][page][i%w.pageSize]
			if got.text != all[i] || l.made != Batched && got.made != l.made {
				w.t.Fatalf("position %d of %v in %s page %d holds %v, want %v", i, l.text, g, page, got, row{all[i], l.made})
			}
		}
	}
}

// checkAccounts counts all references again, and checks what node's comment promises.
func (w *world) checkAccounts() {
	w.t.Helper()
	var refs [Groups][]int32
	var held [Groups]int // pages of the tree
	lists := map[*list]int{}
	for g := range w.all() {
		a := &w.accounts[g]
		refs[g] = make([]int32, len(a.refs))
		for _, l := range w.living {
			for _, page := range l.Table(g) {
				if page != 0 {
					refs[g][page]++
				}
			}
		}
	}
	var walk func(n *node, text uint64, depth int)
	walk = func(n *node, text uint64, depth int) {
		for i, c := range n.children {
			if len(c.tokens) == 0 || len(c.tokens) > w.pageSize || len(n.tokens) < w.pageSize && n != w.root {
				w.t.Fatalf("a node of %d tokens under one of %d", len(c.tokens), len(n.tokens))
			}
			if c.provenance != Batched && n != w.root && n.provenance != c.provenance {
				w.t.Fatalf("provenance %d under %d", c.provenance, n.provenance)
			}
			if i > 0 {
				b := n.children[i-1]
				if b.provenance > c.provenance || b.provenance == c.provenance &&
					(slices.Compare(b.tokens, c.tokens) >= 0 || common(b.tokens, c.tokens) == len(b.tokens)) {
					w.t.Fatalf("siblings %v and %v", b.tokens, c.tokens)
				}
			}
			end := text
			rows := make([]uint64, len(c.tokens))
			for j, token := range c.tokens {
				end = after(end, token)
				rows[j] = end
			}
			for g := range w.all() {
				h := &c.holds[g]
				a := &w.accounts[g]
				var stored []row
				switch {
				case h.page != 0 && h.host != noHost, h.empty() && g == Global:
					w.t.Fatalf("a node holds page %d and host page %d", h.page, h.host)
				case h.page != 0:
					refs[g][h.page]++
					held[g]++
					if a.tree[h.page] != h {
						w.t.Fatalf("%s page %d does not know its node", g, h.page)
					}
					stored = w.device.pages[g][h.page]
				case h.host != noHost:
					stored = w.device.host[g][h.host]
					if h.list != &a.host {
						w.t.Fatalf("host page %d is not in the list", h.host)
					}
				}
				for j := range min(len(rows), len(stored)) {
					if got := stored[j]; got.text != rows[j] || c.provenance != Batched && got.made != c.provenance {
						w.t.Fatalf("row %d of a node at depth %d holds %v in the %s group", j, depth, got, g)
					}
				}
				if h.list != nil {
					lists[h.list]++
				}
			}
			if h := &n.holds[Global]; n != w.root && c.holds[Global].page != 0 {
				if h.page == 0 {
					w.t.Fatalf("a node is on the device, its parent is not")
				}
				if h.list != nil && c.holds[Global].list == nil {
					w.t.Fatalf("a node is in use, its parent is not")
				}
			}
			walk(c, end, depth+1)
		}
	}
	walk(w.root, 0, 0)
	for g := range w.all() {
		a := &w.accounts[g]
		free := make([]int, len(a.refs))
		free[0] = 1
		for _, page := range a.free {
			free[page]++
		}
		for page, n := range refs[g] {
			if a.refs[page] != n || free[page] > 1 || (n == 0) != (free[page] == 1) {
				w.t.Fatalf("%s page %d has %d references, want %d; free %d times", g, page, a.refs[page], n, free[page])
			}
			if h := a.tree[page]; h != nil {
				held[g]--
				if (h.list != nil) != (n == 1) {
					w.t.Fatalf("%s page %d with %d references is in a list: %t", g, page, n, h.list != nil)
				}
			}
		}
		if held[g] != 0 {
			w.t.Fatalf("%d %s pages belong to nodes that are not in the tree", -held[g], g)
		}
		hosts := map[int32]bool{}
		for _, page := range a.freeHost {
			hosts[page] = true
		}
		for h := a.host.first(); h != &a.host.root; h = h.next {
			hosts[h.host] = true
		}
		if len(hosts) != cap(a.freeHost) || len(a.freeHost)+a.host.n != cap(a.freeHost) {
			w.t.Fatalf("%d pages of host memory are used or free of %d", len(a.freeHost)+a.host.n, cap(a.freeHost))
		}
		for _, l := range []*list{&a.unused, &a.passed, &a.host} {
			if l.n != lists[l] {
				w.t.Fatalf("a %s list of %d has %d nodes of the tree", g, l.n, lists[l])
			}
		}
	}
	for _, l := range []*list{&w.accounts[Global].unused, &w.accounts[Global].host} {
		if l.n == 0 {
			continue
		}
		seen := map[*node]bool{}
		for h := l.first(); h != &l.root; h = h.next {
			seen[h.node] = true
			if seen[h.node.parent] {
				w.t.Fatalf("a node comes after its parent in a list")
			}
		}
	}
}

// finish releases all, and checks that nothing is lost.
func (w *world) finish() {
	w.t.Helper()
	w.end(slices.Clone(w.living)...)
	w.check()
	m := w.Metrics()
	for g := range w.all() {
		if m.Groups[g].InUse != 0 {
			w.t.Fatalf("%d %s pages are in use by nobody", m.Groups[g].InUse, g)
		}
	}
	w.Clear()
	w.check()
	m = w.Metrics()
	for g := range w.all() {
		if want := (GroupMetrics{Free: w.accounts[g].usable()}); m.Groups[g] != want {
			w.t.Fatalf("%s pages at the end: %+v, want %+v", g, m.Groups[g], want)
		}
	}
	if len(w.root.children) != 0 {
		w.t.Fatalf("%d nodes are left in the tree", len(w.root.children))
	}
}
