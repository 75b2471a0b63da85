package model

import (
	"context"
	"fmt"
	"os"
	"runtime"
	"strings"
	"testing"

	"pumice/checkpoint"
	"pumice/internal/dtype"
	"pumice/internal/gputest"
	"pumice/pipeline"
	"pumice/vk"
)

// TestMemoryOfSmolLM2 loads the default model and holds it to its memory plan: weights once on
// the device, padding at most 2 %, little beside them on the host, and decoding that reads each
// weight once and moves a few bytes across the bus.
func TestMemoryOfSmolLM2(t *testing.T) {
	long(t)
	path := os.Getenv("PUMICE_TEST_SMOLLM2")
	if path == "" {
		t.Skip("PUMICE_TEST_SMOLLM2 is not set: give it the path of SmolLM2-135M-Instruct.Q4_1.gguf, which tools/model.sh prints")
	}
	const hostBound = 200 << 20
	m, err := pipeline.NewManager(gputest.OpenWith(t, gputest.Options{NoValidation: true}), pipeline.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { check(t, m.Close()) })
	c, err := checkpoint.Open(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()

	runtime.GC()
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	anonBefore, anonKnown := anonymousBytes()
	x, err := Load(context.Background(), m, c, Options{Context: 2048})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { check(t, x.Close()) })
	ctx := context.Background()
	if _, err := x.Forward(ctx, []int{1, 2, 3, 4, 5}, 0, lastTop); err != nil {
		t.Fatal(err)
	}
	anonAfter, _ := anonymousBytes()
	runtime.ReadMemStats(&after) // before a collection: garbage counts too
	if grew := int64(after.Sys) - int64(before.Sys); grew > hostBound {
		t.Errorf("loading took %d bytes from the system, want at most %d", grew, hostBound)
	} else {
		t.Logf("Go took %d bytes from the system", grew)
	}
	if anonKnown {
		// What a CPU driver calls device memory is the process's.
		bound := int64(hostBound)
		if m.Device().PhysicalDevice().Type == vk.CPU {
			bound += x.Memory().TotalBytes
		}
		if grew := anonAfter - anonBefore; grew > bound {
			t.Errorf("the process grew by %d bytes beside mapped files, want at most %d", grew, bound)
		} else {
			t.Logf("the process grew by %d bytes beside mapped files; %d are the model's on the device", grew, x.Memory().TotalBytes)
		}
	}

	p := x.Memory()
	stored := c.NumBytes()
	if p.WeightsBytes > stored*102/100 {
		t.Errorf("%d bytes of weights for tensors of %d", p.WeightsBytes, stored)
	}
	if got, want := x.store.Bytes(), p.WeightsBytes+p.TableBytes; got != want {
		t.Errorf("%d bytes in the store, planned %d", got, want)
	}
	t.Logf("tensors %d bytes, on the device %d", stored, p.WeightsBytes)

	for i := range 4 {
		out, err := x.Forward(ctx, []int{6}, 5+i, lastTop)
		if err != nil {
			t.Fatal(err)
		}
		k := out.Counters
		if i > 0 && k.Records != 0 {
			t.Errorf("token %d: %d command buffers recorded, want none", i, k.Records)
		}
		if k.Submits != 1 || k.HostToDeviceBytes > 64 || k.DeviceToHostBytes > 64 {
			t.Errorf("token %d: %d submits, %d bytes to the device, %d back", i, k.Submits, k.HostToDeviceBytes, k.DeviceToHostBytes)
		}
		if k.WeightBytes > stored*102/100 {
			t.Errorf("token %d reads %d bytes of weights of %d", i, k.WeightBytes, stored)
		}
		if i == 3 {
			t.Logf("a token reads %d bytes of weights; minimum %d with the KV cache", k.WeightBytes, k.MinimumBytes)
		}
	}
}

// anonymousBytes is the resident memory of the process that no file backs, on Linux.
func anonymousBytes() (int64, bool) {
	b, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return 0, false
	}
	for line := range strings.Lines(string(b)) {
		var kib int64
		if n, _ := fmt.Sscanf(line, "RssAnon: %d kB", &kib); n == 1 {
			return kib << 10, true
		}
	}
	return 0, false
}

// TestSuggestedTypesFit offers the type with most bits of those that fit, if one does.
func TestSuggestedTypesFit(t *testing.T) {
	cfg := &Config{NumHiddenLayers: 2, NumKeyValueHeads: 1, HeadDim: 64}
	weights := map[dtype.DType]int64{dtype.Q8_0: 800, dtype.Q6_K: 700, dtype.Q5_K: 600, dtype.Q4_K: 500, dtype.Q3_K: 400, dtype.Q2_K: 300}
	for available, want := range map[int64]string{950: "Q8_0", 750: "Q6_K", 350: "Q2_K", 299: ""} {
		p := MemoryPlan{Context: 128, WeightsBytes: 1000 << 20, TotalBytes: 1000 << 20, AvailableBytes: available << 20}
		got := p.smaller(cfg, &Options{KVType: dtype.F16}, &Weights{layerRange: cfg.allLayers()}, func(d dtype.DType) int64 { return weights[d] << 20 })
		if want := (Smaller{DType: want}); got != want {
			t.Errorf("%d MiB of 1000: %+v, want %+v", available, got, want)
		}
	}
}
