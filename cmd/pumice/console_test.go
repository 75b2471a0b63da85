package main

import (
	"fmt"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"

	"github.com/charmbracelet/x/vt"
	"pgregory.net/rapid"

	"pumice/internal/edit"
	"pumice/internal/markdown"
	"pumice/internal/screen"
)

// TestAnyKeysAndAnswersKeepTheScreenWhole presses keys at random while answers come, on terminals of any size: what was written for
// good stays on the screen as it was, above what is drawn again.
func TestAnyKeysAndAnswersKeepTheScreenWhole(t *testing.T) {
	keys := strings.Fields("left right up down home end backspace delete tab enter alt+enter ctrl+c ctrl+r ctrl+g esc ctrl+u ctrl+k ctrl+y ctrl+w pgup pgdown ctrl+left ctrl+p f1")
	texts := []string{"a", "你好", "e\u0301", "👩\u200d🔬", "one\ntwo", "\t", " ", `"""`, "/set ", "@", strings.Repeat("long ", 30)}
	rapid.Check(t, func(t *rapid.T) {
		width, height := rapid.IntRange(4, 40).Draw(t, "width"), rapid.IntRange(3, 12).Draw(t, "height")
		terminal := vt.NewEmulator(width, height)
		history, err := edit.OpenHistory("")
		if err != nil {
			t.Fatal(err)
		}
		c := &console{history: history, screen: screen.New(terminal, width, false), width: width, height: height,
			prompt: ">>> ", complete: (&repl{}).complete}
		c.changed.L = &c.mu
		c.asking = true
		marks := 0
		for range rapid.IntRange(1, 60).Draw(t, "steps") {
			switch rapid.IntRange(0, 5).Draw(t, "what") {
			case 0, 1:
				c.stroke(keystroke{text: rapid.SampledFrom(texts).Draw(t, "text")})
			case 2, 3:
				c.stroke(keystroke{key: rapid.SampledFrom(keys).Draw(t, "key")})
			case 4:
				if c.answer == nil {
					c.answer = markdown.NewStream(markdown.Options{Visible: visibleProse})
				}
				c.answer.Push(rapid.SampledFrom(append(texts, "\n\n", "- x\n", "```\n", "| a | b |\n|---|---|\n")).Draw(t, "answer"))
			case 5:
				c.asking = !c.asking
				c.queue = nil
				if c.answer != nil {
					s := c.answer
					c.answer = nil
					c.draw(s.End(width - 1))
				}
				marks++
				c.draw([]string{fmt.Sprint("#", marks)})
				if text := terminal.String(); height > 2 && !strings.Contains(text, fmt.Sprint("#", marks)) {
					// What is typed may fill the screen: then it has scrolled away.
					if rows := len(c.input().Rows); rows < height-1 {
						t.Fatalf("#%d is not on the screen:\n%s", marks, text)
					}
				}
			}
			c.ended = nil
			c.draw(nil)
			if at := terminal.CursorPosition(); at.X >= width || at.Y >= height {
				t.Fatalf("the cursor is at %v", at)
			}
		}
	})
}

func FuzzKeyboard(f *testing.F) {
	for _, seed := range []string{"a\x1b[A\x1b[200~x\x1b[201~", "\x1bO", "\x1b]", "\x1b[[", "\xe4\xbd", "\x1b[27;5;99~\x1b[99;5u"} {
		f.Add([]byte(seed), 3)
	}
	f.Fuzz(func(t *testing.T, typed []byte, size int) {
		var k keyboard
		size = 1 + size&0xf
		for rest := typed; len(rest) > 0; {
			n := min(size, len(rest))
			for _, s := range k.push(rest[:n], n&1 == 0) {
				for _, r := range s.text {
					if unicode.IsControl(r) && r != '\n' && r != '\t' {
						t.Fatalf("%q", s.text)
					}
				}
				if !utf8.ValidString(s.text) {
					t.Fatalf("%q", s.text)
				}
			}
			rest = rest[n:]
		}
	})
}
