package pipeline

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"time"

	"pumice/pipeline/kernels"
	"pumice/vk"
)

// Ceilings bound what kernels can do on a device (Williams, Waterman and Patterson 2009, doi:10.1145/1498765.1498785), as they
// were measured there. What could not be measured is 0.
type Ceilings struct {
	ReadBandwidth float64 `json:"read_bandwidth"` // bytes a second that a kernel reads
	CopyBandwidth float64 `json:"copy_bandwidth"` // bytes a second read and written by copies
	F32           float64 `json:"f32"`            // multiplications and additions a second of float32 numbers
	F16           float64 `json:"f16"`            // of float16 numbers, in pairs
	Int8          float64 `json:"int8"`           // of dot products of 8-bit integers
	Matrix        float64 `json:"matrix"`         // of cooperative matrices of float16, summed in float32

	SubmitUS   float64 `json:"submit_us"`   // from a submission of one small dispatch to its end, seen by the program
	DispatchUS float64 `json:"dispatch_us"` // that one more small dispatch takes
	BarrierUS  float64 `json:"barrier_us"`  // that it takes more if it waits for the one before
}

// Peak is the rate of an arithmetic.
func (c *Ceilings) Peak(a kernels.Arithmetic) float64 { return *c.peak(a) }

func (c *Ceilings) peak(a kernels.Arithmetic) *float64 {
	return [...]*float64{kernels.F32: &c.F32, kernels.F16: &c.F16, kernels.Int8: &c.Int8, kernels.Matrix: &c.Matrix}[a]
}

// Ceilings measures all of them. A device that is busy with other work has lower ones.
func (m *Manager) Ceilings(ctx context.Context) (c Ceilings, err error) {
	if c.ReadBandwidth, err = m.ReadBandwidth(ctx); err != nil {
		return c, err
	}
	if c.CopyBandwidth, err = m.CopyBandwidth(ctx); err != nil {
		return c, err
	}
	for _, a := range kernels.Arithmetics {
		if *c.peak(a), err = m.Peak(ctx, a); err != nil {
			return c, err
		}
	}
	return c, m.overheads(ctx, &c)
}

// What Peak dispatches: so many workgroups that every device is full, and rounds until a dispatch takes long enough for
// the submission not to count. On a CPU driver a few workgroups are enough.
const (
	peakWorkgroups    = 4096
	peakWorkgroupsCPU = 64
	peakTime          = 20 * time.Millisecond
	maxPeakRounds     = 1 << 20
)

// Peak measures how many multiplications and additions a second the device does in an arithmetic, in registers
// (kernels.Peak), or, of matrices on a CPU driver, with what is multiplied loaded from shared memory. It is 0 where the device has no such kernel, or computes wrong results with it.
func (m *Manager) Peak(ctx context.Context, a kernels.Arithmetic) (rate float64, err error) {
	if !m.Offers(kernels.Burst{}.Op(), a.Path()) {
		return 0, nil
	}
	burst := kernels.Burst{Rounds: 1, Workgroups: peakWorkgroups}
	if m.machine.CPU() { // its compiler moves products of what stays the same out of the loop
		burst.Workgroups, burst.Fresh = peakWorkgroupsCPU, true
	}
	from, to, closeBoth, err := m.peakBuffers(burst, a)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, closeBoth()) }()
	for {
		took, err := m.runBurst(ctx, burst, a, from, to)
		if err != nil {
			return 0, err
		}
		if took >= peakTime || burst.Rounds >= maxPeakRounds {
			return burst.Operations(m.machine, a) / took.Seconds(), nil
		}
		burst.Rounds *= min(16, max(2, int(peakTime/max(took, time.Microsecond))+1))
	}
}

// peakBuffers are the operands of a Burst, by which numbers stay finite, and room for its results.
func (m *Manager) peakBuffers(burst kernels.Burst, a kernels.Arithmetic) (from, to *vk.Buffer, closeBoth func() error, err error) {
	closeBoth = func() error {
		var errs []error
		for _, b := range []*vk.Buffer{from, to} {
			if b != nil {
				errs = append(errs, b.Close())
			}
		}
		return errors.Join(errs...)
	}
	fail := func(err error) (*vk.Buffer, *vk.Buffer, func() error, error) {
		return nil, nil, nil, errors.Join(fmt.Errorf("pipeline: buffers to measure arithmetic: %w", err), closeBoth())
	}
	if from, err = m.dev.NewBuffer(8*int64(burst.Units(m.machine, a)), vk.Upload); err != nil {
		return fail(err)
	}
	if to, err = m.dev.NewBuffer(4*int64(burst.Words(m.machine, a)), vk.DeviceLocal); err != nil {
		return fail(err)
	}
	const half, one = 0x38003800, 0x3c003c00 // pairs of 0.5 and of 1 in float16
	unit := make([]byte, 0, 8)               // x 0.5 + 1 goes to 2
	for _, word := range map[kernels.Arithmetic][]uint32{
		kernels.F32:    {0x3f000000, 0x3f800000},
		kernels.F16:    {half, one},
		kernels.Int8:   {0x01010101, 1},
		kernels.Matrix: {half, half},
	}[a] {
		unit = binary.LittleEndian.AppendUint32(unit, word)
	}
	copy(from.Mapped(), slices.Repeat(unit, burst.Units(m.machine, a)))
	return from, to, closeBoth, nil
}

// runBurst is the shortest time of three dispatches of a Burst, each submitted by itself.
func (m *Manager) runBurst(ctx context.Context, burst kernels.Burst, a kernels.Arithmetic, from, to *vk.Buffer) (best time.Duration, err error) {
	rec := m.dev.NewRecorder(vk.RecorderOptions{})
	if err := m.recordBurst(rec, burst, a, from.Whole(), to.Whole()); err != nil {
		return 0, err
	}
	commands, err := rec.Finish()
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, commands.Close()) }()
	return bestOf(ctx, commands)
}

func (m *Manager) recordBurst(rec *vk.Recorder, burst kernels.Burst, a kernels.Arithmetic, from, to vk.Span) error {
	k := kernels.Peak.Of(a.Path())
	variant := k.Path.Variant(burst.Op())
	n := &node{binds: []bind{readSpan(from), writeSpan(to)}}
	setKernel(n, m, &kernels.Peak, variant, k, burst)
	if err := n.match(m.variants[variant]); err != nil {
		return err
	}
	p, err := m.kernel(n)
	if err != nil {
		return err
	}
	rec.Dispatch(p, []vk.Bind{{Span: from, Access: vk.Read}, {Span: to, Access: vk.Write}}, n.push, n.grid[0], n.grid[1], n.grid[2])
	return nil
}

// manyDispatches are enough for their time to exceed that of the submission.
const manyDispatches = 256

// overheads measures what small dispatches cost: of one workgroup that computes nothing.
func (m *Manager) overheads(ctx context.Context, c *Ceilings) (err error) {
	one := kernels.Burst{Workgroups: 1}
	from, to, closeBoth, err := m.peakBuffers(kernels.Burst{Workgroups: manyDispatches}, kernels.F32)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, closeBoth()) }()
	words := 4 * int64(one.Words(m.machine, kernels.F32))
	measure := func(dispatches int, together bool) (us float64, err error) {
		rec := m.dev.NewRecorder(vk.RecorderOptions{})
		for i := range dispatches {
			at := int64(0) // of the results of the one before, which it waits for
			if together {
				at = words * int64(i)
			}
			if err := m.recordBurst(rec, one, kernels.F32, from.Whole(), to.Whole().Slice(at, words)); err != nil {
				return 0, err
			}
		}
		commands, err := rec.Finish()
		if err != nil {
			return 0, err
		}
		defer func() { err = errors.Join(err, commands.Close()) }()
		best := time.Duration(0)
		for range 8 {
			took, err := bestOf(ctx, commands)
			if err != nil {
				return 0, err
			}
			if best == 0 || took < best {
				best = took
			}
		}
		return float64(best.Nanoseconds()) / 1e3, nil
	}
	if c.SubmitUS, err = measure(1, true); err != nil {
		return err
	}
	free, err := measure(manyDispatches, true)
	if err != nil {
		return err
	}
	bound, err := measure(manyDispatches, false)
	c.DispatchUS = max(0, free-c.SubmitUS) / (manyDispatches - 1)
	c.BarrierUS = max(0, bound-free) / (manyDispatches - 1)
	return err
}
