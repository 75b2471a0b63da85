//go:build cgo

package vk

import "unsafe"

// A handle is converted between its type in the shim (uint64) and in vulkan-go (a pointer to an incomplete C type,
// which the garbage collector does not follow) by reinterpreting its eight bytes. It is never held as unsafe.Pointer: a
// driver's handle may be any number, and the runtime refuses small ones in pointer variables.

// as converts a raw handle to its vulkan-go type H, which has 8 bytes on every target that package shim builds for.
func as[H any](raw uint64) H { return *(*H)(unsafe.Pointer(&raw)) }

// rawOf is the reverse of as.
func rawOf[H any](h H) uint64 { return *(*uint64)(unsafe.Pointer(&h)) }
