package store

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

const (
	commitA = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
	commitB = "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb"
)

// write puts files into a snapshot, each with its content's name: FILE=CONTENT.
func write(t *testing.T, c Cache, repo, commit string, files string) {
	t.Helper()
	if err := c.Make(repo, commit); err != nil {
		t.Fatal(err)
	}
	for f := range strings.FieldsSeq(files) {
		name, content, _ := strings.Cut(f, "=")
		put(t, c.Blob(repo, content), content)
		if err := c.Link(repo, commit, name, content); err != nil {
			t.Fatal(err)
		}
	}
}

func put(t *testing.T, path, content string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
}

func tree(t *testing.T, dir string) []string {
	t.Helper()
	var all []string
	err := filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			name, _ := filepath.Rel(dir, path)
			all = append(all, name)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// twoSnapshots is a cache with an older and a newer snapshot of a repository, which share a content.
func twoSnapshots(t *testing.T) Cache {
	c := Cache{t.TempDir()}
	write(t, c, "o/n", commitA, "config.json=c1 model.safetensors=w1 x-Q8_0.gguf=q8")
	write(t, c, "o/n", commitB, "config.json=c2 model.safetensors=w1 sub/x-Q4_K_M.gguf=q4 README.md=r")
	for revision, commit := range map[string]string{"main": commitB, "refs/pr/1": commitA, "v1": commitA} {
		if err := c.SetRevision("o/n", revision, commit); err != nil {
			t.Fatal(err)
		}
	}
	return c
}

func TestFind(t *testing.T) {
	t.Parallel()
	c := twoSnapshots(t)
	if err := c.SetRevision("o/n", commitA, commitA); err != nil {
		t.Error(err)
	}
	a, b := filepath.Join(c.Dir, "models--o--n/snapshots", commitA), filepath.Join(c.Dir, "models--o--n/snapshots", commitB)
	for name, want := range map[string]string{
		"hf:o/n": b, "hf:o/n@" + commitA: a, "hf:o/n@refs/pr/1": a, "hf:o/n:q4_k_m": b + "/sub/x-Q4_K_M.gguf", "hf:o/n:x-Q8_0.gguf@v1": a + "/x-Q8_0.gguf",
		"hf:o/n:*.gguf@v1": a + "/x-Q8_0.gguf",
	} {
		r, err := ParseRef(name)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := c.Find(r); err != nil || filepath.Clean(got) != want {
			t.Errorf("%s: %q, %v; want %q", name, got, err, want)
		}
	}
	if text, err := os.ReadFile(filepath.Join(b, "sub", "x-Q4_K_M.gguf")); err != nil || string(text) != "q4" {
		t.Errorf("%q, %v", text, err)
	}
	if target, err := os.Readlink(filepath.Join(b, "sub", "x-Q4_K_M.gguf")); err != nil || target != "../../../blobs/q4" {
		t.Errorf("%q, %v", target, err)
	}
	for name, says := range map[string]string{
		"hf:o/m": "it is not in " + c.Dir, "hf:o/n@v2": "it is not in", "hf:o/n@" + strings.Repeat("c", 40): "it is not in", "hf:o/n:Q8_0": `no file "Q8_0"`,
	} {
		r, _ := ParseRef(name)
		var missing *NotFoundError
		if got, err := c.Find(r); !errors.As(err, &missing) || !missing.Pull || !strings.Contains(err.Error(), says) {
			t.Errorf("%s: %q, %v; want %q", name, got, err, says)
		}
	}
	// A content that is gone is a file that is missing.
	if err := os.Remove(c.Blob("o/n", "w1")); err != nil {
		t.Fatal(err)
	}
	if got, err := c.Find(Ref{Repo: "o/n"}); err != nil || got != b+"/sub/x-Q4_K_M.gguf" {
		t.Errorf("%q, %v", got, err)
	}
}

func TestOddCaches(t *testing.T) {
	t.Parallel()
	c := Cache{t.TempDir()}
	if all, err := (Cache{c.Dir + "/none"}).List(); err != nil || len(all) > 0 {
		t.Errorf("no cache: %v, %v", all, err)
	}
	write(t, c, "o/n", commitA, "model.safetensors=w config.json=c")
	put(t, filepath.Join(c.Dir, "models--o--n/refs/main"), "../../../../etc")
	if got, err := c.Find(Ref{Repo: "o/n"}); err == nil || !strings.Contains(err.Error(), "is not a commit") {
		t.Errorf("%q, %v", got, err)
	}
	for _, err := range []error{c.Link("o/n", commitA, "../x", "w"), c.Link("o/n", commitA, "/x", "w"), c.SetRevision("o/n", "../x", commitA)} {
		var bad *NameError
		if !errors.As(err, &bad) {
			t.Errorf("%v, want a NameError", err)
		}
	}
	for _, name := range []string{"models--a", "models--..--x", "datasets--o--n", "version.txt", "models--o--empty/blobs/x"} {
		put(t, filepath.Join(c.Dir, name, "f"), "x")
	}
	all, err := c.List()
	if err != nil || len(all) != 1 || all[0].Name != "hf:o/n@"+commitA {
		t.Errorf("%+v, %v", all, err)
	}
}

func TestList(t *testing.T) {
	t.Parallel()
	c := twoSnapshots(t)
	write(t, c, "o/begun", commitA, "a-00001-of-00002.gguf=abc mmproj-a.gguf=m")
	put(t, c.Incomplete("o/begun", "def"), "12345")
	all, err := c.List()
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, m := range all {
		got = append(got, fmt.Sprint(m.Name, " ", m.Bytes, " ", m.Source, " ", m.Incomplete))
		if time.Since(m.Modified) > time.Minute {
			t.Errorf("%s: %v", m.Name, m.Modified)
		}
		if r, _ := ParseRef(m.Name); !m.Incomplete {
			if path, err := c.Find(r); err != nil || path != m.Path {
				t.Errorf("%s is found at %s, %v, and listed at %s", m.Name, path, err, m.Path)
			}
		}
	}
	want := []string{
		"hf:o/begun:a-00001-of-00002.gguf@" + commitA + " 3 hub true", "hf:o/begun 5 hub true",
		"hf:o/n@refs/pr/1 4 hub false", "hf:o/n:x-Q8_0.gguf@refs/pr/1 2 hub false", "hf:o/n 4 hub false", "hf:o/n:sub/x-Q4_K_M.gguf 2 hub false",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

func TestRemove(t *testing.T) {
	t.Parallel()
	remove := func(t *testing.T, c Cache, name string, want Removed) {
		t.Helper()
		r, err := ParseRef(name)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := c.Remove(r); err != nil || got != want {
			t.Errorf("%s: %+v, %v; want %+v", name, got, err, want)
		}
	}
	t.Run("one snapshot leaves what another has", func(t *testing.T) {
		c := twoSnapshots(t)
		remove(t, c, "hf:o/n@v1", Removed{3, 4}) // c1 and q8, not w1
		want := []string{"models--o--n/blobs/c2", "models--o--n/blobs/q4", "models--o--n/blobs/r", "models--o--n/blobs/w1", "models--o--n/refs/main"}
		for _, name := range []string{"README.md", "config.json", "model.safetensors", "sub/x-Q4_K_M.gguf"} {
			want = append(want, "models--o--n/snapshots/"+commitB+"/"+name)
		}
		var got []string
		for _, name := range tree(t, c.Dir) {
			if !strings.HasPrefix(name, ".locks") {
				got = append(got, name)
			}
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("-want +got:\n%s", diff)
		}
	})
	t.Run("one file", func(t *testing.T) {
		c := twoSnapshots(t)
		remove(t, c, "hf:o/n:Q4_K_M", Removed{1, 2})
		if _, err := c.Find(Ref{Repo: "o/n"}); err != nil {
			t.Error(err)
		}
		var missing *NotFoundError
		if _, err := c.Remove(Ref{Repo: "o/n", File: "Q4_K_M"}); !errors.As(err, &missing) {
			t.Errorf("%v, want a NotFoundError", err)
		}
	})
	t.Run("the last file takes all with it", func(t *testing.T) {
		c := Cache{t.TempDir()}
		write(t, c, "o/n", commitA, "a-00001-of-00003.gguf=q1 a-00002-of-00003.gguf=q2") // the third is missing
		remove(t, c, "hf:o/n:a-00001-of-00003.gguf@"+commitA, Removed{2, 4})
		if left := tree(t, c.Dir); len(left) > 0 {
			t.Errorf("%q are left", left)
		}
	})
	t.Run("a repository, with what was begun", func(t *testing.T) {
		c := twoSnapshots(t)
		put(t, c.Incomplete("o/n", "x"), "123")
		put(t, c.Blob("o/n", "y.0123abcd.incomplete"), "12")
		put(t, filepath.Join(c.Dir, "models--o--n/trees", commitA+".json"), "{}")
		write(t, c, "o/other", commitA, "a.gguf=a")
		remove(t, c, "hf:o/n", Removed{7, 2 + 2 + 2 + 2 + 2 + 1 + 5})
		if left := tree(t, filepath.Join(c.Dir, "models--o--other")); len(left) != 2 {
			t.Errorf("%q are left", left)
		}
		if _, err := os.Stat(filepath.Join(c.Dir, "models--o--n")); !os.IsNotExist(err) {
			t.Errorf("the folder is left: %v", err)
		}
	})
	t.Run("what repositories share stays", func(t *testing.T) {
		c := Cache{t.TempDir()}
		shared := filepath.Join(c.Dir, "blobs", "ab", "abc")
		put(t, shared, "content")
		if err := c.Make("o/n", commitA); err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink("../../blobs/ab/abc", c.Blob("o/n", "w")); err != nil {
			t.Fatal(err)
		}
		if err := c.Link("o/n", commitA, "a.gguf", "w"); err != nil {
			t.Fatal(err)
		}
		remove(t, c, "hf:o/n@"+commitA, Removed{1, 0})
		if _, err := os.Stat(shared); err != nil {
			t.Error(err)
		}
	})
	t.Run("not while it is fetched", func(t *testing.T) {
		c := twoSnapshots(t)
		unlock, err := c.Lock(t.Context(), "o/n", "q4", nil)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := c.Remove(Ref{Repo: "o/n"}); err == nil || !strings.Contains(err.Error(), "is fetching it") {
			t.Errorf("%v", err)
		}
		unlock()
		remove(t, c, "hf:o/n", Removed{7, 11})
	})
	t.Run("what is not there", func(t *testing.T) {
		c := twoSnapshots(t)
		var missing *NotFoundError
		for _, r := range []Ref{{Repo: "o/m"}, {Repo: "o/n", Revision: "x"}, {Repo: "o/n", File: "x"}} {
			if _, err := c.Remove(r); !errors.As(err, &missing) {
				t.Errorf("%v: %v", r, err)
			}
		}
	})
}

func TestLocksExclude(t *testing.T) {
	t.Parallel()
	c := Cache{t.TempDir()}
	unlock, err := c.Lock(t.Context(), "o/n", "h", nil)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	_, err = c.Lock(ctx, "o/n", "h", cancel)
	if !errors.Is(err, context.Canceled) {
		t.Errorf("%v, want to wait until the context ends", err)
	}
	other, err := c.Lock(t.Context(), "o/n", "g", nil)
	if err != nil {
		t.Fatal(err)
	}
	other()
	unlock()
	if unlock, err = c.Lock(t.Context(), "o/n", "h", nil); err != nil {
		t.Fatal(err)
	}
	unlock()
}

func TestHubCacheIsThatOfTheEnvironment(t *testing.T) {
	for _, c := range []struct{ cache, home, xdg, want string }{
		{"/c", "/h", "/x", "/c"}, {"", "/h", "/x", "/h/hub"}, {"", "", "/x", "/x/huggingface/hub"}, {"", "", "", "/user/.cache/huggingface/hub"},
	} {
		t.Setenv("HF_HUB_CACHE", c.cache)
		t.Setenv("HF_HOME", c.home)
		t.Setenv("XDG_CACHE_HOME", c.xdg)
		t.Setenv("HOME", "/user")
		if got, err := HubCache(); err != nil || got.Dir != c.want {
			t.Errorf("%+v: %v, %v", c, got, err)
		}
	}
}
