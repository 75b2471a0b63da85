package pumice

import (
	"context"
	"iter"
	"slices"

	"pumice/model"
	"pumice/pipeline"
)

// MeanOfHeads stands for the mean over all heads of a layer.
const MeanOfHeads = pipeline.MeanOfHeads

// AttentionOptions say which weights of attention are wanted.
type AttentionOptions struct {
	Layer int // counted from 0
	Head  int // counted from 0, or MeanOfHeads

	// Into is where the weights are left instead of in Attention.Weights: a buffer of a float32 for each position of Context, on
	// the device that has the layer. A program that draws them needs no copy on the host. The caller closes it after the
	// loop, or after Engine.Close where that ends the loop.
	Into *VulkanBuffer
}

// Attention says what a token weighs the values with that it sees: its text up to itself, in one layer, for one head or as the mean
// over all.
type Attention struct {
	Session  int       `json:"session"`  // as Piece has it
	Position int       `json:"position"` // of the token in the text
	Layer    int       `json:"layer"`
	Head     int       `json:"head"`    // MeanOfHeads: the mean
	Weights  []float32 `json:"weights"` // of each position up to Position, 0 for those that the layer does not see; nil with AttentionOptions.Into
}

// An attentionWatcher is a loop over WatchAttention. The executor's lock guards it.
type attentionWatcher struct {
	options AttentionOptions
	capture *model.Capture
	events  chan Attention // has the last one that was not taken yet
}

// WatchAttention yields weights of attention of the tokens that the engine evaluates one by one or in bursts, of a burst of the
// last: not of prompts, nor of guesses. Of sessions that share a step it is the one that was seen last. Of a slow loop's events
// the last one is kept. The weights are computed only while there is a loop, and several loops take turns. It ends with ctx, when the
// engine is closed, or with an error: of options that the model has no layer or head for, ErrEncoder, or one of the device.
func (e *Engine) WatchAttention(ctx context.Context, o AttentionOptions) iter.Seq2[Attention, error] {
	return func(yield func(Attention, error) bool) {
		x, w := e.work, &attentionWatcher{options: o, events: make(chan Attention, 1)}
		err := x.alone(ctx, nil, func(context.Context) (err error) {
			w.capture, err = e.loaded.NewCapture(o.Layer, o.Head, o.Into)
			return err
		})
		if w.capture != nil {
			defer func() { // a closed engine has freed it
				_ = x.alone(context.WithoutCancel(ctx), nil, func(context.Context) error { return e.loaded.EndCapture(w.capture) })
			}()
		}
		if err == nil {
			err = x.attend(w)
		}
		if err != nil {
			if ctx.Err() == nil {
				yield(Attention{}, err)
			}
			return
		}
		defer x.neglect(w)
		for {
			select {
			case a, ok := <-w.events:
				if !ok || !yield(a, nil) {
					return
				}
			case <-ctx.Done():
				return
			}
		}
	}
}

// attend adds a watcher.
func (x *executor) attend(w *attentionWatcher) error {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.closed {
		return ErrClosed
	}
	x.attentive = append(x.attentive, w)
	return nil
}

// neglect takes a watcher away.
func (x *executor) neglect(w *attentionWatcher) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.attentive = slices.DeleteFunc(x.attentive, func(other *attentionWatcher) bool { return other == w })
}

// capture has the step that comes leave weights of attention, if somebody wants them and a session has one token in it: of the
// one that was seen last. w is nil if none are left.
func (x *executor) capture(step []piece) (w *attentionWatcher, of piece) {
	x.mu.Lock()
	if n := len(x.attentive); n > 0 {
		x.asked++
		w = x.attentive[x.asked%n]
	}
	x.mu.Unlock()
	if w == nil {
		return nil, of
	}
	span := -1
	for i, p := range step {
		if p.n == 1 && (span < 0 || x.number(p.s) > x.number(of.s)) {
			span, of = i, p
		}
	}
	if span < 0 {
		return nil, of
	}
	x.model.Capture(w.capture, span)
	return w, of
}

// captured ends what capture has begun. If the step was evaluated it tells of the weights, which are those of a token so many
// behind the piece's.
func (x *executor) captured(w *attentionWatcher, of piece, evaluated bool, behind int) {
	if w == nil {
		return
	}
	x.model.Capture(nil, 0)
	if !evaluated {
		return
	}
	position := of.end + behind
	a := Attention{Session: x.number(of.s), Position: position, Layer: w.options.Layer, Head: w.options.Head}
	if w.options.Into == nil {
		a.Weights = make([]float32, position+1)
		if _, err := w.capture.Weights(a.Weights); err != nil {
			return // it is shorter than the context
		}
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	if slices.Contains(x.attentive, w) {
		select {
		case <-w.events: // it was too slow
		default:
		}
		w.events <- a
	}
}
