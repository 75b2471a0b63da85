package pipeline

import (
	"errors"
	"fmt"
	"math"

	"pumice/vk"
)

// MeanOfHeads stands for the mean over all heads in Capture.Choose.
const MeanOfHeads = -1

// A Capture is where plans leave the weights of attention of a token (Builder.AttentionWeights): one float32 for each position
// of its sequence, up to as many as there is room for. It outlives the plans that were built with it.
type Capture struct {
	how     *vk.Buffer // three words, as attention_weights.comp has them
	own     *vk.Buffer // that weights are in; nil means somebody else's
	weights vk.Span
}

// NewCapture makes a Capture of so many positions. The weights are left in into, of at least four bytes a position, which stays
// the caller's; nil stands for memory of the Capture's own. The caller closes the Capture after the plans.
func (m *Manager) NewCapture(positions int, into *vk.Buffer) (_ *Capture, err error) {
	c := &Capture{}
	defer func() {
		if err != nil {
			err = errors.Join(err, c.Close())
		}
	}()
	if c.how, err = m.dev.NewBuffer(16, vk.Upload); err != nil {
		return nil, err
	}
	if into == nil {
		if c.own, err = m.dev.NewBuffer(4*int64(positions), vk.Readback); err != nil {
			return nil, err
		}
		into = c.own
	}
	if into.Size() < 4*int64(positions) {
		return nil, fmt.Errorf("pipeline: weights of %d positions in a buffer of %d bytes", positions, into.Size())
	}
	setWord(c.how.Mapped(), 8, uint32(positions))
	c.weights = into.Whole().Slice(0, 4*int64(positions))
	return c, nil
}

// Choose sets whose weights later Runs leave: those of one of the step's sequences, counted from 0, and of one head, or MeanOfHeads.
// No plan that was built with the Capture may be running.
func (c *Capture) Choose(sequence, head int) {
	setWord(c.how.Mapped(), 0, uint32(sequence))
	setWord(c.how.Mapped(), 4, uint32(head))
}

// Weights is where the weights are.
func (c *Capture) Weights() vk.Span { return c.weights }

// Read reads the weights of the first positions, as the last Run has left them, and returns the bytes that crossed from the device.
func (c *Capture) Read(dst []float32) (int64, error) {
	n := 4 * int64(len(dst))
	if c.own == nil || n > c.weights.Size {
		return 0, fmt.Errorf("pipeline: %d weights of a capture of %d bytes, in memory of its own: %t", len(dst), c.weights.Size, c.own != nil)
	}
	raw := c.weights.Mapped()
	for i := range dst {
		dst[i] = math.Float32frombits(word(raw, 4*i))
	}
	return n, nil
}

// Close frees the Capture.
func (c *Capture) Close() error {
	var errs []error
	for _, b := range []**vk.Buffer{&c.how, &c.own} {
		if *b != nil {
			errs = append(errs, (*b).Close())
			*b = nil
		}
	}
	return errors.Join(errs...)
}
