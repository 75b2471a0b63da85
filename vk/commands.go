package vk

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"
	"unsafe"

	vulkan "github.com/vulkan-go/vulkan"
)

// Commands are recorded operations that can be submitted any number of times, one submission at a time. They have one part, or more where
// Recorder.Cut was called, that can be submitted apart, in their order. At the end of the last all writes are made visible to the host and to
// whatever is submitted next.
type Commands struct {
	d       *Device
	made    string
	stats   Stats
	pool    uint64
	parts   []uint64 // command buffers, in their order; the last is being recorded until Finish
	repeat  bool
	fence   uint64
	pools   []uint64 // descriptor pools
	views   []uint64 // texel buffer views
	timed   bool
	queries []uint64 // query pools of queriesPerPool each
	marks   []bool   // one for each timestamp: it ends a dispatch

	mu     sync.Mutex
	last   *Submission // nil before the first
	closed bool
}

const queriesPerPool = 256

// Stats count what Commands do in one submission.
type Stats struct {
	Dispatches int
	Barriers   int // between operations; the one at the end is not counted
	Copies     int
	CopyBytes  int64
}

// Stats returns the counts.
func (c *Commands) Stats() Stats { return c.stats }

// begin makes the Vulkan objects and starts recording.
func (c *Commands) begin() error {
	d := c.d
	var r int32
	if c.fence, r = d.shim.NewFence(); r != 0 {
		return d.check(r, "vkCreateFence", "")
	}
	if c.pool, r = d.shim.NewCommandPool(d.compute.family); r != 0 {
		return d.check(r, "vkCreateCommandPool", "")
	}
	return c.nextPart()
}

// nextPart starts recording one more command buffer.
func (c *Commands) nextPart() error {
	cmd, r := c.d.shim.NewCommandBuffer(c.pool)
	if r != 0 {
		return c.d.check(r, "vkAllocateCommandBuffers", "")
	}
	c.parts = append(c.parts, cmd)
	return c.d.check(c.d.shim.Begin(cmd, c.repeat), "vkBeginCommandBuffer", "")
}

// raw is the command buffer that is being recorded.
func (c *Commands) raw() uint64 { return c.parts[len(c.parts)-1] }

func (c *Commands) cmd() vulkan.CommandBuffer { return as[vulkan.CommandBuffer](c.raw()) }

// endPart ends the command buffer that is being recorded.
func (c *Commands) endPart() error {
	return c.d.check(int32(vulkan.EndCommandBuffer(c.cmd())), "vkEndCommandBuffer", "%d dispatches", c.stats.Dispatches)
}

// Parts is the number of parts.
func (c *Commands) Parts() int { return len(c.parts) }

// timestamp records one more timestamp, taken when everything before it is done.
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

// Submit starts the commands. If their last submission still runs it is waited for first, as Submission.Wait does.
func (c *Commands) Submit(ctx context.Context) (*Submission, error) {
	return c.SubmitParts(ctx, 0, c.Parts())
}

// SubmitParts is Submit of parts first to end - 1 alone.
func (c *Commands) SubmitParts(ctx context.Context, first, end int) (*Submission, error) {
	if first < 0 || end > len(c.parts) || first >= end {
		return nil, fmt.Errorf("vk: parts %d to %d of commands that have %d", first, end, len(c.parts))
	}
	return c.submit(ctx, c.parts[first:end])
}

// SubmitTimes starts the commands n times, one after another, in one submission. They were recorded with Repeat.
func (c *Commands) SubmitTimes(ctx context.Context, n int) (*Submission, error) {
	if n < 1 || !c.repeat {
		return nil, fmt.Errorf("vk: commands submitted %d times at once, recorded with repeat: %t", n, c.repeat)
	}
	return c.submit(ctx, slices.Repeat(c.parts, n))
}

func (c *Commands) submit(ctx context.Context, parts []uint64) (*Submission, error) {
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
	s, err := c.d.start(c.d.compute, parts, 0, c.fence)
	if err != nil {
		return nil, err
	}
	c.last = s
	return s, nil
}

// Run submits the commands and waits.
func (c *Commands) Run(ctx context.Context) error {
	s, err := c.Submit(ctx)
	if err != nil {
		return err
	}
	return s.Wait(ctx)
}

// Timings returns the time of each dispatch in the last submission, for which it waits if need be. Dispatches with no barrier between
// them may overlap; the time of the earlier then ends, and that of the later starts, where the earlier was done.
func (c *Commands) Timings() ([]time.Duration, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.closed:
		return nil, fmt.Errorf("vk: commands: %w", ErrClosed)
	case !c.timed:
		return nil, errors.New("vk: timings: recorded without timestamps")
	case c.last == nil:
		return nil, errors.New("vk: timings: not submitted yet")
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
			flags := vulkan.QueryResultFlags(vulkan.QueryResult64Bit) // without waiting: the commands have ended
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
	// Freeing the command pool frees the buffer that refers to sets and views.
	vulkan.DestroyCommandPool(h, as[vulkan.CommandPool](c.pool), nil)
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
