package store

import (
	"errors"
	"strings"
	"testing"
)

func TestRefs(t *testing.T) {
	for text, want := range map[string]Ref{
		"hf:owner/name":                      {Repo: "owner/name"},
		"hf:owner/name:model.gguf":           {Repo: "owner/name", File: "model.gguf"},
		"hf:o/n.a_b-c:Q4_K_M@main":           {Repo: "o/n.a_b-c", File: "Q4_K_M", Revision: "main"},
		"hf:o/n@refs/pr/1":                   {Repo: "o/n", Revision: "refs/pr/1"},
		"hf:o/n:sub/*-00001-of-00002.gguf@v": {Repo: "o/n", File: "sub/*-00001-of-00002.gguf", Revision: "v"},
	} {
		r, err := ParseRef(text)
		if err != nil || r != want {
			t.Errorf("%s: %+v, %v; want %+v", text, r, err, want)
		}
		if back := strings.Replace(text, "@main", "", 1); r.String() != back {
			t.Errorf("%s is written as %s", text, r)
		}
	}
	for _, text := range []string{
		"owner/name", "hf:", "hf:name", "hf:a/b/c", "hf:../b", "hf:a/..", "hf:a/b--c", "hf:a--b/c", "hf:.a/b", "hf:a/b.git", "hf:a b/c",
		"hf:a/b:", "hf:a/b:../c", "hf:a/b:/etc/passwd", "hf:a/b:c/../d", "hf:a/b@", "hf:a/b@../../x", "hf:a/b@/x", "hf:a/b:c\x1b[2J",
		"hf:a/" + strings.Repeat("b", 97), "hf:a/b:" + strings.Repeat("c", 256), "hf:a-/b", "hf:a/b-",
	} {
		var bad *NameError
		if r, err := ParseRef(text); !errors.As(err, &bad) {
			t.Errorf("%q: %+v, %v; want a NameError", text, r, err)
		}
	}
}

func TestPlainPath(t *testing.T) {
	for name, want := range map[string]bool{
		"config.json": true, "1_Pooling/config.json": true, "模型 Q4.gguf": true, "a..b": true,
		"": false, ".": false, "..": false, "../x": false, "a/../x": false, "/x": false, "a//b": false, "a/": false, "./a": false, `..\x`: false,
		"a\x00b": false, "a\nb": false, "a\u202eb": false, "a\xffb": false, strings.Repeat("a/", 600) + "a": false, strings.Repeat("a", 256): false,
	} {
		if PlainPath(name) != want {
			t.Errorf("%q: want %t", name, want)
		}
	}
}

// FuzzNames reads names of models: what is accepted stays in its folder, and is written as it is read.
func FuzzNames(f *testing.F) {
	for _, name := range []string{"hf:o/n:a@b", "hf:a--b/c", "ollama:h:5000/n/m:t", "ollama:../..:..", "hf:o/n:../x"} {
		f.Add(name)
	}
	f.Fuzz(func(t *testing.T, name string) {
		if r, err := ParseRef(name); err == nil {
			again, err := ParseRef(r.String())
			if again.RevisionOrDefault() != r.RevisionOrDefault() || again.Repo != r.Repo || again.File != r.File || err != nil {
				t.Errorf("%q: %+v is written as %q: %+v, %v", name, r, r, again, err)
			}
			if folder := repoFolder(r.Repo); strings.ContainsAny(folder, "/\\\x00") || strings.Count(strings.TrimPrefix(folder, repoPrefix), "--") != 1 {
				t.Errorf("%q: folder %q", name, folder)
			}
		}
		if n, err := parseOllama(ollamaPrefix + name); err == nil {
			if again, err := parseOllama(n.String()); again != n || err != nil {
				t.Errorf("%q: %+v is written as %q: %+v, %v", name, n, n, again, err)
			}
			for _, part := range []string{n.host, n.namespace, n.model, n.tag} {
				if part == "" || part[0] == '.' || strings.ContainsAny(part, "/\\\x00") {
					t.Errorf("%q: %+v", name, n)
				}
			}
		}
	})
}
