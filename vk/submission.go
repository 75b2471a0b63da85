//go:build cgo

package vk

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	vulkan "github.com/vulkan-go/vulkan"
)

// How long a device may work on one submission before it counts as hung, if DeviceOptions.HangTimeout is 0. Drivers of
// GPUs detect a hang and report a lost device, amdgpu after up to 60 s of compute: our limit must not come first. CPU
// drivers have no such limit, and on a loaded machine they take minutes for work that should take a quarter of a
// second.
const (
	hangTimeout    = 2 * time.Minute
	hangTimeoutCPU = 10 * time.Minute
)

const (
	// cancelWait is how long a wait continues after its context has ended: twice the work that package pipeline submits
	// at once. If the work ends in that time, nothing is left running.
	cancelWait = 500 * time.Millisecond
	// closeWait is how long Close waits for work that a Wait has given up on.
	closeWait = time.Second
	// failWait is how long a wait is retried after failures that say nothing about the work, such as a lack of memory.
	failWait = 500 * time.Millisecond
	// watchSlice is the time limit of one call into the driver.
	watchSlice = time.Second
	// waitStep is the step in which a wait counts time. If the process is stopped, however long, only one step is
	// counted.
	waitStep = 100 * time.Millisecond
)

// Submission is work that was submitted to the device. Until it has ended, objects that it uses are not freed and its
// fence is not reused. The next submission of the same Commands is the same Submission: submitting allocates nothing.
type Submission struct {
	d     *Device
	fence uint64
	watch func() // watchFence, which would be allocated each time

	done    chan struct{} // has an element from when watch is done
	err     error         // of the work, or of watching it; valid once watch is done
	running bool          // the work may still run although watch is done; valid then

	waited    atomic.Int64 // nanoseconds spent in all waits
	abandoned atomic.Bool  // a Wait has given up
}

// start submits command buffers and watches for their end, which signals fence. wait and signal are semaphores, or 0 for
// none. The Submission is last, which has ended without an error, or a new one if that is nil.
func (d *Device) start(last *Submission, q queue, cmds []uint64, wait, signal, fence uint64) (*Submission, error) {
	if err := d.submit(q, cmds, wait, signal, fence); err != nil {
		return nil, err
	}
	s := last
	if s == nil {
		s = &Submission{d: d, fence: fence, done: make(chan struct{}, 1)}
		s.watch = s.watchFence
	} else {
		<-s.done
		s.waited.Store(0)
		s.abandoned.Store(false)
	}
	d.runningMu.Lock()
	d.running[s] = struct{}{}
	d.runningMu.Unlock()
	go s.watch()
	return s, nil
}

// watchFence waits in the driver, on a goroutine of its own: a call into a driver that hangs may not return, whatever its
// time limit.
func (s *Submission) watchFence() {
	d := s.d
	defer func() { s.done <- struct{}{} }()
	var failing time.Time
	for lost := false; ; {
		r := Result(d.shim.WaitFence(s.fence, watchSlice))
		switch {
		case r == Timeout:
			failing = time.Time{}
			if d.leaked.Load() {
				s.running = true
				return
			}
		case r == Success, r == ErrorDeviceLost && lost:
			d.runningMu.Lock()
			delete(d.running, s)
			d.runningMu.Unlock()
			return
		case r == ErrorDeviceLost: // waits on a lost device return at once, and then the objects in use may be freed
			lost = true
			s.err = d.check(int32(r), "vkWaitForFences", "%s", d.pd.Name)
		default:
			if failing.IsZero() {
				failing = time.Now()
			}
			if time.Since(failing) > failWait {
				s.err, s.running = d.fail(&Error{"vkWaitForFences", r, d.pd.Name}), true
				return
			}
			time.Sleep(10 * time.Millisecond)
		}
	}
}

// Ended reports whether the submission has ended, without waiting for it.
func (s *Submission) Ended() bool {
	select {
	case <-s.done:
		s.done <- struct{}{}
		return true
	default:
		return false
	}
}

// Wait waits until the submission has ended. It may be called more than once and from several goroutines. When ctx
// ends, it waits for half a second more, then returns ctx's error while the work continues. A device that does not
// finish the submission within DeviceOptions.HangTimeout counts as hung: the error is ErrHung, now and in every later
// call on the device.
func (s *Submission) Wait(ctx context.Context) error {
	if s.await(ctx, s.d.hang) {
		return s.err
	}
	if ctx.Err() == nil {
		s.abandoned.Store(true)
		return s.d.fail(&Error{"vkWaitForFences", Timeout, fmt.Sprintf("%s: a submission has not ended in %v", s.d.pd.Name, s.d.hang)})
	}
	if s.await(context.Background(), time.Duration(s.waited.Load())+cancelWait) {
		return s.err
	}
	s.abandoned.Store(true)
	return fmt.Errorf("vk: stopped waiting for work on %s, which continues: %w", s.d.pd.Name, ctx.Err())
}

// await waits until watch is done, and then returns true. It returns false if ctx ends first, or once all waits
// for the submission together have taken the time total.
func (s *Submission) await(ctx context.Context, total time.Duration) bool {
	select {
	case <-s.done:
		s.done <- struct{}{}
		return true
	default:
	}
	step := min(waitStep, max(total/8, time.Millisecond))
	tick := tickers.Get().(*time.Ticker)
	defer tickers.Put(tick)
	tick.Reset(step)
	defer tick.Stop()
	for time.Duration(s.waited.Load()) < total {
		select {
		case <-s.done:
			s.done <- struct{}{}
			return true
		case <-ctx.Done():
			return false
		case <-tick.C:
			s.waited.Add(int64(step))
		}
	}
	return false
}

// tickers keeps stopped tickers, so that a token does not allocate one.
var tickers = sync.Pool{New: func() any { return time.NewTicker(waitStep) }}

// ended waits and reports whether the work has ended, so that the objects it uses may be freed.
func (s *Submission) ended() bool {
	limit := s.d.hang
	if s.abandoned.Load() || s.d.dead.Load() != nil {
		limit = closeWait
	}
	return s.await(context.Background(), time.Duration(s.waited.Load())+limit) && !s.running
}

// Settle waits for the submissions whose Wait has given up. Call it before writing memory that they may still read.
// Usually there are none, and it costs nothing.
func (d *Device) Settle(ctx context.Context) error {
	for _, s := range d.unended() {
		if s.abandoned.Load() {
			if err := s.Wait(ctx); err != nil {
				return err
			}
		}
	}
	return nil
}

// settle is over for all submissions that have not ended.
func (d *Device) settle() bool { return d.over(d.unended()...) }

// over waits until submissions have ended, and reports whether the objects they use may be destroyed. If one does not
// end, no object of the device is destroyed from then on, since work submitted later waits for it.
func (d *Device) over(list ...*Submission) bool {
	for _, s := range list {
		if s != nil && !d.leaked.Load() && !s.ended() && !d.leaked.Swap(true) {
			d.log.Error().Str("device", d.pd.Name).Msg("work on the device does not end: its memory is not freed")
		}
	}
	return !d.leaked.Load()
}

func (d *Device) unended() []*Submission {
	d.runningMu.Lock()
	defer d.runningMu.Unlock()
	var list []*Submission
	for s := range d.running {
		list = append(list, s)
	}
	return list
}

// fail makes err the error of every later call on the device, unless it already has one, and returns err.
func (d *Device) fail(err *Error) error {
	if d.dead.CompareAndSwap(nil, err) {
		d.log.Error().Str("device", d.pd.Name).Str("call", err.Call).Msg(err.Result.String())
	}
	return err
}

// destroyFence frees a fence, which may be 0. The work that signals it must have ended.
func (d *Device) destroyFence(fence uint64) {
	vulkan.DestroyFence(d.handle, as[vulkan.Fence](fence), nil)
}
