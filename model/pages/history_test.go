package pages

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// A history is a world with random operations.
type history struct {
	world
	choose func(n int) int // 0 to n-1
	roomy  bool            // nothing is ever evicted, so lookups must find all that was ever evaluated
	known  []known         // texts that were evaluated, the last of them if not roomy
	done   map[string]int
}

type known struct {
	text []int
	made Provenance
}

const (
	maxLiving = 6
	maxText   = 40
)

// reporter is what a test and rapid have in common.
type reporter interface {
	Helper()
	Fatalf(format string, args ...any)
}

// A diary adds the last operations to the messages of failures.
type diary struct {
	reporter
	lines []string
}

func (h *history) logf(format string, args ...any) {
	d := h.t.(*diary)
	d.lines = append(d.lines, fmt.Sprintf(format, args...))
}

func (d *diary) Fatalf(format string, args ...any) {
	d.Helper()
	last := d.lines[max(0, len(d.lines)-8):]
	d.reporter.Fatalf("line %d: %s\nafter:\n%s", len(d.lines), fmt.Sprintf(format, args...), strings.Join(last, "\n"))
}

func newHistory(t reporter, o Options, roomy bool, choose func(n int) int) *history {
	d := newDevice(o)
	o.Mover = d
	p, err := New(o)
	if err != nil {
		t.Fatalf("%v", err)
	}
	h := &history{choose: choose, roomy: roomy, done: map[string]int{}}
	h.world = world{t: &diary{reporter: t}, Pool: p, device: d}
	return h
}

// step does one operation and checks everything.
func (h *history) step() {
	ops := []struct {
		name string
		do   func(l *live)
	}{
		{"start", h.opStart}, {"start", h.opStart},
		{"extend", h.opExtend}, {"extend", h.opExtend}, {"extend", h.opExtend}, {"extend", h.opExtend},
		{"cancel", h.opCancel},
		{"fork", h.opFork},
		{"truncate", h.opTruncate},
		{"release", h.opRelease},
		{"retract", h.opRetract},
		{"resume", h.opResume}, {"resume", h.opResume},
		{"misuse", h.opMisuse},
		{"import", h.opImport},
		{"evict", h.opEvict},
		{"fail", func(*live) { h.device.fail = true }},
		{"clear", func(*live) {
			if h.choose(20) == 0 {
				h.Clear()
			}
		}},
	}
	if h.roomy {
		ops = ops[:len(ops)-4] // what is imported has no local pages before its window
	}
	op := ops[h.choose(len(ops))]
	if len(h.living) == 0 && op.name != "start" {
		op = ops[0]
	}
	var l *live
	if len(h.living) > 0 {
		l = h.living[h.choose(len(h.living))]
	}
	h.logf("%s", op.name)
	op.do(l)
	h.done[op.name]++
	h.check()
}

func (h *history) tokens(n int) []int {
	all := make([]int, n)
	for i := range all {
		all[i] = h.choose(3)
	}
	return all
}

// note keeps a text for later starts.
func (h *history) note(l *live) {
	if !h.roomy && len(h.known) > 40 {
		h.known = h.known[1:]
	}
	h.known = append(h.known, known{slices.Clone(l.text), l.made})
}

// allowed reports whether an error is one that Move or a full pool may give. It makes room for the next operation.
func (h *history) allowed(err error) bool {
	h.t.Helper()
	switch {
	case err == nil:
		return true
	case errors.Is(err, errMove):
	case errors.Is(err, ErrTooSmall):
		if h.roomy {
			h.t.Fatalf("%v", err)
		}
	case errors.Is(err, ErrFull):
		if h.roomy || len(h.living) < 2 {
			h.t.Fatalf("%d sequences: %v", len(h.living), err)
		}
	default:
		h.t.Fatalf("%v", err)
	}
	h.logf("  %v", err)
	return false
}

func (h *history) opStart(*live) {
	if len(h.living) >= maxLiving {
		h.end(h.living[h.choose(len(h.living))])
	}
	var text []int
	if len(h.known) > 0 && h.choose(4) > 0 {
		text = h.known[h.choose(len(h.known))].text
		text = text[:h.choose(len(text)+1)]
	}
	text = append(slices.Clone(text), h.tokens(1+h.choose(9))...)
	made := []Provenance{Batched, Batched, 1, 2}[h.choose(4)]
	most := len(text) - h.choose(2)
	if h.choose(8) == 0 {
		most = h.choose(len(text) + 1)
	}
	h.logf("  %v, at most %d, provenance %d", text, most, made)
	s, err := h.Acquire(context.Background(), text, most, made)
	if !h.allowed(err) {
		return
	}
	if s.Len() > most {
		h.t.Fatalf("Acquire took %d of at most %d tokens", s.Len(), most)
	}
	if h.roomy {
		longest := 0
		for _, k := range h.known {
			if made == Batched || made == k.made {
				longest = max(longest, common(text, k.text))
			}
		}
		if got := s.Match(); got != (Match{Tokens: len(text), Held: min(longest, most), Differs: longest}) {
			h.t.Fatalf("found %+v for %v, want %d", got, text, longest)
		}
	}
	l := h.add(s, text[:s.Len()], made)
	h.check()
	rest := text[s.Len():]
	for len(rest) > 0 {
		n := min(len(rest), 1+h.choose(8))
		if !h.opCommit(l, n, rest[:n]) {
			return
		}
		rest = rest[n:]
	}
}

// opCommit reserves n positions and evaluates tokens, no more than these.
func (h *history) opCommit(l *live, n int, tokens []int) bool {
	before := h.snapshot()
	if err := h.reserve(l, n); err != nil {
		if !errors.Is(err, errMove) {
			if now := h.snapshot(); !now.equal(before) {
				h.t.Fatalf("%v changed something: %v, before %v", err, now, before)
			}
		}
		h.allowed(err)
		return false
	}
	h.evaluate(l, tokens...)
	h.must(l.Commit(tokens...))
	l.text = append(l.text, tokens...)
	h.note(l)
	return true
}

// A snapshot is the state that an ErrFull must not change.
type snapshot struct {
	numbers  []int32
	holdings []*holding
}

func (w *world) snapshot() snapshot {
	var s snapshot
	for g := range w.all() {
		a := &w.accounts[g]
		s.numbers = slices.Concat(s.numbers, a.refs, a.free, a.freeHost)
		s.holdings = append(s.holdings, a.tree...)
		for _, l := range []*list{&a.unused, &a.passed, &a.host} {
			for h := l.first(); h != &l.root; h = h.next {
				s.holdings = append(s.holdings, h)
			}
			s.holdings = append(s.holdings, &l.root)
		}
		for _, l := range w.living {
			s.numbers = append(append(s.numbers, l.Table(g)...), int32(l.Len()), int32(l.reserved))
		}
	}
	return s
}

func (s snapshot) equal(t snapshot) bool {
	return slices.Equal(s.numbers, t.numbers) && slices.Equal(s.holdings, t.holdings)
}

func (h *history) opExtend(l *live) {
	if l.retracted {
		return
	}
	n := 1 + h.choose(6)
	if len(l.text)+n > maxText {
		h.end(l)
		return
	}
	h.opCommit(l, n+h.choose(2), h.tokens(n))
}

// opCancel is an evaluation that stops in the middle: some rows are written, none is committed.
func (h *history) opCancel(l *live) {
	if l.retracted {
		return
	}
	n := 1 + h.choose(9)
	if !h.allowed(h.reserve(l, n)) {
		return
	}
	for i := range h.choose(n + 1) {
		h.write(l, len(l.text)+i, garbage)
	}
	if h.choose(2) == 0 {
		if n, err := l.Truncate(len(l.text)); n != len(l.text) || err != nil {
			h.t.Fatalf("Truncate to the length %d gave %d, %v", len(l.text), n, err)
		}
	}
}

func (h *history) opFork(l *live) {
	if l.retracted || len(h.living) >= maxLiving {
		return
	}
	f, err := l.Fork()
	h.must(err)
	h.add(f, l.text, l.made)
}

func (h *history) opTruncate(l *live) {
	if l.retracted {
		return
	}
	want := h.choose(len(l.text) + 1)
	n, err := l.Truncate(want)
	h.must(err)
	if n > want || (h.groups == 1 || h.roomy) && n != want {
		h.t.Fatalf("Truncate(%d) left %d", want, n)
	}
	l.text = l.text[:n]
}

func (h *history) opRelease(l *live) {
	l.Release()
	h.end(l)
}

func (h *history) opRetract(l *live) {
	if l.retracted {
		return
	}
	h.must(l.Retract())
	l.retracted, l.table = true, [Groups][]int32{}
}

// opResume resumes a sequence and evaluates again what is missing.
func (h *history) opResume(l *live) {
	if !l.retracted {
		return
	}
	missing, err := l.Resume(context.Background())
	if !h.allowed(err) {
		return
	}
	if h.roomy && len(missing) > 0 {
		h.t.Fatalf("%d tokens are missing", len(missing))
	}
	missing = slices.Clone(missing)
	l.retracted = false
	l.text = l.text[:l.Len()]
	h.check()
	if len(missing) > 0 {
		h.opCommit(l, len(missing), missing)
	}
}

// opMisuse does what is refused, and must have no effect.
func (h *history) opMisuse(l *live) {
	ctx := context.Background()
	if l.retracted {
		_, reserve := l.Reserve(ctx, 1)
		_, fork := l.Fork()
		_, truncate := l.Truncate(0)
		_, export := l.Export()
		for _, err := range []error{reserve, fork, truncate, export, l.Commit(1), l.Retract()} {
			if !errors.Is(err, ErrRetracted) {
				h.t.Fatalf("after Retract: %v", err)
			}
		}
		return
	}
	if err := l.Commit(make([]int, 1+l.reserved-l.length)...); !errors.Is(err, ErrNotReserved) {
		h.t.Fatalf("Commit of more than was reserved: %v", err)
	}
}

// opImport saves a sequence, perhaps forgets it, and reads it back.
func (h *history) opImport(l *live) {
	if l.retracted {
		return
	}
	extents, err := l.Export()
	h.must(err)
	type key struct {
		group Group
		first int
	}
	saved := map[key][]row{}
	for _, e := range extents {
		saved[key{e.Group, e.First}] = slices.Clone(h.device.pages[e.Group][e.Page][:e.Rows])
	}
	text, made := slices.Clone(l.text), l.made
	h.end(l)
	if h.choose(2) == 0 {
		h.Clear()
	}
	h.check()
	s, extents, err := h.Import(context.Background(), text, made)
	if errors.Is(err, ErrFull) && len(h.living) > 0 || !h.allowed(err) {
		return
	}
	l = h.add(s, text[:s.Len()], made)
	l.importing = len(text)
	h.check()
	h.must(h.reserve(l, 0))
	for _, e := range extents {
		rows := saved[key{e.Group, e.First}]
		if len(rows) != e.Rows {
			h.t.Fatalf("%+v to fill, %d rows were exported", e, len(rows))
		}
		for i, r := range rows {
			if e.First+i >= s.Len() {
				h.device.pages[e.Group][e.Page][i] = r
			}
		}
	}
	if h.choose(8) == 0 {
		h.end(l) // the file could not be read
		return
	}
	h.must(l.Commit(text[s.Len():]...))
	l.text, l.importing = text, 0
}

func (h *history) opEvict(*live) {
	g := Group(h.choose(h.groups))
	a := &h.accounts[g]
	n := h.choose(6)
	want := len(a.free) + min(n, a.available()-len(a.free))
	if h.allowed(h.Evict(context.Background(), g, n)) && len(a.free) < want {
		h.t.Fatalf("Evict(%d): %d are free, want %d", n, len(a.free), want)
	}
}

var histories = []struct {
	name  string
	o     Options
	roomy bool
}{
	{"global", Options{PageSize: 4, Pages: [Groups]int{30}}, false},
	{"global and host", Options{PageSize: 4, Pages: [Groups]int{20}, HostPages: [Groups]int{12}}, false},
	{"local", Options{PageSize: 4, Pages: [Groups]int{40, 16}, Window: 10}, false},
	{"local and host", Options{PageSize: 4, Pages: [Groups]int{24, 12}, HostPages: [Groups]int{16, 6}, Window: 7}, false},
	{"one sequence fits", Options{PageSize: 4, Pages: [Groups]int{12, 6}, Window: 9, HostPages: [Groups]int{5, 5}}, false},
	{"pages of 1", Options{PageSize: 1, Pages: [Groups]int{90, 30}, Window: 2, HostPages: [Groups]int{20, 9}}, false},
	{"all is kept", Options{PageSize: 4, Pages: [Groups]int{4000}}, true},
	{"all is kept, local", Options{PageSize: 8, Pages: [Groups]int{4000, 4000}, Window: 12}, true},
}

// After each of many random operations every sequence sees its own text, and at the end nothing is lost.
func TestRandomHistories(t *testing.T) {
	for _, c := range histories {
		t.Run(c.name, func(t *testing.T) {
			n := 10000
			if c.roomy {
				n = 600
			}
			random := rand.New(rand.NewPCG(1, 2))
			h := newHistory(t, c.o, c.roomy, random.IntN)
			for range n {
				h.step()
			}
			h.finish()
			t.Logf("%v, %+v", h.done, h.metrics)
		})
	}
}

// The same with short histories, which rapid makes smaller when one fails.
func TestShortHistories(t *testing.T) {
	for _, c := range histories[:6] {
		t.Run(c.name, func(t *testing.T) {
			rapid.Check(t, func(rt *rapid.T) {
				h := newHistory(rt, c.o, false, func(n int) int { return rapid.IntRange(0, n-1).Draw(rt, "choice") })
				for range rapid.IntRange(1, 30).Draw(rt, "operations") {
					h.step()
				}
				h.finish()
			})
		})
	}
}
