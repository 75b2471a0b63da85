package pages

import "context"

// A Mover copies pages on behalf of a Pool. Host memory is numbered as the device's is: its pages are 0 to
// Options.HostPages[g]-1 for each group.
type Mover interface {
	// Move does all of moves, in any order: no move of a call writes what another reads or writes. When it returns nil,
	// the moves are done, or will be before any work that is submitted later. When it returns an error, which may be
	// the context's, what they read is as it was and what they should have written is undefined; those that are still
	// under way end before work that is submitted later. The slice is valid during the call.
	Move(ctx context.Context, moves []Move) error
}

// A Move is a page to copy.
type Move struct {
	Kind     MoveKind
	Group    Group
	From, To int32
	Rows     int // only the first Rows positions of the page need copying
}

// A MoveKind says from where to where a Move goes.
type MoveKind int

const (
	Copy MoveKind = iota // from a page of the device to another
	Save                 // from a page of the device to one of host memory
	Load                 // from a page of host memory to one of the device
)

func (k MoveKind) String() string { return [...]string{"copy", "save", "load"}[k] }
