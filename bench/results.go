package bench

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"pumice/internal/regular"
)

// A File is what a file of results holds.
type File struct {
	Path     string
	Results  []Result         // of tests of one sequence, llama-bench's among them
	Parallel []ParallelResult // of several sequences
	Load     []LoadResult     // of requests
	Cut      bool             // the list ends early: the program was killed
}

// NewFile is a File of results that are not in one.
func NewFile[R Row](name string, results []R) *File {
	f := &File{Path: name}
	switch results := any(results).(type) {
	case []Result:
		f.Results = results
	case []ParallelResult:
		f.Parallel = results
	case []LoadResult:
		f.Load = results
	}
	return f
}

// maxFileBytes bounds a file of results. A row with the profile of a large model has a hundredth of it.
const maxFileBytes = 64 << 20

// A FormatError says that a file does not hold results.
type FormatError struct {
	Path  string
	Row   int // from 1; 0 says that no row can be read
	Cause error
}

func (e *FormatError) Error() string {
	if e.Row == 0 {
		return fmt.Sprintf("%s: there are no results of benchmarks: %v", e.Path, e.Cause)
	}
	return fmt.Sprintf("%s: row %d: %v", e.Path, e.Row, e.Cause)
}

func (e *FormatError) Unwrap() error { return e.Cause }

// ReadFile reads results that -o json or -o jsonl of pumice bench or of llama-bench has written. A list that ends early, as that of
// a program that was killed, has the rows before. Keys that are not known are passed over, and missing ones are zero.
func ReadFile(path string) (*File, error) {
	data, err := regular.ReadFile(path, maxFileBytes)
	if err != nil {
		return nil, err
	}
	rows, cut, err := splitRows(data)
	if err != nil {
		return nil, &FormatError{path, 0, err}
	}
	f := &File{Path: path, Cut: cut}
	for i, row := range rows {
		if err := f.add(row); err != nil {
			return nil, &FormatError{path, i + 1, err}
		}
	}
	return f, nil
}

// splitRows returns the elements of a JSON list, or the values that follow each other. cut says that the end is missing.
func splitRows(data []byte) (rows []json.RawMessage, cut bool, err error) {
	d := json.NewDecoder(bytes.NewReader(data))
	list := bytes.HasPrefix(bytes.TrimSpace(data), []byte("["))
	if list {
		if _, err := d.Token(); err != nil {
			return nil, false, err
		}
	}
	for d.More() {
		var row json.RawMessage
		if err := d.Decode(&row); err != nil {
			if (errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, io.EOF)) && len(rows) > 0 {
				return rows, true, nil
			}
			return nil, false, err
		}
		rows = append(rows, row)
	}
	if len(rows) == 0 {
		return nil, false, errors.New("it is empty")
	}
	if list {
		_, err = d.Token()
		cut = err != nil
	}
	return rows, cut, nil
}

// add adds a row.
func (f *File) add(row json.RawMessage) error {
	var kind struct {
		Sequences *int `json:"pl"`
		AtOnce    *int `json:"max_concurrency"`
		Prompt    *int `json:"n_prompt"`
		Gen       *int `json:"n_gen"`
	}
	if err := json.Unmarshal(row, &kind); err != nil {
		return err
	}
	if kind.Sequences != nil {
		var r ParallelResult
		if err := json.Unmarshal(row, &r); err != nil {
			return err
		}
		if err := r.check(); err != nil {
			return err
		}
		if r.Median.Speed == 0 { // of an older version
			r.summarise()
		}
		f.Parallel = append(f.Parallel, r)
		return nil
	}
	if kind.AtOnce != nil {
		var r LoadResult
		if err := json.Unmarshal(row, &r); err != nil {
			return err
		}
		if len(r.SampleTS) == 0 && r.OutputThroughput > 0 { // of an older version
			r.SampleTS = []float64{r.OutputThroughput}
		}
		f.Load = append(f.Load, r)
		return r.check()
	}
	if kind.Prompt == nil || kind.Gen == nil {
		return errors.New("there is neither pl nor n_prompt and n_gen")
	}
	var r Result
	if err := json.Unmarshal(row, &r); err != nil {
		return err
	}
	if len(r.SampleTS) == 0 && r.AvgTS > 0 { // of CSV that became JSON
		r.SampleTS = []float64{r.AvgTS}
	}
	if r.MedianTS == 0 { // llama-bench's
		r.MedianTS = median(r.SampleTS)
	}
	f.Results = append(f.Results, r)
	return r.check()
}

// No measurement has so many tokens, nor so many in a second.
const (
	mostTokens = 1 << 32
	mostSpeed  = 1e12
)

// check finds what no measurement has.
func (r *Result) check() error {
	switch {
	case min(r.NPrompt, r.NGen, r.NDepth) < 0 || max(r.NPrompt, r.NGen, r.NDepth) > mostTokens || r.NPrompt+r.NGen == 0:
		return fmt.Errorf("a test of %d and %d tokens at depth %d", r.NPrompt, r.NGen, r.NDepth)
	case len(r.SampleTS) == 0 && r.Error == "":
		return errors.New("neither samples_ts nor an error")
	case slices.ContainsFunc(append([]float64{max(r.MedianTS, 1)}, r.SampleTS...), func(x float64) bool { return !(x > 0 && x < mostSpeed) }):
		return errors.New("samples_ts that are not above 0, or above 1e12")
	case r.Ceilings != nil && !sensible(r.Ceilings.ReadBandwidth, r.Ceilings.F32, r.Ceilings.F16, r.Ceilings.Int8, r.Ceilings.Matrix):
		return errors.New("ceilings below 0, or above 1e20")
	case slices.ContainsFunc(r.Kernels, func(k KernelTime) bool { return !sensible(k.Intensity, k.FLOPs) }):
		return errors.New("kernels with rates below 0, or above 1e20")
	}
	return errors.Join(r.Stamp.check(), r.Energy.check(), checkTime(r.TestTime))
}

func (s Stamp) check() error {
	switch {
	case s.KernelsVerified > s.KernelsUsed:
		return fmt.Errorf("%d of %d kernels verified", s.KernelsVerified, s.KernelsUsed)
	case s.KLExact != nil && (!(*s.KLExact > -1e-9) || s.KLExactPositions < 1):
		return fmt.Errorf("kl_exact %g over %d positions", *s.KLExact, s.KLExactPositions)
	}
	return nil
}

// sensible reports whether no rate is one that no device has.
func sensible(rates ...float64) bool {
	return !slices.ContainsFunc(rates, func(x float64) bool { return !(x >= 0 && x <= 1e20) })
}

func (r *ParallelResult) check() error {
	switch {
	case min(r.Prompt, r.Gen, r.Sequences) < 1 || max(r.Prompt, r.Gen, r.Sequences) > mostTokens:
		return fmt.Errorf("a test of %s", r.Name())
	case len(r.Samples) == 0 && r.Error == "":
		return errors.New("neither samples nor an error")
	case slices.ContainsFunc(append(slices.Clone(r.Samples), Columns{Speed: max(r.Median.Speed, 1)}), func(c Columns) bool { return !(c.Speed > 0 && c.Speed < mostSpeed) }):
		return errors.New("speeds that are not above 0, or above 1e12")
	}
	return errors.Join(r.Stamp.check(), r.Energy.check(), checkTime(r.TestTime))
}

func (r *LoadResult) check() error {
	switch {
	case min(r.Prompt, r.Gen, r.Concurrency) < 1 || max(r.Prompt, r.Gen, r.Concurrency) > mostTokens:
		return fmt.Errorf("a test of %s", r.Name())
	case len(r.SampleTS) == 0 && r.Error == "":
		return errors.New("neither output_throughput nor an error")
	case slices.ContainsFunc(append([]float64{max(r.OutputThroughput, 1)}, r.SampleTS...), func(x float64) bool { return !(x > 0 && x < mostSpeed) }):
		return errors.New("throughputs that are not above 0, or above 1e12")
	case slices.ContainsFunc(slices.Concat(r.TTFTs, r.TPOTs), func(s float64) bool { return !(s >= 0 && s < mostTokens) }):
		return errors.New("times below 0, or of a century")
	}
	return errors.Join(r.Stamp.check(), r.Energy.check(), checkTime(r.TestTime))
}

func checkTime(text string) error {
	if _, err := time.Parse(time.RFC3339, text); err != nil {
		return fmt.Errorf("test_time: %w", err)
	}
	return nil
}

// A measurement is a row of either kind, by what it shares with the other.
type measurement struct {
	Setup
	Stamp
	Steadiness
	file    string // without its directory
	test    string
	samples []float64 // tokens a second
	median  float64
	mean    float64
	stddev  float64
	time    string

	score  *Score   // of a preset, in its last row
	joules *float64 // of a token; nil where it is not known

	load    bool     // of requests: the speed is that of generated tokens
	also    []series // that are compared too
	against []Ratio

	prompt, gen, depth, sequences int
	bandwidth, peak               float64 // shares of the read bandwidth, and of the peak of the arithmetic; 0 where they are not known
}

// A series is what was measured of a row besides its speed.
type series struct {
	metric string // a Ratio's
	values []float64
	time   bool // less is faster
}

// measurements are all rows of a file.
func (f *File) measurements() (list []measurement) {
	name := filepath.Base(f.Path)
	for _, r := range f.Results {
		m := measurement{
			Setup: r.Setup, Stamp: r.Stamp, Steadiness: r.Steadiness, file: name, test: r.Test().Name(), samples: r.SampleTS, median: r.MedianTS,
			mean: r.AvgTS, stddev: r.StddevTS, time: r.TestTime, prompt: r.NPrompt, gen: r.NGen, depth: r.NDepth, sequences: 1,
		}
		m.bandwidth, m.peak, m.score, m.joules = r.ReadShare, r.PeakShare, r.Score, r.JoulesPerToken
		if r.Against != nil {
			m.against = []Ratio{*r.Against}
		}
		list = append(list, m)
	}
	for _, r := range f.Parallel {
		m := measurement{
			Setup: r.Setup, Stamp: r.Stamp, Steadiness: r.Steadiness, file: name, test: r.Name(), median: r.Median.Speed, mean: r.Speed,
			stddev: r.Stddev.Speed, time: r.TestTime, joules: r.JoulesPerToken, prompt: r.Prompt, gen: r.Gen, sequences: r.Sequences,
			against: r.Against,
		}
		prompts, gen := series{metric: "speed_pp"}, series{metric: "speed_tg"}
		for _, s := range r.Samples {
			m.samples = append(m.samples, s.Speed)
			prompts.values, gen.values = append(prompts.values, s.PromptSpeed), append(gen.values, s.GenSpeed)
		}
		m.also = []series{prompts, gen}
		list = append(list, m)
	}
	for _, r := range f.Load {
		m := measurement{
			Setup: r.Setup, Stamp: r.Stamp, Steadiness: r.Steadiness, file: name, test: r.Name(), samples: r.SampleTS, time: r.TestTime,
			joules: r.JoulesPerToken, prompt: r.Prompt, gen: r.Gen, sequences: r.Concurrency, against: r.Against,
		}
		m.load = true
		m.mean, m.stddev = spread(r.SampleTS)
		m.median = median(r.SampleTS)
		m.also = []series{{"median_ttft_ms", thousandfold(r.TTFTs), true}, {"median_tpot_ms", thousandfold(r.TPOTs), true}}
		list = append(list, m)
	}
	return list
}

// thousandfold turns seconds into milliseconds.
func thousandfold(seconds []float64) []float64 {
	x := slices.Clone(seconds)
	for i := range x {
		x[i] *= 1000
	}
	return x
}

// device is the name that a reader looks for.
func (s Setup) device() string {
	if s.SoftwareOnly && !strings.Contains(s.GPUInfo, "CPU") {
		return s.GPUInfo + " (CPU driver)"
	}
	return s.GPUInfo
}

// Marked is how many rows a file has, and how many of them are struck and how many noisy.
func (f *File) Marked() (rows, struck, noisy int) {
	for _, m := range f.measurements() {
		rows++
		if m.Struck {
			struck++
		}
		if m.Noisy {
			noisy++
		}
	}
	return rows, struck, noisy
}
