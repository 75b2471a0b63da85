package vk

import vulkan "github.com/vulkan-go/vulkan"

// Access says how an operation uses a span.
type Access int

// Kinds of access.
const (
	Read Access = iota
	Write
	ReadWrite
)

func (a Access) writes() bool { return a != Read }

const (
	stageCompute  = uint32(vulkan.PipelineStageComputeShaderBit)
	stageTransfer = uint32(vulkan.PipelineStageTransferBit)
	stageHost     = uint32(vulkan.PipelineStageHostBit)

	// deviceAccess is every way in which our operations touch memory.
	deviceAccess = uint32(vulkan.AccessShaderReadBit) | uint32(vulkan.AccessShaderWriteBit) | uint32(vulkan.AccessTransferReadBit) |
		uint32(vulkan.AccessTransferWriteBit)
	writeAccess = uint32(vulkan.AccessShaderWriteBit) | uint32(vulkan.AccessTransferWriteBit)
)

// hazards remembers how bytes were used since the last barrier, by buffer. The zero value is empty.
type hazards struct {
	uses   map[*Buffer][]use
	stages uint32 // of all uses
	writes uint32 // access mask of the writes
}

// use is the bytes [from, to) of one operation.
type use struct {
	from, to int64
	write    bool
}

// conflicts reports whether using s must wait for an earlier use: a read for a write (RAW), a write for a read (WAR) or a write (WAW) of
// any common byte.
func (h *hazards) conflicts(s Span, a Access) bool {
	for _, u := range h.uses[s.Buffer] {
		if u.from < s.Offset+s.Size && s.Offset < u.to && (u.write || a.writes()) {
			return true
		}
	}
	return false
}

// add remembers a use by a stage.
func (h *hazards) add(s Span, a Access, stage uint32) {
	if h.uses == nil {
		h.uses = map[*Buffer][]use{}
	}
	h.uses[s.Buffer] = append(h.uses[s.Buffer], use{s.Offset, s.Offset + s.Size, a.writes()})
	h.stages |= stage
	if a.writes() && stage == stageTransfer {
		h.writes |= uint32(vulkan.AccessTransferWriteBit)
	} else if a.writes() {
		h.writes |= uint32(vulkan.AccessShaderWriteBit)
	}
}

// clear forgets everything, after a barrier that everything waits for.
func (h *hazards) clear() {
	for b, list := range h.uses {
		h.uses[b] = list[:0]
	}
	h.stages, h.writes = 0, 0
}
