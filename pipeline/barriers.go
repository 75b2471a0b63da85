//go:build !lab

package pipeline

// BufferBarriers is vk.RecorderOptions' of plans. A build with the tag lab can change it.
const BufferBarriers = false

// Walkers is Options.Walkers where those are 0. A build with the tag lab can change it.
const Walkers = 0
