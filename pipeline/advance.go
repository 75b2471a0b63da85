package pipeline

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"

	"pumice/pipeline/kernels"
	"pumice/vk"
)

const (
	// MaxRuns is how many runs Step.Runs can ask for. advance.comp calls it LOG.
	MaxRuns = 32
	// DrawCandidates is how many candidates a token is drawn from by AdvanceDraw. advance.comp
	// calls it MAX_DRAW.
	DrawCandidates = 64
)

const (
	drawHeader = 16
	drawBytes  = drawHeader + 4*MaxRuns
)

func logBytes(pairs int) int64 { return MaxRuns * 8 * int64(pairs) }

// Advance ends a plan of one token: the largest of logits, (1, n), the lowest id among equals,
// becomes the token of the next run, one position on. Plan.Candidate reads it.
func (b *Builder) Advance(logits *Tensor) {
	pairs, tiles := b.tileBest(logits, 1)
	b.advance(pairs, tiles, 1)
}

// AdvanceDraw is Advance with a token that is drawn from the DrawCandidates largest logits as
// Step.Draw says. Plan.Candidates reads them, and Plan.Chosen the token.
func (b *Builder) AdvanceDraw(logits *Tensor) {
	b.advance(b.TopK(logits, DrawCandidates), DrawCandidates, DrawCandidates+1)
}

func (b *Builder) advance(pairs *Tensor, n, log int) {
	if b.tokens != 1 || b.log > 0 {
		b.Fail("advance: a plan of %d tokens, which advances %t; one token and once are possible", b.tokens, b.log > 0)
	}
	b.log = log
	launch(b, &kernels.Advance, kernels.Choice{N: n, Draw: log > 1}, kernels.RowMajor, &node{},
		bind{buffer: stepBuffer, access: vk.ReadWrite, view: kernels.Storage}, read(pairs),
		bind{buffer: drawBuffer, access: vk.Read, view: kernels.Storage}, bind{buffer: logBuffer, access: vk.Write, view: kernels.Storage})
}

// A Draw says how a token is chosen from the largest logits: by softmax at a temperature over
// the first TopK, of which TopP keeps the fewest that reach it together and MinP those of at
// least so much of the largest. It is package sample's choice in float32.
type Draw struct {
	Temperature float32   // above 0
	TopK        int       // 1 to DrawCandidates
	TopP        float32   // 1 is off
	MinP        float32   // 0 is off
	Uniform     []float32 // a number in [0, 1) for each run
}

// advance is the state of a plan that advances.
type advance struct {
	draw, log *vk.Buffer
	logged    int // pairs in an entry of the log; 0: the plan does not advance
	entry     int // of the log, that the last Run wrote first
	next      int // entry that is written next, as the Step buffer has it after a run that succeeded
	last      int // runs of the last Run

	// What the Step buffer holds if the last Run left it for the next.
	position, token int
	ready           bool
}

// repeats says whether the commands may be submitted several times at once.
func (p *Plan) repeats() bool { return p.logged > 0 && !p.m.opts.Profile }

// check says what is wrong with the part of a step that is about advancing.
func (p *Plan) check(s Step, runs int) error {
	switch {
	case runs > MaxRuns, runs > 1 && (p.logged == 0 || len(s.Tokens) != 1):
		return fmt.Errorf("%d runs of %d tokens; %d of one token are possible where the plan advances", runs, len(s.Tokens), MaxRuns)
	case (s.Draw != nil) != (p.logged > 1):
		return errors.New("a plan that draws tokens needs a draw, and no other takes one")
	case s.Draw == nil:
		return nil
	case !(s.Draw.Temperature > 0) || s.Draw.TopK < 1 || s.Draw.TopK > DrawCandidates || len(s.Draw.Uniform) != runs:
		return fmt.Errorf("draw %+v of %d runs", *s.Draw, runs)
	}
	return nil
}

// write gives the device what it does not have of the step, and returns the bytes.
func (p *Plan) write(s Step, runs int) int64 {
	var sent int64
	if !p.ready || p.position != s.Position || len(s.Tokens) != 1 || p.token != s.Tokens[0] {
		sent = s.write(p.step.Mapped())
		if p.logged > 0 { // the device may be elsewhere, after a run that failed
			binary.LittleEndian.PutUint32(p.step.Mapped()[stepRuns:], uint32(p.next))
			sent += 4
		}
	}
	p.ready = false // until the run has succeeded
	if d := s.Draw; d != nil {
		buf := p.draw.Mapped()
		put := func(at int, v uint32) { binary.LittleEndian.PutUint32(buf[at:], v) }
		put(0, math.Float32bits(1/d.Temperature))
		put(4, uint32(d.TopK))
		put(8, math.Float32bits(d.TopP))
		put(12, math.Float32bits(d.MinP))
		for i, u := range d.Uniform {
			put(drawHeader+4*((p.next+i)%MaxRuns), math.Float32bits(u))
		}
		sent += drawHeader + 4*int64(len(d.Uniform))
	}
	return sent
}

// advanced notes that runs have succeeded.
func (p *Plan) advanced(s Step, runs int) {
	if p.logged == 0 {
		return
	}
	p.entry, p.last = p.next, runs
	p.next = (p.next + runs) % MaxRuns
	p.position, p.token, p.ready = s.Position+runs, p.Chosen(runs-1), true
}

// pair is a pair of an entry of the log: run counts from the first of the last Run.
func (p *Plan) pair(run, i int) (value float32, id int) {
	entry := (p.entry + run) % MaxRuns
	b := p.log.Whole().Slice(8*int64(entry*p.logged+i), 8).Mapped()
	return math.Float32frombits(binary.LittleEndian.Uint32(b)), int(binary.LittleEndian.Uint32(b[4:]))
}

// Chosen is the token that run number run of the last Run of a plan that advances has chosen,
// counted from 0. It is no token, but 0xffffffff, if no logit was above -Inf.
func (p *Plan) Chosen(run int) int {
	_, id := p.pair(run, p.logged-1)
	return id
}

// Candidates reads what a run of the last Run has found: the largest logits and their ids,
// largest first, as many as the lists hold. It returns the bytes that crossed from the device.
func (p *Plan) Candidates(run int, logits []float32, ids []int) (int64, error) {
	most := max(1, p.logged-1)
	if p.logged == 0 || run < 0 || run >= p.last || len(logits) != len(ids) || len(ids) > most {
		return 0, fmt.Errorf("pipeline: %s: %d candidates of run %d; there are %d runs of %d", p.name, len(ids), run, p.last, most)
	}
	for i := range ids {
		logits[i], ids[i] = p.pair(run, i)
	}
	return 8 * int64(len(ids)), nil
}
