package pipeline

import (
	"context"
	"fmt"
	"math"

	"pumice/vk"
)

// A Frame is the buffers by which the host and the plans of a Manager tell each other what changes from Run to Run: the
// Step, the rows of a plan's input, how tokens are drawn, the log of what advancing plans have found, and outputs. The
// Manager owns it. All its plans are recorded with these buffers, so what a plan has left is there until the next Run of
// any of them.
//
// The host has a copy of the words in the Step buffer, which plans that advance change too, and sends only those that
// the device does not have.
type Frame struct {
	step, input, draw *vk.Buffer // which the host writes; nil where no plan has needed them
	adjust            adjuster   // the same: what Step.Adjust has
	log, readback     *vk.Buffer // which the device writes
	arrivals          *vk.Buffer // which it alone uses: of workgroups that join what they leave (split.glsl)

	walk *vk.Buffer // the state of linked kernels (package link)
	sink *vk.Buffer // what prefetches count in, which nobody reads

	settled bool // arrivals are 0, as kernels leave them; not where they are new, or a Run is under way or has failed

	words []byte // of the Step buffer, as the device has them; or unknownWord
	begun []byte // of the Step buffer, those that the last Run began with
	next  int    // entry of the log that is written next: what the Step buffer counts, modulo MaxBurst

	given *form // whose rows the input buffer has; nil means none
	ran   *form // of the last Run, whose results are there; nil means none or that the Run failed
	entry int   // of the log, which the last Run of a plan that chooses tokens has written first
	steps int   // of that Run, or rows
}

// A form is what a Frame knows of a plan.
type form struct {
	name    string
	singles int // as Builder has them
	logged  int // pairs in an entry of the log; 0 means the plan chooses no tokens
	draws   int // rows that the plan chooses a token for; 0 means that it advances, if it chooses one

	adjusted, masked logitsSize // the logits that a Step's Adjust changes, and those that it has masks for
}

// advances reports whether the plan changes the Step buffer for the step that follows.
func (p *form) advances() bool { return p.logged > 0 && p.draws == 0 }

// The draw buffer has how to choose (draw.glsl), followed by a number for each entry of the log. For a plan that draws
// rows, it has both for each row.
const (
	drawHow   = 16
	drawBytes = drawHow + 4*MaxBurst
	drawRow   = drawHow + 4
)

func logBytes(entries, pairs int) int64 { return 8 * int64(entries*pairs) }

// choiceBytes is the size of the draw buffer and of the log for a plan that chooses tokens of so many rows, 0 if it
// advances, and logs so many pairs for each.
func choiceBytes(rows, pairs int) (draw, log int64) {
	if rows > 0 {
		return drawRow * int64(rows), logBytes(rows, pairs)
	}
	return drawBytes, logBytes(MaxBurst, pairs)
}

// A Need is the memory in bytes that a plan shares with the other plans of its Manager.
type Need struct {
	Arena                            int64 // activations, on the device
	Step, Input, Draw, Log, Readback int64 // the Frame's buffers, which the host reads or writes
	Adjust, Mask                     int64 // the same
	Arrivals                         int64 // the one that the device uses
}

// Max is the memory that takes the plans of n and those of o.
func (n Need) Max(o Need) Need {
	return Need{
		Arena: max(n.Arena, o.Arena), Step: max(n.Step, o.Step), Input: max(n.Input, o.Input),
		Draw: max(n.Draw, o.Draw), Log: max(n.Log, o.Log), Readback: max(n.Readback, o.Readback),
		Adjust: max(n.Adjust, o.Adjust), Mask: max(n.Mask, o.Mask), Arrivals: max(n.Arrivals, o.Arrivals),
	}
}

// FrameBytes is the size of the Frame's buffers together.
func (n Need) FrameBytes() int64 {
	return n.Step + n.Input + n.Draw + n.Log + n.Readback + n.Adjust + n.Mask + n.Arrivals
}

// A shared is a buffer that plans share, and how much of it a Need takes.
type shared struct {
	name   string
	buffer **vk.Buffer
	use    vk.MemoryUse
	bytes  int64
}

// size is that of the buffer, 0 if there is none.
func (s shared) size() int64 {
	if *s.buffer == nil {
		return 0
	}
	return (*s.buffer).Size()
}

func (s shared) close() error {
	if *s.buffer == nil {
		return nil
	}
	err := (*s.buffer).Close()
	*s.buffer = nil
	return err
}

// Words of the Step buffer that a plan which advances changes: the position, the first token's id, and stepBurst.
const (
	stepPosition = stepSequence
	stepFirst    = stepTokens
)

// unknownWord is a word of the Step buffer that a Run which failed may have changed: no position and no id of a token.
const unknownWord = math.MaxUint32

// clearArrivals makes the arrivals and the state of linked kernels 0 where they may not be: of a dispatch that is divided, a Run that fails may have left a
// part undone.
func (f *Frame) clearArrivals(ctx context.Context, dev *vk.Device) error {
	if f.settled {
		return nil
	}
	for _, b := range []*vk.Buffer{f.arrivals, f.walk} {
		if b == nil {
			continue
		}
		if err := dev.Fill(ctx, b.Whole(), 0); err != nil {
			return err
		}
	}
	f.settled = true
	return nil
}

// begin sends what the device lacks of a step of p, and returns the bytes. From here on the Frame holds no results until
// the Run has succeeded.
func (f *Frame) begin(p *form, s Step) int64 {
	f.ran, f.settled = nil, false
	begun := f.begun[:stepBytes(s.Len())]
	copy(begun, f.words)
	s.write(begun, p.singles)
	if p.advances() && word(begun, stepBurst) == unknownWord {
		setWord(begun, stepBurst, uint32(f.next))
	}
	var bytes int64
	device := f.step.Mapped()
	for at := 0; at < len(begun); at += 4 {
		if w := word(begun, at); w != word(f.words, at) {
			setWord(device, at, w)
			bytes += 4
		}
	}
	copy(f.words, begun)
	bytes += f.adjust.sendAdjust(s.Adjust, p.adjusted, p.masked)
	if p.advances() {
		setWord(f.words, stepPosition, unknownWord)
		setWord(f.words, stepFirst, unknownWord)
		setWord(f.words, stepBurst, unknownWord)
	}
	if d := s.Draw; d != nil {
		buf := f.draw.Mapped()
		d.write(buf)
		for i, u := range d.Uniform {
			setWord(buf, drawHow+4*((f.next+i)%MaxBurst), math.Float32bits(u))
		}
		bytes += drawHow + 4*int64(len(d.Uniform))
	}
	for row := range s.Draws {
		d := &s.Draws[row]
		buf := f.draw.Mapped()[drawRow*row:]
		d.write(buf)
		setWord(buf, drawHow, math.Float32bits(d.Uniform[0]))
		bytes += drawRow
	}
	return bytes
}

// finish notes that the steps of a Run of p have succeeded.
func (f *Frame) finish(p *form, s Step, steps int) {
	f.ran, f.settled = p, true
	switch {
	case p.logged == 0:
		return
	case !p.advances():
		f.entry, f.steps = 0, s.Rows()
		return
	}
	f.entry, f.steps = f.next, steps
	f.next = (f.next + steps) % MaxBurst
	_, id := f.pair(steps-1, p.logged, p.logged-1)
	if id == noToken {
		id = 0 // as advance.comp has it
	}
	setWord(f.words, stepPosition, uint32(s.Sequences[0].Position+steps))
	setWord(f.words, stepFirst, id)
	setWord(f.words, stepBurst, word(f.begun, stepBurst)+uint32(steps))
}

// noToken is the token that was chosen where no logit was above -Inf. best.glsl calls it NONE.
const noToken = math.MaxUint32

// pair is a pair of an entry of the log, which has so many; step counts from the first of the last Run.
func (f *Frame) pair(step, pairs, i int) (value float32, id uint32) {
	entry := (f.entry + step) % MaxBurst
	raw := f.log.Whole().Slice(8*int64(entry*pairs+i), 8).Mapped()
	return math.Float32frombits(word(raw, 0)), word(raw, 4)
}

// holds is an error where the Frame does not have p's results.
func (f *Frame) holds(p *form) error {
	switch f.ran {
	case p:
		return nil
	case nil:
		return fmt.Errorf("pipeline: %s has no results: no run has succeeded, or the last one failed", p.name)
	}
	return fmt.Errorf("pipeline: %s has no results any more: %s has run since", p.name, f.ran.name)
}
