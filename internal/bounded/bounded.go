// Package bounded holds tests of readers to what untrusted input may cost: processor time, memory, and the time
// until a cancelled call returns. Fuzz targets use it so that an input that takes too much fails as one that panics does.
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
	perMB      = time.Second // processor time a megabyte of input may take
	atLeast    = time.Second // and of any input, however small
	perByte    = 8           // bytes of memory that a byte of input may take
	baseBytes  = 64 << 20    // and of any input
	untilStop  = time.Second // after which a cancelled call must have returned
	worthStop  = 50 * time.Millisecond
	waitFactor = 20 // wall-clock time over processor time that is taken for hanging
)

// Run calls f, which reads an input of n bytes, and fails the test if it takes more than a second of processor time a
// megabyte or 64 MB of memory and eight times the input. If f takes long enough to be stopped, Run calls it again,
// cancels its context halfway, and fails the test if f has not returned a second later. f runs on a goroutine of its own, so it reports
// through t.Error and not t.Fatal. An f that goes on in spite of all limits ends the test process: nothing else would stop it.
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

// measure runs f, cancelling its context after a time unless that is 0, and returns what it took.
func measure(f func(context.Context), limit time.Duration, memory uint64, cancelAfter time.Duration) (wall, cpu time.Duration, peak uint64) {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	if cancelAfter > 0 {
		time.AfterFunc(cancelAfter, cancel)
	}
	before := heap()
	if before > baseBytes/2 { // garbage that goes away meanwhile would hide what f takes
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
		runtime.LockOSThread() // so that the thread's processor time is that of f alone
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
				panic(fmt.Sprintf("bounded: a call that has taken %v and %d bytes does not stop when it is cancelled", wall, peak))
			}
		}
	}
}

// heap is the memory that objects take, those that are garbage but not yet swept among them.
func heap() uint64 {
	s := []metrics.Sample{{Name: "/memory/classes/heap/objects:bytes"}}
	metrics.Read(s)
	return s[0].Value.Uint64()
}
