//go:build lab

package pipeline

// BufferBarriers is vk.RecorderOptions' of plans.
var BufferBarriers = false

// Walkers is Options.Walkers where those are 0.
var Walkers = 0
