package bench

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"time"
)

// Tests are warmed up until two runs in a row agree within warmAgreement: the first ones compile kernels, fill caches and raise
// clocks, and how many that takes depends on device and model. They end after maxWarmups, or after a minute, which a large model
// on a slow device exceeds in one run.
const (
	warmAgreement = 0.03
	maxWarmups    = 10
	maxWarming    = time.Minute
)

// DefaultSpreadLimit is the spread above which a row is marked.
const DefaultSpreadLimit = 0.05

// Steadiness says how far the runs of a row agree with each other, and what was seen of the machine where they don't.
type Steadiness struct {
	Warmups     int      `json:"warmups"`         // runs before those that count
	Warm        bool     `json:"warm"`            // the last two of them differed by at most 3 %
	Spread      float64  `json:"spread"`          // of the runs' times: the range of the middle half, as a share of the median
	SpreadLimit float64  `json:"spread_limit"`    // what the spread may be
	Noisy       bool     `json:"noisy"`           // it is more
	Reasons     []string `json:"reasons"`         // what may be why a row is noisy or has fewer runs than the others
	Error       string   `json:"error,omitempty"` // why the row ended early: the device was lost, for example
}

// runs are those of a test that count.
type runs struct {
	Steadiness
	times []time.Duration
	seen  []glance // what the machine did during each
}

// plan says how often tests are run.
type plan struct {
	reps     int
	limit    float64                         // of the spread
	machine  func(test int) *machine         // that a test runs on
	warm     func(test int) bool             // it warms up by itself; nil: none does
	warmed   func(ctx context.Context) error // called between warm-ups and rounds; may be nil
	progress func(Progress)                  // may be nil
	round    func(so []runs)                 // called after each round but the last with the runs of each test so far; may be nil
}

// rounds warms up each test, and then runs every test once in each of p.reps rounds, so that what changes from minute to minute
// changes all rows alike. run runs a test; rep is 0 in warm-ups and then counts from 1. each is called for a test after its last
// run. If ctx ends, that is said of the tests that have runs. Any other error ends all tests: each is called for those that are
// left, with what there is.
func (p plan) rounds(ctx context.Context, tests []string, run func(ctx context.Context, test, rep int) (time.Duration, error), each func(test int, r runs)) error {
	all := make([]runs, len(tests))
	finished := make([]bool, len(tests))
	done, total := 0, len(tests)*(p.reps+2)
	once := func(test, rep int) (time.Duration, error) {
		took, err := run(ctx, test, rep)
		if err != nil {
			return 0, fmt.Errorf("bench: %s: %w", tests[test], err)
		}
		if done++; p.progress != nil {
			p.progress(Progress{tests[test], rep, took, done, max(total, done)})
		}
		return took, nil
	}
	finish := func(test int) {
		finished[test] = true
		r := all[test]
		r.judge(p.limit, p.machine(test))
		each(test, r)
	}
	err := func() error {
		for i := range tests {
			if p.warm != nil && p.warm(i) {
				all[i].Warm = true
				total -= 2
				continue
			}
			begun, last := time.Now(), time.Duration(0)
			for r := &all[i]; !r.Warm && r.Warmups < maxWarmups && (r.Warmups == 0 || time.Since(begun) < maxWarming); r.Warmups++ {
				took, err := once(i, 0)
				if err != nil {
					return err
				}
				r.Warm = r.Warmups > 0 && math.Abs((took-last).Seconds()) <= warmAgreement*min(took, last).Seconds()
				last = took
			}
			total += all[i].Warmups - 2
		}
		if p.warmed != nil {
			if err := p.warmed(ctx); err != nil {
				return err
			}
		}
		for rep := 1; rep <= p.reps; rep++ {
			for i := range tests {
				before := p.machine(i).look()
				took, err := once(i, rep)
				if err != nil {
					return err
				}
				all[i].times = append(all[i].times, took)
				all[i].seen = append(all[i].seen, p.machine(i).since(before))
				if rep == p.reps {
					finish(i)
				}
			}
			if rep < p.reps && p.round != nil {
				so := slices.Clone(all)
				for i := range so {
					so[i].Reasons = []string{fmt.Sprintf("%d of %d runs so far", rep, p.reps)}
					so[i].judge(p.limit, p.machine(i))
				}
				p.round(so)
			}
		}
		return nil
	}()
	if err == nil {
		return nil
	}
	stopped := errors.Is(err, context.Canceled)
	for i := range tests {
		if finished[i] || stopped && len(all[i].times) == 0 {
			continue
		}
		all[i].Reasons = append(all[i].Reasons, fmt.Sprintf("ended after %d of %d runs", len(all[i].times), p.reps))
		if !stopped {
			all[i].Error = err.Error()
		}
		finish(i)
	}
	return err
}

// judge fills in the rest of the Steadiness.
func (r *runs) judge(limit float64, m *machine) {
	r.SpreadLimit = limit
	r.Spread = middle(r.times)
	r.Noisy = r.Spread > r.SpreadLimit
	if r.Reasons == nil {
		r.Reasons = []string{}
	}
	if !r.Noisy {
		return
	}
	found := m.reasons(r.times, r.seen)
	if !r.Warm {
		found = append(found, fmt.Sprintf("%d runs did not warm it up: the last two differed by more than %.0f %%", r.Warmups, 100*warmAgreement))
	}
	if len(found) == 0 {
		text := "no reason found: load, clocks and temperatures, where the system tells them, were the same in all runs"
		if m.apart {
			text = "no reason found: clocks and temperatures, where the system tells them, were the same in all runs; load was not looked at, since the program is another process"
		}
		found = append(found, text)
	}
	r.Reasons = append(r.Reasons, found...)
}

// middle is the range of the middle half of times, as a share of their median.
func middle(times []time.Duration) float64 {
	if len(times) < 2 {
		return 0
	}
	x := make([]float64, len(times))
	for i, t := range times {
		x[i] = t.Seconds()
	}
	slices.Sort(x)
	return (quantile(x, 0.75) - quantile(x, 0.25)) / quantile(x, 0.5)
}

// quantile is the value below which the share q of sorted values lies, between two of them on the line that joins them.
func quantile(sorted []float64, q float64) float64 {
	if len(sorted) == 0 {
		return 0
	}
	at := q * float64(len(sorted)-1)
	i := int(at)
	if i+1 == len(sorted) {
		return sorted[i]
	}
	return sorted[i] + (at-float64(i))*(sorted[i+1]-sorted[i])
}

// slowest and fastest are the places of the longest and the shortest time.
func slowest(times []time.Duration) int {
	return slices.Index(times, slices.MaxFunc(times, cmp.Compare[time.Duration]))
}

func fastest(times []time.Duration) int {
	return slices.Index(times, slices.MinFunc(times, cmp.Compare[time.Duration]))
}
