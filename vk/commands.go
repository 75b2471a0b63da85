//go:build cgo

package vk

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"
	"unsafe"

	vulkan "github.com/vulkan-go/vulkan"
)

// Commands are recorded operations that can be submitted any number of times, one submission at a time. They consist of
// segments, one more than there were calls of Recorder.Cut, which can be submitted separately and in order. The end of
// the last segment makes all writes visible to the host and to later submissions.
type Commands struct {
	d        *Device
	made     string
	stats    Stats
	pool     uint64
	segments []uint64 // one command buffer each, in order; the last is being recorded until Finish
	repeat   bool
	repeated []uint64 // segments of SubmitTimes, memory that is used again
	fence    uint64
	pools    []uint64 // descriptor pools
	views    []uint64 // texel buffer views
	events   []uint64 // of Recorder.Split
	timed    bool
	queries  []uint64 // query pools of queriesPerPool each
	marks    []bool   // for each timestamp: whether it ends a dispatch

	mu     sync.Mutex
	last   *Submission // nil before the first
	closed bool
}

const queriesPerPool = 256

// Stats counts the operations of Commands in one submission of all segments.
type Stats struct {
	Dispatches int
	Barriers   int // between operations; the final one is not counted
	Splits     int // of the barriers: those that Recorder.Split began, and an event ended
	Copies     int
	CopyBytes  int64
}

// Stats returns the counts of the recorded operations.
func (c *Commands) Stats() Stats { return c.stats }

// begin makes the Vulkan objects and starts recording the first segment.
func (c *Commands) begin() error {
	d := c.d
	var r int32
	if c.fence, r = d.shim.NewFence(); r != 0 {
		return d.check(r, "vkCreateFence", "")
	}
	if c.pool, r = d.shim.NewCommandPool(d.compute.family); r != 0 {
		return d.check(r, "vkCreateCommandPool", "")
	}
	return c.nextSegment()
}

// nextSegment starts recording one more command buffer.
func (c *Commands) nextSegment() error {
	cmd, r := c.d.shim.NewCommandBuffer(c.pool)
	if r != 0 {
		return c.d.check(r, "vkAllocateCommandBuffers", "")
	}
	c.segments = append(c.segments, cmd)
	return c.d.check(c.d.shim.Begin(cmd, c.repeat), "vkBeginCommandBuffer", "")
}

// raw returns the command buffer that is being recorded.
func (c *Commands) raw() uint64 { return c.segments[len(c.segments)-1] }

func (c *Commands) cmd() vulkan.CommandBuffer { return as[vulkan.CommandBuffer](c.raw()) }

// endSegment ends the command buffer that is being recorded.
func (c *Commands) endSegment() error {
	return c.d.check(int32(vulkan.EndCommandBuffer(c.cmd())), "vkEndCommandBuffer", "%d dispatches", c.stats.Dispatches)
}

// Segments returns the number of segments.
func (c *Commands) Segments() int { return len(c.segments) }

// timestamp records one more timestamp, which the device takes when everything before it is done.
func (c *Commands) timestamp(dispatch bool) error {
	i := len(c.marks)
	if i%queriesPerPool == 0 {
		pool, r := c.d.shim.NewQueryPool(queriesPerPool)
		if r != 0 {
			return c.d.check(r, "vkCreateQueryPool", "%d queries", queriesPerPool)
		}
		c.queries = append(c.queries, pool)
		vulkan.CmdResetQueryPool(c.cmd(), as[vulkan.QueryPool](pool), 0, queriesPerPool)
	}
	pool := as[vulkan.QueryPool](c.queries[i/queriesPerPool])
	vulkan.CmdWriteTimestamp(c.cmd(), vulkan.PipelineStageBottomOfPipeBit, pool, uint32(i%queriesPerPool))
	c.marks = append(c.marks, dispatch)
	return nil
}

// Submit starts all segments. If the last submission of these commands has not ended, Submit first waits for it as
// Submission.Wait does. That Submission then stands for the new work.
func (c *Commands) Submit(ctx context.Context) (*Submission, error) {
	return c.SubmitSegments(ctx, 0, c.Segments())
}

// SubmitSegments is Submit for segments first to end-1 only.
func (c *Commands) SubmitSegments(ctx context.Context, first, end int) (*Submission, error) {
	if first < 0 || end > len(c.segments) || first >= end {
		return nil, fmt.Errorf("vk: segments %d to %d of commands that have %d", first, end, len(c.segments))
	}
	return c.submit(ctx, c.segments[first:end], 1)
}

// SubmitTimes starts the commands n times, one after another, in one submission. They must have been recorded with
// Repeat.
func (c *Commands) SubmitTimes(ctx context.Context, n int) (*Submission, error) {
	if n < 1 || !c.repeat {
		return nil, fmt.Errorf("vk: can't submit commands %d times at once, recorded with Repeat: %t", n, c.repeat)
	}
	return c.submit(ctx, c.segments, n)
}

// submit starts buffers, so many times.
func (c *Commands) submit(ctx context.Context, buffers []uint64, times int) (*Submission, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return nil, fmt.Errorf("vk: commands: %w", ErrClosed)
	}
	if c.last != nil {
		if err := c.last.Wait(ctx); err != nil {
			return nil, err
		}
	}
	if times > 1 {
		c.repeated = c.repeated[:0]
		for range times {
			c.repeated = append(c.repeated, buffers...)
		}
		buffers = c.repeated
	}
	s, err := c.d.start(c.last, c.d.compute, buffers, 0, 0, c.fence)
	if err != nil {
		return nil, err
	}
	c.last = s
	return s, nil
}

// Run submits the commands and waits for them.
func (c *Commands) Run(ctx context.Context) error {
	s, err := c.Submit(ctx)
	if err != nil {
		return err
	}
	return s.Wait(ctx)
}

// Timings returns the time of each dispatch in the last submission, and waits for that if need be. Dispatches with no
// barrier between them may overlap: the earlier one's time then ends, and the later one's time starts, when the earlier
// one is done.
func (c *Commands) Timings() ([]time.Duration, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.closed:
		return nil, fmt.Errorf("vk: commands: %w", ErrClosed)
	case !c.timed:
		return nil, errors.New("vk: timings: commands recorded without timestamps")
	case c.last == nil:
		return nil, errors.New("vk: timings: commands not submitted yet")
	}
	if err := c.last.Wait(context.Background()); err != nil {
		return nil, err
	}
	limits := c.d.pd.Limits
	mask := ^uint64(0) >> (64 - limits.TimestampValidBits)
	var ticks [queriesPerPool]uint64
	var last uint64
	times := make([]time.Duration, 0, c.stats.Dispatches)
	for i, dispatch := range c.marks {
		if k := i % queriesPerPool; k == 0 {
			n := min(queriesPerPool, len(c.marks)-i)
			flags := vulkan.QueryResultFlags(vulkan.QueryResult64Bit) // needs no wait flag: the commands have ended
			r := vulkan.GetQueryPoolResults(c.d.handle, as[vulkan.QueryPool](c.queries[i/queriesPerPool]), 0, uint32(n), uint(8*n),
				unsafe.Pointer(&ticks[0]), 8, flags)
			if err := c.d.check(int32(r), "vkGetQueryPoolResults", "%d queries", n); err != nil {
				return nil, err
			}
		}
		now := ticks[i%queriesPerPool] & mask
		if dispatch {
			times = append(times, time.Duration(float64((now-last)&mask)*limits.TimestampPeriod))
		}
		last = now
	}
	return times, nil
}

// Close waits for the last submission and frees the commands with their descriptor sets and views.
func (c *Commands) Close() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return nil
	}
	c.closed = true
	c.d.disown(c)
	if !c.d.over(c.last) {
		return nil
	}
	h := c.d.handle
	for _, q := range c.queries {
		vulkan.DestroyQueryPool(h, as[vulkan.QueryPool](q), nil)
	}
	// Destroying the command pool frees the command buffers, which refer to the events, sets and views.
	vulkan.DestroyCommandPool(h, as[vulkan.CommandPool](c.pool), nil)
	for _, e := range c.events {
		vulkan.DestroyEvent(h, as[vulkan.Event](e), nil)
	}
	for _, p := range c.pools {
		vulkan.DestroyDescriptorPool(h, as[vulkan.DescriptorPool](p), nil)
	}
	for _, v := range c.views {
		vulkan.DestroyBufferView(h, as[vulkan.BufferView](v), nil)
	}
	c.d.destroyFence(c.fence)
	return nil
}

func (c *Commands) describe() (int, string) {
	return rankCommands, fmt.Sprintf("commands of %d dispatches%s", c.stats.Dispatches, c.made)
}
