package pumice

import (
	"cmp"
	"slices"
	"sync"
	"sync/atomic"
)

// A turn is the right to work on a device for one step. Executors get it in the order in which they ask for it, so that the
// steps of two Engines that are both at work alternate, and neither waits for more than one step of each other Engine.
type turn struct {
	order int64 // turns of several devices are taken in this order, so that nobody waits in a circle

	mu      sync.Mutex
	taken   bool
	waiting []chan struct{} // in order of arrival; closed when the turn has come
}

// devicesOpened numbers turns.
var devicesOpened atomic.Int64

// take takes the turn, or returns a channel that is closed when the caller has it.
func (t *turn) take() (wait <-chan struct{}) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.taken {
		t.taken = true
		return nil
	}
	c := make(chan struct{})
	t.waiting = append(t.waiting, c)
	return c
}

// isTaken reports whether somebody has the turn.
func (t *turn) isTaken() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.taken
}

// give gives the turn to the next one that waits, and reports whether there was one.
func (t *turn) give() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.waiting) == 0 {
		t.taken = false
		return false
	}
	close(t.waiting[0])
	t.waiting = slices.Delete(t.waiting, 0, 1)
	return true
}

// turnsOf are the turns of devices in the order in which they are taken, each once.
func turnsOf(devices []*Device) []*turn {
	var turns []*turn
	for _, d := range devices {
		turns = append(turns, &d.turn)
	}
	slices.SortFunc(turns, func(a, b *turn) int { return cmp.Compare(a.order, b.order) })
	return slices.Compact(turns)
}

// takeTurns waits for the turns of all devices. The caller has the lock, which others may have meanwhile. It reports whether
// that was so.
func (x *executor) takeTurns() (waited bool) {
	for _, t := range x.turns {
		if wait := t.take(); wait != nil {
			x.mu.Unlock()
			<-wait
			x.mu.Lock()
			waited = true
		}
	}
	x.contended = x.contended || waited
	return waited
}

// giveTurns gives them back.
func (x *executor) giveTurns() {
	x.contended = false
	for _, t := range x.turns {
		if t.give() {
			x.contended = true
		}
	}
}
