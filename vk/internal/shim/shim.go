// Package shim makes the Vulkan calls that carry structures: creation of everything, descriptor writes, barriers, copies, submission
// and property queries. The structures are built in C (vulkan_types.h) and live for one call; values go in, handles come out, and no
// Go pointer is kept. It opens the loader itself and needs no Vulkan header or library to build.
//
// Handles are uint64 and results are raw VkResult values; package vk converts both to typed values. Calls that carry
// only scalars are made through vulkan-go, on the same handles. The struct-passing calls of vulkan-go free their C
// copies while the driver may still read them, which is why this package exists.
package shim

/*
#cgo CFLAGS: -std=c11 -O2 -Wall
#cgo linux LDFLAGS: -ldl
#include "shim.h"
*/
import "C"

import (
	"time"
	"unsafe"
)

// Handles are passed between this package and vulkan-go as 64-bit values, so the package does not build for 32-bit targets.
var _ [unsafe.Sizeof(uintptr(0)) - 8]byte

// Capacities of the shim's stack arrays.
const (
	MaxBindings = C.VS_MAX_BINDINGS
	MaxSpec     = C.VS_MAX_SPEC
)

// Load opens the Vulkan loader once and returns vkGetInstanceProcAddr, or nil when the machine has none. It is not safe for concurrent use.
func Load() unsafe.Pointer { return C.vs_load() }

// Instance is a VkInstance with its function table.
type Instance struct{ p *C.vs_instance }

// NewInstance creates a Vulkan instance of version 1.3. With validation the Khronos layer is on, with synchronization validation, and its
// messages go to the function registered under messageID. With surfaces it has the extensions that windows need.
func NewInstance(validation, surfaces bool, messageID uintptr) (*Instance, int32) {
	in := &Instance{}
	if r := C.vs_instance_create(truth(validation), truth(surfaces), C.uintptr_t(messageID), &in.p); r != 0 {
		return nil, int32(r)
	}
	return in, 0
}

// truth is a C boolean.
func truth(b bool) C.int {
	if b {
		return 1
	}
	return 0
}

// Destroy destroys the instance and its messenger.
func (in *Instance) Destroy() { C.vs_instance_destroy(in.p) }

// Handle is the VkInstance.
func (in *Instance) Handle() unsafe.Pointer { return C.vs_instance_handle(in.p) }

// Devices returns the VkPhysicalDevice handles, 64 at most.
func (in *Instance) Devices() ([]uint64, int32) {
	list := make([]uint64, 64)
	n := C.uint32_t(len(list))
	if r := C.vs_instance_devices(in.p, &n, (*C.uint64_t)(&list[0])); r != 0 {
		return nil, int32(r)
	}
	return list[:n], 0
}

// Matrix is one cooperative matrix shape with raw VkComponentTypeKHR and VkScopeKHR values. Invocations are those of a
// workgroup whose matrices are flexible, else 0.
type Matrix struct{ M, N, K, AType, BType, CType, ResultType, Saturating, Scope, Invocations uint32 }

// PhysicalInfo mirrors vs_physical_info; see there.
type PhysicalInfo struct {
	Name, DriverName, DriverInfo                              [256]byte
	DeviceUUID, DriverUUID, CacheUUID                         [16]byte
	APIVersion, DriverVersion, VendorID, DeviceID, DeviceType uint32
	MaxStorageRange, MaxTexelElements, MaxPushBytes           uint32
	MaxSharedBytes, MaxInvocations                            uint32
	MaxGroupSize, MaxGroupCount                               [3]uint32
	SubgroupSize, MinSubgroupSize, MaxSubgroupSize            uint32
	RequiredSubgroupSizeStages                                uint32
	SubgroupStages, SubgroupOperations, ComputeUnits          uint32
	TimestampPeriod                                           float32
	MaxAllocation, MaxBuffer                                  uint64
	MinStorageAlign, MinTexelAlign, AtomSize                  uint64
	Float16, Int8, Int16, Int64                               uint32
	Storage8, Storage16                                       uint32
	IntDot, IntDotAccelerated, IntDotMixedAccelerated         uint32
	FloatDot                                                  uint32
	SubgroupSizeControl, FullSubgroups, SubgroupExtendedTypes uint32
	Timeline, Sync2, DeviceAddress, MemoryModel               uint32
	Maintenance4, MemoryBudget, ExecutableProps, HostImport   uint32
	CoopMatrix, CoopWorkgroup, CoopFlexible                   uint32
	CoopPerElement, CoopTensors, CoopBlockLoads               uint32
	NumHeaps, NumTypes, NumFamilies, NumMatrices, NumFlexible uint32
	HeapSize                                                  [16]uint64
	HeapFlags                                                 [16]uint32
	TypeFlags, TypeHeap                                       [32]uint32
	FamilyFlags, FamilyCount, FamilyTimestampBits             [16]uint32
	Matrices, Flexible                                        [128]Matrix
}

// The Go mirrors and the C structures agree in size and in the offset of HeapSize, a late field; a difference does not
// compile.
var (
	_ [unsafe.Sizeof(PhysicalInfo{}) - C.sizeof_vs_physical_info]byte
	_ [C.sizeof_vs_physical_info - unsafe.Sizeof(PhysicalInfo{})]byte
	_ [unsafe.Offsetof(PhysicalInfo{}.HeapSize) - unsafe.Offsetof(C.vs_physical_info{}.heap_size)]byte
	_ [unsafe.Offsetof(C.vs_physical_info{}.heap_size) - unsafe.Offsetof(PhysicalInfo{}.HeapSize)]byte
	_ [unsafe.Sizeof(Descriptor{}) - C.sizeof_vs_descriptor]byte
	_ [C.sizeof_vs_descriptor - unsafe.Sizeof(Descriptor{})]byte
	_ [unsafe.Sizeof(PipelineConfig{}) - C.sizeof_vs_pipeline_config]byte
	_ [C.sizeof_vs_pipeline_config - unsafe.Sizeof(PipelineConfig{})]byte
	_ [unsafe.Sizeof(Statistic{}) - C.sizeof_vs_statistic]byte
	_ [C.sizeof_vs_statistic - unsafe.Sizeof(Statistic{})]byte
	_ [unsafe.Sizeof(Text{}) - C.sizeof_vs_text]byte
	_ [C.sizeof_vs_text - unsafe.Sizeof(Text{})]byte
	_ [unsafe.Sizeof(SurfaceInfo{}) - C.sizeof_vs_surface_info]byte
	_ [C.sizeof_vs_surface_info - unsafe.Sizeof(SurfaceInfo{})]byte
	_ [unsafe.Sizeof(SwapchainConfig{}) - C.sizeof_vs_swapchain_config]byte
	_ [C.sizeof_vs_swapchain_config - unsafe.Sizeof(SwapchainConfig{})]byte
)

// Query returns the properties and features of a physical device. For a device older than Vulkan 1.1 only name, version
// and ids are set.
func (in *Instance) Query(physical uint64) *PhysicalInfo {
	info := &PhysicalInfo{}
	C.vs_physical_query(in.p, C.uint64_t(physical), (*C.vs_physical_info)(unsafe.Pointer(info)))
	return info
}

// MemoryBudget returns VK_EXT_memory_budget's numbers for each heap. The device must have the extension.
func (in *Instance) MemoryBudget(physical uint64) (budget, usage [16]uint64) {
	C.vs_memory_budget(in.p, C.uint64_t(physical), (*C.uint64_t)(&budget[0]), (*C.uint64_t)(&usage[0]))
	return budget, usage
}

// Device is a VkDevice with its function table.
type Device struct{ p *C.vs_device }

// NewDevice creates a device with one queue of each of the one or two families. Every feature of PhysicalInfo that it
// has is enabled.
func (in *Instance) NewDevice(physical uint64, families []uint32) (*Device, int32) {
	d := &Device{}
	r := C.vs_device_create(in.p, C.uint64_t(physical), C.uint32_t(len(families)), (*C.uint32_t)(&families[0]), &d.p)
	if r != 0 {
		return nil, int32(r)
	}
	return d, 0
}

// Free frees the function table. Destroy the VkDevice first, with vkDestroyDevice.
func (d *Device) Free() { C.vs_device_free(d.p) }

// Handle is the VkDevice.
func (d *Device) Handle() unsafe.Pointer { return C.vs_device_handle(d.p) }

// FailNextSubmit makes the next Submit return result without submitting. A device loss can't be provoked on a CPU driver; tests inject it.
func (d *Device) FailNextSubmit(result int32) { C.vs_device_fail_next(d.p, C.int32_t(result)) }

// NewBuffer creates a VkBuffer, shared concurrently when there are two families, and returns the size of the memory that it needs and
// the bit set of memory types it can be bound to.
func (d *Device) NewBuffer(size uint64, usage uint32, families []uint32) (buffer, memSize uint64, memTypes uint32, r int32) {
	var cb, cs C.uint64_t
	var ct C.uint32_t
	res := C.vs_buffer_create(d.p, C.uint64_t(size), C.uint32_t(usage), C.uint32_t(len(families)), (*C.uint32_t)(unsafe.SliceData(families)), &cb, &cs, &ct)
	return uint64(cb), uint64(cs), uint32(ct), int32(res)
}

// Allocate allocates device memory of one type.
func (d *Device) Allocate(size uint64, memType uint32) (memory uint64, r int32) {
	var m C.uint64_t
	res := C.vs_memory_allocate(d.p, C.uint64_t(size), C.uint32_t(memType), &m)
	return uint64(m), int32(res)
}

// Address returns the device address of a buffer that is bound to memory and has the usage for it; 0 on devices without
// bufferDeviceAddress.
func (d *Device) Address(buffer uint64) uint64 {
	return uint64(C.vs_buffer_address(d.p, C.uint64_t(buffer)))
}

// NewView creates a VkBufferView.
func (d *Device) NewView(buffer uint64, format uint32, offset, size uint64) (view uint64, r int32) {
	var v C.uint64_t
	res := C.vs_view_create(d.p, C.uint64_t(buffer), C.uint32_t(format), C.uint64_t(offset), C.uint64_t(size), &v)
	return uint64(v), int32(res)
}

// NewCache creates a VkPipelineCache from data, which may be empty.
func (d *Device) NewCache(data []byte) (cache uint64, r int32) {
	var c C.uint64_t
	res := C.vs_cache_create(d.p, unsafe.Pointer(unsafe.SliceData(data)), C.size_t(len(data)), &c)
	return uint64(c), int32(res)
}

// PipelineConfig mirrors vs_pipeline_config; Types holds VkDescriptorType values.
type PipelineConfig struct {
	NumBindings, PushBytes, NumSpec, SubgroupSize, FullSubgroups, DispatchBase, Capture uint32
	Types                                                                               [MaxBindings]uint32
	Spec                                                                                [MaxSpec]uint32
}

// Pipeline is a compute pipeline with its layouts.
type Pipeline struct{ SetLayout, Layout, Pipeline uint64 }

// NewPipeline creates a compute pipeline from SPIR-V with the entry point "main". On failure it returns the name of the
// call that failed and leaves nothing behind. spirv must not be empty.
func (d *Device) NewPipeline(cache uint64, spirv []byte, c *PipelineConfig) (p Pipeline, call string, r int32) {
	var out C.vs_pipeline
	var failed *C.char
	res := C.vs_pipeline_create(d.p, C.uint64_t(cache), unsafe.Pointer(&spirv[0]), C.size_t(len(spirv)), (*C.vs_pipeline_config)(unsafe.Pointer(c)), &out, &failed)
	return Pipeline{uint64(out.set_layout), uint64(out.layout), uint64(out.pipeline)}, C.GoString(failed), int32(res)
}

// A Statistic is a number about a pipeline.
type Statistic struct {
	Name  [256]byte
	Value float64
}

// SubgroupSize returns the subgroup size of a pipeline made with Capture, 0 where the driver doesn't say.
func (d *Device) SubgroupSize(pipeline uint64) (lanes uint32, r int32) {
	var n C.uint32_t
	res := C.vs_pipeline_subgroup(d.p, C.uint64_t(pipeline), &n)
	return uint32(n), int32(res)
}

// Statistics returns the driver compiler's statistics of a pipeline made with Capture.
func (d *Device) Statistics(pipeline uint64) ([]Statistic, int32) {
	var list [C.VS_MAX_STATISTICS]Statistic
	var n C.uint32_t
	r := C.vs_pipeline_statistics(d.p, C.uint64_t(pipeline), &n, (*C.vs_statistic)(unsafe.Pointer(&list[0])))
	return list[:n], int32(r)
}

// A Text is one of the compiler's representations of a shader.
type Text struct {
	Name [256]byte
	Size uint64
}

// Texts returns the compiler's representations of a pipeline made with Capture, and the bytes of all of them, one after
// another.
func (d *Device) Texts(pipeline uint64) ([]Text, []byte, int32) {
	var list [C.VS_MAX_TEXTS]Text
	var n C.uint32_t
	if r := C.vs_pipeline_texts(d.p, C.uint64_t(pipeline), &n, (*C.vs_text)(unsafe.Pointer(&list[0])), nil); r != 0 {
		return nil, nil, int32(r)
	}
	var size uint64 = 1
	for _, t := range list[:n] {
		size += t.Size
	}
	bytes := make([]byte, size)
	r := C.vs_pipeline_texts(d.p, C.uint64_t(pipeline), &n, (*C.vs_text)(unsafe.Pointer(&list[0])), (*C.char)(unsafe.Pointer(&bytes[0])))
	return list[:n], bytes, int32(r)
}

// NewDescriptorPool creates a pool for sets descriptor sets with storage and texel descriptors in all.
func (d *Device) NewDescriptorPool(sets, storage, texel uint32) (pool uint64, r int32) {
	var p C.uint64_t
	res := C.vs_descriptor_pool_create(d.p, C.uint32_t(sets), C.uint32_t(storage), C.uint32_t(texel), &p)
	return uint64(p), int32(res)
}

// Descriptor mirrors vs_descriptor: a storage buffer range, or a texel view when View is not 0.
type Descriptor struct{ Buffer, Offset, Range, View uint64 }

// NewSet allocates a descriptor set and writes descriptors[i] to binding i, MaxBindings at most.
func (d *Device) NewSet(pool, layout uint64, descriptors []Descriptor) (set uint64, r int32) {
	var s C.uint64_t
	res := C.vs_set_make(d.p, C.uint64_t(pool), C.uint64_t(layout), C.uint32_t(len(descriptors)), (*C.vs_descriptor)(unsafe.Pointer(unsafe.SliceData(descriptors))), &s)
	return uint64(s), int32(res)
}

// NewCommandPool creates a command pool whose buffers can be reset.
func (d *Device) NewCommandPool(family uint32) (pool uint64, r int32) {
	var p C.uint64_t
	res := C.vs_command_pool_create(d.p, C.uint32_t(family), &p)
	return uint64(p), int32(res)
}

// NewCommandBuffer allocates a primary command buffer.
func (d *Device) NewCommandBuffer(pool uint64) (cmd uint64, r int32) {
	var c C.uint64_t
	res := C.vs_command_buffer_allocate(d.p, C.uint64_t(pool), &c)
	return uint64(c), int32(res)
}

// Begin starts recording, resetting the command buffer if it was recorded before. With repeat it may be pending more than once.
func (d *Device) Begin(cmd uint64, repeat bool) int32 {
	return int32(C.vs_command_begin(d.p, C.uint64_t(cmd), truth(repeat)))
}

// BindSet binds a descriptor set as set 0.
func (d *Device) BindSet(cmd, layout, set uint64) {
	C.vs_cmd_bind_set(d.p, C.uint64_t(cmd), C.uint64_t(layout), C.uint64_t(set))
}

// NewEvent creates a VkEvent.
func (d *Device) NewEvent() (event uint64, r int32) {
	var e C.uint64_t
	res := C.vs_event_create(d.p, &e)
	return uint64(e), int32(res)
}

// Barrier records one global memory barrier: after all earlier commands, or with an event after those before the command that sets
// it with srcStages.
func (d *Device) Barrier(cmd, event uint64, srcStages, dstStages, srcAccess, dstAccess uint32) {
	C.vs_cmd_barrier(d.p, C.uint64_t(cmd), C.uint64_t(event), C.uint32_t(srcStages), C.uint32_t(dstStages), C.uint32_t(srcAccess), C.uint32_t(dstAccess))
}

// BufferBarrier is Barrier of each of MaxBindings buffers at most; of none it orders execution alone.
func (d *Device) BufferBarrier(cmd, event uint64, srcStages, dstStages, srcAccess, dstAccess uint32, buffers []uint64) {
	var first *C.uint64_t
	if len(buffers) > 0 {
		first = (*C.uint64_t)(&buffers[0])
	}
	C.vs_cmd_buffer_barrier(d.p, C.uint64_t(cmd), C.uint64_t(event), C.uint32_t(srcStages), C.uint32_t(dstStages), C.uint32_t(srcAccess),
		C.uint32_t(dstAccess), C.uint32_t(len(buffers)), first)
}

// DispatchBase records n workgroups that count from base. The pipeline was made with DispatchBase.
func (d *Device) DispatchBase(cmd uint64, base, n [3]uint32) {
	C.vs_cmd_dispatch_base(d.p, C.uint64_t(cmd), (*C.uint32_t)(&base[0]), (*C.uint32_t)(&n[0]))
}

// Copy records a buffer copy of one region.
func (d *Device) Copy(cmd, src, srcOffset, dst, dstOffset, size uint64) {
	C.vs_cmd_copy(d.p, C.uint64_t(cmd), C.uint64_t(src), C.uint64_t(srcOffset), C.uint64_t(dst), C.uint64_t(dstOffset), C.uint64_t(size))
}

// NewFence creates an unsignalled fence.
func (d *Device) NewFence() (fence uint64, r int32) {
	var f C.uint64_t
	res := C.vs_fence_create(d.p, &f)
	return uint64(f), int32(res)
}

// WaitFence waits for a fence. After the time limit the result is VK_TIMEOUT.
func (d *Device) WaitFence(fence uint64, limit time.Duration) int32 {
	return int32(C.vs_fence_wait(d.p, C.uint64_t(fence), C.uint64_t(limit)))
}

// NewSemaphore creates a binary semaphore.
func (d *Device) NewSemaphore() (semaphore uint64, r int32) {
	var s C.uint64_t
	res := C.vs_semaphore_create(d.p, &s)
	return uint64(s), int32(res)
}

// NewQueryPool creates a pool of timestamp queries.
func (d *Device) NewQueryPool(count uint32) (pool uint64, r int32) {
	var p C.uint64_t
	res := C.vs_query_pool_create(d.p, C.uint32_t(count), &p)
	return uint64(p), int32(res)
}

// Submit resets fence and submits cmds to queue in order. It waits for one semaphore and signals another. Any of the
// last three may be 0. The caller serialises submissions to a queue.
func (d *Device) Submit(queue uint64, cmds []uint64, wait, signal, fence uint64) int32 {
	return int32(C.vs_submit(d.p, C.uint64_t(queue), C.uint32_t(len(cmds)), (*C.uint64_t)(unsafe.SliceData(cmds)), C.uint64_t(wait), C.uint64_t(signal), C.uint64_t(fence)))
}

// SurfaceInfo mirrors vs_surface_info; see there.
type SurfaceInfo struct {
	Supported, MinImages, MaxImages                         uint32
	Width, Height, MinWidth, MinHeight, MaxWidth, MaxHeight uint32
	Transform, Alpha, Usage                                 uint32
	NumFormats, NumModes                                    uint32
	Formats                                                 [64]uint32
	Modes                                                   [16]uint32
}

// QuerySurface asks a physical device about a surface: whether queues of the family can present to it and, if they can, which
// images it takes.
func (in *Instance) QuerySurface(physical, surface uint64, family uint32) (*SurfaceInfo, int32) {
	info := &SurfaceInfo{}
	r := C.vs_surface_query(in.p, C.uint64_t(physical), C.uint64_t(surface), C.uint32_t(family), (*C.vs_surface_info)(unsafe.Pointer(info)))
	return info, int32(r)
}

// DestroySurface destroys a VkSurfaceKHR. Its swapchains are destroyed before.
func (in *Instance) DestroySurface(surface uint64) { C.vs_surface_destroy(in.p, C.uint64_t(surface)) }

// SwapchainConfig mirrors vs_swapchain_config; Old is the swapchain that the new one replaces, or 0.
type SwapchainConfig struct {
	Surface, Old                                          uint64
	Images, Format, Width, Height, Transform, Alpha, Mode uint32
}

// NewSwapchain creates a VkSwapchainKHR, whose images are written by copies.
func (d *Device) NewSwapchain(c *SwapchainConfig) (swapchain uint64, r int32) {
	var s C.uint64_t
	res := C.vs_swapchain_create(d.p, (*C.vs_swapchain_config)(unsafe.Pointer(c)), &s)
	return uint64(s), int32(res)
}

// Images returns the images of a swapchain, 32 at most.
func (d *Device) Images(swapchain uint64) ([]uint64, int32) {
	var list [32]uint64
	n := C.uint32_t(len(list))
	r := C.vs_swapchain_images(d.p, C.uint64_t(swapchain), &n, (*C.uint64_t)(&list[0]))
	return append([]uint64(nil), list[:n]...), int32(r)
}

// DestroySwapchain destroys a VkSwapchainKHR.
func (d *Device) DestroySwapchain(swapchain uint64) {
	C.vs_swapchain_destroy(d.p, C.uint64_t(swapchain))
}

// Acquire takes an image of a swapchain that is free, without waiting for one; semaphore is signalled once it may be
// written. Where none is free the result is VK_NOT_READY.
func (d *Device) Acquire(swapchain, semaphore uint64) (index uint32, r int32) {
	var i C.uint32_t
	res := C.vs_swapchain_acquire(d.p, C.uint64_t(swapchain), C.uint64_t(semaphore), &i)
	return uint32(i), int32(res)
}

// Present shows an image once semaphore wait is signalled. The caller serialises the use of the queue.
func (d *Device) Present(queue, swapchain uint64, index uint32, wait uint64) int32 {
	return int32(C.vs_present(d.p, C.uint64_t(queue), C.uint64_t(swapchain), C.uint32_t(index), C.uint64_t(wait)))
}

// Show records the copy of pixels to an image, which is then ready to present.
func (d *Device) Show(cmd, buffer, offset, image uint64, width, height uint32) {
	C.vs_cmd_show(d.p, C.uint64_t(cmd), C.uint64_t(buffer), C.uint64_t(offset), C.uint64_t(image), C.uint32_t(width), C.uint32_t(height))
}
