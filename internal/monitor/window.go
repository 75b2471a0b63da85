//go:build window && cgo

package monitor

import (
	"context"
	"encoding/binary"
	"errors"
	"math"
	"time"

	"pumice"
	"pumice/vk"
	"pumice/vk/present"
)

// Show shows a State in a window, drawn by a device, until the window is closed or ctx ends. It is called on the goroutine that
// owns the window: macOS wants the program's first thread for it. Space pauses, S writes a screenshot into the working
// directory, Escape and Q close the window, A, arrows and M choose weights of attention, and the mouse shows numbers. opened is
// called when the window is open; note is told of files that are written. An engine of this process is on the device.
func Show(ctx context.Context, dev *pumice.VulkanDevice, s *State, opened func(), note func(format string, args ...any)) (err error) {
	w, err := present.OpenWindow(dev, "pumice", 1100, 720)
	if err != nil {
		return err
	}
	values := values{dev: dev}
	defer func() { // in use by asking and by the window
		s.Ask(Choice{}, nil)
		s.Wait()
		err = errors.Join(err, w.Close(), values.close())
	}()
	opened()
	var view View
	var failed error
	c := newControls()
	err = w.Run(ctx, func(in present.Input, l *present.List) present.Reply {
		now := time.Now()
		reply := c.press(in.Keys, now, view.About)
		if reply.Screenshot != "" {
			note("writing %s", reply.Screenshot)
		}
		if failed = values.room(c.On, s.room()); failed != nil {
			return present.Reply{Quit: true}
		}
		wanted := c.Choice
		if c.paused { // what is shown stays
			wanted.On = false
		}
		s.Ask(wanted, values.buffer)
		if !c.paused {
			view = s.View(now)
		}
		if failed = values.show(w, view.Attention); failed != nil {
			return present.Reply{Quit: true}
		}
		reply.Idle = view.Idle()
		Draw(l, view, in, c.paused, func(position int) (float32, bool) { return values.read(view.Attention, position) })
		return reply
	})
	return errors.Join(err, failed)
}

// values are weights of attention on the device that draws.
type values struct {
	dev    *pumice.VulkanDevice
	buffer *vk.Buffer   // that an engine of this process leaves them in; nil before they are wanted
	older  []*vk.Buffer // that were too short
	sent   *vk.Buffer   // has those of a server
	stamp  uint32       // of these
}

// room is how many values an engine of this process leaves in a buffer; 0 for another one.
func (s *State) room() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.attention.local {
		return 0
	}
	return s.about.Context
}

// room makes room for weights of so many tokens, if they are wanted.
func (v *values) room(wanted bool, tokens int) (err error) {
	if !wanted || tokens == 0 || v.buffer != nil && v.buffer.Size() >= 4*int64(tokens) {
		return nil
	}
	if v.buffer != nil {
		v.older = append(v.older, v.buffer)
	}
	v.buffer, err = v.dev.NewBuffer(4*int64(tokens), vk.DeviceLocal)
	return err
}

// show has the window draw the weights: those of a server are sent to the device. The device does not draw meanwhile.
func (v *values) show(w *present.Window, a Attention) (err error) {
	switch {
	case a.Weights == nil && v.buffer == nil:
		return nil
	case a.Weights == nil:
		return w.SetValues(v.buffer.Whole())
	case v.sent == nil:
		if v.sent, err = v.dev.NewBuffer(4*textTokens, vk.Upload); err != nil {
			return err
		}
	}
	if a.Stamp != v.stamp {
		v.stamp = a.Stamp
		for i, x := range a.Weights {
			binary.LittleEndian.PutUint32(v.sent.Mapped()[4*i:], math.Float32bits(x))
		}
	}
	return w.SetValues(v.sent.Whole())
}

// read reads a weight for a person to see. It waits for the work that the device has.
func (v *values) read(a Attention, position int) (float32, bool) {
	i := position - a.First
	if a.Weights != nil {
		if i < 0 || i >= len(a.Weights) {
			return 0, false
		}
		return a.Weights[i], true
	}
	var raw [4]byte
	if i < 0 || v.buffer == nil || v.buffer.Size() < int64(4*i+4) || v.dev.Read(v.buffer.Whole().Slice(int64(4*i), 4), raw[:]) != nil {
		return 0, false
	}
	return math.Float32frombits(binary.LittleEndian.Uint32(raw[:])), true
}

// close frees the buffers.
func (v *values) close() error {
	var errs []error
	for _, b := range append(v.older, v.buffer, v.sent) {
		if b != nil {
			errs = append(errs, b.Close())
		}
	}
	return errors.Join(errs...)
}
