package server

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"io"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"path"
	"regexp"
	"slices"
	"strings"
	"testing"

	"pumice/sample"
)

// newPage is a server without a model, whose page is asked for.
func newPage(t *testing.T, o Options) func(method, path string, header ...string) *http.Response {
	t.Helper()
	s, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return func(method, path string, header ...string) *http.Response {
		r := httptest.NewRequest(method, "http://127.0.0.1:8080"+path, nil)
		for i := 0; i < len(header); i += 2 {
			if header[i] == "Host" {
				r.Host = header[i+1]
			}
			r.Header.Set(header[i], header[i+1])
		}
		w := httptest.NewRecorder()
		s.ServeHTTP(w, r)
		return w.Result()
	}
}

func textOf(t *testing.T, r *http.Response) string {
	t.Helper()
	b, err := io.ReadAll(r.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// pageTexts are the page's files by their names.
func pageTexts(t *testing.T) map[string]string {
	t.Helper()
	texts := map[string]string{}
	files, err := fs.ReadDir(pageFiles, "page")
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		text, err := pageFiles.ReadFile("page/" + f.Name())
		if err != nil {
			t.Fatal(err)
		}
		texts[f.Name()] = string(text)
	}
	return texts
}

func TestPageIsServed(t *testing.T) {
	get := newPage(t, Options{Local: true, Keys: []string{"secret"}}) // which the page's files do not need
	for name, text := range pageTexts(t) {
		path := "/page/" + name
		if name == "index.html" {
			path = "/"
		}
		r := get("GET", path)
		h := r.Header
		if r.StatusCode != http.StatusOK || textOf(t, r) != text {
			t.Errorf("%s: %d, or another text", path, r.StatusCode)
		}
		wantType := map[string]string{"html": "text/html", "css": "text/css", "js": "text/javascript", "json": "application/json", "svg": "image/svg+xml"}[name[strings.LastIndexByte(name, '.')+1:]]
		if got := h.Get("Content-Type"); wantType == "" || !strings.HasPrefix(got, wantType) {
			t.Errorf("%s: type %q, want %q", path, got, wantType)
		}
		if h.Get("X-Content-Type-Options") != "nosniff" || h.Get("Content-Security-Policy") != pagePolicy || h.Get("Cache-Control") != "no-cache" || h.Get("Referrer-Policy") != "no-referrer" {
			t.Errorf("%s: %v", path, h)
		}

		// Compressed for who takes that, under another tag.
		z := get("GET", path, "Accept-Encoding", "br;q=1.0, GZIP;q=0.8")
		reader, err := gzip.NewReader(z.Body)
		if err != nil || z.Header.Get("Content-Encoding") != "gzip" || !slices.Contains(z.Header.Values("Vary"), "Accept-Encoding") {
			t.Fatalf("%s: %v, %v", path, err, z.Header)
		}
		if unzipped, err := io.ReadAll(reader); err != nil || string(unzipped) != text {
			t.Errorf("%s: another text in gzip: %v", path, err)
		}
		tag, zipped := h.Get("ETag"), z.Header.Get("ETag")
		if tag == "" || tag == zipped {
			t.Errorf("%s: tags %s and %s", path, tag, zipped)
		}
		if r := get("GET", path, "If-None-Match", tag); r.StatusCode != http.StatusNotModified || textOf(t, r) != "" {
			t.Errorf("%s again: %d", path, r.StatusCode)
		}
		if r := get("GET", path, "If-None-Match", zipped, "Accept-Encoding", "gzip"); r.StatusCode != http.StatusNotModified {
			t.Errorf("%s again in gzip: %d", path, r.StatusCode)
		}
		if r := get("HEAD", path); r.StatusCode != http.StatusOK || textOf(t, r) != "" {
			t.Errorf("HEAD %s: %d", path, r.StatusCode)
		}
	}
	for _, encoding := range []string{"", "gzip;q=0", "gzip; q=0.00", "identity", "br, deflate", "xgzip"} {
		if r := get("GET", "/", "Accept-Encoding", encoding); r.Header.Get("Content-Encoding") != "" {
			t.Errorf("gzip for a client that takes %q", encoding)
		}
	}
}

// TestPageIsNowhereElse: the page has its own paths, and the guards hold for them too.
func TestPageIsNowhereElse(t *testing.T) {
	get := newPage(t, Options{Local: true})
	for _, x := range []struct {
		method, path string
		code         int
		header       []string
	}{
		{"GET", "/page", 404, nil},
		{"GET", "/page/", 404, nil},
		{"GET", "/page/index.html", 404, nil},
		{"GET", "/page/nothing.js", 404, nil},
		{"GET", "/page/page/app.js", 404, nil},
		{"GET", "/page/%2e%2e/server.go", 404, nil},
		{"GET", "/app.js", 404, nil},
		{"GET", "/index.html", 404, nil},
		{"GET", "/v1/page/app.js", 404, nil},
		{"POST", "/", 404, nil},
		{"POST", "/page/app.js", 404, nil},
		{"GET", "/", 403, []string{"Host", "attacker.example"}},
	} {
		if r := get(x.method, x.path, x.header...); r.StatusCode != x.code || strings.Contains(textOf(t, r), "<!doctype") {
			t.Errorf("%s %s %v: %d, want %d", x.method, x.path, x.header, r.StatusCode, x.code)
		}
	}
	if r := newPage(t, Options{NoPage: true})("GET", "/"); r.StatusCode != http.StatusNotFound {
		t.Errorf("without a page: %d", r.StatusCode)
	}
	if r := newPage(t, Options{NoPage: true})("GET", "/page/app.js"); r.StatusCode != http.StatusNotFound {
		t.Errorf("without a page, a file of it: %d", r.StatusCode)
	}
}

// TestOnlyOwnPagesAsk: a page may ask if this server has sent it. Behind a public name that is only so with a key.
func TestOnlyOwnPagesAsk(t *testing.T) {
	open, locked := newPage(t, Options{}), newPage(t, Options{Keys: []string{"secret"}})
	for _, x := range []struct {
		name         string
		ask          func(method, path string, header ...string) *http.Response
		host, origin string
		code         int
	}{
		{"an address", open, "192.168.1.7:8080", "http://192.168.1.7:8080", 404}, // nothing is there, but it may ask
		{"an IPv6 address", open, "[fd00::7]:8080", "http://[fd00::7]:8080", 404},
		{"a name of this network", open, "box.local", "http://box.local", 404},
		{"a name, which may be made to point here", open, "attacker.example", "http://attacker.example", 403},
		{"another site", open, "192.168.1.7:8080", "http://attacker.example", 403},
		{"another site by address", open, "192.168.1.7:8080", "http://10.0.0.1:8080", 403},
		{"another port", open, "192.168.1.7:8080", "http://192.168.1.7:9", 403},
		{"no origin", open, "192.168.1.7:8080", "null", 403},
		{"a name with keys", locked, "chat.example", "https://chat.example", 401}, // and that is looked at
	} {
		if r := x.ask("POST", "/nothing", "Host", x.host, "Origin", x.origin); r.StatusCode != x.code {
			t.Errorf("%s: %d, want %d", x.name, r.StatusCode, x.code)
		}
	}
	r := locked("POST", "/nothing", "Host", "chat.example", "Origin", "https://chat.example", "Authorization", "Bearer secret")
	if r.StatusCode != http.StatusNotFound || r.Header.Get("Access-Control-Allow-Origin") != "" {
		t.Errorf("a name with its key: %d, %v", r.StatusCode, r.Header)
	}
}

func TestPageIsSmall(t *testing.T) {
	total := 0
	for _, text := range pageTexts(t) {
		total += len(text)
	}
	if total >= 150_000 {
		t.Errorf("the page has %d bytes", total)
	}
}

// TestPageKeepsItsPolicy: nothing in the page needs what its policy forbids, or leads to another server.
func TestPageKeepsItsPolicy(t *testing.T) {
	html := regexp.MustCompile(`(?i)\son\w+\s*=|\sstyle\s*=|<style|javascript:|<script(?:[^>]*[^/])?>[^<]|<(?:base|iframe|object|embed)\b`)
	script := regexp.MustCompile(`innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|new Function|setAttribute\('(?:style|on)|\.srcdoc|importScripts|DOMParser`)
	elsewhere := regexp.MustCompile(`(?:https?:)?//[a-z0-9-]+\.[a-z]|url\(`)
	for name, text := range pageTexts(t) {
		switch path.Ext(name) {
		case ".html":
			if found := html.FindString(text); found != "" {
				t.Errorf("%s has %q", name, found)
			}
		case ".js":
			if found := script.FindString(text); found != "" {
				t.Errorf("%s has %q", name, found)
			}
		}
		for _, found := range elsewhere.FindAllString(strings.ReplaceAll(text, "http://www.w3.org/2000/svg", ""), -1) {
			t.Errorf("%s names another server: %q", name, found)
		}
	}
	for _, want := range []string{"default-src 'none'", "script-src 'self';", "style-src 'self';", "frame-ancestors 'none'", "require-trusted-types-for 'script'"} {
		if !strings.Contains(pagePolicy, want) {
			t.Errorf("the policy lacks %s", want)
		}
	}
	if strings.Contains(pagePolicy, "unsafe") || strings.Contains(pagePolicy, "data:") {
		t.Error("the policy has an exception")
	}
}

// TestPageReferencesExist: files that the page's files load, elements that scripts look for, and drawings.
func TestPageReferencesExist(t *testing.T) {
	texts := pageTexts(t)
	index := texts["index.html"]
	ids := map[string]bool{}
	for _, m := range regexp.MustCompile(`\bid="([\w-]+)"`).FindAllStringSubmatch(index, -1) {
		if ids[m[1]] {
			t.Errorf("two elements are called %s", m[1])
		}
		ids[m[1]] = true
	}
	found := 0
	for _, m := range regexp.MustCompile(`(?:src|href|aria-labelledby|aria-controls)="([^"]+)"`).FindAllStringSubmatch(index, -1) {
		found++
		file, isFile := strings.CutPrefix(m[1], "page/")
		if id := strings.TrimPrefix(m[1], "#"); isFile && texts[file] == "" || !isFile && !ids[id] {
			t.Errorf("index.html: there is no %s", m[1])
		}
	}
	for name, text := range texts {
		if path.Ext(name) != ".js" {
			continue
		}
		for _, m := range regexp.MustCompile(`(?m)^import .* from '\./(.*)'$`).FindAllStringSubmatch(text, -1) {
			found++
			if texts[m[1]] == "" {
				t.Errorf("%s: there is no %s", name, m[1])
			}
		}
		for _, m := range regexp.MustCompile(`\$\('#([\w-]+)[^']*'\)|(?:icon|iconButton)\('([\w-]+)'`).FindAllStringSubmatch(text, -1) {
			found++
			id := m[1]
			if m[2] != "" {
				id = "draw-" + m[2]
			}
			if !ids[id] {
				t.Errorf("%s: index.html has no %s", name, id)
			}
		}
	}
	if found < 100 {
		t.Errorf("only %d references were found", found)
	}
}

// TestPageSpeaksBothLanguages: each has every word, with the same values in it, and every word is used.
func TestPageSpeaksBothLanguages(t *testing.T) {
	texts := pageTexts(t)
	english, chinese := map[string]string{}, map[string]string{}
	for name, words := range map[string]*map[string]string{"en.json": &english, "zh.json": &chinese} {
		d := json.NewDecoder(bytes.NewReader([]byte(texts[name])))
		if err := d.Decode(words); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if n := strings.Count(texts[name], "\": \""); n != len(*words) {
			t.Errorf("%s has %d words, of which %d have names of their own", name, n, len(*words))
		}
	}
	value := regexp.MustCompile(`\{\w+\}`)
	values := func(s string) []string {
		list := value.FindAllString(s, -1)
		slices.Sort(list)
		return list
	}
	for key, text := range english {
		other, ok := chinese[key]
		if !ok || other == "" || text == "" || !slices.Equal(values(text), values(other)) {
			t.Errorf("%s is %q and %q", key, text, other)
		}
	}
	for key := range chinese {
		if _, ok := english[key]; !ok {
			t.Errorf("%s is Chinese alone", key)
		}
	}
	var code strings.Builder
	used := map[string]bool{}
	for name, text := range texts {
		if path.Ext(name) == ".json" {
			continue
		}
		code.WriteString(text)
		for _, m := range regexp.MustCompile(`\bt\('(\w+)'|data-(?:text|label|placeholder)="(\w+)"`).FindAllStringSubmatch(text, -1) {
			used[m[1]+m[2]] = true
		}
	}
	for key := range used {
		if _, ok := english[key]; !ok {
			t.Errorf("there is no word %s", key)
		}
	}
	for key := range english {
		// error_KIND, ENTRYTitle and ROLESays are put together.
		name := strings.TrimSuffix(strings.TrimSuffix(strings.TrimPrefix(key, "error_"), "Title"), "Says")
		if !used[key] && !strings.Contains(code.String(), "'"+name+"'") && !strings.Contains(code.String(), name+":") {
			t.Errorf("nothing says %s", key)
		}
	}
}

// TestPageHasItsNumbers: what the page shows of the server is there, by the names that it reads.
func TestPageHasItsNumbers(t *testing.T) {
	c := newClient(t, func(o *Options) {
		o.Models[0].Sampling = func(p *sample.Params) { p.Temperature = 0.25 }
	})
	props := get[map[string]any](c, "/props?model=tiny", "")
	params, _ := at(props, "default_generation_settings", "params").(map[string]any)
	if params["temperature"] != 0.25 || params["top_k"] != 40.0 || params["min_p"] == nil {
		t.Errorf("params: %v", params)
	}
	total, _ := at(props, "memory", "total_bytes").(float64)
	all, _ := at(props, "devices", 0, "memory_total").(float64)
	if total <= 0 || all <= total || at(props, "default_generation_settings", "n_ctx") != 200.0 || at(props, "devices", 0, "name") == "" {
		t.Errorf("props: %v", props)
	}
	get[map[string]any](c, "/v1/completions", `{"prompt":"a","max_tokens":1}`)
	props = get[map[string]any](c, "/props", "")
	used, _ := at(props, "kernels_used").(float64)
	list, _ := at(props, "kernels", "used").([]any)
	if used < 3 || used != float64(len(list)) || at(props, "kernels_verified") != 0.0 {
		t.Errorf("kernels: %v, %v of %v verified", list, at(props, "kernels_verified"), used)
	}
	_, text := c.ask("/metrics", "")
	script := pageTexts(t)["strip.js"]
	names := regexp.MustCompile(`llamacpp:\w+|pumice_\w+`).FindAllString(script, -1)
	if len(names) < 6 {
		t.Errorf("the page reads %q", names)
	}
	for _, name := range names {
		if !regexp.MustCompile(`(?m)^` + name + `\{model_name="tiny"\} \d`).Match(text) {
			t.Errorf("%s is not in\n%s", name, text)
		}
	}
}
