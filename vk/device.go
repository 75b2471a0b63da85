package vk

import (
	"errors"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rs/zerolog"
	vulkan "github.com/vulkan-go/vulkan"

	"pumice/vk/internal/shim"
)

// DeviceOptions configure PhysicalDevice.Open. The zero value has no pipeline cache and logs nothing.
type DeviceOptions struct {
	CacheDir     string         // folder of the pipeline cache file, made if missing; "" = none. One that other users may write to is not used.
	CacheContent string         // names what the pipelines are made from: a cache of something else is replaced, so that it does not grow for ever
	Logger       zerolog.Logger // what goes wrong without being an error, such as a cache that can't be written
	Staged       bool           // treat device-local memory as not host-visible even where it is: exercises the staging path

	// HangTimeout is how long the device may work on one submission before it counts as hung, which is ErrHung. 0 is two minutes, and
	// ten on a CPU driver: longer than the drivers of GPUs take to reset the device themselves.
	HangTimeout time.Duration
}

// Device is an opened device with one compute queue, and one transfer queue where the hardware has a copy engine.
type Device struct {
	pd       *PhysicalDevice
	shim     *shim.Device
	handle   vulkan.Device
	log      zerolog.Logger
	staged   bool
	families []uint32 // that share the buffers
	compute  queue
	transfer queue // equal to compute where there is no transfer queue
	separate bool  // transfer is another queue: what it writes is handed over with a semaphore
	cache    diskCache

	hang      time.Duration         // HangTimeout
	dead      atomic.Pointer[Error] // what every use of the device gives since it was lost or hung; nil while it works
	leaked    atomic.Bool           // objects were left undestroyed because work may use them: nothing is destroyed any more
	allocated [16]atomic.Int64

	runningMu sync.Mutex
	running   map[*Submission]struct{} // that are not known to have ended

	readMu  sync.Mutex
	staging *Buffer // of Read, made when first needed

	mu       sync.Mutex
	children map[child]struct{}
	closed   atomic.Bool // written under mu
}

// queue is a VkQueue with the lock that Vulkan asks its users for.
type queue struct {
	mu     *sync.Mutex
	handle uint64
	family uint32
}

// child is an object made on a Device and owned by its user. Lower ranks are closed first.
type child interface {
	Close() error
	describe() (rank int, text string)
}

// Ranks of children: an object has a lower rank than those it uses.
const (
	rankUploader = iota
	rankCommands
	rankPipeline
	rankPool
	rankBuffer
)

// Open makes a Device with every feature of pd.Features enabled. The caller closes it.
func (pd *PhysicalDevice) Open(o DeviceOptions) (*Device, error) {
	in := pd.instance
	in.mu.Lock()
	defer in.mu.Unlock()
	if in.closed {
		return nil, fmt.Errorf("vk: open %s: instance: %w", pd.Name, ErrClosed)
	}
	d := &Device{pd: pd, log: o.Logger, staged: o.Staged, children: map[child]struct{}{}, running: map[*Submission]struct{}{}}
	if d.hang = o.HangTimeout; d.hang == 0 {
		d.hang = hangTimeout
		if pd.Type == CPU {
			d.hang = hangTimeoutCPU
		}
	}
	d.families = []uint32{uint32(pd.computeFamily)}
	if pd.transferFamily >= 0 {
		d.families = append(d.families, uint32(pd.transferFamily))
	}
	s, r := in.shim.NewDevice(pd.handle, d.families)
	if r != 0 {
		return nil, check(r, "vkCreateDevice", "%s", pd.Name)
	}
	d.shim = s
	d.handle = vulkan.Device(s.Handle())
	d.compute = d.queue(d.families[0])
	d.transfer = d.compute
	if len(d.families) > 1 {
		d.transfer, d.separate = d.queue(d.families[1]), true
	}
	if err := d.cache.open(d, o.CacheDir, o.CacheContent); err != nil {
		vulkan.DestroyDevice(d.handle, nil)
		s.Free()
		return nil, err
	}
	in.devices[d] = struct{}{}
	return d, nil
}

func (d *Device) queue(family uint32) queue {
	var q vulkan.Queue
	vulkan.GetDeviceQueue(d.handle, family, 0, &q)
	return queue{new(sync.Mutex), rawOf(q), family}
}

// PhysicalDevice is the device that d was opened on.
func (d *Device) PhysicalDevice() *PhysicalDevice { return d.pd }

// HostVisible reports whether device-local memory is host-visible: buffers of use DeviceLocal are then mapped and written directly.
func (d *Device) HostVisible() bool {
	list := d.pd.memory.candidates(^uint32(0), DeviceLocal, d.pd.Heaps)
	return !d.staged && len(list) > 0 && d.pd.memory[list[0]].flags&hostVisible == hostVisible
}

// Close waits for the device, closes everything made on it and not closed yet, saves the pipeline cache and destroys the device. It must not
// run beside other calls on the device or its objects. Built with invariants it reports what its users forgot to close as an error.
// Where work that was submitted does not end, the wait takes a second, or HangTimeout if nobody has waited for the work before; then
// the device and its memory are left to the process, and the error is ErrHung.
func (d *Device) Close() error {
	d.mu.Lock()
	if d.closed.Swap(true) {
		d.mu.Unlock()
		return nil
	}
	left := make([]child, 0, len(d.children))
	for c := range d.children {
		left = append(left, c)
	}
	d.mu.Unlock()

	d.settle()
	slices.SortFunc(left, func(a, b child) int {
		ra, _ := a.describe()
		rb, _ := b.describe()
		return ra - rb
	})
	var errs []error
	for _, c := range left {
		if _, text := c.describe(); invariants {
			errs = append(errs, fmt.Errorf("vk: not closed: %s", text))
		}
		errs = append(errs, c.Close())
	}
	if d.staging != nil {
		errs = append(errs, d.staging.Close())
	}
	if d.leaked.Load() {
		d.pd.instance.leaked.Store(true)
		return errors.Join(append(errs, fmt.Errorf("vk: %s is left to the process, since work on it does not end: %w", d.pd.Name, ErrHung))...)
	}
	d.cache.close(d)
	vulkan.DestroyDevice(d.handle, nil)
	d.shim.Free()
	d.pd.instance.mu.Lock()
	delete(d.pd.instance.devices, d)
	d.pd.instance.mu.Unlock()
	return errors.Join(errs...)
}

// adopt makes c a child of the device, or fails when the device is closed.
func (d *Device) adopt(c child) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed.Load() {
		return fmt.Errorf("vk: device: %w", ErrClosed)
	}
	d.children[c] = struct{}{}
	return nil
}

func (d *Device) disown(c child) {
	d.mu.Lock()
	delete(d.children, c)
	d.mu.Unlock()
}

// usable is nil while the device is open and neither lost nor hung.
func (d *Device) usable(call string) error {
	if dead := d.dead.Load(); dead != nil {
		return &Error{Call: call, Result: dead.Result, Detail: dead.Detail}
	}
	if d.closed.Load() {
		return fmt.Errorf("vk: device: %w", ErrClosed)
	}
	return nil
}

// check turns a result into an error and remembers a lost device.
func (d *Device) check(r int32, call, format string, args ...any) error {
	if Result(r) == ErrorDeviceLost {
		_ = d.fail(&Error{call, ErrorDeviceLost, d.pd.Name})
	}
	return check(r, call, format, args...)
}

// submit submits command buffers in their order. Zero handles are left out.
func (d *Device) submit(q queue, cmds []uint64, wait, signal, fence uint64) error {
	if err := d.usable("vkQueueSubmit"); err != nil {
		return err
	}
	q.mu.Lock()
	r := d.shim.Submit(q.handle, cmds, wait, signal, fence)
	q.mu.Unlock()
	if r == 0 {
		return nil // without an allocation for check's arguments
	}
	return d.check(r, "vkQueueSubmit", "%s", d.pd.Name)
}

// MemoryInfo is the state of the heap that DeviceLocal buffers come from.
type MemoryInfo struct {
	TotalBytes int64
	FreeBytes  int64 // for this process
	Budget     bool  // FreeBytes comes from the driver and counts other processes; else it is the heap less what we allocated

	AllocatedBytes int64 // of all heaps, in buffers of this Device
}

// Memory returns the size and the free part of device-local memory.
func (d *Device) Memory() (MemoryInfo, error) {
	heap := primaryHeap(d.pd.Heaps)
	info := MemoryInfo{TotalBytes: d.pd.Heaps[heap].Bytes}
	for i := range d.allocated {
		info.AllocatedBytes += d.allocated[i].Load()
	}
	if !d.pd.Features.MemoryBudget {
		info.FreeBytes = max(0, info.TotalBytes-d.allocated[heap].Load())
		return info, nil
	}
	if err := d.usable("vkGetPhysicalDeviceMemoryProperties2"); err != nil {
		return MemoryInfo{}, err
	}
	budget, usage := d.pd.instance.shim.MemoryBudget(d.pd.handle)
	info.Budget = true
	info.FreeBytes = min(info.TotalBytes, max(0, clampSize(budget[heap])-clampSize(usage[heap])))
	return info, nil
}

// madeAt names the first caller outside the package, for leak reports. It costs a stack walk and is empty without -tags invariants.
func madeAt() string {
	if !invariants {
		return ""
	}
	var pcs [16]uintptr
	frames := runtime.CallersFrames(pcs[:runtime.Callers(2, pcs[:])])
	for {
		f, more := frames.Next()
		if !strings.HasPrefix(f.Function, "pumice/vk.") || strings.HasSuffix(f.File, "_test.go") {
			return fmt.Sprintf(", made at %s:%d", f.File, f.Line)
		}
		if !more {
			return ""
		}
	}
}
