package main

import (
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// shownBy is what a stream makes of pieces of text, on a terminal or not.
func shownBy(t *testing.T, terminal bool, write func(s *stream)) string {
	t.Helper()
	f, err := os.Create(filepath.Join(t.TempDir(), "out"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	s := &stream{file: f, terminal: terminal}
	write(s)
	if err := s.flush(); err != nil {
		t.Fatal(err)
	}
	return string(readAll(t, f.Name()))
}

func TestTerminalsShowControlCharactersByNumber(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ name, text, names, prose string }{
		{"plain", "a b\tc\nd", "a b\tc\nd", "a b\tc\nd"},
		{"letters of the world", "你好 مرحبا שלום नमस्ते 😀 ½ \u00a0\u3000", "你好 مرحبا שלום नमस्ते 😀 ½ \u00a0\u3000", "你好 مرحبا שלום नमस्ते 😀 ½ \u00a0\u3000"},
		{"title", "\x1b]0;pwned\a", `\x1b]0;pwned\x07`, `\x1b]0;pwned\x07`},
		{"colour", "\x1b[8mhidden", `\x1b[8mhidden`, `\x1b[8mhidden`},
		{"NUL, backspace, DEL", "a\x00b\bc\x7f", `a\x00b\x08c\x7f`, `a\x00b\x08c\x7f`},
		{"vertical tab, form feed, shift out", "\v\f\x0e", `\x0b\x0c\x0e`, `\x0b\x0c\x0e`},
		{"C1 characters", "\u0080\u009b31m\u009f", `\u0080\u009b31m\u009f`, `\u0080\u009b31m\u009f`},
		{"C1 bytes", "\x9b31m\x80\x9f", `\x9b31m\x80\x9f`, `\x9b31m\x80\x9f`},
		{"carriage return", "real\rfake", `real\x0dfake`, `real\x0dfake`},
		{"carriage return and newline", "a\r\nb", "a\nb", "a\nb"},
		{"two carriage returns and newline", "a\r\r\nb", "a\\x0d\nb", "a\\x0d\nb"},
		{"carriage return at the end", "a\r", `a\x0d`, `a\x0d`},
		{"invalid bytes", "\xff\xc0\x80\xf5", `\xff\xc0\x80\xf5`, `\xff\xc0\x80\xf5`},
		{"surrogate", "\xed\xa0\x80", `\xed\xa0\x80`, `\xed\xa0\x80`},
		{"a character's beginning at the end", "a\xe4\xbd", `a\xe4\xbd`, `a\xe4\xbd`},
		{"a character's beginning, then another", "\xe4\xbdz", `\xe4\xbdz`, `\xe4\xbdz`},
		{"replacement character", "\ufffd", "\ufffd", "\ufffd"},
		{"overrides and isolates", "\u202a\u202e\u2066\u2069", `\u202a\u202e\u2066\u2069`, `\u202a\u202e\u2066\u2069`},
		{"line and paragraph separators", "\u2028\u2029", `\u2028\u2029`, `\u2028\u2029`},
		{"byte order mark", "\ufeff", `\ufeff`, `\ufeff`},
		{"tag characters", "\U000e0041", `\U000e0041`, `\U000e0041`},
		{"interlinear annotation", "\ufff9", `\ufff9`, `\ufff9`},
		{"marks of direction", "\u200e\u200f\u061c", `\u200e\u200f\u061c`, "\u200e\u200f\u061c"},
		{"joiners", "👩\u200d🔬 नमस\u200cते", `👩\u200d🔬 नमस\u200cते`, "👩\u200d🔬 नमस\u200cते"},
		{"spaces of no width", "a\u200bb\u2060c\u00add", `a\u200bb\u2060c\u00add`, "a\u200bb\u2060c\u00add"},
		{"variation selector", "❤\ufe0f", `❤\ufe0f`, "❤\ufe0f"},
		{"fillers", "\u3164\u115f", `\u3164\u115f`, "\u3164\u115f"},
		{"Arabic number sign", "\u0600", `\u0600`, "\u0600"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			for _, how := range []struct {
				name, want string
				write      func(s *stream, text string)
			}{
				{"names", c.names, func(s *stream, text string) { io.WriteString(s, text) }},
				{"prose", c.prose, func(s *stream, text string) { s.prose(text) }},
			} {
				for at := range len(c.text) + 1 { // however it is cut
					got := shownBy(t, true, func(s *stream) {
						how.write(s, c.text[:at])
						how.write(s, c.text[at:])
					})
					if diff := cmp.Diff(how.want, got); diff != "" {
						t.Errorf("%s, cut at byte %d (-want +got):\n%s", how.name, at, diff)
					}
				}
				if got := shownBy(t, false, func(s *stream) { how.write(s, c.text) }); got != c.text {
					t.Errorf("a file got %q for %q", got, c.text)
				}
			}
		})
	}
}

func TestOwnSequencesReachTheTerminal(t *testing.T) {
	t.Parallel()
	got := shownBy(t, true, func(s *stream) {
		s.prose("a\xe4")
		io.WriteString(s.styled(), "\x1b[K")
		io.WriteString(s, "task\x1b[2J")
	})
	if want := `a\xe4` + "\x1b[K" + `task\x1b[2J`; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

// TestKeyboard looks at what becomes of what is typed and pasted, however it is cut.
func TestKeyboard(t *testing.T) {
	t.Parallel()
	const long = "\x1b[0123456789012345678901234567890123456789"
	for _, c := range []struct{ name, typed, want string }{
		{"text", "héllo 你好\r", "héllo 你好<enter>"},
		{"editing keys", "\x01\x05\x7f\x1b[A\x1b[1;3C\x1b[3~\t", "<ctrl+a><ctrl+e><backspace><up><alt+right><delete><tab>"},
		{"Home and End of terminals, screen, rxvt and the application mode", "\x1b[H\x1b[F\x1b[1~\x1b[4~\x1b[7~\x1b[8~\x1bOH\x1bOF",
			"<home><end><home><end><home><end><home><end>"},
		{"words", "\x1b[1;5D\x1b[1;5C\x1bb\x1bf\x1b\x7f\x17\x1bd\x1bOd\x1bOc", "<ctrl+left><ctrl+right><alt+b><alt+f><alt+backspace><ctrl+w><alt+d><ctrl+left><ctrl+right>"},
		{"function keys", "a\x1bOPb\x1b[[Ac", "a<f1>bc"},
		{"Alt-Enter", "\x1b\r", "<alt+enter>"},
		{"a key with Alt that sends a sequence", "\x1b\x1b[A", "<esc><up>"},
		{"a sequence without an end", long + "x", "<"},
		{"an answer of the terminal", "a\x1b]11;rgb:0000/0000/0000\x1b\\b\x1b[?2026;2$yc", "abc"},
		{"C1", "\u009b2J\x9b", `\u009b2J\x9b`},
		{"invalid bytes", "\xff\xe4z", `\xff\xe4z`},
		{"pasted", "\x1b[200~a\tb\r\nc\rd\x1b[201~z", "a\tb\nc\ndz"},
		{"pasted controls", "\x1b[200~\x1b]0;x\a\x00\x03\x7f\x1b[2J\x1b[201~z", `\x1b]0;x\x07\x00\x03\x7f\x1b[2J` + "z"},
		{"pasted start of a paste", "\x1b[200~\x1b[200~\x1b[201~", `\x1b[200~`},
		{"pasted emoji", "\x1b[200~👩\u200d🔬\u202e\x1b[201~", "👩\u200d🔬" + `\u202e`},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			for _, size := range []int{1, 2, 3, 4096} { // of what a read gives
				var k keyboard
				var got strings.Builder
				write := func(strokes []keystroke) {
					for _, s := range strokes {
						if got.WriteString(s.text); s.text == "" {
							got.WriteString("<" + s.key + ">")
						}
					}
				}
				for rest := c.typed; rest != ""; {
					n := min(size, len(rest))
					write(k.push([]byte(rest[:n]), true))
					rest = rest[n:]
				}
				write(k.push(nil, false))
				if c.want == "<" { // whatever it is
					if strings.Contains(got.String(), "\x1b") || !strings.HasSuffix(got.String(), "x") {
						t.Errorf("%d bytes at a time: got %q", size, got.String())
					}
				} else if got.String() != c.want {
					t.Errorf("%d bytes at a time: got %q; want %q", size, got.String(), c.want)
				}
			}
		})
	}
}
