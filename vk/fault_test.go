package vk_test

import (
	"context"
	"errors"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"pumice/internal/gputest"
	"pumice/internal/vkfault"
	"pumice/vk"
)

// TestFaultyWaits runs each fault in its own process: no wait is endless, no object that may still be in use is freed,
// and objects of ended work are freed.
func TestFaultyWaits(t *testing.T) {
	var env []string
	child := os.Getenv(vkfault.Variable) != ""
	if !child {
		env = vkfault.Env(t)
	}
	for _, c := range faultyWaits {
		t.Run(c.name, func(t *testing.T) {
			if child {
				c.run(t)
				return
			}
			t.Parallel()
			again := gputest.Again("-test.run=^" + strings.ReplaceAll(t.Name(), "/", "$/^") + "$")
			again.Env = append(slices.Clip(env), vkfault.Variable+"="+c.faults)
			out, err := again.CombinedOutput()
			if err != nil || strings.Contains(string(out), vkfault.Mark) {
				t.Errorf("%v\n%s", err, out)
			}
		})
	}
}

// work is a device with commands that fill a buffer, and that vkfault may make fail.
type work struct {
	t        *testing.T
	instance *vk.Instance
	device   *vk.Device
	buffer   *vk.Buffer
	commands *vk.Commands
}

func newWork(t *testing.T, o vk.DeviceOptions) *work {
	t.Helper()
	w := &work{t: t}
	check := func(err error) {
		if err != nil {
			t.Fatal(err)
		}
	}
	var err error
	w.instance, err = vk.NewInstance(vk.InstanceOptions{})
	check(err)
	devices, err := w.instance.Devices()
	check(err)
	pd, err := vk.Select(devices, os.Getenv("PUMICE_DEVICE"))
	check(err)
	w.device, err = pd.Open(o)
	check(err)
	w.buffer, err = w.device.NewBuffer(1<<20, vk.Readback)
	check(err)
	r := w.device.NewRecorder(vk.RecorderOptions{})
	r.Fill(w.buffer.Whole(), 7)
	w.commands, err = r.Finish()
	check(err)
	return w
}

// succeeds runs the commands and checks their result.
func (w *work) succeeds() {
	w.t.Helper()
	if err := w.commands.Run(ctx); err != nil {
		w.t.Fatal(err)
	}
	if got := w.buffer.Mapped()[1<<19]; got != 7 {
		w.t.Errorf("filled with %d, want 7", got)
	}
}

// fails runs the commands under the context and wants the error within a second.
func (w *work) fails(ctx context.Context, want error) {
	w.t.Helper()
	start := time.Now()
	if err := w.commands.Run(ctx); !errors.Is(err, want) {
		w.t.Errorf("%v, want %v", err, want)
	}
	if took := time.Since(start); took > time.Second {
		w.t.Errorf("took %v", took)
	}
}

// close closes everything; closing the device must give want.
func (w *work) close(want error) {
	w.t.Helper()
	start := time.Now()
	if err := errors.Join(w.commands.Close(), w.buffer.Close()); err != nil {
		w.t.Error(err)
	}
	if err := w.device.Close(); !errors.Is(err, want) {
		w.t.Errorf("closing: %v, want %v", err, want)
	}
	if err := w.instance.Close(); err != nil {
		w.t.Error(err)
	}
	if took := time.Since(start); took > 2*time.Second {
		w.t.Errorf("closing took %v", took)
	}
}

// soon returns a context that ends after 10 ms.
func soon(t *testing.T) context.Context {
	c, cancel := context.WithTimeout(ctx, 10*time.Millisecond)
	t.Cleanup(cancel)
	return c
}

// givenUp gives up twice on work that does not end; closing the device then does not free it.
func givenUp(t *testing.T) {
	w := newWork(t, vk.DeviceOptions{})
	w.fails(soon(t), context.DeadlineExceeded)
	w.fails(soon(t), context.DeadlineExceeded)
	w.close(vk.ErrHung)
}

// retried expects a wait that fails to be retried.
func retried(t *testing.T) {
	w := newWork(t, vk.DeviceOptions{})
	w.succeeds()
	w.succeeds()
	w.close(nil)
}

var faultyWaits = []struct {
	name, faults string
	run          func(t *testing.T)
}{
	{"no fault", "vkWaitForFences:1000:-1", retried},
	{"never ends, given up", "vkWaitForFences:1+:never", givenUp},
	{"driver does not come back, given up", "vkWaitForFences:1+:hang", givenUp},
	{"never ends", "vkWaitForFences:1+:never", func(t *testing.T) {
		w := newWork(t, vk.DeviceOptions{HangTimeout: 100 * time.Millisecond})
		w.fails(ctx, vk.ErrHung)
		w.fails(ctx, vk.ErrHung)
		if _, err := w.device.NewBuffer(16, vk.Upload); !errors.Is(err, vk.ErrHung) {
			t.Errorf("buffer on a hung device: %v", err)
		}
		if err := w.device.Read(w.buffer.Whole(), make([]byte, 1<<20)); !errors.Is(err, vk.ErrHung) {
			t.Errorf("read from a hung device: %v", err)
		}
		w.close(vk.ErrHung)
	}},
	{"nobody waits", "vkWaitForFences:1+:never", func(t *testing.T) {
		w := newWork(t, vk.DeviceOptions{HangTimeout: 100 * time.Millisecond})
		if _, err := w.commands.Submit(ctx); err != nil {
			t.Fatal(err)
		}
		w.close(vk.ErrHung)
	}},
	{"ends late", "vkWaitForFences:1:late", func(t *testing.T) {
		w := newWork(t, vk.DeviceOptions{})
		w.fails(soon(t), context.DeadlineExceeded)
		w.succeeds()
		w.close(nil)
	}},
	{"ends late, closed before", "vkWaitForFences:1:late", func(t *testing.T) {
		w := newWork(t, vk.DeviceOptions{})
		w.fails(soon(t), context.DeadlineExceeded)
		w.close(nil)
	}},
	{"hung, but ends before it is closed", "vkWaitForFences:1:late", func(t *testing.T) {
		w := newWork(t, vk.DeviceOptions{HangTimeout: 100 * time.Millisecond})
		w.fails(ctx, vk.ErrHung)
		w.close(nil)
	}},
	{"out of host memory", "vkWaitForFences:1:-1", retried},
	{"out of device memory", "vkWaitForFences:2:-2", retried},
	{"unknown error", "vkWaitForFences:1:-13", retried},
	{"not a result of waits", "vkWaitForFences:1:5", retried},
	{"out of memory for good", "vkWaitForFences:1+:-1", func(t *testing.T) {
		w := newWork(t, vk.DeviceOptions{})
		w.fails(ctx, vk.ErrOutOfHostMemory)
		w.fails(ctx, vk.ErrOutOfHostMemory)
		w.close(vk.ErrHung)
	}},
	{"lost", "vkWaitForFences:1:-4", func(t *testing.T) {
		w := newWork(t, vk.DeviceOptions{})
		w.fails(ctx, vk.ErrDeviceLost)
		w.fails(ctx, vk.ErrDeviceLost)
		w.close(nil)
	}},
	{"submission fails", "vkQueueSubmit:2:-2", func(t *testing.T) {
		w := newWork(t, vk.DeviceOptions{})
		w.succeeds()
		w.fails(ctx, vk.ErrOutOfDeviceMemory)
		w.succeeds()
		w.close(nil)
	}},
	{"upload given up", "vkWaitForFences:1+:never", func(t *testing.T) { upload(t, soon(t), context.DeadlineExceeded, vk.ErrHung) }},
	{"upload out of memory", "vkWaitForFences:2:-2", func(t *testing.T) { upload(t, ctx, nil, nil) }},
}

// upload fills a buffer through a ring of staging buffers, each used several times.
func upload(t *testing.T, during context.Context, want, closed error) {
	w := newWork(t, vk.DeviceOptions{Staged: true})
	dst, err := w.device.NewBuffer(1<<20, vk.DeviceLocal)
	if err != nil {
		t.Fatal(err)
	}
	up, err := w.device.NewUploader(during, 64<<10, 2)
	if err != nil {
		t.Fatal(err)
	}
	for off := int64(0); err == nil && off < dst.Size(); off += up.ChunkBytes() {
		err = up.Write(dst.Whole().Slice(off, up.ChunkBytes()), func(p []byte) error { clear(p); return nil })
	}
	if err := errors.Join(err, up.Flush()); !errors.Is(err, want) {
		t.Errorf("uploading: %v, want %v", err, want)
	}
	if err := errors.Join(up.Close(), dst.Close()); err != nil {
		t.Error(err)
	}
	w.close(closed)
}
