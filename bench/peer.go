package bench

import (
	"context"
	"errors"
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

	// Of a server, which answers many at a time; else nil.
	Ask      Asker    // for RunLoad
	Sequence Sequence // for RunParallel
}

// ErrRefused says that a server does not answer a text, which tokens at random may be to it. It is asked another one.
var ErrRefused = errors.New("bench: the server refuses the text")

// maxRefusals is how many texts in a row a server may refuse.
const maxRefusals = 10

// ask asks until a server does not refuse the text, which other changes.
func ask(ask func() error, other func()) error {
	err := ask()
	for range maxRefusals {
		if !errors.Is(err, ErrRefused) {
			break
		}
		other()
		err = ask()
	}
	return err
}

// instead is another text of as many tokens.
func instead(text []int) []int {
	other := make([]int, len(text))
	for i, token := range text {
		other[i] = max(1, token*2/3)
	}
	return other
}

// A Sequence has a server evaluate a prompt and generate n tokens after it, as its sequence number i. It returns how many tokens of
// the prompt the server has evaluated, and not kept from the sequence's last prompt.
type Sequence func(ctx context.Context, i int, prompt []int, n int) (evaluated int, err error)

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
	return &lane{peer: &p, beside: beside, machine: beside.machine.ofOthers(), row: Result{Setup: p.setupBeside(beside.row.Setup)}}
}

// setupBeside is the setup of a peer's rows beside those of an engine, whose model it has. On the same device it has the same driver.
func (p Peer) setupBeside(s Setup) Setup {
	p.Setup.ModelSize, p.Setup.ModelNParams = s.ModelSize, s.ModelNParams
	if p.Setup.GPUInfo == s.GPUInfo {
		p.Setup.SoftwareOnly, p.Setup.DeviceType = s.SoftwareOnly, s.DeviceType
	}
	return p.Setup
}

// runPeer runs a test once, on a prompt that no other run has.
func (l *lane) runPeer(ctx context.Context, t Test, prompt []int) (sample, error) {
	var got PeerRun
	err := ask(func() (err error) {
		got, err = l.peer.Measure(ctx, t, prompt)
		return err
	}, func() { prompt = instead(prompt) })
	if err == nil && got.Took <= 0 {
		err = fmt.Errorf("it took %v", got.Took)
	}
	if err != nil {
		return sample{}, err
	}
	if got.Setup != nil {
		got.Setup.Program = l.row.Program
		*got.Setup = Peer{Setup: *got.Setup}.setupBeside(l.beside.row.Setup)
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

// against compares the first of two rows with the second one, which has the same test.
func against[R Row](both []R) []Ratio {
	rows := NewFile("", both).measurements()
	return ratios(rows[0].lane(), rows[1], rows[0])
}

// againstTable says how the first rows compare with those of other programs and devices that were measured in turn with them; ""
// if there are none.
func againstTable(rows []measurement) string {
	var b strings.Builder
	for _, m := range rows {
		for _, x := range m.against {
			if b.Len() == 0 {
				b.WriteString("\n| test | of | beside | t/s | beside it | ratio | 95 % |  |\n| --- | --- | --- | ---: | ---: | ---: | --- | --- |\n")
			}
			if x.Ratio == 0 {
				fmt.Fprintf(&b, "| %s | %s | %s | | | | | %s |\n", x.Test, x.File, m.lane(), x.Verdict)
				continue
			}
			fmt.Fprintf(&b, "| %s | %s | %s | %.2f | %.2f | %.3f | %s | %s |\n", x.name(), x.File, m.lane(), x.Other, x.Base, x.Ratio, x.interval(), x.Verdict)
		}
	}
	return b.String()
}

// severalLanes reports whether rows are of several programs or devices.
func severalLanes(rows []measurement) bool {
	return slices.ContainsFunc(rows, func(m measurement) bool { return m.lane() != rows[0].lane() })
}
