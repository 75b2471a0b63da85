package server

import (
	"cmp"
	"context"
	"net/http"
	"strconv"
	"time"

	"pumice"
)

// metricsEvery is how often those who watch are sent the counts.
const metricsEvery = time.Second

// An Engine says what those who watch an engine have to know of it.
type Engine struct {
	Model   string              `json:"model"`
	Context int                 `json:"context"` // tokens of a session
	Layers  int                 `json:"layers"`
	Heads   int                 `json:"heads"` // of queries in a layer
	Devices []pumice.DeviceInfo `json:"devices"`
	Memory  pumice.MemoryPlan   `json:"memory"`
}

// Describe says it of an engine whose model has a name.
func Describe(e *pumice.Engine, name string) Engine {
	c := e.Config()
	about := Engine{Model: name, Context: e.Context(), Layers: c.NumHiddenLayers, Heads: c.NumAttentionHeads, Memory: e.Memory()}
	for _, d := range e.Devices() {
		about.Devices = append(about.Devices, d.Info())
	}
	return about
}

// watch sends what an engine does, while it does it: first an event named engine (Engine), then events named metrics
// (pumice.Metrics) each second, and events without a name (pumice.Event). Texts are not in them, nor the ids of their
// tokens: who may use the server may not read what others write. The model stays loaded meanwhile.
func (s *Server) watch(w http.ResponseWriter, r *http.Request) error {
	e, err := s.use(r, r.URL.Query().Get("model"))
	if err != nil {
		return err
	}
	defer e.leave()
	ctx, cancel := context.WithCancel(r.Context())
	defer cancel()
	defer context.AfterFunc(s.open, cancel)()
	x := newStream(w, s.ping)
	defer x.close()
	if x.event("engine", Describe(e.Engine, e.model.Name)) != nil {
		return nil // the client is gone
	}
	go func() {
		defer cancel()
		for tick := time.NewTicker(metricsEvery); ; {
			if x.event("metrics", e.Metrics()) != nil {
				return
			}
			select {
			case <-tick.C:
			case <-ctx.Done():
				tick.Stop()
				return
			}
		}
	}()
	for event := range e.Watch(ctx) {
		if x.send(withoutTexts(event)) != nil {
			break
		}
	}
	return nil
}

// attentionTokens is of how many tokens, the last ones, those who watch are sent weights of attention.
const attentionTokens = 600

// An Attention is pumice.Attention of the last tokens of a text: Weights begin with that of position First.
type Attention struct {
	pumice.Attention
	First int `json:"first"`
}

// watchAttention sends events named attention (Attention) of a layer and one of its heads, or the mean over all, for as long as
// the client reads them: the device computes them only meanwhile.
func (s *Server) watchAttention(w http.ResponseWriter, r *http.Request) error {
	q := r.URL.Query()
	o := pumice.AttentionOptions{Head: pumice.MeanOfHeads}
	var err error
	if o.Layer, err = strconv.Atoi(cmp.Or(q.Get("layer"), "0")); err == nil && q.Get("head") != "" {
		o.Head, err = strconv.Atoi(q.Get("head"))
	}
	if err != nil {
		return invalid("layer", "layer and head are numbers; without a head it is the mean over all")
	}
	e, err := s.use(r, q.Get("model"))
	if err != nil {
		return err
	}
	defer e.leave()
	if c := e.Config(); o.Layer < 0 || o.Layer >= c.NumHiddenLayers || o.Head < pumice.MeanOfHeads || o.Head >= c.NumAttentionHeads || c.Encoder {
		return invalid("layer", "there is no head %d in layer %d: %s has %d layers with %d heads", o.Head, o.Layer, e.model.Name, c.NumHiddenLayers, c.NumAttentionHeads)
	}
	ctx, cancel := context.WithCancel(r.Context())
	defer cancel()
	defer context.AfterFunc(s.open, cancel)()
	x := newStream(w, s.ping)
	defer x.close()
	for a, err := range e.WatchAttention(ctx, o) {
		if err != nil {
			break // the headers are sent
		}
		first := max(0, len(a.Weights)-attentionTokens)
		a.Weights = a.Weights[first:]
		if x.event("attention", Attention{a, first}) != nil {
			break
		}
	}
	return nil
}

// withoutTexts is an event without the ids of tokens. Other watchers have the same event, which does not change.
func withoutTexts(e pumice.Event) pumice.Event {
	if e.Step == nil {
		return e
	}
	step := *e.Step
	step.Pieces = nil
	for _, p := range e.Step.Pieces {
		p.Tokens = nil
		step.Pieces = append(step.Pieces, p)
	}
	e.Step = &step
	return e
}

// EndWatches ends answers that would otherwise go on for as long as their clients like. An http.Server calls it when it
// shuts down (RegisterOnShutdown).
func (s *Server) EndWatches() { s.shut() }
