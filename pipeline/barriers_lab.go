//go:build lab

package pipeline

// BufferBarriers is vk.RecorderOptions' of plans.
var BufferBarriers = false
