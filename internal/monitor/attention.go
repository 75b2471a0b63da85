package monitor

import (
	"cmp"
	"context"
	"math"

	"pumice"
	"pumice/server"
)

// A Choice says which weights of attention are wanted.
type Choice struct {
	On    bool
	Layer int
	Head  int // pumice.MeanOfHeads: the mean over all
}

// An Attention is what there is to see of the weights of attention.
type Attention struct {
	Choice
	Known    bool // they have come
	Session  int
	Position int    // of the token that has them in its text
	First    int    // position that the first of the values is of
	Stamp    uint32 // another one when they have changed

	// Weights are the values if they have come from a server; else they are on the device.
	Weights []float32

	Err error // why none come; nil while they may
}

// attention is what a State knows of weights of attention. The State's lock guards it.
type attention struct {
	Attention
	into  *pumice.VulkanBuffer
	asks  func(ctx context.Context, c Choice, into *pumice.VulkanBuffer) error // for them until ctx ends; nil: nobody to ask
	local bool                                                                 // asks leaves them in into
	stop  context.CancelFunc                                                   // ends the asking that is under way; nil: none is
	done  chan struct{}                                                        // closed when that has ended
}

// Asks says how to ask a server for weights of attention: what it answers is for Receive, until ctx ends.
func (s *State) Asks(ask func(ctx context.Context, c Choice) error) {
	s.asksBy(func(ctx context.Context, c Choice, _ *pumice.VulkanBuffer) error { return ask(ctx, c) }, false)
}

// follow has an engine of this process asked, until it is told to end.
func (s *State) follow(e *pumice.Engine) (end func()) {
	s.asksBy(func(ctx context.Context, c Choice, into *pumice.VulkanBuffer) error {
		for a, err := range e.WatchAttention(ctx, pumice.AttentionOptions{Layer: c.Layer, Head: c.Head, Into: into}) {
			if err != nil {
				return err
			}
			s.weights(server.Attention{Attention: a})
		}
		return nil
	}, true)
	return func() { s.asksBy(nil, false) }
}

func (s *State) asksBy(ask func(ctx context.Context, c Choice, into *pumice.VulkanBuffer) error, local bool) {
	s.mu.Lock()
	a := &s.attention
	a.asks, a.local = ask, local
	s.ask()
	done := a.done
	s.mu.Unlock()
	if ask == nil && done != nil {
		<-done
	}
}

// Ask says which weights of attention are wanted. Those of an engine of this process are left in a buffer, which is in use until
// another one is given and Wait has returned, or the engine is closed.
func (s *State) Ask(c Choice, into *pumice.VulkanBuffer) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if a := &s.attention; c != a.Choice || into != a.into {
		a.Choice, a.into = c, into
		s.ask()
	}
}

// Wait waits until the asking that Ask has ended is over.
func (s *State) Wait() {
	s.mu.Lock()
	done := s.attention.done
	s.mu.Unlock()
	if done != nil {
		<-done
	}
}

// ask ends the asking that is under way, and begins another one if something is wanted. The caller has the lock.
func (s *State) ask() {
	a := &s.attention
	a.Known, a.Err = false, nil
	if a.stop != nil {
		a.stop()
		a.stop = nil
	}
	if !a.On || a.asks == nil || a.local && a.into == nil {
		return
	}
	ctx, stop := context.WithCancel(context.Background())
	before, done, asks, c, into := a.done, make(chan struct{}), a.asks, a.Choice, a.into
	a.stop, a.done = stop, done
	go func() {
		defer close(done)
		defer stop()
		if before != nil {
			<-before
		}
		if ctx.Err() != nil {
			return
		}
		err := asks(ctx, c, into)
		s.mu.Lock()
		defer s.mu.Unlock()
		if ctx.Err() == nil {
			a.Known, a.Err = false, cmp.Or(err, errEnded)
		}
	}()
}

// weights takes in weights of attention.
func (s *State) weights(e server.Attention) {
	s.mu.Lock()
	defer s.mu.Unlock()
	a := &s.attention
	if e.Layer != a.Layer || e.Head != a.Head || !a.On {
		return // of what was asked before
	}
	w := e.Weights
	if !a.local {
		w = append([]float32{}, w...) // not nil
	}
	if over := len(w) - textTokens; over > 0 {
		w, e.First = w[over:], e.First+over
	}
	if e.First < 0 || e.First > math.MaxInt32 || e.Position < 0 || e.Position > math.MaxInt32 {
		return
	}
	a.Known, a.Session, a.Position, a.First, a.Weights = true, e.Session, e.Position, e.First, w
	a.Stamp++
}
