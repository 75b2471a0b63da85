package pipeline

import (
	"testing"
	"time"
)

// ride lets a race run n times, where the recordings take so long, and returns how often the second one ran.
func ride(r *race, n int, took [2]time.Duration) (second int) {
	for range n {
		i := r.next(2)
		second += i
		r.took(i, took[i])
	}
	return second
}

func TestRace(t *testing.T) {
	var r race
	if n := ride(&r, 1000, [2]time.Duration{20, 8}); n < 985 {
		t.Errorf("the faster one ran %d times of 1000", n)
	}
	// Other programs come: it is slow from now on.
	if n := ride(&r, 1000, [2]time.Duration{20, 80}); n > 20 {
		t.Errorf("the one that became slow ran %d times of 1000", n)
	}
	// They go. The next chance is at most mostWait runs away.
	if n := ride(&r, 2*mostWait, [2]time.Duration{20, 8}); n < mostWait {
		t.Errorf("the faster one ran %d times of %d", n, 2*mostWait)
	}
	if r = (race{}); r.next(1) != 0 {
		t.Error("there is only one")
	}
}
