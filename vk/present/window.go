//go:build window && cgo

package present

import (
	"context"
	"errors"
	"fmt"
	"image/png"
	"os"
	"runtime"
	"runtime/debug"
	"time"

	"github.com/go-gl/glfw/v3.3/glfw"
	vulkan "github.com/vulkan-go/vulkan"

	"pumice/internal/atomicfile"
	"pumice/vk"
)

// A Window shows a Canvas on the screen. All its methods are called on the goroutine that has opened it, which stays on
// its thread until Close; macOS wants the program's first thread for it.
type Window struct {
	dev       *vk.Device
	window    *glfw.Window
	surface   *vk.Surface
	swapchain *vk.Swapchain
	canvas    *Canvas
	list      *List
	pace      Pace

	input   Input
	pending *frameTime // the frame whose time is not known yet
	damaged bool       // what is shown may not be the canvas
}

// frameTime is when a frame began, how long the processor was at work on it, and whether nothing else was to be done.
type frameTime struct {
	began time.Time
	host  time.Duration
	idle  bool
}

// ErrNoDisplay says that there is no screen to open a window on.
var ErrNoDisplay = errors.New("there is no display to open a window on")

// OpenWindow opens a window of width * height, in the screen's units, in which a device draws, whose instance must have
// been made with Surfaces. The caller closes the Window before the device. If the device can't present to it, the error is
// vk.ErrNoPresent; without a screen it is ErrNoDisplay.
func OpenWindow(dev *vk.Device, title string, width, height int) (_ *Window, err error) {
	if !dev.Instance().Surfaces() {
		return nil, fmt.Errorf("present: the device was not opened for windows: %w", vk.ErrNoPresent)
	}
	runtime.LockOSThread()
	w := &Window{dev: dev}
	defer func() {
		if err != nil {
			err = errors.Join(err, w.Close())
		}
	}()
	if err := begin(); err != nil {
		return nil, fmt.Errorf("present: %w: %w", ErrNoDisplay, err)
	}
	glfw.WindowHint(glfw.ClientAPI, glfw.NoAPI)
	if w.window, err = glfw.CreateWindow(width, height, title, nil, nil); err != nil {
		return nil, fmt.Errorf("present: window: %w", err)
	}
	if w.surface, err = surfaceOf(dev.Instance(), w.window); err != nil {
		return nil, err
	}
	font, err := NewFont()
	if err != nil {
		return nil, err
	}
	w.list = NewList(font)
	if w.canvas, err = NewCanvas(dev); err != nil {
		return nil, err
	}
	if w.swapchain, err = dev.NewSwapchain(w.surface, width, height); err != nil {
		return nil, err
	}
	if dev.PhysicalDevice().Type == vk.CPU {
		w.pace.Interval = 100 * time.Millisecond
	}
	w.listen()
	return w, w.fit()
}

// begin begins the use of GLFW. Where there is no screen, its binding logs why, returns no error, and panics in the next call.
func begin() (err error) {
	defer func() {
		switch e := recover().(type) {
		case nil:
		case *glfw.Error:
			err = e
		default:
			panic(e)
		}
	}()
	if err := glfw.Init(); err != nil {
		return err
	}
	glfw.DefaultWindowHints()
	return nil
}

// surfaceOf makes the surface of a window. GLFW's binding returns the address of a variable of Go that holds it, which
// nothing refers to; no collection begins before it is read.
func surfaceOf(in *vk.Instance, window *glfw.Window) (*vk.Surface, error) {
	defer debug.SetGCPercent(debug.SetGCPercent(-1))
	address, err := window.CreateWindowSurface(in.Handle(), nil)
	if err != nil {
		func() { // the binding would panic with the error once more, in its next call
			defer func() { _ = recover() }()
			window.GetPos()
		}()
		return nil, fmt.Errorf("present: %w: %w", vk.ErrNoPresent, err)
	}
	return in.NewSurface(vulkan.SurfaceFromPointer(address)), nil
}

// keys are those that type no character.
var keys = map[glfw.Key]rune{
	glfw.KeyUp: KeyUp, glfw.KeyDown: KeyDown, glfw.KeyLeft: KeyLeft, glfw.KeyRight: KeyRight, glfw.KeyEscape: KeyEscape,
}

// listen has events change the input.
func (w *Window) listen() {
	w.window.SetRefreshCallback(func(*glfw.Window) { w.damaged = true })
	w.window.SetFramebufferSizeCallback(func(*glfw.Window, int, int) { w.damaged = true })
	w.window.SetCharCallback(func(_ *glfw.Window, r rune) { w.input.Keys = append(w.input.Keys, r) })
	w.window.SetKeyCallback(func(_ *glfw.Window, key glfw.Key, _ int, action glfw.Action, _ glfw.ModifierKey) {
		if r, ok := keys[key]; ok && action != glfw.Release {
			w.input.Keys = append(w.input.Keys, r)
		}
	})
	w.window.SetMouseButtonCallback(func(_ *glfw.Window, _ glfw.MouseButton, action glfw.Action, _ glfw.ModifierKey) {
		w.input.Clicked = w.input.Clicked || action == glfw.Press
	})
}

// fit makes the swapchain and the canvas as large as the window.
func (w *Window) fit() error {
	width, height := w.window.GetFramebufferSize()
	if err := w.swapchain.Resize(width, height); err != nil {
		return err
	}
	w.damaged = true
	if width, height = w.swapchain.Size(); width == 0 || height == 0 {
		return nil
	}
	if x, y := w.canvas.Size(); x == width && y == height {
		return nil
	}
	w.pending = nil
	return w.canvas.Resize(width, height, w.swapchain.BGRA())
}

// Run shows frames until the window is closed, frame asks for it, or ctx ends. frame says what the next one shows; it is
// called as often as the Pace of the Window permits, and not while the window is minimised.
func (w *Window) Run(ctx context.Context, frame func(Input, *List) Reply) error {
	for ctx.Err() == nil && !w.window.ShouldClose() {
		glfw.WaitEventsTimeout(w.pace.interval().Seconds())
		if width, height := w.window.GetFramebufferSize(); width == 0 || height == 0 || w.window.GetAttrib(glfw.Iconified) == glfw.True {
			continue
		} else if x, y := w.swapchain.Size(); x != width || y != height {
			if err := w.fit(); err != nil {
				return err
			}
		}
		again, err := w.step(ctx, frame)
		if errors.Is(err, vk.ErrOutOfDate) {
			err = w.fit()
		}
		if err != nil || !again {
			return err
		}
	}
	return nil
}

// step draws a frame if one is due, and returns false if it is the last.
func (w *Window) step(ctx context.Context, draw func(Input, *List) Reply) (again bool, err error) {
	busy := w.canvas.Busy() || w.swapchain.Busy()
	if f := w.pending; f != nil && !busy {
		cost := f.host + w.canvas.Took()
		if f.idle {
			cost = 0
		}
		w.pace.Drew(f.began, cost)
		w.pending = nil
	}
	now := time.Now()
	if !w.pace.Due(now) {
		return true, nil
	}
	if busy {
		w.pace.Drop()
		return true, nil
	}
	in := w.look()
	w.list.Reset()
	reply := draw(in, w.list)
	w.input.Keys, w.input.Clicked = nil, false
	tiles, err := w.canvas.Paint(ctx, w.list)
	if err != nil {
		return false, err
	}
	if tiles > 0 || w.damaged {
		shown, err := w.swapchain.Present(w.canvas.Pixels())
		if err != nil {
			w.damaged = true
			return true, err
		}
		if w.damaged = !shown; !shown {
			w.pace.Drop()
		}
	}
	w.pending = &frameTime{now, time.Since(now), reply.Idle}
	if reply.Screenshot != "" {
		if err := w.Screenshot(reply.Screenshot); err != nil {
			return false, err
		}
	}
	return !reply.Quit, nil
}

// SetValues is Canvas.SetValues.
func (w *Window) SetValues(s vk.Span) error { return w.canvas.SetValues(s) }

// look returns the input for a frame.
func (w *Window) look() Input {
	in := w.input
	width, height := w.canvas.Size()
	in.Width, in.Height = float32(width), float32(height)
	in.Scale, _ = w.window.GetContentScale()
	units, _ := w.window.GetSize()
	x, y := w.window.GetCursorPos()
	pixels := float64(width) / float64(max(units, 1)) // of a unit
	in.X, in.Y = float32(x*pixels), float32(y*pixels)
	in.Shown, in.Dropped = w.pace.Shown, w.pace.Dropped
	return in
}

// Screenshot writes the picture into a PNG file.
func (w *Window) Screenshot(path string) error {
	m, err := w.canvas.Image()
	if err != nil {
		return err
	}
	return atomicfile.Write(path, func(f *os.File) error { return png.Encode(f, m) })
}

// Close closes the window.
func (w *Window) Close() error {
	var errs []error
	if w.swapchain != nil {
		errs = append(errs, w.swapchain.Close())
	}
	if w.canvas != nil {
		errs = append(errs, w.canvas.Close())
	}
	if w.surface != nil {
		errs = append(errs, w.surface.Close())
	}
	if w.window != nil {
		w.window.Destroy()
	}
	glfw.Terminate()
	runtime.UnlockOSThread()
	return errors.Join(errs...)
}
