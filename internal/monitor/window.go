//go:build window && cgo

package monitor

import (
	"context"
	"errors"
	"fmt"
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
	paused := false
	return w.Run(ctx, func(in present.Input, l *present.List) (reply present.Reply) {
		for _, key := range in.Keys {
			switch key {
			case ' ':
				paused = !paused
			case 's', 'S':
				reply.Screenshot = fmt.Sprintf("pumice-%s.png", time.Now().Format("20060102-150405"))
				note("writing %s", reply.Screenshot)
			case 'q', 'Q', present.KeyEscape:
				reply.Quit = true
			}
		}
		if !paused {
			view = s.View(time.Now())
		}
		reply.Idle = view.Idle()
		Draw(l, view, in, paused)
		return reply
	})
}
