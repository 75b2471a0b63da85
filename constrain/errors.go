package constrain

import (
	"errors"
	"fmt"
)

// What a grammar may take. The files are strangers', so each limit ends in a LimitError.
const (
	maxSource  = 1 << 20 // bytes of a schema, a grammar or a regular expression
	maxNesting = 200     // brackets in brackets of a grammar, values in values of a schema
	maxRepeats = 1 << 20 // the number in a counted repetition
	maxNodes   = 1 << 18 // expressions of a grammar, those found while it is used included: about 200 bytes each
	maxSearch  = 1 << 15 // steps to find out whether intersections have a text
	maxRules   = 1 << 16
	maxWalk    = 1 << 22  // readings tried at nodes of a trie for one mask
	maxThreads = 1 << 8   // readings of an ambiguous text that are followed at once
	maxDigits  = 400      // of a number in a schema, written without an exponent
	maxShapes  = 256      // alternatives of an array or an object
	maxMasks   = 16 << 20 // bytes of masks that are kept
)

// ErrNoText says that no text satisfies a grammar.
var ErrNoText = errors.New("constrain: no text satisfies it")

// ErrNotAllowed says that a Matcher was given a token that its mask does not allow.
var ErrNotAllowed = errors.New("constrain: the token is not allowed here")

// A SchemaError says what of a JSON Schema can't be honoured.
type SchemaError struct {
	Pointer string // the place in the schema, an RFC 6901 JSON pointer
	Keyword string // "" if the place is no schema
	Msg     string
}

func (e *SchemaError) Error() string {
	if e.Keyword == "" {
		return fmt.Sprintf("constrain: schema at %q: %s", e.Pointer, e.Msg)
	}
	return fmt.Sprintf("constrain: schema at %q: %s: %s", e.Pointer, e.Keyword, e.Msg)
}

// A SyntaxError says where a grammar or a regular expression is wrong, or what of it is not supported.
type SyntaxError struct {
	Kind   string // "grammar" or "regular expression"
	Offset int    // in bytes
	Line   int    // from 1
	Msg    string
}

func (e *SyntaxError) Error() string {
	return fmt.Sprintf("constrain: %s, line %d, byte %d: %s", e.Kind, e.Line, e.Offset, e.Msg)
}

// A LimitError says that a grammar is larger or harder than what is allowed.
type LimitError struct {
	What  string
	Limit int
}

func (e *LimitError) Error() string {
	return fmt.Sprintf("constrain: more than %d %s", e.Limit, e.What)
}
