//go:build lab

package pipeline

// BufferBarriers is vk.RecorderOptions' of plans.
var BufferBarriers = false

// Walkers is Options.Walkers where those are 0.
var Walkers = 0

// PrefetchBytes and SplitBytes are those of Options.Overlap where that is the zero value.
var (
	PrefetchBytes int64 = 0
	SplitBytes    int64 = 0
)
