package vk_test

import (
	"context"
	"errors"
	"testing"

	"pumice/internal/gputest"
	"pumice/vk"
)

func TestCompilesCountsPipelinesAndTheirProcessorTime(t *testing.T) {
	d := gputest.Open(t)
	before := vk.Compiles()
	p := addPipeline(t, d, 64, 0)
	n := newBuffer(t, d, 1024, vk.DeviceLocal)
	binds := addBinds(n.Whole(), n.Whole(), n.Whole())
	if err := p.Finish(context.Background(), binds); err != nil {
		t.Fatal(err)
	}
	after := vk.Compiles()
	if got := after.Pipelines - before.Pipelines; got != 1 {
		t.Errorf("%d pipelines counted, want 1", got)
	}
	if p.CompileCPU() <= 0 || after.CPU-before.CPU != p.CompileCPU() {
		t.Errorf("the pipeline took %v, the process %v", p.CompileCPU(), after.CPU-before.CPU)
	}
	took := p.CompileCPU()
	if err := p.Finish(context.Background(), binds); err != nil {
		t.Fatal(err)
	}
	if p.CompileCPU() != took {
		t.Errorf("a second Finish took %v", p.CompileCPU()-took)
	}
	if err := p.Close(); err != nil {
		t.Fatal(err)
	}
}

// TestFinishWritesNothing runs a kernel that would write, without workgroups.
func TestFinishWritesNothing(t *testing.T) {
	d := gputest.Open(t)
	p := newPipeline(t, d, vk.PipelineConfig{Name: "increment", Bindings: storage1})
	b := newBuffer(t, d, 1024, vk.DeviceLocal)
	before := read(t, d, b.Whole())
	if err := p.Finish(context.Background(), []vk.Bind{{Span: b.Whole(), Access: vk.ReadWrite}}); err != nil {
		t.Fatal(err)
	}
	if string(read(t, d, b.Whole())) != string(before) {
		t.Error("the buffer changed")
	}
}

func TestFinishChecksWhatItIsGiven(t *testing.T) {
	d := gputest.Open(t)
	p := addPipeline(t, d, 64, 0)
	if d.PhysicalDevice().Type != vk.CPU {
		t.Skip("not a CPU driver: Finish does nothing")
	}
	if err := p.Finish(context.Background(), nil); err == nil {
		t.Error("no bindings were taken for three")
	}
}

// TestFinishCompilesNothingAfterItsContext: what waited for other compilations leaves as soon as these end.
func TestFinishCompilesNothingAfterItsContext(t *testing.T) {
	d := gputest.Open(t)
	p := addPipeline(t, d, 64, 0)
	if d.PhysicalDevice().Type != vk.CPU {
		t.Skip("not a CPU driver: Finish does nothing")
	}
	n := newBuffer(t, d, 1024, vk.DeviceLocal)
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	created := p.CompileCPU()
	if err := p.Finish(ctx, addBinds(n.Whole(), n.Whole(), n.Whole())); !errors.Is(err, context.Canceled) {
		t.Errorf("%v, want that the context has ended", err)
	}
	if took := p.CompileCPU() - created; took != 0 {
		t.Errorf("%v of compilation after the context has ended", took)
	}
}
