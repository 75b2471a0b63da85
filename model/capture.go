package model

import (
	"errors"
	"fmt"
	"slices"

	"pumice/pipeline"
	"pumice/vk"
)

// A Capture is where evaluations leave the weights of attention in a layer (Model.Capture): of a head, or the mean over all. The
// Model owns it.
type Capture struct {
	layer, head int
	stage       *stage
	to          *pipeline.Capture
}

// NewCapture makes a Capture of a layer and one of its heads, or pipeline.MeanOfHeads. The weights are left in into, a buffer of
// four bytes for each position of Context on the device that has the layer, which the caller keeps until the Model is closed
// or the Capture is ended; or if it is nil in memory from which Weights reads them.
func (x *Model) NewCapture(layer, head int, into *vk.Buffer) (*Capture, error) {
	switch n, heads := x.cfg.NumHiddenLayers, x.cfg.NumAttentionHeads; {
	case x.cfg.Encoder:
		return nil, fmt.Errorf("model: weights of attention: %w", ErrEncoder)
	case layer < 0 || layer >= n || head >= heads || head < 0 && head != pipeline.MeanOfHeads:
		return nil, fmt.Errorf("model: weights of attention of head %d in layer %d; there are %d layers with %d heads", head, layer, n, heads)
	}
	for _, g := range x.stages {
		if at := g.weights.layerRange; layer >= at.first && layer < at.end {
			to, err := g.m.NewCapture(x.opts.Context, into)
			if err != nil {
				return nil, fmt.Errorf("model: %w", err)
			}
			c := &Capture{layer, head, g, to}
			g.captures = append(g.captures, c)
			return c, nil
		}
	}
	return nil, errors.New("model: it is closed")
}

// Capture has later evaluations leave weights in c, of a span that has one token, counted among their spans: what its token
// weighs the values with that it sees, its own among them. Of a burst of Decode it is the last token's. Results are the same as
// without, and so are plans and counts once c is nil.
func (x *Model) Capture(c *Capture, span int) {
	if x.capture = c; c != nil {
		c.to.Choose(span, c.head)
	}
}

// captureFor is the Capture for which the stage's plan of a key has an operation; nil means none.
func (g *stage) captureFor(c *Capture, k planKey) *Capture {
	if c == nil || c.stage != g || k.tokens > 1 && k.singles == 0 {
		return nil
	}
	return c
}

// Weights reads the weights of the first positions that the last evaluation has left, and returns the bytes that crossed from
// the device.
func (c *Capture) Weights(dst []float32) (int64, error) { return c.to.Read(dst) }

// EndCapture frees a Capture and the plans that leave weights in it.
func (x *Model) EndCapture(c *Capture) error {
	if x.capture == c {
		x.capture = nil
	}
	return c.stage.endCapture(c)
}

func (g *stage) endCapture(c *Capture) error {
	var errs []error
	for k, p := range g.plans {
		if k.capture == c {
			errs = append(errs, p.Close())
			delete(g.plans, k)
			if g.last == p {
				g.last = nil
			}
		}
	}
	g.captures = slices.DeleteFunc(g.captures, func(other *Capture) bool { return other == c })
	return errors.Join(append(errs, c.to.Close())...)
}
