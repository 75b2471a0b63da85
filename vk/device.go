//go:build cgo

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
	// CacheDir is the folder of the pipeline cache file, made if missing; "" turns the file off. A folder that other
	// users may write to is not used.
	CacheDir string
	// CacheContent identifies the shaders that pipelines are made from. A cache file with another CacheContent is
	// replaced, so that the file does not grow for ever.
	CacheContent string
	Logger       zerolog.Logger // problems that are not errors, such as a cache file that can't be written
	Staged       bool           // treat device-local memory as not host-visible even where it is: exercises the staging path

	// HangTimeout is how long the device may work on one submission before it counts as hung and calls fail with
	// ErrHung. 0 stands for two minutes, or ten on a CPU driver: longer than drivers of GPUs take to reset a device
	// themselves.
	HangTimeout time.Duration
}

// Device is an opened device with one compute queue, and one transfer queue where the hardware has a copy engine.
type Device struct {
	pd       *PhysicalDevice
	shim     *shim.Device
	handle   vulkan.Device
	log      zerolog.Logger
	staged   bool
	families []uint32 // queue families that share the buffers
	compute  queue
	transfer queue // equal to compute where there is no transfer queue
	separate bool  // transfer is another queue than compute: a semaphore hands its writes over
	cache    diskCache

	hang      time.Duration         // HangTimeout
	dead      atomic.Pointer[Error] // the error of every call since the device was lost or hung; nil while it works
	leaked    atomic.Bool           // unfinished work may use an object: nothing is destroyed from then on
	allocated [16]atomic.Int64

	runningMu sync.Mutex
	running   map[*Submission]struct{} // submissions not known to have ended

	finishMu sync.Mutex // one Pipeline.Finish at a time

	readMu  sync.Mutex
	staging *Buffer // for Read, made when first needed

	mu       sync.Mutex
	children map[child]struct{}
	closed   atomic.Bool // written under mu
}

// queue is a VkQueue with the lock that its users must hold.
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
	rankSwapchain
	rankCommands
	rankPipeline
	rankPool
	rankBuffer
)

// Open opens the device with every feature of pd.Features enabled. The caller closes it.
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

// PhysicalDevice returns the physical device that d was opened on.
func (d *Device) PhysicalDevice() *PhysicalDevice { return d.pd }

// HostVisible reports whether device-local memory is host-visible: buffers of use DeviceLocal are then mapped and written directly.
func (d *Device) HostVisible() bool {
	list := d.pd.memory.candidates(^uint32(0), DeviceLocal, d.pd.Heaps)
	return !d.staged && len(list) > 0 && d.pd.memory[list[0]].flags&hostVisible == hostVisible
}

// Close waits for the device, closes everything made on it and not closed yet, saves the pipeline cache and destroys
// the device. No other call on the device or its objects may be in progress. Built with the tag invariants, it returns
// an error that lists the objects that were not closed. If submitted work does not end, Close waits for a second, or
// for HangTimeout if no call has waited for the work before; it then frees neither the device nor its memory until the
// process exits, and the error is ErrHung.
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
		hung := fmt.Errorf("vk: %s is not freed, because work on it does not end: %w", d.pd.Name, ErrHung)
		return errors.Join(append(errs, hung)...)
	}
	d.cache.close(d)
	vulkan.DestroyDevice(d.handle, nil)
	d.shim.Free()
	d.pd.instance.mu.Lock()
	delete(d.pd.instance.devices, d)
	d.pd.instance.mu.Unlock()
	return errors.Join(errs...)
}

// adopt makes c a child of the device. It fails if the device is closed.
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

// usable returns nil while the device is open and neither lost nor hung, else the error of call.
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

// submit submits command buffers in order. A zero handle of wait, signal or fence means none.
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
	FreeBytes  int64 // available to this process
	Budget     bool  // FreeBytes is the driver's, which counts other processes; else the heap less our allocations

	AllocatedBytes int64 // size of this Device's buffers, in all heaps
}

// Memory returns the total and the free size of device-local memory.
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
