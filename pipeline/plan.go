package pipeline

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"time"

	"pumice/pipeline/kernels"
	"pumice/vk"
)

// Counters say what a Run did, counted while recording and not estimated.
type Counters struct {
	Submits           int64 `json:"submits"`
	Dispatches        int64 `json:"dispatches"`
	Barriers          int64 `json:"barriers"`
	Splits            int64 `json:"splits"`           // of the barriers: those that an event splits (Overlap)
	WeightBytes       int64 `json:"weight_bytes"`     // weights the kernels read, once for each tile of tokens, padding included
	PrefetchBytes     int64 `json:"prefetch_bytes"`   // weights that are read ahead besides (Overlap)
	KVBytes           int64 `json:"kv_bytes"`         // KV cache the kernels read
	ActivationBytes   int64 `json:"activation_bytes"` // tensors each dispatch is given
	HostToDeviceBytes int64 `json:"host_to_device_bytes"`
	DeviceToHostBytes int64 `json:"device_to_host_bytes"`
	MinimumBytes      int64 `json:"minimum_bytes"`     // weights once, unpadded, and live KV once
	Operations        int64 `json:"operations"`        // multiplications and additions of products with weights
	F16Operations     int64 `json:"f16_operations"`    // of these in float16
	Int8Operations    int64 `json:"int8_operations"`   // by dot products of 8-bit integers
	MatrixOperations  int64 `json:"matrix_operations"` // by cooperative matrices; what is left is in float32
	Records           int64 `json:"records"`           // command buffers recorded, 0 when replayed
}

// OperationsBy is how many of the Operations are of an arithmetic.
func (c Counters) OperationsBy(a kernels.Arithmetic) int64 {
	switch a {
	case kernels.F16:
		return c.F16Operations
	case kernels.Int8:
		return c.Int8Operations
	case kernels.Matrix:
		return c.MatrixOperations
	}
	return c.Operations - c.F16Operations - c.Int8Operations - c.MatrixOperations
}

// operate counts operations.
func (c *Counters) operate(a kernels.Arithmetic, n int64) {
	c.Operations += n
	switch a {
	case kernels.F16:
		c.F16Operations += n
	case kernels.Int8:
		c.Int8Operations += n
	case kernels.Matrix:
		c.MatrixOperations += n
	}
}

// Add adds d to c.
func (c *Counters) Add(d Counters) {
	c.Submits += d.Submits
	c.Dispatches += d.Dispatches
	c.Barriers += d.Barriers
	c.Splits += d.Splits
	c.WeightBytes += d.WeightBytes
	c.PrefetchBytes += d.PrefetchBytes
	c.KVBytes += d.KVBytes
	c.ActivationBytes += d.ActivationBytes
	c.HostToDeviceBytes += d.HostToDeviceBytes
	c.DeviceToHostBytes += d.DeviceToHostBytes
	c.MinimumBytes += d.MinimumBytes
	c.Operations += d.Operations
	c.F16Operations += d.F16Operations
	c.Int8Operations += d.Int8Operations
	c.MatrixOperations += d.MatrixOperations
	c.Records += d.Records
}

// A Plan is a recorded sequence of dispatches. Run replays it. One goroutine at a time uses
// it, and one plan of a Manager runs at a time. What it leaves is in the Manager's Frame, so it can be
// read until the next Run of any plan of the Manager.
type Plan struct {
	form
	m         *Manager
	open      bool
	tokens    int
	sequences int
	rows      int
	inputCols int      // of what Input writes; 0 means the plan has no input
	seen      []uint32 // a bit for each of adjusted's columns; 0 between calls

	recordings []*recording // of the same: as nodes are, and with linked kernels where there are chains; none after Close
	race       race         // between them
	at         *recording   // of the last Run
	outputs    []planOutput

	counters       Counters // that do not depend on the step
	minimumWeights int64
	operations     [4]int64        // of a token, by kernels.Arithmetic
	kv             map[kvKey]int64 // bytes a position
	ran            bool

	lists []*vk.Buffer // of linked kernels

	began time.Time // the last execution of the commands

	// Of that execution, with Options.Profile.
	took  time.Duration
	moved map[*node]moved
}

// A recording is the commands of a plan.
type recording struct {
	commands   *vk.Commands
	pace       *pace
	segments   []work  // of the commands, while recording
	dispatched []*node // in their order, a node once for each of its dispatches; not those of chains
}

type planOutput struct {
	name       string
	rows, cols int
	span       vk.Span
	tap        bool
}

// Tokens is the most tokens of a Step that the plan takes.
func (p *Plan) Tokens() int { return p.tokens }

// Run writes the step, submits the commands in segments of bounded time, and waits. It returns
// what it did. When ctx ends nothing more is submitted, and what is under way is given up
// (vk.Submission.Wait). After an error the KV cache may hold some of the step.
func (p *Plan) Run(ctx context.Context, s Step) (Counters, error) {
	if len(p.recordings) == 0 {
		return Counters{}, errClosed
	}
	steps := max(1, s.Burst)
	if err := errors.Join(p.checkStep(s), p.checkSteps(s, steps), p.checkAdjust(s, steps), p.checkInput()); err != nil {
		return Counters{}, fmt.Errorf("pipeline: %s: %w", p.name, err)
	}
	if err := p.m.dev.Settle(ctx); err != nil {
		return Counters{}, fmt.Errorf("pipeline: %s: %w", p.name, err)
	}
	if err := p.m.frame.clearArrivals(ctx, p.m.dev); err != nil {
		return Counters{}, fmt.Errorf("pipeline: %s: %w", p.name, err)
	}
	sent := p.m.frame.begin(&p.form, s)
	lane := p.race.next(len(p.recordings))
	p.at = p.recordings[lane]
	start := time.Now()
	submits, err := p.submit(ctx, s, steps)
	if err != nil {
		return Counters{}, fmt.Errorf("pipeline: %s at position %d: %w", p.name, s.Sequences[0].Position, err)
	}
	p.race.took(lane, time.Since(start)/time.Duration(steps))
	p.m.frame.finish(&p.form, s, steps)
	if p.m.opts.Profile {
		p.took = time.Since(p.began)
		p.account(s, steps-1)
	}
	var c Counters
	stats := p.at.commands.Stats()
	for i := range steps {
		c.Add(p.counters)
		c.Dispatches += int64(stats.Dispatches)
		c.Barriers += int64(stats.Barriers)
		c.Splits += int64(stats.Splits)
		for key, perPosition := range p.kv {
			c.KVBytes += perPosition * s.live(key, p.singles, i)
		}
		c.MinimumBytes += p.minimumWeights
		for a, n := range p.operations {
			c.operate(kernels.Arithmetic(a), n*int64(s.Len()))
		}
	}
	c.MinimumBytes += c.KVBytes
	c.Submits, c.HostToDeviceBytes = int64(submits), sent
	if !p.ran {
		c.Records = 1
	}
	p.ran = true
	return c, nil
}

// checkStep says what is wrong with a step for the plan.
func (p *Plan) checkStep(s Step) error {
	tokens, singles := s.Len(), s.singles(p.singles)
	if tokens < 1 || tokens > p.tokens {
		return fmt.Errorf("%d tokens in a plan for %d", tokens, p.tokens)
	}
	if most := p.tokens - p.singles; tokens-singles > most {
		return fmt.Errorf("%d tokens of sequences with several in a plan for %d", tokens-singles, most)
	}
	if n := len(s.Sequences); n > MaxSequences || n-singles > p.sequences {
		return fmt.Errorf("%d sequences, %d of them of one token, in a plan for %d and %d more", n, singles, p.singles, p.sequences)
	}
	if s.Rows() > p.rows {
		return fmt.Errorf("%d sequences in a plan for %d", s.Rows(), p.rows)
	}
	for i, q := range s.Sequences {
		if q.Position < 0 || q.Table < 0 || int64(q.Position)+int64(len(q.Tokens)) > math.MaxUint32 {
			return fmt.Errorf("position %d, page table %d", q.Position, q.Table)
		}
		if len(q.Tokens) == 0 {
			return fmt.Errorf("sequence %d has no tokens", i)
		}
		sum := 0
		for j, n := range q.Endings {
			if sum += n; n < 1 || sum > len(q.Tokens) {
				return fmt.Errorf("sequence %d of %d tokens in a run of %d", j, n, len(q.Tokens))
			}
		}
		if q.Endings != nil && sum != len(q.Tokens) {
			return fmt.Errorf("sequences of %d tokens in a run of %d", sum, len(q.Tokens))
		}
	}
	return nil
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

// checkAdjust reports what is wrong with the step's Adjust.
func (p *Plan) checkAdjust(s Step, steps int) error {
	if n := s.Rows(); len(s.Adjust) > n {
		return fmt.Errorf("%d rows of logits are adjusted, the step has %d", len(s.Adjust), n)
	}
	for row := range s.Adjust {
		if err := s.Adjust[row].checkFor(row, p.adjusted, p.masked, p.seen, steps); err != nil {
			return fmt.Errorf("row %d of logits: %w", row, err)
		}
	}
	return nil
}

// checkInput is an error where the plan's input is that of another plan, or missing.
func (p *Plan) checkInput() error {
	if p.inputCols > 0 && p.m.frame.given != &p.form {
		return errors.New("no input was given, or another plan's after it")
	}
	return nil
}

// Input gives the rows of the builder's Input tensor for the next Run, a row a token. It
// returns the bytes that cross to the device.
func (p *Plan) Input(ctx context.Context, rows []float32) (int64, error) {
	if p.inputCols == 0 || len(rows) == 0 || len(rows)%p.inputCols != 0 || len(rows) > p.tokens*p.inputCols {
		return 0, fmt.Errorf("pipeline: %s: %d values for an input of (%d, %d)", p.name, len(rows), p.tokens, p.inputCols)
	}
	if err := p.m.dev.Settle(ctx); err != nil {
		return 0, fmt.Errorf("pipeline: %s: %w", p.name, err)
	}
	p.m.frame.given = &p.form
	buf := p.m.frame.input.Mapped()
	for i, v := range rows {
		binary.LittleEndian.PutUint32(buf[4*i:], math.Float32bits(v))
	}
	return 4 * int64(len(rows)), nil
}

// repeats reports whether the commands may be submitted several times at once.
func (p *Plan) repeats() bool { return p.advances() && !p.m.opts.Profile }

// submit runs the commands to their end, a segment of them or all of them several times in each submission,
// and returns the number of submissions.
func (p *Plan) submit(ctx context.Context, s Step, steps int) (submits int, err error) {
	submission := func(sub *vk.Submission, err error) error {
		if err != nil {
			return err
		}
		submits++
		return sub.Wait(ctx)
	}
	pace := p.at.pace.start(s.Len(), s.longest()+steps-1)
	segments := p.at.commands.Segments()
	for steps > 0 {
		if err := ctx.Err(); err != nil {
			return submits, err
		}
		p.began = time.Now()
		if each, known := pace.expected(); known && steps > 1 && p.repeats() && 2*each <= submitTarget {
			n := min(steps, int(submitTarget/max(1, each)))
			start := time.Now()
			if err := submission(p.at.commands.SubmitTimes(ctx, n)); err != nil {
				return submits, err
			}
			pace.took(0, segments, time.Since(start)/time.Duration(n))
			steps -= n
			continue
		}
		for first := 0; first < segments; {
			if err := ctx.Err(); err != nil {
				return submits, err
			}
			end := pace.end(first)
			start := time.Now()
			if err := submission(p.at.commands.SubmitSegments(ctx, first, end)); err != nil {
				return submits, err
			}
			pace.took(first, end, time.Since(start))
			if first = end; s.Progress != nil {
				s.Progress(pace.share(end))
			}
		}
		steps--
	}
	return submits, nil
}

// Chosen returns the token that the last Run of a plan has chosen: in a step of a plan that advances, or for a row of one
// that draws them (Builder.Draw), counted from 0. It is no token, but 0xffffffff, if no logit was above -Inf. Chosen also
// reads the largest logits and their ids, largest first, as many as the lists hold: one, or TopLogits where the token was
// drawn. bytes is what crossed from the device.
func (p *Plan) Chosen(step int, logits []float32, ids []int) (id int, bytes int64, err error) {
	f := &p.m.frame
	if err := f.holds(&p.form); err != nil {
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

// Output reads rows first to first+n of an output of the last Run into dst, n * cols values.
// It returns the bytes that crossed from the device.
func (p *Plan) Output(name string, first, n int, dst []float32) (int64, error) {
	return p.fetch(name, false, first, n, dst)
}

// Tap reads rows of a tap of the last Run into dst.
func (p *Plan) Tap(name string, first, n int, dst []float32) error {
	_, err := p.fetch(name, true, first, n, dst)
	return err
}

// TapNames lists the taps in the order they were recorded.
func (p *Plan) TapNames() []string {
	var names []string
	for _, o := range p.outputs {
		if o.tap {
			names = append(names, o.name)
		}
	}
	return names
}

// Shape is the size of an output or a tap.
func (p *Plan) Shape(name string) (rows, cols int) {
	for _, o := range p.outputs {
		if o.name == name {
			return o.rows, o.cols
		}
	}
	return 0, 0
}

func (p *Plan) fetch(name string, tap bool, first, n int, dst []float32) (int64, error) {
	if err := p.m.frame.holds(&p.form); err != nil {
		return 0, err
	}
	for _, o := range p.outputs {
		if o.name != name || o.tap != tap {
			continue
		}
		if first < 0 || n < 0 || first+n > o.rows || len(dst) != n*o.cols {
			return 0, fmt.Errorf("pipeline: %s: rows %d to %d of output %q (%d, %d) into %d values", p.name, first, first+n, name, o.rows, o.cols, len(dst))
		}
		b := o.span.Slice(4*int64(first)*int64(o.cols), 4*int64(len(dst))).Mapped()
		for i := range dst {
			dst[i] = math.Float32frombits(binary.LittleEndian.Uint32(b[4*i:]))
		}
		return int64(len(b)), nil
	}
	return 0, fmt.Errorf("pipeline: %s has no output %q", p.name, name)
}

// A Timing is what the dispatches of one kernel at one size took in a plan's last Run.
type Timing struct {
	Kernel     string        // its variant, or Gaps
	Size       string        // of what it computes, as kernels.Shape has it: rows by columns of weights
	Workgroups int           // of each dispatch
	Calls      int           // dispatches
	Total      time.Duration // of the calls. A dispatch lasts from the end of the one before it, so that barriers count
	Bytes      int64         // of weights, live KV cache and tensors that the calls are given, each once a call
	Operations int64         // multiplications and additions of products and attention
	Arithmetic string        // of the operations, by its name; "" of none
}

// Gaps is the Kernel of the row that has the rest of a Run's time: copies, submissions, and waiting for them.
const Gaps = "gaps"

// moved is what a node is given and computes in a Run.
type moved struct{ weights, kv, tensors, operations int64 }

// moves counts what n is given at step i of a burst, in a plan of so many tokens and single ones.
func (n *node) moves(s Step, i, tokens, singles int) moved {
	x := moved{weights: n.weightBytes, operations: n.operations * n.rows}
	if n.rows == int64(tokens) {
		x.operations = n.operations * int64(s.Len())
	}
	if n.kv.perPosition > 0 {
		x.kv = n.kv.perPosition * s.live(n.kv.kvKey, singles, i)
		x.operations += n.pairOperations * s.pairs(n.kv.kvKey, singles, i, n.bidirectional)
	}
	for _, b := range n.binds {
		if t := b.tensor; t != nil && t.Rows == tokens {
			x.tensors += t.bytes() * int64(s.Len()) / int64(t.Rows)
		} else if t != nil {
			x.tensors += t.bytes()
		}
	}
	return x
}

func (x moved) bytes() int64 { return x.weights + x.kv + x.tensors }

// account notes what the dispatches are given at step i of a burst.
func (p *Plan) account(s Step, i int) {
	p.moved = map[*node]moved{}
	for _, n := range p.at.dispatched {
		if _, done := p.moved[n]; done {
			continue
		}
		p.moved[n] = n.moves(s, i, p.tokens, p.singles)
	}
}

// Profile sums what the last Run took by kernel and size, in order of first use; the last row is Gaps. The Manager must have
// been made with Options.Profile.
func (p *Plan) Profile() ([]Timing, error) {
	each, err := p.recordings[0].commands.Timings()
	if err != nil {
		return nil, err
	}
	var out []Timing
	at := map[[2]string]int{}
	gaps := p.took
	for i, d := range each {
		n := p.recordings[0].dispatched[i]
		key := [2]string{n.kernel, n.size}
		j, ok := at[key]
		if !ok {
			j = len(out)
			at[key] = j
			out = append(out, Timing{Kernel: n.kernel, Size: n.size, Workgroups: n.grid[0] * n.grid[1] * n.grid[2] / n.dispatches})
		}
		out[j].Calls++
		out[j].Total += d
		out[j].Bytes += p.moved[n].bytes() / int64(n.dispatches)
		if ops := p.moved[n].operations / int64(n.dispatches); ops > 0 {
			out[j].Operations += ops
			out[j].Arithmetic = kernels.PathOf(n.kernel).Arithmetic().String()
		}
		gaps -= d
	}
	return append(out, Timing{Kernel: Gaps, Total: max(0, gaps)}), nil
}

// Close frees the plan's commands.
func (p *Plan) Close() error {
	var errs []error
	if p.open {
		p.open = false
		p.m.plans.Add(-1)
	}
	for _, r := range p.recordings {
		errs = append(errs, r.commands.Close())
	}
	p.recordings = nil
	for _, list := range p.lists {
		errs = append(errs, list.Close())
	}
	p.lists = nil
	return errors.Join(errs...)
}
