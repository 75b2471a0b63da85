package model

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"pumice/checkpoint"
	"pumice/internal/dtype"
	"pumice/internal/gputest"
	"pumice/pipeline"
)

// stored is a tensor to write.
type stored struct {
	dtype  dtype.DType
	shape  []int
	values []float32
}

// writeSafetensors writes a file as the format's specification lays it out: the header's length,
// the header, the data.
func writeSafetensors(t *testing.T, path string, tensors map[string]stored) {
	t.Helper()
	header := map[string]any{}
	var data []byte
	for _, name := range slices.Sorted(maps.Keys(tensors)) {
		x := tensors[name]
		b := make([]byte, len(x.values)*x.dtype.BlockBytes())
		x.dtype.Encode(b, x.values)
		header[name] = map[string]any{"dtype": x.dtype.String(), "shape": x.shape, "data_offsets": []int{len(data), len(data) + len(b)}}
		data = append(data, b...)
	}
	text, err := json.Marshal(header)
	if err != nil {
		t.Fatal(err)
	}
	file := binary.LittleEndian.AppendUint64(nil, uint64(len(text)))
	if err := os.WriteFile(path, slices.Concat(file, text, data), 0o644); err != nil {
		t.Fatal(err)
	}
}

// testAdapter is an adapter to write, its factors in float64 as they read back.
type testAdapter struct {
	config map[string]any
	a, b   map[string][]float64
	shape  map[string][3]int // rank, rows, cols
	files  map[string]stored
}

// newAdapter makes random factors for modules of the given ranks and shapes.
func newAdapter(seed uint64, config map[string]any, modules map[string][3]int, infix string) *testAdapter {
	x := &testAdapter{config: map[string]any{"peft_type": "LORA", "bias": "none", "r": 4, "lora_alpha": 8,
		"target_modules": []string{"q_proj"}, "modules_to_save": nil, "init_lora_weights": true, "fan_in_fan_out": false},
		a: map[string][]float64{}, b: map[string][]float64{}, shape: modules, files: map[string]stored{}}
	maps.Copy(x.config, config)
	random := splitmix(seed)
	for _, module := range slices.Sorted(maps.Keys(modules)) {
		s := modules[module]
		for _, f := range []struct {
			letter string
			rows   int
			cols   int
			into   map[string][]float64
			dtype  dtype.DType
		}{{"A", s[0], s[2], x.a, dtype.F32}, {"B", s[1], s[0], x.b, dtype.BF16}} {
			w := make([]float32, f.rows*f.cols)
			for i := range w {
				w[i] = random.uniform() / float32(math.Sqrt(float64(f.cols)))
			}
			raw := make([]byte, len(w)*f.dtype.BlockBytes())
			f.dtype.Encode(raw, w)
			f.dtype.Decode(w, raw)
			for _, v := range w {
				f.into[module] = append(f.into[module], float64(v))
			}
			x.files["base_model.model."+module+".lora_"+f.letter+infix+".weight"] = stored{f.dtype, []int{f.rows, f.cols}, w}
		}
	}
	return x
}

// write makes the adapter's directory.
func (x *testAdapter) write(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	text, err := json.Marshal(x.config)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "adapter_config.json"), text, 0o644); err != nil {
		t.Fatal(err)
	}
	writeSafetensors(t, filepath.Join(dir, "adapter_model.safetensors"), x.files)
	return dir
}

// merge adds scale * B A to weights by module name; weights of w that are missing are read.
func (x *testAdapter) merge(w map[string][]float64, tensor func(name string) []float64, scale func(module string, rank int) float64) {
	for module, s := range x.shape {
		rank, rows, cols := s[0], s[1], s[2]
		name := module + ".weight"
		if w[name] == nil {
			w[name] = slices.Clone(tensor(name))
		}
		for r := range rows {
			for c := range cols {
				sum := 0.0
				for k := range rank {
					sum += x.b[module][r*rank+k] * x.a[module][k*cols+c]
				}
				w[name][r*cols+c] += scale(module, rank) * sum
			}
		}
	}
}

// llamaModules are the shapes of every matrix of the llama fixture's layer, and of its head.
func llamaModules(rank int, layers ...int) map[string][3]int {
	m := map[string][3]int{"lm_head": {rank, 640, 128}}
	for _, i := range layers {
		at := fmt.Sprintf("model.layers.%d.", i)
		for _, p := range []string{"q", "k", "v", "o"} {
			m[at+"self_attn."+p+"_proj"] = [3]int{rank, 128, 128}
		}
		m[at+"mlp.gate_proj"], m[at+"mlp.up_proj"] = [3]int{rank, 344, 128}, [3]int{rank, 344, 128}
		m[at+"mlp.down_proj"] = [3]int{rank, 128, 344}
	}
	return m
}

// writeMerged copies a directory with other weights, in F32.
func writeMerged(t *testing.T, dir string, w map[string][]float64) string {
	t.Helper()
	c, err := checkpoint.Open(t.Context(), dir)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	tensors := map[string]stored{}
	for _, name := range c.Names() {
		x, _ := c.Tensor(name)
		var values []float32
		for i := range x.Rows() {
			values = append(values, narrow(tensorRow(x, i))...)
		}
		if merged, ok := w[name]; ok {
			values = narrow(merged)
		}
		tensors[name] = stored{dtype.F32, x.Shape, values}
	}
	out := t.TempDir()
	config, err := os.ReadFile(filepath.Join(dir, "config.json"))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(out, "config.json"), config, 0o644); err != nil {
		t.Fatal(err)
	}
	writeSafetensors(t, filepath.Join(out, "model.safetensors"), tensors)
	return out
}

var adapterPrompt = []int{3, 99, 512, 7, 7, 300, 41}

func logitsOf(t *testing.T, x *subject) []float32 {
	t.Helper()
	out, err := x.forward(context.Background(), adapterPrompt, 0, lastLogits)
	if err != nil {
		t.Fatal(err)
	}
	return slices.Clone(out.Logits)
}

// TestAdaptersEqualMergedWeights compares adapters, applied while loading, with a checkpoint whose
// weights were merged in float64, and with the reference over these; from a directory and from a
// GGUF file of the same weights.
func TestAdaptersEqualMergedWeights(t *testing.T) {
	long(t)
	dir := filepath.Join(fixtureDir, "llama")
	first := newAdapter(1, nil, llamaModules(4, 0, 1, 2), "")
	second := newAdapter(2, map[string]any{ // a rank-stabilised one, with patterns
		"r": 2, "lora_alpha": 3, "use_rslora": true,
		"rank_pattern":  map[string]any{"down_proj": 5},
		"alpha_pattern": json.RawMessage(`{"layers.1.mlp.down_proj": 7, "down_proj": 9}`), // the first that fits counts
	}, map[string][3]int{
		"model.layers.1.mlp.down_proj": {5, 128, 344}, "model.layers.2.mlp.down_proj": {5, 128, 344},
		"model.layers.1.self_attn.q_proj": {2, 128, 128},
	}, ".default")

	r := newReference(t, dir)
	r.weights = map[string][]float64{}
	tensor := func(name string) []float64 { return r.tensor(t, name) }
	first.merge(r.weights, tensor, func(_ string, rank int) float64 { return 8 / float64(rank) })
	second.merge(r.weights, tensor, func(module string, rank int) float64 {
		alpha := map[string]float64{"model.layers.1.mlp.down_proj": 7, "model.layers.2.mlp.down_proj": 9, "model.layers.1.self_attn.q_proj": 3}[module]
		return 0.5 * alpha / math.Sqrt(float64(rank))
	})
	want := narrow(r.logits(t, adapterPrompt))
	merged := logitsOf(t, load(t, writeMerged(t, dir, r.weights), exact, pipeline.Options{}))
	compare(t, "merged", merged, want, exactBound)

	o := exact
	o.LoRA = []LoRA{{Path: first.write(t)}, {Path: second.write(t), Scale: 0.5}}
	for _, base := range []string{dir, unpack(t, "llama")} {
		var done, total int64
		o.Progress = func(d, n int64) { done, total = d, n }
		got := logitsOf(t, load(t, base, o, pipeline.Options{}))
		compare(t, base+" beside merged weights", got, merged, sameWeights)
		compare(t, base, got, want, exactBound)
		if done != total || total == 0 {
			t.Errorf("%s: progress ended at %d of %d", base, done, total)
		}
	}
	plain := logitsOf(t, load(t, dir, exact, pipeline.Options{}))
	if d := math.Abs(float64(plain[0] - want[0])); d < 10*exactBound {
		t.Errorf("the adapters change logit 0 by %g only", d)
	}
	// Kept types: F16 in this checkpoint.
	half := logitsOf(t, load(t, dir, Options{Context: 256, LoRA: o.LoRA}, pipeline.Options{}))
	compare(t, "F16", half, want, halfBound)
}

// TestAdaptersOfFusedProjections goes by the names of the directory, also where GGUF has the
// projections apart.
func TestAdaptersOfFusedProjections(t *testing.T) {
	long(t)
	for name, modules := range map[string]map[string][3]int{
		"baichuan": {"model.layers.1.self_attn.W_pack": {4, 3 * 64, 64}, "model.layers.0.mlp.gate_proj": {4, 172, 64}},
		"chatglm2": {"transformer.encoder.layers.0.self_attention.query_key_value": {4, 256, 128},
			"transformer.encoder.layers.1.mlp.dense_h_to_4h": {4, 428, 128}, "transformer.output_layer": {4, 832, 128}},
		"falcon": {"transformer.h.1.self_attention.query_key_value": {4, 160, 96}, "transformer.h.0.mlp.dense_4h_to_h": {4, 96, 384}},
		"mpt":    {"transformer.blocks.0.attn.Wqkv": {4, 384, 128}, "transformer.blocks.1.ffn.up_proj": {4, 512, 128}},
		"gemma3": {"model.layers.2.self_attn.k_proj": {4, 32, 96}, "model.layers.0.mlp.down_proj": {4, 96, 172}},
	} {
		t.Run(name, func(t *testing.T) {
			dir := filepath.Join(fixtureDir, name)
			a := newAdapter(3, nil, modules, "")
			c, err := checkpoint.Open(t.Context(), dir)
			if err != nil {
				t.Fatal(err)
			}
			r := &reference{c: c, weights: map[string][]float64{}}
			a.merge(r.weights, func(name string) []float64 { return r.tensor(t, name) }, func(string, int) float64 { return 2 })
			check(t, c.Close())
			want := logitsOf(t, load(t, writeMerged(t, dir, r.weights), exact, pipeline.Options{}))
			o := exact
			o.LoRA = []LoRA{{Path: a.write(t)}}
			compare(t, "directory", logitsOf(t, load(t, dir, o, pipeline.Options{})), want, sameWeights)
			compare(t, "GGUF", logitsOf(t, load(t, unpack(t, name), o, pipeline.Options{})), want, sameWeights)
		})
	}
}

// TestAdaptersOfQuantisedWeights writes adapted matrices in the type they had.
func TestAdaptersOfQuantisedWeights(t *testing.T) {
	long(t)
	shape := llamaShape{hidden: 256, layers: 1, heads: 4, kvHeads: 2, inner: 256, vocab: 600}
	a := newAdapter(4, nil, map[string][3]int{"model.layers.0.mlp.down_proj": {4, 256, 256}}, "").write(t)
	path := filepath.Join(t.TempDir(), "q.gguf")
	shape.types = map[string]dtype.DType{"ffn_down": dtype.Q8_0}
	writeLlama(t, path, shape)
	quantised := load(t, path, Options{Context: 64, KVType: dtype.F32, LoRA: []LoRA{{Path: a}}}, pipeline.Options{})
	if got := quantised.head().weights.Layers[0].DownProj.Shards[0].DType; got != dtype.Q8_0 {
		t.Errorf("down_proj has become %s", got)
	}
	o := exact
	o.LoRA = []LoRA{{Path: a}}
	compare(t, "Q8_0", logitsOf(t, quantised), logitsOf(t, load(t, path, o, pipeline.Options{})), halfBound)
}

func tryLoad(t *testing.T, path string, o Options) error {
	t.Helper()
	m, err := pipeline.NewManager(gputest.Open(t), pipeline.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { check(t, m.Close()) })
	c, err := checkpoint.Open(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	x, err := Load(context.Background(), c, o, m)
	if err == nil {
		check(t, x.Close())
	}
	return err
}

func TestAdaptersRefuseWhatTheyCannotDo(t *testing.T) {
	const q = "model.layers.0.self_attn.q_proj"
	key := "base_model.model." + q + ".lora_"
	for _, c := range []struct {
		name   string
		want   string // in the error
		change func(x *testAdapter)
	}{
		{"another method", "peft_type", func(x *testAdapter) { x.config["peft_type"] = "LOHA" }},
		{"no method", "peft_type", func(x *testAdapter) { delete(x.config, "peft_type") }},
		{"DoRA", "use_dora", func(x *testAdapter) { x.config["use_dora"] = true }},
		{"trained biases", "bias", func(x *testAdapter) { x.config["bias"] = "all" }},
		{"transposed", "fan_in_fan_out", func(x *testAdapter) { x.config["fan_in_fan_out"] = true }},
		{"whole modules", "modules_to_save", func(x *testAdapter) { x.config["modules_to_save"] = []string{"lm_head"} }},
		{"changed base", "init_lora_weights", func(x *testAdapter) { x.config["init_lora_weights"] = "pissa" }},
		{"pattern", "alpha_pattern", func(x *testAdapter) { x.config["alpha_pattern"] = map[string]any{`^q.*`: 3} }},
		{"no rank", "r", func(x *testAdapter) { x.config["r"] = 0 }},
		{"another rank", "want a rank of 8", func(x *testAdapter) { x.config["r"] = 8 }},
		{"unknown module", "model.layers.9.self_attn.q_proj", func(x *testAdapter) {
			for _, l := range []string{"A", "B"} {
				x.files["base_model.model.model.layers.9.self_attn.q_proj.lora_"+l+".weight"] = x.files[key+l+".weight"]
			}
		}},
		{"tied or absent", "nothing.like.it", func(x *testAdapter) {
			for _, l := range []string{"A", "B"} {
				x.files["base_model.model.nothing.like.it.lora_"+l+".weight"] = x.files[key+l+".weight"]
			}
		}},
		{"unknown tensor", "lora_embedding_A", func(x *testAdapter) {
			x.files["base_model.model.model.embed_tokens.lora_embedding_A"] = x.files[key+"A.weight"]
		}},
		{"magnitudes", "lora_magnitude_vector", func(x *testAdapter) {
			x.files["base_model.model."+q+".lora_magnitude_vector"] = stored{dtype.F32, []int{1}, []float32{1}}
		}},
		{"one factor", "one of its factors", func(x *testAdapter) { delete(x.files, key+"B.weight") }},
		{"rows", "(128, 128)", func(x *testAdapter) {
			x.files[key+"B.weight"] = stored{dtype.F32, []int{127, 4}, make([]float32, 127*4)}
		}},
		{"columns", "(128, 128)", func(x *testAdapter) { x.files[key+"A.weight"] = stored{dtype.F32, []int{4, 64}, make([]float32, 4*64)} }},
		{"rank beyond a full matrix", "a rank of 129 is more than the 128 of a full matrix", func(x *testAdapter) {
			x.config["r"] = 129
			x.files[key+"A.weight"] = stored{dtype.F32, []int{129, 128}, make([]float32, 129*128)}
			x.files[key+"B.weight"] = stored{dtype.F32, []int{128, 129}, make([]float32, 129*128)}
		}},
		{"rank 2^60", "want a rank of 1152921504606846976", func(x *testAdapter) { x.config["r"] = 1 << 60 }},
		{"rank that no pattern names", "want a rank of 8", func(x *testAdapter) { x.config["r"], x.config["rank_pattern"] = 8, map[string]any{"q_proj": 5} }},
		{"negative rank in a pattern", "rank_pattern.q_proj: -4 must be positive", func(x *testAdapter) { x.config["rank_pattern"] = map[string]any{"q_proj": -4} }},
		{"rank pattern of words", "rank_pattern.q_proj: want an integer", func(x *testAdapter) { x.config["rank_pattern"] = map[string]any{"q_proj": "all"} }},
		{"alpha beyond float64", "lora_alpha: the number 1e999 is out of range", func(x *testAdapter) { x.config["lora_alpha"] = json.RawMessage("1e999") }},
		{"alpha beyond float32", "is scaled by 2.5e+299", func(x *testAdapter) { x.config["lora_alpha"] = json.RawMessage("1e300") }},
		{"alpha in a pattern beyond float32", "is scaled by 2.5e+299", func(x *testAdapter) { x.config["alpha_pattern"] = map[string]any{"q_proj": json.RawMessage("1e300")} }},
		{"factor twice", "two factors lora_A", func(x *testAdapter) {
			x.files[strings.TrimSuffix(key, ".lora_")+".lora_A.default.weight"] = x.files[key+"A.weight"]
		}},
		{"no rows", "want a rank of 4", func(x *testAdapter) {
			x.files[key+"A.weight"] = stored{dtype.F32, []int{0, 128}, nil}
			x.files[key+"B.weight"] = stored{dtype.F32, []int{128, 0}, nil}
		}},
		{"no tensors", "no tensors", func(x *testAdapter) { clear(x.files) }},
	} {
		t.Run(c.name, func(t *testing.T) {
			x := newAdapter(5, nil, map[string][3]int{q: {4, 128, 128}}, "")
			c.change(x)
			err := tryLoad(t, filepath.Join(fixtureDir, "llama"), Options{Context: 16, LoRA: []LoRA{{Path: x.write(t)}}})
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("error %v, want one with %q", err, c.want)
			}
			var config *ConfigError
			var format *checkpoint.FormatError
			if err != nil && !errors.As(err, &config) && !errors.As(err, &format) {
				t.Errorf("error of type %T", err)
			}
		})
	}
	t.Run("no directory", func(t *testing.T) {
		if err := tryLoad(t, filepath.Join(fixtureDir, "llama"), Options{Context: 16, LoRA: []LoRA{{Path: filepath.Join(t.TempDir(), "none")}}}); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("error %v, want one of a missing file", err)
		}
	})
	t.Run("cut off", func(t *testing.T) {
		dir := newAdapter(5, nil, map[string][3]int{q: {4, 128, 128}}, "").write(t)
		path := filepath.Join(dir, "adapter_model.safetensors")
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, bytes.Clone(b[:len(b)-8]), 0o644); err != nil {
			t.Fatal(err)
		}
		var format *checkpoint.FormatError
		if err := tryLoad(t, filepath.Join(fixtureDir, "llama"), Options{Context: 16, LoRA: []LoRA{{Path: dir}}}); !errors.As(err, &format) {
			t.Errorf("error %v, want a FormatError", err)
		}
	})
}

// BenchmarkAdapterRow adds rank 16 to a row of 4096 values.
func BenchmarkAdapterRow(b *testing.B) {
	const cols, rank = 4096, 16
	u := &update{down: make([]float32, rank*cols)}
	values := make([]float32, cols)
	up := make([]float32, rank)
	for i := range up {
		up[i] = float32(i)
	}
	b.SetBytes(4 * cols)
	for b.Loop() {
		u.addScaled(values, up)
	}
}
