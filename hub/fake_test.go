package hub

import (
	"crypto/sha1"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"pumice/store"
)

const (
	fakeRepo   = "owner/name"
	fakeCommit = "0123456789abcdef0123456789abcdef01234567"
	fakeToken  = "hf_secret"
	signature  = "Signature=secret" // of addresses of the other host
)

// fakeHub is a Hub of one repository, with the contents of LFS files on another host, as the Hub has them.
type fakeHub struct {
	hub, cdn *httptest.Server
	files    []fakeFile

	// describe, if it is set, changes the repository's description.
	describe func(siblings []map[string]any) []map[string]any
	// meet, if it is set, meets each request first, and says whether it has answered it.
	meet func(w http.ResponseWriter, r *http.Request) bool

	mu       sync.Mutex
	requests []string // METHOD PATH RANGE
	tokens   map[string]bool
	sent     int64 // bytes of contents
}

type fakeFile struct {
	name    string
	content []byte
	lfs     bool
}

func (f fakeFile) hash() string {
	if f.lfs {
		sum := sha256.Sum256(f.content)
		return hex.EncodeToString(sum[:])
	}
	sum := sha1.Sum(fmt.Appendf(nil, "blob %d\x00%s", len(f.content), f.content))
	return hex.EncodeToString(sum[:])
}

// noise is content that does not repeat.
func noise(seed uint64, n int) []byte {
	b := make([]byte, n)
	r := rand.NewChaCha8([32]byte{byte(seed)})
	r.Read(b)
	return b
}

func newFakeHub(t testing.TB, files ...fakeFile) *fakeHub {
	h := &fakeHub{files: files, tokens: map[string]bool{}}
	h.hub, h.cdn = httptest.NewServer(h.serve(h.answer)), httptest.NewServer(h.serve(h.content))
	t.Cleanup(h.hub.Close)
	t.Cleanup(h.cdn.Close)
	return h
}

func (h *fakeHub) serve(next http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		h.mu.Lock()
		h.requests = append(h.requests, strings.TrimSpace(r.Method+" "+r.URL.Path+" "+r.Header.Get("Range")))
		h.tokens[r.Host] = h.tokens[r.Host] || r.Header.Get("Authorization") == "Bearer "+fakeToken
		meet := h.meet
		h.mu.Unlock()
		if !strings.HasPrefix(r.URL.Path, "/api") {
			counted := &countingWriter{ResponseWriter: w}
			defer func() {
				h.mu.Lock()
				h.sent += counted.n
				h.mu.Unlock()
			}()
			w = counted
		}
		if meet == nil || !meet(w, r) {
			next(w, r)
		}
	}
}

// change sets describe or meet while the servers run.
func (h *fakeHub) change(set func()) {
	h.mu.Lock()
	defer h.mu.Unlock()
	set()
}

// end ends the servers, and returns how many bytes of contents they have sent.
func (h *fakeHub) end() int64 {
	h.hub.Close()
	h.cdn.Close()
	return h.sent
}

// answer answers what the Hub does.
func (h *fakeHub) answer(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path == "/api/models/"+fakeRepo+"/revision/main" && r.URL.Query().Get("blobs") == "true" {
		var siblings []map[string]any
		for _, f := range h.files {
			s := map[string]any{"rfilename": f.name, "size": len(f.content), "blobId": f.hash()}
			if f.lfs {
				s["lfs"] = map[string]any{"sha256": f.hash(), "size": len(f.content), "pointerSize": 134}
				s["blobId"] = strings.Repeat("f", 40)
			}
			siblings = append(siblings, s)
		}
		h.mu.Lock()
		describe := h.describe
		h.mu.Unlock()
		if describe != nil {
			siblings = describe(siblings)
		}
		json.NewEncoder(w).Encode(map[string]any{"id": fakeRepo, "sha": fakeCommit, "siblings": siblings})
		return
	}
	name, ok := strings.CutPrefix(r.URL.Path, "/"+fakeRepo+"/resolve/"+fakeCommit+"/")
	i := slices.IndexFunc(h.files, func(f fakeFile) bool { return f.name == name })
	switch {
	case !ok || i < 0:
		w.Header().Set("X-Error-Code", "RepoNotFound")
		w.Header().Set("X-Error-Message", "Repository not found")
		w.WriteHeader(http.StatusNotFound)
	case h.files[i].lfs:
		http.Redirect(w, r, h.cdn.URL+"/"+url.PathEscape(name)+"?"+signature, http.StatusFound)
	default:
		h.send(w, r, h.files[i].content)
	}
}

// content answers what the other host does.
func (h *fakeHub) content(w http.ResponseWriter, r *http.Request) {
	for _, f := range h.files {
		if "/"+f.name == r.URL.Path && r.URL.RawQuery == signature {
			h.send(w, r, f.content)
			return
		}
	}
	http.NotFound(w, r)
}

func (h *fakeHub) send(w http.ResponseWriter, r *http.Request, content []byte) {
	w.Header().Set("ETag", `"`+fakeFile{content: content}.hash()+`"`)
	http.ServeContent(w, r, "", time.Time{}, strings.NewReader(string(content)))
}

// countingWriter counts the bytes of contents.
type countingWriter struct {
	http.ResponseWriter
	other bool // the answer is none
	n     int64
}

func (w *countingWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }

func (w *countingWriter) WriteHeader(status int) {
	w.other = status >= 300
	w.ResponseWriter.WriteHeader(status)
}

func (w *countingWriter) Write(p []byte) (int, error) {
	n, err := w.ResponseWriter.Write(p)
	if !w.other {
		w.n += int64(n)
	}
	return n, err
}

// cutWriter breaks the connection after so many bytes of a body.
type cutWriter struct {
	http.ResponseWriter
	left int
}

func (w *cutWriter) Write(p []byte) (int, error) {
	if len(p) < w.left {
		w.left -= len(p)
		return w.ResponseWriter.Write(p)
	}
	w.ResponseWriter.Write(p[:w.left])
	http.NewResponseController(w.ResponseWriter).Flush()
	panic(http.ErrAbortHandler)
}

func (h *fakeHub) seen(prefix string) (n int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, r := range h.requests {
		if strings.HasPrefix(r, prefix) {
			n++
		}
	}
	return n
}

// client returns a Client of small chunks that does not wait, with an empty cache unless one is given, and what it notes.
func (h *fakeHub) client(t testing.TB, cache ...store.Cache) (*Client, *strings.Builder) {
	t.Helper()
	notes := &strings.Builder{}
	o := Options{Endpoint: h.hub.URL, Token: fakeToken, Agent: "test", Note: func(text string) { notes.WriteString(text + "\n") }}
	if o.Cache = (store.Cache{Dir: t.TempDir()}); len(cache) > 0 {
		o.Cache = cache[0]
	}
	c, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.http.CloseIdleConnections)
	c.chunk, c.backoff = 64<<10, time.Millisecond
	return c, notes
}

func (c *Client) pullWhole(t testing.TB) (*Pulled, error) {
	t.Helper()
	return c.Pull(t.Context(), store.Ref{Repo: fakeRepo})
}
