package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"pumice/bench"
)

// TestInterruptedBenchWritesWhatThereIs interrupts a measurement in its second round: rows have the runs of the first one.
func TestInterruptedBenchWritesWhatThereIs(t *testing.T) {
	t.Parallel()
	model := filepath.Join(top(t), "testdata", "fixtures", "llama")
	c, out, messages := begin(t, "bench", model, "-p", "4,5", "-n", "0", "-r", "1000000", "--json", "--verbose")
	var said strings.Builder
	for b := make([]byte, 1); !strings.Contains(said.String(), "pp4, run 2: "); {
		if _, err := messages.Read(b); err != nil {
			t.Fatalf("%v: %s", err, said.String())
		}
		said.Write(b)
	}
	if err := c.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	rest, _ := io.ReadAll(messages)
	c.Wait()
	var results []map[string]any
	if err := json.Unmarshal(out.Bytes(), &results); err != nil || len(results) == 0 || c.ProcessState.ExitCode() != exitInterrupted {
		t.Errorf("%v, status %d: %s", err, c.ProcessState.ExitCode(), out.String())
	}
	fits(t, "bench", out.String())
	for _, r := range results {
		if reasons := fmt.Sprint(r["reasons"]); !regexp.MustCompile(`ended after \d+ of 1000000 runs`).MatchString(reasons) || !(r["median_ts"].(float64) > 0) {
			t.Errorf("median %v, reasons %s", r["median_ts"], reasons)
		}
	}
	if want := regexp.MustCompile(`interrupted: rows that have runs are written, \d+ in all; -p, -n, -d, -pg and -np choose those that are left`); !want.Match(rest) {
		t.Errorf("it says %q, want %s", rest, want)
	}
}

// TestKilledBenchLeavesItsResults kills a measurement between its rounds: the rows so far are in the folder of the cache.
func TestKilledBenchLeavesItsResults(t *testing.T) {
	t.Parallel()
	model, dir := filepath.Join(top(t), "testdata", "fixtures", "llama"), t.TempDir()
	c, _, messages := begin(t, "bench", model, "-p", "4", "-n", "2", "-r", "1000000", "--stamp=false", "--verbose", "--cache-dir", dir)
	journal := filepath.Join(dir, "bench", "last.json")
	for b := make([]byte, 4096); ; {
		if _, err := messages.Read(b); err != nil {
			t.Fatalf("it ended: %v", err)
		}
		if _, err := os.Stat(journal); err == nil {
			break
		}
	}
	if err := c.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_, _ = io.Copy(io.Discard, messages)
	c.Wait()
	f, err := bench.ReadFile(journal)
	if err != nil || len(f.Results) != 2 || f.Cut {
		t.Fatalf("%+v, %v", f, err)
	}
	for _, r := range f.Results {
		if len(r.SampleTS) == 0 || !(r.MedianTS > 0) || len(r.Reasons) == 0 || !strings.Contains(r.Reasons[0], " of 1000000 runs so far") {
			t.Errorf("%s: %d runs, median %g, %v", r.Test().Name(), len(r.SampleTS), r.MedianTS, r.Reasons)
		}
	}
	fits(t, "bench", string(readAll(t, journal)))
}

// TestProgressOnATerminal: checks and measurements show how far they are and what is left, and nothing of it stays.
func TestProgressOnATerminal(t *testing.T) {
	if !hasDevice(t) {
		t.Skip("no Vulkan device")
	}
	t.Setenv("XDG_CACHE_HOME", t.TempDir())
	t.Setenv("NO_COLOR", "1")
	model := filepath.Join(top(t), "testdata", "fixtures", "llama")
	for what, args := range map[string][]string{
		"checking":  {"verify", "--quick", "--types", "q4_0", "--kernels", "matvec_q4_0"},
		"measuring": {"bench", model, "-p", "64", "-n", "64", "-r", "3"},
	} {
		text, status := onTerminal(t, args...)
		if status != 0 || !regexp.MustCompile(what+` +\d+% .*\(\d+/\d+\) \[\d+m?s:\d+m?s\]`).MatchString(text) {
			t.Errorf("%v: status %d, %q", args, status, text)
		}
		if last := text[strings.LastIndex(text, "\r"):]; strings.Contains(last, what) {
			t.Errorf("%v ends with %q", args, last)
		}
	}
}

// TestInterruptedEvalSaysHowFarItCame interrupts an evaluation after its first answer, and starts it again.
func TestInterruptedEvalSaysHowFarItCame(t *testing.T) {
	t.Parallel()
	model := filepath.Join(t.TempDir(), "model")
	if err := writeXVERSE(model, filepath.Join(top(t), "tokenizer", "testdata", "xverse-a")); err != nil {
		t.Fatal(err)
	}
	out := filepath.Join(t.TempDir(), "out")
	run := func(interrupt bool, more ...string) (string, int) {
		c := command(t, append([]string{"eval", model, "--tasks", "gaokao_english,mmlu", "--num-fewshot", "1", "--verbose",
			"--data", filepath.Join(top(t), "eval", "testdata", "samples")}, more...)...)
		messages, err := c.StderrPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := c.Start(); err != nil {
			t.Fatal(err)
		}
		defer c.Process.Kill()
		var said strings.Builder
		for b := make([]byte, 1); interrupt && !strings.Contains(said.String(), "the key has"); {
			if _, err := messages.Read(b); err != nil {
				t.Fatalf("%v: %s", err, said.String())
			}
			said.Write(b)
		}
		if interrupt {
			c.Process.Signal(os.Interrupt)
		}
		rest, _ := io.ReadAll(messages)
		said.Write(rest)
		c.Wait()
		return said.String(), c.ProcessState.ExitCode()
	}
	answered := regexp.MustCompile(`\d+ of \d+ questions are answered, \d+ right\n`)
	if text, status := run(true); status != exitInterrupted || !answered.MatchString(text) || !strings.Contains(text, "the answers so far are not kept: --output-path DIR keeps them") {
		t.Errorf("without a journal: status %d, %s", status, text)
	}
	if text, status := run(true, "--output-path", out); status != exitInterrupted || !answered.MatchString(text) || !strings.Contains(text, "run the same command again to continue") {
		t.Errorf("with one: status %d, %s", status, text)
	}
	if text, status := run(false, "--output-path", out); status != 0 || !strings.Contains(text, "continuing after ") {
		t.Errorf("started again: status %d, %s", status, text)
	}
}

// TestBenchEndsWhereNothingCanBeWritten: a full disk is said once, and no further model is measured.
func TestBenchEndsWhereNothingCanBeWritten(t *testing.T) {
	t.Parallel()
	if !hasDevice(t) {
		t.Skip("no Vulkan device")
	}
	full, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
	if err != nil {
		t.Skip(err)
	}
	defer full.Close()
	model := filepath.Join(top(t), "testdata", "fixtures", "llama")
	c := command(t, "bench", model, model, "-p", "4", "-n", "0", "-r", "1", "--stamp=false", "--json", "--verbose")
	var said strings.Builder
	c.Stdout, c.Stderr = full, &said
	if err := c.Run(); err == nil || strings.Count(said.String(), "no space left on device") != 1 || strings.Count(said.String(), "pp4, run 1") != 1 {
		t.Errorf("%v: %s", err, said.String())
	}
}
