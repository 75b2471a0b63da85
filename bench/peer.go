package bench

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"
)

// A Peer is another program that runs the same tests, in turn with the engines.
type Peer struct {
	Setup Setup // of its rows, as far as it is known before it runs; Program names it
	Warms bool  // it warms up by itself in each run

	// Measure runs a test once, on a prompt of as many tokens as its depth and its prompt have together, at least one.
	Measure func(ctx context.Context, t Test, prompt []int) (PeerRun, error)
}

// A PeerRun is what a Peer tells of a run.
type PeerRun struct {
	Took        time.Duration // of the test's tokens
	Prompt, Gen time.Duration // parts of it, of a prompt and a generation together
	Setup       *Setup        // that the program tells of itself; nil: what is known already
}

// ours is the Program of this program's rows.
const ours = "pumice"

// peerLane is the lane of a peer beside that of an engine, whose prompts and model it has.
func peerLane(p Peer, beside *lane) *lane {
	p.Setup.ModelSize, p.Setup.ModelNParams = beside.row.ModelSize, beside.row.ModelNParams
	apart := *beside.machine
	apart.apart = true
	return &lane{peer: &p, beside: beside, machine: &apart, row: Result{Setup: p.Setup}}
}

// runPeer runs a test once, on a prompt that no other run has.
func (l *lane) runPeer(ctx context.Context, t Test, prompt []int) (sample, error) {
	got, err := l.peer.Measure(ctx, t, prompt)
	if err == nil && got.Took <= 0 {
		err = fmt.Errorf("it took %v", got.Took)
	}
	if err != nil {
		return sample{}, fmt.Errorf("%s: %w", l.row.Program, err)
	}
	if got.Setup != nil {
		got.Setup.Program = l.row.Program
	}
	return sample{took: got.Took, prompt: got.Prompt, gen: got.Gen, setup: got.Setup}, nil
}

// ofPeer reports whether a row is another program's.
func (s Setup) ofPeer() bool { return s.Program != ours && s.Program != "" }

// lane names what a row is of.
func (s Setup) lane() string {
	if s.ofPeer() {
		return s.Program
	}
	return s.GPUInfo
}

// against compares the row of the first lane with this one, which has the same test.
func (r *Result) against(first Result) {
	rows := (&File{Results: []Result{*r, first}}).measurements()
	x := ratio(first.lane(), rows[0], rows[1])
	r.Against = &x
}

// AgainstTable says how the first rows compare with those of other programs and devices that were measured in turn with them; ""
// if there are none.
func AgainstTable(results []Result) string {
	var b strings.Builder
	for _, r := range results {
		x := r.Against
		if x == nil {
			continue
		}
		if b.Len() == 0 {
			b.WriteString("\n| test | of | beside | t/s | beside it | ratio | 95 % |  |\n| --- | --- | --- | ---: | ---: | ---: | --- | --- |\n")
		}
		if x.Verdict == Strike {
			fmt.Fprintf(&b, "| %s | %s | %s | | | | | %s |\n", x.Test, x.File, r.lane(), x.Verdict)
			continue
		}
		fmt.Fprintf(&b, "| %s | %s | %s | %.2f | %.2f | %.3f | %.3f to %.3f | %s |\n", x.Test, x.File, r.lane(), x.Other, x.Base, x.Ratio, x.Low, x.High, x.Verdict)
	}
	return b.String()
}

// severalLanes reports whether rows are of several programs or devices.
func severalLanes(rows []measurement) bool {
	return slices.ContainsFunc(rows, func(m measurement) bool { return m.lane() != rows[0].lane() })
}
