package bench

import (
	"encoding/json"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// row is a result with so many tokens a second in its runs.
func row(test Test, speeds ...float64) Result {
	r := Result{NPrompt: test.Prompt, NGen: test.Gen, NDepth: test.Depth, TestTime: "2026-11-30T12:00:00Z"}
	r.Setup = Setup{ModelType: "llama 135M Q4_1", GPUInfo: "Radeon", Backends: "Vulkan", Driver: "radv 26.1", BuildCommit: "abc", FlashAttn: 1, UseMmap: true}
	var times []time.Duration
	for _, s := range speeds {
		times = append(times, time.Duration(float64(test.tokens())/s*1e9))
	}
	r.summarise(runs{times: times, Steadiness: Steadiness{Reasons: []string{}}}, nil)
	return r
}

// written is a file of results, as -o json or -o jsonl write them.
func written(t *testing.T, name string, rows ...any) string {
	t.Helper()
	var lines []string
	for _, r := range rows {
		text, err := json.Marshal(r)
		if err != nil {
			t.Fatal(err)
		}
		lines = append(lines, string(text))
	}
	text := strings.Join(lines, "\n") + "\n"
	if strings.HasSuffix(name, ".json") {
		text = "[" + strings.Join(lines, ",") + "]\n"
	}
	return inFile(t, name, text)
}

func inFile(t *testing.T, name, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func read(t *testing.T, path string) *File {
	t.Helper()
	f, err := ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// What is written is read, in either form, and so is what a killed program has written.
func TestReadFile(t *testing.T) {
	pp, tg := row(Test{Prompt: 512}, 100, 102, 101), row(Test{Gen: 128, Depth: 16}, 10, 11, 12)
	together := ParallelResult{Setup: pp.Setup, ParallelTest: ParallelTest{Prompt: 8, Gen: 4, Sequences: 2}, TestTime: pp.TestTime}
	together.Samples = []Columns{together.columns(time.Second, time.Second)}
	together.summarise()
	asked := LoadResult{Setup: pp.Setup, Prompt: 8, Gen: 4, Concurrency: 2, TestTime: pp.TestTime, Latencies: Latencies{OutputThroughput: 7}, SampleTS: []float64{7}}
	for _, name := range []string{"a.json", "a.jsonl"} {
		f := read(t, written(t, name, pp, together, asked, tg))
		if rows, struck, noisy := f.Marked(); rows != 4 || struck != 0 || noisy != 0 {
			t.Errorf("%d rows, %d struck, %d noisy", rows, struck, noisy)
		}
		if diff := cmp.Diff([]LoadResult{asked}, f.Load); diff != "" {
			t.Error(diff)
		}
		if diff := cmp.Diff([]Result{pp, tg}, f.Results); diff != "" || f.Cut {
			t.Error(diff)
		}
		if diff := cmp.Diff([]ParallelResult{together}, f.Parallel); diff != "" {
			t.Error(diff)
		}
	}
	whole, err := os.ReadFile(written(t, "a.json", pp, tg))
	if err != nil {
		t.Fatal(err)
	}
	between := strings.Index(string(whole), "},{")
	for _, end := range []int{len(whole) - 2, len(whole) - 20, between + 2, between + 1} {
		f := read(t, inFile(t, "cut.json", string(whole[:end])))
		if n := len(f.Results); !f.Cut || n != 1 && end != len(whole)-2 {
			t.Errorf("cut at %d of %d: %d rows, cut %t", end, len(whole), n, f.Cut)
		}
	}
}

// llama-bench's own output is read; this is from b10434's printer, with a row of an older one that has a boolean.
func TestReadFileOfLlamaBench(t *testing.T) {
	const text = `[
  {
    "build_commit": "9d3ef48",
    "build_number": 10434,
    "gpu_info": "llvmpipe",
    "backends": "Vulkan",
    "model_type": "llama 135M Q4_1",
    "model_size": 96000000,
    "flash_attn": -1,
    "n_prompt": 0,
    "n_gen": 32,
    "n_depth": 0,
    "test_time": "2026-11-30T10:00:00Z",
    "avg_ns": 640000000,
    "stddev_ns": 100,
    "avg_ts": 50.000000,
    "stddev_ts": 0.100000,
    "samples_ns": [ 640000000, 620000000, 660000000 ],
    "samples_ts": [ 50, 51.6, 48.5 ]
  },
  {"flash_attn": true, "n_prompt": 16, "n_gen": 0, "n_depth": 0, "test_time": "2026-11-30T10:00:00Z", "avg_ts": 7}
]`
	f := read(t, inFile(t, "llama.json", text))
	if len(f.Results) != 2 || f.Results[0].MedianTS != 50 || f.Results[0].FlashAttn != -1 || f.Results[1].FlashAttn != 1 || f.Results[1].MedianTS != 7 {
		t.Errorf("%+v", f.Results)
	}
}

// TestBadFiles: an error names the file and the row.
func TestBadFiles(t *testing.T) {
	good, err := json.Marshal(row(Test{Prompt: 8}, 1))
	if err != nil {
		t.Fatal(err)
	}
	for text, want := range map[string]string{
		"":                                    "it is empty",
		"[]":                                  "it is empty",
		"[" + string(good) + ",{\"a\":1}]":    "row 2: there is neither pl nor n_prompt and n_gen",
		"model | size\n":                      "invalid character",
		`[1]`:                                 "row 1: json: cannot unmarshal number",
		`[{"n_prompt":1,"n_gen":0}]`:          "row 1: neither samples_ts nor an error",
		`[{"n_prompt":-1,"n_gen":0}]`:         "row 1: a test of -1",
		`[{"pl":0,"pp":1,"tg":1}]`:            "row 1: a test of 0 sequences",
		`[{"pl":1,"pp":1,"tg":1}]`:            "row 1: neither samples nor an error",
		`{"n_prompt":1,"n_gen":0,"avg_ts":1}`: `row 1: test_time: parsing time ""`,
		`[{"n_prompt":"8","n_gen":0}]`:        "row 1: json: cannot unmarshal string",
		`[{"n_prompt":1,"n_gen":0,"pl":"x"}]`: "row 1: json: cannot unmarshal string",
		`[{"n_prompt":1,"n_gen":1,"samples_ts":[0],"test_time":"2026-11-30T10:00:00Z"}]`: "row 1: samples_ts that are not above 0",
	} {
		path := inFile(t, "bad.json", text)
		var wrong *FormatError
		if _, err := ReadFile(path); !errors.As(err, &wrong) || !strings.Contains(err.Error(), want) || !strings.HasPrefix(err.Error(), path+": ") {
			t.Errorf("%q: %v, want %q", text, err, want)
		}
	}
}

// TestCompare has a row of each verdict.
func TestCompare(t *testing.T) {
	struck := row(Test{Gen: 64}, 90, 91, 92)
	struck.Stamp = Stamp{Stamped: true, Struck: true}
	base := read(t, written(t, "a.json", row(Test{Prompt: 8}, 100, 101, 102, 99), row(Test{Gen: 8}, 50, 60, 40, 70), row(Test{Prompt: 16}, 100, 101, 102),
		row(Test{Gen: 64}, 90, 91, 92), row(Test{Gen: 1}, 5), row(Test{Gen: 2}, 5)))
	faster := row(Test{Prompt: 8}, 150, 151, 149, 152)
	faster.BuildCommit = "def"
	other := read(t, written(t, "b.json", faster, row(Test{Gen: 8}, 55, 45, 65, 60), row(Test{Prompt: 16}, 60, 61, 59), struck, row(Test{Gen: 1}, 9), row(Test{Gen: 3}, 5)))
	c := Compare(base, other)
	var got []string
	for _, r := range c.Rows {
		got = append(got, r.Test+" "+r.Verdict)
		if r.Verdict != Strike && !(r.Low <= r.Ratio && r.Ratio <= r.High) {
			t.Errorf("%s: %v is not from %v to %v", r.Test, r.Ratio, r.Low, r.High)
		}
	}
	if diff := cmp.Diff([]string{"pp8 faster", "tg8 noise", "pp16 slower", "tg64 struck", "tg1 too few runs"}, got); diff != "" {
		t.Error(diff)
	}
	if r := c.Rows[0].Ratio; r < 1.49 || r > 1.51 {
		t.Errorf("ratio of medians %v, want 1.5", r)
	}
	if len(c.Missing) != 2 || !strings.HasSuffix(c.Missing[0], "b.json: llama 135M Q4_1, tg2") || !strings.HasSuffix(c.Missing[1], "a.json: llama 135M Q4_1, tg3") {
		t.Errorf("missing: %q", c.Missing)
	}
	if d := c.Differences; len(d) != 1 || d[0].Key != "build_commit" || d[0].Base != "abc" || d[0].Other != "several" {
		t.Errorf("differences: %+v", d)
	}
	if text := c.Table(); !strings.Contains(text, "faster") || !strings.Contains(text, "geometric mean of 4 ratios") || !strings.Contains(text, "differs in build_commit") {
		t.Error(text)
	}
}

// The interval of a bootstrap narrows with the noise and covers the true ratio.
func TestBootstrap(t *testing.T) {
	rng := newRand(3)
	sample := func(mean, noise float64) []float64 {
		x := make([]float64, 15)
		for i := range x {
			x[i] = mean * (1 + noise*rng.NormFloat64())
		}
		return x
	}
	covered, width := 0, [2]float64{}
	const trials = 60
	for range trials {
		for i, noise := range []float64{0.01, 0.1} {
			low, high := bootstrap(sample(100, noise), sample(120, noise))
			width[i] += (high - low) / trials
			if low <= 1.2 && 1.2 <= high {
				covered++
			}
		}
	}
	if covered < 2*trials*85/100 || width[0]*5 > width[1] || width[0] <= 0 {
		t.Errorf("%d of %d intervals have the ratio in them; widths %v", covered, 2*trials, width)
	}
}

// TestSQL has SQLite run llama-bench's own statements and ours into one database, and reads it as compare-llama-bench.py does.
func TestSQL(t *testing.T) {
	sqlite, err := exec.LookPath("sqlite3")
	if err != nil {
		t.Skip("there is no sqlite3")
	}
	r := row(Test{Gen: 16}, 10, 11, 12)
	r.GPUInfo, r.Noisy = "Bob's GPU; DROP TABLE llama_bench;", true
	one, err := SQLRow(r)
	if err != nil {
		t.Fatal(err)
	}
	together, err := SQLRow(ParallelResult{Setup: r.Setup, ParallelTest: ParallelTest{Prompt: 8, Gen: 4, Sequences: 2}})
	if err != nil {
		t.Fatal(err)
	}
	var columns, theirs []string
	for _, f := range llamaBenchFields {
		columns, theirs = append(columns, f[0]), append(theirs, "'1'")
	}
	theirRow := "INSERT INTO llama_bench (" + strings.Join(columns, ", ") + ") VALUES (" + strings.Join(theirs, ", ") + ");\n"
	script := SQLHead() + theirRow + SQLHead() + one + together +
		"SELECT gpu_info, n_gen, flash_attn, typeof(avg_ts), typeof(n_threads), no_host FROM llama_bench ORDER BY n_gen DESC;\n" +
		"SELECT test, struck, json_extract(row, '$.noisy') FROM pumice_bench;\n"
	c := exec.Command(sqlite, "-bail", ":memory:")
	c.Stdin = strings.NewReader(script)
	out, err := c.CombinedOutput()
	want := "Bob's GPU; DROP TABLE llama_bench;|16|1|real|integer|0\n1|1|1|real|integer|1\ntg16|0|1\n2 sequences, pp8, tg4|0|0\n"
	if diff := cmp.Diff(want, string(out)); err != nil || diff != "" {
		t.Errorf("%v\n%s", err, diff)
	}
}

// The keys of a row include all that llama-bench writes and all that compare-llama-bench.py asks for, with the types that it writes.
func TestRowsHaveLlamaBenchsKeys(t *testing.T) {
	text, err := json.Marshal(row(Test{Gen: 16}, 10))
	if err != nil {
		t.Fatal(err)
	}
	var keys map[string]any
	if err := json.Unmarshal(text, &keys); err != nil {
		t.Fatal(err)
	}
	booleans := []string{"no_kv_offload", "cpu_strict", "embeddings", "no_host"} // that SQL has as INTEGER
	for _, f := range append(slices.Clone(llamaBenchFields), [2]string{"use_mmap", "INTEGER"}) {
		value, ok := keys[f[0]]
		kind := "TEXT"
		switch value.(type) {
		case float64:
			kind = "INTEGER"
			if f[1] == "REAL" {
				kind = "REAL"
			}
		case bool:
			kind = "BOOLEAN"
			if f[0] == "use_mmap" || slices.Contains(booleans, f[0]) {
				kind = f[1]
			}
		}
		if !ok || kind != f[1] {
			t.Errorf("%s: %v, want %s", f[0], value, f[1])
		}
	}
	for _, key := range []string{"samples_ns", "samples_ts"} {
		if list, ok := keys[key].([]any); !ok || len(list) != 1 {
			t.Errorf("%s: %v", key, keys[key])
		}
	}
}

// FuzzReadFile: no file makes the reader panic, and what it takes can be compared and drawn.
func FuzzReadFile(f *testing.F) {
	f.Add([]byte(`[{"n_prompt":0,"n_gen":8,"test_time":"2026-11-30T12:00:00Z","samples_ts":[10,11,12]}]`))
	f.Add([]byte(`{"pl":2,"pp":1,"tg":1,"test_time":"2026-11-30T12:00:00Z","samples":[{"speed":3}]}`))
	dir := f.TempDir()
	f.Fuzz(func(t *testing.T, data []byte) {
		path := filepath.Join(dir, "fuzz.json")
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
		file, err := ReadFile(path)
		if err != nil {
			return
		}
		Compare(file, file).Table()
		if err := WritePage(io.Discard, "fuzz", nil, file); err != nil {
			t.Error(err)
		}
	})
}
