package server

import (
	"context"
	"fmt"
	"net/http"
	"sync"
	"time"

	"github.com/rs/zerolog"

	"pumice"
	"pumice/constrain"
	"pumice/sample"
)

// A Model is what a Server offers under a name. It is loaded when it is first asked for, or by Server.Load.
type Model struct {
	Name    string
	Aliases []string                                          // other names
	Open    func(ctx context.Context) (*pumice.Engine, error) // the Server closes the Engine

	Sampling  func(p *sample.Params) // changes the model's parameters where a request says nothing; may be nil
	MaxTokens int                    // of an answer whose request sets no limit; 0: the context's
	Variables map[string]any         // of the chat template, where a request says nothing
	Pooling   pumice.Pooling         // of embeddings; "" is what the model's files say
}

// A served is a Model with its state.
type served struct {
	Model
	idle time.Duration // after which it is unloaded; 0: never
	log  zerolog.Logger

	mu      sync.Mutex
	engine  *pumice.Engine // nil: not loaded
	words   func() (*constrain.Vocabulary, error)
	users   int           // of engine
	loading chan struct{} // closed when the loading under way has ended; nil: none is
	err     error         // of the last loading
	timer   *time.Timer   // unloads it; nil: it never was idle
	closed  bool
}

// model returns the model that a request names; without a name, or if there is only one, the first.
func (s *Server) model(name string) (*served, error) {
	if m, ok := s.byName[name]; ok {
		return m, nil
	}
	if len(s.models) > 0 && name == "" || len(s.models) == 1 { // clients send names of other servers' models
		return s.models[0], nil
	}
	return nil, noModel(name)
}

// noModel is the error of a name that no model has.
func noModel(name string) error {
	return &requestError{Code: http.StatusNotFound, Type: "not_found_error", Param: "model",
		Message: fmt.Sprintf("there is no model %q; GET /v1/models lists those there are", name)}
}

// A use is a model that is loaded, and stays so until leave.
type use struct {
	*pumice.Engine
	model      *served
	leave      func()
	vocabulary func() (*constrain.Vocabulary, error) // of constraints; it is made once
}

// use loads the model that a request names, if need be. The caller leaves it.
func (s *Server) use(r *http.Request, name string) (*use, error) {
	m, err := s.model(name)
	if err != nil {
		return nil, err
	}
	return m.use(r.Context(), s.life)
}

// begin decodes a request into q, whose field name is that of a model, and loads that. The caller leaves it.
func (s *Server) begin(w http.ResponseWriter, r *http.Request, q any, name *string) (*use, error) {
	if err := decode(w, r, q); err != nil {
		return nil, err
	}
	return s.use(r, *name)
}

// use loads the model if need be. The loading goes on if ctx ends: others may wait for it too.
func (m *served) use(ctx, life context.Context) (*use, error) {
	m.mu.Lock()
	for m.engine == nil {
		if m.closed {
			m.mu.Unlock()
			return nil, pumice.ErrClosed
		}
		if m.loading == nil {
			m.begin(life)
		}
		loading := m.loading
		m.mu.Unlock()
		select {
		case <-loading:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
		m.mu.Lock()
		if m.engine == nil && m.err != nil {
			defer m.mu.Unlock()
			return nil, fmt.Errorf("server: loading %s: %w", m.Name, m.err)
		}
	}
	defer m.mu.Unlock()
	m.users++
	if m.timer != nil {
		m.timer.Stop()
	}
	return &use{m.engine, m, sync.OnceFunc(m.leave), m.words}, nil
}

// begin begins to load the engine. The caller holds mu, or is the only one who knows m.
func (m *served) begin(life context.Context) {
	m.loading = make(chan struct{})
	go m.load(life)
}

// load opens the engine.
func (m *served) load(life context.Context) {
	engine, err := m.Open(life)
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.closed && err == nil {
		err = engine.Close()
		engine = nil
	}
	m.engine, m.err = engine, err
	if engine != nil {
		m.words = sync.OnceValues(func() (*constrain.Vocabulary, error) { return engine.Vocabulary(marks...) })
		if m.log.GetLevel() <= zerolog.DebugLevel {
			go m.logLookups(life, engine)
		}
	}
	close(m.loading)
	m.loading = nil
}

// logLookups logs, until the engine is closed, what of each text the KV cache had, and where it missed: if every turn of a
// conversation misses near its beginning, a client or a template changes what was said before.
func (m *served) logLookups(life context.Context, engine *pumice.Engine) {
	for event := range engine.Watch(life) {
		l := event.Lookup
		if l == nil {
			continue
		}
		line := m.log.Debug().Str("model", m.Name).Int("tokens", l.Tokens).Int("cached", l.Held)
		if l.Differs < l.Tokens {
			line = line.Int("differs_at", l.Differs)
		}
		line.Msg("the KV cache was looked up")
	}
}

// leave ends a use.
func (m *served) leave() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.users--
	if m.users > 0 || m.idle == 0 {
		return
	}
	if m.timer == nil {
		m.timer = time.AfterFunc(m.idle, func() { m.unload() })
		return
	}
	m.timer.Reset(m.idle)
}

// unload closes the engine if nobody uses it, and returns how many do.
func (m *served) unload() (users int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.users == 0 && m.engine != nil {
		m.err = m.engine.Close()
		m.engine, m.words = nil, nil
	}
	return m.users
}

// close unloads the model for good, after its users.
func (m *served) close() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.closed = true
	if m.timer != nil {
		m.timer.Stop()
	}
	if m.engine == nil {
		return nil
	}
	err := m.engine.Close()
	m.engine = nil
	return err
}

// loaded is the engine if there is one, without a use: what it tells does not change.
func (m *served) loaded() (engine *pumice.Engine, loading bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.engine, m.loading != nil
}

// listed is a model in the answer of /v1/models.
type listed struct {
	ID      string   `json:"id"`
	Object  string   `json:"object"`
	Created int64    `json:"created"`
	OwnedBy string   `json:"owned_by"`
	Aliases []string `json:"aliases,omitempty"`
	Status  struct {
		Value string `json:"value"` // unloaded, loading or loaded, as llama-server's router has it
	} `json:"status"`
	Meta *meta `json:"meta,omitempty"` // of a model that is loaded
}

type meta struct {
	VocabSize    int   `json:"n_vocab"`
	Context      int   `json:"n_ctx"`
	ContextTrain int   `json:"n_ctx_train"`
	Embedding    int   `json:"n_embd"`
	Parameters   int64 `json:"n_params"`
	Bytes        int64 `json:"size"`

	DeviceBytes int64    `json:"device_bytes"` // of memory that it takes on its devices, with its KV cache
	Sessions    int      `json:"sessions"`     // at work
	Devices     []string `json:"devices"`
}

func (s *Server) list(w http.ResponseWriter, _ *http.Request) error {
	list := []listed{}
	for _, m := range s.models {
		list = append(list, s.describe(m))
	}
	reply(w, http.StatusOK, map[string]any{"object": "list", "data": list, "models": list}) // Codex reads the second
	return nil
}

func (s *Server) retrieve(w http.ResponseWriter, r *http.Request) error {
	m, ok := s.byName[r.PathValue("model")]
	if !ok {
		return &requestError{Code: http.StatusNotFound, Type: "not_found_error", Param: "model",
			Message: fmt.Sprintf("there is no model %q", r.PathValue("model"))}
	}
	reply(w, http.StatusOK, s.describe(m))
	return nil
}

func (s *Server) describe(m *served) listed {
	x := listed{ID: m.Name, Object: "model", Created: s.started.Unix(), OwnedBy: "pumice", Aliases: m.Aliases}
	e, loading := m.loaded()
	switch {
	case e != nil:
		c, files := e.Config(), e.Source()
		x.Status.Value = "loaded"
		x.Meta = &meta{VocabSize: c.VocabSize, Context: e.Context(), ContextTrain: c.MaxPositionEmbeddings, Embedding: c.HiddenSize,
			Parameters: files.Parameters, Bytes: files.Bytes, DeviceBytes: e.Memory().TotalBytes, Sessions: e.Metrics().Sessions}
		for _, d := range e.Devices() {
			x.Meta.Devices = append(x.Meta.Devices, d.Info().Name)
		}
	case loading:
		x.Status.Value = "loading"
	default:
		x.Status.Value = "unloaded"
	}
	return x
}

// unload unloads a model that nobody uses, as llama-server's router does. It is loaded again when it is asked for.
func (s *Server) unload(w http.ResponseWriter, r *http.Request) error {
	var q struct {
		Model string `json:"model"`
	}
	if err := decode(w, r, &q); err != nil {
		return err
	}
	m, ok := s.byName[q.Model]
	if !ok {
		return noModel(q.Model)
	}
	if users := m.unload(); users > 0 {
		return &requestError{Code: http.StatusConflict, Type: "invalid_request_error", Param: "model",
			Message: fmt.Sprintf("%d requests use the model %q", users, q.Model)}
	}
	reply(w, http.StatusOK, map[string]bool{"success": true})
	return nil
}
