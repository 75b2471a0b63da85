package main

import (
	"strings"
	"testing"

	"pumice/chat/toolcall"
)

// TestAnswersAreWrittenWithoutReasoning: standard output gets what comes after the reasoning, however the text is cut, and standard error
// the reasoning where it is asked for.
func TestAnswersAreWrittenWithoutReasoning(t *testing.T) {
	for _, c := range []struct {
		thinking, text, content, reasoning string
	}{
		{"", "<think>\nFrance, then Paris.\n</think>\n\nParis.", "Paris.", "France, then Paris."},
		{"<think>", "France, then Paris.</think>Paris.", "Paris.", "France, then Paris."},
		{"", "Paris: a < b, and no <think>.", "Paris: a < b, and no <think>.", ""},
		{"<think>", "It never ends", "", "It never ends"},
	} {
		for _, verbose := range []bool{false, true} {
			for size := 1; size <= len(c.text); size++ {
				var reasoning string
				content := shownBy(t, false, func(out *stream) {
					reasoning = shownBy(t, false, func(messages *stream) {
						w := &answerWriter{program: &program{stdout: out, stderr: messages}, reasoning: verbose,
							reader: toolcall.New(toolcall.None, toolcall.Options{Thinking: c.thinking})}
						for rest := c.text; rest != ""; {
							n := min(size, len(rest))
							if err := w.text(rest[:n], false); err != nil {
								t.Error(err)
							}
							rest = rest[n:]
						}
						if err := w.text("", true); err != nil {
							t.Error(err)
						}
					})
				})
				want := ""
				if verbose {
					want = c.reasoning
				}
				if content != c.content || strings.TrimSpace(reasoning) != want {
					t.Errorf("%q by %d bytes: %q and reasoning %q, want %q and %q", c.text, size, content, reasoning, c.content, want)
				}
			}
		}
	}
}
