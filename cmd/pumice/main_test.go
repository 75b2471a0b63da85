package main

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
	"github.com/urfave/cli/v2"

	"pumice"
	"pumice/internal/dtype"
	"pumice/internal/gputest"
)

// TestMain keeps the driver's own cache of compiled shaders where it is. Tests move XDG_CACHE_HOME, and without that cache most
// of their time would go into compiling what other tests have compiled.
func TestMain(m *testing.M) {
	if dir, err := os.UserCacheDir(); err == nil && os.Getenv(mesaCache) == "" {
		os.Setenv(mesaCache, dir)
	}
	testscript.Main(m, map[string]func(){"pumice": measured, llamaServerName: measured, "pumice-crash": crash})
}

// measured is main, and reports what was compiled.
func measured() {
	distinctCrashes()
	status := newProgram(os.Stdin, os.Stdout, os.Stderr).run(os.Args)
	if err := gputest.ReportCompiles(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		status = exitFailure
	}
	os.Exit(status)
}

// mesaCache names the folder of Mesa's cache of compiled shaders.
const mesaCache = "MESA_SHADER_CACHE_DIR"

// top is the module's directory.
func top(t testing.TB) string {
	t.Helper()
	dir, err := filepath.Abs(filepath.Join("..", ".."))
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

// hasDevice reports whether there is a Vulkan device. It fails the test where a run demands one.
func hasDevice(t testing.TB) bool {
	t.Helper()
	gputest.RecordDriver(t)
	_, err := pumice.Devices(pumice.Options{})
	if err != nil && os.Getenv("PUMICE_TEST_REQUIRE_DEVICE") != "" {
		t.Fatalf("no Vulkan device, and PUMICE_TEST_REQUIRE_DEVICE is set: %v", err)
	}
	if err != nil && !errors.Is(err, pumice.ErrNoDevice) {
		t.Fatal(err)
	}
	return err == nil
}

// recordInputs makes Go's test cache run the tests again where a file changes that the processes they start read.
func recordInputs(t testing.TB) {
	t.Helper()
	for _, dir := range []string{"testdata/fixtures", "tokenizer/testdata"} {
		err := filepath.WalkDir(filepath.Join(top(t), dir), func(_ string, _ fs.DirEntry, err error) error { return err })
		if err != nil {
			t.Fatal(err)
		}
	}
}

func TestScripts(t *testing.T) {
	device := hasDevice(t)
	recordInputs(t)
	root := top(t)
	testscript.Run(t, testscript.Params{
		Dir: filepath.Join("testdata", "script"),
		Setup: func(e *testscript.Env) error {
			e.Setenv("FIXTURES", filepath.Join(root, "testdata", "fixtures"))
			e.Setenv("EVAL", filepath.Join(root, "eval", "testdata"))
			e.Setenv("TOKENIZERS", filepath.Join(root, "tokenizer", "testdata"))
			e.Setenv("XDG_CACHE_HOME", filepath.Join(e.WorkDir, "cache"))
			e.Setenv("XDG_STATE_HOME", filepath.Join(e.WorkDir, "state"))
			for _, name := range []string{"VK_DRIVER_FILES", "VK_ICD_FILENAMES", "LP_NATIVE_VECTOR_WIDTH", "PUMICE_TEST_COMPILES", mesaCache} {
				if value := os.Getenv(name); value != "" {
					e.Setenv(name, value)
				}
			}
			return nil
		},
		Condition: func(c string) (bool, error) {
			if c == "device" {
				return device, nil
			}
			return false, fmt.Errorf("unknown condition %q", c)
		},
		Cmds: map[string]func(ts *testscript.TestScript, neg bool, args []string){
			"fits":   scriptFits,
			"keys":   scriptKeys,
			"value":  scriptValue,
			"same":   scriptSame,
			"status": scriptStatus,
			"xverse": func(ts *testscript.TestScript, _ bool, args []string) {
				ts.Check(writeXVERSE(ts.MkAbs(args[0]), filepath.Join(root, "tokenizer", "testdata", "xverse-a")))
			},
		},
	})
}

// lookUp reads a file and follows a path such as stats or [0].text in its JSON.
func lookUp(ts *testscript.TestScript, file, path string) any {
	var v any
	ts.Check(json.Unmarshal([]byte(ts.ReadFile(file)), &v))
	for _, part := range strings.FieldsFunc(path, func(r rune) bool { return r == '.' || r == ']' }) {
		if index, ok := strings.CutPrefix(part, "["); ok {
			var i int
			fmt.Sscan(index, &i)
			list, ok := v.([]any)
			if !ok || i >= len(list) {
				ts.Fatalf("%s: %s: no element %d", file, path, i)
			}
			v = list[i]
			continue
		}
		object, ok := v.(map[string]any)
		if !ok {
			ts.Fatalf("%s: %s: %q is of no object", file, path, part)
		}
		v = object[part]
	}
	return v
}

// scriptKeys is `keys FILE PATH KEY...`: the object at PATH (. is the whole) has these keys and no others.
func scriptKeys(ts *testscript.TestScript, _ bool, args []string) {
	object, ok := lookUp(ts, args[0], args[1]).(map[string]any)
	if !ok {
		ts.Fatalf("%s: %s is no object", args[0], args[1])
	}
	var got []string
	for key := range object {
		got = append(got, key)
	}
	slices.Sort(got)
	want := slices.Sorted(slices.Values(args[2:]))
	if !slices.Equal(got, want) {
		ts.Fatalf("%s: keys of %s are %v, want %v", args[0], args[1], got, want)
	}
}

// scriptValue is `[!] value FILE PATH JSON`: the value at PATH is JSON.
func scriptValue(ts *testscript.TestScript, neg bool, args []string) {
	var want any
	ts.Check(json.Unmarshal([]byte(args[2]), &want))
	if got := lookUp(ts, args[0], args[1]); reflect.DeepEqual(got, want) == neg {
		text, _ := json.Marshal(got)
		ts.Fatalf("%s: %s is %s, want %s (negated: %t)", args[0], args[1], text, args[2], neg)
	}
}

// scriptSame is `[!] same FILE PATH FILE PATH`: the values are the same.
func scriptSame(ts *testscript.TestScript, neg bool, args []string) {
	x, y := lookUp(ts, args[0], args[1]), lookUp(ts, args[2], args[3])
	if reflect.DeepEqual(x, y) == neg {
		ts.Fatalf("%s of %s is %v, %s of %s is %v (negated: %t)", args[1], args[0], x, args[3], args[2], y, neg)
	}
}

// scriptStatus is `status N ARG...`: pumice exits with status N and says one line on standard error.
func scriptStatus(ts *testscript.TestScript, _ bool, args []string) {
	err := ts.Exec("pumice", append([]string{"--quiet"}, args[1:]...)...)
	got := "0"
	var exit interface{ ExitCode() int }
	if errors.As(err, &exit) {
		got = fmt.Sprint(exit.ExitCode())
	} else {
		ts.Check(err)
	}
	text := ts.ReadFile("stderr")
	if got != args[0] {
		ts.Fatalf("pumice %v: status %s, want %s: %s", args[1:], got, args[0], text)
	}
	if got != "0" && (strings.Count(text, "\n") != 1 || !strings.HasPrefix(text, "pumice: ")) {
		ts.Fatalf("pumice %v: want one line on standard error, got %q", args[1:], text)
	}
}

// writeXVERSE makes a model directory in XVERSE's format: random weights, and the tokenizer in another directory.
func writeXVERSE(dir, tokenizer string) error {
	const hidden, intermediate, layers, vocab = 64, 96, 2, 6000
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	for _, name := range []string{"tokenizer.json", "tokenizer_config.json"} {
		text, err := os.ReadFile(filepath.Join(tokenizer, name))
		if err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(dir, name), text, 0o644); err != nil {
			return err
		}
	}
	config := fmt.Sprintf(`{"architectures": ["XverseForCausalLM"], "model_type": "xverse", "hidden_size": %d, "intermediate_size": %d,
		"num_hidden_layers": %d, "num_attention_heads": 2, "vocab_size": %d, "hidden_act": "silu", "rms_norm_eps": 1e-06,
		"tie_word_embeddings": false, "torch_dtype": "bfloat16", "pad_token_id": 1, "bos_token_id": 2, "eos_token_id": 3,
		"max_position_embeddings": 512}`, hidden, intermediate, layers, vocab)
	if err := os.WriteFile(filepath.Join(dir, "config.json"), []byte(config), 0o644); err != nil {
		return err
	}
	shapes := []struct {
		name  string
		shape []int
	}{{"model.embed_tokens.weight", []int{vocab, hidden}}, {"lm_head.weight", []int{vocab, hidden}}, {"model.norm.weight", []int{hidden}}}
	for i := range layers {
		for name, shape := range map[string][]int{
			"self_attn.q_proj": {hidden, hidden}, "self_attn.k_proj": {hidden, hidden}, "self_attn.v_proj": {hidden, hidden},
			"self_attn.o_proj": {hidden, hidden}, "mlp.gate_proj": {intermediate, hidden}, "mlp.up_proj": {intermediate, hidden},
			"mlp.down_proj": {hidden, intermediate}, "input_layernorm": {hidden}, "post_attention_layernorm": {hidden},
		} {
			shapes = append(shapes, struct {
				name  string
				shape []int
			}{fmt.Sprintf("model.layers.%d.%s.weight", i, name), shape})
		}
	}
	slices.SortFunc(shapes, func(a, b struct {
		name  string
		shape []int
	}) int {
		return strings.Compare(a.name, b.name)
	})
	header := map[string]any{}
	var data []byte
	random := rand.New(rand.NewPCG(1, 2))
	for _, s := range shapes {
		n := 1
		for _, d := range s.shape {
			n *= d
		}
		values := make([]float32, n)
		for i := range values {
			values[i] = float32(random.NormFloat64()) / 8
			if len(s.shape) == 1 {
				values[i]++
			}
		}
		encoded := make([]byte, 2*n)
		dtype.BF16.Encode(encoded, values)
		header[s.name] = map[string]any{"dtype": "BF16", "shape": s.shape, "data_offsets": []int{len(data), len(data) + len(encoded)}}
		data = append(data, encoded...)
	}
	text, err := json.Marshal(header)
	if err != nil {
		return err
	}
	file := binary.LittleEndian.AppendUint64(nil, uint64(len(text)))
	return os.WriteFile(filepath.Join(dir, "model.safetensors"), append(append(file, text...), data...), 0o644)
}

// TestHelpSaysWhatFlagsDo: the help of each flag begins with a verb, not with the name of its value, and ends without a full stop.
func TestHelpSaysWhatFlagsDo(t *testing.T) {
	app := newProgram(nil, nil, nil).app()
	flags := slices.Clone(app.Flags)
	for _, c := range app.Commands {
		if c.Usage == "" {
			t.Errorf("%s has no help", c.Name)
		}
		flags = append(flags, c.Flags...)
	}
	for _, f := range flags {
		usage := f.(cli.DocGenerationFlag).GetUsage()
		if usage == "" || usage[0] < 'a' || usage[0] > 'z' || strings.HasSuffix(usage, ".") {
			t.Errorf("--%s: %q", f.Names()[0], usage)
		}
		if n := strings.Count(usage, "`"); f.(cli.DocGenerationFlag).TakesValue() && n != 2 {
			t.Errorf("--%s: %q names no value", f.Names()[0], usage)
		}
	}
}

// TestMemoryIsTheSameEverywhere compares what devices lists as available with what models have to fit in. Other processes take and
// give memory meanwhile.
func TestMemoryIsTheSameEverywhere(t *testing.T) {
	if !hasDevice(t) {
		t.Skip("no Vulkan device")
	}
	t.Setenv("XDG_CACHE_HOME", t.TempDir())
	var devices []pumice.DeviceInfo
	decodeJSON(t, pumiceRun(t, "--quiet", "devices", "--json"), &devices)
	var plan struct {
		Memory struct {
			Device    string `json:"device"`
			Available int64  `json:"available_bytes"`
		}
	}
	if err := json.Unmarshal([]byte(pumiceRun(t, "--quiet", "inspect", filepath.Join(top(t), "testdata", "fixtures", "llama"), "--json")), &plan); err != nil {
		t.Fatal(err)
	}
	for _, d := range devices {
		if d.Name == plan.Memory.Device && (2*d.MemoryFree < plan.Memory.Available || d.MemoryFree > 2*plan.Memory.Available || d.MemoryFree > d.MemoryTotal) {
			t.Errorf("%d of %d bytes free, and %d available to a model", d.MemoryFree, d.MemoryTotal, plan.Memory.Available)
		}
	}
}
