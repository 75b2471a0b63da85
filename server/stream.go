package server

import (
	"encoding/json"
	"io"
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
	w     http.ResponseWriter
	c     *http.ResponseController
	every time.Duration

	mu    sync.Mutex
	ping  string      // sent while nothing else is
	timer *time.Timer // nil: closed
}

// newStream sends the headers of a stream of events. The caller closes it.
func newStream(w http.ResponseWriter, every time.Duration) *stream {
	h := w.Header()
	h.Set("Content-Type", "text/event-stream; charset=utf-8")
	h.Set("Cache-Control", "no-cache")
	h.Set("X-Accel-Buffering", "no") // nginx would keep events back
	w.WriteHeader(http.StatusOK)
	x := &stream{w: w, c: http.NewResponseController(w), every: every, ping: ": ping\n\n"}
	_ = x.c.Flush() // the client may be gone
	x.timer = time.AfterFunc(every, func() {
		x.mu.Lock()
		defer x.mu.Unlock()
		_ = x.write(x.ping)
	})
	return x
}

// pingWith replaces the comment that says that an answer is on the way.
func (x *stream) pingWith(ping string) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.ping = ping
}

// send sends a value as JSON.
func (x *stream) send(v any) error { return x.event("", v) }

// event sends a value as JSON in an event with a name.
func (x *stream) event(name string, v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return err
	}
	if name != "" {
		name = "event: " + name + "\n"
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.write(name + "data: " + string(b) + "\n\n")
}

// fail sends an error as OpenAI does.
func (x *stream) fail(err *requestError) error { return x.send(map[string]any{"error": err}) }

// done ends the events as OpenAI does.
func (x *stream) done() error {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.write("data: [DONE]\n\n")
}

// write writes text. The caller has the lock.
func (x *stream) write(text string) error {
	if x.timer == nil {
		return http.ErrBodyNotAllowed
	}
	x.timer.Reset(x.every)
	_ = x.c.SetWriteDeadline(time.Now().Add(writeTimeout)) // not every connection has one
	if _, err := io.WriteString(x.w, text); err != nil {
		return err
	}
	return x.c.Flush()
}

// close ends the pings, after which nothing may be written.
func (x *stream) close() {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.timer.Stop()
	x.timer = nil
	_ = x.c.SetWriteDeadline(time.Time{})
}
