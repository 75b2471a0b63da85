// Package lint holds tests of the whole source tree: which package may import which, that each has a doc comment, and
// that the licence is there. It has no code of its own.
package lint
