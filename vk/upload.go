//go:build cgo

package vk

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"

	vulkan "github.com/vulkan-go/vulkan"

	"pumice/internal/humanize"
)

// Uploader writes host data into spans: directly if their memory is host-visible, else through a ring of staging
// buffers. While one is copied on the transfer queue (on the compute queue if the device has no other), the next is
// filled.
type Uploader struct {
	d          *Device
	ctx        context.Context // ends the waits
	chunkBytes int64
	made       string
	ring       chan *uploadChunk // chunks that no Write is filling; the device may still be copying them
	chunks     []*uploadChunk
	dirty      atomic.Bool // a copy was made on the transfer queue since the last handOver

	flushMu  sync.Mutex
	handover uint64 // semaphore from the transfer to the compute queue; 0 until first needed
	fence    uint64
	last     *Submission // of handOver
	closed   bool
}

type uploadChunk struct {
	buffer *Buffer // nil until needed
	pool   uint64
	cmd    vulkan.CommandBuffer
	fence  uint64
	last   *Submission // its copy; nil before the first
}

// NewUploader makes an Uploader with a ring of chunks staging buffers of chunkBytes each, allocated when first needed.
// Its waits end with ctx as Submission.Wait does. The caller closes it.
func (d *Device) NewUploader(ctx context.Context, chunkBytes int64, chunks int) (*Uploader, error) {
	if chunkBytes <= 0 || chunks <= 0 || chunkBytes > d.pd.Limits.MaxBufferSize {
		return nil, fmt.Errorf("vk: uploader with %d chunks of %s: %w", chunks, humanize.Bytes(chunkBytes), ErrLimit)
	}
	u := &Uploader{d: d, ctx: ctx, chunkBytes: chunkBytes, made: madeAt(), ring: make(chan *uploadChunk, chunks)}
	for range chunks {
		c := &uploadChunk{}
		u.chunks = append(u.chunks, c)
		u.ring <- c
	}
	if err := d.adopt(u); err != nil {
		return nil, err
	}
	return u, nil
}

// ChunkBytes returns the size of the largest write to memory that is not host-visible.
func (u *Uploader) ChunkBytes() int64 { return u.chunkBytes }

// Write calls fill once with exactly dst.Size bytes for it to set, and puts them into dst. The device may use them
// after Flush. fill must not read the bytes: their initial content is undefined, and reading them may be slow. Write is
// safe to call from several goroutines.
func (u *Uploader) Write(dst Span, fill func(p []byte) error) error {
	if err := dst.valid(); err != nil {
		return err
	}
	if p := dst.Mapped(); p != nil {
		return fill(p)
	}
	if dst.Size > u.chunkBytes || dst.Buffer.d != u.d {
		return fmt.Errorf("vk: upload of %s through chunks of %s, or to another device's buffer: %w",
			humanize.Bytes(dst.Size), humanize.Bytes(u.chunkBytes), ErrLimit)
	}
	c, ok := <-u.ring
	if !ok {
		return fmt.Errorf("vk: uploader: %w", ErrClosed)
	}
	defer func() { u.ring <- c }()
	if err := u.ready(c); err != nil {
		return err
	}
	if err := fill(c.buffer.mapped[:dst.Size]); err != nil {
		return err
	}
	return u.copy(c, dst)
}

// ready waits for the chunk's last copy, or makes its objects on first use.
func (u *Uploader) ready(c *uploadChunk) error {
	d := u.d
	if c.last != nil {
		return c.last.Wait(u.ctx)
	}
	if c.cmd != nil {
		return nil
	}
	var r int32
	if c.buffer == nil {
		b, err := d.newBuffer(u.chunkBytes, staging)
		if err != nil {
			return err
		}
		c.buffer = b
	}
	if c.fence == 0 {
		if c.fence, r = d.shim.NewFence(); r != 0 {
			return d.check(r, "vkCreateFence", "")
		}
	}
	if c.pool == 0 {
		if c.pool, r = d.shim.NewCommandPool(d.transfer.family); r != 0 {
			return d.check(r, "vkCreateCommandPool", "")
		}
	}
	cmd, r := d.shim.NewCommandBuffer(c.pool)
	c.cmd = as[vulkan.CommandBuffer](cmd)
	return d.check(r, "vkAllocateCommandBuffers", "")
}

// copy submits the copy of a filled chunk.
func (u *Uploader) copy(c *uploadChunk, dst Span) error {
	d, cmd := u.d, rawOf(c.cmd)
	if err := d.check(d.shim.Begin(cmd, false), "vkBeginCommandBuffer", ""); err != nil {
		return err
	}
	d.shim.Copy(cmd, rawOf(c.buffer.handle), 0, rawOf(dst.Buffer.handle), uint64(dst.Offset), uint64(dst.Size))
	stages, access := stageTransfer, uint32(vulkan.AccessTransferReadBit)|uint32(vulkan.AccessTransferWriteBit)
	if !d.separate {
		stages, access = stages|stageCompute, deviceAccess // the next submission may compute with the data
	}
	d.shim.Barrier(cmd, 0, stageTransfer, stages, uint32(vulkan.AccessTransferWriteBit), access)
	if err := d.check(int32(vulkan.EndCommandBuffer(c.cmd)), "vkEndCommandBuffer", "upload of %s", humanize.Bytes(dst.Size)); err != nil {
		return err
	}
	s, err := d.start(c.last, d.transfer, []uint64{cmd}, 0, 0, c.fence)
	if err != nil {
		return err
	}
	c.last = s
	u.dirty.Store(d.separate)
	return nil
}

// Flush waits for all writes so far and makes them visible to the compute queue. It may be called while a Write is in
// progress.
func (u *Uploader) Flush() error {
	u.flushMu.Lock()
	defer u.flushMu.Unlock()
	if u.closed {
		return fmt.Errorf("vk: uploader: %w", ErrClosed)
	}
	var errs []error
	held := make([]*uploadChunk, 0, len(u.chunks))
	for range u.chunks { // takes each chunk as soon as no Write fills it
		c := <-u.ring
		held = append(held, c)
		if c.last != nil {
			errs = append(errs, c.last.Wait(u.ctx))
		}
	}
	for _, c := range held {
		u.ring <- c
	}
	if err := errors.Join(errs...); err != nil || !u.dirty.Swap(false) {
		return err
	}
	return u.handOver()
}

// handOver makes writes of the transfer queue visible to the compute queue. A fence alone does not: it only orders
// device and host.
func (u *Uploader) handOver() error {
	d := u.d
	var r int32
	if u.handover == 0 {
		if u.handover, r = d.shim.NewSemaphore(); r != 0 {
			return d.check(r, "vkCreateSemaphore", "")
		}
	}
	if u.fence == 0 {
		if u.fence, r = d.shim.NewFence(); r != 0 {
			return d.check(r, "vkCreateFence", "")
		}
	}
	if u.last != nil {
		if err := u.last.Wait(u.ctx); err != nil {
			return err
		}
	}
	if err := d.submit(d.transfer, nil, 0, u.handover, 0); err != nil {
		return err
	}
	s, err := d.start(u.last, d.compute, nil, u.handover, 0, u.fence)
	if err != nil {
		return err
	}
	u.last = s
	return s.Wait(u.ctx)
}

// Close waits for the writes and frees the ring. No Write may be in progress.
func (u *Uploader) Close() error {
	u.flushMu.Lock()
	defer u.flushMu.Unlock()
	if u.closed {
		return nil
	}
	u.closed = true
	d := u.d
	d.disown(u)
	for range u.chunks {
		<-u.ring
	}
	close(u.ring)
	if !d.settle() {
		return nil
	}
	var errs []error
	for _, c := range u.chunks {
		vulkan.DestroyCommandPool(d.handle, as[vulkan.CommandPool](c.pool), nil)
		d.destroyFence(c.fence)
		if c.buffer != nil {
			errs = append(errs, c.buffer.Close())
		}
	}
	vulkan.DestroySemaphore(d.handle, as[vulkan.Semaphore](u.handover), nil)
	d.destroyFence(u.fence)
	return errors.Join(errs...)
}

func (u *Uploader) describe() (int, string) {
	return rankUploader, fmt.Sprintf("uploader with %d chunks of %s%s", len(u.chunks), humanize.Bytes(u.chunkBytes), u.made)
}
