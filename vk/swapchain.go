//go:build cgo

package vk

import (
	"errors"
	"fmt"
	"slices"

	vulkan "github.com/vulkan-go/vulkan"

	"pumice/vk/internal/shim"
)

// A Swapchain shows pixels from device memory in a window. It never waits: where the window's images are all in use, or
// the copy of the last frame is not done, a frame is dropped. It is for one goroutine.
type Swapchain struct {
	d       *Device
	surface *Surface
	made    string

	handle        uint64 // 0 while the window has no area
	width, height int
	bgra          bool
	images        []uint64
	shown         []uint64 // semaphores: the copy to an image is done
	ready         uint64   // semaphore: the image that was acquired may be written
	pool, cmd     uint64
	fence         uint64
	last          *Submission // nil before the first
	stale         bool
	closed        bool
}

// NewSwapchain makes the images of a window, as large as the window is, or of width * height pixels where the window goes
// by that. The caller closes the Swapchain before the Surface and the Device. If the device can't present to the window,
// the error is ErrNoPresent.
func (d *Device) NewSwapchain(s *Surface, width, height int) (*Swapchain, error) {
	if err := d.usable("vkCreateSwapchainKHR"); err != nil {
		return nil, err
	}
	c := &Swapchain{d: d, surface: s, made: madeAt()}
	if err := c.begin(width, height); err != nil {
		return nil, errors.Join(err, c.Close())
	}
	if err := d.adopt(c); err != nil {
		return nil, errors.Join(err, c.Close())
	}
	return c, nil
}

func (c *Swapchain) begin(width, height int) error {
	d := c.d
	var r int32
	if c.fence, r = d.shim.NewFence(); r != 0 {
		return d.check(r, "vkCreateFence", "")
	}
	if c.ready, r = d.shim.NewSemaphore(); r != 0 {
		return d.check(r, "vkCreateSemaphore", "")
	}
	if c.pool, r = d.shim.NewCommandPool(d.compute.family); r != 0 {
		return d.check(r, "vkCreateCommandPool", "")
	}
	if c.cmd, r = d.shim.NewCommandBuffer(c.pool); r != 0 {
		return d.check(r, "vkAllocateCommandBuffers", "")
	}
	return c.Resize(width, height)
}

// Formats of four bytes a pixel that are copied to as they are, by VkFormat.
var (
	rgbaFormats = []uint32{uint32(vulkan.FormatR8g8b8a8Unorm), uint32(vulkan.FormatR8g8b8a8Srgb)}
	bgraFormats = []uint32{uint32(vulkan.FormatB8g8r8a8Unorm), uint32(vulkan.FormatB8g8r8a8Srgb)}
)

// Resize makes the images anew, after the window has changed. It waits for work on the device's queue.
func (c *Swapchain) Resize(width, height int) error {
	d := c.d
	if err := d.usable("vkCreateSwapchainKHR"); err != nil {
		return err
	}
	info, r := d.pd.instance.shim.QuerySurface(d.pd.handle, c.surface.handle, d.compute.family)
	if r != 0 {
		if Result(r) == ErrorExtension {
			return fmt.Errorf("vk: %s: %w", d.pd.Name, ErrNoPresent)
		}
		return d.check(r, "vkGetPhysicalDeviceSurfaceCapabilitiesKHR", "%s", d.pd.Name)
	}
	format, bgra, ok := pickFormat(info.Formats[:info.NumFormats])
	const transferDst = uint32(vulkan.ImageUsageTransferDstBit)
	if info.Supported == 0 || !ok || info.Usage&transferDst == 0 {
		return fmt.Errorf("vk: %s: %w", d.pd.Name, ErrNoPresent)
	}
	const ofSwapchain = 0xffffffff // the window has the size of its swapchain
	if info.Width != ofSwapchain {
		width, height = int(info.Width), int(info.Height)
	}
	width = min(max(width, int(info.MinWidth)), int(info.MaxWidth))
	height = min(max(height, int(info.MinHeight)), int(info.MaxHeight))
	if !c.idle() {
		return fmt.Errorf("vk: swapchain: %w", ErrHung)
	}
	config := shim.SwapchainConfig{
		Surface: c.surface.handle, Old: c.handle, Images: info.MinImages + 1, Format: format, Width: uint32(width), Height: uint32(height),
		Transform: info.Transform, Alpha: info.Alpha & -info.Alpha, Mode: pickMode(info.Modes[:info.NumModes]),
	}
	if info.MaxImages > 0 {
		config.Images = min(config.Images, info.MaxImages)
	}
	var handle uint64
	if width > 0 && height > 0 {
		if handle, r = d.shim.NewSwapchain(&config); r != 0 {
			return d.check(r, "vkCreateSwapchainKHR", "%d x %d on %s", width, height, d.pd.Name)
		}
	}
	c.drop()
	c.handle, c.width, c.height, c.bgra, c.stale = handle, width, height, bgra, false
	if handle == 0 {
		return nil
	}
	if c.images, r = d.shim.Images(handle); r != 0 {
		return d.check(r, "vkGetSwapchainImagesKHR", "")
	}
	for range c.images {
		s, r := d.shim.NewSemaphore()
		if r != 0 {
			return d.check(r, "vkCreateSemaphore", "")
		}
		c.shown = append(c.shown, s)
	}
	return nil
}

// pickFormat returns the first format that pixels of four bytes can be copied to, those that store what they are given
// before those that convert.
func pickFormat(formats []uint32) (format uint32, bgra, ok bool) {
	for i := range rgbaFormats {
		for _, f := range formats {
			if f == rgbaFormats[i] || f == bgraFormats[i] {
				return f, f == bgraFormats[i], true
			}
		}
	}
	return 0, false, false
}

// pickMode prefers the mode in which a new frame replaces one that waits; every device has the other one.
func pickMode(modes []uint32) uint32 {
	if m := uint32(vulkan.PresentModeMailbox); slices.Contains(modes, m) {
		return m
	}
	return uint32(vulkan.PresentModeFifo)
}

// Size returns the size of the images in pixels; 0 while the window has no area, as a minimised one may.
func (c *Swapchain) Size() (width, height int) { return c.width, c.height }

// BGRA reports whether pixels are blue, green, red and alpha, not red, green, blue and alpha.
func (c *Swapchain) BGRA() bool { return c.bgra }

// Present shows pixels, which have four bytes each, row by row, as many as Size says. They must have been written by work
// that was submitted to the device before, and must not change until Busy is false. It reports whether the frame is shown or
// was dropped. The error ErrOutOfDate asks for Resize.
func (c *Swapchain) Present(pixels Span) (shown bool, err error) {
	d := c.d
	switch err := d.usable("vkQueuePresentKHR"); {
	case err != nil:
		return false, err
	case c.closed:
		return false, fmt.Errorf("vk: swapchain: %w", ErrClosed)
	case c.stale:
		return false, fmt.Errorf("vk: swapchain of %d x %d: %w", c.width, c.height, ErrOutOfDate)
	case c.handle == 0 || c.Busy():
		return false, nil
	case pixels.Size != int64(4*c.width*c.height):
		return false, fmt.Errorf("vk: %d bytes for a window of %d x %d", pixels.Size, c.width, c.height)
	}
	if err := pixels.valid(); err != nil {
		return false, err
	}
	i, r := d.shim.Acquire(c.handle, c.ready)
	switch Result(r) {
	case Success:
	case Suboptimal:
		c.stale = true
	case NotReady, Timeout:
		return false, nil
	default:
		c.stale = c.stale || Result(r) == ErrorOutOfDate
		return false, d.check(r, "vkAcquireNextImageKHR", "%s", d.pd.Name)
	}
	if r := d.shim.Begin(c.cmd, false); r != 0 {
		return false, d.check(r, "vkBeginCommandBuffer", "")
	}
	d.shim.Show(c.cmd, rawOf(pixels.Buffer.handle), uint64(pixels.Offset), c.images[i], uint32(c.width), uint32(c.height))
	if r := vulkan.EndCommandBuffer(as[vulkan.CommandBuffer](c.cmd)); r != vulkan.Success {
		return false, d.check(int32(r), "vkEndCommandBuffer", "")
	}
	s, err := d.start(c.last, d.compute, []uint64{c.cmd}, c.ready, c.shown[i], c.fence)
	if err != nil {
		return false, err
	}
	c.last = s
	d.compute.mu.Lock()
	r = d.shim.Present(d.compute.handle, c.handle, i, c.shown[i])
	d.compute.mu.Unlock()
	switch Result(r) {
	case Success:
	case Suboptimal:
		c.stale = true
	default:
		c.stale = c.stale || Result(r) == ErrorOutOfDate
		return false, d.check(r, "vkQueuePresentKHR", "%s", d.pd.Name)
	}
	return true, nil
}

// Busy reports whether the last frame is not copied yet.
func (c *Swapchain) Busy() bool { return c.last != nil && !c.last.Ended() }

// idle waits until nothing uses the images, and reports whether that is so.
func (c *Swapchain) idle() bool {
	d := c.d
	if !d.over(c.last) || !d.over(d.unended()...) {
		return false
	}
	if d.dead.Load() == nil {
		d.compute.mu.Lock()
		vulkan.QueueWaitIdle(as[vulkan.Queue](d.compute.handle)) // no fence tells when an image has been presented
		d.compute.mu.Unlock()
	}
	return true
}

// drop destroys the images.
func (c *Swapchain) drop() {
	for _, s := range c.shown {
		vulkan.DestroySemaphore(c.d.handle, as[vulkan.Semaphore](s), nil)
	}
	if c.handle != 0 {
		c.d.shim.DestroySwapchain(c.handle)
	}
	c.handle, c.images, c.shown = 0, nil, nil
}

// Close waits for the last frame and frees the images.
func (c *Swapchain) Close() error {
	if c.closed {
		return nil
	}
	c.closed = true
	c.d.disown(c)
	if !c.idle() {
		return nil
	}
	c.drop()
	h := c.d.handle
	vulkan.DestroyCommandPool(h, as[vulkan.CommandPool](c.pool), nil)
	vulkan.DestroySemaphore(h, as[vulkan.Semaphore](c.ready), nil)
	c.d.destroyFence(c.fence)
	return nil
}

func (c *Swapchain) describe() (int, string) {
	return rankSwapchain, fmt.Sprintf("swapchain of %d x %d%s", c.width, c.height, c.made)
}
