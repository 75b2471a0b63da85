package loopback

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"slices"
	"strconv"
	"testing"
)

// TestOnlyThisMachineIsAsked: names and addresses of other machines are refused, and so is what a name leads to.
func TestOnlyThisMachineIsAsked(t *testing.T) {
	for _, host := range []string{"192.0.2.1", "example.com", "2001:db8::1", "localhost.example.com", "", "10.0.0.1"} {
		if _, err := New(host, 80, ""); !errors.As(err, new(*AddressError)) {
			t.Errorf("%q: %v", host, err)
		}
	}
	c, err := New("localhost", 80, "")
	if err != nil {
		t.Fatal(err)
	}
	c.base = "http://192.0.2.1" // as if the name had led there
	if err := c.Get(t.Context(), "/", nil); !errors.As(err, new(*AddressError)) {
		t.Errorf("a name that leads elsewhere: %v", err)
	}
}

func TestAnswers(t *testing.T) {
	handler := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/refused":
			w.WriteHeader(http.StatusConflict)
			fmt.Fprint(w, `{"error":{"message":"busy"}}`)
		case "/elsewhere":
			http.Redirect(w, r, "http://192.0.2.1/", http.StatusFound)
		case "/events":
			fmt.Fprint(w, "data: 1\n\n: a comment\n\ndata: 2\n\ndata: [DONE]\n\n")
		case "/text":
			fmt.Fprint(w, "hello")
		default:
			var body any
			json.NewDecoder(r.Body).Decode(&body)
			json.NewEncoder(w).Encode(map[string]any{"key": r.Header.Get("Authorization"), "body": body})
		}
	})
	tcp := httptest.NewServer(handler)
	defer tcp.Close()
	unix := httptest.NewUnstartedServer(handler)
	path := filepath.Join(t.TempDir(), "s.sock")
	var err error
	if unix.Listener, err = net.Listen("unix", path); err != nil {
		t.Fatal(err)
	}
	unix.Start()
	defer unix.Close()
	_, text, _ := net.SplitHostPort(tcp.Listener.Addr().String())
	port, _ := strconv.Atoi(text)
	t.Setenv("HTTP_PROXY", "http://192.0.2.1:1") // must not be used

	for _, host := range []string{"127.0.0.1", "localhost", "0.0.0.0", path} {
		c, err := New(host, port, "secret")
		if err != nil {
			t.Fatal(err)
		}
		var got struct{ Key, Body string }
		if err := c.Post(t.Context(), "/", "question", &got); err != nil || got.Key != "Bearer secret" || got.Body != "question" {
			t.Errorf("%s: %+v, %v", host, got, err)
		}
		var status *StatusError
		if err := c.Get(t.Context(), "/refused", &got); !errors.As(err, &status) || status.Status != http.StatusConflict || status.Message != "busy" {
			t.Errorf("%s: %v", host, err)
		}
		var events []string
		each := func(event []byte) error {
			events = append(events, string(event))
			return nil
		}
		if err := c.Stream(t.Context(), "/events", "question", each); err != nil || fmt.Sprint(events) != "[1 2]" {
			t.Errorf("%s: events %q, %v", host, events, err)
		}
		if err := c.Stream(t.Context(), "/refused", "question", each); !errors.As(err, &status) || status.Message != "busy" {
			t.Errorf("%s: %v", host, err)
		}
		if err := c.Stream(t.Context(), "/events", "question", func([]byte) error { return io.EOF }); !errors.Is(err, io.EOF) {
			t.Errorf("%s: %v", host, err)
		}
		for _, path := range []string{"/elsewhere", "/text"} {
			if err := c.Get(t.Context(), path, &got); err == nil {
				t.Errorf("%s%s: no error", host, path)
			}
		}
	}
}

func TestEvents(t *testing.T) {
	long := false
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/refused" {
			w.WriteHeader(http.StatusUnauthorized)
			fmt.Fprint(w, `{"error":{"message":"no key"}}`)
			return
		}
		fmt.Fprint(w, ": ping\n\nevent: first\ndata: {\"a\":1}\n\n", "data: two\ndata:halves\n\n", "event: empty\n\n", "data: last\n\n")
		for long {
			if _, err := fmt.Fprintf(w, "data: %s\n", make([]byte, 1<<20)); err != nil {
				return
			}
		}
	}))
	defer s.Close()
	_, text, _ := net.SplitHostPort(s.Listener.Addr().String())
	port, _ := strconv.Atoi(text)
	c, err := New("127.0.0.1", port, "")
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	each := func(name string, data []byte) error {
		got = append(got, name+" "+string(data))
		return nil
	}
	err = c.Events(t.Context(), "/", each)
	if want := []string{`first {"a":1}`, " twohalves", " last"}; err != nil || !slices.Equal(got, want) {
		t.Errorf("%q, %v; want %q", got, err, want)
	}
	var status *StatusError
	if err := c.Events(t.Context(), "/refused", each); !errors.As(err, &status) || status.Message != "no key" {
		t.Errorf("refused: %v", err)
	}
	enough := errors.New("enough")
	if err := c.Events(t.Context(), "/", func(string, []byte) error { return enough }); !errors.Is(err, enough) {
		t.Errorf("stopped: %v", err)
	}
	long = true
	if err := c.Events(t.Context(), "/", each); err == nil {
		t.Error("an event without an end is read")
	}
}
