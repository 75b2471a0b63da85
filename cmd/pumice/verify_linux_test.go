package main

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"strings"
	"testing"
	"time"
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

// An interrupted verify writes the checks that ended as JSON too.
func TestInterruptedVerifyWritesJSON(t *testing.T) {
	c, out, messages := begin(t, "verify", "--types", "q4_0", "--json", "--log-level", "debug")
	go func() {
		time.Sleep(2 * time.Second)
		c.Process.Signal(os.Interrupt)
	}()
	text, _ := io.ReadAll(messages)
	c.Wait()
	fits(t, "verify", out.String())
	if c.ProcessState.ExitCode() != exitInterrupted || !strings.Contains(string(text), "nothing of an interrupted check is kept") {
		t.Errorf("status %d, %s", c.ProcessState.ExitCode(), text)
	}
}
