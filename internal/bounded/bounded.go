// Package bounded checks, in tests of readers, the limits on the cost of untrusted input: processor time, memory, and
// the time until a cancelled call returns. With it a fuzz target also fails for an input that takes too much, as for
// one that panics.
package bounded

import (
	"context"
	"fmt"
	"runtime"
	"runtime/metrics"
	"sync/atomic"
	"testing"
	"time"
)

const (
	perMB      = time.Second // limit of processor time per megabyte of input
	atLeast    = time.Second // the smallest such limit
	perByte    = 8           // limit of memory per byte of input
	baseBytes  = 64 << 20    // memory allowed in addition
	untilStop  = time.Second // time in which a cancelled call must return
	worthStop  = 50 * time.Millisecond
	waitFactor = 20 // a call that takes this many times its limit of processor time by the clock is hung
)

// Run calls f, which reads an input of n bytes, and fails the test if f takes more than a second of processor time per
// megabyte (at least a second), or more memory than 64 MB and eight times the input. If f takes long enough to be
// cancelled, Run calls it again, cancels its context halfway, and fails the test if f has not returned a second later.
// f runs on its own goroutine, so it must use t.Error and not t.Fatal. If f does not stop at any limit, Run ends the
// test process, since nothing else could stop f.
func Run(t testing.TB, n int, f func(ctx context.Context)) {
	t.Helper()
	limit := max(atLeast, time.Duration(float64(perMB)*float64(n)/1e6))
	memory := uint64(baseBytes + perByte*n)
	wall, cpu, peak := measure(f, limit, memory, 0)
	if cpu > limit {
		t.Errorf("an input of %d bytes took %v of processor time, the limit is %v", n, cpu, limit)
	}
	if peak > memory {
		t.Errorf("an input of %d bytes took %d bytes of memory, the limit is %d", n, peak, memory)
	}
	if t.Failed() || wall < worthStop {
		return
	}
	after := wall / 2
	if wall, _, _ = measure(f, limit, memory, after); wall > after+untilStop {
		t.Errorf("a call cancelled after %v returned %v later, the limit is %v", after, wall-after, untilStop)
	}
}

// measure runs f, cancels its context after cancelAfter unless that is 0, and returns the time and memory that f took.
func measure(f func(context.Context), limit time.Duration, memory uint64, cancelAfter time.Duration) (wall, cpu time.Duration, peak uint64) {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	if cancelAfter > 0 {
		time.AfterFunc(cancelAfter, cancel)
	}
	before := heap()
	if before > baseBytes/2 { // garbage that is collected meanwhile would hide memory that f takes
		runtime.GC()
		before = heap()
	}
	done := make(chan time.Duration, 1)
	var returned atomic.Bool
	start := time.Now()
	go func() {
		defer func() {
			returned.Store(true)
			close(done)
		}()
		runtime.LockOSThread() // so that the thread's processor time is only that of f
		defer runtime.UnlockOSThread()
		from := threadTime()
		f(ctx)
		done <- threadTime() - from
	}()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case cpu := <-done:
			return time.Since(start), cpu, peak
		case <-tick.C:
		}
		if now := heap(); now > before+max(peak, memory) {
			runtime.GC() // garbage does not count
			if now = heap(); now > before {
				peak = max(peak, now-before)
			}
		}
		if wall := time.Since(start); (peak > 4*memory || wall > waitFactor*limit) && !returned.Load() {
			cancel()
			select {
			case cpu := <-done:
				return time.Since(start), max(cpu, wall/waitFactor), peak
			case <-time.After(untilStop):
				panic(fmt.Sprintf("bounded: a call that took %v and %d bytes did not stop when cancelled", wall, peak))
			}
		}
	}
}

// heap returns the memory of all objects, including garbage that is not swept yet.
func heap() uint64 {
	s := []metrics.Sample{{Name: "/memory/classes/heap/objects:bytes"}}
	metrics.Read(s)
	return s[0].Value.Uint64()
}
