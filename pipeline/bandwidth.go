package pipeline

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"pumice/pipeline/kernels"
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
	best, err := bestOf(ctx, commands)
	return float64(2*8*size) / best.Seconds(), err
}

// bestOf is the shortest of three runs.
func bestOf(ctx context.Context, commands *vk.Commands) (best time.Duration, err error) {
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
	return best, nil
}

// What ReadBandwidth reads: more than any device's cache, so often that a submission is a small part of the time.
const (
	readBytes    = 512 << 20
	readBytesCPU = 128 << 20
	readPasses   = 4
	readPart     = 64 << 20 // in a dispatch: every device binds as much
)

// ReadBandwidth measures how many bytes a second the device reads from its memory when it does nothing else (kernels.Digest): the
// practical bound of products of one token. Of a CPU driver it is the rate at which the processor's threads read the machine's
// memory, since there the kernel would wait for instructions. It takes 512 MiB, or 128, or a quarter of what is free; where that is nothing, it is 0:
// not measured.
func (m *Manager) ReadBandwidth(ctx context.Context) (_ float64, err error) {
	free, err := m.dev.Memory()
	if err != nil {
		return 0, err
	}
	if m.machine.CPU() {
		return hostBandwidth(ctx, min(readBytesCPU, free.FreeBytes/4)&^0xffff)
	}
	size := min(readBytes, free.FreeBytes/4) &^ 0xffff
	if size <= 0 {
		return 0, nil
	}
	from, err := m.dev.NewBuffer(size, vk.DeviceLocal)
	if err != nil {
		return 0, fmt.Errorf("pipeline: a buffer of %d bytes to read: %w", size, err)
	}
	defer func() { err = errors.Join(err, from.Close()) }()
	if err := m.dev.Fill(ctx, from.Whole(), 0); err != nil {
		return 0, err
	}
	to, err := m.dev.NewBuffer(4*int64(kernels.Stretch{Units: int(size / 16)}.Words()), vk.DeviceLocal)
	if err != nil {
		return 0, fmt.Errorf("pipeline: a buffer for what is read: %w", err)
	}
	defer func() { err = errors.Join(err, to.Close()) }()
	rec := m.dev.NewRecorder(vk.RecorderOptions{})
	for range readPasses {
		written := int64(0)
		for at := int64(0); at < size; at += readPart {
			part := from.Whole().Slice(at, min(readPart, size-at))
			s := kernels.Stretch{Units: int(part.Size / 16)}
			out := to.Whole().Slice(written, 4*int64(s.Words()))
			written += out.Size
			variant, k := pick(m, &kernels.Digest, s, kernels.RowMajor)
			n := &node{binds: []bind{readSpan(part), writeSpan(out)}}
			setKernel(n, m, &kernels.Digest, variant, k, s)
			if err := n.match(m.variants[variant]); err != nil {
				return 0, err
			}
			p, err := m.kernel(n)
			if err != nil {
				return 0, err
			}
			rec.Dispatch(p, []vk.Bind{{Span: part, Access: vk.Read}, {Span: out, Access: vk.Write}}, n.push, n.grid[0], n.grid[1], n.grid[2])
		}
	}
	commands, err := rec.Finish()
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, commands.Close()) }()
	best, err := bestOf(ctx, commands)
	return float64(readPasses*size) / best.Seconds(), err
}

// hostBandwidth is how many bytes a second the processor's threads read together, of size bytes.
func hostBandwidth(ctx context.Context, size int64) (float64, error) {
	if size <= 0 {
		return 0, nil
	}
	words := make([]uint64, size/8)
	for i := range words {
		words[i] = 1
	}
	part := len(words)/runtime.GOMAXPROCS(0) + 1
	var best time.Duration
	for range 4 {
		if err := ctx.Err(); err != nil {
			return 0, err
		}
		var sum atomic.Uint64
		var wait sync.WaitGroup
		start := time.Now()
		for share := range slices.Chunk(words, part) {
			wait.Go(func() {
				var n uint64
				for i := 0; i+32 <= len(share); i += 32 { // a word of each cache line
					n += share[i] + share[i+8] + share[i+16] + share[i+24]
				}
				sum.Add(n)
			})
		}
		wait.Wait()
		if took := time.Since(start); sum.Load() > 0 && (best == 0 || took < best) {
			best = took
		}
	}
	return float64(size) / best.Seconds(), nil
}
