package vk_test

import (
	"os"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"pumice/internal/gputest"
	"pumice/vk"
)

// TestSurvivesGarbageCollection creates, records and submits while the collector runs without pause. If a driver reads
// Go memory, or C memory that a finalizer frees, after it was freed, the test crashes; glibc's MALLOC_PERTURB_, which
// must be set when the process starts, overwrites freed C memory to make sure of it.
func TestSurvivesGarbageCollection(t *testing.T) {
	const perturb = "MALLOC_PERTURB_"
	if os.Getenv(perturb) == "" {
		gputest.Physical(t, false) // skip here, where the reason is shown
		cmd := gputest.Again("-test.run=^TestSurvivesGarbageCollection$", "-test.v")
		cmd.Env = append(os.Environ(), perturb+"=165", "PUMICE_TEST_REQUIRE_DEVICE=1")
		if out, err := cmd.CombinedOutput(); err != nil || !strings.Contains(string(out), "--- PASS") {
			t.Errorf("%v\n%s", err, out)
		}
		return
	}
	d := gputest.OpenWith(t, gputest.Options{NoValidation: true})
	stop := make(chan struct{})
	var collector sync.WaitGroup
	collector.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
				runtime.GC()
			}
		}
	})
	defer collector.Wait()
	defer close(stop)

	var workers sync.WaitGroup
	deadline := time.Now().Add(3 * time.Second)
	for range 2 {
		workers.Go(func() {
			for rounds := 0; time.Now().Before(deadline); rounds++ {
				if err := stressRound(t, d); err != nil {
					t.Errorf("round %d: %v", rounds, err)
					return
				}
			}
		})
	}
	workers.Wait()
}

// stressRound makes everything once, uses it and closes it.
func stressRound(t *testing.T, d *vk.Device) error {
	const n = 256
	x, err := d.NewBuffer(4*n, vk.Upload)
	if err != nil {
		return err
	}
	defer x.Close()
	z, err := d.NewBuffer(4*n, vk.Readback)
	if err != nil {
		return err
	}
	defer z.Close()
	putFloats(x.Mapped(), func(i int) float32 { return float32(i) })
	p, err := d.NewPipeline(vk.PipelineConfig{Name: "add", SPIRV: append([]byte(nil), spirv(t, "add")...),
		Bindings: append([]vk.BindingKind(nil), storage3...), PushBytes: 8, Spec: []uint32{64, 0}})
	if err != nil {
		return err
	}
	defer p.Close()
	r := d.NewRecorder(vk.RecorderOptions{})
	for range 8 {
		r.Dispatch(p, addBinds(x.Whole(), x.Whole(), z.Whole()), addPush(n, 2), n/64, 1, 1)
	}
	c, err := r.Finish()
	if err != nil {
		return err
	}
	defer c.Close()
	for range 3 {
		if err := c.Run(ctx); err != nil {
			return err
		}
	}
	for i := range n {
		if got := float(z.Mapped(), i); got != float32(3*i) {
			t.Errorf("z[%d] = %v, want %v", i, got, 3*i)
			break
		}
	}
	return nil
}

func TestPipelinesCompileConcurrently(t *testing.T) {
	d := gputest.Open(t)
	var wg sync.WaitGroup
	for i := range 16 {
		wg.Go(func() {
			p, err := d.NewPipeline(vk.PipelineConfig{Name: "add", SPIRV: spirv(t, "add"), Bindings: storage3, PushBytes: 8, Spec: []uint32{uint32(1 + i), 0}})
			if err != nil {
				t.Error(err)
				return
			}
			if err := p.Close(); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
}
