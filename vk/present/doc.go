// Package present draws on the device that computes. A List of boxes, lines and text is painted by a compute kernel
// (shaders/paint.comp) into pixels in device memory, those of a Canvas; nothing of a picture passes through the host, but
// what asks for it: Canvas.Image. With the build tag window, a Window shows them.
//
// Frames never delay computing: a Pace gives them a small share of the time, and others are dropped.
package present
