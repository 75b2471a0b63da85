package jinja

import (
	"context"
	"fmt"
	"time"
)

// Limits of parsing and rendering. They are far above what any published chat template needs.
const (
	maxSourceBytes = 1 << 20
	maxNesting     = 150    // brackets and blocks in the source
	maxDepth       = 2000   // nested evaluations, macro calls included
	maxName        = 256    // bytes of a name in the source, dots included
	maxArguments   = 64     // of a call, and parameters of a macro
	maxRange       = 100000 // elements of range(), as in jinja2's sandbox
	// Published templates take 0.16 steps and 5 bytes for each byte of their variables at most; see TestRealTemplatesAreFarFromTheLimits.
	baseSteps     = 1 << 20  // evaluations and iterations, each under 0.3 us; work on long strings counts by length
	stepsPerInput = 2        // further steps for each byte of the variables
	baseBytes     = 24 << 20 // values made while rendering, even if they become garbage
	bytesPerInput = 16       // and for each byte of the variables
	maxTime       = 10 * time.Second
)

// Memory of values besides the bytes of strings.
const (
	textBytes     = 48 // a string
	spanBytes     = 16 // one of its foreign spans
	itemBytes     = 24 // an element of a list, including a number that it may hold
	entryBytes    = 128
	functionBytes = 96
	scopeBytes    = 256
	bytesPerStep  = 32  // bytes of strings read per step
	madePerStep   = 256 // bytes of values made per step
)

// A budget holds the steps and bytes that one parsing or rendering may still spend. Making a value spends bytes, in
// make.go; reading one spends steps.
type budget struct {
	ctx      context.Context
	deadline time.Time
	steps    int
	bytes    int
	depth    int
	checked  int  // steps when the clock was last read
	convert  bool // variables are being converted: they raise the limits
}

func newBudget(ctx context.Context) budget {
	return budget{ctx: ctx, deadline: time.Now().Add(maxTime), steps: baseSteps, bytes: baseBytes}
}

// step spends n steps.
func (b *budget) step(n int) {
	b.steps -= n
	if b.steps < 0 {
		fail("the template takes too many steps")
	}
	if b.checked-b.steps > 4096 || b.checked == 0 {
		b.checked = b.steps
		if err := b.ctx.Err(); err != nil {
			panic(bail{msg: err.Error(), err: err})
		}
		if time.Now().After(b.deadline) {
			fail("the template takes too long: more than %s", maxTime)
		}
	}
}

// charge spends n bytes of memory.
func (b *budget) charge(n int) {
	if b.convert {
		b.bytes += n * bytesPerInput
		b.steps += n * stepsPerInput
		b.checked = b.steps
		return
	}
	b.bytes -= n
	if b.bytes < 0 || n < 0 {
		fail("the template uses too much memory")
	}
	b.step(1 + n/madePerStep)
}

// read spends the steps of reading a value once, which are few for all but strings.
func (b *budget) read(v any) {
	if t, ok := v.(text); ok {
		b.step(len(t.s) / bytesPerStep)
	}
}

func (b *budget) readArgs(a args) {
	for _, v := range a.list {
		b.read(v)
	}
	for _, v := range a.values {
		b.read(v)
	}
}

// enter and leave bound recursion: overflowing the stack ends a Go program.
func (b *budget) enter() {
	b.step(1)
	if b.depth++; b.depth > maxDepth {
		fail("nested too deeply: more than %d levels", maxDepth)
	}
}

func (b *budget) leave() { b.depth-- }

// How much of a template's text an error quotes.
const (
	maxQuoted = 80
	maxRaised = 4 << 10 // for raise_exception
)

// quote quotes text of a template for an error message.
func quote(s string) string {
	if len(s) > maxQuoted {
		return fmt.Sprintf("%q... (%d bytes)", s[:maxQuoted], len(s))
	}
	return fmt.Sprintf("%q", s)
}
