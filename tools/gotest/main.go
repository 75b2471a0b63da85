// Command gotest runs `go test` with its arguments and prints, beside what failed, what took longest.
//
//	gotest [ARG...]
//
// A passing package is one line, with the number of tests that it skipped; a failing test is printed with its output when it
// ends. At the end stand the ten slowest tests and, where test processes report it, how many pipelines they compiled and the
// processor time this took. A package whose result comes from Go's test cache spent no time and is not among them.
//
// Test processes report pipelines by adding lines `PIPELINES SECONDS` to the file that PUMICE_TEST_COMPILES names.
package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// compiles names the file of the pipelines that test processes compile.
const compiles = "PUMICE_TEST_COMPILES"

// slowest is how many tests the list at the end has.
const slowest = 10

func main() {
	status, err := run(os.Args[1:])
	if err != nil {
		fmt.Fprintln(os.Stderr, "gotest:", err)
		status = 1
	}
	os.Exit(status)
}

// run returns the exit status of go test.
func run(args []string) (int, error) {
	// One path for all runs: Go's test cache counts a test that has read another value of the variable as another test.
	report := filepath.Join(os.TempDir(), fmt.Sprintf("pumice-compiles-%d", os.Getuid()))
	if err := os.Remove(report); err != nil && !errors.Is(err, os.ErrNotExist) {
		return 0, err
	}
	cmd := exec.Command("go", append([]string{"test", "-json"}, args...)...)
	cmd.Env = append(os.Environ(), compiles+"="+report)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		return 0, err
	}
	if err := cmd.Start(); err != nil {
		return 0, err
	}
	var s summary
	if err := errors.Join(s.read(out, os.Stdout), cmd.Wait()); err != nil {
		var exit *exec.ExitError
		if !errors.As(err, &exit) {
			return 0, err
		}
	}
	if err := s.addCompiles(report); err != nil {
		return 0, err
	}
	s.print(os.Stdout)
	return cmd.ProcessState.ExitCode(), nil
}

// event is a line of `go test -json` (go doc test2json).
type event struct {
	Action     string
	Package    string
	Test       string
	Elapsed    float64 // seconds
	Output     string
	ImportPath string
}

// A test is one that ran in this run, with its subtests.
type test struct {
	pkg, name string
	time      time.Duration
}

// A summary is what one run of go test was.
type summary struct {
	tests     []test
	packages  int
	cached    int // packages whose results come from Go's test cache
	pipelines int
	compiling time.Duration // processor time
}

// pkg is a package whose tests are running.
type pkg struct {
	output  map[string][]string // lines by test, "" for the package's own
	tests   []test
	skipped int
	cached  bool
}

// read follows the events of one run and writes what a reader wants to see of them.
func (s *summary) read(events io.Reader, w io.Writer) error {
	running := map[string]*pkg{}
	lines := bufio.NewReader(events)
	for {
		line, err := lines.ReadString('\n')
		if line != "" {
			var e event
			if json.Unmarshal([]byte(line), &e) != nil {
				fmt.Fprint(w, line) // go's own words
			} else {
				s.add(running, e, w)
			}
		}
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

func (s *summary) add(running map[string]*pkg, e event, w io.Writer) {
	p := running[e.Package]
	if p == nil {
		p = &pkg{output: map[string][]string{}}
		running[e.Package] = p
	}
	switch e.Action {
	case "build-output":
		fmt.Fprint(w, e.Output)
	case "output":
		if e.Test == "" && strings.HasSuffix(e.Output, "\t(cached)\n") {
			p.cached = true
		}
		p.output[e.Test] = append(p.output[e.Test], e.Output)
	case "pass", "skip", "fail":
		if e.Test == "" {
			s.end(p, e, w)
			delete(running, e.Package)
			return
		}
		switch e.Action {
		case "fail":
			write(w, p.output[e.Test])
		case "skip":
			p.skipped++
		}
		if !strings.Contains(e.Test, "/") {
			p.tests = append(p.tests, test{e.Package, e.Test, time.Duration(e.Elapsed * float64(time.Second))})
		}
		delete(p.output, e.Test)
	}
}

// end writes what is left to say of a package: whatever its unfinished tests printed, where it failed.
func (s *summary) end(p *pkg, e event, w io.Writer) {
	s.packages++
	if p.cached {
		s.cached++
	} else {
		s.tests = append(s.tests, p.tests...)
	}
	own := p.output[""]
	if e.Action != "fail" {
		for _, line := range own {
			if p.skipped > 0 && strings.HasPrefix(line, "ok ") {
				line = fmt.Sprintf("%s, %d tests skipped\n", strings.TrimSuffix(line, "\n"), p.skipped)
			}
			if strings.HasPrefix(line, "ok ") {
				fmt.Fprint(w, line)
			}
		}
		return
	}
	delete(p.output, "")
	for _, name := range sortedKeys(p.output) { // a panic or a time limit ended them
		write(w, p.output[name])
	}
	write(w, own)
}

func sortedKeys(m map[string][]string) []string {
	var keys []string
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}

func write(w io.Writer, lines []string) {
	for _, line := range lines {
		if !strings.HasPrefix(line, "=== ") {
			fmt.Fprint(w, line)
		}
	}
}

// addCompiles adds up the lines of a report. Without one nothing was compiled, or nobody counted.
func (s *summary) addCompiles(report string) error {
	text, err := os.ReadFile(report)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	for line := range strings.Lines(string(text)) {
		var n int
		var seconds float64
		if _, err := fmt.Sscan(line, &n, &seconds); err != nil {
			return fmt.Errorf("%s: %q: %w", report, line, err)
		}
		s.pipelines += n
		s.compiling += time.Duration(seconds * float64(time.Second))
	}
	return nil
}

func (s *summary) print(w io.Writer) {
	fmt.Fprintf(w, "%d packages, %d of them from Go's test cache\n", s.packages, s.cached)
	slices.SortStableFunc(s.tests, func(a, b test) int { return int(b.time - a.time) })
	for _, t := range s.tests[:min(slowest, len(s.tests))] {
		if t.time >= time.Second {
			fmt.Fprintf(w, "%7.1f s  %s %s\n", t.time.Seconds(), t.pkg, t.name)
		}
	}
	if s.pipelines > 0 {
		fmt.Fprintf(w, "%7.1f s  of processor time compiled %d pipelines\n", s.compiling.Seconds(), s.pipelines)
	}
}
