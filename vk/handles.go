package vk

import "unsafe"

// Handles travel between the shim (uint64) and vulkan-go (pointers to incomplete C types, which the garbage collector does not follow)
// by reinterpreting their eight bytes. They are never held as unsafe.Pointer: a driver's handle may be any number, and the runtime
// refuses small ones in pointer variables.

// as gives a raw handle its vulkan-go type H, which is 8 bytes on every target that package shim builds for.
func as[H any](raw uint64) H { return *(*H)(unsafe.Pointer(&raw)) }

// rawOf is the reverse of as.
func rawOf[H any](h H) uint64 { return *(*uint64)(unsafe.Pointer(&h)) }
