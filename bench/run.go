package bench

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"

	"pumice"
	"pumice/vk"
)

// Run is RunAll with one engine.
func Run(ctx context.Context, e *pumice.Engine, o Options, each func(Result)) error {
	return RunAll(ctx, []*pumice.Engine{e}, o, each)
}

// RunAll measures every test on each engine and by each of Options.Peers, in turn, and hands each result over as it is complete.
// The engines have the same model, on different devices. When ctx ends, results with the runs that there are come
// too. After another error, such as a lost device, every test that is left is a result with Error. The engines' contexts must
// hold Options.Context positions.
func RunAll(ctx context.Context, engines []*pumice.Engine, o Options, each func(Result)) error {
	if o.Reps < 1 {
		return fmt.Errorf("bench: %d repetitions, want at least 1", o.Reps)
	}
	var lanes []*lane
	for _, e := range engines {
		if need := o.Context(); e.Context() < need {
			return fmt.Errorf("bench: the tests need a context of %d, the engine has %d", need, e.Context())
		}
		l, err := newLane(ctx, e, o)
		if err != nil {
			return err
		}
		defer l.meter.end()
		lanes = append(lanes, l)
	}
	for _, p := range o.Peers {
		lanes = append(lanes, peerLane(p, lanes[0]))
	}
	var results []Result
	var names []string
	for _, t := range o.Tests() {
		for _, l := range lanes {
			r := l.row
			r.NPrompt, r.NGen, r.NDepth, r.TestTime = t.Prompt, t.Gen, t.Depth, now()
			if o.Preset != nil {
				r.Preset, r.Task = o.Preset.Name, o.Preset.task(t)
			}
			results, names = append(results, r), append(names, l.label(len(lanes) > 1)+t.Name())
		}
	}
	at := func(test int) *lane { return lanes[test%len(lanes)] }
	samples := make([][]sample, len(results))
	firsts := map[int]runs{} // of the first lane, which the others are compared with
	p := plan{reps: o.Reps, limit: cmp.Or(o.SpreadLimit, DefaultSpreadLimit), machine: func(test int) *machine { return at(test).machine }, progress: o.Progress}
	p.warm = func(test int) bool { return at(test).peer != nil && at(test).peer.Warms }
	p.warmed = func(ctx context.Context) error {
		for i, l := range lanes {
			if l.engine == nil {
				continue
			}
			own := func(each func(r *Result)) {
				for test := i; test < len(results); test += len(lanes) {
					each(&results[test])
				}
			}
			if err := l.findPeaks(ctx, own); err != nil {
				return err
			}
			if make := o.stamper(l.engine, func(s Stamp) { own(func(r *Result) { r.Stamp = s }) }); make != nil {
				if err := make(ctx); err != nil {
					return err
				}
			}
		}
		return nil
	}
	row := func(test int, runs runs) Result {
		r := results[test]
		r.summarise(runs, samples[test])
		r.Energy = at(test).meter.energyOf(energies(samples[test]))
		r.bound(at(test).peaks)
		return r
	}
	if o.Partial != nil {
		p.round = func(so []runs) {
			var list []Result
			for test := range results {
				list = append(list, row(test, so[test]))
			}
			o.Partial(list)
		}
	}
	return p.rounds(ctx, names, func(ctx context.Context, test, rep int) (time.Duration, error) {
		r, l := &results[test], at(test)
		seed := uint64(rep)
		if rep == 0 {
			l.warmups++
			seed = 1<<32 + uint64(l.warmups)
		}
		got, err := l.run(ctx, r.Test(), seed)
		if err != nil {
			return got.took, err
		}
		r.Counters = got.counters
		if rep == 0 {
			return got.took, nil
		}
		if rep == 1 {
			r.TestTime = now()
		}
		samples[test] = append(samples[test], got)
		if got.setup != nil {
			r.Setup = *got.setup
		}
		if l.engine == nil {
			return got.took, nil
		}
		c := vk.Compiles()
		r.Pipelines, r.CompileMS = c.Pipelines, float64(c.CPU.Microseconds())/1000
		if o.Profile && rep == o.Reps {
			list, err := l.engine.Profile()
			if err != nil {
				return got.took, err
			}
			for _, k := range list {
				r.Kernels = append(r.Kernels, kernelTime(k, &l.ceilings))
			}
		}
		return got.took, nil
	}, func(test int, runs runs) {
		r := row(test, runs)
		if l := at(test); o.Preset != nil {
			if l.done = append(l.done, r); test+len(lanes) >= len(results) {
				r.Score = o.Preset.score(l.done)
			}
		}
		if first := test - test%len(lanes); first < test {
			r.Against = &against([]Result{row(first, firsts[first]), r})[0]
		} else {
			firsts[first] = runs
		}
		each(r)
	})
}

// A sample is what was seen of one run of a test.
type sample struct {
	took        time.Duration   // of what the test measures
	prompt, gen time.Duration   // parts of it, of a prompt and a generation together
	counters    pumice.Counters // of a generated token, or of the prompt
	setup       *Setup          // of a peer that tells its own; nil: what is known
	energy      reading
}

func energies(samples []sample) (list []reading) {
	for _, s := range samples {
		list = append(list, s.energy)
	}
	return list
}

// A lane is what tests run on: an engine, or a peer.
type lane struct {
	row     Result // that its results begin as
	machine *machine
	meter   *meter
	warmups int // runs so far
	done    []Result

	engine   *pumice.Engine
	session  *pumice.Session
	text     []int // that prompts are cut from
	profile  bool
	ceilings pumice.Ceilings // bandwidths, and with Options.Profile the rest
	peaks    map[pumice.Arithmetic]float64

	peer   *Peer // instead of the engine
	beside *lane // whose prompts it has
}

// newLane is the lane of an engine.
func newLane(ctx context.Context, e *pumice.Engine, o Options) (l *lane, err error) {
	l = &lane{engine: e, profile: o.Profile, machine: thisMachine(e.Devices()[0].Info()), peaks: map[pumice.Arithmetic]float64{}}
	if l.text, err = tokenize(e, o.Text); err != nil {
		return nil, err
	}
	l.meter = l.machine.meterOf(e, o.Power)
	defer func() {
		if err != nil {
			l.meter.end()
		}
	}()
	if o.Profile {
		l.ceilings, err = e.Ceilings(ctx)
	} else {
		var failed error
		l.ceilings.CopyBandwidth, err = e.CopyBandwidth(ctx)
		l.ceilings.ReadBandwidth, failed = e.ReadBandwidth(ctx)
		err = errors.Join(err, failed)
	}
	if err != nil {
		return l, fmt.Errorf("bench: %w", err)
	}
	l.session = e.NewSession()
	l.row = Result{Setup: describe(e, o.Name, o.Text), CopyBandwidth: l.ceilings.CopyBandwidth, ReadBandwidth: l.ceilings.ReadBandwidth}
	if o.Profile {
		l.row.Ceilings = &l.ceilings
	}
	return l, nil
}

// label tells the lane from others in messages.
func (l *lane) label(several bool) string {
	if !several {
		return ""
	}
	return l.row.lane() + ", "
}

// findPeaks measures the peaks of what the prompts of the lane's rows have computed in.
func (l *lane) findPeaks(ctx context.Context, rows func(each func(r *Result))) error {
	var err error
	rows(func(r *Result) {
		for _, a := range pumice.Arithmetics {
			if _, known := l.peaks[a]; known || err != nil || r.NGen > 0 || r.Counters.OperationsBy(a) == 0 {
				continue
			}
			if l.peaks[a] = l.ceilings.Peak(a); !l.profile {
				l.peaks[a], err = l.engine.Peak(ctx, a)
			}
		}
	})
	return err
}

// run runs a test once.
func (l *lane) run(ctx context.Context, t Test, seed uint64) (sample, error) {
	of := cmp.Or(l.beside, l)
	tokens := promptTokens(newRand(seed), of.text, t.Depth+max(t.Prompt, 1), of.engine.Config().VocabSize)
	if l.peer != nil {
		return l.runPeer(ctx, t, tokens)
	}
	l.session.Reset()
	if t.Depth > 0 {
		if _, _, err := generate(ctx, l.session, tokens[:t.Depth], 1); err != nil {
			return sample{}, err
		}
	}
	end := l.meter.of()
	result, prompt, err := generate(ctx, l.session, tokens, max(t.Gen, 0)+1)
	energy := end(max(t.Prompt, 1) + t.Gen)
	if err != nil {
		return sample{}, err
	}
	evaluated, generated := milliseconds(result.Stats.PromptMS), milliseconds(result.Stats.PredictedMS)
	x := sample{took: evaluated, counters: prompt}
	switch {
	case t.Prompt > 0 && t.Gen > 0:
		x = sample{took: evaluated + generated, prompt: evaluated, gen: generated, counters: result.Counters}
	case t.Gen > 0: // the first token is the prompt's
		x = sample{took: generated, counters: result.Counters}
	}
	x.energy = energy
	return x, nil
}

// summarise fills in what follows from the runs.
func (r *Result) summarise(runs runs, samples []sample) {
	r.Steadiness = runs.Steadiness
	r.SampleNS, r.SampleTS = []int64{}, []float64{}
	var ns []float64
	for _, took := range runs.times {
		ns = append(ns, float64(took.Nanoseconds()))
		r.SampleNS = append(r.SampleNS, took.Nanoseconds())
		r.SampleTS = append(r.SampleTS, float64(r.Test().tokens())/took.Seconds())
	}
	mean, dev := spread(ns)
	r.AvgNS, r.StddevNS = int64(mean), int64(dev)
	r.AvgTS, r.StddevTS = spread(r.SampleTS)
	r.MedianTS = median(r.SampleTS)
	switch {
	case r.NGen == 0: // the counters are of the whole prompt
		r.FLOPs = r.AvgTS * float64(r.Counters.Operations) / float64(r.NPrompt)
	case r.NPrompt == 0: // of a token, of which those of a Both tell a part
		r.FLOPs = r.AvgTS * float64(r.Counters.Operations)
		r.BytesPerSec = r.AvgTS * float64(r.Counters.WeightBytes+r.Counters.KVBytes)
		if r.ReadBandwidth > 0 {
			r.ReadShare = r.BytesPerSec / r.ReadBandwidth
		}
	default:
		var prompt, gen, first []float64
		for _, s := range samples {
			if s.prompt > 0 && s.gen > 0 {
				prompt, gen = append(prompt, float64(r.NPrompt)/s.prompt.Seconds()), append(gen, float64(r.NGen)/s.gen.Seconds())
				first = append(first, 1e3*s.prompt.Seconds())
			}
		}
		r.PromptTS, r.GenTS, r.TTFTMS = median(prompt), median(gen), median(first)
	}
}

// onMachine is the same machine for all tests.
func onMachine(m *machine) func(int) *machine { return func(int) *machine { return m } }
