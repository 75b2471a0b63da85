package model

import (
	"context"
	"errors"
	"path/filepath"
	"testing"

	"pumice/checkpoint"
	"pumice/internal/dtype"
	"pumice/internal/gputest"
	"pumice/internal/synth"
	"pumice/pipeline"
)

// hollow opens a checkpoint of the shape whose weights are zeros.
func hollow(t *testing.T, s synth.Shape, d dtype.DType) *checkpoint.Checkpoint {
	t.Helper()
	path := filepath.Join(t.TempDir(), "model.gguf")
	if err := synth.Write(t.Context(), path, s, synth.Options{Format: synth.GGUF, DType: d, Hollow: true}); err != nil {
		t.Fatal(err)
	}
	c, err := checkpoint.Open(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { check(t, c.Close()) })
	return c
}

// A 7B with 4096 positions takes little beside its weights and its KV cache, and its kernels read
// little beside what is stored, whatever the type.
func TestMemoryOf7B(t *testing.T) {
	s, err := synth.Lookup("xverse", "7b")
	if err != nil {
		t.Fatal(err)
	}
	dev := gputest.OpenWith(t, gputest.Options{NoValidation: true})
	for _, path := range paths(t) {
		m, err := pipeline.NewManager(dev, pipeline.Options{Path: path})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { check(t, m.Close()) })
		for _, d := range []dtype.DType{dtype.F16, dtype.Q8_0, dtype.Q4_0, dtype.Q4_1, dtype.Q4_K, dtype.Q6_K} {
			c := hollow(t, s, d)
			p, err := Estimate(t.Context(), m, c, Options{Context: 4096})
			var fit *FitError // whether this machine has the memory does not matter
			if err != nil && !errors.As(err, &fit) {
				t.Fatal(err)
			}
			kept := p.WeightsBytes + p.CacheBytes
			if p.WeightsBytes > c.NumBytes()*102/100 || p.CacheBytes != 2*2*32*4096*4096 || p.TotalBytes > kept*105/100 {
				t.Errorf("%s, %s: %d bytes in all, weights %d of %d stored, cache %d", path, d, p.TotalBytes, p.WeightsBytes, c.NumBytes(), p.CacheBytes)
			}
			t.Logf("%s, %s: %.2f %% over weights and cache; weights %.2f %% over the file's", path, d,
				100*float64(p.TotalBytes-kept)/float64(kept), 100*float64(p.WeightsBytes-c.NumBytes())/float64(c.NumBytes()))
		}
	}
}

// A token takes one submit, at most seven dispatches a layer and four more, and six barriers a
// layer. The numbers do not depend on the sizes of a layer, as long as a matrix is bound in one
// piece; a vocabulary of more than 1024 takes one dispatch more to find the largest logit.
func TestDispatchesOfALayer(t *testing.T) {
	s, err := synth.Lookup("xverse", synth.Tiny)
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range paths(t) {
		count := func(layers int) pipeline.Counters {
			s.Layers = layers
			file := hollow(t, s, dtype.F16)
			x := load(t, file.Path(), Options{Context: 64}, pipeline.Options{Path: path})
			var c pipeline.Counters
			for i := range 2 { // the first records
				out, err := x.Forward(context.Background(), []int{1}, i, Argmax)
				if err != nil {
					t.Fatal(err)
				}
				c = out.Counters
			}
			return c
		}
		two, four := count(2), count(4)
		dispatches, barriers := (four.Dispatches-two.Dispatches)/2, (four.Barriers-two.Barriers)/2
		if two.Submits != 1 || two.Dispatches+1 > 7*2+4 || four.Dispatches+1 > 7*4+4 || barriers > 6 {
			t.Errorf("%s: %d submits, %d dispatches and %d barriers a layer, %d dispatches around", path, two.Submits, dispatches, barriers, two.Dispatches-2*dispatches)
		}
		if read := four.WeightBytes + four.KVBytes; read > four.MinimumBytes*102/100 {
			t.Errorf("%s: %d bytes read, %d needed", path, read, four.MinimumBytes)
		}
		if four.HostToDeviceBytes > 64 || four.DeviceToHostBytes > 64 {
			t.Errorf("%s: %d bytes to the device, %d back", path, four.HostToDeviceBytes, four.DeviceToHostBytes)
		}
		t.Logf("%s: %d dispatches and %d barriers a layer, %d dispatches around; %d bytes of weights and KV, %d needed", path, dispatches, barriers,
			two.Dispatches-2*dispatches, four.WeightBytes+four.KVBytes, four.MinimumBytes)
	}
}
