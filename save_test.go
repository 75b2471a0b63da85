package pumice

import (
	"bytes"
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
)

// saved has a session count n tokens behind a prompt and returns what Save writes.
func saved(t *testing.T, prompt []int, n int, window int) []byte {
	t.Helper()
	c := newCounter(t)
	c.kv.window = window
	s := c.engine().NewSession()
	if err := count(t.Context(), s, prompt, n); err != nil {
		t.Fatal(err)
	}
	var file bytes.Buffer
	if got, err := s.Save(t.Context(), &file); err != nil || got != len(prompt)+n-1 {
		t.Fatalf("%d tokens saved: %v", got, err)
	}
	return file.Bytes()
}

// TestSavedSessionsGoOn restores a session in another engine, which evaluates none of its tokens again.
func TestSavedSessionsGoOn(t *testing.T) {
	for _, window := range []int{0, 6} {
		prompt := []int{1, 2, 3, 4, 5, 6, 7}
		file := saved(t, prompt, 12, window)
		c := newCounter(t)
		c.kv.window = window
		e := c.engine()
		for range 2 { // the second time the cache has the pages
			s := e.NewSession()
			text, err := s.Restore(t.Context(), bytes.NewReader(file))
			if err != nil || len(text) != 18 || text[17] != 18 {
				t.Fatalf("window %d: %v, %v", window, text, err)
			}
			if err := count(t.Context(), s, append(text, 19, 30), 5); err != nil || s.Result().Stats.CachedN < 18 {
				t.Errorf("window %d: %d tokens were cached: %v", window, s.Result().Stats.CachedN, err)
			}
		}
		checkIdle(t, e)
	}
}

// TestDamagedFilesAreRefused changes or cuts every byte of a file: it is refused.
func TestDamagedFilesAreRefused(t *testing.T) {
	file := saved(t, []int{1, 2, 3, 4, 5, 6}, 6, 0)
	try := func(what string, at int, damaged []byte) {
		t.Helper()
		c := newCounter(t)
		e := c.engine()
		s := e.NewSession()
		text, err := s.Restore(t.Context(), bytes.NewReader(damaged))
		var wrong *SavedError
		if err != nil && !errors.As(err, &wrong) {
			t.Errorf("%s at %d: %v", what, at, err)
		}
		if err == nil {
			t.Errorf("%s at %d: %v", what, at, text)
		}
		checkIdle(t, e)
		if err := count(t.Context(), s, []int{1, 2, 3}, 2); err != nil {
			t.Error(err)
		}
	}
	for i := range file {
		damaged := slices.Clone(file)
		damaged[i] ^= 0x15
		try("changed", i, damaged)
		try("cut", i, file[:i])
	}
	try("long", 0, bytes.Repeat([]byte("x"), 1<<16))
	for _, header := range []string{
		`{"format":"pumice-kv-1","model":"other","tokens":1,"pages":1}`,
		`{"format":"pumice-kv-1","model":"fake","tokens":-1,"pages":1}`,
		`{"format":"pumice-kv-1","model":"fake","tokens":1000000000,"pages":1}`,
		`{"format":"pumice-kv-1","model":"fake","tokens":1,"pages":1000000000}`,
	} {
		_, err := newCounter(t).engine().NewSession().Restore(t.Context(), strings.NewReader(header+"\n"))
		var wrong *SavedError
		if !errors.As(err, &wrong) {
			t.Errorf("%s: %v", header, err)
		}
	}
}

// TestSaveIsCancelled: a writer that fails, and a context that has ended.
func TestSaveIsCancelled(t *testing.T) {
	c := newCounter(t)
	e := c.engine()
	s := e.NewSession()
	if err := count(t.Context(), s, []int{1, 2, 3}, 30); err != nil {
		t.Fatal(err)
	}
	full := errors.New("the disk is full")
	if _, err := s.Save(t.Context(), writerFunc(func([]byte) (int, error) { return 0, full })); err != full {
		t.Errorf("a full disk: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := s.Save(ctx, &bytes.Buffer{}); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
	checkIdle(t, e)
	var file bytes.Buffer
	if n, err := s.Save(t.Context(), &file); n != 32 || err != nil {
		t.Errorf("%d tokens: %v", n, err)
	}
}

type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(b []byte) (int, error) { return f(b) }
