package pipeline

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"

	"pumice/vk"
)

const (
	drawHeader = 16
	drawBytes  = drawHeader + 4*MaxBurst
)

func logBytes(pairs int) int64 { return MaxBurst * 8 * int64(pairs) }

// A burst is the state of a plan on the device: the Step buffer, and of a plan that advances what it draws with and the
// log of what each step has found. It sends the device no more than the device lacks.
type burst struct {
	step, draw, log *vk.Buffer

	logged int // pairs in an entry of the log; 0: the plan does not advance
	entry  int // of the log, that the last Run wrote first
	next   int // entry that is written next, as the Step buffer has it after a Run that succeeded
	steps  int // of the last Run

	// What the Step buffer holds if the last Run left it for the next.
	position, token int
	ready           bool
}

// check reports what is wrong with the fields of a step that are about advancing.
func (b *burst) check(s Step, steps int) error {
	switch {
	case steps > MaxBurst, steps > 1 && (b.logged == 0 || len(s.Tokens) != 1):
		return fmt.Errorf("%d steps of %d tokens; %d of one token are possible where the plan advances", steps, len(s.Tokens), MaxBurst)
	case (s.Draw != nil) != (b.logged > 1):
		return errors.New("a plan that draws tokens needs a draw, and no other takes one")
	case s.Draw == nil:
		return nil
	case !(s.Draw.Temperature > 0) || s.Draw.TopK < 1 || s.Draw.TopK > TopLogits || len(s.Draw.Uniform) != steps:
		return fmt.Errorf("draw %+v of %d steps", *s.Draw, steps)
	}
	return nil
}

// write gives the device what it does not have of the step, and returns the bytes.
func (b *burst) write(s Step) int64 {
	var sent int64
	if !b.ready || b.position != s.Position || len(s.Tokens) != 1 || b.token != s.Tokens[0] {
		sent = s.write(b.step.Mapped())
		if b.logged > 0 { // the device may be elsewhere, after a Run that failed
			binary.LittleEndian.PutUint32(b.step.Mapped()[stepBurst:], uint32(b.next))
			sent += 4
		}
	}
	b.ready = false // until the Run has succeeded
	if d := s.Draw; d != nil {
		buf := b.draw.Mapped()
		put := func(at int, v uint32) { binary.LittleEndian.PutUint32(buf[at:], v) }
		put(0, math.Float32bits(1/d.Temperature))
		put(4, uint32(d.TopK))
		put(8, math.Float32bits(d.TopP))
		put(12, math.Float32bits(d.MinP))
		for i, u := range d.Uniform {
			put(drawHeader+4*((b.next+i)%MaxBurst), math.Float32bits(u))
		}
		sent += drawHeader + 4*int64(len(d.Uniform))
	}
	return sent
}

// advanced notes that steps have succeeded.
func (b *burst) advanced(s Step, steps int) {
	if b.logged == 0 {
		return
	}
	b.entry, b.steps = b.next, steps
	b.next = (b.next + steps) % MaxBurst
	b.position, b.token, b.ready = s.Position+steps, b.Chosen(steps-1), true
}

// pair is a pair of an entry of the log; step counts from the first of the last Run.
func (b *burst) pair(step, i int) (value float32, id int) {
	entry := (b.entry + step) % MaxBurst
	raw := b.log.Whole().Slice(8*int64(entry*b.logged+i), 8).Mapped()
	return math.Float32frombits(binary.LittleEndian.Uint32(raw)), int(binary.LittleEndian.Uint32(raw[4:]))
}

// Chosen is the token that a step of the last Run of a plan that advances has chosen, steps counted from 0. It is no
// token, but 0xffffffff, if no logit was above -Inf.
func (b *burst) Chosen(step int) int {
	_, id := b.pair(step, b.logged-1)
	return id
}

// Top reads what a step of the last Run of a plan that advances has found: the largest logits and their ids, largest
// first, as many as the lists hold. It returns the bytes that crossed from the device.
func (b *burst) Top(step int, logits []float32, ids []int) (int64, error) {
	most := max(1, b.logged-1)
	if b.logged == 0 || step < 0 || step >= b.steps || len(logits) != len(ids) || len(ids) > most {
		return 0, fmt.Errorf("pipeline: %d largest logits of step %d; there are %d steps with %d", len(ids), step, b.steps, most)
	}
	for i := range ids {
		logits[i], ids[i] = b.pair(step, i)
	}
	return 8 * int64(len(ids)), nil
}
