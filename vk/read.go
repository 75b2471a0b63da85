//go:build cgo

package vk

import (
	"context"
	"errors"
	"fmt"
)

// readChunk is the size of Read's staging buffer.
const readChunk = 1 << 20

// Read copies src to dst, which have the same size, after all work submitted so far. It is meant for results and tests:
// commands whose results are read after each submission should copy them into a Readback buffer instead.
func (d *Device) Read(src Span, dst []byte) error {
	if err := src.valid(); err != nil {
		return err
	}
	if int64(len(dst)) != src.Size || src.Buffer.d != d {
		return fmt.Errorf("vk: read of %d bytes into %d, or of another device's buffer", src.Size, len(dst))
	}
	ctx := context.Background()
	if err := d.usable("vkWaitForFences"); err != nil {
		return err
	}
	// Reading uncached memory across a bus is slower than a copy for all but small amounts.
	const smallBytes = 4 << 10
	if p := src.Mapped(); p != nil && (src.Buffer.cached || src.Size <= smallBytes) {
		for _, s := range d.unended() {
			if err := s.Wait(ctx); err != nil {
				return err
			}
		}
		copy(dst, p)
		return nil
	}
	d.readMu.Lock()
	defer d.readMu.Unlock()
	if d.staging == nil {
		b, err := d.newBuffer(readChunk, Readback)
		if err != nil {
			return err
		}
		d.staging = b
	}
	for off := int64(0); off < src.Size; off += readChunk {
		n := min(readChunk, src.Size-off)
		if err := d.copyNow(ctx, d.staging.Whole().Slice(0, n), src.Slice(off, n)); err != nil {
			return err
		}
		copy(dst[off:], d.staging.mapped[:n])
	}
	return nil
}

// copyNow copies on the compute queue and waits.
func (d *Device) copyNow(ctx context.Context, dst, src Span) error {
	r := d.NewRecorder(RecorderOptions{})
	r.Copy(dst, src)
	c, err := r.Finish()
	if err != nil {
		return err
	}
	defer c.Close()
	return c.Run(ctx)
}

// Fill sets a span of a buffer to a word and waits. The length of the span is a multiple of four.
func (d *Device) Fill(ctx context.Context, s Span, word uint32) error {
	rec := d.NewRecorder(RecorderOptions{})
	rec.Fill(s, word)
	c, err := rec.Finish()
	if err != nil {
		return err
	}
	return errors.Join(c.Run(ctx), c.Close())
}
