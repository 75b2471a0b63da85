package bench

import (
	"cmp"
	"context"
	"fmt"
	"math"
	"path/filepath"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"

	"pumice"
)

// LoadOptions say how requests load an engine. Every number of Load is a test, which is measured with sessions of the engine,
// through Asker, and through each of Peers, in turn.
type LoadOptions struct {
	Prompt, Gen int     // tokens of each request
	Load        []int   // requests at a time
	Rate        float64 // at which requests come, a second, at random intervals; 0: as soon as one has ended
	Reps        int     // rounds; at least 1
	Requests    int     // of each round; 0 stands for two of each sequence, at least four
	Name, Text  string  // as those of Options

	// Asker answers a prompt with so many tokens, and calls each whenever some of them have come. It returns how many there were.
	Asker Asker
	Peers []Peer // that have an Asker too; they have the prompts of Asker

	SpreadLimit float64 // above which a row is marked as noisy; 0 stands for DefaultSpreadLimit

	Stamping
	Power    func(pumice.DeviceInfo) *Power // as that of Options
	Progress func(Progress)                 // called after each run; may be nil
	Partial  func([]LoadResult)             // called after each round but the last with the results so far; may be nil
}

// An Asker has a model answer a prompt, greedily and without regard to end tokens.
type Asker func(ctx context.Context, prompt []int, n int, each func()) (tokens int, err error)

// Context is the number of positions that a request needs.
func (o LoadOptions) Context() int { return o.Prompt + o.Gen }

// requests is how many requests a round of a test of so many at a time has.
func (o LoadOptions) requests(atOnce int) int { return cmp.Or(o.Requests, max(4, 2*atOnce)) }

func seconds(times []time.Duration) []float64 {
	x := make([]float64, len(times))
	for i, t := range times {
		x[i] = t.Seconds()
	}
	return x
}

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

// A LoadResult is one number of requests at a time, through Asker or a peer.
type LoadResult struct {
	Setup
	Stamp
	Prompt      int     `json:"random_input_len"` // tokens of each request
	Gen         int     `json:"random_output_len"`
	Concurrency int     `json:"max_concurrency"`
	Rate        float64 `json:"request_rate"` // asked for; 0: no limit
	TestTime    string  `json:"test_time"`    // RFC 3339

	Energy // of the requests through Asker, the tokens of prompts and answers
	Latencies
	SampleTS []float64 `json:"samples_ts"` // generated tokens a second of each round
	TTFTs    []float64 `json:"ttfts"`      // times to the first token of each request, in seconds
	TPOTs    []float64 `json:"tpots"`      // times a token after it

	Steadiness // of the rounds

	Engine       *Latencies `json:"engine,omitempty"` // as many requests as sessions of the engine; not of a peer
	OverheadTTFT float64    `json:"overhead_ttft"`    // median TTFT of the server over that of the engine, less 1; 0 of a peer
	OverheadTPOT float64    `json:"overhead_tpot"`
	Against      []Ratio    `json:"against,omitempty"` // the row of Asker compared with this one, which is a peer's
}

// Name is the test in words.
func (r LoadResult) Name() string {
	return fmt.Sprintf("%d at a time, pp%d, tg%d", r.Concurrency, r.Prompt, r.Gen)
}

// A loadLane is what requests go to: sessions of the engine, its server, or a peer.
type loadLane struct {
	name    string
	setup   Setup
	ask     Asker
	machine *machine
	meter   *meter
}

// RunLoad measures each number of requests at a time and hands each result over as it is complete, or ended early as those of Run
// are. The engine's context must hold LoadOptions.Context positions.
func RunLoad(ctx context.Context, e *pumice.Engine, o LoadOptions, each func(LoadResult)) error {
	if need := o.Context(); o.Reps < 1 || e.Context() < need || min(o.Prompt, o.Gen) < 1 {
		return fmt.Errorf("bench: %d rounds of requests of %d tokens that generate %d, in a context of %d", o.Reps, o.Prompt, o.Gen, e.Context())
	}
	text, err := tokenize(e, o.Text)
	if err != nil {
		return err
	}
	setup, on := describe(e, o.Name, o.Text), thisMachine(e.Devices()[0].Info())
	meter := on.meterOf(e, o.Power)
	defer meter.end()
	lanes := []loadLane{{name: "engine, ", ask: inEngine(e), machine: on}, {name: "server, ", setup: setup, ask: o.Asker, machine: on, meter: meter}}
	for _, p := range o.Peers {
		lanes = append(lanes, loadLane{name: p.Setup.Program + ", ", setup: p.setupBeside(setup), ask: p.Ask, machine: on.ofOthers()})
	}
	const engine, server = 0, 1 // lanes; those of peers follow
	at := func(test int) (lane int) { return test % len(lanes) }
	var results []LoadResult
	var names []string
	for _, n := range o.Load {
		for _, l := range lanes {
			r := LoadResult{Setup: l.setup, Prompt: o.Prompt, Gen: o.Gen, Concurrency: n, Rate: o.Rate, TestTime: now()}
			results, names = append(results, r), append(names, l.name+r.Name())
		}
	}
	views, energies, rates := make([]view, len(results)), make([][]reading, len(results)), make([][]float64, len(results))
	p := plan{reps: o.Reps, limit: cmp.Or(o.SpreadLimit, DefaultSpreadLimit), progress: o.Progress}
	p.machine = func(test int) *machine { return lanes[at(test)].machine }
	p.warmed = o.stamper(e, func(s Stamp) {
		for test := range results {
			if at(test) == server {
				results[test].Stamp = s
			}
		}
	})
	row := func(test int, runs runs) LoadResult {
		r, v := results[test], views[test]
		r.Steadiness, r.Energy, r.Latencies = runs.Steadiness, lanes[at(test)].meter.energyOf(energies[test]), v.latencies()
		r.SampleTS, r.TTFTs, r.TPOTs = append([]float64{}, rates[test]...), seconds(v.ttft), seconds(v.tpot)
		if inside := views[test-at(test)+engine]; at(test) == server && inside.requests > 0 {
			l := inside.latencies()
			r.Engine, r.OverheadTTFT, r.OverheadTPOT = &l, over(r.MedianTTFT, l.MedianTTFT), over(r.MedianTPOT, l.MedianTPOT)
		}
		return r
	}
	if o.Partial != nil {
		p.round = func(so []runs) {
			var list []LoadResult
			for test := range results {
				if at(test) != engine {
					list = append(list, row(test, so[test]))
				}
			}
			o.Partial(list)
		}
	}
	warmups := uint64(0)
	firsts := map[int]runs{} // of the server's tests, which those of peers are compared with
	return p.rounds(ctx, names, func(ctx context.Context, test, rep int) (time.Duration, error) {
		lane, first := at(test), test-at(test)
		// No prompt repeats another one, which the engine's cache may still hold, but those of peers.
		n, seed := results[test].Concurrency, uint64(rep*len(results)+first+min(lane, server))
		if rep > 0 {
			n = o.requests(n)
		} else {
			warmups++
			seed = 1<<32 + warmups
		}
		rng, prompts := newRand(seed), [][]int{}
		for range n {
			prompts = append(prompts, promptTokens(rng, text, o.Prompt, e.Config().VocabSize))
		}
		end := lanes[lane].meter.of()
		got, err := load(ctx, lanes[lane].ask, prompts, o.Gen, results[test].Concurrency, o.Rate)
		energy := end(got.in + got.out)
		if err != nil || rep == 0 {
			return got.took, err
		}
		if rep == 1 {
			results[test].TestTime = now()
		}
		views[test].add(got)
		energies[test], rates[test] = append(energies[test], energy), append(rates[test], float64(got.out)/got.took.Seconds())
		return got.took, nil
	}, func(test int, runs runs) {
		first := test - at(test) + server
		switch r := row(test, runs); at(test) {
		case engine:
		case server:
			firsts[test] = runs
			each(r)
		default:
			r.Against = against([]LoadResult{row(first, firsts[first]), r})
			each(r)
		}
	})
}

// over is by what share a time is longer than another one; 0 where that is not known.
func over(time, other float64) float64 {
	if other <= 0 || time <= 0 {
		return 0
	}
	return time/other - 1
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
func load(ctx context.Context, asker Asker, prompts [][]int, n, atOnce int, rate float64) (view, error) {
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
		group.Go(func() error { // waits while so many are under way
			return ask(func() (err error) {
				seen[i], err = one(ctx, asker, prompt, n)
				return err
			}, func() { prompt = instead(prompt) })
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

// LoadHead begins the Markdown table of requests: what they went to and those at a time, then medians and 99th percentiles as
// clients see them, and how much more that is than in the engine.
const LoadHead = `| backend          | at a time |     PP |     TG | TTFT ms |     p99 | more | TPOT ms |     p99 | more | ITL ms p99 |  E2E ms |     p99 |  req/s | out t/s | spread | J/token | kernels right |
| ---------------- |----------:|-------:|-------:|--------:|--------:|-----:|--------:|--------:|-----:|-----------:|--------:|--------:|-------:|--------:|-------:|--------:|--------------:|
`

// LoadRow is a result as a row of the table.
func LoadRow(r LoadResult) string {
	out, more := fmt.Sprintf("%.2f", r.OutputThroughput), [2]string{}
	switch {
	case r.Completed == 0:
		out = "none"
	case r.Struck:
		out = "~~" + out + "~~"
	}
	if r.Engine != nil {
		more = [2]string{fmt.Sprintf("%.0f%%", 100*r.OverheadTTFT), fmt.Sprintf("%.0f%%", 100*r.OverheadTPOT)}
	}
	return fmt.Sprintf("| %-16s | %9d | %6d | %6d | %7.1f | %7.1f | %4s | %7.2f | %7.2f | %4s | %10.2f | %7.0f | %7.0f | %6.2f | %7s | %6s | %7s | %13s |\n",
		r.backend(), r.Concurrency, r.Prompt, r.Gen, r.MedianTTFT, r.P99TTFT, more[0], r.MedianTPOT, r.P99TPOT, more[1], r.P99ITL,
		r.MedianE2EL, r.P99E2EL, r.RequestRate, out, r.Steadiness.cell(), r.Energy.cell(), r.Stamp.cell())
}

// LoadFoot says what the figures were measured on.
func LoadFoot(results []LoadResult) string {
	if len(results) == 0 {
		return ""
	}
	r := results[0]
	rows := NewFile("", results).measurements()
	return fmt.Sprintf("\nmodel: %s %s; rounds: %d\n", r.ModelType, filepath.Base(r.ModelFilename), len(r.SampleTS)) +
		laneLines(rows) + stampLines(rows) + markLines(rows) + againstTable(rows)
}
