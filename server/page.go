package server

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"io/fs"
	"net/http"
	"path"
	"strings"
	"sync"
	"time"
)

// The page at / is a chat in the browser: HTML, CSS and JavaScript modules as they are in the folder page. It speaks to the
// endpoints that other programs use.

//go:embed page
var pageFiles embed.FS

// pagePolicy is the page's Content-Security-Policy: its own files and this server alone, no inline script or style, and no
// string becomes markup or code.
const pagePolicy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; " +
	"base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'"

var pageTypes = map[string]string{
	".html": "text/html; charset=utf-8",
	".css":  "text/css; charset=utf-8",
	".js":   "text/javascript; charset=utf-8",
	".json": "application/json; charset=utf-8",
	".svg":  "image/svg+xml",
}

// A pageFile is a file of the page as it is sent.
type pageFile struct {
	contentType string
	tag         string // of its content: an ETag without quotes
	plain, gzip []byte
}

// pageByPath has the page's files by the paths of their requests: index.html is /, a file x is /page/x.
var pageByPath = sync.OnceValue(func() map[string]*pageFile {
	files := map[string]*pageFile{}
	err := fs.WalkDir(pageFiles, "page", func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		text, err := pageFiles.ReadFile(name)
		if err != nil {
			return err
		}
		sum := sha256.Sum256(text)
		f := &pageFile{contentType: pageTypes[path.Ext(name)], tag: hex.EncodeToString(sum[:12]), plain: text}
		var b bytes.Buffer
		w, err := gzip.NewWriterLevel(&b, gzip.BestCompression)
		if err != nil {
			return err
		}
		if _, err := w.Write(text); err != nil {
			return err
		}
		if err := w.Close(); err != nil {
			return err
		}
		f.gzip = b.Bytes()
		if name == "page/index.html" {
			name = ""
		}
		files["/"+name] = f
		return nil
	})
	if err != nil {
		panic(err) // nothing of this can fail
	}
	return files
})

// isPage reports whether a path is one of the page's.
func isPage(path string) bool { return pageByPath()[path] != nil }

// page sends a file of the page. Browsers keep it, and ask whether it has changed.
func page(w http.ResponseWriter, r *http.Request) error {
	f := pageByPath()[r.URL.Path]
	if f == nil {
		return missing(r)
	}
	h := w.Header()
	h.Set("Content-Type", f.contentType)
	h.Set("Content-Security-Policy", pagePolicy)
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("Cross-Origin-Resource-Policy", "same-origin")
	h.Set("Cache-Control", "no-cache")
	h.Add("Vary", "Accept-Encoding")
	body := f.plain
	if takesGzip(r) {
		body = f.gzip
		h.Set("Content-Encoding", "gzip")
		h.Set("ETag", `"`+f.tag+`-gzip"`)
	} else {
		h.Set("ETag", `"`+f.tag+`"`)
	}
	http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(body))
	return nil
}

// takesGzip reports whether a client takes what is compressed with gzip (RFC 9110, section 12.5.3).
func takesGzip(r *http.Request) bool {
	for _, list := range r.Header.Values("Accept-Encoding") {
		for item := range strings.SplitSeq(list, ",") {
			coding, weight, _ := strings.Cut(strings.ToLower(strings.ReplaceAll(item, " ", "")), ";")
			if coding == "gzip" {
				return strings.Trim(weight, "0.") != "q=" // 0, or 0.000
			}
		}
	}
	return false
}
