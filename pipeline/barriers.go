//go:build !lab

package pipeline

// BufferBarriers is vk.RecorderOptions' of plans. A build with the tag lab can change it.
const BufferBarriers = false
