//go:build cgo

package vk

import (
	"errors"
	"fmt"
	"sync"
	"unsafe"

	vulkan "github.com/vulkan-go/vulkan"

	"pumice/internal/humanize"
)

// MemoryUse says what a buffer is used for, which determines its memory type.
type MemoryUse int

// Uses of memory.
const (
	DeviceLocal MemoryUse = iota // weights, cache, activations; mapped too where device memory is host-visible
	Upload                       // written by the host often, read by the device; mapped, device-local preferred
	Readback                     // written by the device, read by the host; mapped, cached preferred
	staging                      // written by the host once, copied away; mapped, host memory preferred
)

func (u MemoryUse) String() string {
	return [...]string{"device-local", "upload", "readback", "staging"}[u]
}

const (
	deviceLocalBit = uint32(vulkan.MemoryPropertyDeviceLocalBit)
	cachedBit      = uint32(vulkan.MemoryPropertyHostCachedBit)
	// hostVisible memory is also coherent, so nothing is ever flushed or invalidated. Every driver must have such a
	// type.
	hostVisible = uint32(vulkan.MemoryPropertyHostVisibleBit) | uint32(vulkan.MemoryPropertyHostCoherentBit)
	// oddBits mark memory that is special or slow: lazily allocated, protected, AMD's device-coherent and
	// device-uncached, and RDMA.
	oddBits = 0x1f0
)

type memoryType struct {
	flags uint32
	heap  int
}

type memoryTypes []memoryType

// primaryHeap returns the largest device-local heap. A discrete device without resizable BAR also lists a window of 256
// MiB; that is not the primary heap.
func primaryHeap(heaps []Heap) int {
	best := 0
	for i, h := range heaps {
		if h.DeviceLocal && (!heaps[best].DeviceLocal || h.Bytes > heaps[best].Bytes) {
			best = i
		}
	}
	return best
}

// candidates lists the memory types in the mask bits that suit a use, best first; among equals the driver's order is
// kept. DeviceLocal never falls back to host memory: that would be silently slow.
func (m memoryTypes) candidates(bits uint32, use MemoryUse, heaps []Heap) []int {
	primary := primaryHeap(heaps)
	rank := func(t memoryType) int { // -1 if unsuitable
		local, visible, cached := t.flags&deviceLocalBit != 0, t.flags&hostVisible == hostVisible, t.flags&cachedBit != 0
		switch {
		case t.flags&oddBits != 0:
			return -1
		case use == DeviceLocal && !local, use != DeviceLocal && !visible:
			return -1
		case use == DeviceLocal && t.heap == primary && visible:
			return 0
		case use == DeviceLocal && t.heap == primary:
			return 1
		case use == Upload && local, use == Readback && cached, use == staging && !local:
			return 0
		}
		return 2
	}
	var list []int
	for want := range 3 {
		for i, t := range m {
			if bits&(1<<i) != 0 && rank(t) == want {
				list = append(list, i)
			}
		}
	}
	return list
}

// Buffer is a range of device memory with its own allocation.
type Buffer struct {
	d        *Device
	size     int64
	use      MemoryUse
	heap     int
	memBytes int64
	handle   vulkan.Buffer
	memory   vulkan.DeviceMemory
	mapped   []byte // nil if not host-visible
	cached   bool   // the host reads mapped at full speed
	address  uint64 // 0 on a device without device addresses
	made     string

	mu     sync.Mutex
	closed bool
}

const bufferUsage = vulkan.BufferUsageFlags(vulkan.BufferUsageStorageBufferBit) | vulkan.BufferUsageFlags(vulkan.BufferUsageUniformTexelBufferBit) |
	vulkan.BufferUsageFlags(vulkan.BufferUsageTransferSrcBit) | vulkan.BufferUsageFlags(vulkan.BufferUsageTransferDstBit) |
	vulkan.BufferUsageFlags(vulkan.BufferUsageIndirectBufferBit)

// addressUsage is VK_BUFFER_USAGE_SHADER_DEVICE_ADDRESS_BIT.
const addressUsage = 0x20000

// NewBuffer allocates a buffer that can be bound as storage or texel buffer and copied from and to. Its contents are undefined. The caller
// closes it. If memory runs out, the error is ErrOutOfDeviceMemory and names the size.
func (d *Device) NewBuffer(size int64, use MemoryUse) (*Buffer, error) {
	b, err := d.newBuffer(size, use)
	if err != nil {
		return nil, err
	}
	if err := d.adopt(b); err != nil {
		return nil, errors.Join(err, b.Close())
	}
	return b, nil
}

// newBuffer makes a buffer that is not a child of the device: another object of the package closes it.
func (d *Device) newBuffer(size int64, use MemoryUse) (*Buffer, error) {
	if err := d.usable("vkCreateBuffer"); err != nil {
		return nil, err
	}
	if size <= 0 || size > d.pd.Limits.MaxBufferSize {
		return nil, fmt.Errorf("vk: buffer of %s; the device allows 1 B to %s: %w", humanize.Bytes(size),
			humanize.Bytes(d.pd.Limits.MaxBufferSize), ErrLimit)
	}
	b := &Buffer{d: d, size: size, use: use, made: madeAt()}
	usage := uint32(bufferUsage)
	if d.pd.Features.BufferDeviceAddress {
		usage |= addressUsage
	}
	// The size is rounded up to whole vectors of four words, so that a view or a fill may cover the last bytes.
	handle, memBytes, bits, r := d.shim.NewBuffer(uint64(size+15)&^15, usage, d.families)
	if r != 0 {
		return nil, d.check(r, "vkCreateBuffer", "%s", humanize.Bytes(size))
	}
	b.handle = as[vulkan.Buffer](handle)
	b.memBytes = int64(memBytes)
	if limit := d.pd.Limits.MaxMemoryAllocationSize; b.memBytes > limit {
		err := fmt.Errorf("vk: buffer of %s; the device allocates at most %s at once: %w", humanize.Bytes(b.memBytes),
			humanize.Bytes(limit), ErrLimit)
		return nil, errors.Join(err, b.Close())
	}
	if err := b.allocate(bits); err != nil {
		return nil, errors.Join(err, b.Close())
	}
	return b, nil
}

// allocate takes memory of the first suitable type that has room, then binds and maps it.
func (b *Buffer) allocate(bits uint32) error {
	d := b.d
	result := int32(ErrorOutOfDevice)
	for _, i := range d.pd.memory.candidates(bits, b.use, d.pd.Heaps) {
		t := d.pd.memory[i]
		if b.memBytes > d.pd.Heaps[t.heap].Bytes {
			continue // Vulkan forbids asking for more than the heap
		}
		memory, r := d.shim.Allocate(uint64(b.memBytes), uint32(i))
		if r != 0 {
			result = r
			continue
		}
		b.memory, b.heap = as[vulkan.DeviceMemory](memory), t.heap
		d.allocated[t.heap].Add(b.memBytes)
		if r := vulkan.BindBufferMemory(d.handle, b.handle, b.memory, 0); r != vulkan.Success {
			return d.check(int32(r), "vkBindBufferMemory", "%s", humanize.Bytes(b.size))
		}
		b.address = d.shim.Address(rawOf(b.handle))
		if t.flags&hostVisible != hostVisible || b.use == DeviceLocal && d.staged {
			return nil
		}
		var p unsafe.Pointer
		if r := vulkan.MapMemory(d.handle, b.memory, 0, vulkan.DeviceSize(b.memBytes), 0, &p); r != vulkan.Success {
			return d.check(int32(r), "vkMapMemory", "%s", humanize.Bytes(b.size))
		}
		// The mapping is the driver's memory and stays until Close, which ends every Span's use of it.
		b.mapped = unsafe.Slice((*byte)(p), b.size)
		b.cached = t.flags&cachedBit != 0
		return nil
	}
	info, _ := d.Memory()
	return d.check(result, "vkAllocateMemory", "%s of %s memory requested, %s of %s free on %s",
		humanize.Bytes(b.memBytes), b.use, humanize.Bytes(info.FreeBytes), humanize.Bytes(info.TotalBytes), d.pd.Name)
}

// Size returns the size in bytes that was asked for.
func (b *Buffer) Size() int64 { return b.size }

// Mapped returns the buffer's memory, or nil if it is not host-visible. It is valid until Close. Reading memory of use
// DeviceLocal or Upload may be very slow on a discrete device; Device.Read avoids that.
func (b *Buffer) Mapped() []byte { return b.mapped }

// Whole returns a Span of the whole buffer.
func (b *Buffer) Whole() Span { return Span{b, 0, b.size} }

// Close waits for submissions that may use the buffer and frees it.
func (b *Buffer) Close() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		return nil
	}
	b.closed = true
	b.d.disown(b)
	b.mapped = nil
	if !b.d.settle() {
		return nil
	}
	vulkan.DestroyBuffer(b.d.handle, b.handle, nil)
	if b.memory != vulkan.NullDeviceMemory {
		vulkan.FreeMemory(b.d.handle, b.memory, nil) // unmaps too
		b.d.allocated[b.heap].Add(-b.memBytes)
	}
	return nil
}

func (b *Buffer) describe() (int, string) {
	return rankBuffer, fmt.Sprintf("%s buffer of %s%s", b.use, humanize.Bytes(b.size), b.made)
}

// Span is a range of bytes in a Buffer, which it does not own.
type Span struct {
	Buffer       *Buffer
	Offset, Size int64
}

// Slice returns the size bytes of s from off. It panics if they are not inside s, as slicing does.
func (s Span) Slice(off, size int64) Span {
	if off < 0 || size < 0 || off > s.Size || size > s.Size-off {
		panic(fmt.Sprintf("vk: slice [%d, +%d] of a span of %d bytes", off, size, s.Size))
	}
	return Span{s.Buffer, s.Offset + off, size}
}

// Address returns where the device finds the span, 0 on a device without buffer device addresses. It is good while the buffer
// is.
func (s Span) Address() uint64 {
	if s.Buffer == nil || s.Buffer.address == 0 {
		return 0
	}
	return s.Buffer.address + uint64(s.Offset)
}

// Mapped returns the span's memory, or nil if it is not host-visible.
func (s Span) Mapped() []byte {
	if s.Buffer == nil || s.Buffer.mapped == nil {
		return nil
	}
	return s.Buffer.mapped[s.Offset : s.Offset+s.Size : s.Offset+s.Size]
}

// valid returns an error if the span is not inside its buffer.
func (s Span) valid() error {
	switch {
	case s.Buffer == nil:
		return errors.New("vk: span without a buffer")
	case s.Offset < 0 || s.Size <= 0 || s.Offset > s.Buffer.size || s.Size > s.Buffer.size-s.Offset:
		return fmt.Errorf("vk: span [%d, +%d] is not inside its buffer of %d bytes", s.Offset, s.Size, s.Buffer.size)
	}
	s.Buffer.mu.Lock()
	defer s.Buffer.mu.Unlock()
	if s.Buffer.closed {
		return fmt.Errorf("vk: buffer: %w", ErrClosed)
	}
	return nil
}
