// Package bench measures how fast a model reads prompts and generates tokens, in the terms of
// llama.cpp's llama-bench so that tables can be compared line by line.
//
// A Test is a prompt of so many tokens or a generation of so many, after a cache that already
// holds Depth tokens. Each is repeated on a warmed-up engine and reported as mean and standard
// deviation, with what the recorder counted for a token beside it. A ParallelTest is several
// sequences at once, in the terms of llama-batched-bench. A CPU driver's figures are labelled as
// such: they say nothing about a GPU.
package bench

import (
	"cmp"
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"pumice"
	"pumice/internal/version"
	"pumice/vk"
)

// Options says what is measured. Every prompt length and every generation length is a test at
// every depth.
type Options struct {
	Prompt []int  // llama-bench -p
	Gen    []int  // llama-bench -n
	Depth  []int  // llama-bench -d; empty means 0
	Both   []Both // llama-bench -pg
	Reps   int    // llama-bench -r; at least 1

	Profile bool // Result.Kernels; the engine was opened with pumice.Options.Profile

	Progress func(Progress) // called after each run; may be nil
}

// Progress is a run of a test that has ended.
type Progress struct {
	Test        string
	Run         int           // of the test, from 1; 0 is the warm-up
	Took        time.Duration // without what the test does not measure
	Done, Total int           // runs of all tests, warm-ups included
}

// Both is a prompt and a generation that are timed together.
type Both struct{ Prompt, Gen int }

// A Test is one row of the table.
type Test struct {
	Prompt, Gen, Depth int // Prompt or Gen is zero, but of a Both
}

// Name is the row's name as llama-bench writes it: "pp512", "tg128 @ d2048".
func (t Test) Name() string {
	name := fmt.Sprintf("pp%d", t.Prompt)
	switch {
	case t.Prompt > 0 && t.Gen > 0:
		name += fmt.Sprintf("+tg%d", t.Gen)
	case t.Gen > 0:
		name = fmt.Sprintf("tg%d", t.Gen)
	}
	if t.Depth > 0 {
		name += fmt.Sprintf(" @ d%d", t.Depth)
	}
	return name
}

func (t Test) tokens() int { return t.Prompt + t.Gen }

// Tests lists the tests in the order they run.
func (o Options) Tests() []Test {
	depths := o.Depth
	if len(depths) == 0 {
		depths = []int{0}
	}
	var out []Test
	for _, d := range depths {
		for _, n := range o.Prompt {
			if n > 0 {
				out = append(out, Test{Prompt: n, Depth: d})
			}
		}
		for _, n := range o.Gen {
			if n > 0 {
				out = append(out, Test{Gen: n, Depth: d})
			}
		}
		for _, b := range o.Both {
			out = append(out, Test{b.Prompt, b.Gen, d})
		}
	}
	return out
}

// Context is the number of positions the tests need.
func (o Options) Context() int {
	n := 1
	for _, t := range o.Tests() {
		n = max(n, t.Depth+t.tokens()+1)
	}
	return n
}

// A Setup is the program, the device and the model of a measurement, under llama-bench's JSON keys and the program's own.
type Setup struct {
	BuildCommit   string `json:"build_commit"`
	GPUInfo       string `json:"gpu_info"`
	Backends      string `json:"backends"`
	Driver        string `json:"driver"`
	SoftwareOnly  bool   `json:"software_device"` // measured on a CPU driver
	KernelPath    string `json:"kernel_path"`
	ModelFilename string `json:"model_filename"`
	ModelType     string `json:"model_type"`
	ModelSize     int64  `json:"model_size"`
	ModelNParams  int64  `json:"model_n_params"`
	NBatch        int    `json:"n_batch"`
	NUBatch       int    `json:"n_ubatch"`
	NGPULayers    int    `json:"n_gpu_layers"`
	SplitMode     string `json:"split_mode"` // none, or layer over several devices
	FlashAttn     bool   `json:"flash_attn"` // scores are never kept: always
	Devices       string `json:"devices"`
	TypeK         string `json:"type_k"`
	TypeV         string `json:"type_v"`
}

// A Result is one test's measurement under llama-bench's JSON keys, and the program's own.
type Result struct {
	Setup

	NPrompt  int       `json:"n_prompt"`
	NGen     int       `json:"n_gen"`
	NDepth   int       `json:"n_depth"`
	TestTime string    `json:"test_time"` // RFC 3339
	AvgNS    int64     `json:"avg_ns"`
	StddevNS int64     `json:"stddev_ns"`
	AvgTS    float64   `json:"avg_ts"` // tokens a second
	StddevTS float64   `json:"stddev_ts"`
	SampleNS []int64   `json:"samples_ns"`
	SampleTS []float64 `json:"samples_ts"`

	Pipelines int     `json:"pipelines"`  // kernels that the process had compiled when the test ended
	CompileMS float64 `json:"compile_ms"` // processor time that took (vk.Compiles)

	Counters      pumice.Counters `json:"counters"`          // of one generated token, or of a whole prompt
	BytesPerSec   float64         `json:"bytes_per_s"`       // of weights and cache that a generated token reads; 0 of tests with a prompt
	FLOPs         float64         `json:"flops"`             // a second, of products with weights: the counters' operations; 0 of a prompt and a generation together
	Kernels       []KernelTime    `json:"kernels,omitempty"` // of the last run of the last repetition, with Options.Profile
	CopyBandwidth float64         `json:"copy_bandwidth"`    // bytes a second, measured on the device before the tests; 0 means the model leaves no room for it
	ReadBandwidth float64         `json:"read_bandwidth"`    // the same, by a kernel that only reads; 0 also without Options.Profile
}

// A KernelTime is the device time of one kernel, at one size, in a run.
type KernelTime struct {
	Kernel     string `json:"kernel"`     // variant, or gaps: time of the run in which the device was not known to be at work
	Size       string `json:"size"`       // of what it computes: rows x columns of weights, query / key heads x dimension
	Workgroups int    `json:"workgroups"` // of a call
	Calls      int    `json:"calls"`
	NS         int64  `json:"ns"`         // of all calls, each from the end of the one before it: barriers count
	Bytes      int64  `json:"bytes"`      // of weights, KV cache and tensors that the calls are given, each once a call
	Operations int64  `json:"operations"` // multiplications and additions of products and attention

	BytesPerSec float64 `json:"bytes_per_s"`
	ReadShare   float64 `json:"read_share"` // of the read bandwidth; 0 if that was not measured
	FLOPs       float64 `json:"flops"`      // operations a second
}

// kernelTime is a row of a profile, on a device that reads so many bytes a second.
func kernelTime(t pumice.Timing, readBandwidth float64) KernelTime {
	k := KernelTime{Kernel: t.Kernel, Size: t.Size, Workgroups: t.Workgroups, Calls: t.Calls, NS: t.Total.Nanoseconds(), Bytes: t.Bytes, Operations: t.Operations}
	if seconds := t.Total.Seconds(); seconds > 0 {
		k.BytesPerSec, k.FLOPs = float64(t.Bytes)/seconds, float64(t.Operations)/seconds
	}
	if readBandwidth > 0 {
		k.ReadShare = k.BytesPerSec / readBandwidth
	}
	return k
}

// Median is the median of the samples, in tokens a second.
func (r Result) Median() float64 {
	s := slices.Clone(r.SampleTS)
	slices.Sort(s)
	return (s[(len(s)-1)/2] + s[len(s)/2]) / 2
}

// Test is the test the result is of.
func (r Result) Test() Test { return Test{Prompt: r.NPrompt, Gen: r.NGen, Depth: r.NDepth} }

// Run measures every test on the engine and hands each result over as it is complete.
// The engine's context must hold Options.Context positions.
func Run(ctx context.Context, e *pumice.Engine, o Options, each func(Result)) error {
	if o.Reps < 1 {
		return fmt.Errorf("bench: %d repetitions, want at least 1", o.Reps)
	}
	if need := o.Context(); e.Context() < need {
		return fmt.Errorf("bench: the tests need a context of %d, the engine has %d", need, e.Context())
	}
	bandwidth, err := e.CopyBandwidth(ctx)
	if err != nil {
		return fmt.Errorf("bench: %w", err)
	}
	var reads float64
	if o.Profile {
		if reads, err = e.ReadBandwidth(ctx); err != nil {
			return fmt.Errorf("bench: %w", err)
		}
	}
	s := e.NewSession()
	progress := counted(o.Progress, len(o.Tests())*(o.Reps+1))
	for _, t := range o.Tests() {
		r := Result{Setup: describe(e), NPrompt: t.Prompt, NGen: t.Gen, NDepth: t.Depth, TestTime: now(), CopyBandwidth: bandwidth, ReadBandwidth: reads}
		var counters pumice.Counters
		for rep := -1; rep < o.Reps; rep++ { // the first one warms up
			took, c, err := measure(ctx, s, t, e.Config().VocabSize, uint64(rep+1))
			if err != nil {
				return fmt.Errorf("bench: %s: %w", t.Name(), err)
			}
			progress(t.Name(), rep+1, took)
			if rep >= 0 {
				r.SampleNS = append(r.SampleNS, took.Nanoseconds())
				r.SampleTS = append(r.SampleTS, float64(t.tokens())/took.Seconds())
				counters = c
			}
		}
		r.Counters = counters
		c := vk.Compiles()
		r.Pipelines, r.CompileMS = c.Pipelines, float64(c.CPU.Microseconds())/1000
		r.summarise()
		if o.Profile {
			list, err := e.Profile()
			if err != nil {
				return fmt.Errorf("bench: %s: %w", t.Name(), err)
			}
			for _, k := range list {
				r.Kernels = append(r.Kernels, kernelTime(k, reads))
			}
		}
		switch {
		case t.Gen == 0: // the counters are of the whole prompt
			r.FLOPs = r.AvgTS * float64(counters.Operations) / float64(t.Prompt)
		case t.Prompt == 0: // of a token, of which those of a Both tell a part
			r.FLOPs = r.AvgTS * float64(counters.Operations)
			r.BytesPerSec = r.AvgTS * float64(counters.WeightBytes+counters.KVBytes)
		}
		each(r)
	}
	return nil
}

// counted returns what tells progress of a run, if it is not nil.
func counted(progress func(Progress), total int) func(test string, run int, took time.Duration) {
	done := 0
	return func(test string, run int, took time.Duration) {
		if done++; progress != nil {
			progress(Progress{test, run, took, done, total})
		}
	}
}

// measure runs a test once, on random tokens.
func measure(ctx context.Context, s *pumice.Session, t Test, vocab int, seed uint64) (time.Duration, pumice.Counters, error) {
	rng := rand.New(rand.NewPCG(seed, 0x62656e6368))
	tokens := randomTokens(rng, t.Depth+max(t.Prompt, 1), vocab)
	s.Reset()
	if t.Depth > 0 {
		if _, _, err := generate(ctx, s, tokens[:t.Depth], 1); err != nil {
			return 0, pumice.Counters{}, err
		}
	}
	result, prompt, err := generate(ctx, s, tokens, max(t.Gen, 0)+1)
	if err != nil {
		return 0, pumice.Counters{}, err
	}
	if t.Prompt > 0 && t.Gen > 0 {
		return milliseconds(result.Stats.PromptMS + result.Stats.PredictedMS), result.Counters, nil
	}
	if t.Gen > 0 { // the first token is the prompt's
		return milliseconds(result.Stats.PredictedMS), result.Counters, nil
	}
	return milliseconds(result.Stats.PromptMS), prompt, nil
}

func randomTokens(rng *rand.Rand, n, vocab int) []int {
	tokens := make([]int, n)
	for i := range tokens {
		tokens[i] = rng.IntN(vocab)
	}
	return tokens
}

func generate(ctx context.Context, s *pumice.Session, prompt []int, n int) (pumice.Result, pumice.Counters, error) {
	for _, err := range s.Generate(ctx, prompt, pumice.GenerateOptions{MaxTokens: n, IgnoreEOS: true}) {
		if err != nil {
			return pumice.Result{}, pumice.Counters{}, err
		}
	}
	r := s.Result()
	return r, r.PromptCounters, nil
}

func milliseconds(ms float64) time.Duration { return time.Duration(ms * float64(time.Millisecond)) }

func now() string { return time.Now().UTC().Format(time.RFC3339) }

func describe(e *pumice.Engine) Setup {
	devices, src, m := e.Devices(), e.Source(), e.Memory()
	d := devices[0].Info()
	s := Setup{
		GPUInfo: d.Name, Backends: "Vulkan", Driver: d.Driver, SoftwareOnly: d.Type == vk.CPU.String(),
		ModelFilename: src.Path, ModelType: modelType(e.Config().Family, src.Parameters, m.WeightTypes), ModelSize: src.Bytes, ModelNParams: src.Parameters,
		BuildCommit: commit(), NBatch: pumice.PromptChunk, NUBatch: pumice.PromptChunk, NGPULayers: e.Config().NumHiddenLayers, SplitMode: "none", FlashAttn: true,
		TypeK: m.KVType, TypeV: m.KVType,
	}
	for _, also := range devices[1:] {
		s.GPUInfo += " + " + also.Info().Name
		s.SplitMode = "layer"
	}
	s.Devices = s.GPUInfo
	if len(d.KernelPaths) > 0 {
		s.KernelPath = d.KernelPaths[0]
	}
	return s
}

// modelType is the family, the size and the type of most weights, as llama-bench has it: "llama 135M Q4_1".
func modelType(family string, n int64, types []pumice.TypeShare) string {
	text := family + " " + strings.ReplaceAll(parameters(n, 0), " ", "")
	if len(types) > 0 {
		most := slices.MaxFunc(types, func(a, b pumice.TypeShare) int { return cmp.Compare(a.Bytes, b.Bytes) })
		text += " " + most.Type
	}
	return text
}

// commit begins the revision that the program was built from, empty where the build does not say.
func commit() string {
	revision, _ := version.Commit()
	return revision[:min(len(revision), 8)]
}

func (r *Result) summarise() {
	var ns []float64
	for _, n := range r.SampleNS {
		ns = append(ns, float64(n))
	}
	mean, dev := spread(ns)
	r.AvgNS, r.StddevNS = int64(mean), int64(dev)
	r.AvgTS, r.StddevTS = spread(r.SampleTS)
}

// spread is the mean and the sample standard deviation.
func spread(x []float64) (mean, dev float64) {
	for _, v := range x {
		mean += v / float64(len(x))
	}
	if len(x) < 2 {
		return mean, 0
	}
	for _, v := range x {
		dev += (v - mean) * (v - mean) / float64(len(x)-1)
	}
	return mean, math.Sqrt(dev)
}
