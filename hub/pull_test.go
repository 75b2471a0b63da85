package hub

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"pumice/store"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// check compares a file of the snapshot with what it should be.
func check(t *testing.T, c *Client, f fakeFile) {
	t.Helper()
	dir, err := filepath.Glob(filepath.Join(c.o.Cache.Dir, "models--owner--name/snapshots/*"))
	if err != nil || len(dir) != 1 {
		t.Fatalf("%q, %v", dir, err)
	}
	if got, err := os.ReadFile(filepath.Join(dir[0], f.name)); err != nil || !bytes.Equal(got, f.content) {
		t.Errorf("%s: %d bytes, %v; want the %d of the repository", f.name, len(got), err, len(f.content))
	}
	if _, err := os.Stat(c.o.Cache.Incomplete(fakeRepo, f.hash())); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("%s: its beginning is left: %v", f.name, err)
	}
}

// nothing holds that a file is not in the cache, and that no revision refers to the snapshot.
func nothing(t *testing.T, c *Client, f fakeFile) {
	t.Helper()
	for _, path := range []string{c.o.Cache.Blob(fakeRepo, f.hash()), filepath.Join(c.o.Cache.Dir, "models--owner--name/refs/main"),
		filepath.Join(c.o.Cache.Dir, "models--owner--name/snapshots", fakeCommit, f.name)} {
		if _, err := os.Lstat(path); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%s is there: %v", path, err)
		}
	}
}

func directory() []fakeFile {
	return []fakeFile{
		{"README.md", []byte("# Model\n"), false},
		{"config.json", []byte(`{"a": 1}`), false},
		{"1_Pooling/config.json", nil, false}, // empty
		{"model.safetensors", noise(1, 1<<20+17), true},
		{"tokenizer.json", noise(2, 200<<10), false},
		{"onnx/model.onnx", noise(3, 100), true},
		{"pytorch_model.bin", noise(4, 100), true},
	}
}

func TestPullADirectory(t *testing.T) {
	t.Parallel()
	h := newFakeHub(t, directory()...)
	c, notes := h.client(t)
	var most atomic.Int64
	c.o.Progress = func(done, total int64) {
		if done < 0 || done > total {
			t.Errorf("%d of %d bytes", done, total)
		}
		most.Store(max(most.Load(), done))
	}
	got, err := c.pullWhole(t)
	if err != nil {
		t.Fatal(err)
	}
	want := int64(8 + 1<<20 + 17 + 200<<10)
	if got.Commit != fakeCommit || got.Bytes != want || got.Fetched != want || most.Load() != want || len(got.Files) != 4 || !slices.Equal(got.Models, []string{"hf:owner/name"}) {
		t.Errorf("%+v, progress to %d", got, most.Load())
	}
	for _, f := range h.files[1:5] {
		check(t, c, f)
	}
	dir, err := c.o.Cache.Find(store.Ref{Repo: fakeRepo})
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"README.md", "onnx", "pytorch_model.bin"} {
		if _, err := os.Lstat(filepath.Join(dir, name)); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%s was fetched: %v", name, err)
		}
	}
	if h.seen("GET /model.safetensors bytes=") < 17 || notes.Len() > 0 {
		t.Errorf("notes %q, %d parts", notes, h.seen("GET /model.safetensors bytes="))
	}
	if n := h.seen("GET /owner/name/resolve/" + fakeCommit + "/model.safetensors"); n > maxChunks {
		t.Errorf("the Hub was asked %d times where the content is", n)
	}
	before := h.seen("")
	if got, err = c.pullWhole(t); err != nil || got.Fetched != 0 || h.seen("") != before+1 {
		t.Errorf("the second time: %+v, %v", got, err)
	}
}

// The token goes to the Hub alone, and neither it nor a signature is in an error or a note.
func TestSecretsStay(t *testing.T) {
	t.Parallel()
	f := fakeFile{"a-Q8_0.gguf", noise(1, 300<<10), true}
	h := newFakeHub(t, f)
	c, _ := h.client(t)
	if _, err := c.pullWhole(t); err != nil {
		t.Fatal(err)
	}
	hub, cdn := strings.TrimPrefix(h.hub.URL, "http://"), strings.TrimPrefix(h.cdn.URL, "http://")
	h.mu.Lock()
	if diff := cmp.Diff(map[string]bool{hub: true, cdn: false}, h.tokens); diff != "" {
		t.Errorf("who got the token: -want +got:\n%s", diff)
	}
	h.mu.Unlock()
	for name, meet := range map[string]func(w http.ResponseWriter, r *http.Request) bool{
		"cut": func(w http.ResponseWriter, r *http.Request) bool {
			if r.Host == cdn {
				panic(http.ErrAbortHandler)
			}
			return false
		},
		"refused": func(w http.ResponseWriter, r *http.Request) bool {
			if r.Host == cdn {
				w.WriteHeader(http.StatusForbidden)
			}
			return r.Host == cdn
		},
		"not found": func(w http.ResponseWriter, r *http.Request) bool {
			return strings.Contains(r.URL.Path, "revision") && notFound(w)
		},
		"a redirect without end": func(w http.ResponseWriter, r *http.Request) bool {
			http.Redirect(w, r, r.URL.Path+"?"+signature, http.StatusFound)
			return true
		},
	} {
		h.change(func() { h.meet = meet })
		c, notes := h.client(t)
		_, err := c.pullWhole(t)
		if err == nil || strings.Contains(fmt.Sprint(err, notes), "secret") || strings.Contains(fmt.Sprint(err, notes), cdn) {
			t.Errorf("%s: %v, notes %q", name, err, notes)
		}
		nothing(t, c, f)
	}
}

func notFound(w http.ResponseWriter) bool {
	w.WriteHeader(http.StatusNotFound)
	return true
}

func TestCutConnectionsGoOnWhereTheyEnded(t *testing.T) {
	t.Parallel()
	f := fakeFile{"a-00001-of-00002.gguf", noise(1, 700<<10), true}
	g := fakeFile{"a-00002-of-00002.gguf", noise(2, 90<<10), false}
	h := newFakeHub(t, f, g)
	n := atomic.Int64{}
	h.meet = func(w http.ResponseWriter, r *http.Request) bool {
		if strings.HasPrefix(r.URL.Path, "/api") {
			return false
		}
		if i := n.Add(1); i%5 > 0 && r.Host == strings.TrimPrefix(h.cdn.URL, "http://") { // four of five
			h.content(&cutWriter{w, int(i%5) * 9000}, r)
			return true
		}
		return false
	}
	c, _ := h.client(t)
	got, err := c.pullWhole(t)
	if err != nil {
		t.Fatal(err)
	}
	check(t, c, f)
	check(t, c, g)
	if sent := h.end(); !slices.Equal(got.Models, []string{"hf:owner/name:a-00001-of-00002.gguf"}) || sent != 790<<10 {
		t.Errorf("%+v; %d bytes were sent, of %d", got, sent, 790<<10)
	}
}

func TestInterruptedPullsGoOn(t *testing.T) {
	t.Parallel()
	f := fakeFile{"a.gguf", noise(1, 1<<20), true}
	h := newFakeHub(t, f)
	c, _ := h.client(t)
	ctx, cancel := context.WithCancel(t.Context())
	c.o.Progress = func(done, total int64) {
		if done > total/2 {
			cancel()
		}
	}
	if _, err := c.Pull(ctx, store.Ref{Repo: fakeRepo}); !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	nothing(t, c, f)
	begun, err := os.ReadFile(c.o.Cache.Incomplete(fakeRepo, f.hash()))
	if err != nil || len(begun) == 0 || !bytes.HasPrefix(f.content, begun) {
		t.Fatalf("%d bytes, %v; want a beginning", len(begun), err)
	}
	h = newFakeHub(t, f)
	next, _ := h.client(t, c.o.Cache)
	got, err := next.pullWhole(t)
	if err != nil || got.Fetched != int64(len(f.content)) {
		t.Fatal(got, err)
	}
	check(t, next, f)
	if sent := h.end(); sent != int64(len(f.content)-len(begun)) {
		t.Errorf("%d bytes were sent, and %d were there of %d", sent, len(begun), len(f.content))
	}
}

func TestWrongBeginningsAreFetchedAgain(t *testing.T) {
	t.Parallel()
	f := fakeFile{"a.gguf", noise(1, 200<<10), true}
	for name, begun := range map[string][]byte{"other bytes": noise(2, 100<<10), "too long": noise(2, 300<<10), "whole, but wrong": noise(2, 200<<10),
		"whole": f.content, "half": f.content[:100<<10]} {
		h := newFakeHub(t, f)
		c, _ := h.client(t)
		if err := c.o.Cache.Make(fakeRepo, fakeCommit); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(c.o.Cache.Incomplete(fakeRepo, f.hash()), begun, 0o644); err != nil {
			t.Fatal(err)
		}
		if _, err := c.pullWhole(t); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		check(t, c, f)
	}
}

func TestWrongContentsAreThrownAway(t *testing.T) {
	t.Parallel()
	for _, f := range []fakeFile{{"a.gguf", noise(1, 200<<10), true}, {"b.gguf", noise(1, 20<<10), false}} {
		h := newFakeHub(t, f)
		h.meet = func(w http.ResponseWriter, r *http.Request) bool {
			if strings.HasPrefix(r.URL.Path, "/api") || f.lfs && !strings.HasPrefix(r.URL.Path, "/a") {
				return false
			}
			wrong := slices.Clone(f.content)
			wrong[len(wrong)-1]++
			h.send(w, r, wrong)
			return true
		}
		c, _ := h.client(t)
		_, err := c.pullWhole(t)
		var hash *HashError
		if !errors.As(err, &hash) || hash.Want != f.hash() {
			t.Errorf("%v, want a HashError", err)
		}
		nothing(t, c, f)
		if _, err := os.Stat(c.o.Cache.Incomplete(fakeRepo, f.hash())); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("it is left: %v", err)
		}
	}
}

func TestStatuses(t *testing.T) {
	t.Parallel()
	f := fakeFile{"a.gguf", noise(1, 1000), true}
	for _, c := range []struct {
		name   string
		status int
		header http.Header
		times  int // that the server answers so; 0: always
		want   string
		asked  int
	}{
		{"unauthorised", 401, http.Header{"X-Error-Message": {"Invalid username or password."}}, 0, `401 Unauthorized: "Invalid username or password."`, 1},
		{"gated", 403, http.Header{"X-Error-Code": {"GatedRepo"}, "X-Error-Message": {"Access to model x is restricted"}}, 0, "is restricted", 1},
		{"not found", 404, nil, 0, `404 Not Found: "from the body"`, 1},
		{"hostile", 404, http.Header{"X-Error-Message": {"\u202e" + strings.Repeat("x", 1000)}}, 0, `: "\u202exxx`, 1},
		{"a header that is none", 404, http.Header{"X-Error-Message": {"\x1b" + strings.Repeat("x", 1000)}}, 0, "malformed MIME header", maxAttempts},
		{"busy, then not", 429, http.Header{"Retry-After": {"0"}}, 3, "", 4},
		{"busy by RateLimit", 429, http.Header{"Ratelimit": {`"api";r=0;t=1`}}, 1, "", 2},
		{"busy for too long", 429, http.Header{"Retry-After": {"3600"}}, 0, "429 Too Many Requests", 1},
		{"broken, then not", 503, nil, 5, "", 6},
		{"broken", 500, nil, 0, "500 Internal Server Error", maxAttempts},
		{"gateway", 502, nil, 2, "", 3},
	} {
		h := newFakeHub(t, f)
		asked := atomic.Int64{}
		h.meet = func(w http.ResponseWriter, r *http.Request) bool {
			if !strings.HasPrefix(r.URL.Path, "/api") {
				return false
			}
			if n := int(asked.Add(1)); c.times > 0 && n > c.times {
				return false
			}
			for name, values := range c.header {
				w.Header()[name] = values
			}
			w.WriteHeader(c.status)
			w.Write([]byte(`{"error": "from the body"}`))
			return true
		}
		client, _ := h.client(t)
		_, err := client.pullWhole(t)
		var status *StatusError
		switch {
		case c.want == "" && err != nil:
			t.Errorf("%s: %v", c.name, err)
		case c.want != "" && (err == nil || errors.As(err, &status) && status.Status != c.status || !strings.Contains(err.Error(), c.want) || len(err.Error()) > 500):
			t.Errorf("%s: %v, want %q", c.name, err, c.want)
		}
		if int(asked.Load()) != c.asked {
			t.Errorf("%s: asked %d times, want %d", c.name, asked.Load(), c.asked)
		}
	}
}

// Statuses in the middle of a file are met in the same way.
func TestStatusesOfContents(t *testing.T) {
	t.Parallel()
	f := fakeFile{"a.gguf", noise(1, 400<<10), true}
	h := newFakeHub(t, f)
	n := atomic.Int64{}
	h.meet = func(w http.ResponseWriter, r *http.Request) bool {
		if strings.HasPrefix(r.URL.Path, "/api") || n.Add(1)%3 > 0 {
			return false
		}
		w.WriteHeader(http.StatusServiceUnavailable)
		return true
	}
	c, _ := h.client(t)
	if _, err := c.pullWhole(t); err != nil {
		t.Error(err)
	}
	check(t, c, f)
}

// An address of the other host that is not valid any more is asked for again.
func TestAddressesExpire(t *testing.T) {
	t.Parallel()
	f := fakeFile{"a.gguf", noise(1, 2<<20), true}
	h := newFakeHub(t, f)
	n := atomic.Int64{}
	h.meet = func(w http.ResponseWriter, r *http.Request) bool {
		if r.Host != strings.TrimPrefix(h.cdn.URL, "http://") || n.Add(1) != 20 {
			return false
		}
		w.WriteHeader(http.StatusForbidden)
		return true
	}
	c, _ := h.client(t)
	if _, err := c.pullWhole(t); err != nil {
		t.Error(err)
	}
	check(t, c, f)
}

func TestFilesThatChangeAtTheServer(t *testing.T) {
	t.Parallel()
	f := fakeFile{"a.gguf", noise(1, 1<<20), true}
	for name, answer := range map[string]func(h *fakeHub, w http.ResponseWriter, r *http.Request, n int64){
		"the content": func(h *fakeHub, w http.ResponseWriter, r *http.Request, n int64) {
			content := f.content
			if n < 12 {
				content = noise(9, len(f.content))
			}
			h.send(w, r, content)
		},
		"the tag, at each request": func(h *fakeHub, w http.ResponseWriter, r *http.Request, n int64) {
			w.Header().Set("ETag", fmt.Sprintf(`"%d"`, n))
			http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(f.content))
		},
		"a weak tag": func(h *fakeHub, w http.ResponseWriter, r *http.Request, n int64) {
			w.Header().Set("ETag", fmt.Sprintf(`W/"%d"`, n))
			http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(f.content))
		},
	} {
		h := newFakeHub(t, f)
		n := atomic.Int64{}
		h.meet = func(w http.ResponseWriter, r *http.Request) bool {
			if r.Host != strings.TrimPrefix(h.cdn.URL, "http://") {
				return false
			}
			answer(h, w, r, n.Add(1))
			return true
		}
		c, _ := h.client(t)
		if _, err := c.pullWhole(t); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		check(t, c, f)
	}
}

func TestServersWithoutParts(t *testing.T) {
	t.Parallel()
	f := fakeFile{"a.gguf", noise(1, 1<<20), true}
	h := newFakeHub(t, f)
	n := atomic.Int64{}
	h.meet = func(w http.ResponseWriter, r *http.Request) bool {
		if r.Host != strings.TrimPrefix(h.cdn.URL, "http://") {
			return false
		}
		if r.Header.Get("Range") == "" && n.Add(1) == 1 {
			w = &cutWriter{w, 500 << 10}
		}
		w.Write(f.content)
		return true
	}
	c, _ := h.client(t)
	if _, err := c.pullWhole(t); err != nil {
		t.Error(err)
	}
	check(t, c, f)
	if n.Load() != 2 {
		t.Errorf("asked %d times for the whole", n.Load())
	}
}

func TestAnswersThatDoNotFit(t *testing.T) {
	t.Parallel()
	f := fakeFile{"a.gguf", noise(1, 200<<10), true}
	for name, c := range map[string]struct {
		answer func(w http.ResponseWriter, r *http.Request)
		want   string
	}{
		"another part": {func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Range", fmt.Sprintf("bytes 5-65540/%d", len(f.content)))
			w.WriteHeader(http.StatusPartialContent)
			w.Write(make([]byte, 65536))
		}, "asked for bytes"},
		"another size": {func(w http.ResponseWriter, r *http.Request) {
			http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(f.content[:150<<10]))
		}, "asked for bytes"},
		"no range":        {func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(http.StatusPartialContent) }, "asked for bytes"},
		"not satisfiable": {func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(http.StatusRequestedRangeNotSatisfiable) }, "answers 416"},
		"whole, of another size": {func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Length", "1000")
			w.Write(f.content[:1000])
		}, "it has 1000 bytes"},
	} {
		h := newFakeHub(t, f)
		h.meet = func(w http.ResponseWriter, r *http.Request) bool {
			if r.Host != strings.TrimPrefix(h.cdn.URL, "http://") {
				return false
			}
			c.answer(w, r)
			return true
		}
		client, _ := h.client(t)
		if _, err := client.pullWhole(t); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
		nothing(t, client, f)
	}
}

func TestConnectionsThatStall(t *testing.T) {
	t.Parallel()
	f := fakeFile{"a.gguf", noise(1, 150<<10), true}
	h := newFakeHub(t, f)
	n := atomic.Int64{}
	h.meet = func(w http.ResponseWriter, r *http.Request) bool {
		if r.Host != strings.TrimPrefix(h.cdn.URL, "http://") || n.Add(1) != 2 {
			return false
		}
		w.Header().Set("Content-Range", strings.Replace(r.Header.Get("Range"), "=", " ", 1)+fmt.Sprintf("/%d", len(f.content)))
		w.WriteHeader(http.StatusPartialContent)
		http.NewResponseController(w).Flush()
		<-r.Context().Done()
		return true
	}
	c, _ := h.client(t)
	c.stall = 50 * time.Millisecond
	if _, err := c.pullWhole(t); err != nil {
		t.Error(err)
	}
	check(t, c, f)
}

func TestTwoPullsAtOnce(t *testing.T) {
	t.Parallel()
	h := newFakeHub(t, directory()...)
	cache := store.Cache{Dir: t.TempDir()}
	var wait sync.WaitGroup
	for range 4 {
		c, _ := h.client(t, cache)
		wait.Go(func() {
			if _, err := c.Pull(context.Background(), store.Ref{Repo: fakeRepo}); err != nil {
				t.Error(err)
			}
		})
	}
	wait.Wait()
	c, _ := h.client(t, cache)
	for _, f := range h.files[1:5] {
		check(t, c, f)
	}
	if want, sent := int64(8+1<<20+17+200<<10), h.end(); sent != want {
		t.Errorf("%d bytes were sent, want %d", sent, want)
	}
}

// Names of a repository that lead elsewhere become no files, and sizes that can't be are errors.
func TestHostileRepositories(t *testing.T) {
	t.Parallel()
	f := fakeFile{"a.gguf", noise(1, 1000), true}
	h := newFakeHub(t, f)
	h.describe = func(siblings []map[string]any) []map[string]any {
		for _, name := range []string{"../../../../evil.gguf", "/etc/evil.gguf", "a/../../evil.gguf", "evil\x00.gguf", `..\evil.gguf`, "\x1b[2J.gguf", "", ".", "a.gguf"} {
			siblings = append(siblings, map[string]any{"rfilename": name, "size": 4, "blobId": strings.Repeat("a", 40)})
		}
		return siblings
	}
	c, notes := h.client(t)
	if _, err := c.pullWhole(t); err != nil {
		t.Fatal(err)
	}
	check(t, c, f)
	if !strings.Contains(notes.String(), `left out are 9 files`) || !strings.Contains(notes.String(), `"../../../../evil.gguf"`) {
		t.Errorf("notes: %q", notes)
	}
	found, err := filepath.Glob(filepath.Join(filepath.Dir(c.o.Cache.Dir), "*evil*"))
	if err != nil || found != nil {
		t.Errorf("%q, %v", found, err)
	}
	for name, sibling := range map[string]map[string]any{
		"it cannot have":      {"rfilename": "a.gguf", "size": 1 << 50, "blobId": strings.Repeat("a", 40)},
		"cannot have -1":      {"rfilename": "a.gguf", "size": -1, "blobId": strings.Repeat("a", 40)},
		"how large":           {"rfilename": "a.gguf", "blobId": strings.Repeat("a", 40)},
		"no hash":             {"rfilename": "a.gguf", "size": 1, "blobId": "../../x"},
		"gives no hash":       {"rfilename": "a.gguf", "size": 1, "lfs": map[string]any{"sha256": "../../../x", "size": 1}},
		"TiB are needed, and": {"rfilename": "a.gguf", "size": 1 << 43, "blobId": strings.Repeat("a", 40)},
	} {
		h.change(func() { h.describe = func([]map[string]any) []map[string]any { return []map[string]any{sibling} } })
		c, _ := h.client(t)
		if _, err := c.pullWhole(t); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%v, want %q", err, name)
		}
		if left, err := os.ReadDir(c.o.Cache.Dir); err != nil || len(left) > 0 {
			t.Errorf("%v, %v: left in the cache", left, err)
		}
	}
	for want, body := range map[string]string{"describes no repository": "<html>", "names no commit": `{"sha":"../x"}`, "no model.safetensors": `{"sha":"` + fakeCommit + `"}`} {
		h.change(func() {
			h.meet = func(w http.ResponseWriter, r *http.Request) bool {
				w.Write([]byte(body))
				return true
			}
		})
		if _, err := c.pullWhole(t); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
	h.change(func() {
		h.meet = func(w http.ResponseWriter, r *http.Request) bool {
			space := bytes.Repeat([]byte(" "), 1<<20)
			for {
				if _, err := w.Write(space); err != nil {
					return true
				}
			}
		}
	})
	if _, err := c.pullWhole(t); err == nil || !strings.Contains(err.Error(), "more than 67108864 bytes") {
		t.Errorf("%v, want an end", err)
	}
}

func TestRevisions(t *testing.T) {
	t.Parallel()
	f := fakeFile{"a b+c.gguf", noise(1, 1000), false}
	h := newFakeHub(t, f)
	h.meet = func(w http.ResponseWriter, r *http.Request) bool {
		if r.RequestURI == "/api/models/owner/name/revision/refs%2Fpr%2F1?blobs=true" {
			r.URL.Path = "/api/models/owner/name/revision/main"
		}
		return false
	}
	c, _ := h.client(t)
	got, err := c.Pull(t.Context(), store.Ref{Repo: fakeRepo, Revision: "refs/pr/1"})
	if err != nil || !slices.Equal(got.Models, []string{"hf:owner/name:a b+c.gguf@refs/pr/1"}) {
		t.Fatal(got, err)
	}
	check(t, c, f)
	if path, err := c.o.Cache.Find(store.Ref{Repo: fakeRepo, Revision: "refs/pr/1"}); err != nil || !strings.HasSuffix(path, "a b+c.gguf") {
		t.Errorf("%q, %v", path, err)
	}
	if _, err := c.o.Cache.Find(store.Ref{Repo: fakeRepo}); err == nil {
		t.Error("main refers to something")
	}
}

func TestOptions(t *testing.T) {
	for _, endpoint := range []string{"", "huggingface.co", "ftp://x", "file:///etc", "https://user:secret@host", ":"} {
		if _, err := New(Options{Endpoint: endpoint}); err == nil || strings.Contains(err.Error(), "secret") {
			t.Errorf("%q: %v", endpoint, err)
		}
	}
	if _, err := New(Options{Endpoint: "https://host", Token: "a\nsecret: b"}); err == nil || strings.Contains(err.Error(), "secret") {
		t.Error(err)
	}
	c, err := New(Options{Endpoint: "https://host", Offline: true})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Pull(t.Context(), store.Ref{Repo: "o/n"}); !errors.Is(err, ErrOffline) {
		t.Error(err)
	}
	dir := t.TempDir()
	for _, name := range []string{"HF_ENDPOINT", "HF_TOKEN", "HF_TOKEN_PATH", "HF_HUB_CACHE", "HF_HUB_OFFLINE"} {
		t.Setenv(name, "")
	}
	t.Setenv("HF_HOME", dir)
	o, err := Environment()
	if err != nil || o.Endpoint != "https://huggingface.co" || o.Token != "" || o.Cache.Dir != dir+"/hub" || o.Offline {
		t.Errorf("%+v, %v", o, err)
	}
	if err := os.WriteFile(dir+"/token", []byte("hf_file\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("HF_HUB_OFFLINE", "true")
	t.Setenv("HF_ENDPOINT", "http://localhost:1/hub")
	if o, err = Environment(); err != nil || o.Token != "hf_file" || o.Endpoint != "http://localhost:1/hub" || !o.Offline {
		t.Errorf("%+v, %v", o, err)
	}
	t.Setenv("HF_TOKEN", " hf_env ")
	if o, err = Environment(); err != nil || o.Token != "hf_env" {
		t.Errorf("%+v, %v", o, err)
	}
}

func TestRedirectsToPlainHTTPAreRefused(t *testing.T) {
	request := func(address string) *http.Request {
		r, err := http.NewRequest(http.MethodGet, address, nil)
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	for _, c := range []struct {
		from, to string
		ok       bool
	}{{"https://a", "https://b", true}, {"http://a", "https://b", true}, {"http://a", "http://b", true}, {"https://a", "http://a", false}, {"http://a", "ftp://b", false}} {
		if err := checkRedirect(request(c.to), []*http.Request{request(c.from)}); (err == nil) != c.ok {
			t.Errorf("%s to %s: %v", c.from, c.to, err)
		}
	}
}

// FuzzRepository reads descriptions: every file that could be fetched has a plain name, a size that can be, and a hash.
func FuzzRepository(f *testing.F) {
	f.Add([]byte(`{"sha":"` + fakeCommit + `","siblings":[{"rfilename":"a","size":1,"blobId":"` + fakeCommit + `"},{"rfilename":"../b","lfs":{"sha256":"","size":-1}}]}`))
	f.Add([]byte(`{"sha":"` + fakeCommit + `","siblings":[null,{}]}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		_, files, _, err := parseRepository(text)
		if err != nil && files != nil {
			t.Errorf("%v, with files", err)
		}
		for _, f := range files {
			if !store.PlainPath(f.Name) || f.problem == "" && (f.Bytes < 0 || f.Bytes > maxFileBytes || strings.Trim(f.Hash(), "0123456789abcdef") != "" || len(f.Hash()) < 40) {
				t.Errorf("%+v", f)
			}
		}
	})
}
