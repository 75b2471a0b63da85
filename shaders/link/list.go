package link

import "encoding/binary"

// Limits of an entry of the list.
const (
	MaxBindings = 12
	MaxPush     = 128 // bytes of push constants, with addresses
)

// An entry of the list is EntryBytes long:
//
//	u32 kernel, x, y, z      which kernel, and how many workgroups of it
//	u32 target, 3 zeros      what the counter of arrivals has when all workgroups have come here; 0: nothing to wait for
//	u64 buffers[MaxBindings] their addresses, by number of the binding
//	push constants           as the kernel has them
const (
	entryTarget  = 16
	entryBuffers = 32
	entryPush    = entryBuffers + 8*MaxBindings
	EntryBytes   = entryPush + MaxPush
)

// An Entry is a dispatch as the list has it.
type Entry struct {
	Kernel  int // of the list that Link was given
	Groups  [3]int
	Wait    int // waits of the list so far, with the one before this entry; 0: it doesn't wait
	Buffers []uint64
	Push    []byte // with addresses
}

// Append adds the entry to the list of a kernel that is dispatched with so many workgroups.
func (e *Entry) Append(list []byte, grid int) []byte {
	b := make([]byte, EntryBytes)
	put := binary.LittleEndian.PutUint32
	put(b, uint32(e.Kernel))
	for i, n := range e.Groups {
		put(b[4+4*i:], uint32(n))
	}
	put(b[entryTarget:], uint32(e.Wait*grid))
	for i, a := range e.Buffers {
		binary.LittleEndian.PutUint64(b[entryBuffers+8*i:], a)
	}
	copy(b[entryPush:], e.Push)
	return append(list, b...)
}

// The push constants of a linked kernel:
//
//	u32 entries          of the list
//	u32 tries            how often a workgroup looks whether the others have arrived, before it gives up
//	u32 goes_on          1: begins where the dispatch before has ended; 0: with the first entry
//	u32 0
//	u64 list             its address
//	u64 state            the address of StateWords words, zeros before the first dispatch
const (
	pushEntries = iota
	pushTries
	pushGoesOn
	_
	pushList
	pushState
)

// PushBytes is the size of the push constants without the addresses.
const PushBytes = 16

// Words of the state.
const (
	stateArrived  = iota
	stateLeft     // workgroups that have ended
	statePosition // the entry to go on with
	stateGroups   // x, y, z of the dispatch that goes on
	_
	_
	StateWords
)

// StateGroups is the byte of the state where an indirect dispatch finds how many workgroups have to go on: as many as the dispatch
// before had, or none.
const StateGroups = 4 * stateGroups
