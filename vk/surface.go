//go:build cgo

package vk

import (
	"fmt"
	"sync"

	vulkan "github.com/vulkan-go/vulkan"
)

// A Surface is what of a window Vulkan draws to.
type Surface struct {
	in     *Instance
	handle uint64

	mu     sync.Mutex
	closed bool
}

// Instance is the instance that the device was opened on.
func (d *Device) Instance() *Instance { return d.pd.instance }

// Handle is the VkInstance, for a windowing library that makes surfaces.
func (in *Instance) Handle() vulkan.Instance { return vulkan.Instance(in.shim.Handle()) }

// Surfaces reports whether the instance was made for windows.
func (in *Instance) Surfaces() bool { return in.surfaces }

// NewSurface takes over a surface that a windowing library has made on the instance, which must have been made with
// Surfaces. The caller closes it before the window and the instance.
func (in *Instance) NewSurface(s vulkan.Surface) *Surface { return &Surface{in: in, handle: rawOf(s)} }

// Close destroys the surface. Its Swapchain must be closed.
func (s *Surface) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.in.mu.Lock()
	defer s.in.mu.Unlock()
	switch {
	case s.closed:
		return nil
	case s.in.closed:
		return fmt.Errorf("vk: surface: instance: %w", ErrClosed)
	}
	s.closed = true
	if !s.in.leaked.Load() {
		s.in.shim.DestroySurface(s.handle)
	}
	return nil
}
