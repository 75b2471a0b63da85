package bench

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"pumice"
	"pumice/internal/gputest"
)

// TestPeersTakeTurns: a peer has the engine's prompts, in the same rounds, its rows say how the engine's compare with them, and
// one that fails ends the tests with a row that says so.
func TestPeersTakeTurns(t *testing.T) {
	gputest.Open(t) // skips without a device
	e, err := pumice.Open(t.Context(), "../testdata/fixtures/llama", pumice.Options{Context: 32})
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	runs := 0
	var fail error
	peer := Peer{Setup: Setup{Program: "other"}, Warms: true, Measure: func(_ context.Context, test Test, prompt []int) (PeerRun, error) {
		if runs++; len(prompt) != test.Depth+max(test.Prompt, 1) {
			t.Errorf("%s: %d tokens", test.Name(), len(prompt))
		}
		return PeerRun{Took: time.Hour, Setup: &Setup{BuildCommit: "b1", GPUInfo: "its device", Backends: "CUDA"}}, fail
	}}
	var got []Result
	o := Options{Prompt: []int{8}, Gen: []int{2}, Depth: []int{4}, Reps: 3, Peers: []Peer{peer}}
	if err := RunAll(t.Context(), []*pumice.Engine{e}, o, func(r Result) { got = append(got, r) }); err != nil {
		t.Fatal(err)
	}
	if len(got) != 4 || runs != 2*3 {
		t.Fatalf("%d rows, %d runs of the peer", len(got), runs)
	}
	for i, r := range got {
		if i%2 == 0 {
			if r.Against != nil || r.Program != ours {
				t.Errorf("%+v", r)
			}
			continue
		}
		if r.Program != "other" || r.BuildCommit != "b1" || r.Warmups != 0 || len(r.SampleTS) != 3 {
			t.Errorf("%+v", r)
		}
		if x := r.Against; x == nil || x.Verdict != Faster || x.Ratio != got[i-1].MedianTS/r.MedianTS || x.Low <= 1 || x.OtherRuns != 3 {
			t.Errorf("%+v", r.Against)
		}
	}
	if s := (Peer{Setup: Setup{Program: "other", GPUInfo: got[0].GPUInfo}}).setupBeside(got[0].Setup); s.SoftwareOnly != got[0].SoftwareOnly || s.SoftwareOnly && s.backend() != "other CPU" {
		t.Errorf("on the same device: %+v", s)
	}
	foot := TableFoot(got)
	if strings.Count(foot, "| pp8 @ d4 |") != 1 || !strings.Contains(foot, "| other |") || strings.Count(foot, "faster") != 2 || strings.Count(foot, "other: its device, CUDA\n") != 1 || strings.Count(foot, "device: ") != 1 || strings.Contains(foot, ": \n") {
		t.Error(foot)
	}
	if c := Compare(NewFile("a", got), NewFile("b", got)); len(c.Rows) != 4 || len(c.Missing) != 0 || c.Rows[1].Ratio != 1 {
		t.Errorf("%+v", c)
	}
	fail, got = errors.New("no more"), nil
	err = RunAll(t.Context(), []*pumice.Engine{e}, o, func(r Result) { got = append(got, r) })
	if err == nil || len(got) != 4 || !strings.Contains(got[1].Error, "other, pp8 @ d4: no more") || got[1].Against == nil || got[1].Against.Verdict != NoRuns {
		t.Errorf("%v: %+v", err, got)
	}
}
