package pumice_test

import (
	"context"
	"encoding/binary"
	"errors"
	"math"
	"slices"
	"testing"
	"time"

	"pumice"
	"pumice/sample"
	"pumice/vk"
)

// answer generates tokens after a prompt, and returns them with what the engine counted meanwhile.
func answer(t *testing.T, e *pumice.Engine, s *pumice.Session, n int) (tokens []int, c pumice.Counters) {
	t.Helper()
	for token, err := range s.Generate(t.Context(), []int{1, 5, 7, 3, 9}, pumice.GenerateOptions{MaxTokens: n, IgnoreEOS: true, Sampling: sample.Params{}}) {
		if err != nil {
			t.Fatal(err)
		}
		tokens = append(tokens, token.ID)
	}
	c = s.Result().Counters
	c.Submits, c.HostToDeviceBytes = 0, 0 // which depend on the device's speed, and on what ran before
	return tokens, c
}

// TestWatchAttention: whoever asks gets the weights of each token, in a buffer of the device or on the host, and answers and
// counts of those that nobody asks about are as before.
func TestWatchAttention(t *testing.T) {
	const length, tokens = 64, 12
	e := openEngine(t, "testdata/fixtures/llama", pumice.Options{Context: length})
	s := e.NewSession()
	s.Alone = true
	defer s.Close()
	answer(t, e, s, tokens) // records plans
	want, before := answer(t, e, s, tokens)
	dev := e.Devices()[0].Vulkan()
	into, err := dev.NewBuffer(4*length, vk.DeviceLocal)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { into.Close() })
	// last is the weights after an answer's last token.
	last := func(o pumice.AttentionOptions) (a pumice.Attention) {
		t.Helper()
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		events := make(chan pumice.Attention, 100)
		ended := make(chan error, 1)
		go func() {
			for a, err := range e.WatchAttention(ctx, o) {
				if err != nil {
					ended <- err
					return
				}
				events <- a
			}
			ended <- nil
		}()
		for a.Position == 0 { // until the loop has begun
			if got, _ := answer(t, e, s, tokens); !slices.Equal(got, want) {
				t.Errorf("tokens %v, want %v", got, want)
			}
			for wait := time.After(100 * time.Millisecond); a.Position < 5+tokens-2; {
				select {
				case a = <-events:
					continue
				case <-wait:
				}
				break
			}
		}
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
		return a
	}
	host := last(pumice.AttentionOptions{Layer: 1, Head: pumice.MeanOfHeads})
	sum := 0.0
	for _, w := range host.Weights {
		sum += float64(w)
	}
	if host.Position != 5+tokens-2 || len(host.Weights) != host.Position+1 || host.Layer != 1 || host.Head != pumice.MeanOfHeads || host.Session < 1 || math.Abs(sum-1) > 1e-5 {
		t.Errorf("%+v, %g together", host, sum)
	}
	device := last(pumice.AttentionOptions{Layer: 1, Head: pumice.MeanOfHeads, Into: into})
	raw := make([]byte, 4*length)
	if err := dev.Read(into.Whole(), raw); err != nil {
		t.Fatal(err)
	}
	if device.Weights != nil || device.Position != host.Position {
		t.Errorf("%+v", device)
	}
	for i := range length {
		w, want := math.Float32frombits(binary.LittleEndian.Uint32(raw[4*i:])), float32(0)
		if i < len(host.Weights) {
			want = host.Weights[i]
		}
		if w != want {
			t.Errorf("weight %d is %g on the device, %g on the host", i, w, want)
		}
	}
	if got, after := answer(t, e, s, tokens); !slices.Equal(got, want) || after != before {
		t.Errorf("%v with %+v after somebody has asked, before %v with %+v", got, after, want, before)
	}
	for _, wrong := range []pumice.AttentionOptions{{Layer: 99}, {Head: -2}} {
		for _, err := range e.WatchAttention(t.Context(), wrong) {
			if err == nil {
				t.Errorf("no error of %+v", wrong)
			}
		}
	}
}

// TestAttentionEndsWithTheEngine: a loop ends when the engine is closed, and then begins with ErrClosed.
func TestAttentionEndsWithTheEngine(t *testing.T) {
	e := openEngine(t, "testdata/fixtures/llama", pumice.Options{Context: 64})
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for range e.WatchAttention(t.Context(), pumice.AttentionOptions{}) {
		}
	}()
	s := e.NewSession()
	answer(t, e, s, 3)
	if err := e.Close(); err != nil {
		t.Fatal(err)
	}
	<-ended
	for _, err := range e.WatchAttention(t.Context(), pumice.AttentionOptions{}) {
		if !errors.Is(err, pumice.ErrClosed) {
			t.Errorf("%v", err)
		}
	}
}
