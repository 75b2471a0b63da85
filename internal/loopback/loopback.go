// Package loopback asks a server on this machine over HTTP, and connects to nothing else: addresses are checked when they are
// dialled, redirects are not followed, and no proxy is used.
package loopback

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// A Client asks one server. It is safe for concurrent use.
type Client struct {
	address string // as people write it
	base    string
	key     string
	http    *http.Client
}

// AddressError says that an address is not this machine's.
type AddressError struct{ Address string }

func (e *AddressError) Error() string {
	return fmt.Sprintf("loopback: %s is not an address of this machine", e.Address)
}

// A StatusError is an answer of the server that is not 200.
type StatusError struct {
	Status  int
	Message string // the server's
}

func (e *StatusError) Error() string {
	return fmt.Sprintf("loopback: the server answers with status %d: %s", e.Status, e.Message)
}

// timeout bounds an answer, and maxAnswer its size.
const (
	timeout   = 30 * time.Second
	maxAnswer = 4 << 20
)

// New returns a Client of the server at a host and port, or at the unix socket whose path ends with .sock. The hosts that
// stand for all addresses of a machine stand for its own here. key may be empty.
func New(host string, port int, key string) (*Client, error) {
	c := &Client{address: host, base: "http://localhost", key: key}
	dialer := &net.Dialer{Timeout: 5 * time.Second, Control: func(network, address string, _ syscall.RawConn) error {
		if host, _, err := net.SplitHostPort(address); network != "unix" && (err != nil || !isLoopback(host)) {
			return &AddressError{address}
		}
		return nil
	}}
	dial := func(ctx context.Context, _, _ string) (net.Conn, error) { return dialer.DialContext(ctx, "unix", host) }
	if !strings.HasSuffix(host, ".sock") {
		if ip := net.ParseIP(host); ip != nil && ip.IsUnspecified() {
			host = "127.0.0.1"
			if ip.To4() == nil {
				host = "::1"
			}
		}
		if host != "localhost" && !isLoopback(host) {
			return nil, &AddressError{host}
		}
		c.address = net.JoinHostPort(host, strconv.Itoa(port))
		c.base = "http://" + c.address
		dial = dialer.DialContext
	}
	c.http = &http.Client{
		Timeout:       timeout,
		Transport:     &http.Transport{DialContext: dial, DisableKeepAlives: true},
		CheckRedirect: func(*http.Request, []*http.Request) error { return errors.New("loopback: the server redirects") },
	}
	return c, nil
}

func isLoopback(host string) bool {
	ip := net.ParseIP(host)
	return ip != nil && ip.IsLoopback()
}

// Address is where the server is.
func (c *Client) Address() string { return c.address }

// Get decodes the JSON at a path into answer.
func (c *Client) Get(ctx context.Context, path string, answer any) error {
	return c.do(ctx, http.MethodGet, path, nil, answer)
}

// Post sends question as JSON to a path, and decodes the JSON of the answer.
func (c *Client) Post(ctx context.Context, path string, question, answer any) error {
	body, err := json.Marshal(question)
	if err != nil {
		return err
	}
	return c.do(ctx, http.MethodPost, path, bytes.NewReader(body), answer)
}

func (c *Client) do(ctx context.Context, method, path string, body io.Reader, answer any) error {
	r, err := c.request(ctx, method, path, body)
	if err != nil {
		return err
	}
	got, err := c.http.Do(r)
	if err != nil {
		return err
	}
	defer got.Body.Close()
	text, err := io.ReadAll(io.LimitReader(got.Body, maxAnswer))
	if err != nil {
		return err
	}
	if got.StatusCode != http.StatusOK {
		return statusError(got.StatusCode, text)
	}
	if err := json.Unmarshal(text, answer); err != nil {
		return fmt.Errorf("loopback: the server's answer to %s: %w", path, err)
	}
	return nil
}

func (c *Client) request(ctx context.Context, method, path string, body io.Reader) (*http.Request, error) {
	r, err := http.NewRequestWithContext(ctx, method, c.base+path, body)
	if err != nil {
		return nil, err
	}
	r.Header.Set("Content-Type", "application/json")
	if c.key != "" {
		r.Header.Set("Authorization", "Bearer "+c.key)
	}
	return r, nil
}

// statusError is the error of an answer with a status other than 200.
func statusError(status int, text []byte) error {
	var said struct {
		Error struct{ Message string } `json:"error"`
	}
	_ = json.Unmarshal(text, &said) // another server says something else
	return &StatusError{status, said.Error.Message}
}

// Stream sends question as JSON to a path, and calls each with the data of each event of the answer, but for the [DONE] that
// OpenAI's protocol ends with. The answer may take as long as it takes: ctx ends it.
func (c *Client) Stream(ctx context.Context, path string, question any, each func(event []byte) error) error {
	body, err := json.Marshal(question)
	if err != nil {
		return err
	}
	r, err := c.request(ctx, http.MethodPost, path, bytes.NewReader(body))
	if err != nil {
		return err
	}
	return c.events(r, func(_ string, data []byte) error {
		if string(data) == "[DONE]" {
			return nil
		}
		return each(data)
	})
}

// Events calls each with the name and the data of the events at a path, until each returns an error, the server ends them, or
// ctx does.
func (c *Client) Events(ctx context.Context, path string, each func(name string, data []byte) error) error {
	r, err := c.request(ctx, http.MethodGet, path, nil)
	if err != nil {
		return err
	}
	return c.events(r, each)
}

// events reads an answer of server-sent events (HTML Living Standard, section 9.2).
func (c *Client) events(r *http.Request, each func(name string, data []byte) error) error {
	patient := *c.http
	patient.Timeout = 0
	got, err := patient.Do(r)
	if err != nil {
		return err
	}
	defer got.Body.Close()
	if got.StatusCode != http.StatusOK {
		text, err := io.ReadAll(io.LimitReader(got.Body, maxAnswer))
		if err != nil {
			return err
		}
		return statusError(got.StatusCode, text)
	}
	wrong := func(err error) error { return fmt.Errorf("loopback: the server's answer to %s: %w", r.URL.Path, err) }
	lines := bufio.NewScanner(got.Body)
	lines.Buffer(nil, maxAnswer)
	name, data := "", []byte(nil)
	for lines.Scan() {
		field, value, _ := bytes.Cut(lines.Bytes(), []byte(":"))
		value = bytes.TrimPrefix(value, []byte(" "))
		switch string(field) {
		case "event":
			name = string(value)
		case "data":
			if len(data)+len(value) > maxAnswer {
				return wrong(fmt.Errorf("an event of more than %d bytes", maxAnswer))
			}
			data = append(data, value...)
		case "": // an empty line ends an event; others are comments
			if len(lines.Bytes()) > 0 {
				continue
			}
			if data != nil {
				if err := each(name, data); err != nil {
					return wrong(err)
				}
			}
			name, data = "", nil
		}
	}
	if err := lines.Err(); err != nil {
		return wrong(err)
	}
	return nil
}
