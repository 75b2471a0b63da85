package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"pumice/chat"
)

// TestAttachedFiles attaches files to messages, and finds again what was typed.
func TestAttachedFiles(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	plain, fenced, spaced := write("plain", "one\n@two\n"), write("fenced", "```go\n```\n"), write("a b", "x")
	t.Setenv("HOME", dir)
	r, said := newRepl(t, talk{})
	for _, c := range []struct{ name, typed, want string }{
		{"at home", "@~/a\\ b", "@~/a\\ b\n\nFile ~/a b:\n\n```\nx\n```"},
		{"none", "a@b.example and @ alone", "a@b.example and @ alone"},
		{"one", "see @" + plain + " there", "see @" + plain + " there\n\nFile " + plain + ":\n\n```\none\n@two\n```"},
		{"at the end of a sentence", "(see @" + plain + ").", "(see @" + plain + ").\n\nFile " + plain + ":\n\n```\none\n@two\n```"},
		{"a fence in it", "@" + fenced, "@" + fenced + "\n\nFile " + fenced + ":\n\n````\n```go\n```\n````"},
		{"a space in the name", "@" + strings.ReplaceAll(spaced, " ", `\ `), "@" + strings.ReplaceAll(spaced, " ", `\ `) + "\n\nFile " + spaced + ":\n\n```\nx\n```"},
		{"two", "@" + plain + " @" + spaced[:len(spaced)-2] + "x @" + fenced, "@" + plain + " @" + spaced[:len(spaced)-2] + "x @" + fenced +
			"\n\nFile " + plain + ":\n\n```\none\n@two\n```\n\nFile " + fenced + ":\n\n````\n```go\n```\n````"},
	} {
		got, err := r.attach(c.typed)
		if err != nil {
			t.Errorf("%s: %v", c.name, err)
		}
		if diff := cmp.Diff(c.want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", c.name, diff)
		}
		if again := withoutFiles(got); again != c.typed {
			t.Errorf("%s: what was typed is %q, was %q", c.name, again, c.typed)
		}
	}
	if text := said(); strings.Count(text, "is attached") != 7 || strings.Count(text, "there is no file") != 1 {
		t.Errorf("it said %s", text)
	}
	if c := r.complete("/load ~/pla"); len(c.texts) != 1 || c.texts[0] != "plain" {
		t.Errorf("completed to %q", c.texts)
	}
	for name, path := range map[string]string{"not a text file": write("binary", "a\x00"), "not a regular file": dir, "larger than": write("large", strings.Repeat("x", maxAttached+1))} {
		if _, err := r.attach("@" + path); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestArchiveKeepsTheNewest writes more conversations than are kept.
func TestArchiveKeepsTheNewest(t *testing.T) {
	a := &archive{filepath.Join(t.TempDir(), "conversations")}
	var first, last string
	for i := range maxKept + 3 {
		file, err := a.write("", []chat.Message{{Role: "user", Content: strings.Repeat("x", i)}})
		if err != nil {
			t.Fatal(err)
		}
		if i == 0 {
			first = file
		}
		last = file
	}
	if n := len(a.files()); n != maxKept {
		t.Errorf("%d are kept", n)
	}
	if _, err := os.Stat(first); err == nil {
		t.Error("the oldest is kept")
	}
	if info, err := os.Stat(last); err != nil || info.Mode() != 0o600 {
		t.Errorf("permissions %v: %v", info.Mode(), err)
	}
	if err := os.WriteFile(filepath.Join(a.dir, "broken.json"), []byte("["), 0o600); err != nil {
		t.Fatal(err)
	}
	if found := a.find(strings.Repeat("X", maxKept)); len(found) != 3 {
		t.Errorf("%d have the text", len(found))
	}
}

func TestLastCode(t *testing.T) {
	for text, want := range map[string]string{
		"":                                  "",
		"none `a`":                          "",
		"```\na\n```\n\n```go\nb\nc\n```\n": "b\nc",
		"text\n```\nno end":                 "no end",
	} {
		if got := lastCode(text); got != want {
			t.Errorf("%q: %q, want %q", text, got, want)
		}
	}
}
