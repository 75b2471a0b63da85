package pipeline

import "time"

// A race decides which of two recordings of a plan runs next, by the time that they take a step. A linked kernel is faster where
// its workgroups have the processors for themselves, and slower where other programs take them away. So the one that leads runs,
// and now and then the other one gets a chance.
type race struct {
	mean   [2]time.Duration // of the last runs; 0: none yet
	leader int
	runs   int // of the leader since the last chance
	wait   int // runs before the next one
}

const (
	firstWait = 8   // runs between two chances, doubled with each that is lost
	mostWait  = 512 // the same, at most
)

// next is the number of the recording that runs next, of one or two. The second one begins.
func (r *race) next(recordings int) int {
	switch {
	case recordings < 2:
		return 0
	case r.mean[1] == 0:
		return 1
	case r.mean[0] == 0:
		return 0
	case r.runs >= r.wait:
		return 1 - r.leader
	}
	return r.leader
}

// took notes the time of a step of a run.
func (r *race) took(i int, t time.Duration) {
	t = max(t, 1)
	other := 1 - i
	switch {
	case r.mean[other] == 0: // the first run of all, which found everything cold
		r.mean[i] = t
	case r.mean[i] == 0:
		r.mean[i], r.wait = t, firstWait
		if t < r.mean[other] {
			r.leader = i
		}
	case i == r.leader:
		r.runs++
		r.mean[i] += (t - r.mean[i]) / 4
		if r.mean[i] > 3*r.mean[other]/2 { // it isn't what it was
			r.leader, r.runs = other, 0
		}
	default:
		r.mean[i], r.runs = t, 0
		if t < r.mean[other] {
			r.leader, r.wait = i, firstWait
		} else {
			r.wait = min(2*r.wait, mostWait)
		}
	}
}
