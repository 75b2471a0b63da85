package bench

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"
	"path/filepath"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"

	"pumice"
)

// LoadOptions say how requests load an engine. Every number of Load is a test, which is measured twice: with sessions of the
// engine, and through Asker, in turn.
type LoadOptions struct {
	Prompt, Gen int     // tokens of each request
	Load        []int   // requests at a time
	Rate        float64 // at which requests come, a second, at random intervals; 0: as soon as one has ended
	Requests    int     // of each measurement; 0 stands for eight of each sequence, at least 16
	Name, Text  string  // as those of Options

	// Asker answers a prompt with so many tokens, and calls each whenever some of them have come. It returns how many there were.
	Asker Asker

	Stamping
	Power    func(pumice.DeviceInfo) *Power // as that of Options
	Progress func(Progress)                 // called after each measurement; may be nil
}

// An Asker has a model answer a prompt, greedily and without regard to end tokens.
type Asker func(ctx context.Context, prompt []int, n int, each func()) (tokens int, err error)

// Context is the number of positions that a request needs.
func (o LoadOptions) Context() int { return o.Prompt + o.Gen }

// requests is how many requests a test of so many at a time has.
func (o LoadOptions) requests(atOnce int) int { return cmp.Or(o.Requests, max(16, 8*atOnce)) }

// sortedMilliseconds are times, shortest first.
func sortedMilliseconds(times []time.Duration) []float64 {
	x := make([]float64, len(times))
	for i, t := range times {
		x[i] = float64(t.Nanoseconds()) / 1e6
	}
	slices.Sort(x)
	return x
}

// Latencies are those of one view, under the keys of `vllm bench serve --save-result`.
type Latencies struct {
	Duration         float64 `json:"duration"`  // seconds
	Completed        int     `json:"completed"` // requests
	InputTokens      int     `json:"total_input_tokens"`
	OutputTokens     int     `json:"total_output_tokens"`
	RequestRate      float64 `json:"request_throughput"`     // requests a second
	OutputThroughput float64 `json:"output_throughput"`      // generated tokens a second
	TotalThroughput  float64 `json:"total_token_throughput"` // tokens of prompts and generated ones a second

	MeanTTFT   float64 `json:"mean_ttft_ms"` // time to the first token
	MedianTTFT float64 `json:"median_ttft_ms"`
	StdTTFT    float64 `json:"std_ttft_ms"`
	P90TTFT    float64 `json:"p90_ttft_ms"`
	P99TTFT    float64 `json:"p99_ttft_ms"`

	MeanTPOT   float64 `json:"mean_tpot_ms"` // of a request: time after the first token, for each token after it
	MedianTPOT float64 `json:"median_tpot_ms"`
	StdTPOT    float64 `json:"std_tpot_ms"`
	P90TPOT    float64 `json:"p90_tpot_ms"`
	P99TPOT    float64 `json:"p99_tpot_ms"`

	MeanITL   float64 `json:"mean_itl_ms"` // between two pieces of an answer that come after each other
	MedianITL float64 `json:"median_itl_ms"`
	StdITL    float64 `json:"std_itl_ms"`
	P90ITL    float64 `json:"p90_itl_ms"`
	P99ITL    float64 `json:"p99_itl_ms"`

	MeanE2EL   float64 `json:"mean_e2el_ms"` // of a request, from end to end
	MedianE2EL float64 `json:"median_e2el_ms"`
	StdE2EL    float64 `json:"std_e2el_ms"`
	P90E2EL    float64 `json:"p90_e2el_ms"`
	P99E2EL    float64 `json:"p99_e2el_ms"`
}

// A LoadResult is one number of requests at a time. Its own Latencies are those of the view through Asker.
type LoadResult struct {
	Setup
	Stamp
	Prompt      int     `json:"random_input_len"` // tokens of each request
	Gen         int     `json:"random_output_len"`
	Concurrency int     `json:"max_concurrency"`
	Rate        float64 `json:"request_rate"` // asked for; 0: no limit
	TestTime    string  `json:"test_time"`    // RFC 3339

	Energy // of the requests through Asker, the tokens of prompts and answers; the runs are its parts
	Latencies
	Engine       Latencies `json:"engine"`        // the same requests as sessions of the engine
	OverheadTTFT float64   `json:"overhead_ttft"` // median TTFT of the server over that of the engine, less 1
	OverheadTPOT float64   `json:"overhead_tpot"`
	Error        string    `json:"error,omitempty"` // why there is no more
}

// Name is the test in words.
func (r LoadResult) Name() string {
	return fmt.Sprintf("%d at a time, pp%d, tg%d", r.Concurrency, r.Prompt, r.Gen)
}

// Requests of both views come in this many parts, in turn, so that what changes from minute to minute changes both alike.
const loadParts = 4

// RunLoad measures each number of requests at a time and hands its result over when it is complete.
func RunLoad(ctx context.Context, e *pumice.Engine, o LoadOptions, each func(LoadResult)) error {
	if need := o.Context(); e.Context() < need || min(o.Prompt, o.Gen) < 1 {
		return fmt.Errorf("bench: requests of %d tokens that generate %d, in a context of %d", o.Prompt, o.Gen, e.Context())
	}
	text, err := tokenize(e, o.Text)
	if err != nil {
		return err
	}
	var stamped Stamp
	rng := newRand(0)
	prompts := func(n int) (list [][]int) {
		for range n {
			list = append(list, promptTokens(rng, text, o.Prompt, e.Config().VocabSize))
		}
		return list
	}
	inside := inEngine(e)
	meter := thisMachine(e.Devices()[0].Info()).meterOf(e, o.Power)
	defer meter.end()
	for i, atOnce := range o.Load {
		r := LoadResult{Setup: describe(e, o.Name, o.Text), Prompt: o.Prompt, Gen: o.Gen, Concurrency: atOnce, Rate: o.Rate, TestTime: now()}
		views := [2]view{}
		var energies []reading
		name := r.Name()
		for part := range loadParts + 1 { // the first one warms up
			for v, ask := range []Asker{inside, o.Asker} {
				n := max(1, o.requests(atOnce)/loadParts)
				if part == 0 {
					n = atOnce
				}
				end := meter.of()
				got, err := load(ctx, ask, prompts(n), o.Gen, atOnce, o.Rate)
				energy := end(got.in + got.out)
				if err != nil {
					r.Error = err.Error()
					if !errors.Is(err, context.Canceled) {
						each(r)
					}
					return fmt.Errorf("bench: %s: %w", name, err)
				}
				if part > 0 {
					views[v].add(got)
					if v == 1 {
						energies = append(energies, energy)
					}
				}
				if o.Progress != nil {
					o.Progress(Progress{name, part, got.took, (i*(loadParts+1)+part)*2 + v + 1, len(o.Load) * (loadParts + 1) * 2})
				}
			}
			if part == 0 && i == 0 {
				if make := o.stamper(e, func(s Stamp) { stamped = s }); make != nil {
					if err := make(ctx); err != nil {
						return err
					}
				}
			}
		}
		r.Stamp, r.Energy = stamped, meter.energyOf(energies)
		r.Engine, r.Latencies = views[0].latencies(), views[1].latencies()
		r.OverheadTTFT = r.MedianTTFT/r.Engine.MedianTTFT - 1
		if r.Engine.MedianTPOT > 0 { // more than one token
			r.OverheadTPOT = r.MedianTPOT/r.Engine.MedianTPOT - 1
		}
		each(r)
	}
	return nil
}

// inEngine asks with sessions of the engine.
func inEngine(e *pumice.Engine) Asker {
	return func(ctx context.Context, prompt []int, n int, each func()) (int, error) {
		s := e.NewSession()
		defer s.Close()
		tokens := 0
		for _, err := range s.Generate(ctx, prompt, pumice.GenerateOptions{MaxTokens: n, IgnoreEOS: true}) {
			if err != nil {
				return tokens, err
			}
			tokens++
			each()
		}
		return tokens, nil
	}
}

// A view is what was seen of requests.
type view struct {
	took                  time.Duration
	requests, in, out     int
	ttft, tpot, itl, e2el []time.Duration
}

func (v *view) add(other view) {
	v.took += other.took
	v.requests += other.requests
	v.in += other.in
	v.out += other.out
	v.ttft, v.tpot = append(v.ttft, other.ttft...), append(v.tpot, other.tpot...)
	v.itl, v.e2el = append(v.itl, other.itl...), append(v.e2el, other.e2el...)
}

// load asks all prompts, so many at a time, and at a rate if there is one.
func load(ctx context.Context, ask Asker, prompts [][]int, n, atOnce int, rate float64) (view, error) {
	seen := make([]view, len(prompts))
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(atOnce)
	rng, start := newRand(uint64(len(prompts))), time.Now()
	due := start
	for i, prompt := range prompts {
		if rate > 0 {
			due = due.Add(time.Duration(rng.ExpFloat64() / rate * float64(time.Second)))
			select {
			case <-ctx.Done():
			case <-time.After(time.Until(due)):
			}
		}
		group.Go(func() (err error) { // waits while so many are under way
			seen[i], err = one(ctx, ask, prompt, n)
			return err
		})
	}
	err := group.Wait()
	all := view{}
	for _, v := range seen {
		all.add(v)
	}
	all.took = time.Since(start)
	return all, err
}

// one asks one prompt.
func one(ctx context.Context, ask Asker, prompt []int, n int) (view, error) {
	if err := ctx.Err(); err != nil {
		return view{}, err
	}
	v := view{requests: 1, in: len(prompt)}
	start := time.Now()
	last := start
	tokens, err := ask(ctx, prompt, n, func() {
		at := time.Now()
		if v.ttft == nil {
			v.ttft = []time.Duration{at.Sub(start)}
		} else {
			v.itl = append(v.itl, at.Sub(last))
		}
		last = at
	})
	if err == nil && (tokens != n || v.ttft == nil) {
		err = fmt.Errorf("%d tokens were asked for, %d came", n, tokens)
	}
	if err != nil {
		return v, err
	}
	v.out = tokens
	v.e2el = []time.Duration{time.Since(start)}
	if tokens > 1 {
		v.tpot = []time.Duration{(v.e2el[0] - v.ttft[0]) / time.Duration(tokens-1)}
	}
	return v, nil
}

func (v *view) latencies() Latencies {
	s := math.Max(v.took.Seconds(), 1e-9)
	l := Latencies{Duration: s, Completed: v.requests, InputTokens: v.in, OutputTokens: v.out,
		RequestRate: float64(v.requests) / s, OutputThroughput: float64(v.out) / s, TotalThroughput: float64(v.in+v.out) / s}
	for _, x := range []struct {
		times                       []time.Duration
		mean, median, std, p90, p99 *float64
	}{
		{v.ttft, &l.MeanTTFT, &l.MedianTTFT, &l.StdTTFT, &l.P90TTFT, &l.P99TTFT},
		{v.tpot, &l.MeanTPOT, &l.MedianTPOT, &l.StdTPOT, &l.P90TPOT, &l.P99TPOT},
		{v.itl, &l.MeanITL, &l.MedianITL, &l.StdITL, &l.P90ITL, &l.P99ITL},
		{v.e2el, &l.MeanE2EL, &l.MedianE2EL, &l.StdE2EL, &l.P90E2EL, &l.P99E2EL},
	} {
		ms := sortedMilliseconds(x.times)
		*x.mean, *x.std = spread(ms)
		*x.median, *x.p90, *x.p99 = quantile(ms, 0.5), quantile(ms, 0.9), quantile(ms, 0.99)
	}
	return l
}

// LoadHead begins the Markdown table of requests: those at a time, then medians and 99th percentiles as the server's clients see
// them, and how much more that is than in the engine.
const LoadHead = `| at a time |     PP |     TG | TTFT ms |     p99 | more | TPOT ms |     p99 | more | ITL ms p99 |  E2E ms |     p99 |  req/s | out t/s | J/token | kernels right |
|----------:|-------:|-------:|--------:|--------:|-----:|--------:|--------:|-----:|-----------:|--------:|--------:|-------:|--------:|--------:|--------------:|
`

// LoadRow is a result as a row of the table.
func LoadRow(r LoadResult) string {
	out := fmt.Sprintf("%.2f", r.OutputThroughput)
	if r.Struck {
		out = "~~" + out + "~~"
	}
	return fmt.Sprintf("| %9d | %6d | %6d | %7.1f | %7.1f | %3.0f%% | %7.2f | %7.2f | %3.0f%% | %10.2f | %7.0f | %7.0f | %6.2f | %7s | %7s | %13s |\n",
		r.Concurrency, r.Prompt, r.Gen, r.MedianTTFT, r.P99TTFT, 100*r.OverheadTTFT, r.MedianTPOT, r.P99TPOT, 100*r.OverheadTPOT, r.P99ITL,
		r.MedianE2EL, r.P99E2EL, r.RequestRate, out, r.Energy.cell(), r.Stamp.cell())
}

// LoadFoot says what the figures were measured on.
func LoadFoot(results []LoadResult) string {
	if len(results) == 0 {
		return ""
	}
	r := results[0]
	text := fmt.Sprintf("\nmodel: %s %s\n", r.ModelType, filepath.Base(r.ModelFilename)) + deviceLines(r.Setup)
	text += stampLines(results, func(r LoadResult) (string, Stamp) { return r.ModelType, r.Stamp })
	for _, r := range results {
		if r.Error != "" {
			text += fmt.Sprintf("! %s: %s\n", r.Name(), r.Error)
		}
	}
	return text
}
