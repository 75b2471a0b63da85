package hub

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"time"

	"pumice/internal/regular"
	"pumice/store"
)

// Options are what a Client needs. Environment returns those that a user's programs share.
type Options struct {
	Endpoint string      // the Hub's address, such as https://huggingface.co
	Token    string      // sent to this address alone; "": none
	Cache    store.Cache // where files go
	Offline  bool        // fetch nothing
	Agent    string      // what the Client calls itself

	// Progress, if it is not nil, is told how many bytes of a Pull are there; it can go back. One goroutine at a time calls it.
	Progress func(done, total int64)
	// Note, if it is not nil, is told why a Pull waits, and what it leaves out. One goroutine at a time calls it.
	Note func(text string)
}

// defaultEndpoint is the Hub.
const defaultEndpoint = "https://huggingface.co"

// Environment returns the options that the environment gives, by the names that huggingface_hub reads: HF_ENDPOINT, HF_TOKEN or the
// file HF_TOKEN_PATH (token in HF_HOME) that logging in writes, HF_HUB_CACHE or HF_HOME, and HF_HUB_OFFLINE.
func Environment() (Options, error) {
	o := Options{Endpoint: os.Getenv("HF_ENDPOINT"), Token: strings.TrimSpace(os.Getenv("HF_TOKEN"))}
	if o.Endpoint == "" {
		o.Endpoint = defaultEndpoint
	}
	switch strings.ToUpper(os.Getenv("HF_HUB_OFFLINE")) {
	case "1", "ON", "YES", "TRUE":
		o.Offline = true
	}
	var err error
	if o.Cache, err = store.HubCache(); err != nil {
		return o, err
	}
	if o.Token != "" {
		return o, nil
	}
	file := os.Getenv("HF_TOKEN_PATH")
	if file == "" {
		home, err := store.HubHome()
		if err != nil {
			return o, err
		}
		file = filepath.Join(home, "token")
	}
	if text, err := regular.ReadFile(file, 4<<10); err == nil { // who has not logged in has no such file
		o.Token = strings.TrimSpace(string(text))
	}
	return o, nil
}

// A Client fetches models. It is safe for concurrent use.
type Client struct {
	o        Options
	endpoint *url.URL
	http     *http.Client
	buffers  chan []byte // of chunks on their way: nil until it is used
	noting   sync.Mutex

	// Tests make these smaller.
	chunk   int64
	stall   time.Duration
	backoff time.Duration
}

const (
	chunkBytes = 8 << 20 // of one request for a part of a file
	maxChunks  = 8       // on their way at once, of all files
	maxFiles   = 4       // that are fetched at once

	stallTime    = time.Minute // without a byte, after which a connection counts as cut
	firstBackoff = 500 * time.Millisecond
	maxBackoff   = 30 * time.Second
	maxAttempts  = 6               // without progress
	maxWait      = 5 * time.Minute // that a server may ask for
	maxRedirects = 10
)

// New returns a Client. The error is about the options.
func New(o Options) (*Client, error) {
	u, err := url.Parse(o.Endpoint)
	switch {
	case err != nil || u.Host == "" || u.Scheme != "https" && u.Scheme != "http":
		return nil, errors.New("hub: the endpoint is not an http or https address")
	case u.User != nil:
		return nil, errors.New("hub: the endpoint has a password in it: a token is given on its own")
	case strings.ContainsFunc(o.Token, func(r rune) bool { return r <= ' ' || r > '~' }):
		return nil, errors.New("hub: the token has characters that no token has")
	}
	t := http.DefaultTransport.(*http.Transport).Clone()
	t.DisableCompression = true // hashes and ranges are of the content
	t.ResponseHeaderTimeout = stallTime
	t.MaxIdleConnsPerHost = maxChunks
	// HTTP/2 would put all ranges of a file into one connection, whose congestion window they then share.
	t.Protocols = new(http.Protocols)
	t.Protocols.SetHTTP1(true)
	c := &Client{o: o, endpoint: u, buffers: make(chan []byte, maxChunks), chunk: chunkBytes, stall: stallTime, backoff: firstBackoff}
	for range maxChunks {
		c.buffers <- nil
	}
	c.http = &http.Client{Transport: &authorised{t, u.Scheme, u.Host, o.Token}, CheckRedirect: checkRedirect}
	return c, nil
}

// authorised adds the token to requests to one host. It is no header of a Request, so that no redirect can carry it on.
type authorised struct {
	next         http.RoundTripper
	scheme, host string
	token        string
}

func (a *authorised) RoundTrip(r *http.Request) (*http.Response, error) {
	if a.token != "" && r.URL.Scheme == a.scheme && r.URL.Host == a.host {
		r = r.Clone(r.Context())
		r.Header.Set("Authorization", "Bearer "+a.token)
	}
	return a.next.RoundTrip(r)
}

// errRedirect says that a redirect is not followed.
var errRedirect = errors.New("the server redirects from https to http, or without end")

func checkRedirect(r *http.Request, via []*http.Request) error {
	if len(via) > maxRedirects || r.URL.Scheme != "https" && (via[0].URL.Scheme == "https" || r.URL.Scheme != "http") {
		return errRedirect
	}
	return nil
}

func (c *Client) note(format string, args ...any) {
	if c.o.Note != nil {
		c.noting.Lock()
		defer c.noting.Unlock()
		c.o.Note(fmt.Sprintf(format, args...))
	}
}

// A StatusError is an answer of the server that is no success.
type StatusError struct {
	What    string // that was asked for
	Status  int
	Code    string // as the Hub gives it, such as GatedRepo; may be ""
	Message string // the server's
	after   time.Duration
}

func (e *StatusError) Error() string {
	text := fmt.Sprintf("hub: %s: the server answers %d", e.What, e.Status)
	if name := http.StatusText(e.Status); name != "" {
		text += " " + name
	}
	if e.Message != "" {
		text += fmt.Sprintf(": %q", e.Message)
	}
	return text
}

const maxMessage = 300

func statusError(what string, r *http.Response) *StatusError {
	e := &StatusError{What: what, Status: r.StatusCode, Code: r.Header.Get("X-Error-Code"), Message: r.Header.Get("X-Error-Message"), after: retryAfter(r.Header)}
	if e.Message == "" {
		var body struct {
			Error string `json:"error"`
		}
		if json.NewDecoder(io.LimitReader(r.Body, 16<<10)).Decode(&body) == nil {
			e.Message = body.Error
		}
	}
	if len(e.Message) > maxMessage {
		e.Message = e.Message[:maxMessage]
	}
	return e
}

// rateLimit matches the seconds to the next window in a RateLimit header (draft-ietf-httpapi-ratelimit-headers-09).
var rateLimit = regexp.MustCompile(`\br\s*=\s*0\s*;\s*t\s*=\s*(\d{1,6})`)

func retryAfter(h http.Header) time.Duration {
	value := h.Get("Retry-After")
	if m := rateLimit.FindStringSubmatch(h.Get("RateLimit")); value == "" && m != nil {
		value = m[1]
	}
	if seconds, err := strconv.ParseUint(value, 10, 31); err == nil {
		return time.Duration(seconds) * time.Second
	}
	if t, err := http.ParseTime(value); err == nil {
		return max(0, time.Until(t))
	}
	return 0
}

// A cutError is a connection that could not be made or that broke.
type cutError struct {
	what string
	err  error
}

func (e *cutError) Error() string { return fmt.Sprintf("hub: %s: %s", e.what, clip(e.err.Error())) }
func (e *cutError) Unwrap() error { return e.err }

// cut makes an error of one of package http, without the address, which may have a signature.
func cut(what string, err error) error {
	var u *url.Error
	if errors.As(err, &u) {
		err = u.Err
	}
	return &cutError{what, err}
}

// passing reports whether an error may be gone at the next attempt, and how long the server wants to be left alone.
func passing(err error) (bool, time.Duration) {
	var status *StatusError
	if errors.As(err, &status) {
		switch status.Status {
		case http.StatusRequestTimeout, http.StatusTooEarly, http.StatusTooManyRequests, http.StatusInternalServerError,
			http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
			return true, status.after
		}
		return false, 0
	}
	var broken *cutError
	var dns *net.DNSError
	if !errors.As(err, &broken) || errors.Is(err, errRedirect) || errors.As(err, &dns) && dns.IsNotFound {
		return false, 0
	}
	var certificate *tls.CertificateVerificationError
	return !errors.As(err, &certificate), 0
}

// retry calls try until it succeeds, fails for good, or has failed maxAttempts times without progress in between.
func (c *Client) retry(ctx context.Context, try func() (progress bool, err error)) error {
	for attempt := 1; ; attempt++ {
		progress, err := try()
		if err == nil || ctx.Err() != nil {
			return errors.Join(err, ctx.Err())
		}
		if progress {
			attempt = 1
		}
		again, wait := passing(err)
		if !again || attempt == maxAttempts || wait > maxWait {
			return err
		}
		if wait == 0 {
			wait = min(c.backoff<<(attempt-1), maxBackoff)
			wait = wait/2 + rand.N(wait/2+1)
		}
		if wait > time.Second || attempt > 1 {
			c.note("%v; trying again in %v", err, wait.Round(time.Second/10))
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(wait):
		}
	}
}

// errStalled says that nothing came for a while.
var errStalled = errors.New("nothing came any more")

// get sends a request. The body ends with an error where nothing comes for a while; the caller closes it.
func (c *Client) get(ctx context.Context, what, address string, header http.Header) (*http.Response, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		cancel(nil)
		return nil, cut(what, err)
	}
	if header != nil {
		r.Header = header
	}
	r.Header.Set("User-Agent", c.o.Agent)
	r.Header.Set("Accept-Encoding", "identity")
	resp, err := c.http.Do(r)
	if err != nil {
		cancel(nil)
		return nil, cut(what, err)
	}
	resp.Body = &watched{resp.Body, ctx, cancel, time.AfterFunc(c.stall, func() { cancel(errStalled) }), c.stall}
	return resp, nil
}

// watched is a body that must not stall.
type watched struct {
	io.ReadCloser
	ctx    context.Context
	cancel context.CancelCauseFunc
	timer  *time.Timer
	stall  time.Duration
}

func (w *watched) Read(p []byte) (int, error) {
	n, err := w.ReadCloser.Read(p)
	w.timer.Reset(w.stall)
	if err != nil && context.Cause(w.ctx) == errStalled {
		err = errStalled
	}
	return n, err
}

func (w *watched) Close() error {
	w.timer.Stop()
	err := w.ReadCloser.Close()
	w.cancel(nil)
	return err
}
