package server

import (
	"cmp"
	"context"
	"crypto/subtle"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/rs/zerolog"
)

// Options configure a Server.
type Options struct {
	Models []Model // the first answers requests that name none

	// Keys, if there are any, are the API keys of which a request needs one: as a bearer token, or in X-Api-Key.
	Keys []string
	// Local refuses requests whose Host is a name of the public Internet, so that a web page can't reach the server by a name
	// that it has made to point here (DNS rebinding). It is for servers that listen on a loopback address. Where there are
	// keys, they keep such pages out, and a proxy may pass on its own name.
	Local bool
	// NoPage leaves out the page at /, a chat in the browser.
	NoPage bool
	// MaxRequests is how many requests are worked on at a time, of those that take work: others are refused with status 503. 0
	// stands for DefaultMaxRequests.
	MaxRequests int
	// Preload has New begin to load the first model, so that /health says from the beginning whether it is ready.
	Preload bool
	// Idle is how long a model stays loaded that nobody uses; with 0 it stays.
	Idle time.Duration

	Logger zerolog.Logger
}

// DefaultMaxRequests is many more than share a step, so that waiting is fair, and few enough to hold in memory.
const DefaultMaxRequests = 256

// A Server answers HTTP requests with models. It is an http.Handler.
type Server struct {
	options Options
	models  []*served
	byName  map[string]*served
	keys    [][]byte
	log     zerolog.Logger
	started time.Time
	metrics *metrics
	handler http.Handler
	room    chan struct{} // holds an element for each request that is worked on
	ping    time.Duration // pingEvery, but in tests

	life context.Context // of loading
	stop context.CancelFunc
	open context.Context // of watches
	shut context.CancelFunc
}

// New returns a Server. The caller closes it.
func New(o Options) (*Server, error) {
	s := &Server{options: o, byName: map[string]*served{}, log: o.Logger, started: time.Now(), ping: pingEvery}
	s.life, s.stop = context.WithCancel(context.Background())
	s.open, s.shut = context.WithCancel(s.life)
	for _, m := range o.Models {
		x := &served{Model: m, idle: o.Idle, log: o.Logger}
		s.models = append(s.models, x)
		for _, name := range slices.Concat([]string{m.Name}, m.Aliases) {
			if s.byName[name] != nil {
				return nil, errors.New("server: two models are called " + name)
			}
			s.byName[name] = x
		}
	}
	s.room = make(chan struct{}, cmp.Or(o.MaxRequests, DefaultMaxRequests))
	for _, key := range o.Keys {
		if key == "" {
			return nil, errors.New("server: an API key is empty, which everybody has")
		}
		s.keys = append(s.keys, []byte(key))
	}
	s.metrics = newMetrics(s)
	s.handler = s.guard(s.routes())
	if o.Preload && len(s.models) > 0 {
		s.models[0].begin(s.life)
	}
	return s, nil
}

// ServeHTTP implements http.Handler.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) { s.handler.ServeHTTP(w, r) }

// Load loads a model, or with "" the first one, before it is asked for.
func (s *Server) Load(ctx context.Context, name string) error {
	m, err := s.model(name)
	if err != nil {
		return err
	}
	e, err := m.use(ctx, s.life)
	if err == nil {
		e.leave()
	}
	return err
}

// Close closes the models. Answers in progress end with an error; an http.Server's Shutdown waits for them before.
func (s *Server) Close() error {
	s.stop()
	var errs []error
	for _, m := range s.models {
		errs = append(errs, m.close())
	}
	return errors.Join(errs...)
}

func (s *Server) routes() *http.ServeMux {
	mux := http.NewServeMux()
	// The client is told of a handler's error.
	handle := func(pattern string, handler func(w http.ResponseWriter, r *http.Request) error) {
		if strings.HasPrefix(pattern, http.MethodPost) {
			handler = s.limited(handler)
		}
		mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) {
			if err := handler(w, r); err != nil {
				s.fail(w, r, err)
			}
		})
	}
	for _, prefix := range []string{"", "/v1"} {
		handle("GET "+prefix+"/health", s.health)
		handle("GET "+prefix+"/models", s.list)
		handle("GET "+prefix+"/models/{model...}", s.retrieve)
		handle("POST "+prefix+"/chat/completions", s.chat)
		handle("POST "+prefix+"/embeddings", s.embeddings)
	}
	handle("POST /models/unload", s.unload)
	handle("POST /v1/completions", s.completions)
	handle("POST /v1/messages", s.messages)
	handle("POST /v1/messages/count_tokens", s.countTokens)
	handle("POST /v1/responses", s.responses)
	handle("POST /completion", s.completion)
	handle("POST /completions", s.completion)
	handle("POST /infill", s.infill)
	handle("POST /tokenize", s.tokenize)
	handle("POST /detokenize", s.detokenize)
	handle("POST /apply-template", s.applyTemplate)
	handle("GET /tokenizer_info", s.tokenizerInfo)
	handle("GET /props", s.props)
	handle("GET /slots", s.slots)
	handle("GET /watch", s.watch)
	handle("GET /watch/attention", s.watchAttention)
	mux.Handle("GET /metrics", s.metrics)
	if !s.options.NoPage {
		handle("GET /{$}", page)
		handle("GET /page/{file}", page)
	}
	handle("/", func(_ http.ResponseWriter, r *http.Request) error { return missing(r) })
	return mux
}

// limited refuses requests beyond those that there is room for.
func (s *Server) limited(handler func(w http.ResponseWriter, r *http.Request) error) func(w http.ResponseWriter, r *http.Request) error {
	return func(w http.ResponseWriter, r *http.Request) error {
		select {
		case s.room <- struct{}{}:
			defer func() { <-s.room }()
			return handler(w, r)
		default:
			w.Header().Set("Retry-After", "1")
			return &requestError{Code: http.StatusServiceUnavailable, Type: "unavailable_error",
				Message: fmt.Sprintf("the server works on %d requests already: try again later", cap(s.room))}
		}
	}
}

// missing is the error of a path that is not there, or not for this method.
func missing(r *http.Request) error {
	return &requestError{Code: http.StatusNotFound, Type: "not_found_error", Message: "there is no " + r.Method + " " + r.URL.Path}
}

// guard refuses what is not for the server, and says which pages of browsers may read answers: those that this machine serves.
func (s *Server) guard(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("X-Content-Type-Options", "nosniff")
		w.Header().Set("Server", "pumice")
		if s.options.Local && len(s.keys) == 0 && isPublic(r.Host) {
			s.fail(w, r, &requestError{Code: http.StatusForbidden, Type: "permission_error",
				Message: "this server is for this machine alone; behind a proxy with a public name it needs an API key"})
			return
		}
		if origin := r.Header.Get("Origin"); origin != "" {
			w.Header().Add("Vary", "Origin")
			u, err := url.Parse(origin)
			if err == nil && isLocal(u.Host) {
				w.Header().Set("Access-Control-Allow-Origin", origin)
				w.Header().Set("Access-Control-Allow-Headers", "*, Authorization")
				w.Header().Set("Access-Control-Allow-Methods", "GET, POST")
			} else if r.Method != http.MethodGet && !s.isOwn(r, u) {
				s.fail(w, r, &requestError{Code: http.StatusForbidden, Type: "permission_error", Message: "pages of other sites can't use this server"})
				return
			}
			if r.Method == http.MethodOptions {
				w.WriteHeader(http.StatusNoContent)
				return
			}
		}
		if !s.admits(r) {
			s.fail(w, r, &requestError{Code: http.StatusUnauthorized, Type: "authentication_error", Message: "the API key is missing or wrong"})
			return
		}
		next.ServeHTTP(w, r)
	})
}

// isOwn reports whether a request may come from this server's own page, at another address than this machine's name for itself. A
// public name may be one that an attacker has made to point here, but no such page has a key, which is looked at later.
func (s *Server) isOwn(r *http.Request, origin *url.URL) bool {
	return len(s.keys) > 0 || origin != nil && origin.Host == r.Host && !isPublic(r.Host)
}

// admits reports whether a request needs no key or has one. Anybody may ask for the server's health, its models' names and its
// page.
func (s *Server) admits(r *http.Request) bool {
	switch strings.TrimPrefix(r.URL.Path, "/v1") {
	case "/health", "/models":
		return true
	}
	if len(s.keys) == 0 || isPage(r.URL.Path) {
		return true
	}
	key := r.Header.Get("X-Api-Key")
	if scheme, token, ok := strings.Cut(r.Header.Get("Authorization"), " "); ok && strings.EqualFold(scheme, "Bearer") {
		key = strings.TrimSpace(token)
	}
	right := 0
	for _, k := range s.keys {
		right |= subtle.ConstantTimeCompare(k, []byte(key))
	}
	return right == 1
}

// isLocal reports whether a host, with a port or without, is this machine's name for itself.
func isLocal(host string) bool {
	host = hostname(host)
	ip := net.ParseIP(host)
	return host == "localhost" || strings.HasSuffix(host, ".localhost") || ip != nil && ip.IsLoopback()
}

// isPublic reports whether a host may be a name that a stranger has made to point here: it is neither an address nor this
// machine's own name, nor one that public DNS does not have (RFC 6761, RFC 6762; ICANN keeps internal for private use).
func isPublic(host string) bool {
	host = strings.ToLower(strings.TrimSuffix(hostname(host), "."))
	if own, err := os.Hostname(); net.ParseIP(host) != nil || host == "localhost" || err == nil && host == strings.ToLower(own) {
		return false
	}
	switch host[strings.LastIndexByte(host, '.')+1:] {
	case "localhost", "local", "internal":
		return false
	}
	return true
}

// hostname is a host without its port.
func hostname(host string) string {
	if h, _, err := net.SplitHostPort(host); err == nil {
		host = h
	}
	return strings.Trim(host, "[]")
}

func (s *Server) health(w http.ResponseWriter, r *http.Request) error {
	if len(s.models) > 0 {
		if _, loading := s.models[0].loaded(); loading {
			return &requestError{Code: http.StatusServiceUnavailable, Type: "unavailable_error", Message: "Loading model"}
		}
	}
	reply(w, http.StatusOK, map[string]string{"status": "ok"})
	return nil
}
