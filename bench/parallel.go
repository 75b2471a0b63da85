package bench

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"golang.org/x/sync/errgroup"

	"pumice"
)

// ParallelOptions says what is measured with several sequences at once. Every prompt length with every generation length
// and every number of sequences is a test.
type ParallelOptions struct {
	Prompt    []int // llama-batched-bench -npp
	Gen       []int // llama-batched-bench -ntg
	Sequences []int // llama-batched-bench -npl
	Shared    bool  // llama-batched-bench -pps
	Reps      int   // at least 1

	Name, Text string // as those of Options

	SpreadLimit float64 // of Columns.Time, above which a row is marked as noisy; 0 stands for DefaultSpreadLimit

	Stamping

	Peers []Peer                         // that have a Sequence; they have the engine's prompts
	Power func(pumice.DeviceInfo) *Power // as that of Options

	Progress func(Progress)         // called after each run; may be nil
	Partial  func([]ParallelResult) // called after each round but the last with the results so far; may be nil
}

// A ParallelTest is one row of the table: Sequences sequences, each with a prompt of Prompt tokens, generate Gen tokens
// each. All numbers are at least 1. The JSON keys are llama-batched-bench's.
type ParallelTest struct {
	Prompt    int  `json:"pp"`
	Gen       int  `json:"tg"`
	Sequences int  `json:"pl"`
	Shared    bool `json:"is_pp_shared"` // the sequences have one prompt, which only the first evaluates
}

// Tests lists the tests in the order they run, which is llama-batched-bench's.
func (o ParallelOptions) Tests() []ParallelTest {
	var out []ParallelTest
	for _, p := range o.Prompt {
		for _, g := range o.Gen {
			for _, s := range o.Sequences {
				out = append(out, ParallelTest{Prompt: p, Gen: g, Sequences: s, Shared: o.Shared})
			}
		}
	}
	return out
}

// Context is the number of positions that one sequence of the tests needs.
func (o ParallelOptions) Context() int {
	n := 1
	for _, t := range o.Tests() {
		n = max(n, t.Prompt+t.Gen)
	}
	return n
}

// Name is the test in words.
func (t ParallelTest) Name() string {
	if t.Sequences == 1 {
		return fmt.Sprintf("1 sequence, pp%d, tg%d", t.Prompt, t.Gen)
	}
	return fmt.Sprintf("%d sequences, pp%d, tg%d", t.Sequences, t.Prompt, t.Gen)
}

// prompts is how many prompts are evaluated.
func (t ParallelTest) prompts() int {
	if t.Shared {
		return 1
	}
	return t.Sequences
}

// positions is how many positions of the KV cache the sequences fill; those of a shared prompt count once.
func (t ParallelTest) positions() int { return t.prompts()*t.Prompt + t.Sequences*t.Gen }

// Columns are the measured columns of llama-batched-bench's table, in seconds and in tokens a second of all sequences
// together.
type Columns struct {
	PromptTime  float64 `json:"t_pp"`     // until every prompt is evaluated
	PromptSpeed float64 `json:"speed_pp"` // tokens of prompts over PromptTime; a shared prompt counts once
	GenTime     float64 `json:"t_tg"`     // from then until every sequence has its last token
	GenSpeed    float64 `json:"speed_tg"` // generated tokens over GenTime
	Time        float64 `json:"t"`        // PromptTime + GenTime
	Speed       float64 `json:"speed"`    // tokens of prompts and generated tokens over Time
}

func (c *Columns) all() [6]*float64 {
	return [...]*float64{&c.PromptTime, &c.PromptSpeed, &c.GenTime, &c.GenSpeed, &c.Time, &c.Speed}
}

// columns are those of one run.
func (t ParallelTest) columns(prompt, gen time.Duration) Columns {
	p, g := prompt.Seconds(), gen.Seconds()
	return Columns{
		PromptTime: p, PromptSpeed: float64(t.prompts()*t.Prompt) / p,
		GenTime: g, GenSpeed: float64(t.Sequences*t.Gen) / g,
		Time: p + g, Speed: float64(t.positions()) / (p + g),
	}
}

// A ParallelResult is one test's measurement under llama-batched-bench's JSON keys, and the program's own. Its Columns
// are means over the repetitions.
type ParallelResult struct {
	Setup
	ParallelTest
	Positions int    `json:"n_kv"`
	TestTime  string `json:"test_time"` // RFC 3339
	Columns
	Stddev  Columns   `json:"stddev"`
	Median  Columns   `json:"median"`
	Samples []Columns `json:"samples"`

	Steadiness // of Columns.Time
	Stamp
	Energy // the tokens are those of N_KV

	Against []Ratio `json:"against,omitempty"` // the row of the engine compared with this one, which is a peer's
}

func (r *ParallelResult) summarise() {
	for i, mean := range r.Columns.all() {
		var x []float64
		for _, s := range r.Samples {
			x = append(x, *s.all()[i])
		}
		*mean, *r.Stddev.all()[i] = spread(x)
		*r.Median.all()[i] = median(x)
	}
}

// A parallelLane is what sequences run on: the engine, or a peer.
type parallelLane struct {
	setup    Setup
	sequence Sequence
	machine  *machine
	meter    *meter
}

// RunParallel measures every test on the engine and hands each result over as it is complete, or ended early as those of Run
// are. The engine's context must hold ParallelOptions.Context positions.
func RunParallel(ctx context.Context, e *pumice.Engine, o ParallelOptions, each func(ParallelResult)) error {
	if o.Reps < 1 {
		return fmt.Errorf("bench: %d repetitions, want at least 1", o.Reps)
	}
	for _, t := range o.Tests() {
		if min(t.Prompt, t.Gen, t.Sequences) < 1 {
			return fmt.Errorf("bench: %d sequences with a prompt of %d tokens that generate %d: want at least 1 of each", t.Sequences, t.Prompt, t.Gen)
		}
	}
	if need := o.Context(); e.Context() < need {
		return fmt.Errorf("bench: the tests need a context of %d, the engine has %d", need, e.Context())
	}
	text, err := tokenize(e, o.Text)
	if err != nil {
		return err
	}
	if o.Shared && len(o.Peers) > 0 {
		return errors.New("bench: servers can't be told to share a prompt")
	}
	var sessions []*pumice.Session
	inEngine := func(ctx context.Context, i int, prompt []int, n int) (int, error) {
		_, _, err := generate(ctx, sessions[i], prompt, n)
		return 0, err
	}
	setup, on := describe(e, o.Name, o.Text), thisMachine(e.Devices()[0].Info())
	meter := on.meterOf(e, o.Power)
	defer meter.end()
	lanes := []parallelLane{{setup, inEngine, on, meter}}
	for _, p := range o.Peers {
		lanes = append(lanes, parallelLane{setup: p.setupBeside(setup), sequence: p.Sequence, machine: on.ofOthers()})
	}
	at := func(test int) *parallelLane { return &lanes[test%len(lanes)] }
	var results []ParallelResult
	var names []string
	for _, t := range o.Tests() {
		for len(sessions) < t.Sequences {
			sessions = append(sessions, e.NewSession())
		}
		for _, l := range lanes {
			name := t.Name()
			if len(lanes) > 1 {
				name = l.setup.lane() + ", " + name
			}
			names = append(names, name)
			results = append(results, ParallelResult{Setup: l.setup, ParallelTest: t, Positions: t.positions(), TestTime: now(), Samples: []Columns{}})
		}
	}
	energies := make([][]reading, len(results))
	p := plan{reps: o.Reps, limit: cmp.Or(o.SpreadLimit, DefaultSpreadLimit), progress: o.Progress}
	p.machine = func(test int) *machine { return at(test).machine }
	row := func(test int, runs runs) ParallelResult {
		r := results[test]
		r.Steadiness, r.Energy = runs.Steadiness, at(test).meter.energyOf(energies[test])
		r.summarise()
		return r
	}
	p.warmed = o.stamper(e, func(s Stamp) {
		for test := 0; test < len(results); test += len(lanes) {
			results[test].Stamp = s
		}
	})
	if o.Partial != nil {
		p.round = func(so []runs) {
			var list []ParallelResult
			for test := range results {
				list = append(list, row(test, so[test]))
			}
			o.Partial(list)
		}
	}
	warmups := uint64(0)
	firsts := map[int]runs{} // of the engine's tests, which those of peers are compared with
	return p.rounds(ctx, names, func(ctx context.Context, test, rep int) (time.Duration, error) {
		r, l := &results[test], at(test)
		seed := uint64(rep*len(results) + test - test%len(lanes))
		if rep == 0 {
			warmups++
			seed = 1<<32 + warmups
		}
		texts := r.texts(newRand(seed), text, e.Config().VocabSize)
		end := l.meter.of()
		var prompt, gen time.Duration
		err := ask(func() (err error) {
			prompt, gen, err = measureParallel(ctx, l.sequence, r.ParallelTest, texts)
			return err
		}, func() {
			for i := range texts {
				texts[i] = instead(texts[i])
			}
		})
		energy := end(r.positions())
		if err != nil || rep == 0 {
			return prompt + gen, err
		}
		if rep == 1 {
			r.TestTime = now()
		}
		r.Samples, energies[test] = append(r.Samples, r.columns(prompt, gen)), append(energies[test], energy)
		return prompt + gen, nil
	}, func(test int, runs runs) {
		r := row(test, runs)
		if first := test - test%len(lanes); first < test {
			r.Against = against([]ParallelResult{row(first, firsts[first]), r})
		} else {
			firsts[first] = runs
		}
		each(r)
	})
}

// texts are the prompts of a run, from a text or at random, with one more random token each, by which it goes on as in
// llama-batched-bench: every generated token is then a step of decoding, and sequences with one prompt differ.
func (t ParallelTest) texts(rng *rand.Rand, text []int, vocab int) [][]int {
	texts := make([][]int, t.Sequences)
	for i := range texts {
		texts[i] = append(promptTokens(rng, text, t.Prompt, vocab), rng.IntN(vocab))
		if t.Shared {
			copy(texts[i], texts[0][:t.Prompt])
		}
	}
	return texts
}

// againTokens is how many tokens of a prompt a server may evaluate again: some keep whole blocks.
const againTokens = 64

// measureParallel runs a test once.
func measureParallel(ctx context.Context, sequence Sequence, t ParallelTest, texts [][]int) (prompt, gen time.Duration, err error) {
	prompt, err = together(ctx, t.prompts(), func(ctx context.Context, i int) error {
		_, err := sequence(ctx, i, texts[i][:t.Prompt], 1)
		return err
	})
	if err != nil {
		return 0, 0, err
	}
	gen, err = together(ctx, t.Sequences, func(ctx context.Context, i int) error {
		evaluated, err := sequence(ctx, i, texts[i], t.Gen)
		if err == nil && evaluated > 1+min(againTokens, t.Prompt/4) {
			err = fmt.Errorf("it has evaluated %d tokens of a prompt of %d that it had evaluated before: it can't be measured with -np", evaluated, len(texts[i]))
		}
		return err
	})
	return prompt, gen, err
}

// together calls f with 0 to n-1 at the same time, and returns how long that took. An error cancels the other calls.
func together(ctx context.Context, n int, f func(ctx context.Context, i int) error) (time.Duration, error) {
	start := time.Now()
	group, ctx := errgroup.WithContext(ctx)
	for i := range n {
		group.Go(func() error { return f(ctx, i) })
	}
	err := group.Wait()
	return time.Since(start), err
}
