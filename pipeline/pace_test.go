package pipeline

import (
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"pumice/internal/dtype"
	"pumice/internal/gputest"
	"pumice/pipeline/kernels"
)

// submissions runs a pace over parts whose seconds a byte are known, and returns the parts of each submission and the longest.
func submissions(p *pace, tokens, live int, secondsPerByte float64) (sizes []int, longest time.Duration) {
	s := p.start(tokens, live)
	for first := 0; first < len(p.segments); {
		end := s.end(first)
		bytes := 0.0
		for _, part := range p.segments[first:end] {
			bytes += part.bytes(tokens, live)
		}
		d := time.Duration(bytes * secondsPerByte * 1e9)
		longest = max(longest, d)
		s.took(first, end, d)
		sizes = append(sizes, end-first)
		first = end
	}
	return sizes, longest
}

func parts(n int, perToken, perPosition int64) []work {
	list := make([]work, n)
	for i := range list {
		list[i] = work{perToken: perToken, perPosition: perPosition}
	}
	return list
}

func TestSubmissionsAreBoundedByTime(t *testing.T) {
	const tokens, part = 512, 2 << 30
	p := newPace(parts(64, part/tokens, 0))
	// 20 GB/s, what 8 lanes of a CPU do: a part takes 107 ms.
	sizes, longest := submissions(p, tokens, tokens, 1/20e9)
	if sizes[0] != 1 {
		t.Errorf("the first submission of an unknown plan has %d parts", sizes[0])
	}
	if longest > submitTarget {
		t.Errorf("first run: %v in one submission (%v)", longest, sizes)
	}
	sizes, longest = submissions(p, tokens, tokens, 1/20e9)
	if longest > submitTarget || len(sizes) != 32 {
		t.Errorf("second run: %d submissions, the longest of %v; want 32 of two parts", len(sizes), longest)
	}
	run := p.start(tokens, tokens)
	if d, known := run.expected(); !known || d < 6*time.Second || d > 8*time.Second {
		t.Errorf("the run is expected to take %v (%t), want 64 times 0.107 s", d, known)
	}
	// A GPU a thousand times as fast: found out in a few submissions, then one is enough.
	p = newPace(parts(64, part/tokens, 0))
	if sizes, _ = submissions(p, tokens, tokens, 1/20e12); len(sizes) > 7 || sizes[0] != 1 {
		t.Errorf("a fast device, first run: %v", sizes)
	}
	if sizes, _ = submissions(p, tokens, tokens, 1/20e12); len(sizes) != 1 {
		t.Errorf("a fast device, second run: %v", sizes)
	}
}

// One slow run, such as the first where a driver compiles late, is forgotten after a few.
func TestSlowRunsAreForgotten(t *testing.T) {
	p := newPace(parts(8, 1<<20, 0))
	submissions(p, 1, 1, 1e-6) // a second a part
	if sizes, _ := submissions(p, 1, 1, 1e-10); len(sizes) != 8 {
		t.Errorf("after a slow run: %v", sizes)
	}
	runs := 1
	for ; runs < 100; runs++ {
		if sizes, _ := submissions(p, 1, 1, 1e-10); len(sizes) == 1 {
			break
		}
	}
	if runs > 10 {
		t.Errorf("still in pieces after %d fast runs", runs)
	}
}

// Attention at a depth takes longer than what was measured at the start.
func TestDepthIsForeseen(t *testing.T) {
	const tokens = 64
	p := newPace(parts(16, 1<<10, 1<<10))
	rate := 0.1 / (tokens * (1<<10 + float64(1<<10)*tokens)) // a part takes 0.1 s at the start
	submissions(p, tokens, tokens, rate)
	sizes, longest := submissions(p, tokens, 4*tokens, rate) // and four times as long here
	if longest > 2*submitTarget || len(sizes) != 16 {
		t.Errorf("%d submissions, the longest of %v", len(sizes), longest)
	}
	w := work{perToken: 10, perPosition: 3, window: 8}
	if got := w.bytes(2, 100); got != 2*(10+3*8) {
		t.Errorf("work of two tokens in a window of 8: %v", got)
	}
	if got := (work{perToken: 1}).plus(w); got.window != 8 || got.perToken != 11 {
		t.Errorf("sum: %+v", got)
	}
	if got := (work{perPosition: 1}).plus(w); got.window != 0 || got.perPosition != 4 {
		t.Errorf("sum of a window and none: %+v", got)
	}
}

// TestPiecesOfAGrid divides a product with more rows than one dimension of a grid has workgroups.
func TestPiecesOfAGrid(t *testing.T) {
	dev := gputest.Open(t)
	limit := dev.PhysicalDevice().Limits.MaxComputeWorkGroupCount[0]
	rows, cols := 2*limit+100, 4 // of which a workgroup of the base kernel takes two
	if rows > 1<<20 {
		t.Skipf("a dimension of a grid has %d workgroups: too many for a small matrix", limit)
	}
	results := map[int64][]float32{}
	for _, segmentBytes := range []int64{0, 1 << 18} {
		b := newBench(t, managerOn(t, dev, Options{Path: kernels.Base, SegmentBytes: segmentBytes}))
		b.rnd = rand.New(rand.NewPCG(1, 2))
		w := b.matrix(dtype.F32, rows, cols)
		p := b.m.NewBuilder("pieces", 1)
		y := p.Linear(b.inputOf(p, b.normal(cols), cols), w.matrix, nil)
		p.Output("y", y)
		plan := b.build(p)
		step := one(0, 0)
		var shares []float64
		step.Progress = func(share float64) { shares = append(shares, share) }
		c := run(t, plan, step)
		if segmentBytes > 0 && (c.Submits < 2 || c.Dispatches < 3) {
			t.Errorf("%d submits of %d dispatches", c.Submits, c.Dispatches)
		}
		if n := len(shares); int64(n) != c.Submits || !slices.IsSorted(shares) || shares[0] <= 0 || shares[n-1] != 1 {
			t.Errorf("after %d submits the work done is %v", c.Submits, shares)
		}
		results[segmentBytes] = outputOf(t, plan, "y", 1, rows)
	}
	if !slices.Equal(results[0], results[1<<18]) {
		t.Error("the pieces give another result than the whole")
	}
	for grid, want := range map[[3]int]int{{7, 1, 1}: 0, {70, 2, 1}: 1, {3, 1, 9}: 2, {2, 5, 3}: 1} {
		if got := (&node{grid: grid}).side(); got != want {
			t.Errorf("a grid of %v is divided along dimension %d, want %d", grid, got, want)
		}
	}
}
