package pipeline

import (
	"encoding/binary"
	"errors"
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
	adjust, mask      mirror     // the same: what Step.Adjust has
	log, readback     *vk.Buffer // which the device writes

	words []byte // of the Step buffer, as the device has them; or unknown
	begun []byte // of the Step buffer, those that the last Run began with
	next  int    // entry of the log that is written next: what the Step buffer counts, modulo MaxBurst

	given *Plan // whose rows the input buffer has; nil means none
	ran   *Plan // of the last Run, whose results are there; nil means none or that the Run failed
	entry int   // of the log, which the last Run of a plan that chooses tokens has written first
	steps int   // of that Run, or rows
}

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
}

// Max is the memory that takes the plans of n and those of o.
func (n Need) Max(o Need) Need {
	return Need{
		Arena: max(n.Arena, o.Arena), Step: max(n.Step, o.Step), Input: max(n.Input, o.Input),
		Draw: max(n.Draw, o.Draw), Log: max(n.Log, o.Log), Readback: max(n.Readback, o.Readback),
		Adjust: max(n.Adjust, o.Adjust), Mask: max(n.Mask, o.Mask),
	}
}

// FrameBytes is the size of the Frame's buffers together.
func (n Need) FrameBytes() int64 {
	return n.Step + n.Input + n.Draw + n.Log + n.Readback + n.Adjust + n.Mask
}

// A shared is a buffer that plans share, and how much of it a Need takes.
type shared struct {
	name   string
	buffer **vk.Buffer
	use    vk.MemoryUse
	bytes  int64
}

// shared lists the buffers that plans share.
func (m *Manager) shared(n Need) []shared {
	f := &m.frame
	return []shared{
		{"an arena", &m.arena, vk.DeviceLocal, n.Arena},
		{"a step buffer", &f.step, vk.Upload, n.Step},
		{"an input buffer", &f.input, vk.Upload, n.Input},
		{"a draw buffer", &f.draw, vk.Upload, n.Draw},
		{"a log buffer", &f.log, vk.Readback, n.Log},
		{"a read-back buffer", &f.readback, vk.Readback, n.Readback},
		{"an adjustment buffer", &f.adjust.buffer, vk.Upload, n.Adjust},
		{"a mask buffer", &f.mask.buffer, vk.Upload, n.Mask},
	}
}

// size is that of the buffer, 0 if there is none.
func (s shared) size() int64 {
	if *s.buffer == nil {
		return 0
	}
	return (*s.buffer).Size()
}

// Reserve sets aside at least so much memory for what plans share. Larger buffers are kept. It is called before the
// first plan is built, with the largest Builder.Need: the buffers can't grow while there are plans.
func (m *Manager) Reserve(n Need) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, s := range m.shared(n) {
		if s.size() >= s.bytes {
			continue
		}
		if plans := m.plans.Load(); plans > 0 {
			return fmt.Errorf("pipeline: %s of %d bytes was asked for, and %d plans use the one of %d", s.name, s.bytes, plans, s.size())
		}
		if err := s.close(); err != nil {
			return err
		}
		b, err := m.dev.NewBuffer(s.bytes, s.use)
		if err != nil {
			return fmt.Errorf("pipeline: %s of %d bytes: %w", s.name, s.bytes, err)
		}
		*s.buffer = b
		f := &m.frame
		f.given, f.ran = nil, nil
		switch s.buffer {
		case &f.step:
			clear(b.Mapped())
			f.words, f.begun, f.next = make([]byte, s.bytes), make([]byte, s.bytes), 0
		case &f.adjust.buffer:
			f.adjust.clear()
		case &f.mask.buffer:
			f.mask.clear()
		}
	}
	return nil
}

// lacks says which of the buffers is too small for a plan.
func (m *Manager) lacks(n Need) error {
	for _, s := range m.shared(n) {
		if s.size() < s.bytes {
			return fmt.Errorf("needs %s of %d bytes; Reserve was given %d", s.name, s.bytes, s.size())
		}
	}
	return nil
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

// unknown is a word of the Step buffer that a Run which failed may have changed: no position and no id of a token.
const unknown = math.MaxUint32

func word(buf []byte, at int) uint32       { return binary.LittleEndian.Uint32(buf[at:]) }
func setWord(buf []byte, at int, w uint32) { binary.LittleEndian.PutUint32(buf[at:], w) }

// begin sends what the device lacks of a step of p, and returns the bytes. From here on the Frame holds no results until
// the Run has succeeded.
func (f *Frame) begin(p *Plan, s Step) int64 {
	f.ran = nil
	begun := f.begun[:stepBytes(s.Len())]
	copy(begun, f.words)
	s.write(begun, p.singles)
	if p.advances() && word(begun, stepBurst) == unknown {
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
	bytes += f.sendAdjust(p, s)
	if p.advances() {
		setWord(f.words, stepPosition, unknown)
		setWord(f.words, stepFirst, unknown)
		setWord(f.words, stepBurst, unknown)
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

// end notes that the steps of a Run of p have succeeded.
func (f *Frame) end(p *Plan, s Step, steps int) {
	f.ran = p
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
func (f *Frame) holds(p *Plan) error {
	switch f.ran {
	case p:
		return nil
	case nil:
		return fmt.Errorf("pipeline: %s has no results: no run has succeeded, or the last one failed", p.name)
	}
	return fmt.Errorf("pipeline: %s has no results any more: %s has run since", p.name, f.ran.name)
}

// checkSteps reports what is wrong with the fields of a step that are about choosing tokens.
func (p *Plan) checkSteps(s Step, steps int) error {
	switch {
	case steps > MaxBurst, steps > 1 && (!p.advances() || s.Len() != 1):
		return fmt.Errorf("%d steps of %d tokens; %d of one token are possible where the plan advances", steps, s.Len(), MaxBurst)
	case (s.Draw != nil) != (p.advances() && p.logged > 1):
		return errors.New("a plan that draws tokens needs a draw, and no other takes one")
	case p.draws == 0 && len(s.Draws) > 0, p.draws > 0 && (len(s.Draws) != s.Rows() || s.Rows() > p.draws):
		return fmt.Errorf("%d draws of %d rows of results; the plan draws up to %d, each of its rows", len(s.Draws), s.Rows(), p.draws)
	case s.Draw != nil:
		return s.Draw.check(steps)
	}
	for row := range s.Draws {
		if err := s.Draws[row].check(1); err != nil {
			return fmt.Errorf("row %d: %w", row, err)
		}
	}
	return nil
}

// Chosen returns the token that the last Run of a plan has chosen: in a step of a plan that advances, or for a row of one
// that draws them (Builder.Draw), counted from 0. It is no token, but 0xffffffff, if no logit was above -Inf. Chosen also
// reads the largest logits and their ids, largest first, as many as the lists hold: one, or TopLogits where the token was
// drawn. bytes is what crossed from the device.
func (p *Plan) Chosen(step int, logits []float32, ids []int) (id int, bytes int64, err error) {
	f := &p.m.frame
	if err := f.holds(p); err != nil {
		return 0, 0, err
	}
	most := max(1, p.logged-1)
	if p.logged == 0 || step < 0 || step >= f.steps || len(logits) != len(ids) || len(ids) > most {
		return 0, 0, fmt.Errorf("pipeline: %s: %d largest logits of step %d; there are %d steps with %d", p.name, len(ids), step, f.steps, most)
	}
	for i := range ids {
		value, id := f.pair(step, p.logged, i)
		logits[i], ids[i] = value, int(id)
	}
	_, chosen := f.pair(step, p.logged, p.logged-1)
	read := len(ids)
	if p.logged > 1 || read == 0 {
		read++ // the choice
	}
	return int(chosen), 8 * int64(read), nil
}
