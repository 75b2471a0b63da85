// Package vk drives Vulkan compute devices: it finds them (Instance, PhysicalDevice), keeps memory on them (Device, Buffer, Pool, Span,
// Uploader), compiles SPIR-V into pipelines (Pipeline) and records dispatches once for many replays (Recorder, Commands, Submission).
//
// It knows nothing of tensors or models. Everything returned by a New or Open function is owned by the caller and has a Close that is
// idempotent, waits for the device where it must, and closes children first; closing a Device closes everything made on
// it. A failed Vulkan call returns an *Error that names the call and matches one of the sentinels where a caller can
// act.
//
// A Device, its Pools, Uploaders and NewPipeline are safe for concurrent use. A Recorder and its Commands belong to one goroutine at a time.
package vk
