package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// events are what go test -json printed for three packages, shortened: one that fails, one that passes and one from the cache.
const events = `{"Action":"run","Package":"p/a","Test":"TestA"}
{"Action":"output","Package":"p/a","Test":"TestA","Output":"=== RUN   TestA\n"}
{"Action":"run","Package":"p/a","Test":"TestA/x"}
{"Action":"run","Package":"p/b","Test":"TestB"}
{"Action":"output","Package":"p/b","Test":"TestB","Output":"    b_test.go:3: quiet\n"}
{"Action":"output","Package":"p/a","Test":"TestA/x","Output":"    a_test.go:3: bad x\n"}
{"Action":"output","Package":"p/a","Test":"TestA/x","Output":"    --- FAIL: TestA/x (0.00s)\n"}
{"Action":"output","Package":"p/b","Test":"TestB","Output":"--- PASS: TestB (2.50s)\n"}
{"Action":"pass","Package":"p/b","Test":"TestB","Elapsed":2.5}
{"Action":"output","Package":"p/b","Test":"TestC","Output":"    b_test.go:9: no device\n"}
{"Action":"skip","Package":"p/b","Test":"TestC","Elapsed":0}
{"Action":"output","Package":"p/b","Output":"PASS\n"}
{"Action":"output","Package":"p/b","Output":"ok  \tp/b\t2.600s\n"}
{"Action":"pass","Package":"p/b","Elapsed":2.6}
{"Action":"fail","Package":"p/a","Test":"TestA/x","Elapsed":0}
{"Action":"output","Package":"p/a","Test":"TestA","Output":"--- FAIL: TestA (3.00s)\n"}
{"Action":"fail","Package":"p/a","Test":"TestA","Elapsed":3}
{"Action":"output","Package":"p/a","Test":"TestHangs","Output":"=== RUN   TestHangs\n"}
{"Action":"output","Package":"p/a","Test":"TestHangs","Output":"panic: too long\n"}
{"Action":"output","Package":"p/a","Output":"FAIL\tp/a\t9.000s\n"}
{"Action":"fail","Package":"p/a","Elapsed":9}
{"Action":"pass","Package":"p/c","Test":"TestSlowOnce","Elapsed":50}
{"Action":"output","Package":"p/c","Output":"ok  \tp/c\t(cached)\n"}
{"Action":"pass","Package":"p/c","Elapsed":0}
{"ImportPath":"p/d","Action":"build-output","Output":"d/d.go:2: undefined: x\n"}
go: a line that is no event
`

const printed = `ok  	p/b	2.600s, 1 tests skipped
    a_test.go:3: bad x
    --- FAIL: TestA/x (0.00s)
--- FAIL: TestA (3.00s)
panic: too long
FAIL	p/a	9.000s
ok  	p/c	(cached)
d/d.go:2: undefined: x
go: a line that is no event
3 packages, 1 of them from Go's test cache
    3.0 s  p/a TestA
    2.5 s  p/b TestB
    3.5 s  of processor time compiled 42 pipelines
`

func TestFailuresAndSlowestTestsArePrinted(t *testing.T) {
	report := filepath.Join(t.TempDir(), "compiles")
	if err := os.WriteFile(report, []byte("40 3.25\n2 0.25\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	var s summary
	var out strings.Builder
	if err := s.read(strings.NewReader(events), &out); err != nil {
		t.Fatal(err)
	}
	if err := s.addCompiles(report); err != nil {
		t.Fatal(err)
	}
	s.print(&out)
	if diff := cmp.Diff(printed, out.String()); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
}

func TestTenSlowestAreEnough(t *testing.T) {
	var s summary
	for range 30 {
		s.tests = append(s.tests, test{"p", "TestX", time.Minute})
	}
	var out strings.Builder
	s.print(&out)
	if got := strings.Count(out.String(), "TestX"); got != slowest {
		t.Errorf("%d tests listed, want %d", got, slowest)
	}
}

func TestReportMustBeNumbers(t *testing.T) {
	report := filepath.Join(t.TempDir(), "compiles")
	if err := os.WriteFile(report, []byte("many 1\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	var s summary
	if err := s.addCompiles(report); err == nil {
		t.Error("no error")
	}
	if err := s.addCompiles(report + ".none"); err != nil {
		t.Errorf("no report: %v", err)
	}
}
