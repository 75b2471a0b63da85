//go:build !lab

package pipeline

// BufferBarriers is vk.RecorderOptions' of plans. A build with the tag lab can change it.
const BufferBarriers = false

// Walkers is Options.Walkers where those are 0. A build with the tag lab can change it.
const Walkers = 0

// PrefetchBytes and SplitBytes are those of Options.Overlap where that is the zero value. A build with the tag lab can change them.
const (
	PrefetchBytes int64 = 0
	SplitBytes    int64 = 0
)
