//go:build cgo

package vk

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"unsafe"

	vulkan "github.com/vulkan-go/vulkan"

	"pumice/internal/humanize"
	"pumice/vk/internal/shim"
)

// TexelFormat is the format in which a texel binding reads its bytes.
type TexelFormat int

// Texel formats, all of which every device must support for uniform texel buffers.
const (
	R32Uint TexelFormat = iota
	RGBA32Uint
	R32Float
	RGBA32Float
)

// format returns the VkFormat and the bytes per texel.
func (f TexelFormat) format() (vkFormat uint32, texelBytes int64) {
	switch f {
	case R32Uint:
		return uint32(vulkan.FormatR32Uint), 4
	case RGBA32Uint:
		return uint32(vulkan.FormatR32g32b32a32Uint), 16
	case R32Float:
		return uint32(vulkan.FormatR32Sfloat), 4
	case RGBA32Float:
		return uint32(vulkan.FormatR32g32b32a32Sfloat), 16
	}
	return 0, 0
}

// Bind says what Dispatch binds to one binding, and how the shader uses it.
type Bind struct {
	Span   Span
	Access Access
	Format TexelFormat // texel bindings only
}

// addressAlign is the alignment of device addresses, which the widest load of a shader needs.
const addressAlign = 16

// RecorderOptions configure NewRecorder.
type RecorderOptions struct {
	Timestamps bool // record timestamps for Commands.Timings, at a small cost per dispatch
	Repeat     bool // allow Commands.SubmitTimes

	// BufferBarriers makes barriers name the buffers that were written, instead of all memory: AMD's own driver then keeps its
	// second-level cache.
	BufferBarriers bool
}

// Recorder records operations into Commands. It puts a barrier before an operation that depends on an earlier one through overlapping
// bytes, and none otherwise; after Split that barrier is a split one. The first error sticks: later calls do nothing and Finish returns it. Call Finish to
// release the recorder.
type Recorder struct {
	d        *Device
	c        *Commands
	hazards  hazards // of operations since the last barrier or Split
	before   hazards // of those before Split
	event    uint64  // that Split has set; 0: no barrier has begun
	buffers  bool    // RecorderOptions.BufferBarriers
	indirect bool    // the operation under way reads how many workgroups it has
	bound    *Pipeline
	pool     descriptorPool
	views    map[viewKey]uint64
	scratch  [shim.MaxBindings]shim.Descriptor
	err      error
}

// descriptorPool counts the sets and descriptors left in the newest pool, so that no allocation fails for lack of them.
type descriptorPool struct {
	handle               uint64
	sets, storage, texel uint32
	size                 uint32 // sets of the next pool
}

type viewKey struct {
	buffer       *Buffer
	offset, size int64
	format       TexelFormat
}

// NewRecorder starts recording for the compute queue.
func (d *Device) NewRecorder(o RecorderOptions) *Recorder {
	r := &Recorder{d: d, c: &Commands{d: d, timed: o.Timestamps, repeat: o.Repeat, made: madeAt()}, views: map[viewKey]uint64{}, buffers: o.BufferBarriers}
	if r.err = d.usable("vkBeginCommandBuffer"); r.err != nil {
		r.c.closed = true
		return r
	}
	if r.err = d.adopt(r.c); r.err != nil {
		r.c.closed = true
		return r
	}
	if o.Timestamps && d.pd.Limits.TimestampValidBits == 0 {
		r.err = fmt.Errorf("vk: timestamps on %s: %w", d.pd.Name, ErrLimit)
		return r
	}
	if o.Timestamps && o.Repeat {
		r.err = errors.New("vk: timestamps and Repeat exclude each other")
		return r
	}
	r.err = r.c.begin()
	if r.err == nil {
		r.timestamp(false)
	}
	return r
}

// Err returns the first error so far.
func (r *Recorder) Err() error { return r.err }

// ok reports whether recording may continue.
func (r *Recorder) ok() bool {
	switch {
	case r.err != nil:
	case r.c == nil:
		r.err = fmt.Errorf("vk: recorder already finished: %w", ErrClosed)
	default:
		r.err = r.d.usable("vkCmdDispatch")
	}
	return r.err == nil
}

func (r *Recorder) fail(format string, args ...any) { r.err = fmt.Errorf("vk: "+format, args...) }

// Dispatch records x*y*z workgroups of p with binds[i] at binding i and push as push constants, whose length must be
// the pipeline's PushBytes. Dispatch appends the addresses of the bindings of kind DeviceAddress to them.
func (r *Recorder) Dispatch(p *Pipeline, binds []Bind, push []byte, x, y, z int) {
	r.dispatch(p, binds, push, [3]int{}, [3]int{x, y, z})
}

// DispatchOver is Dispatch of a kernel that finds the addresses of buffers in memory: uses says which, and how it uses them.
func (r *Recorder) DispatchOver(p *Pipeline, binds, uses []Bind, push []byte, x, y, z int) {
	if r.over(p, binds, uses, push) {
		r.order(stageCompute, uses)
		r.dispatch(p, binds, push, [3]int{}, [3]int{x, y, z})
	}
}

// DispatchIndirect is DispatchOver of as many workgroups as the words x, y and z at groups say when it comes to it. They are
// within the device's limits, or 0. The kernel has device addresses alone. It is no dispatch of Stats, and has no timestamp.
func (r *Recorder) DispatchIndirect(p *Pipeline, binds, uses []Bind, push []byte, groups Span) {
	if !r.over(p, binds, uses, push) {
		return
	}
	if r.err = groups.valid(); r.err == nil && (groups.Size != 12 || groups.Offset%4 != 0 || groups.Buffer.d != r.d) {
		r.fail("pipeline %s: workgroups at [%d, +%d]: not three words, or a buffer of another device", p.name, groups.Offset, groups.Size)
	}
	if r.err != nil {
		return
	}
	r.indirect = true
	r.order(stageCompute, append(slices.Clip(uses), Bind{Span: groups}))
	r.indirect = false
	r.bind(p, 0, binds, push)
	vulkan.CmdDispatchIndirect(r.c.cmd(), groups.Buffer.handle, vulkan.DeviceSize(groups.Offset))
}

// over checks what DispatchOver is given.
func (r *Recorder) over(p *Pipeline, binds, uses []Bind, push []byte) bool {
	if !r.ok() {
		return false
	}
	if r.err = r.checkDispatch(p, binds, push); r.err != nil {
		return false
	}
	for i, b := range uses {
		if err := b.Span.valid(); err != nil {
			r.fail("pipeline %s, use %d: %w", p.name, i, err)
			return false
		}
	}
	return true
}

// DispatchBase is Dispatch of only the n workgroups from base on. Record the parts of one dispatch one after another,
// the part from (0, 0, 0) first; on the device they are not ordered among themselves. The pipeline must have been made
// with DispatchBase.
func (r *Recorder) DispatchBase(p *Pipeline, binds []Bind, push []byte, base, n [3]int) {
	if r.ok() && p != nil && !p.base {
		r.fail("pipeline %s was made without DispatchBase", p.name)
	}
	r.dispatch(p, binds, push, base, n)
}

func (r *Recorder) dispatch(p *Pipeline, binds []Bind, push []byte, base, n [3]int) {
	if !r.ok() {
		return
	}
	if r.err = r.checkDispatch(p, binds, push); r.err != nil {
		return
	}
	if r.err = r.checkGroups(p, base, n); r.err != nil {
		return
	}
	r.put(p, binds, push, base, n)
}

// empty records no workgroups of p, and no order: nothing is read or written.
func (r *Recorder) empty(p *Pipeline, binds []Bind) {
	if !r.ok() {
		return
	}
	push := make([]byte, p.pushBytes)
	if r.err = r.checkDispatch(p, binds, push); r.err == nil {
		r.put(p, binds, push, [3]int{}, [3]int{})
	}
}

// put records a dispatch that was checked.
func (r *Recorder) put(p *Pipeline, binds []Bind, push []byte, base, n [3]int) {
	descriptors := len(binds) - p.addresses
	for i, b := range binds[:descriptors] {
		r.scratch[i] = shim.Descriptor{Buffer: rawOf(b.Span.Buffer.handle), Offset: uint64(b.Span.Offset), Range: uint64(b.Span.Size)}
		if p.bindings[i] == UniformTexelBuffer {
			if r.scratch[i], r.err = r.texelView(b); r.err != nil {
				r.fail("pipeline %s, binding %d: %w", p.name, i, r.err)
				return
			}
		}
	}
	set, err := r.newSet(p, r.scratch[:descriptors])
	if err != nil {
		r.err = err
		return
	}
	if base == [3]int{} {
		r.order(stageCompute, binds) // later parts belong to the same dispatch
	}
	r.bind(p, set, binds[descriptors:], push)
	if base == [3]int{} {
		vulkan.CmdDispatch(r.c.cmd(), uint32(n[0]), uint32(n[1]), uint32(n[2]))
	} else {
		r.d.shim.DispatchBase(r.c.raw(), words(base), words(n))
	}
	r.c.stats.Dispatches++
	r.timestamp(true)
}

// bind makes a pipeline, its descriptors and its push constants the current ones.
func (r *Recorder) bind(p *Pipeline, set uint64, addresses []Bind, push []byte) {
	cmd, raw := r.c.cmd(), r.c.raw()
	if r.bound != p {
		vulkan.CmdBindPipeline(cmd, vulkan.PipelineBindPointCompute, p.handle)
		r.bound = p
	}
	if len(addresses) < len(p.bindings) {
		r.d.shim.BindSet(raw, rawOf(p.layout), set)
	}
	if p.addresses > 0 {
		all := make([]byte, p.allPushBytes())
		copy(all, push)
		for i, b := range addresses {
			binary.LittleEndian.PutUint64(all[len(all)-8*(p.addresses-i):], b.Span.Buffer.address+uint64(b.Span.Offset))
		}
		push = all
	}
	if len(push) > 0 {
		vulkan.CmdPushConstants(cmd, p.layout, vulkan.ShaderStageFlags(vulkan.ShaderStageComputeBit), 0, uint32(len(push)), unsafe.Pointer(&push[0]))
	}
}

func words(v [3]int) [3]uint32 { return [3]uint32{uint32(v[0]), uint32(v[1]), uint32(v[2])} }

func (r *Recorder) checkGroups(p *Pipeline, base, groups [3]int) error {
	l := &r.d.pd.Limits
	for i, n := range groups {
		if n < 1 || base[i] < 0 || base[i]+n > l.MaxComputeWorkGroupCount[i] {
			return fmt.Errorf("vk: pipeline %s: %v workgroups from %v; the device allows %v: %w", p.name, groups, base,
				l.MaxComputeWorkGroupCount, ErrLimit)
		}
	}
	return nil
}

func (r *Recorder) checkDispatch(p *Pipeline, binds []Bind, push []byte) error {
	switch {
	case p == nil || p.d != r.d:
		return fmt.Errorf("vk: dispatch without a pipeline of this device")
	case p.isClosed():
		return fmt.Errorf("vk: pipeline %s: %w", p.name, ErrClosed)
	case len(binds) != len(p.bindings):
		return fmt.Errorf("vk: pipeline %s: %d bindings given, want %d", p.name, len(binds), len(p.bindings))
	case len(push) != p.pushBytes:
		return fmt.Errorf("vk: pipeline %s: %d bytes of push constants given, want %d", p.name, len(push), p.pushBytes)
	}
	l := &r.d.pd.Limits
	for i, b := range binds {
		if err := b.Span.valid(); err != nil {
			return fmt.Errorf("vk: pipeline %s, binding %d: %w", p.name, i, err)
		}
		if b.Span.Buffer.d != r.d {
			return fmt.Errorf("vk: pipeline %s, binding %d: buffer of another device", p.name, i)
		}
		switch p.bindings[i] {
		case UniformTexelBuffer:
			continue // texelView checks
		case DeviceAddress:
			if b.Span.Offset%addressAlign != 0 || b.Access != Read {
				return fmt.Errorf("vk: pipeline %s, binding %d: span [%d, +%d] with access %d; "+
					"a device address is read only and a multiple of %d: %w",
					p.name, i, b.Span.Offset, b.Span.Size, b.Access, addressAlign, ErrLimit)
			}
			continue
		}
		if b.Span.Size > l.MaxStorageBufferRange || b.Span.Offset%l.MinStorageBufferOffsetAlignment != 0 {
			return fmt.Errorf("vk: pipeline %s, binding %d: span [%d, +%d]; the device binds %d bytes at most, at multiples of %d: %w", p.name, i,
				b.Span.Offset, b.Span.Size, l.MaxStorageBufferRange, l.MinStorageBufferOffsetAlignment, ErrLimit)
		}
	}
	return nil
}

// texelView returns the descriptor of a texel binding. The dispatches of one Commands share their views, which the
// Commands own.
func (r *Recorder) texelView(b Bind) (shim.Descriptor, error) {
	key := viewKey{b.Span.Buffer, b.Span.Offset, b.Span.Size, b.Format}
	if view, ok := r.views[key]; ok {
		return shim.Descriptor{View: view}, nil
	}
	l := &r.d.pd.Limits
	format, texel := b.Format.format()
	switch {
	case texel == 0:
		return shim.Descriptor{}, fmt.Errorf("texel format %d", int(b.Format))
	case b.Access != Read:
		return shim.Descriptor{}, fmt.Errorf("a uniform texel buffer is read only")
	case b.Span.Size%texel != 0 || b.Span.Size/texel > l.MaxTexelBufferElements || b.Span.Offset%l.MinTexelBufferOffsetAlignment != 0:
		return shim.Descriptor{}, fmt.Errorf("texel span [%d, +%d] of %d-byte texels; the device binds %d texels at most, at multiples of %d: %w",
			b.Span.Offset, b.Span.Size, texel, l.MaxTexelBufferElements, l.MinTexelBufferOffsetAlignment, ErrLimit)
	}
	view, res := r.d.shim.NewView(rawOf(b.Span.Buffer.handle), format, uint64(b.Span.Offset), uint64(b.Span.Size))
	if res != 0 {
		return shim.Descriptor{}, r.d.check(res, "vkCreateBufferView", "%s", humanize.Bytes(b.Span.Size))
	}
	r.views[key] = view
	r.c.views = append(r.c.views, view)
	return shim.Descriptor{View: view}, nil
}

// newSet allocates and writes a descriptor set, from a new and larger pool when the newest is full.
func (r *Recorder) newSet(p *Pipeline, descriptors []shim.Descriptor) (uint64, error) {
	if len(descriptors) == 0 {
		return 0, nil
	}
	const descriptorsPerSet = 8 // of each kind; an estimate of the mean
	if r.pool.sets == 0 || r.pool.storage < p.storage || r.pool.texel < p.texel {
		n := max(32, r.pool.size)
		r.pool = descriptorPool{sets: n, storage: n * descriptorsPerSet, texel: n * descriptorsPerSet, size: min(2*n, 1024)}
		handle, res := r.d.shim.NewDescriptorPool(r.pool.sets, r.pool.storage, r.pool.texel)
		if res != 0 {
			return 0, r.d.check(res, "vkCreateDescriptorPool", "%d sets", n)
		}
		r.pool.handle = handle
		r.c.pools = append(r.c.pools, handle)
	}
	r.pool.sets--
	r.pool.storage -= p.storage
	r.pool.texel -= p.texel
	set, res := r.d.shim.NewSet(r.pool.handle, p.setLayout, descriptors)
	return set, r.d.check(res, "vkAllocateDescriptorSets", "%s", p.name)
}

// order records a barrier if an operation with these bindings depends on an earlier one, then adds their accesses to
// the hazards. The barrier makes all earlier writes visible to all later operations, or one that Split began those before
// Split, so that their hazards are forgotten.
func (r *Recorder) order(stage uint32, binds []Bind) {
	conflict := func(h *hazards) bool {
		return slices.ContainsFunc(binds, func(b Bind) bool { return h.conflicts(b.Span, b.Access) })
	}
	between := conflict(&r.hazards)
	if between || conflict(&r.before) {
		r.endSplit()
	}
	if between {
		r.barrier(&r.hazards, 0)
	}
	for _, b := range binds {
		r.hazards.add(b.Span, b.Access, stage)
	}
}

// Split begins a barrier. Later operations that depend on operations before it wait for these, by an event, and not for operations
// recorded in between, on which they don't depend. Where nothing has waited, the barrier ends with the segment or at the next Split.
func (r *Recorder) Split() {
	if !r.ok() {
		return
	}
	r.endSplit()
	if r.hazards.stages == 0 {
		return // nothing came before
	}
	event, res := r.d.shim.NewEvent()
	if res != 0 {
		r.err = r.d.check(res, "vkCreateEvent", "")
		return
	}
	r.c.events = append(r.c.events, event)
	r.event = event
	r.before, r.hazards = r.hazards, r.before // which is empty
	vulkan.CmdSetEvent(r.c.cmd(), as[vulkan.Event](event), vulkan.PipelineStageFlags(r.before.stages))
}

// endSplit ends a barrier that Split has begun, and makes its event ready for when the commands are submitted again.
func (r *Recorder) endSplit() {
	if r.event == 0 {
		return
	}
	r.barrier(&r.before, r.event)
	vulkan.CmdResetEvent(r.c.cmd(), as[vulkan.Event](r.event), vulkan.PipelineStageFlags(stageCompute|stageTransfer))
	r.event = 0
	r.c.stats.Splits++
}

// barrier makes all later operations wait for those of the hazards, which end with event unless that is 0, and forgets these.
func (r *Recorder) barrier(h *hazards, event uint64) {
	r.c.stats.Barriers++
	defer h.clear()
	later, reads := stageCompute|stageTransfer, deviceAccess
	if r.indirect {
		later |= uint32(vulkan.PipelineStageDrawIndirectBit)
		reads |= uint32(vulkan.AccessIndirectCommandReadBit)
	}
	if r.buffers {
		if written := h.written(); len(written) <= shim.MaxBindings {
			r.d.shim.BufferBarrier(r.c.raw(), event, h.stages, later, h.writes, reads, written)
			return
		}
	}
	r.d.shim.Barrier(r.c.raw(), event, h.stages, later, h.writes, reads)
}

// Copy records a copy of src to dst, which have the same size and do not overlap.
func (r *Recorder) Copy(dst, src Span) {
	if !r.ok() {
		return
	}
	for _, s := range []Span{dst, src} {
		if r.err = s.valid(); r.err != nil {
			return
		}
	}
	overlap := dst.Buffer == src.Buffer && dst.Offset < src.Offset+src.Size && src.Offset < dst.Offset+dst.Size
	if dst.Size != src.Size || overlap || dst.Buffer.d != r.d || src.Buffer.d != r.d {
		r.fail("copy of [%d, +%d] to [%d, +%d]: sizes differ, spans overlap or a buffer is another device's",
			src.Offset, src.Size, dst.Offset, dst.Size)
		return
	}
	r.order(stageTransfer, []Bind{{Span: dst, Access: Write}, {Span: src, Access: Read}})
	r.d.shim.Copy(r.c.raw(), rawOf(src.Buffer.handle), uint64(src.Offset), rawOf(dst.Buffer.handle), uint64(dst.Offset), uint64(src.Size))
	r.c.stats.Copies++
	r.c.stats.CopyBytes += src.Size
	r.timestamp(false)
}

// Fill records filling dst with a 32-bit value. Offset and size are multiples of 4.
func (r *Recorder) Fill(dst Span, value uint32) {
	if !r.ok() {
		return
	}
	if r.err = dst.valid(); r.err != nil {
		return
	}
	if dst.Offset%4 != 0 || dst.Size%4 != 0 || dst.Buffer.d != r.d {
		r.fail("fill of [%d, +%d]: not whole words, or a buffer of another device", dst.Offset, dst.Size)
		return
	}
	r.order(stageTransfer, []Bind{{Span: dst, Access: Write}})
	vulkan.CmdFillBuffer(r.c.cmd(), dst.Buffer.handle, vulkan.DeviceSize(dst.Offset), vulkan.DeviceSize(dst.Size), value)
	r.timestamp(false)
}

// Cut ends a segment of the commands and starts the next one. Later operations still wait for those in earlier segments
// that they depend on.
func (r *Recorder) Cut() {
	if !r.ok() {
		return
	}
	r.endSplit()
	if r.err = r.c.endSegment(); r.err != nil {
		return
	}
	r.bound = nil
	if r.err = r.c.nextSegment(); r.err == nil {
		r.timestamp(false) // time between submissions is not attributed to a dispatch
	}
}

// timestamp marks the end of an operation.
func (r *Recorder) timestamp(dispatch bool) {
	if !r.c.timed || r.err != nil {
		return
	}
	r.err = r.c.timestamp(dispatch)
}

// Finish ends the recording and returns the Commands, which the caller closes. On error it releases everything
// recorded.
func (r *Recorder) Finish() (*Commands, error) {
	c := r.c
	if c == nil {
		return nil, fmt.Errorf("vk: recorder already finished: %w", ErrClosed)
	}
	ok := r.ok()
	if ok {
		r.endSplit()
	}
	r.c = nil
	if ok {
		// Later submissions and the host may depend on anything recorded here.
		used := stageCompute | stageTransfer
		if len(c.events) > 0 {
			used |= uint32(vulkan.PipelineStageAllCommandsBit) // among which is making events ready, which has no stage of its own
		}
		r.d.shim.Barrier(c.raw(), 0, used, used|stageHost, writeAccess, deviceAccess|uint32(vulkan.AccessHostReadBit))
		r.err = c.endSegment()
	}
	if r.err != nil {
		_ = c.Close()
		return nil, r.err
	}
	return c, nil
}
