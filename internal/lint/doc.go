// Package lint holds tests of the source tree as a whole: which package may import which, that each says what it is, and
// that the licence is there. It has no code of its own.
package lint
