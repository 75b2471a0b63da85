package pumice

import (
	"context"
	"errors"
	"path/filepath"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"pumice/internal/gputest"
)

const (
	llamaFixture = "testdata/fixtures/llama"
	otherFixture = "testdata/fixtures/smollm2"
)

// testDevice opens the device that tests run on.
func testDevice(t *testing.T) *Device {
	t.Helper()
	d, err := OpenDevice(Options{Device: gputest.Physical(t, false).Name})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := d.Close(); err != nil {
			t.Error(err)
		}
	})
	return d
}

// shared are the options of an Engine on open devices.
func shared(devices ...*Device) Options {
	return Options{On: devices, DType: "f32", KVType: "f32", Context: 128}
}

// greedy returns n tokens after a prompt.
func greedy(ctx context.Context, e *Engine, prompt []int, n int) (tokens []int, err error) {
	for token, err := range e.NewSession().Generate(ctx, prompt, GenerateOptions{MaxTokens: n, IgnoreEOS: true}) {
		if err != nil {
			return nil, err
		}
		tokens = append(tokens, token.ID)
	}
	return tokens, nil
}

// TestEnginesShareADevice has two models generate on one device at the same time: each gets the tokens that it has by itself,
// and their steps alternate. Another call that needs the device comes in between.
func TestEnginesShareADevice(t *testing.T) {
	if testing.Short() {
		t.Skip("-short: the run on the main driver has it")
	}
	d := testDevice(t)
	var engines []*Engine
	var want [2][]int
	const n, rounds = 40, 3
	for i, path := range []string{llamaFixture, otherFixture} {
		alone, err := Open(t.Context(), filepath.FromSlash(path), Options{Device: d.Info().Name, DType: "f32", KVType: "f32", Context: 128})
		if err != nil {
			t.Fatal(err)
		}
		if want[i], err = greedy(t.Context(), alone, []int{51, 7}, n); err != nil {
			t.Fatal(err)
		}
		if err := alone.Close(); err != nil {
			t.Fatal(err)
		}
		engines = append(engines, openOn(t, path, shared(d)))
	}
	if slices.Equal(want[0], want[1]) {
		t.Fatal("the models have the same tokens")
	}
	var working, both, alternations atomic.Int64
	var last atomic.Int64
	var calls []func() error
	for i, e := range engines {
		calls = append(calls, func() error {
			for range rounds {
				working.Add(1)
				var got []int
				for token, err := range e.NewSession().Generate(t.Context(), []int{51, 7}, GenerateOptions{MaxTokens: n, IgnoreEOS: true}) {
					if err != nil {
						return err
					}
					got = append(got, token.ID)
					if working.Load() == 2 {
						both.Add(1)
						if last.Swap(int64(i)) != int64(i) {
							alternations.Add(1)
						}
					}
				}
				working.Add(-1)
				if !slices.Equal(got, want[i]) {
					t.Errorf("model %d: %v, and %v by itself", i, got, want[i])
				}
			}
			return nil
		})
	}
	calls = append(calls, func() error {
		copied, err := d.CopyBandwidth(t.Context())
		read, readErr := d.ReadBandwidth(t.Context())
		if copied <= 0 || read <= 0 {
			t.Errorf("%.0f bytes a second copied, %.0f read", copied, read)
		}
		return errors.Join(err, readErr)
	})
	if err := errors.Join(together(calls...)...); err != nil {
		t.Fatal(err)
	}
	if a, b := alternations.Load(), both.Load(); b > n && a < b/4 {
		t.Errorf("of %d tokens while both were at work, %d came after one of the other model", b, a)
	} else {
		t.Logf("%d of %d", a, b)
	}
}

// TestDevicesAreClosedAfterTheirEngines closes them in all orders.
func TestDevicesAreClosedAfterTheirEngines(t *testing.T) {
	works := func(e *Engine, want error) {
		t.Helper()
		if _, err := greedy(t.Context(), e, []int{51}, 2); !errors.Is(err, want) {
			t.Errorf("generating: %v, want %v", err, want)
		}
	}
	closes := func(what string, c interface{ Close() error }, want error) {
		t.Helper()
		if err := c.Close(); !errors.Is(err, want) || want == nil && err != nil {
			t.Errorf("closing %s: %v, want %v", what, err, want)
		}
	}
	opens := func(d *Device, want error) {
		t.Helper()
		e, err := Open(t.Context(), filepath.FromSlash(llamaFixture), Options{On: []*Device{d}, Context: 64})
		if !errors.Is(err, want) || want == nil && err != nil {
			t.Errorf("opening: %v, want %v", err, want)
		}
		if e != nil {
			closes("it", e, nil)
		}
	}

	t.Run("the caller's", func(t *testing.T) {
		d := testDevice(t)
		first, second := openOn(t, llamaFixture, shared(d)), openOn(t, otherFixture, shared(d))
		closes("the device under two engines", d, ErrDeviceInUse)
		closes("the first engine", first, nil)
		closes("the first engine again", first, nil)
		closes("the device under one engine", d, ErrDeviceInUse)
		works(first, ErrClosed)
		works(second, nil)
		closes("the second engine", second, nil)
		opens(d, nil)
		closes("the device", d, nil)
		closes("the device again", d, nil)
		opens(d, ErrDeviceClosed)
		if _, err := d.CopyBandwidth(t.Context()); !errors.Is(err, ErrDeviceClosed) {
			t.Errorf("measuring: %v", err)
		}
	})
	t.Run("that of an engine", func(t *testing.T) {
		first, err := Open(t.Context(), filepath.FromSlash(llamaFixture), Options{Device: gputest.Physical(t, false).Name})
		if err != nil {
			t.Fatal(err)
		}
		d := first.Devices()[0]
		second := openOn(t, otherFixture, shared(d))
		closes("the first engine", first, nil)
		works(second, nil)
		closes("the device under one engine", d, ErrDeviceInUse)
		closes("the second engine", second, nil)
		opens(d, ErrDeviceClosed) // with its last engine
		closes("the device", d, nil)
	})
	t.Run("an engine that does not open", func(t *testing.T) {
		d := testDevice(t)
		for _, o := range []Options{{On: []*Device{d}, KVMemory: 1}, {On: []*Device{d, d}, KernelPath: "none"}, {On: []*Device{d}, Device: "0"}} {
			if e, err := Open(t.Context(), filepath.FromSlash(llamaFixture), o); err == nil {
				t.Errorf("%+v: no error", o)
				e.Close()
			}
		}
		closes("the device", d, nil)
	})
	t.Run("being checked or tuned", func(t *testing.T) {
		d := testDevice(t)
		e := openOn(t, llamaFixture, shared(d))
		if err := d.Verify(t.Context(), VerifyOptions{}, nil); !errors.Is(err, ErrDeviceInUse) {
			t.Errorf("Verify: %v", err)
		}
		if _, err := d.Tune(t.Context(), TuneOptions{Budget: time.Second}); !errors.Is(err, ErrDeviceInUse) {
			t.Errorf("Tune: %v", err)
		}
		works(e, nil)
		closes("the engine", e, nil)
		end, err := d.alone()
		if err != nil {
			t.Fatal(err)
		}
		closes("the device", d, ErrDeviceInUse)
		opens(d, ErrDeviceInUse)
		end()
	})
}

// TestAModelOnADeviceTwice spreads a model over a device and itself: its turn is taken once.
func TestAModelOnADeviceTwice(t *testing.T) {
	d := testDevice(t)
	want, err := greedy(t.Context(), openOn(t, llamaFixture, shared(d)), []int{51}, 8)
	if err != nil {
		t.Fatal(err)
	}
	e := openOn(t, llamaFixture, shared(d, d))
	if got, err := greedy(t.Context(), e, []int{51}, 8); err != nil || !slices.Equal(got, want) || len(e.Devices()) != 2 {
		t.Errorf("%v on %d devices: %v; want %v", got, len(e.Devices()), err, want)
	}
}

// TestMemoryCountsOtherEngines opens a model with a large KV cache, most of which is never written, and asks what is left for
// another one.
func TestMemoryCountsOtherEngines(t *testing.T) {
	if testing.Short() {
		t.Skip("-short: the run on the main driver has it")
	}
	d := testDevice(t)
	const large = 768 << 20 // more than what else is going on
	first, err := Open(t.Context(), filepath.FromSlash(llamaFixture), Options{On: []*Device{d}, KVMemory: large})
	if err != nil {
		t.Fatal(err)
	}
	defer first.Close()
	before := first.Memory()
	if before.CacheBytes < large/4 {
		t.Fatalf("%d bytes of cache", before.CacheBytes)
	}
	m, err := OpenModel(t.Context(), filepath.FromSlash(otherFixture))
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	check := func(o Options) int64 {
		c, err := m.CheckMemory(t.Context(), o)
		if err != nil {
			t.Fatal(err)
		}
		return c.AvailableBytes
	}
	free := before.AvailableBytes
	if d.Info().Type == "cpu" { // what has no page yet a Device of its own doesn't know of; other programs may have taken some
		free = check(Options{Device: d.Info().Name})
	}
	taken := free - check(Options{On: []*Device{d}})
	t.Logf("%d MiB of cache; %d of %d MiB are taken", before.CacheBytes>>20, taken>>20, free>>20)
	if taken < before.CacheBytes/2 || taken > 2*before.CacheBytes {
		t.Errorf("%d bytes less are available, and the first model has a cache of %d", taken, before.CacheBytes)
	}
}
