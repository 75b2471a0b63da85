package vk

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	vulkan "github.com/vulkan-go/vulkan"
)

// How long a device may work on one submission before it counts as hung, where DeviceOptions.HangTimeout is 0. Drivers of GPUs notice
// themselves and report a lost device, amdgpu after up to 60 s of compute: ours must not come first. CPU drivers have no such limit, and
// on a loaded machine they take minutes for what should take a quarter of a second.
const (
	hangTimeout    = 2 * time.Minute
	hangTimeoutCPU = 10 * time.Minute
)

const (
	// cancelWait is how long a wait goes on after its context has ended: twice what package pipeline submits at once. Where the work ends
	// in that time, nothing is left running.
	cancelWait = 500 * time.Millisecond
	// closeWait is how long closing waits for work that a wait has given up.
	closeWait = time.Second
	// failWait is how long waiting is tried again after failures that say nothing about the work, such as a lack of memory.
	failWait = 500 * time.Millisecond
	// watchSlice is the time limit of one call into the driver.
	watchSlice = time.Second
	// waitStep is how often a wait counts the time. A stopped process counts one step, however long it was stopped.
	waitStep = 100 * time.Millisecond
)

// Submission is work that was given to the device. What the work uses is not freed, and its fence not used again, before it has ended.
type Submission struct {
	d     *Device
	fence uint64

	done    chan struct{} // closed when watch is done
	err     error         // of the work, or of watching it; valid when done
	running bool          // the work may still run although nobody watches it; valid when done

	waited    atomic.Int64 // nanoseconds that Wait has waited
	abandoned atomic.Bool  // a Wait has given up
}

// start submits command buffers, whose end fence signals. Zero handles are left out.
func (d *Device) start(q queue, cmds []uint64, wait, fence uint64) (*Submission, error) {
	if err := d.submit(q, cmds, wait, 0, fence); err != nil {
		return nil, err
	}
	s := &Submission{d: d, fence: fence, done: make(chan struct{})}
	d.runningMu.Lock()
	d.running[s] = struct{}{}
	d.runningMu.Unlock()
	go s.watch()
	return s, nil
}

// watch waits in the driver, on a goroutine of its own: a driver that hangs may not come back, whatever time limit it is given.
func (s *Submission) watch() {
	d := s.d
	defer close(s.done)
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
		case r == ErrorDeviceLost: // waits for a lost device return at once, and what it uses may be freed
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

// Wait waits until the submission has ended. It may be called more than once and from several goroutines. After the end of ctx it waits
// half a second more; the work then goes on, and the error is that of ctx. A device that does not end the submission in
// DeviceOptions.HangTimeout counts as hung: the error is ErrHung, now and from every later call on the device.
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
	return fmt.Errorf("vk: work on %s was left to itself: %w", s.d.pd.Name, ctx.Err())
}

// await waits until nothing more is to be learned of the submission, and reports that; false after the end of ctx or when all waits
// together have taken the time.
func (s *Submission) await(ctx context.Context, total time.Duration) bool {
	select {
	case <-s.done:
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
			return true
		case <-ctx.Done():
			return false
		case <-tick.C:
			s.waited.Add(int64(step))
		}
	}
	return false
}

// tickers are stopped: a token should not cost a new one.
var tickers = sync.Pool{New: func() any { return time.NewTicker(waitStep) }}

// ended waits and reports whether the work has ended, so that what it uses may be freed.
func (s *Submission) ended() bool {
	limit := s.d.hang
	if s.abandoned.Load() || s.d.dead.Load() != nil {
		limit = closeWait
	}
	return s.await(context.Background(), time.Duration(s.waited.Load())+limit) && !s.running
}

// Settle waits for the submissions whose Wait has given up, before something is written that they may still read. As a rule there are
// none, and it costs nothing.
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

// settle is over for everything that was submitted.
func (d *Device) settle() bool { return d.over(d.unended()...) }

// over waits until submissions have ended, and reports whether what they use may be destroyed. Where one does not end, every object of
// the device is left to the process from then on, since work that was submitted later waits for it.
func (d *Device) over(list ...*Submission) bool {
	for _, s := range list {
		if s != nil && !d.leaked.Load() && !s.ended() && !d.leaked.Swap(true) {
			d.log.Error().Str("device", d.pd.Name).Msg("work on the device does not end: the memory that it may use is not freed")
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

// fail makes err what every later use of the device gives, unless something else was, and returns it.
func (d *Device) fail(err *Error) error {
	if d.dead.CompareAndSwap(nil, err) {
		d.log.Error().Str("device", d.pd.Name).Str("call", err.Call).Msg(err.Result.String())
	}
	return err
}

// destroyFence frees a fence, which may be 0, of work that has ended.
func (d *Device) destroyFence(fence uint64) {
	vulkan.DestroyFence(d.handle, as[vulkan.Fence](fence), nil)
}
