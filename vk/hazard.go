//go:build cgo

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

	// deviceAccess covers every kind of memory access that our operations make.
	deviceAccess = uint32(vulkan.AccessShaderReadBit) | uint32(vulkan.AccessShaderWriteBit) | uint32(vulkan.AccessTransferReadBit) |
		uint32(vulkan.AccessTransferWriteBit)
	writeAccess = uint32(vulkan.AccessShaderWriteBit) | uint32(vulkan.AccessTransferWriteBit)
)

// hazards records, for each buffer, which bytes were read or written since the last barrier, or up to a Split. The zero value is empty.
type hazards struct {
	uses   map[*Buffer][]use
	stages uint32 // of all uses
	writes uint32 // access mask of the writes
}

// use is one operation's access to bytes [from, to).
type use struct {
	from, to int64
	write    bool
}

// conflicts reports whether an access to s must wait for an earlier one: a read for a write (RAW), a write for a read
// (WAR) or a write for a write (WAW) of any common byte.
func (h *hazards) conflicts(s Span, a Access) bool {
	for _, u := range h.uses[s.Buffer] {
		if u.from < s.Offset+s.Size && s.Offset < u.to && (u.write || a.writes()) {
			return true
		}
	}
	return false
}

// add records an access by a stage.
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

// Ordered says which of a list of operations depend on one before them, where an operation is what it uses: those that must wait
// for all that come before them. What waited for the same does not count again.
func Ordered(list [][]Bind) []bool {
	var h hazards
	waits := make([]bool, len(list))
	for i, binds := range list {
		for _, b := range binds {
			if h.conflicts(b.Span, b.Access) {
				h.clear()
				waits[i] = true
				break
			}
		}
		for _, b := range binds {
			h.add(b.Span, b.Access, stageCompute)
		}
	}
	return waits
}

// written lists the handles of the buffers that were written.
func (h *hazards) written() []uint64 {
	var list []uint64
	for b, uses := range h.uses {
		for _, u := range uses {
			if u.write {
				list = append(list, rawOf(b.handle))
				break
			}
		}
	}
	return list
}

// clear forgets everything, after a barrier that all later operations wait for.
func (h *hazards) clear() {
	for b, list := range h.uses {
		h.uses[b] = list[:0]
	}
	h.stages, h.writes = 0, 0
}
