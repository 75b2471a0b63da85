package hub

import (
	"bytes"
	"net/http"
	"strings"
	"testing"
	"time"
)

// BenchmarkPull fetches a file of 64 MiB from this machine, hash and disk included.
func BenchmarkPull(b *testing.B) {
	f := fakeFile{"a.gguf", noise(1, 64<<20), true}
	h := newFakeHub(b, f)
	h.meet = func(w http.ResponseWriter, r *http.Request) bool {
		if r.Host != strings.TrimPrefix(h.cdn.URL, "http://") {
			return false
		}
		w.Header().Set("ETag", `"x"`)
		http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(f.content))
		return true
	}
	b.SetBytes(int64(len(f.content)))
	for b.Loop() {
		c, _ := h.client(b)
		c.chunk = chunkBytes
		if _, err := c.pullWhole(b); err != nil {
			b.Fatal(err)
		}
	}
}
