package pages

import (
	"errors"
	"fmt"
)

var (
	// ErrFull says that too few pages are free or unused; it may be otherwise when another sequence gives up its pages.
	// The error is a *FullError.
	ErrFull = errors.New("pages: the pool is full")

	// ErrTooSmall says that the pool has too few pages even for one sequence alone. The error is a *FullError.
	ErrTooSmall = errors.New("pages: the pool is too small")

	// ErrReleased says that a sequence was used after Release.
	ErrReleased = errors.New("pages: the sequence was released")

	// ErrRetracted says that a sequence gave up its pages and was not resumed.
	ErrRetracted = errors.New("pages: the sequence was retracted")

	// ErrNotReserved says that tokens were committed for which Reserve made no room.
	ErrNotReserved = errors.New("pages: committed more than was reserved")
)

// A FullError says by how many pages a pool falls short. It is ErrTooSmall if Needed exceeds the pages of the pool, and
// otherwise ErrFull.
type FullError struct {
	Group     Group
	Wanted    int // pages that the call asked for beyond those that the sequence has
	Available int // pages that are free or unused
	Needed    int // pages that the sequence would have in all
	Pages     int // pages of the pool, without page 0
}

func (e *FullError) Error() string {
	if e.Needed > e.Pages {
		return fmt.Sprintf("pages: the sequence needs %d pages of %s layers, the pool has %d", e.Needed, e.Group, e.Pages)
	}
	return fmt.Sprintf("pages: wanted %d more pages of %s layers, %d of %d are available", e.Wanted, e.Group, e.Available,
		e.Pages)
}

// Is makes the error ErrFull or ErrTooSmall.
func (e *FullError) Is(target error) bool {
	if e.Needed > e.Pages {
		return target == ErrTooSmall
	}
	return target == ErrFull
}
