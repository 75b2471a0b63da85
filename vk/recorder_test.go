package vk_test

import (
	"encoding/binary"
	"errors"
	"strings"
	"testing"
	"time"

	"pumice/internal/gputest"
	"pumice/vk"
)

// op is one recorded operation on spans of buffers of 4096 bytes.
type op struct {
	kind    string // "d" dispatch of add: x, y, z; "c" copy: dst, src; "f" fill: dst; "s" Split
	x, y, z string
}

// span parses "a", or "a:1" for the second quarter of a.
func (o op) span(buffers map[string]vk.Span, name string) vk.Span {
	whole := buffers[name[:1]]
	if len(name) == 1 {
		return whole
	}
	quarter := whole.Size / 4
	return whole.Slice(int64(name[2]-'0')*quarter, quarter)
}

func TestBarriersComeFromOverlappingUses(t *testing.T) {
	d := gputest.Open(t)
	buffers := map[string]vk.Span{}
	for _, name := range strings.Split("abcdef", "") {
		buffers[name] = newBuffer(t, d, 4096, vk.DeviceLocal).Whole()
	}
	p := addPipeline(t, d, 64, 0)
	for _, test := range []struct {
		name string
		ops  []op
		want int
		// Of a barrier that Split began and that later operations end: how many.
		splits int
	}{
		{"independent", []op{{"d", "a", "b", "c"}, {"d", "a", "b", "d"}, {"d", "a", "b", "e"}}, 0, 0},
		{"read after write", []op{{"d", "a", "b", "c"}, {"d", "c", "b", "d"}}, 1, 0},
		{"write after read", []op{{"d", "a", "b", "c"}, {"d", "d", "e", "a"}}, 1, 0},
		{"write after write", []op{{"d", "a", "b", "c"}, {"d", "d", "e", "c"}}, 1, 0},
		{"disjoint ranges of one buffer", []op{{"d", "a", "b", "c:0"}, {"d", "c:1", "b", "d"}, {"d", "a", "b", "c:2"}}, 0, 0},
		{"overlapping ranges", []op{{"d", "a", "b", "c:1"}, {"d", "c", "b", "d"}}, 1, 0},
		{"one barrier flushes all", []op{{"d", "a", "b", "c"}, {"d", "a", "b", "d"}, {"d", "c", "b", "e"}, {"d", "d", "b", "f"}}, 1, 0},
		{"chain", []op{{"d", "a", "b", "c"}, {"d", "c", "b", "d"}, {"d", "d", "b", "e"}, {"d", "e", "b", "f"}}, 3, 0},
		{"reads only", []op{{"c", "c", "a", ""}, {"c", "d", "a", ""}, {"d", "a", "b", "e"}}, 0, 0},
		{"copy then dispatch", []op{{"c", "c", "a", ""}, {"d", "c", "b", "d"}}, 1, 0},
		{"dispatch then copy of an older result", []op{{"d", "a", "b", "c"}, {"d", "c", "b", "d"}, {"c", "e", "c", ""}}, 1, 0},
		{"fill then dispatch then fill", []op{{"f", "a", "", ""}, {"d", "a", "b", "c"}, {"f", "a", "", ""}}, 2, 0},
		{"split", []op{{"d", "a", "b", "c"}, {"s", "", "", ""}, {"d", "a", "b", "d"}, {"d", "c", "b", "e"}}, 1, 1},
		{"split, and later on what came in between", []op{{"d", "a", "b", "c"}, {"s", "", "", ""}, {"d", "a", "b", "d"}, {"d", "c", "b", "e"},
			{"d", "d", "b", "f"}}, 2, 1},
		{"what came in between depends", []op{{"d", "a", "b", "c"}, {"s", "", "", ""}, {"d", "c", "b", "d"}, {"d", "c", "b", "e"}}, 1, 1},
		{"on both sides of the split", []op{{"d", "a", "b", "c"}, {"s", "", "", ""}, {"d", "a", "b", "d"}, {"d", "c", "d", "e"}, {"d", "c", "d", "f"}}, 2, 1},
		{"split of a copy", []op{{"c", "c", "a", ""}, {"d", "a", "b", "d"}, {"s", "", "", ""}, {"f", "e", "", ""}, {"d", "c", "d", "f"}}, 1, 1},
		{"split after nothing", []op{{"s", "", "", ""}, {"d", "a", "b", "c"}}, 0, 0},
		{"split for nothing", []op{{"d", "a", "b", "c"}, {"s", "", "", ""}, {"d", "a", "b", "d"}}, 1, 1},
		{"split twice", []op{{"d", "a", "b", "c"}, {"s", "", "", ""}, {"d", "a", "b", "d"}, {"s", "", "", ""}, {"d", "c", "d", "e"}}, 2, 2},
	} {
		t.Run(test.name, func(t *testing.T) {
			r := d.NewRecorder(vk.RecorderOptions{})
			for _, o := range test.ops {
				switch o.kind {
				case "d":
					x, y, z := o.span(buffers, o.x), o.span(buffers, o.y), o.span(buffers, o.z)
					r.Dispatch(p, addBinds(x, y, z), addPush(int(min(x.Size, y.Size, z.Size)/4), 1), 16, 1, 1)
				case "c":
					r.Copy(o.span(buffers, o.x), o.span(buffers, o.y))
				case "f":
					r.Fill(o.span(buffers, o.x), 1)
				case "s":
					r.Split()
				}
			}
			c := finish(t, r)
			run(t, c)
			run(t, c)
			if got := c.Stats(); got.Barriers != test.want || got.Splits != test.splits {
				t.Errorf("%d barriers, %d of them split; want %d and %d", got.Barriers, got.Splits, test.want, test.splits)
			}
		})
	}
}

func TestTexelBufferReadsSubRange(t *testing.T) {
	d := gputest.Open(t)
	const texels = 192
	src := newBuffer(t, d, 64<<10, vk.Upload)
	dst := newBuffer(t, d, 16*texels, vk.DeviceLocal)
	for i := range src.Size() / 4 {
		binary.LittleEndian.PutUint32(src.Mapped()[4*i:], uint32(i)*2654435761)
	}
	p := newPipeline(t, d, vk.PipelineConfig{Name: "texel", Bindings: []vk.BindingKind{vk.UniformTexelBuffer, vk.StorageBuffer}, Spec: []uint32{16}})
	off := 4 * d.PhysicalDevice().Limits.MinTexelBufferOffsetAlignment
	span := src.Whole().Slice(off, 16*texels)
	r := d.NewRecorder(vk.RecorderOptions{})
	r.Dispatch(p, []vk.Bind{{Span: span, Format: vk.RGBA32Uint}, {Span: dst.Whole(), Access: vk.Write}}, nil, texels/16, 1, 1)
	r.Dispatch(p, []vk.Bind{{Span: span, Format: vk.RGBA32Uint}, {Span: dst.Whole(), Access: vk.Write}}, nil, texels/16, 1, 1)
	c := finish(t, r)
	run(t, c)
	if c.Stats().Barriers != 1 { // the second write after the first
		t.Errorf("%d barriers, want 1", c.Stats().Barriers)
	}
	if string(read(t, d, dst.Whole())) != string(span.Mapped()) {
		t.Error("texels differ from the bytes they were read from")
	}
}

func TestTexelReadWaitsForWrite(t *testing.T) {
	d := gputest.Open(t)
	a, b := newBuffer(t, d, 4096, vk.DeviceLocal), newBuffer(t, d, 4096, vk.DeviceLocal)
	p := newPipeline(t, d, vk.PipelineConfig{Name: "texel", Bindings: []vk.BindingKind{vk.UniformTexelBuffer, vk.StorageBuffer}, Spec: []uint32{16}})
	r := d.NewRecorder(vk.RecorderOptions{})
	r.Fill(a.Whole(), 7)
	r.Dispatch(p, []vk.Bind{{Span: a.Whole(), Format: vk.RGBA32Uint}, {Span: b.Whole(), Access: vk.Write}}, nil, 16, 1, 1)
	c := finish(t, r)
	run(t, c)
	if c.Stats().Barriers != 1 {
		t.Errorf("%d barriers, want 1", c.Stats().Barriers)
	}
	if got := word(read(t, d, b.Whole()), 1023); got != 7 {
		t.Errorf("read %d, want 7", got)
	}
}

// TestAddressesAreReadAndOrdered reads spans at device addresses, after the operations that wrote them, and checks that
// bad bindings are refused.
func TestAddressesAreReadAndOrdered(t *testing.T) {
	d := gputest.Open(t)
	if !d.PhysicalDevice().Features.BufferDeviceAddress {
		t.Skip("the device has no device addresses")
	}
	const n = 128
	src, dst := newBuffer(t, d, 4096, vk.DeviceLocal).Whole(), newBuffer(t, d, 4*n, vk.DeviceLocal).Whole()
	a, b := src.Slice(256, 4*n), src.Slice(1024, 4*n)
	kinds := []vk.BindingKind{vk.StorageBuffer, vk.DeviceAddress, vk.DeviceAddress}
	p := newPipeline(t, d, vk.PipelineConfig{Name: "address", Bindings: kinds, PushBytes: 4})
	push := binary.LittleEndian.AppendUint32(nil, 5)
	binds := []vk.Bind{{Span: dst, Access: vk.Write}, {Span: a}, {Span: b}}
	r := d.NewRecorder(vk.RecorderOptions{})
	r.Fill(a, 70)
	r.Fill(b, 600)
	r.Dispatch(p, binds, push, n/64, 1, 1)
	c := finish(t, r)
	if got := c.Stats().Barriers; got != 1 {
		t.Errorf("%d barriers, want one, between the fill and the dispatch that reads it", got)
	}
	sub, err := c.Submit(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if err := sub.Wait(ctx); err != nil {
		t.Fatal(err)
	}
	got := make([]byte, 4*n)
	if err := d.Read(dst, got); err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(got); i += 4 {
		if v := binary.LittleEndian.Uint32(got[i:]); v != 675 {
			t.Fatalf("element %d is %d, want 675", i/4, v)
		}
	}

	for name, bad := range map[string]vk.Bind{"offset": {Span: src.Slice(4, 4*n)}, "write": {Span: a, Access: vk.Write}} {
		r := d.NewRecorder(vk.RecorderOptions{})
		r.Dispatch(p, []vk.Bind{binds[0], bad, binds[2]}, push, 1, 1, 1)
		if _, err := r.Finish(); !errors.Is(err, vk.ErrLimit) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := d.NewPipeline(vk.PipelineConfig{Name: "order", SPIRV: spirv(t, "address"), Bindings: []vk.BindingKind{vk.DeviceAddress, vk.StorageBuffer}}); err == nil {
		t.Error("a binding after an address was accepted")
	}
}

func TestCommandsReplay(t *testing.T) {
	d := gputest.Open(t)
	for name, o := range map[string]vk.RecorderOptions{"all memory": {}, "buffers": {BufferBarriers: true}} {
		t.Run(name, func(t *testing.T) { replay(t, d, o, false) })
		t.Run(name+", split", func(t *testing.T) { replay(t, d, o, true) })
	}
}

// replay increments in many dispatches, each of which waits for the one before: with split, by a split barrier.
func replay(t *testing.T, d *vk.Device, o vk.RecorderOptions, split bool) {
	b := newBuffer(t, d, 64*4, vk.DeviceLocal)
	p := newPipeline(t, d, vk.PipelineConfig{Name: "increment", Bindings: storage1})
	r := d.NewRecorder(vk.RecorderOptions{})
	r.Fill(b.Whole(), 0)
	run(t, finish(t, r))
	r = d.NewRecorder(o)
	const dispatches, replays = 201, 100 // more sets than the first descriptor pool holds
	splits := 0
	for i := range dispatches {
		if split && i > 0 {
			r.Split()
			splits++
		}
		r.Dispatch(p, []vk.Bind{{Span: b.Whole(), Access: vk.ReadWrite}}, nil, 1, 1, 1)
	}
	c := finish(t, r)
	if s := c.Stats(); s.Dispatches != dispatches || s.Barriers != dispatches-1 || s.Splits != splits {
		t.Errorf("stats %+v", s)
	}
	var last *vk.Submission
	for range replays {
		s, err := c.Submit(ctx)
		if err != nil {
			t.Fatal(err)
		}
		last = s
	}
	if err := last.Wait(ctx); err != nil {
		t.Fatal(err)
	}
	for i := range 64 {
		if got := word(read(t, d, b.Whole()), i); got != dispatches*replays {
			t.Fatalf("element %d counts %d, want %d", i, got, dispatches*replays)
		}
	}
}

// TestSegmentsAreSubmittedSeparately cuts commands after every third increment, then submits their segments one by one,
// and all of them several times in one submission.
func TestSegmentsAreSubmittedSeparately(t *testing.T) {
	d := gputest.Open(t)
	b := newBuffer(t, d, 64*4, vk.DeviceLocal)
	p := newPipeline(t, d, vk.PipelineConfig{Name: "increment", Bindings: storage1})
	r := d.NewRecorder(vk.RecorderOptions{Repeat: true})
	for i := range 9 {
		if i%2 == 1 {
			r.Split() // the third is cut off
		}
		if i > 0 && i%3 == 0 {
			r.Cut()
		}
		if i == 0 {
			r.Fill(b.Whole(), 0)
		}
		r.Dispatch(p, []vk.Bind{{Span: b.Whole(), Access: vk.ReadWrite}}, nil, 1, 1, 1)
	}
	c := finish(t, r)
	if s := c.Stats(); c.Segments() != 3 || s.Dispatches != 9 || s.Barriers != 9 {
		t.Fatalf("%d segments, %+v; want 3 segments, 9 dispatches, 9 barriers", c.Segments(), s)
	}
	submit := func(s *vk.Submission, err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		if err := s.Wait(ctx); err != nil {
			t.Fatal(err)
		}
	}
	for _, step := range []struct{ first, end, want int }{{0, 1, 3}, {1, 2, 6}, {2, 3, 9}, {1, 3, 15}, {0, 3, 9}} {
		submit(c.SubmitSegments(ctx, step.first, step.end))
		if got := word(read(t, d, b.Whole()), 5); int(got) != step.want {
			t.Errorf("after segments %d to %d: %d, want %d", step.first, step.end, got, step.want)
		}
	}
	submit(c.SubmitTimes(ctx, 4)) // each begins with the fill
	submit(c.SubmitSegments(ctx, 1, 3))
	if got := word(read(t, d, b.Whole()), 5); got != 15 {
		t.Errorf("after four times and two segments: %d, want 15", got)
	}
	for _, bad := range [][2]int{{-1, 1}, {0, 4}, {2, 2}} {
		if _, err := c.SubmitSegments(ctx, bad[0], bad[1]); err == nil {
			t.Errorf("segments %v: no error", bad)
		}
	}
	r = d.NewRecorder(vk.RecorderOptions{})
	r.Fill(b.Whole(), 0)
	if _, err := finish(t, r).SubmitTimes(ctx, 2); err == nil {
		t.Error("several times without Repeat: no error")
	}
}

func TestDispatchPartStartsAtItsBase(t *testing.T) {
	d := gputest.Open(t)
	b := newBuffer(t, d, 256*4, vk.DeviceLocal)
	p := newPipeline(t, d, vk.PipelineConfig{Name: "increment", Bindings: storage1, DispatchBase: true})
	whole := newPipeline(t, d, vk.PipelineConfig{Name: "increment", Bindings: storage1})
	binds := []vk.Bind{{Span: b.Whole(), Access: vk.ReadWrite}}
	r := d.NewRecorder(vk.RecorderOptions{})
	r.Fill(b.Whole(), 0)
	r.DispatchBase(p, binds, nil, [3]int{0, 0, 0}, [3]int{1, 1, 1})
	r.DispatchBase(p, binds, nil, [3]int{1, 0, 0}, [3]int{2, 1, 1})
	c := finish(t, r)
	run(t, c)
	if s := c.Stats(); s.Dispatches != 2 || s.Barriers != 1 {
		t.Errorf("%d dispatches, %d barriers; want 2, and 1 after the fill", s.Dispatches, s.Barriers)
	}
	got := read(t, d, b.Whole())
	for i := range 256 {
		want := uint32(1)
		if i >= 192 {
			want = 0
		}
		if word(got, i) != want {
			t.Fatalf("element %d counts %d, want %d", i, word(got, i), want)
		}
	}
	r = d.NewRecorder(vk.RecorderOptions{})
	r.DispatchBase(whole, binds, nil, [3]int{1, 0, 0}, [3]int{1, 1, 1})
	if _, err := r.Finish(); err == nil {
		t.Error("a pipeline without DispatchBase: no error")
	}
}

func TestTimingsOfEachDispatch(t *testing.T) {
	d := gputest.Open(t)
	if d.PhysicalDevice().Limits.TimestampValidBits == 0 {
		t.Skip("the device has no timestamps")
	}
	b := newBuffer(t, d, 1<<20, vk.DeviceLocal)
	p := newPipeline(t, d, vk.PipelineConfig{Name: "increment", Bindings: storage1})
	r := d.NewRecorder(vk.RecorderOptions{Timestamps: true})
	r.Fill(b.Whole(), 0)
	const n = 300 // more than one query pool
	for range n {
		r.Dispatch(p, []vk.Bind{{Span: b.Whole(), Access: vk.ReadWrite}}, nil, 64, 1, 1)
	}
	c := finish(t, r)
	if _, err := c.Timings(); err == nil {
		t.Error("no error from timings before the first submission")
	}
	for range 2 {
		start := time.Now()
		run(t, c)
		wall := time.Since(start)
		times, err := c.Timings()
		if err != nil {
			t.Fatal(err)
		}
		var sum time.Duration
		for _, d := range times {
			sum += d
			if d < 0 {
				t.Errorf("negative time %v", d)
			}
		}
		if len(times) != n || sum <= 0 || sum > 2*wall {
			t.Errorf("%d timings, sum %v in a submission of %v", len(times), sum, wall)
		}
	}
}

func TestSubgroupSizeIsWhatTheShaderSees(t *testing.T) {
	d := gputest.Open(t)
	l, f := d.PhysicalDevice().Limits, d.PhysicalDevice().Features
	if !f.SubgroupBasic {
		t.Skip("no subgroup operations in compute")
	}
	b := newBuffer(t, d, 8, vk.Readback)
	measure := func(size int) uint32 {
		p := newPipeline(t, d, vk.PipelineConfig{Name: "subgroup", Bindings: storage1, SubgroupSize: size})
		r := d.NewRecorder(vk.RecorderOptions{})
		r.Dispatch(p, []vk.Bind{{Span: b.Whole(), Access: vk.Write}}, nil, 1, 1, 1)
		run(t, finish(t, r))
		return word(b.Mapped(), 0)
	}
	if got := measure(0); int(got) != l.SubgroupSize && l.MinSubgroupSize == l.MaxSubgroupSize {
		t.Errorf("subgroup size %d, limits say %d", got, l.SubgroupSize)
	}
	if f.SubgroupSizeControl {
		for n := l.MinSubgroupSize; n <= l.MaxSubgroupSize; n *= 2 {
			if got := measure(n); int(got) != n {
				t.Errorf("required subgroup size %d, shader sees %d", n, got)
			}
		}
	}
	_, err := d.NewPipeline(vk.PipelineConfig{Name: "subgroup", SPIRV: spirv(t, "subgroup"), Bindings: storage1, SubgroupSize: 2 * l.MaxSubgroupSize})
	if !errors.Is(err, vk.ErrLimit) {
		t.Errorf("subgroup size over the maximum: %v", err)
	}
}

func TestRecorderRefusesBadUse(t *testing.T) {
	d := gputest.Open(t)
	l := d.PhysicalDevice().Limits
	a, b := newBuffer(t, d, 4096, vk.DeviceLocal), newBuffer(t, d, 4096, vk.DeviceLocal)
	add := addPipeline(t, d, 64, 0)
	texel := newPipeline(t, d, vk.PipelineConfig{Name: "texel", Bindings: []vk.BindingKind{vk.UniformTexelBuffer, vk.StorageBuffer}, Spec: []uint32{16}})
	closed := newBuffer(t, d, 4096, vk.DeviceLocal)
	closed.Close()
	w, push := a.Whole(), addPush(1, 1)
	for _, test := range []struct {
		name, want string
		record     func(r *vk.Recorder)
	}{
		{"too few bindings", "2 bindings given, want 3", func(r *vk.Recorder) {
			r.Dispatch(add, addBinds(w, w, w)[:2], push, 1, 1, 1)
		}},
		{"push size", "4 bytes of push constants given, want 8", func(r *vk.Recorder) {
			r.Dispatch(add, addBinds(w, w, w), push[:4], 1, 1, 1)
		}},
		{"no workgroups", "workgroups", func(r *vk.Recorder) { r.Dispatch(add, addBinds(w, w, w), push, 0, 1, 1) }},
		{"too many workgroups", "workgroups", func(r *vk.Recorder) {
			r.Dispatch(add, addBinds(w, w, w), push, l.MaxComputeWorkGroupCount[0]+1, 1, 1)
		}},
		{"span outside", "not inside its buffer", func(r *vk.Recorder) {
			r.Dispatch(add, addBinds(vk.Span{Buffer: a, Offset: 4000, Size: 100}, w, w), push, 1, 1, 1)
		}},
		{"no buffer", "without a buffer", func(r *vk.Recorder) { r.Dispatch(add, addBinds(vk.Span{}, w, w), push, 1, 1, 1) }},
		{"closed buffer", "closed", func(r *vk.Recorder) { r.Dispatch(add, addBinds(closed.Whole(), w, w), push, 1, 1, 1) }},
		{"texel written", "read only", func(r *vk.Recorder) {
			r.Dispatch(texel, []vk.Bind{{Span: w, Access: vk.Write, Format: vk.RGBA32Uint}, {Span: b.Whole()}}, nil, 1, 1, 1)
		}},
		{"half a texel", "texel span", func(r *vk.Recorder) {
			r.Dispatch(texel, []vk.Bind{{Span: w.Slice(0, 24), Format: vk.RGBA32Uint}, {Span: b.Whole()}}, nil, 1, 1, 1)
		}},
		{"copy sizes", "sizes differ", func(r *vk.Recorder) { r.Copy(w.Slice(0, 8), b.Whole()) }},
		{"copy overlap", "overlap", func(r *vk.Recorder) { r.Copy(w.Slice(0, 8), w.Slice(4, 8)) }},
		{"fill of bytes", "whole words", func(r *vk.Recorder) { r.Fill(w.Slice(0, 3), 0) }},
	} {
		r := d.NewRecorder(vk.RecorderOptions{})
		test.record(r)
		r.Fill(w, 0) // the error sticks
		if _, err := r.Finish(); err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: error %v, want one with %q", test.name, err, test.want)
		}
		if _, err := r.Finish(); !errors.Is(err, vk.ErrClosed) {
			t.Errorf("%s: second Finish: %v", test.name, err)
		}
	}
}

func TestDispatchWithoutNewBarrierCostsNoAllocation(t *testing.T) {
	d := gputest.OpenWith(t, gputest.Options{NoValidation: true})
	a, b, c := newBuffer(t, d, 4096, vk.DeviceLocal), newBuffer(t, d, 4096, vk.DeviceLocal), newBuffer(t, d, 4096, vk.DeviceLocal)
	p := addPipeline(t, d, 64, 0)
	r := d.NewRecorder(vk.RecorderOptions{})
	defer func() { finish(t, r) }()
	binds, push := addBinds(a.Whole(), b.Whole(), c.Whole()), addPush(1024, 1)
	for range 100 {
		r.Dispatch(p, binds, push, 16, 1, 1)
	}
	if n := testing.AllocsPerRun(100, func() { r.Dispatch(p, binds, push, 16, 1, 1) }); n > 2 {
		t.Errorf("%v allocations per dispatch", n)
	}
}
