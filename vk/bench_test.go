package vk_test

import (
	"testing"

	"pumice/internal/gputest"
	"pumice/vk"
)

// BenchmarkRecordDispatch measures the host's cost of one dispatch: descriptor set, binding, push constants and hazard
// check.
func BenchmarkRecordDispatch(b *testing.B) {
	d := gputest.OpenWith(b, gputest.Options{NoValidation: true})
	x, z := newBuffer(b, d, 4096, vk.DeviceLocal), newBuffer(b, d, 4096, vk.DeviceLocal)
	p := addPipeline(b, d, 64, 0)
	binds, push := addBinds(x.Whole(), x.Whole(), z.Whole()), addPush(1024, 1)
	const dispatches = 200
	b.ReportAllocs()
	for b.Loop() {
		r := d.NewRecorder(vk.RecorderOptions{})
		for range dispatches {
			r.Dispatch(p, binds, push, 16, 1, 1)
		}
		c, err := r.Finish()
		if err != nil {
			b.Fatal(err)
		}
		c.Close()
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/dispatches, "ns/dispatch")
}

// BenchmarkReplay measures submitting one small dispatch and waiting for it: the cost of a token beside its kernels.
func BenchmarkReplay(b *testing.B) {
	d := gputest.OpenWith(b, gputest.Options{NoValidation: true})
	x := newBuffer(b, d, 256, vk.DeviceLocal)
	p := newPipeline(b, d, vk.PipelineConfig{Name: "increment", Bindings: storage1})
	r := d.NewRecorder(vk.RecorderOptions{})
	r.Dispatch(p, []vk.Bind{{Span: x.Whole(), Access: vk.ReadWrite}}, nil, 1, 1, 1)
	c := finish(b, r)
	b.ReportAllocs()
	for b.Loop() {
		run(b, c)
	}
}
