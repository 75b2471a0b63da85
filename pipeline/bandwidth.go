package pipeline

import (
	"context"
	"errors"
	"fmt"
	"time"

	"pumice/vk"
)

// copyBytes is the largest size of each of CopyBandwidth's buffers: more than any device's cache.
const copyBytes = 256 << 20

// CopyBandwidth measures how many bytes a second the device moves when it copies device memory
// to device memory, counting each byte read and each written: the practical bound of kernels
// that are limited by memory. It takes twice 256 MiB, or a quarter of what is free; where
// that is nothing, as beside a model that fills the device, it is 0: not measured.
func (m *Manager) CopyBandwidth(ctx context.Context) (_ float64, err error) {
	free, err := m.dev.Memory()
	if err != nil {
		return 0, err
	}
	size := min(copyBytes, free.FreeBytes/4) &^ 0xffff
	if size <= 0 {
		return 0, nil
	}
	var buffers [2]*vk.Buffer
	defer func() {
		for _, b := range buffers {
			if b != nil {
				err = errors.Join(err, b.Close())
			}
		}
	}()
	for i := range buffers {
		if buffers[i], err = m.dev.NewBuffer(size, vk.DeviceLocal); err != nil {
			return 0, fmt.Errorf("pipeline: a buffer of %d bytes to copy: %w", size, err)
		}
	}
	rec := m.dev.NewRecorder(vk.RecorderOptions{})
	for range 4 {
		rec.Copy(buffers[1].Whole(), buffers[0].Whole())
		rec.Copy(buffers[0].Whole(), buffers[1].Whole())
	}
	for _, b := range buffers {
		if err := m.dev.Fill(ctx, b.Whole(), 0); err != nil {
			return 0, err
		}
	}
	commands, err := rec.Finish()
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, commands.Close()) }()
	best := time.Duration(0)
	for range 3 {
		if err := ctx.Err(); err != nil {
			return 0, err
		}
		start := time.Now()
		if err := commands.Run(ctx); err != nil {
			return 0, err
		}
		if took := time.Since(start); best == 0 || took < best {
			best = took
		}
	}
	return float64(2*8*size) / best.Seconds(), nil
}
