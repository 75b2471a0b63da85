package main

import (
	"bytes"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"strings"
	"syscall"
	"testing"
)

// crash is a program that crashes in the way that its argument names.
func crash() {
	distinctCrashes()
	switch os.Args[1] {
	case "panic":
		panic("on purpose")
	case "goroutine":
		go func() { panic("on purpose") }()
	case "nil":
		var p *int
		*p = 1
	case "map":
		m := map[int]int{}
		for range 4 {
			go func() {
				for {
					m[1]++
				}
			}()
		}
	case "memory":
		debug.SetGCPercent(-1) // or a collection may be what finds none, and say it in other words
		runtime.GC()
		if err := syscall.Setrlimit(syscall.RLIMIT_AS, &syscall.Rlimit{Cur: 1 << 20, Max: 1 << 20}); err != nil {
			panic(err)
		}
		println(len(make([]byte, 1<<30)))
	case "truncated":
		f, err := os.CreateTemp("", "")
		if err != nil {
			panic(err)
		}
		os.Remove(f.Name())
		f.Truncate(1 << 16)
		b, err := syscall.Mmap(int(f.Fd()), 0, 1<<16, syscall.PROT_READ, syscall.MAP_SHARED)
		if err != nil {
			panic(err)
		}
		f.Truncate(0)
		println(b[1<<15])
	}
	select {}
}

// crashed fails the test unless c has crashed, and said so.
func crashed(t *testing.T, c *exec.Cmd, trace string) {
	t.Helper()
	status, ok := c.ProcessState.Sys().(syscall.WaitStatus)
	if !ok || !status.Signaled() || status.Signal() != syscall.SIGABRT || status.CoreDump() {
		t.Errorf("%v, want SIGABRT without a core dump", c.ProcessState)
	}
	said := c.Stderr.(*bytes.Buffer).String()
	if !strings.Contains(said, trace) || !strings.Contains(said, "goroutine ") {
		t.Errorf("no trace with %q in %q", trace, said)
	}
	if end := "what `pumice devices` says.\n"; !strings.HasSuffix(said, end) {
		t.Errorf("the end is %q, want %q", said[max(0, len(said)-200):], end)
	}
}

// withoutTraceback is the environment without GOTRACEBACK.
func withoutTraceback() []string {
	var env []string
	for _, e := range os.Environ() {
		if !strings.HasPrefix(e, "GOTRACEBACK=") {
			env = append(env, e)
		}
	}
	return env
}

func TestCrashIsNoWrongUsage(t *testing.T) {
	t.Parallel()
	for kind, trace := range map[string]string{
		"panic": "panic: on purpose", "goroutine": "panic: on purpose", "nil": "nil pointer dereference",
		"map": "fatal error: concurrent map", "memory": "out of memory", "truncated": "fatal error: fault",
	} {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			c := exec.Command("pumice-crash", kind)
			c.Env, c.Stderr = withoutTraceback(), &bytes.Buffer{}
			c.Run()
			crashed(t, c, trace)
		})
	}
}

// TestProgramCrashesDistinctly makes the program itself crash, by the signal that asks Go for its stacks.
func TestProgramCrashesDistinctly(t *testing.T) {
	t.Parallel()
	for name, own := range map[string]bool{"ours": false, "GOTRACEBACK": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := exec.Command("pumice", "tokenize", filepath.Join(top(t), "tokenizer", "testdata", "xverse-a"), "--jsonl")
			c.Env, c.Stderr = withoutTraceback(), &bytes.Buffer{}
			if own {
				c.Env = append(c.Env, "GOTRACEBACK=single")
			}
			in, err := c.StdinPipe()
			if err != nil {
				t.Fatal(err)
			}
			defer in.Close()
			out, err := c.StdoutPipe()
			if err != nil {
				t.Fatal(err)
			}
			if err := c.Start(); err != nil {
				t.Fatal(err)
			}
			defer c.Process.Kill()
			io.WriteString(in, `{"text":"a"}`+"\n")
			if _, err := io.ReadFull(out, make([]byte, 1)); err != nil {
				t.Fatal(err)
			}
			if err := c.Process.Signal(syscall.SIGQUIT); err != nil {
				t.Fatal(err)
			}
			c.Wait()
			if !own {
				crashed(t, c, "SIGQUIT")
			} else if c.ProcessState.ExitCode() != 2 {
				t.Errorf("%v, want Go's own status", c.ProcessState)
			}
		})
	}
}
