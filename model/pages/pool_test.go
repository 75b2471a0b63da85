package pages

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
)

// count returns n tokens, first and the ones after it.
func count(first, n int) []int {
	all := make([]int, n)
	for i := range all {
		all[i] = first + i
	}
	return all
}

func join(all ...[]int) []int { return slices.Concat(all...) }

func global(pages int) Options { return Options{PageSize: 4, Pages: [Groups]int{pages}} }

// A second conversation gets the system prompt of the first, which is still going on, and evaluates none of it again.
func TestSystemPromptIsSharedWhileItsSequenceLives(t *testing.T) {
	w := newWorld(t, global(30))
	system := count(100, 10) // 2 pages and a half
	first := w.say(system, Batched)
	second := w.start(join(system, count(1, 5)), 14, Batched)
	if second.Len() != 10 {
		t.Errorf("the second conversation shares %d tokens, want 10", second.Len())
	}
	if !slices.Equal(first.Table(Global), second.Table(Global)) {
		t.Errorf("page tables %v and %v", first.Table(Global), second.Table(Global))
	}
	w.must(w.extend(second, count(1, 5)...))
	w.must(w.extend(first, count(50, 5)...))
	if !slices.Equal(first.Table(Global)[:2], second.Table(Global)[:2]) {
		t.Errorf("whole pages of the prompt differ: %v and %v", first.Table(Global), second.Table(Global))
	}
	if m := w.Metrics(); m.Copies != 1 || m.Hits != 1 || m.HitTokens != 10 {
		t.Errorf("%+v, want 1 copy, 1 hit of 10 tokens", m)
	}
	w.finish()
}

// Of a full page only the first rows may match: it is shared, and copied on the first write.
func TestPartOfAFullPageIsCopiedOnWrite(t *testing.T) {
	w := newWorld(t, global(30))
	old := w.say(count(0, 8), Batched)
	w.end(old)
	young := w.start(join(count(0, 6), count(90, 6)), 12, Batched)
	if young.Len() != 6 || young.Match().Differs != 6 {
		t.Fatalf("%+v, want 6 tokens", young.Match())
	}
	if w.device.calls != 0 {
		t.Errorf("something was copied before the write")
	}
	w.must(w.extend(young, count(90, 6)...))
	want := Move{Kind: Copy, From: w.device.moves[0].From, To: young.Table(Global)[1], Rows: 2}
	if len(w.device.moves) != 1 || w.device.moves[0] != want {
		t.Errorf("moves %v, want %v", w.device.moves, want)
	}
	if again := w.start(count(0, 8), 8, Batched); again.Len() != 8 {
		t.Errorf("the old text has %d tokens left, want 8", again.Len())
	}
	w.finish()
}

// A page that is not full goes on being filled by whoever continues it alone, without a copy.
func TestLastPageIsContinuedInPlace(t *testing.T) {
	w := newWorld(t, global(30))
	w.end(w.say(count(0, 6), Batched))
	l := w.say(count(0, 9), Batched)
	if got := l.Match().Held; got != 6 {
		t.Errorf("%d tokens are shared, want 6", got)
	}
	if m := w.Metrics(); m.Copies != 0 {
		t.Errorf("%d copies", m.Copies)
	}
	w.finish()
}

// Acquire takes no more than the caller wants, so that it can leave a token to evaluate.
func TestAcquireTakesAtMost(t *testing.T) {
	w := newWorld(t, global(30))
	w.end(w.say(count(0, 8), Batched))
	for _, most := range []int{-1, 0, 3, 4, 7, 8, 100} {
		l := w.start(count(0, 8), most, Batched)
		if want := max(0, min(most, 8)); l.Len() != want {
			t.Errorf("at most %d: %d tokens", most, l.Len())
		}
		w.end(l)
	}
	w.finish()
}

// Of several cached texts the one with the longest common beginning is found, whatever their order.
func TestLongestPrefixIsFound(t *testing.T) {
	w := newWorld(t, global(60))
	texts := [][]int{{1, 2, 3, 4, 5, 6}, {1, 2, 3, 9}, {1, 2, 3, 4, 5, 7, 8, 8}, {1, 2, 0, 0, 0}, {2}, {1, 2, 3, 4, 0}}
	for _, text := range texts {
		w.end(w.say(text, Batched))
	}
	for _, c := range []struct {
		text []int
		want int
	}{
		{[]int{1, 2, 3, 4, 5, 7, 8, 8, 9}, 8}, {[]int{1, 2, 3, 4, 5, 7, 0}, 6}, {[]int{1, 2, 3, 9, 9}, 4},
		{[]int{1, 2, 3, 8}, 3}, {[]int{1, 2, 1}, 2}, {[]int{3}, 0}, {[]int{2, 2}, 1}, {[]int{1, 2, 3, 4, 0, 1}, 5}, {nil, 0},
	} {
		l := w.start(c.text, len(c.text), Batched)
		if l.Len() != c.want || l.Match().Differs != c.want {
			t.Errorf("%v: %+v, want %d", c.text, l.Match(), c.want)
		}
		w.end(l)
	}
	w.finish()
}

// Two sequences that evaluate the same text side by side come to share its whole pages.
func TestSameTextSideBySideComesToBeShared(t *testing.T) {
	w := newWorld(t, Options{PageSize: 4, Pages: [Groups]int{30, 30}, Window: 8})
	a, b := w.start(nil, 0, Batched), w.start(nil, 0, Batched)
	for i := range 11 {
		w.must(w.extend(a, i))
		w.must(w.extend(b, i))
	}
	w.must(w.reserve(b, 1))
	for g := range w.all() {
		if !slices.Equal(a.Table(g)[:2], b.Table(g)[:2]) {
			t.Errorf("%s tables %v and %v", g, a.Table(g), b.Table(g))
		}
		if a.Table(g)[2] == b.Table(g)[2] {
			t.Errorf("both write into %s page %d", g, a.Table(g)[2])
		}
	}
	if m := w.Metrics(); m.Groups[Global].InUse != 4 {
		t.Errorf("%d pages are in use, want 2 shared ones and 2", m.Groups[Global].InUse)
	}
	w.end(a, b)
	if m := w.Metrics(); m.Groups[Global].Cached != 3 {
		t.Errorf("%d pages are cached of 3", m.Groups[Global].Cached)
	}
	w.finish()
}

// A fork shares everything, and each goes its own way.
func TestForkCopiesOnePage(t *testing.T) {
	w := newWorld(t, global(30))
	a := w.say(count(0, 10), Batched)
	s, err := a.Fork()
	w.must(err)
	b := w.add(s, a.text, Batched)
	w.must(w.extend(a, 50, 51, 52))
	w.must(w.extend(b, 60, 61, 62))
	if m := w.Metrics(); m.Copies != 1 {
		t.Errorf("%d copies, want 1", m.Copies)
	}
	w.finish()
}

// A local group lets pages go that no query will see, and a prefix is resumed only where its window is still there.
func TestWindowLimitsWhereToResume(t *testing.T) {
	const window = 6
	w := newWorld(t, Options{PageSize: 4, Pages: [Groups]int{30, 30}, Window: window})
	l := w.start(count(0, 20), 0, Batched)
	for i := range 20 {
		w.must(w.extend(l, i))
		for page, id := range l.Table(Local) {
			if sees := 4*page+3 >= l.Len()-window+1; (id != 0) != sees {
				t.Errorf("at %d tokens page %d is %d", l.Len(), page, id)
			}
		}
	}
	w.end(l)
	// The prompt's 20 tokens end with the text: pages 3 and 4 are kept, the others passed the window.
	w.must(w.Evict(context.Background(), Local, 3))
	w.check()
	for _, c := range []struct{ most, want int }{
		{20, 20}, {19, 19}, {17, 17}, // [12, 17) is there
		{16, 0}, {12, 0}, // [11, 16) is not
		{20, 20},
	} {
		got := w.start(count(0, 20), c.most, Batched)
		if got.Len() != c.want {
			t.Errorf("at most %d: resumed at %d, want %d", c.most, got.Len(), c.want)
		}
		w.end(got)
	}
	w.finish()
}

// A conversation that comes back continues where it was, though others have passed many local pages since; and so does
// one whose answer the template renders in another way, from the end of its prompt.
func TestEndsOfPromptsAndTextsKeepTheirWindow(t *testing.T) {
	w := newWorld(t, Options{PageSize: 4, Pages: [Groups]int{200, 22}, Window: 8})
	ours := w.say(count(0, 30), Batched)
	w.must(w.extend(ours, count(1000, 30)...))
	w.end(ours)
	for i := range 3 {
		other := w.start(nil, 0, Batched)
		for j := range 60 {
			w.must(w.extend(other, 100*(i+2)+j))
		}
		w.end(other)
	}
	if m := w.Metrics(); m.Dropped == 0 {
		t.Errorf("nothing was evicted: %+v", m)
	}
	back := w.start(join(count(0, 30), count(1000, 30), []int{7}), 60, Batched)
	if back.Len() != 60 {
		t.Errorf("resumed at %d, want 60", back.Len())
	}
	w.end(back)
	back = w.start(join(count(0, 30), []int{7, 7, 7}), 32, Batched)
	if back.Len() != 30 {
		t.Errorf("resumed at %d, want the end of the prompt at 30", back.Len())
	}
	w.finish()
}

// Where texts part is a likely beginning of others: its window is kept, whichever sequence leaves it last.
func TestWherePromptsPartKeepsItsWindow(t *testing.T) {
	system := count(0, 20)
	for _, lastIsFirst := range []bool{false, true} {
		w := newWorld(t, Options{PageSize: 4, Pages: [Groups]int{200, 19}, Window: 8})
		speak := func(l *live, from int) {
			for i := range 40 {
				w.must(w.extend(l, from+i))
			}
		}
		a := w.start(nil, 0, Batched)
		for _, token := range system {
			w.must(w.extend(a, token))
		}
		b := w.start(join(system, count(200, 40)), 59, Batched)
		if lastIsFirst {
			speak(b, 200)
			speak(a, 100)
		} else {
			speak(a, 100)
			speak(b, 200)
		}
		w.end(a, b)
		stranger := w.start(nil, 0, Batched)
		speak(stranger, 300)
		speak(stranger, 400)
		w.end(stranger)
		if m := w.Metrics(); m.Dropped == 0 {
			t.Errorf("nothing was evicted: %+v", m)
		}
		if c := w.start(join(system, count(500, 5)), 24, Batched); c.Len() != 20 {
			t.Errorf("last is first %t: resumed at %d, want 20", lastIsFirst, c.Len())
		}
		w.finish()
	}
}

// The end of a text that was released is kept, though a fork goes on from there and leaves it.
func TestEndOfAForkKeepsItsWindow(t *testing.T) {
	w := newWorld(t, Options{PageSize: 4, Pages: [Groups]int{200, 9}, Window: 8})
	a := w.start(nil, 0, Batched)
	for i := range 20 {
		w.must(w.extend(a, i))
	}
	s, err := a.Fork()
	w.must(err)
	s.Release()
	for i := range 80 {
		w.must(w.extend(a, 100+i))
	}
	w.end(a)
	if c := w.start(count(0, 25), 24, Batched); c.Len() != 20 {
		t.Errorf("resumed at %d, want 20", c.Len())
	}
	w.finish()
}

// Truncate takes local pages back from the tree, and says where it can't.
func TestTruncateGoesBackBehindTheWindow(t *testing.T) {
	w := newWorld(t, Options{PageSize: 4, Pages: [Groups]int{30, 30}, Window: 6})
	l := w.start(nil, 0, Batched)
	for i := range 20 {
		w.must(w.extend(l, i))
	}
	n, err := l.Truncate(10)
	if n != 10 || err != nil {
		t.Fatalf("Truncate(10) left %d, %v", n, err)
	}
	l.text = l.text[:10]
	w.check()
	w.must(w.extend(l, 50, 51))
	for i := range 8 {
		w.must(w.extend(l, 60+i))
	}
	w.Clear()
	if n, err = l.Truncate(10); n != 0 || err != nil {
		t.Fatalf("Truncate(10) left %d, %v; want 0, as [5, 10) is gone", n, err)
	}
	l.text = nil
	w.check()
	w.finish()
}

// Pages are evicted in the order of their last use, ends of texts before their beginnings.
func TestLeastRecentlyUsedGoFirst(t *testing.T) {
	w := newWorld(t, global(9)) // 8 pages
	a, b, c := count(0, 8), count(100, 8), join(count(0, 4), count(200, 4))
	w.end(w.say(a, Batched))          // pages a0 a1
	w.end(w.say(b, Batched))          // b0 b1
	w.end(w.say(c, Batched))          // c1, and uses a0
	w.end(w.start(b[:4], 4, Batched)) // uses b0
	held := func(text []int, want int) {
		t.Helper()
		l := lookup{pool: w.Pool, tokens: text, most: len(text)}
		l.descend(w.root)
		if l.held != want {
			t.Errorf("%v has %d tokens left, want %d", text, l.held, want)
		}
	}
	for _, step := range []struct{ a, b, c int }{
		{4, 8, 8}, // a1
		{4, 4, 8}, // b1
		{4, 4, 4}, // c1
		{0, 4, 0}, // a0
		{0, 0, 0}, // b0
	} {
		w.must(w.Evict(context.Background(), Global, 1))
		w.check()
		held(a, step.a)
		held(b, step.b)
		held(c, step.c)
	}
	w.finish()
}

// When pages run out, the error has the numbers and nothing has changed; other sequences and later calls work.
func TestFullChangesNothing(t *testing.T) {
	w := newWorld(t, Options{PageSize: 4, Pages: [Groups]int{8, 8}, HostPages: [Groups]int{2, 2}, Window: 16})
	w.end(w.say(count(500, 3), Batched)) // an unused page
	a, b := w.say(count(0, 8), Batched), w.say(count(100, 10), Batched)
	before := w.snapshot()
	_, err := b.Reserve(context.Background(), 11)
	var full *FullError
	if !errors.Is(err, ErrFull) || errors.Is(err, ErrTooSmall) || !errors.As(err, &full) {
		t.Fatalf("got %v, want ErrFull", err)
	}
	if want := (FullError{Group: Global, Wanted: 3, Available: 2, Needed: 6, Pages: 7}); *full != want {
		t.Errorf("%+v, want %+v", *full, want)
	}
	if !w.snapshot().equal(before) {
		t.Errorf("something has changed")
	}
	w.must(w.extend(b, count(110, 10)...))
	if _, err := b.Reserve(context.Background(), 10); !errors.Is(err, ErrTooSmall) {
		t.Errorf("got %v, want ErrTooSmall", err)
	}
	if _, err := a.Reserve(context.Background(), 100); !errors.Is(err, ErrTooSmall) ||
		!strings.Contains(err.Error(), "needs 27 pages of global layers, the pool has 7") {
		t.Errorf("got %v, want ErrTooSmall", err)
	}
	w.must(b.Retract())
	b.retracted = true
	w.must(w.extend(a, count(8, 12)...))
	w.finish()
}

// Where one group has no room for a sequence even alone, the error says so, though another group is merely full.
func TestTooSmallComesBeforeFull(t *testing.T) {
	w := newWorld(t, Options{PageSize: 4, Pages: [Groups]int{8, 4}, Window: 30})
	w.say(count(0, 12), Batched)
	b := w.start(nil, 0, Batched)
	_, err := b.Reserve(context.Background(), 20)
	var full *FullError
	if !errors.As(err, &full) || *full != (FullError{Group: Local, Wanted: 5, Needed: 5, Pages: 3}) {
		t.Errorf("got %+v, want the local group's ErrTooSmall", full)
	}
	w.finish()
}

// One sequence can have the whole pool, also where it goes back in a page that the tree has.
func TestOneSequenceCanHaveTheWholePool(t *testing.T) {
	w := newWorld(t, Options{PageSize: 4, Pages: [Groups]int{4, 4}, Window: 100})
	l := w.say(count(0, 12), Batched)
	n, err := l.Truncate(10)
	if n != 10 || err != nil {
		t.Fatalf("Truncate(10) left %d, %v", n, err)
	}
	l.text = l.text[:10]
	w.must(w.extend(l, 50, 51))
	if m := w.Metrics(); m.Copies != 0 {
		t.Errorf("%d copies in a full pool", m.Copies)
	}
	w.finish()
}

// A request for a provenance takes pages of no other; a request for Batched takes all.
func TestProvenance(t *testing.T) {
	const alone, other = 1, 2
	text := count(0, 10)
	for _, c := range []struct {
		made, want Provenance
		found      int
	}{
		{Batched, Batched, 10}, {Batched, alone, 0}, {alone, alone, 10}, {alone, Batched, 10}, {other, alone, 0},
	} {
		w := newWorld(t, global(30))
		w.end(w.say(text, c.made))
		l := w.start(text, 10, c.want)
		if l.Len() != c.found {
			t.Errorf("made as %d, wanted as %d: found %d, want %d", c.made, c.want, l.Len(), c.found)
		}
		w.end(l)
		w.finish()
	}
	w := newWorld(t, global(60))
	w.end(w.say(text, alone))
	mixed := w.say(join(text, count(50, 10)), Batched) // continues what is alone's
	w.end(mixed)
	w.end(w.say(join(text, count(50, 3)), alone))
	if l := w.start(join(text, count(50, 10)), 20, alone); l.Len() != 13 {
		t.Errorf("found %d of its own, want 13", l.Len())
	}
	if l := w.start(join(text, count(50, 10)), 20, Batched); l.Len() != 20 {
		t.Errorf("found %d of any, want 20", l.Len())
	}
	w.finish()
}

// What is evicted to host memory comes back as it was, all of it in one Move.
func TestHostMemoryRoundTrip(t *testing.T) {
	w := newWorld(t, Options{PageSize: 4, Pages: [Groups]int{7, 7}, HostPages: [Groups]int{10, 10}, Window: 8})
	text := count(0, 18)
	w.end(w.say(text, Batched))
	w.end(w.say(count(100, 24), Batched)) // takes the whole device
	if m := w.Metrics(); m.Groups[Global].Host != 5 || m.Groups[Local].Host != 3 {
		t.Fatalf("%+v, want 5 global pages in host memory and the 3 of the window", m.Groups)
	}
	w.device.calls, w.device.moves = 0, nil
	l := w.start(join(text, []int{7}), 18, Batched)
	w.check() // compares the rows
	if l.Len() != 18 {
		t.Errorf("%d tokens came back, want 18", l.Len())
	}
	if w.device.calls != 2 {
		t.Errorf("%d moves, want one that saves and one that loads", w.device.calls)
	}
	w.must(w.extend(l, 7, 8, 9))
	w.finish()
}

// Host memory keeps what was used last.
func TestHostMemoryDropsLeastRecentlyUsed(t *testing.T) {
	w := newWorld(t, Options{PageSize: 4, Pages: [Groups]int{5}, HostPages: [Groups]int{4}})
	for i := range 5 {
		w.end(w.say(count(100*i, 8), Batched))
	}
	for i, want := range []int{0, 8, 8, 8, 8} {
		l := lookup{pool: w.Pool, tokens: count(100*i, 8), most: 8}
		l.descend(w.root)
		if l.held != want {
			t.Errorf("text %d has %d tokens left, want %d", i, l.held, want)
		}
	}
	if m := w.Metrics(); m.HostDropped != 2 || m.Dropped != 0 || m.Saved != 4+2 {
		t.Errorf("%+v", m)
	}
	w.finish()
}

// Where the device has no room for all that is in host memory, the rest is evaluated again.
func TestAcquireLoadsWhatFits(t *testing.T) {
	w := newWorld(t, Options{PageSize: 4, Pages: [Groups]int{7}, HostPages: [Groups]int{8}})
	text := count(0, 20)
	w.end(w.say(text, Batched))
	w.must(w.Evict(context.Background(), Global, 5))
	blocker := w.say(count(100, 12), Batched)
	l := w.start(text, 20, Batched)
	if l.Len() != 12 || l.Match().Differs != 20 {
		t.Errorf("%+v, want 12 tokens on 3 pages", l.Match())
	}
	w.check()
	w.end(blocker, l)
	if l := w.start(text, 20, Batched); l.Len() != 20 {
		t.Errorf("%d tokens are left of 20", l.Len())
	}
	w.finish()
}

// A retracted sequence gives its pages to others and comes back with what is left, from host memory too.
func TestRetractAndResume(t *testing.T) {
	for _, hostPages := range []int{0, 8} {
		w := newWorld(t, Options{PageSize: 4, Pages: [Groups]int{7}, HostPages: [Groups]int{hostPages}})
		a, b := w.say(count(0, 12), Batched), w.say(count(100, 10), Batched)
		if err := w.extend(a, 12); !errors.Is(err, ErrFull) {
			t.Fatalf("got %v, want ErrFull", err)
		}
		w.must(b.Retract())
		b.retracted, b.table = true, [Groups][]int32{}
		w.check()
		w.must(w.extend(a, count(12, 9)...))
		w.end(a)
		missing, err := b.Resume(context.Background())
		w.must(err)
		b.retracted, b.text = false, b.text[:b.Len()]
		if hostPages > 0 && len(missing) > 0 {
			t.Errorf("%d tokens are missing, though host memory has room", len(missing))
		}
		if hostPages == 0 && len(missing) != 10 {
			t.Errorf("%d tokens are missing, want all 10", len(missing))
		}
		if len(missing) > 0 {
			w.must(w.extend(b, missing...))
		}
		w.must(w.extend(b, 5))
		if m := w.Metrics(); m.Retractions != 1 {
			t.Errorf("%d retractions", m.Retractions)
		}
		w.finish()
	}
}

// Rows that a sequence has written but not committed are seen by no sequence later, not even by that one.
func TestReservedIsNotShared(t *testing.T) {
	w := newWorld(t, global(30))
	l := w.say(count(0, 6), Batched)
	w.must(w.reserve(l, 8))
	for i := range 8 {
		w.write(l, 6+i, garbage)
	}
	if other := w.start(count(0, 14), 14, Batched); other.Len() != 6 {
		t.Errorf("another shares %d tokens of 6", other.Len())
	}
	n, err := l.Truncate(6)
	if n != 6 || err != nil {
		t.Fatalf("Truncate(6) left %d, %v", n, err)
	}
	w.check()
	if m := w.Metrics(); m.Groups[Global].InUse != 2 {
		t.Errorf("%d pages are in use, want 2", m.Groups[Global].InUse)
	}
	w.must(w.extend(l, 6, 7, 8))
	w.finish()
}

// While a step of a sequence is under way another may begin to share its last page, and neither disturbs the other.
func TestSharingDuringAStep(t *testing.T) {
	w := newWorld(t, global(30))
	a := w.say(count(0, 6), Batched)
	w.must(w.reserve(a, 3))
	b := w.start(count(0, 7), 6, Batched)
	w.must(w.extend(b, 60))
	w.evaluate(a, 6, 7, 8)
	w.must(a.Commit(6, 7, 8))
	a.text = append(a.text, 6, 7, 8)
	w.check()
	w.must(w.extend(b, 61, 62))
	w.finish()
}

// A failure of the Mover is returned, leaves the sequences as they were, and the same call works later.
func TestMoverFails(t *testing.T) {
	w := newWorld(t, Options{PageSize: 4, Pages: [Groups]int{7, 7}, HostPages: [Groups]int{8, 8}, Window: 30})
	text := count(0, 18)
	w.end(w.say(text, Batched))
	w.device.fail = true
	fresh := w.start(nil, 0, Batched)
	if err := w.extend(fresh, count(100, 12)...); !errors.Is(err, errMove) {
		t.Fatalf("saving: got %v", err)
	}
	w.check()
	w.must(w.extend(fresh, count(100, 12)...))
	w.end(fresh)

	cancelled, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := w.Acquire(cancelled, text, 18, Batched); !errors.Is(err, errMove) {
		t.Fatalf("loading: got %v", err)
	}
	w.check()
	l := w.start(text, 17, Batched)
	if l.Len() != 17 {
		t.Errorf("%d tokens are left, want 17", l.Len())
	}
	w.device.fail = true
	if err := w.extend(l, 77); !errors.Is(err, errMove) {
		t.Fatalf("copying: got %v", err)
	}
	w.check()
	w.must(w.extend(l, 77))
	w.finish()
}

// Export says where everything is; Import says what to fill, and shares what is still there.
func TestExportAndImport(t *testing.T) {
	w := newWorld(t, Options{PageSize: 4, Pages: [Groups]int{30, 30}, Window: 6})
	l := w.say(count(0, 10), Batched)
	extents, err := l.Export()
	w.must(err)
	g, local := l.Table(Global), l.Table(Local)
	if want := []Extent{{Global, g[0], 0, 4}, {Global, g[1], 4, 4}, {Global, g[2], 8, 2},
		{Local, local[1], 4, 4}, {Local, local[2], 8, 2}}; !slices.Equal(extents, want) {
		t.Errorf("exported %v, want %v", extents, want)
	}
	w.end(l)
	w.must(w.Evict(context.Background(), Global, 1)) // the last page
	s, extents, err := w.Import(context.Background(), count(0, 10), Batched)
	w.must(err)
	if s.Len() != 8 {
		t.Errorf("%d tokens are still there, want 8", s.Len())
	}
	if want := []Extent{{Global, s.page(Global, 2), 8, 2}, {Local, s.page(Local, 2), 8, 2}}; !slices.Equal(extents, want) {
		t.Errorf("to fill: %v, want %v", extents, want)
	}
	l = w.add(s, count(0, 8), Batched)
	w.must(w.extend(l, 8, 9)) // fills them
	if _, _, err := w.Import(context.Background(), count(100, 200), Batched); !errors.Is(err, ErrTooSmall) {
		t.Errorf("got %v, want ErrTooSmall", err)
	}
	w.check()
	w.finish()
}

// An import needs the local pages of its end, not those of where it shares a prefix as well.
func TestImportNeedsOneWindow(t *testing.T) {
	w := newWorld(t, Options{PageSize: 4, Pages: [Groups]int{30, 4}, Window: 8})
	text := count(0, 40)
	l := w.start(text, 0, Batched)
	for i := 0; i < 16; i += 4 {
		w.must(w.extend(l, text[i:i+4]...))
	}
	w.end(l)
	s, extents, err := w.Import(context.Background(), text, Batched)
	w.must(err)
	if s.Len() != 16 || len(extents) != 6+2 {
		t.Errorf("%d tokens are shared, want 16; to fill: %v", s.Len(), extents)
	}
	s.Release()
	w.finish()
}

// Misuse is an error that says what was wrong.
func TestMisuse(t *testing.T) {
	w := newWorld(t, global(30))
	l := w.say(count(0, 6), Batched)
	if err := l.Commit(1); !errors.Is(err, ErrNotReserved) ||
		!strings.Contains(err.Error(), "1 tokens at position 6, 0 reserved") {
		t.Errorf("Commit: %v", err)
	}
	if _, err := l.Reserve(context.Background(), -1); err == nil {
		t.Error("Reserve(-1) succeeds")
	}
	if n, err := l.Truncate(-1); err == nil || n != 6 {
		t.Errorf("Truncate(-1) left %d, %v", n, err)
	}
	if n, err := l.Truncate(100); err != nil || n != 6 {
		t.Errorf("Truncate(100) left %d, %v", n, err)
	}
	if missing, err := l.Resume(context.Background()); err != nil || missing != nil {
		t.Errorf("Resume of a living sequence: %v, %v", missing, err)
	}
	l.Release()
	l.Release()
	_, reserve := l.Reserve(context.Background(), 1)
	_, fork := l.Fork()
	_, truncate := l.Truncate(0)
	_, export := l.Export()
	_, resume := l.Resume(context.Background())
	for _, err := range []error{reserve, fork, truncate, export, resume, l.Commit(1), l.Retract()} {
		if !errors.Is(err, ErrReleased) {
			t.Errorf("after Release: %v", err)
		}
	}
	w.living = nil
	w.finish()
}

func TestNewRefusesBadOptions(t *testing.T) {
	d := &device{}
	for name, o := range map[string]Options{
		"no pages":              {Mover: d},
		"only page 0":           {Pages: [Groups]int{1}, Mover: d},
		"no mover":              {Pages: [Groups]int{9}},
		"window of 1":           {Pages: [Groups]int{9, 9}, Window: 1, Mover: d},
		"negative window":       {Pages: [Groups]int{9, 9}, Window: -5, Mover: d},
		"no local pages":        {Pages: [Groups]int{9}, Window: 5, Mover: d},
		"local without window":  {Pages: [Groups]int{9, 9}, Mover: d},
		"negative page size":    {PageSize: -4, Pages: [Groups]int{9}, Mover: d},
		"negative host memory":  {Pages: [Groups]int{9}, HostPages: [Groups]int{-1}, Mover: d},
		"more than 32 bits":     {Pages: [Groups]int{1 << 40}, Mover: d},
		"local host, no window": {Pages: [Groups]int{9}, HostPages: [Groups]int{0, 1}, Mover: d},
	} {
		if _, err := New(o); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
	p, err := New(Options{Pages: [Groups]int{9}, Mover: d})
	if err != nil || p.PageSize() != 64 {
		t.Errorf("default page size: %v, %v", p.PageSize(), err)
	}
}

// Decoding within a page allocates no memory, and names no changed entries.
func TestDecodingAllocatesNothing(t *testing.T) {
	ctx := context.Background()
	for _, window := range []int{0, 16} {
		o := Options{PageSize: 4096, Pages: [Groups]int{9}, Window: window, Mover: &device{}}
		if window > 0 {
			o.Pages[Local] = 9
		}
		p, err := New(o)
		if err != nil {
			t.Fatal(err)
		}
		// A sibling with the same beginning, so that the place among siblings is looked up.
		other, err := p.Acquire(ctx, nil, 0, Batched)
		if err != nil {
			t.Fatal(err)
		}
		s, err := other.Fork()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := other.Reserve(ctx, 3000); err != nil {
			t.Fatal(err)
		}
		if err := other.Commit(append(make([]int, 2000), count(1, 1000)...)...); err != nil {
			t.Fatal(err)
		}
		if _, err := s.Reserve(ctx, 1); err != nil {
			t.Fatal(err)
		}
		if err := s.Commit(5); err != nil {
			t.Fatal(err)
		}
		allocs := testing.AllocsPerRun(1000, func() {
			changes, err := s.Reserve(ctx, 1)
			if err != nil || len(changes) != 0 {
				t.Fatal(changes, err)
			}
			if err := s.Commit(7); err != nil {
				t.Fatal(err)
			}
		})
		if allocs != 0 {
			t.Errorf("window %d: %v allocations a token", window, allocs)
		}
	}
}
