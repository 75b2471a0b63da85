package main

import (
	"strings"
	"testing"
)

// TestFlagsOfAnswersNeedAQuestion: at a terminal, where a conversation would begin, flags of one answer are refused.
func TestFlagsOfAnswersNeedAQuestion(t *testing.T) {
	for _, flag := range []string{"--json", "--schema=schema.json", "--answers=2", "--logprobs=1 --json"} {
		c := command(t, append([]string{"chat", "model"}, strings.Fields(flag)...)...)
		terminal, err := openTerminal(c)
		if err != nil {
			t.Skipf("no pseudo-terminal: %v", err)
		}
		defer terminal.Close()
		var message strings.Builder
		c.Stderr = &message
		if err := c.Run(); c.ProcessState.ExitCode() != exitUsage || !strings.Contains(message.String(), " needs a question: -p, TEXT, --messages or standard input") {
			t.Errorf("chat %s: %v, %q", flag, err, message.String())
		}
	}
}
