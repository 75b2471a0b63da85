//go:build window

package main

import (
	"context"
	"sync"

	"pumice"
	"pumice/internal/monitor"
)

// A window shows what the engines of the process do, one after another, on a device that is open as long as it is.
type window struct {
	device *pumice.Device
	state  monitor.State
	ctx    context.Context
	stop   context.CancelFunc
	work   sync.WaitGroup
}

// openWindow opens the window, if it is not open yet, and has o load its model to the device that draws it.
func (p *program) openWindow(o *pumice.Options) error {
	if p.window == nil {
		d, err := pumice.OpenDevice(*o)
		if err != nil {
			return err
		}
		w := &window{device: d}
		w.ctx, w.stop = context.WithCancel(p.interrupt.ctx)
		p.window = w
		opened, ended := make(chan struct{}), make(chan error, 1)
		w.work.Go(func() {
			err := monitor.Show(w.ctx, d.Vulkan(), &w.state, func() { close(opened) }, p.note)
			select {
			case <-opened:
				if err != nil {
					p.log.Error().Err(err).Msg("the window")
				}
			default:
				ended <- err
			}
		})
		select {
		case <-opened:
		case err := <-ended:
			return err
		}
	}
	o.On, o.Device = []*pumice.Device{p.window.device}, ""
	return nil
}

// follow shows an engine until it is closed.
func (w *window) follow(e *pumice.Engine, name string, profile bool) {
	w.work.Go(func() { w.state.Follow(w.ctx, e, name, profile) })
}

// closeWindow closes the window, if there is one. Its engines are closed.
func (p *program) closeWindow() {
	if w := p.window; w != nil {
		w.stop()
		w.work.Wait()
		if err := w.device.Close(); err != nil {
			p.log.Error().Err(err).Msg("the window's device")
		}
	}
}
