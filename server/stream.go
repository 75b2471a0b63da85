package server

import (
	"encoding/json"
	"net/http"
	"sync"
	"time"
)

const (
	// pingEvery is how often a client is told that its answer is on the way while nothing else is sent, so that no proxy gives up.
	pingEvery = 30 * time.Second
	// writeTimeout is how long a client may take to read what it is sent.
	writeTimeout = time.Minute
)

// A stream sends server-sent events (HTML Living Standard, section 9.2).
type stream struct {
	w    http.ResponseWriter
	c    *http.ResponseController
	mu   sync.Mutex
	ping *time.Timer
}

// newStream sends the headers of a stream of events. The caller closes it.
func newStream(w http.ResponseWriter) *stream {
	h := w.Header()
	h.Set("Content-Type", "text/event-stream; charset=utf-8")
	h.Set("Cache-Control", "no-cache")
	h.Set("X-Accel-Buffering", "no") // nginx would keep events back
	w.WriteHeader(http.StatusOK)
	x := &stream{w: w, c: http.NewResponseController(w)}
	_ = x.c.Flush() // the client may be gone
	x.ping = time.AfterFunc(pingEvery, func() { _ = x.write([]byte(": ping\n\n")) })
	return x
}

// send sends a value as JSON.
func (x *stream) send(v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return err
	}
	return x.write(append(append([]byte("data: "), b...), "\n\n"...))
}

// done ends the events as OpenAI does.
func (x *stream) done() error { return x.write([]byte("data: [DONE]\n\n")) }

func (x *stream) write(b []byte) error {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.ping == nil {
		return http.ErrBodyNotAllowed
	}
	x.ping.Reset(pingEvery)
	_ = x.c.SetWriteDeadline(time.Now().Add(writeTimeout)) // not every connection has one
	if _, err := x.w.Write(b); err != nil {
		return err
	}
	return x.c.Flush()
}

// close ends the pings, after which nothing may be written.
func (x *stream) close() {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.ping.Stop()
	x.ping = nil
	_ = x.c.SetWriteDeadline(time.Time{})
}
