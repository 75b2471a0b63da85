package model

import (
	"errors"
	"path/filepath"
	"testing"

	"pumice/checkpoint"
	"pumice/internal/dtype"
	"pumice/internal/gputest"
	"pumice/internal/synth"
	"pumice/pipeline"
	"pumice/pipeline/kernels"
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
			const cache = 2 * 2 * 32 * 4096 * (4096 + kernels.PageSize) // for one sequence
			p, err := Estimate(t.Context(), m, c, Options{Context: 4096, CacheBytes: cache})
			var fit *FitError // whether this machine has the memory does not matter
			if err != nil && !errors.As(err, &fit) {
				t.Fatal(err)
			}
			kept := p.WeightsBytes + p.CacheBytes
			if p.WeightsBytes > c.NumBytes()*102/100 || p.CacheBytes != cache || p.TotalBytes > kept*105/100 {
				t.Errorf("%s, %s: %d bytes in all, weights %d of %d stored, cache %d", path, d, p.TotalBytes, p.WeightsBytes, c.NumBytes(), p.CacheBytes)
			}
			t.Logf("%s, %s: %.2f %% over weights and cache; weights %.2f %% over the file's", path, d,
				100*float64(p.TotalBytes-kept)/float64(kept), 100*float64(p.WeightsBytes-c.NumBytes())/float64(c.NumBytes()))
		}
	}
}

// TestDispatchesOfADecodedToken counts what a token costs. Five dispatches a layer: q, k and v under the norm;
// attention with rotation and cache write; the output projection; gate and up under the norm with the activation; the
// down projection. Each needs the one before: there is a barrier between any two. The base and sg paths divide the keys
// of a cache with room for 512 or more positions, and the last workgroup to arrive joins the results. Around the layers
// are the embedding, the final norm, the head, the largest logit of each 1024, and advance, which chooses among those. The
// numbers do not depend on the sizes of a layer, as long as each matrix is one shard.
func TestDispatchesOfADecodedToken(t *testing.T) {
	s, err := synth.Lookup("xverse", synth.Tiny)
	if err != nil {
		t.Fatal(err)
	}
	s.Vocab = 3000 // more than topk takes in one workgroup
	for _, path := range paths(t) {
		for _, context := range []int{64, 512} {
			const perLayer, around = 5, 5
			for _, layers := range []int{2, 4} {
				s.Layers = layers
				c := decodeCounters(t, hollow(t, s, dtype.F16).Path(), context, path)
				want := int64(layers)*perLayer + around
				if c.Submits != 1 || c.Dispatches != want || c.Barriers != want-1 {
					t.Errorf("%s, %d positions, %d layers: %d submits, %d dispatches, %d barriers, want 1, %d and %d", path, context, layers,
						c.Submits, c.Dispatches, c.Barriers, want, want-1)
				}
				if read := c.WeightBytes + c.KVBytes; read > c.MinimumBytes*102/100 {
					t.Errorf("%s, %d layers: %d bytes read, %d needed", path, layers, read, c.MinimumBytes)
				}
				if c.HostToDeviceBytes != 0 || c.DeviceToHostBytes != 8 {
					t.Errorf("%s: %d bytes to the device, %d back; want 0 and 8", path, c.HostToDeviceBytes, c.DeviceToHostBytes)
				}
			}
		}
	}
}

// TestDispatchesOfEightTexts counts what a token of each of eight texts costs. The row kernels have the norms and the activation
// in their products, as for one token; those at addresses and of few tokens have the activation; the others neither.
func TestDispatchesOfEightTexts(t *testing.T) {
	s, err := synth.Lookup("xverse", synth.Tiny)
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range paths(t) {
		perLayer := int64(8)
		switch path {
		case kernels.Row:
			perLayer = 5
		case kernels.Addr, kernels.Few:
			perLayer = 7
		}
		var dispatches []int64
		for _, layers := range []int{2, 4} {
			s.Layers = layers
			x := load(t, hollow(t, s, dtype.F16).Path(), Options{Context: 64, Chunk: 64}, pipeline.Options{Path: path})
			var spans []Span
			for i := range 8 {
				spans = append(spans, Span{Sequence: acquire(t, x, []int{i + 1}), Tokens: []int{i + 1}})
			}
			out, err := x.Run(t.Context(), spans, lastLogits)
			if err != nil {
				t.Fatal(err)
			}
			if out.Counters.Submits != 1 {
				t.Errorf("%s: %d submits", path, out.Counters.Submits)
			}
			dispatches = append(dispatches, out.Counters.Dispatches)
		}
		if got := (dispatches[1] - dispatches[0]) / 2; got != perLayer {
			t.Errorf("%s: %d dispatches a layer, want %d", path, got, perLayer)
		}
	}
}

// decodeCounters is the work of a token that the device chose itself, once its plan is recorded.
func decodeCounters(t *testing.T, file string, context int, path kernels.Path) pipeline.Counters {
	t.Helper()
	x := load(t, file, Options{Context: context}, pipeline.Options{Path: path})
	token := 1
	var c pipeline.Counters
	for position := range 2 {
		out, err := x.forward(t.Context(), []int{token}, position, lastTop)
		if err != nil {
			t.Fatal(err)
		}
		token, c = out.Choices[0].ID, out.Counters
	}
	return c
}
