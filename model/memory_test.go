package model

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"pumice/checkpoint"
	"pumice/internal/dtype"
	"pumice/internal/gputest"
	"pumice/pipeline"
	"pumice/pipeline/kernels"
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
	x := loadOn(t, path, Options{Context: 2048}, m)
	ctx := context.Background()
	if _, err := x.forward(ctx, []int{1, 2, 3, 4, 5}, 0, lastTop); err != nil {
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
	if got, want := x.head().store.Bytes(), p.WeightsBytes+p.TableBytes; got != want {
		t.Errorf("%d bytes in the store, planned %d", got, want)
	}
	t.Logf("tensors %d bytes, on the device %d", stored, p.WeightsBytes)

	for i := range 4 {
		out, err := x.forward(ctx, []int{6}, 5+i, lastTop)
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
		got := p.smaller(cfg, &Options{Context: 128, KVType: dtype.F16}, &Weights{layerRange: cfg.allLayers()}, func(d dtype.DType) int64 { return weights[d] << 20 })
		if want := (Smaller{DType: want}); got != want {
			t.Errorf("%d MiB of 1000: %+v, want %+v", available, got, want)
		}
	}
}

// TestPagesOfTheKVCache is how many pages the KV cache has, by the memory that the device has left and by CacheBytes.
func TestPagesOfTheKVCache(t *testing.T) {
	long(t)
	m, err := pipeline.NewManager(gputest.Open(t), pipeline.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { check(t, m.Close()) }()
	const one = 8 // pages of a sequence
	for _, name := range []string{"llama", "gemma3"} {
		for _, kv := range kernels.CacheTypes {
			c, err := checkpoint.Open(t.Context(), filepath.Join(fixtureDir, name))
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			l, err := newLoading(c, Options{Context: 500, Chunk: 64, KVType: kv})
			if err != nil {
				t.Fatal(err)
			}
			g, need, err := l.stage(t.Context(), m, l.cfg.allLayers())
			if err != nil {
				t.Fatal(err)
			}
			size := func(pages int) int64 {
				with := *l
				with.opts.pages = pages
				return with.plan(g, need).CacheBytes
			}
			least := l.plan(g, need).TotalBytes
			fixed := least - size(one)
			const plenty = 1 << 60
			for _, c := range []struct {
				name             string
				room, cacheBytes int64
				want             int
			}{
				{"eight contexts", plenty, 0, 8 * one},
				{"half of what is left", fixed + 2*size(3*one), 0, 3 * one},
				{"a byte less", fixed + 2*size(3*one) - 1, 0, 3*one - 1},
				{"at least one context", least, 0, one},
				{"CacheBytes", plenty, size(11), 11},
				{"CacheBytes for all but a byte", plenty, size(11) - 1, 10},
				{"CacheBytes for one context", least, size(one), one},
				{"CacheBytes for more than eight", fixed + size(100), size(100), 100},
				{"one binding", plenty, plenty / 2, m.MaxCachePositions(g.weights.cacheShape(l.cfg, &l.opts)) / kernels.PageSize},
			} {
				l.opts.CacheBytes, g.room.Bytes = c.cacheBytes, c.room
				if got, err := l.fit(g, need); got != c.want || err != nil {
					t.Errorf("%s, %s, %s: %d pages, %v, want %d", name, kv, c.name, got, err, c.want)
				}
			}
			fails := func(what string, needed, cacheBytes, room int64) (f *FitError) {
				t.Helper()
				l.opts.CacheBytes, g.room.Bytes = cacheBytes, room
				if _, err := l.fit(g, need); !errors.As(err, &f) || f.Needed != needed || f.Available != room || f.Plan.TotalBytes != least {
					t.Fatalf("%s, %s, %s: %v, want that it needs %d", name, kv, what, err, needed)
				}
				return f
			}
			if f := fails("a byte less than the least", least, 0, least-1); f.Fits.CacheBytes != 0 {
				t.Errorf("%s, %s: %+v would fit", name, kv, f.Fits)
			}
			f := fails("too much CacheBytes", fixed+size(20), size(20), fixed+size(20)-1)
			if f.Fits.CacheBytes != size(20)-1 || f.Fits.Context != 0 || f.Fits.KVType != "" {
				t.Errorf("%s, %s: %+v would fit", name, kv, f.Fits)
			}
			l.opts.CacheBytes = f.Fits.CacheBytes
			if got, err := l.fit(g, need); got != 19 || err != nil {
				t.Errorf("%s, %s: %d pages, %v, in what would fit", name, kv, got, err)
			}
		}
	}
}

// TestCachesTooSmallForASequence are errors that say what one takes, whatever number of devices has it.
func TestCachesTooSmallForASequence(t *testing.T) {
	path := filepath.Join(fixtureDir, "gemma3")
	o := withPages(t, path, Options{Context: 300, Chunk: 64}, 5)
	needed := o.CacheBytes
	for _, devices := range []int{1, 2} {
		var managers []*pipeline.Manager
		for range devices {
			m, err := pipeline.NewManager(gputest.Open(t), pipeline.Options{})
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { check(t, m.Close()) })
			managers = append(managers, m)
		}
		o.CacheBytes = needed
		if p := loadOn(t, path, o, managers...).Memory(); p.CacheBytes != needed || p.CacheTokens != 320 || p.Context != 300 {
			t.Errorf("%d devices: %+v", devices, p)
		}
		o.CacheBytes--
		c, err := checkpoint.Open(t.Context(), path)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		var small *CacheError
		if _, err := Load(t.Context(), c, o, managers...); !errors.As(err, &small) || *small != (CacheError{needed - 1, needed, 300}) {
			t.Errorf("%d devices: %v", devices, err)
		}
		if p, err := Estimate(t.Context(), managers[0], c, o); !errors.As(err, &small) || p.CacheBytes != needed {
			t.Errorf("estimated: %+v, %v", p, err)
		}
	}
}
