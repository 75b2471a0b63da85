package vk

import (
	"errors"
	"fmt"
	"sync"

	"pumice/internal/humanize"
)

// Pool hands out spans of large buffers, so that thousands of tensors need few allocations (drivers allow 4096). Spans live until the
// Pool is closed; there is no freeing of single ones. Reserve keeps blocks from being left half empty.
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

// NewPool makes a Pool whose blocks have blockBytes, or the device's maximum where that is less. No memory is taken yet. The caller closes it.
func (d *Device) NewPool(use MemoryUse, blockBytes int64) *Pool {
	l := d.pd.Limits
	p := &Pool{d: d, use: use, made: madeAt()}
	p.blockBytes = max(1, min(blockBytes, l.MaxBufferSize, l.MaxMemoryAllocationSize))
	p.align = max(16, l.MinStorageBufferOffsetAlignment, l.MinTexelBufferOffsetAlignment)
	if d.adopt(p) != nil {
		p.closed = true // the first Alloc says so
	}
	return p
}

// reserveBytes is the size of the blocks of Reserve; a larger span gets a block of its own.
const reserveBytes = 64 << 20

// Reserve takes the memory of spans of these sizes in blocks that they fill, so that none is left over. Alloc is then
// called for the same sizes and alignment in the same order.
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

// Alloc returns size bytes that may be bound as storage or texel buffer, at a multiple of align, a power of two, at least. A size over
// the pool's block size gets a block of its own.
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
		err = p.grow(size) // a whole block no longer fits, this span may
	}
	if err != nil {
		return Span{}, err
	}
	b := &p.blocks[len(p.blocks)-1]
	b.next = size
	p.used += size
	return Span{b.buffer, 0, size}, nil
}

// UsedBytes is the sum of the sizes handed out.
func (p *Pool) UsedBytes() int64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.used
}

// ReservedBytes is the memory taken from the device.
func (p *Pool) ReservedBytes() int64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	var n int64
	for _, b := range p.blocks {
		n += b.buffer.memBytes
	}
	return n
}

// Close frees the blocks, and with them every span of the pool.
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
