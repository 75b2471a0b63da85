//go:build !window

package main

import "pumice"

// A window is for programs built with the tag window.
type window struct{}

func (p *program) openWindow(*pumice.Options) error {
	return &usageError{"--window: this program has no windows; build it with go build -tags window ./cmd/pumice (docs/window.md)"}
}

func (w *window) follow(*pumice.Engine, string, bool) {}

func (p *program) closeWindow() {}
