// Package bench measures how fast a model reads prompts and generates tokens, in the terms of
// llama.cpp's llama-bench so that tables can be compared line by line.
//
// A Test is a prompt of so many tokens or a generation of so many, after a cache that already
// holds Depth tokens. A ParallelTest is several sequences at once, in the terms of
// llama-batched-bench. Each test is warmed up until two runs agree. Then all tests run once in
// every round, and are reported as mean, standard deviation, median and spread, with what the
// recorder counted for a token beside it. A row that spreads too far says so, and what was seen
// of the machine. A CPU driver's figures are labelled as such: they say nothing about a GPU.
package bench

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"runtime"
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
	Prompt []int   // llama-bench -p
	Gen    []int   // llama-bench -n
	Depth  []int   // llama-bench -d; empty means 0
	Both   []Both  // llama-bench -pg
	Preset *Preset // has tests of its own, instead of all of these; may be nil
	Reps   int     // llama-bench -r; at least 1

	Name string // of the model, in place of its path; may be ""
	Text string // that prompts are cut from, such as BuiltInText; "" takes tokens at random, as llama-bench does

	SpreadLimit float64 // above which a row is marked as noisy; 0 stands for DefaultSpreadLimit

	Stamping

	Profile bool // Result.Kernels; the engine was opened with pumice.Options.Profile

	Peers []Peer                         // that run the tests too
	Power func(pumice.DeviceInfo) *Power // finds what tells a device's power, where hwmon doesn't; may be nil, as what it returns

	Progress func(Progress) // called after each run; may be nil
	Partial  func([]Result) // called after each round but the last with the results so far; may be nil
}

// Stamping says whether results are stamped, and with what.
type Stamping struct {
	Verify    *pumice.Options // those of the engine: verify the kernels that it uses on the devices that it is on; nil: no stamp
	Reference *Reference      // what answers are compared with; nil leaves that out
	Verifying func()          // called before kernels are verified, which takes a while; may be nil
}

// Progress is a run of a test that has ended.
type Progress struct {
	Test        string
	Run         int           // of the test, from 1; 0 is a warm-up
	Took        time.Duration // without what the test does not measure
	Done, Total int           // runs of all tests, warm-ups included, of which Total grows where a test needs more than two
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
	if o.Preset != nil {
		o = Options{Both: o.Preset.Tests}
	}
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
// llama-bench's settings that mean nothing here have its defaults, for programs that look for all of them.
type Setup struct {
	BuildCommit   string `json:"build_commit"`
	BuildNumber   int    `json:"build_number"` // 0: builds are not counted
	CPUInfo       string `json:"cpu_info"`
	GPUInfo       string `json:"gpu_info"`
	Backends      string `json:"backends"`
	ModelFilename string `json:"model_filename"`
	ModelType     string `json:"model_type"`
	ModelSize     int64  `json:"model_size"`
	ModelNParams  int64  `json:"model_n_params"`
	NBatch        int    `json:"n_batch"`
	NUBatch       int    `json:"n_ubatch"`
	NThreads      int    `json:"n_threads"` // that may run Go code at once
	CPUMask       string `json:"cpu_mask"`
	CPUStrict     bool   `json:"cpu_strict"`
	Poll          int    `json:"poll"`
	TypeK         string `json:"type_k"`
	TypeV         string `json:"type_v"`
	NGPULayers    int    `json:"n_gpu_layers"`
	NCPUMoE       int    `json:"n_cpu_moe"`
	SplitMode     string `json:"split_mode"` // none, or layer over several devices
	MainGPU       int    `json:"main_gpu"`
	NoKVOffload   bool   `json:"no_kv_offload"`
	FlashAttn     number `json:"flash_attn"` // 1: scores are never kept
	Devices       string `json:"devices"`
	TensorSplit   string `json:"tensor_split"`
	TensorBufts   string `json:"tensor_buft_overrides"`
	LoadMode      string `json:"load_mode"`
	UseMmap       bool   `json:"use_mmap"` // llama-bench's before load_mode
	Embeddings    bool   `json:"embeddings"`
	NoOpOffload   int    `json:"no_op_offload"`
	NoHost        bool   `json:"no_host"`
	FitTarget     int    `json:"fit_target"`
	FitMinCtx     int    `json:"fit_min_ctx"`

	Program      string  `json:"program"` // that ran the test: pumice, or a peer; "" of llama-bench's own files
	Driver       string  `json:"driver"`
	DeviceUUID   string  `json:"device_uuid"`
	DeviceType   string  `json:"device_type"` // discrete, integrated, virtual, cpu or other
	APIVersion   string  `json:"api_version"`
	SoftwareOnly bool    `json:"software_device"` // measured on a CPU driver
	KernelPath   string  `json:"kernel_path"`
	ModelHash    string  `json:"model_hash"`   // of configuration, adapters, and samples of every tensor, as the weights were loaded
	MemoryBytes  int64   `json:"memory_bytes"` // of the devices: weights, KV cache and activations
	LoadMS       float64 `json:"load_ms"`      // files to device memory
	Text         string  `json:"text"`         // SHA-256 of the text that prompts were cut from; "" of tokens at random
}

// A number is one that older llama-benches write as true or false.
type number int

func (n *number) UnmarshalJSON(text []byte) error {
	switch string(text) {
	case "true":
		*n = 1
		return nil
	case "false":
		*n = 0
		return nil
	}
	return json.Unmarshal(text, (*int)(n))
}

// A Result is one test's measurement under llama-bench's JSON keys, and the program's own.
type Result struct {
	Setup

	Preset   string    `json:"preset"` // that the test is of; "" of none
	Task     string    `json:"task"`   // what the preset calls it
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
	MedianTS float64   `json:"median_ts"` // of samples_ts
	PromptTS float64   `json:"prompt_ts"` // tokens a second of the prompt of a prompt and a generation together, the median; 0 of other tests
	GenTS    float64   `json:"gen_ts"`    // and of the generation
	TTFTMS   float64   `json:"ttft_ms"`   // and the time to the first token

	Steadiness
	Stamp

	Energy

	Pipelines int     `json:"pipelines"`  // kernels that the process had compiled when the test ended
	CompileMS float64 `json:"compile_ms"` // processor time that took (vk.Compiles)

	Counters      pumice.Counters `json:"counters"`          // of one generated token, or of a whole prompt
	BytesPerSec   float64         `json:"bytes_per_s"`       // of weights and cache that a generated token reads; 0 of tests with a prompt
	FLOPs         float64         `json:"flops"`             // a second, of products with weights: the counters' operations; 0 of a prompt and a generation together
	Kernels       []KernelTime    `json:"kernels,omitempty"` // of the last run of the last repetition, with Options.Profile
	CopyBandwidth float64         `json:"copy_bandwidth"`    // bytes a second, measured on the device before the tests; 0 means the model leaves no room for it
	ReadBandwidth float64         `json:"read_bandwidth"`    // the same, by a kernel that only reads
	ReadShare     float64         `json:"read_share"`        // BytesPerSec as a share of ReadBandwidth; 0 if that was not measured
	PeakKind      string          `json:"peak_kind"`         // arithmetic of a prompt's products: f32, f16, int8, matrix, or several with + between
	PeakFLOPs     float64         `json:"peak_flops"`        // operations a second that the device does of these when it does nothing else; 0 of generation
	PeakShare     float64         `json:"peak_share"`        // FLOPs as a share of PeakFLOPs

	Score    *Score           `json:"score,omitempty"`    // in the last row of a preset
	Against  *Ratio           `json:"against,omitempty"`  // the row of the first device with the same test compared with this one, of another device or program
	Ceilings *pumice.Ceilings `json:"ceilings,omitempty"` // of the device, with Options.Profile
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
	ReadShare   float64 `json:"read_share"`  // of the read bandwidth; 0 if that was not measured
	FLOPs       float64 `json:"flops"`       // operations a second
	Arithmetic  string  `json:"arithmetic"`  // of the operations: f32, f16, int8, matrix; "" of none
	Intensity   float64 `json:"intensity"`   // operations for each byte
	Limit       string  `json:"limit"`       // what bounds it: read, the read bandwidth, or its arithmetic; "" if that was not measured
	LimitShare  float64 `json:"limit_share"` // what it reaches of that
}

// kernelTime is a row of a profile, on a device with these ceilings.
func kernelTime(t pumice.Timing, c *pumice.Ceilings) KernelTime {
	k := KernelTime{Kernel: t.Kernel, Size: t.Size, Workgroups: t.Workgroups, Calls: t.Calls, NS: t.Total.Nanoseconds(), Bytes: t.Bytes, Operations: t.Operations,
		Arithmetic: t.Arithmetic}
	if seconds := t.Total.Seconds(); seconds > 0 {
		k.BytesPerSec, k.FLOPs = float64(t.Bytes)/seconds, float64(t.Operations)/seconds
	}
	if c.ReadBandwidth > 0 {
		k.ReadShare = k.BytesPerSec / c.ReadBandwidth
	}
	k.place(c)
	return k
}

// Test is the test the result is of.
func (r Result) Test() Test { return Test{Prompt: r.NPrompt, Gen: r.NGen, Depth: r.NDepth} }

// stamper returns what makes the stamp once the engine has compiled its kernels, and hands it over; nil if there is to be none.
func (o Stamping) stamper(e *pumice.Engine, each func(Stamp)) func(ctx context.Context) error {
	if o.Verify == nil {
		return nil
	}
	return func(ctx context.Context) error {
		s, err := stamp(ctx, e, o)
		if err == nil {
			each(s)
		}
		return err
	}
}

// newRand is a source of random numbers, the same ones in every run of the program.
func newRand(seed uint64) *rand.Rand { return rand.New(rand.NewPCG(seed, 0x62656e6368)) }

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

// describe is the setup of measurements of a model with a name, "" for its path, on prompts from a text.
func describe(e *pumice.Engine, name, text string) Setup {
	devices, src, m := e.Devices(), e.Source(), e.Memory()
	d := devices[0].Info()
	s := Setup{
		Program: ours, BuildCommit: commit(), CPUInfo: cpuModel(), GPUInfo: d.Name, Backends: "Vulkan",
		ModelFilename: cmp.Or(name, src.Path), ModelType: ModelType(e), ModelSize: src.Bytes, ModelNParams: src.Parameters,
		NBatch: pumice.PromptChunk, NUBatch: pumice.PromptChunk, NThreads: runtime.GOMAXPROCS(0), CPUMask: "0x0", TypeK: m.KVType, TypeV: m.KVType,
		NGPULayers: e.Config().NumHiddenLayers, SplitMode: "none", FlashAttn: 1, TensorSplit: "0.00", TensorBufts: "none", LoadMode: "mmap", UseMmap: true,
		Driver: d.Driver, DeviceUUID: d.UUID, DeviceType: d.Type, APIVersion: d.APIVersion, SoftwareOnly: d.Type == vk.CPU.String(),
		MainGPU: d.Index, ModelHash: e.Fingerprint(), MemoryBytes: m.TotalBytes, LoadMS: float64(e.LoadTime().Microseconds()) / 1000,
	}
	if text != "" {
		sum := sha256.Sum256([]byte(text))
		s.Text = hex.EncodeToString(sum[:])
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

// ModelType names the model of an engine as rows do.
func ModelType(e *pumice.Engine) string {
	return modelType(e.Config().Family, e.Source().Parameters, e.Memory().WeightTypes)
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

// cpuModel is the name of the processor, "" where the system does not tell it.
func cpuModel() string {
	text, _ := os.ReadFile("/proc/cpuinfo")
	_, name, _ := strings.Cut(string(text), "model name")
	name, _, _ = strings.Cut(name, "\n")
	_, name, _ = strings.Cut(name, ":")
	return strings.TrimSpace(name)
}

// commit begins the revision that the program was built from, empty where the build does not say.
func commit() string {
	revision, _ := version.Commit()
	return revision[:min(len(revision), 8)]
}

// median is the middle of values, or between two of them; 0 of none.
func median(x []float64) float64 { return quantile(slices.Sorted(slices.Values(x)), 0.5) }

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
