//go:build window && cgo

package monitor

import (
	"context"
	"errors"
	"time"

	"pumice"
	"pumice/vk/present"
)

// Show shows a State in a window, drawn by a device, until the window is closed or ctx ends. It is called on the goroutine that
// owns the window: macOS wants the program's first thread for it. Space pauses, S writes a screenshot into the working
// directory, Escape and Q close the window, and the mouse shows numbers. opened is called when the window is open; note is told
// of files that are written.
func Show(ctx context.Context, dev *pumice.VulkanDevice, s *State, opened func(), note func(format string, args ...any)) (err error) {
	w, err := present.OpenWindow(dev, "pumice", 1100, 720)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, w.Close()) }()
	opened()
	var view View
	var c controls
	return w.Run(ctx, func(in present.Input, l *present.List) present.Reply {
		now := time.Now()
		reply := c.press(in.Keys, now)
		if reply.Screenshot != "" {
			note("writing %s", reply.Screenshot)
		}
		if !c.paused {
			view = s.View(now)
		}
		reply.Idle = view.Idle()
		Draw(l, view, in, c.paused)
		return reply
	})
}
