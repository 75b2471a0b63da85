package pipeline

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"time"

	"pumice/vk"
)

// Counters say what a Run did, counted while recording and not estimated.
type Counters struct {
	Submits           int64 `json:"submits"`
	Dispatches        int64 `json:"dispatches"`
	Barriers          int64 `json:"barriers"`
	WeightBytes       int64 `json:"weight_bytes"`     // weights the kernels read, once for each tile of tokens, padding included
	KVBytes           int64 `json:"kv_bytes"`         // KV cache the kernels read
	ActivationBytes   int64 `json:"activation_bytes"` // tensors each dispatch is given
	HostToDeviceBytes int64 `json:"host_to_device_bytes"`
	DeviceToHostBytes int64 `json:"device_to_host_bytes"`
	MinimumBytes      int64 `json:"minimum_bytes"` // weights once, unpadded, and live KV once
	Operations        int64 `json:"operations"`    // multiplications and additions of products with weights
	Records           int64 `json:"records"`       // command buffers recorded, 0 when replayed
}

// Add adds d to c.
func (c *Counters) Add(d Counters) {
	c.Submits += d.Submits
	c.Dispatches += d.Dispatches
	c.Barriers += d.Barriers
	c.WeightBytes += d.WeightBytes
	c.KVBytes += d.KVBytes
	c.ActivationBytes += d.ActivationBytes
	c.HostToDeviceBytes += d.HostToDeviceBytes
	c.DeviceToHostBytes += d.DeviceToHostBytes
	c.MinimumBytes += d.MinimumBytes
	c.Operations += d.Operations
	c.Records += d.Records
}

// A Plan is a recorded sequence of dispatches. Run replays it. One goroutine at a time uses
// it, and one plan of a Manager runs at a time. What it leaves is in the Manager's Frame, so it can be
// read until the next Run of any plan of the Manager.
type Plan struct {
	m         *Manager
	open      bool
	name      string
	tokens    int
	singles   int // as Builder has them
	sequences int
	rows      int
	inputCols int // of what Input writes; 0 means the plan has no input
	logged    int // pairs in an entry of the log; 0 means the plan chooses no tokens
	draws     int // rows that the plan chooses a token for; 0 means that it advances, if it chooses one

	adjusted, masked shape    // the logits that a Step's Adjust changes, and those that it has masks for
	seen             []uint32 // a bit for each of adjusted's columns; 0 between calls

	commands *vk.Commands
	pace     *pace
	segments []work // of the commands, while recording
	outputs  []planOutput
	kernels  []string // of each dispatch

	counters       Counters // that do not depend on the step
	minimumWeights int64
	operations     int64           // of a token
	kv             map[kvKey]int64 // bytes a position
	ran            bool
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
	if p.commands == nil {
		return Counters{}, errClosed
	}
	steps := max(1, s.Burst)
	if err := errors.Join(s.check(p), p.checkSteps(s, steps), p.checkAdjust(s, steps), p.checkInput()); err != nil {
		return Counters{}, fmt.Errorf("pipeline: %s: %w", p.name, err)
	}
	if err := p.m.dev.Settle(ctx); err != nil {
		return Counters{}, fmt.Errorf("pipeline: %s: %w", p.name, err)
	}
	sent := p.m.frame.begin(p, s)
	submits, err := p.submit(ctx, s, steps)
	if err != nil {
		return Counters{}, fmt.Errorf("pipeline: %s at position %d: %w", p.name, s.Sequences[0].Position, err)
	}
	p.m.frame.end(p, s, steps)
	var c Counters
	for i := range steps {
		c.Add(p.counters)
		for key, perPosition := range p.kv {
			c.KVBytes += perPosition * s.live(key, p.singles, i)
		}
		c.MinimumBytes += p.minimumWeights
		c.Operations += p.operations * int64(s.Len())
	}
	c.MinimumBytes += c.KVBytes
	c.Submits, c.HostToDeviceBytes = int64(submits), sent
	if !p.ran {
		c.Records = 1
	}
	p.ran = true
	return c, nil
}

// checkInput is an error where the plan's input is that of another plan, or missing.
func (p *Plan) checkInput() error {
	if p.inputCols > 0 && p.m.frame.given != p {
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
	p.m.frame.given = p
	buf := p.m.frame.input.Mapped()
	for i, v := range rows {
		binary.LittleEndian.PutUint32(buf[4*i:], math.Float32bits(v))
	}
	return 4 * int64(len(rows)), nil
}

// advances reports whether the plan moves the step on.
func (p *Plan) advances() bool { return p.logged > 0 && p.draws == 0 }

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
	pace := p.pace.start(s.Len(), s.longest()+steps-1)
	segments := p.commands.Segments()
	for steps > 0 {
		if err := ctx.Err(); err != nil {
			return submits, err
		}
		if each, known := pace.expected(); known && steps > 1 && p.repeats() && 2*each <= submitTarget {
			n := min(steps, int(submitTarget/max(1, each)))
			start := time.Now()
			if err := submission(p.commands.SubmitTimes(ctx, n)); err != nil {
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
			if err := submission(p.commands.SubmitSegments(ctx, first, end)); err != nil {
				return submits, err
			}
			pace.took(first, end, time.Since(start))
			first = end
		}
		steps--
	}
	return submits, nil
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
	if err := p.m.frame.holds(p); err != nil {
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

// A Timing is the device time of one kernel over a plan's last Run.
type Timing struct {
	Kernel string
	Calls  int
	Total  time.Duration
}

// Profile sums the device time of the last Run by kernel, in order of first use. The Manager
// must have been made with Options.Profile.
func (p *Plan) Profile() ([]Timing, error) {
	each, err := p.commands.Timings()
	if err != nil {
		return nil, err
	}
	var out []Timing
	at := map[string]int{}
	for i, d := range each {
		k := p.kernels[i]
		j, ok := at[k]
		if !ok {
			j = len(out)
			at[k] = j
			out = append(out, Timing{Kernel: k})
		}
		out[j].Calls++
		out[j].Total += d
	}
	return out, nil
}

// Close frees the plan's commands.
func (p *Plan) Close() error {
	var errs []error
	if p.open {
		p.open = false
		p.m.plans.Add(-1)
	}
	if p.commands != nil {
		errs = append(errs, p.commands.Close())
		p.commands = nil
	}
	return errors.Join(errs...)
}
