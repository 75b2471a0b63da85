//go:build cgo

package vk

import (
	"errors"
	"fmt"
	"sync"

	"pumice/internal/humanize"
)

// Pool hands out spans of large buffers, so that thousands of tensors need few allocations (drivers allow 4096). Spans
// are valid until the Pool is closed; a single span can't be freed. Reserve avoids half-empty blocks.
type Pool struct {
	d          *Device
	use        MemoryUse
	blockBytes int64
	align      int64
	made       string

	mu     sync.Mutex
	blocks []poolBlock
	used   int64
	closed bool
}

type poolBlock struct {
	buffer *Buffer
	next   int64 // first free byte
}

// NewPool makes a Pool with blocks of blockBytes, or of the device's maximum if that is less. It allocates no memory
// yet. The caller closes it.
func (d *Device) NewPool(use MemoryUse, blockBytes int64) *Pool {
	l := d.pd.Limits
	p := &Pool{d: d, use: use, made: madeAt()}
	p.blockBytes = max(1, min(blockBytes, l.MaxBufferSize, l.MaxMemoryAllocationSize))
	p.align = max(16, l.MinStorageBufferOffsetAlignment, l.MinTexelBufferOffsetAlignment)
	if d.adopt(p) != nil {
		p.closed = true // the first Alloc returns the error
	}
	return p
}

// reserveBytes is the largest block of Reserve; a larger span gets a block of its own.
const reserveBytes = 64 << 20

// Reserve allocates blocks that spans of these sizes fill exactly, so that no memory is left over. Then call Alloc for
// the same sizes and alignment in the same order.
func (p *Pool) Reserve(align int64, sizes ...int64) error {
	align = max(align, p.align)
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return fmt.Errorf("vk: pool: %w", ErrClosed)
	}
	most := min(reserveBytes, p.d.pd.Limits.MaxBufferSize, p.d.pd.Limits.MaxMemoryAllocationSize)
	var block int64
	for i, size := range sizes {
		off := (block + align - 1) &^ (align - 1)
		if block > 0 && off+size > most {
			if err := p.grow(block); err != nil {
				return err
			}
			off = 0
		}
		if block = off + size; i == len(sizes)-1 {
			return p.grow(block)
		}
	}
	return nil
}

// grow adds an empty block.
func (p *Pool) grow(size int64) error {
	buffer, err := p.d.newBuffer(size, p.use)
	if err == nil {
		p.blocks = append(p.blocks, poolBlock{buffer, 0})
	}
	return err
}

// Alloc returns a span of size bytes that may be bound as storage or texel buffer. Its offset is a multiple of align,
// which is a power of two or 0. A span larger than the pool's block size gets a block of its own.
func (p *Pool) Alloc(size, align int64) (Span, error) {
	if size <= 0 || align < 0 || align&(align-1) != 0 {
		return Span{}, fmt.Errorf("vk: pool: bad size %d or alignment %d", size, align)
	}
	align = max(align, p.align)
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return Span{}, fmt.Errorf("vk: pool: %w", ErrClosed)
	}
	for i := range p.blocks {
		b := &p.blocks[i]
		if off := (b.next + align - 1) &^ (align - 1); off <= b.buffer.size && size <= b.buffer.size-off {
			b.next = off + size
			p.used += size
			return Span{b.buffer, off, size}, nil
		}
	}
	err := p.grow(max(size, p.blockBytes))
	if err != nil && size < p.blockBytes && errors.Is(err, ErrOutOfDeviceMemory) {
		err = p.grow(size) // a whole block no longer fits, but this span may
	}
	if err != nil {
		return Span{}, err
	}
	b := &p.blocks[len(p.blocks)-1]
	b.next = size
	p.used += size
	return Span{b.buffer, 0, size}, nil
}

// UsedBytes returns the sum of the sizes handed out.
func (p *Pool) UsedBytes() int64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.used
}

// ReservedBytes returns how much memory the pool has allocated on the device.
func (p *Pool) ReservedBytes() int64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	var n int64
	for _, b := range p.blocks {
		n += b.buffer.memBytes
	}
	return n
}

// Close frees the blocks, which ends the use of every span of the pool.
func (p *Pool) Close() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return nil
	}
	p.closed = true
	p.d.disown(p)
	var errs []error
	for _, b := range p.blocks {
		errs = append(errs, b.buffer.Close())
	}
	p.blocks, p.used = nil, 0
	return errors.Join(errs...)
}

func (p *Pool) describe() (int, string) {
	return rankPool, fmt.Sprintf("%s pool with %s in use%s", p.use, humanize.Bytes(p.UsedBytes()), p.made)
}
