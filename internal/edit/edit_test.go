package edit

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

// typed is a buffer after keys: words in angle brackets are keys, everything else is text.
func typed(keys string) *Buffer {
	var b Buffer
	for _, part := range strings.SplitAfter(strings.ReplaceAll(keys, "<", "\x00<"), ">") {
		text, key, named := strings.Cut(part, "\x00<")
		b.Insert(text)
		if named {
			b.Do(strings.TrimSuffix(key, ">"))
		}
	}
	return &b
}

func TestKeysEdit(t *testing.T) {
	for _, c := range []struct{ name, keys, want string }{
		{"text", "abc", "abc|"},
		{"left and right", "abc<left><left><right>X", "abX|c"},
		{"Chinese", "你好世界<left><left>X<ctrl+a>Z", "Z|你好X世界"},
		{"emoji of several code points", "a👩‍🔬👨‍👩‍👧b<left><left>X", "a👩‍🔬X|👨‍👩‍👧b"},
		{"backspace of emoji", "a👩‍🔬<backspace>", "a|"},
		{"backspace of a flag", "🇩🇪🇫🇷<backspace>", "🇩🇪|"},
		{"combining marks", "e\u0301x<left><left>Y", "Y|e\u0301x"},
		{"a mark typed after its letter", "e<left><right>\u0301<backspace>", "|"},
		{"Arabic", "سلام<left><left>X", "سلX|ام"},
		{"delete", "abc<home><delete>", "|bc"},
		{"delete at the end", "abc<delete>", "abc|"},
		{"words", "one two  three<alt+b><ctrl+left>X", "one X|two  three"},
		{"words to the right", "one two<home><alt+f><ctrl+right>X", "one twoX|"},
		{"kill word", "git commit -m x<ctrl+w><ctrl+w>", "git commit |"},
		{"kill word left and yank", "one two<alt+backspace><home><ctrl+y>", "two|one "},
		{"kill word right", "one two<home><alt+d>", "| two"},
		{"kill to the end", "one two<alt+b><ctrl+k>", "one |"},
		{"kill to the beginning", "one two<alt+b><ctrl+u>", "|two"},
		{"kill a line's end, then the end of the line", "a\nb<ctrl+home><ctrl+k><ctrl+k>", "|b"},
		{"home and end of a line", "one\ntwo<home>X<end>Y", "one\nXtwoY|"},
		{"home and end of all", "one\ntwo<ctrl+home>X<ctrl+end>Y", "Xone\ntwoY|"},
		{"new line", "a<alt+enter>b<alt+enter>", "a\nb\n|"},
		{"over a line's end", "a\nb<left><left>X", "aX|\nb"},
		{"transpose", "ab<ctrl+t>", "ba|"},
		{"transpose in the middle", "abc<left><ctrl+t>", "acb|"},
		{"transpose alone", "a<ctrl+t>", "a|"},
		{"not a key", "a<f7>b", "ab|"},
	} {
		b := typed(c.keys)
		if got := b.Before() + "|" + b.Text()[len(b.Before()):]; got != c.want {
			t.Errorf("%s: %q, want %q", c.name, got, c.want)
		}
	}
}

func TestRows(t *testing.T) {
	for _, c := range []struct {
		name, keys string
		width      int
		want       string // | is the cursor
	}{
		{"empty", "", 20, ">>> |"},
		{"a line", "hello<left>", 20, ">>> hell|o"},
		{"lines", "one\ntwo\n", 20, ">>> one\n... two\n... |"},
		{"a line that is broken", "abcdefghij", 10, ">>> abcde\nfghij|"},
		{"a row that is full", "abcde", 10, ">>> abcde|"},
		{"wide characters", "你好世界", 10, ">>> 你好\n世界|"},
		{"wide characters with an odd place left", "a你好", 10, ">>> a你好|"},
		{"wide characters without place", "ab你好", 9, ">>> ab你\n好|"},
		{"combining marks take no place", "e\u0301e\u0301e\u0301e\u0301e\u0301", 10, ">>> e\u0301e\u0301e\u0301e\u0301e\u0301|"},
		{"tabs", "a\tb", 20, ">>> a   b|"},
		{"the cursor at the beginning of a broken row", "abcdefg<left><left>", 10, ">>> abcde\n|fg"},
		{"a narrow terminal", "ab", 1, "a\nb|"},
	} {
		b := typed(c.keys)
		rows, row, before := b.Rows(">>> ", "... ", c.width)
		var got []string
		for i, r := range rows {
			text := r.Text
			if i == row {
				text = text[:before] + "|" + text[before:]
			}
			got = append(got, text)
		}
		if diff := cmp.Diff(c.want, strings.Join(got, "\n")); diff != "" {
			t.Errorf("%s (-want +got):\n%s", c.name, diff)
		}
	}
}

func TestVerticalKeepsTheColumn(t *testing.T) {
	b := typed("one two\nx\n你好世界")
	for _, want := range []string{"one two\nx", "one two"} {
		if !b.Vertical(true, ">>> ", "... ", 40) || b.Before() != want {
			t.Errorf("before the cursor is %q, want %q", b.Before(), want)
		}
	}
	if b.Vertical(true, ">>> ", "... ", 40) {
		t.Error("there is a row above the first")
	}
	b = typed("abcdefghijklmno")
	if !b.Vertical(true, ">>> ", "... ", 10) || b.Before() != "abcdef" || !b.Vertical(false, ">>> ", "... ", 10) || b.Before() != "abcdefghijklmno"[:len(b.Before())] {
		t.Errorf("in a line of several rows: %q", b.Before())
	}
}

// TestAnyKeysKeepTheTextWhole presses keys at random.
func TestAnyKeysKeepTheTextWhole(t *testing.T) {
	keys := strings.Fields("left right alt+b alt+f home end ctrl+home ctrl+end backspace delete ctrl+w alt+backspace alt+d ctrl+u ctrl+k ctrl+y ctrl+t alt+enter")
	texts := []string{"a", " ", "你", "e\u0301", "\u0301", "👩‍🔬", "\u200d", "🇩🇪", "\n", "\t", "سلام"}
	rapid.Check(t, func(t *rapid.T) {
		var b Buffer
		for range rapid.IntRange(1, 60).Draw(t, "n") {
			if rapid.Bool().Draw(t, "text") {
				b.Insert(rapid.SampledFrom(texts).Draw(t, "insert"))
			} else {
				b.Do(rapid.SampledFrom(keys).Draw(t, "key"))
			}
			if !utf8.ValidString(b.Text()) || !utf8.ValidString(b.Before()) {
				t.Fatalf("%q|%q", b.Before(), b.Text())
			}
			width := rapid.IntRange(1, 30).Draw(t, "width")
			rows, row, before := b.Rows(">>> ", "... ", width)
			if before > len(rows[row].Text) {
				t.Fatalf("the cursor is at %d of %q", before, rows[row].Text)
			}
			end := 0
			for _, r := range rows {
				if gap := b.Text()[end:r.From]; gap != "" && gap != "\n" {
					t.Fatalf("%q is in no row", gap)
				}
				end = r.To
			}
			b.Vertical(rapid.Bool().Draw(t, "up"), ">>> ", "... ", width)
		}
	})
}

func TestHistory(t *testing.T) {
	file := filepath.Join(t.TempDir(), "state", "history")
	h, err := OpenHistory(file)
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range []string{"one", "two\nlines\twith a tab", "two\nlines\twith a tab", " ", "Three"} {
		if err := h.Add(m); err != nil {
			t.Fatal(err)
		}
	}
	again, err := OpenHistory(file)
	if err != nil || again.Len() != 3 || again.At(1) != "two\nlines\twith a tab" {
		t.Errorf("%q: %v", again.messages, err)
	}
	for _, c := range []struct {
		text         string
		before, want int
	}{{"t", 3, 2}, {"t", 2, 1}, {"T", 3, 2}, {"T", 2, -1}, {"lines", 3, 1}, {"four", 3, -1}, {"one", 0, -1}} {
		if got := again.Search(c.text, c.before); got != c.want {
			t.Errorf("%q before %d is %d, want %d", c.text, c.before, got, c.want)
		}
	}
	for name, want := range map[string]os.FileMode{file: 0o600, filepath.Dir(file): 0o700 | os.ModeDir} {
		if info, err := os.Stat(name); err != nil || info.Mode() != want {
			t.Errorf("%s has permissions %v: %v", name, info.Mode(), err)
		}
	}
	if h, err := OpenHistory(""); err != nil || h.Add("x") != nil || h.Len() != 1 {
		t.Errorf("without a file: %v", err)
	}
}

// TestHistoryOfSeveralPrograms adds from several at a time.
func TestHistoryOfSeveralPrograms(t *testing.T) {
	file := filepath.Join(t.TempDir(), "history")
	var wait sync.WaitGroup
	for p := range 4 {
		h, err := OpenHistory(file)
		if err != nil {
			t.Fatal(err)
		}
		wait.Go(func() {
			for i := range 50 {
				if err := h.Add(fmt.Sprint(p, " ", i)); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wait.Wait()
	if h, err := OpenHistory(file); err != nil || h.Len() != 200 {
		t.Errorf("%d messages: %v", h.Len(), err)
	}
}

// TestHistoryIsBounded adds more than is kept, and breaks a line.
func TestHistoryIsBounded(t *testing.T) {
	file := filepath.Join(t.TempDir(), "history")
	h, err := OpenHistory(file)
	if err != nil {
		t.Fatal(err)
	}
	long := strings.Repeat("x", 10<<10)
	for i := range MaxHistory + 10 {
		if err := h.Add(fmt.Sprint(i, long)); err != nil {
			t.Fatal(err)
		}
	}
	if err := h.Add(strings.Repeat("y", maxHistoryBytes)); err != nil || h.Len() != MaxHistory {
		t.Errorf("%d messages: %v", h.Len(), err)
	}
	info, err := os.Stat(file)
	if err != nil || info.Size() > maxHistoryBytes/4 {
		t.Errorf("%d bytes: %v", info.Size(), err)
	}
	if err := os.WriteFile(file, []byte("\"a\"\nnonsense\n\"b\"\n{\"c\":1}\n\"d"), 0o600); err != nil {
		t.Fatal(err)
	}
	if h, err := OpenHistory(file); err != nil || h.Len() != 2 {
		t.Errorf("%q: %v", h.messages, err)
	}
}

func BenchmarkRowsOfALongText(b *testing.B) {
	var buffer Buffer
	buffer.Insert(strings.Repeat("func f() { return 你好 }\n", 10<<10))
	b.SetBytes(int64(len(buffer.Text())))
	for b.Loop() {
		buffer.Rows(">>> ", "... ", 80)
	}
}
