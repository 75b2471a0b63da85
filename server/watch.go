package server

import (
	"context"
	"net/http"
	"time"

	"pumice"
)

// metricsEvery is how often those who watch are sent the counts.
const metricsEvery = time.Second

// An Engine says what those who watch an engine have to know of it.
type Engine struct {
	Model   string              `json:"model"`
	Context int                 `json:"context"` // tokens of a session
	Devices []pumice.DeviceInfo `json:"devices"`
	Memory  pumice.MemoryPlan   `json:"memory"`
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
	about := Engine{Model: e.model.Name, Context: e.Context(), Memory: e.Memory()}
	for _, d := range e.Devices() {
		about.Devices = append(about.Devices, d.Info())
	}
	if x.event("engine", about) != nil {
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
