package main

import (
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// times are the parts of result files that may differ between runs: the moments they were written at and how long it took.
var times = regexp.MustCompile(`"(date|seconds)": [0-9.e+-]+|"total_evaluation_time_seconds": "[0-9.e+-]+"`)

// evalDevice matches lm-evaluation-harness's key for the devices in a results file, evalDevices also the list beside
// it.
var evalDevice = regexp.MustCompile(`"device": "([^"]*)"`)
var evalDevices = regexp.MustCompile(`"device": "[^"]*"|"devices": \[[^]]*\]`)

// evalFiles reads the result files below dir without their times, by name without its moment.
func evalFiles(t *testing.T, dir string) map[string]string {
	t.Helper()
	stamp := regexp.MustCompile(`_\d{4}-\d\d-\d\dT[0-9.-]+\.json`)
	out := map[string]string{}
	names, err := filepath.Glob(filepath.Join(dir, "*_*.json*"))
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		out[stamp.ReplaceAllString(filepath.Base(name), ".json")] = times.ReplaceAllString(string(readAll(t, name)), "TIME")
	}
	return out
}

// TestEvalKilledAndResumed kills an evaluation with SIGKILL after different numbers of answers, starts it again until it ends,
// and compares its files with those of an unbroken run. Shards and their merge give these files too.
func TestEvalKilledAndResumed(t *testing.T) {
	path := filepath.Join(t.TempDir(), "model")
	if err := writeXVERSE(path, filepath.Join(top(t), "tokenizer", "testdata", "xverse-a")); err != nil {
		t.Fatal(err)
	}
	cache := t.TempDir()
	args := func(dir string, more ...string) []string {
		return append([]string{"--quiet", "eval", path, "--tasks", "gaokao_english,mmlu", "--num_fewshot", "1", "--limit", "3", "--log-samples",
			"--data", filepath.Join(top(t), "eval", "testdata", "samples"), "--output-path", dir}, more...)
	}
	start := func(dir string, more ...string) *exec.Cmd {
		c := command(t, args(dir, more...)...)
		c.Env = append(c.Env, "XDG_CACHE_HOME="+cache) // one cache of shaders for all
		c.Stderr = &bytes.Buffer{}
		return c
	}
	whole := filepath.Join(t.TempDir(), "whole")
	if out, err := start(whole).Output(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	want := evalFiles(t, whole)
	if len(want) < 4 {
		t.Fatalf("files: %v", want)
	}

	killed := filepath.Join(t.TempDir(), "killed")
	journal := filepath.Join(killed, "journal.jsonl")
	lines := func() int {
		text, err := os.ReadFile(journal)
		if err != nil {
			return 0
		}
		return bytes.Count(text, []byte("\n"))
	}
	for kills := 1; ; kills++ {
		before := lines()
		c := start(killed)
		if err := c.Start(); err != nil {
			t.Fatal(err)
		}
		done := make(chan error, 1)
		go func() { done <- c.Wait() }()
		ended := false
		for !ended && lines() < max(before, 1)+2*kills {
			select {
			case err := <-done:
				if err != nil {
					t.Fatalf("%v: %s", err, c.Stderr)
				}
				ended = true
			case <-time.After(time.Millisecond):
			}
		}
		if ended {
			t.Logf("ended after %d kills", kills-1)
			if kills < 2 {
				t.Error("it was never killed")
			}
			break
		}
		if err := c.Process.Signal(syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
		<-done
	}
	if diff := cmp.Diff(want, evalFiles(t, killed)); diff != "" {
		t.Errorf("killed and resumed (-unbroken +resumed):\n%s", diff)
	}

	sharded := filepath.Join(t.TempDir(), "sharded")
	for _, shard := range []string{"1/2", "2/2"} {
		if out, err := start(sharded, "--shard", shard).Output(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
	}
	pumiceRun(t, "--quiet", "eval", "merge", "--output-path", sharded)
	if diff := cmp.Diff(want, evalFiles(t, sharded)); diff != "" {
		t.Errorf("merged shards (-whole +merged):\n%s", diff)
	}

	// Layers on two devices, here one driver's opened twice, and replicas on two give the same answers.
	for _, flag := range []string{"--devices", "--replicas"} {
		several := filepath.Join(t.TempDir(), "several")
		if out, err := start(several, flag, "0,0").Output(); err != nil {
			t.Fatalf("%s: %v: %s", flag, err, out)
		}
		got := evalFiles(t, several)
		one, two := evalDevice.FindStringSubmatch(want["results.json"]), evalDevice.FindStringSubmatch(got["results.json"])
		if one == nil || two == nil || two[1] != one[1]+", "+one[1] {
			t.Errorf("%s 0,0: device is %q, for one device %q", flag, two, one)
		}
		for name := range want {
			if diff := cmp.Diff(evalDevices.ReplaceAllString(want[name], ""), evalDevices.ReplaceAllString(got[name], "")); diff != "" {
				t.Errorf("%s 0,0: %s (-one device +two):\n%s", flag, name, diff)
			}
		}
	}

	// A run compared with itself has nothing that only one of them has right.
	var comparison struct {
		Rows []struct {
			OnlyA int     `json:"only_a"`
			OnlyB int     `json:"only_b"`
			P     float64 `json:"p"`
		} `json:"rows"`
	}
	text := pumiceRun(t, "eval", "compare", whole, killed, "--json")
	fits(t, "eval-compare", text)
	if err := json.Unmarshal([]byte(text), &comparison); err != nil {
		t.Fatal(err)
	}
	for _, r := range comparison.Rows {
		if r.OnlyA != 0 || r.OnlyB != 0 || r.P != 1 {
			t.Errorf("compared with itself: %+v", r)
		}
	}
	if out, status, messages := pumiceStatus(t, args(killed, "--dtype", "f16")...); status != 1 || !strings.Contains(messages, "dtype") {
		t.Errorf("another type in the same directory: status %d, %s%s", status, out, messages)
	}
}
