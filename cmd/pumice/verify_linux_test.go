package main

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"strings"
	"testing"
)

// An interrupted verify counts what it has checked.
func TestInterruptedVerifySaysHowFarItCame(t *testing.T) {
	c := command(t, "--quiet", "verify", "--types", "q4_0", "--verbose")
	out, err := c.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewReader(out)
	first, err := lines.ReadString('\n')
	if err != nil || !strings.HasPrefix(first, "ok ") {
		t.Errorf("%q, %v", first, err)
	}
	if err := c.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	rest, err := io.ReadAll(lines)
	c.Wait()
	text := first + string(rest)
	want := fmt.Sprintf("%d checks, 0 wrong\n", strings.Count(text, "\nok ")+1)
	if err != nil || c.ProcessState.ExitCode() != exitInterrupted || !strings.HasSuffix(text, want) {
		t.Errorf("%v, status %d, want %q at the end:\n%s", err, c.ProcessState.ExitCode(), want, text)
	}
}
