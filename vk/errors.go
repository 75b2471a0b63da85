//go:build cgo

package vk

import (
	"errors"
	"fmt"

	vulkan "github.com/vulkan-go/vulkan"
)

// Sentinels for errors.Is.
var (
	// ErrNoDevice says that there is no Vulkan loader, no driver, or no device that fits the selection.
	ErrNoDevice = errors.New("no usable Vulkan device")
	// ErrDeviceLost says that the device stopped answering. It is sticky: every later submission on the Device fails with it.
	ErrDeviceLost = errors.New("device lost")
	// ErrHung says that the device does not finish submitted work. It is sticky as ErrDeviceLost is.
	ErrHung = errors.New("device hangs")
	// ErrOutOfDeviceMemory says that device memory is exhausted.
	ErrOutOfDeviceMemory = errors.New("out of device memory")
	// ErrOutOfHostMemory says that the driver could not get host memory.
	ErrOutOfHostMemory = errors.New("out of host memory")
	// ErrNoValidation says that validation was requested but its layer is not installed.
	ErrNoValidation = errors.New("validation layer not installed")
	// ErrClosed says that the object, or the Device it belongs to, is already closed.
	ErrClosed = errors.New("closed")
	// ErrLimit says that a request exceeds a limit or feature of the device.
	ErrLimit = errors.New("beyond the device's limits")
	// ErrNoPresent says that a device can't show anything in a window: it or the loader lacks the extension, its compute
	// queue can't present to the window, or the window can't be written by copies.
	ErrNoPresent = errors.New("the device can't present to this window")
	// ErrOutOfDate says that a swapchain does not fit its window any more, or not yet.
	ErrOutOfDate = errors.New("the window has changed")
	// ErrSurfaceLost says that a window is gone.
	ErrSurfaceLost = errors.New("the window is gone")
)

// Result is a VkResult.
type Result int32

// Results that the package itself returns or checks for.
const (
	Success              = Result(vulkan.Success)
	Timeout              = Result(vulkan.Timeout)
	ErrorOutOfHostMemory = Result(vulkan.ErrorOutOfHostMemory)
	ErrorOutOfDevice     = Result(vulkan.ErrorOutOfDeviceMemory)
	ErrorInitialization  = Result(vulkan.ErrorInitializationFailed)
	ErrorDeviceLost      = Result(vulkan.ErrorDeviceLost)
	ErrorLayerMissing    = Result(vulkan.ErrorLayerNotPresent)
	ErrorExtension       = Result(vulkan.ErrorExtensionNotPresent)
	ErrorIncompatible    = Result(vulkan.ErrorIncompatibleDriver)
	NotReady             = Result(vulkan.NotReady)
	Suboptimal           = Result(vulkan.Suboptimal)
	ErrorOutOfDate       = Result(vulkan.ErrorOutOfDate)
	ErrorSurfaceLost     = Result(vulkan.ErrorSurfaceLost)
)

var resultNames = map[Result]string{
	Success:              "success",
	NotReady:             "not ready",
	Suboptimal:           "suboptimal",
	ErrorOutOfDate:       "out of date",
	ErrorSurfaceLost:     "surface lost",
	Timeout:              "timeout",
	5:                    "incomplete",
	ErrorOutOfHostMemory: "out of host memory",
	ErrorOutOfDevice:     "out of device memory",
	ErrorInitialization:  "initialization failed",
	ErrorDeviceLost:      "device lost",
	-5:                   "memory map failed",
	ErrorLayerMissing:    "layer not present",
	ErrorExtension:       "extension not present",
	-8:                   "feature not present",
	ErrorIncompatible:    "incompatible driver",
	-10:                  "too many objects",
	-11:                  "format not supported",
	-12:                  "fragmented pool",
	-13:                  "unknown error",
	-1000069000:          "out of pool memory",
	-1000072003:          "invalid external handle",
	-1000012000:          "invalid shader",
	-1000161000:          "fragmentation",
	-1000257000:          "invalid capture address",
	1000297000:           "pipeline compile required",
	-1000011001:          "validation failed",
	-1000174001:          "not permitted",
}

// String describes the result in words, or by its number if the package does not know it.
func (r Result) String() string {
	if s, ok := resultNames[r]; ok {
		return s
	}
	return fmt.Sprintf("VkResult %d", int32(r))
}

// Error reports a failed Vulkan call.
type Error struct {
	Call   string // the Vulkan function
	Result Result
	Detail string // sizes or names; may be empty
}

func (e *Error) Error() string {
	if e.Detail == "" {
		return fmt.Sprintf("vk: %s: %s", e.Call, e.Result)
	}
	return fmt.Sprintf("vk: %s (%s): %s", e.Call, e.Detail, e.Result)
}

// Is reports whether target is the sentinel of e's result.
func (e *Error) Is(target error) bool {
	switch e.Result {
	case ErrorOutOfHostMemory:
		return target == ErrOutOfHostMemory
	case ErrorOutOfDevice:
		return target == ErrOutOfDeviceMemory
	case ErrorDeviceLost:
		return target == ErrDeviceLost
	case Timeout:
		return target == ErrHung
	case ErrorOutOfDate:
		return target == ErrOutOfDate
	case ErrorSurfaceLost:
		return target == ErrSurfaceLost
	case ErrorIncompatible, ErrorInitialization:
		return target == ErrNoDevice && e.Call == "vkCreateInstance"
	case ErrorLayerMissing, ErrorExtension:
		return target == ErrNoValidation && e.Call == "vkCreateInstance" || target == ErrNoPresent && e.Call == "vkCreateSwapchainKHR"
	}
	return false
}

// check turns a result into an error; success is nil.
func check(r int32, call, format string, args ...any) error {
	if r == 0 {
		return nil
	}
	return &Error{Call: call, Result: Result(r), Detail: fmt.Sprintf(format, args...)}
}
