package quantize

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"pumice/checkpoint"
	"pumice/internal/dtype"
	"pumice/internal/ggufwrite"
	"pumice/internal/synth"
	"pumice/tokenizer"
)

const (
	fixtures = "../testdata/fixtures"
	ggufs    = "../testdata/gguf"
)

func open(t *testing.T, path string) *checkpoint.Checkpoint {
	t.Helper()
	c, err := checkpoint.Open(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// write writes a checkpoint and opens the file.
func write(t *testing.T, path string, o Options) *checkpoint.Checkpoint {
	t.Helper()
	p, err := NewPlan(t.Context(), open(t, path), o)
	if err != nil {
		t.Fatal(err)
	}
	out := filepath.Join(t.TempDir(), "out.gguf")
	if err := p.Write(context.Background(), out, false); err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(out)
	if err != nil {
		t.Fatal(err)
	}
	if info.Size() != p.Bytes() {
		t.Errorf("the file has %d bytes, planned %d", info.Size(), p.Bytes())
	}
	return open(t, out)
}

// unpack decompresses a .gz file into a file.
func unpack(t *testing.T, packed, name string) string {
	t.Helper()
	b, err := os.ReadFile(packed)
	if err != nil {
		t.Fatal(err)
	}
	z, err := gzip.NewReader(bytes.NewReader(b))
	if err != nil {
		t.Fatal(err)
	}
	if b, err = io.ReadAll(z); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, b, 0o666); err != nil {
		t.Fatal(err)
	}
	return path
}

func values(t *checkpoint.Tensor) []float32 {
	out := make([]float32, t.NumElements())
	for i := range t.Rows() {
		t.DType.Decode(out[i*t.Cols():][:t.Cols()], t.Row(i, nil))
	}
	return out
}

// Another program converted the fixtures to the committed GGUF files
// (model/testdata/make_gguf.py). Tensors must be equal to the bit, and so must every key in them.
func TestDirectoriesBecomeWhatTheConverterWrites(t *testing.T) {
	files, err := filepath.Glob(filepath.Join(ggufs, "*.gguf.gz"))
	if err != nil || len(files) < 15 {
		t.Fatalf("%d files, %v", len(files), err)
	}
	for _, file := range files {
		name := strings.TrimSuffix(filepath.Base(file), ".gguf.gz")
		t.Run(name, func(t *testing.T) {
			o := Options{Type: dtype.F32}
			if dir := filepath.Join(fixtures, name); name == "bert" { // with its vocabulary
				tok, err := tokenizer.Open(t.Context(), dir)
				if err != nil {
					t.Fatal(err)
				}
				o.Tokenizer = tok
			}
			want, got := open(t, unpack(t, file, name+".gguf")), write(t, filepath.Join(fixtures, name), o)
			for _, name := range want.Names() {
				w, _ := want.Tensor(name)
				g, ok := got.Tensor(name)
				if !ok && name == "output.weight" { // a second copy of a tied head
					continue
				}
				if !ok || !slices.Equal(g.Shape, w.Shape) {
					t.Errorf("tensor %s: %v, want %v", name, g, w.Shape)
					continue
				}
				if a, b := values(g), values(w); !slices.Equal(a, b) {
					t.Errorf("tensor %s begins %v, want %v", name, a[:4], b[:4])
				}
			}
			for _, name := range got.Names() {
				if _, ok := want.Tensor(name); !ok {
					t.Errorf("unexpected tensor %s", name)
				}
			}
			g, w := got.Metadata(), want.Metadata()
			for _, key := range w.Keys() {
				if a, b := g.Describe(key), w.Describe(key); a != b && key != "llama.context_length" {
					t.Errorf("%s is %s, want %s", key, a, b)
				}
			}
			if name == "mistral" && g.Int("llama.context_length") != 40 {
				t.Errorf("context_length %d, want the window's 40", g.Int("llama.context_length"))
			}
		})
	}
}

// Matrices of every type have the encoder's bytes. Rows that are not a multiple of a block get another type, and the
// embedding and the head more bits unless Pure is set.
func TestTypes(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "model")
	s, err := synth.Lookup("xverse", synth.Tiny)
	if err != nil {
		t.Fatal(err)
	}
	s = s.Resized(synth.Shape{Hidden: 256, Heads: 4, KVHeads: 4, HeadDim: 64, Intermediate: 288, Layers: 2, Vocab: 300})
	if err := synth.Write(context.Background(), dir, s, synth.Options{DType: dtype.BF16}); err != nil {
		t.Fatal(err)
	}
	source := open(t, dir)
	for _, d := range dtype.Weights() {
		for _, pure := range []bool{true, false} {
			t.Run(fmt.Sprintf("%v/pure=%t", d, pure), func(t *testing.T) {
				c := write(t, dir, Options{Type: d, Pure: pure, Workers: 3})
				vocabulary := d
				if !pure && slices.Contains([]dtype.DType{dtype.Q4_0, dtype.Q4_1, dtype.Q5_0, dtype.Q5_1, dtype.Q2_K, dtype.Q3_K, dtype.Q4_K, dtype.Q5_K, dtype.IQ4_NL, dtype.IQ4_XS, dtype.TQ2_0}, d) {
					vocabulary = dtype.Q6_K
				}
				for name, x := range map[string]struct {
					source string
					dtype  dtype.DType
				}{
					"token_embd.weight":      {"model.embed_tokens.weight", vocabulary},
					"output.weight":          {"lm_head.weight", vocabulary},
					"blk.1.attn_v.weight":    {"model.layers.1.self_attn.v_proj.weight", d},
					"blk.1.ffn_down.weight":  {"model.layers.1.mlp.down_proj.weight", d.ForRow(288)},
					"blk.0.attn_norm.weight": {"model.layers.0.input_layernorm.weight", dtype.F32},
				} {
					got, ok := c.Tensor(name)
					if !ok || got.DType != x.dtype {
						t.Errorf("%s: %v, want %v", name, got, x.dtype)
						continue
					}
					from, ok := source.Tensor(x.source)
					if !ok {
						t.Fatalf("no tensor %s", x.source)
					}
					for i := range from.Rows() {
						want := make([]byte, x.dtype.RowBytes(from.Cols()))
						f := make([]float32, from.Cols())
						from.DType.Decode(f, from.Row(i, nil))
						x.dtype.Encode(want, f)
						if !bytes.Equal(got.Row(i, nil), want) {
							t.Errorf("%s: row %d is not the encoder's", name, i)
							break
						}
					}
				}
				if got := c.Metadata().Int("general.file_type"); uint32(got) != fileTypes[d] {
					t.Errorf("file type %d, want %d", got, fileTypes[d])
				}
			})
		}
	}
}

// The metadata of a GGUF file, tokenizer included, are copied unchanged, and so are tensors of the wanted type.
func TestGGUFIsCopied(t *testing.T) {
	tok, err := tokenizer.Open(t.Context(), "../tokenizer/testdata/xverse-a")
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(t.TempDir(), "model")
	s, err := synth.Lookup("xverse", synth.Tiny)
	if err != nil {
		t.Fatal(err)
	}
	size := tok.VocabSize() + 5
	if err := synth.Write(context.Background(), dir, s.Resized(synth.Shape{Vocab: size}), synth.Options{DType: dtype.F32}); err != nil {
		t.Fatal(err)
	}
	first := write(t, dir, Options{Type: dtype.Q8_0, Tokenizer: tok})
	if got := len(first.Metadata().Strings("tokenizer.ggml.tokens")); got != size {
		t.Errorf("%d tokens, want %d", got, size)
	}
	second := write(t, first.Path(), Options{Type: dtype.Q8_0})
	a, b := first.Metadata(), second.Metadata()
	if !slices.Equal(slices.Sorted(slices.Values(a.Keys())), slices.Sorted(slices.Values(b.Keys()))) {
		t.Errorf("keys %q, want %q", b.Keys(), a.Keys())
	}
	for _, key := range []string{"tokenizer.ggml.tokens", "tokenizer.ggml.model"} {
		if !slices.Equal(a.Strings(key), b.Strings(key)) {
			t.Errorf("%s has changed", key)
		}
	}
	if !slices.Equal(a.Floats("tokenizer.ggml.scores"), b.Floats("tokenizer.ggml.scores")) || !slices.Equal(a.Ints("tokenizer.ggml.token_type"), b.Ints("tokenizer.ggml.token_type")) {
		t.Error("scores or types have changed")
	}
	for _, name := range first.Names() {
		x, _ := first.Tensor(name)
		y, ok := second.Tensor(name)
		if !ok || x.DType != y.DType || !bytes.Equal(x.Data, y.Data) {
			t.Errorf("tensor %s has changed", name)
		}
	}
	if err := errors.Join(a.Err(), b.Err()); err != nil {
		t.Error(err)
	}
}

// With Keep a GGUF file of several types is copied as it is, also into a file that is open.
func TestKeptTypesAreThoseOfTheFile(t *testing.T) {
	from := open(t, unpack(t, filepath.Join(ggufs, "llama.gguf.gz"), "llama.gguf"))
	mixed := write(t, from.Path(), Options{Type: dtype.Q4_0})
	path := filepath.Join(t.TempDir(), "copy.gguf")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.Write(make([]byte, 1<<20)); err != nil {
		t.Fatal(err)
	}
	p, err := NewPlan(t.Context(), mixed, Options{Keep: true})
	if err == nil {
		err = p.WriteIn(t.Context(), f)
	}
	if err != nil {
		t.Fatal(err)
	}
	want, err := os.ReadFile(mixed.Path())
	if err != nil {
		t.Fatal(err)
	}
	got := make([]byte, len(want)+1)
	if n, err := f.ReadAt(got, 0); err != io.EOF || !bytes.Equal(got[:n], want) {
		t.Errorf("%d bytes, %v; want the %d of the file, unchanged", n, err, len(want))
	}
	if _, err := NewPlan(t.Context(), open(t, "../testdata/fixtures/llama"), Options{Keep: true}); err == nil || !strings.Contains(err.Error(), "only a GGUF file's") {
		t.Errorf("a directory: %v", err)
	}
}

// The files of a split model become one file.
func TestSplitModelsBecomeOneFile(t *testing.T) {
	whole := open(t, unpack(t, filepath.Join(ggufs, "llama.gguf.gz"), "llama.gguf"))
	dir := t.TempDir()
	names := whole.Names()
	for i, part := range [][]string{names[:5], names[5:]} {
		meta := []ggufwrite.KV{{Key: "split.no", Value: uint16(i)}, {Key: "split.count", Value: uint16(2)}, {Key: "split.tensors.count", Value: int32(len(names))}}
		if i == 0 {
			for key, value := range whole.RawMetadata() {
				meta = append(meta, ggufwrite.KV{Key: key, Value: ggufwrite.Raw(value)})
			}
		}
		var tensors []ggufwrite.Tensor
		for _, name := range part {
			x, _ := whole.Tensor(name)
			tensors = append(tensors, ggufwrite.Tensor{Name: name, DType: x.DType, Shape: x.Shape, Data: x.Data})
		}
		if err := ggufwrite.Write(filepath.Join(dir, fmt.Sprintf("m-%05d-of-00002.gguf", i+1)), meta, tensors); err != nil {
			t.Fatal(err)
		}
	}
	c := write(t, filepath.Join(dir, "m-00001-of-00002.gguf"), Options{Type: dtype.F16})
	if !slices.Equal(c.Names(), names) || c.Metadata().Has("split.count") {
		t.Errorf("tensors %q, split.count %t; want %q and none", c.Names(), c.Metadata().Has("split.count"), names)
	}
}

// The file has every chat template, and every token that ends an answer.
func TestChatSettingsAreCopied(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "model")
	s, err := synth.Lookup("llama", synth.Tiny)
	if err != nil {
		t.Fatal(err)
	}
	if err := synth.Write(context.Background(), dir, s.Resized(synth.Shape{Vocab: 6000}), synth.Options{DType: dtype.F16}); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile("../tokenizer/testdata/xverse-a/tokenizer.json")
	if err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{
		"tokenizer.json": string(text),
		"tokenizer_config.json": `{"bos_token": "<|startoftext|>", "eos_token": "<|endoftext|>", "chat_template": [
			{"name": "default", "template": "plain"}, {"name": "tool_use", "template": "tools"}]}`,
		"generation_config.json": `{"eos_token_id": [7, 3, 9], "temperature": 0.25, "top_k": 40}`,
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o666); err != nil {
			t.Fatal(err)
		}
	}
	tok, err := tokenizer.Open(t.Context(), dir)
	if err != nil {
		t.Fatal(err)
	}
	m := write(t, dir, Options{Type: dtype.Q8_0, Tokenizer: tok}).Metadata()
	for key, want := range map[string]string{
		"tokenizer.chat_template": `"plain"`, "tokenizer.chat_template.tool_use": `"tools"`, "tokenizer.chat_templates": `["tool_use"]`,
		"tokenizer.ggml.bos_token_id": "2", "tokenizer.ggml.eos_token_id": "3", "tokenizer.ggml.eot_token_id": "7", "tokenizer.ggml.eom_token_id": "9",
		"general.sampling.temp": "0.25", "general.sampling.top_k": "40", "general.name": `"model"`, "general.quantization_version": "2",
	} {
		if got := m.Describe(key); got != want {
			t.Errorf("%s is %s, want %s", key, got, want)
		}
	}
}

// No error leaves a file behind.
func TestFailuresLeaveNothing(t *testing.T) {
	cancelled, cancel := context.WithCancel(context.Background())
	cancel()
	for _, c := range []struct {
		name   string
		change map[string]string // in config.json
		ctx    context.Context
		want   string
	}{
		{name: "cancelled", ctx: cancelled, want: "context canceled"},
		{name: "a scale that the architecture has no key for", change: map[string]string{`"query_pre_attn_scalar": 32`: `"query_pre_attn_scalar": 50`},
			ctx: context.Background(), want: "architecture gemma2 cannot say that attention_scale is"},
		{name: "other local layers", change: map[string]string{`"model_type": "gemma2"`: `"model_type": "gemma2", "layer_types": ["full_attention", "sliding_attention"]`},
			ctx: context.Background(), want: "cannot say that local is"},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := t.TempDir()
			if err := os.CopyFS(dir, os.DirFS(filepath.Join(fixtures, "gemma2"))); err != nil {
				t.Fatal(err)
			}
			config, err := os.ReadFile(filepath.Join(dir, "config.json"))
			if err != nil {
				t.Fatal(err)
			}
			for from, to := range c.change {
				if !bytes.Contains(config, []byte(from)) {
					t.Fatalf("config.json has no %s", from)
				}
				config = bytes.Replace(config, []byte(from), []byte(to), 1)
			}
			if err := os.WriteFile(filepath.Join(dir, "config.json"), config, 0o666); err != nil {
				t.Fatal(err)
			}
			p, err := NewPlan(t.Context(), open(t, dir), Options{Type: dtype.Q8_0})
			if err != nil {
				t.Fatal(err)
			}
			out := t.TempDir()
			if err := p.Write(c.ctx, filepath.Join(out, "out.gguf"), false); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("error %v, want %q", err, c.want)
			}
			if left, err := os.ReadDir(out); err != nil || len(left) > 0 {
				t.Errorf("%v is left, %v", left, err)
			}
		})
	}
}

// The checkpoint is truncated after the first tensor.
func TestShrinkingCheckpointsAreErrors(t *testing.T) {
	gguf := filepath.Join(t.TempDir(), "model.gguf")
	p, err := NewPlan(t.Context(), open(t, filepath.Join(fixtures, "llama")), Options{Type: dtype.F16})
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Write(t.Context(), gguf, false); err != nil {
		t.Fatal(err)
	}
	for name, dir := range map[string]string{"safetensors": filepath.Join(fixtures, "llama"), "torch": filepath.Join(fixtures, "baichuan"), "GGUF": filepath.Dir(gguf)} {
		t.Run(name, func(t *testing.T) {
			from := t.TempDir()
			if err := os.CopyFS(from, os.DirFS(dir)); err != nil {
				t.Fatal(err)
			}
			shrink := func() {
				for _, pattern := range []string{"*.safetensors", "*.bin", "*.gguf"} {
					files, _ := filepath.Glob(filepath.Join(from, pattern))
					for _, file := range files {
						if err := os.Truncate(file, 0); err != nil {
							t.Error(err)
						}
					}
				}
			}
			wantShrunk := func(err error) {
				t.Helper()
				var format *checkpoint.FormatError
				if !errors.As(err, &format) || filepath.Dir(format.File) != from || !strings.Contains(format.Msg, "shrank") {
					t.Errorf("got %v, want the error that a file of %s shrank", err, from)
				}
			}
			c := open(t, from)
			p, err := NewPlan(t.Context(), c, Options{Type: dtype.Q8_0, Progress: func(int64, int64) { shrink() }})
			if err != nil {
				t.Fatal(err)
			}
			out := t.TempDir()
			wantShrunk(p.Write(t.Context(), filepath.Join(out, "out.gguf"), false))
			if left, _ := os.ReadDir(out); len(left) != 0 {
				t.Errorf("%v is left", left)
			}
			_, err = NewPlan(t.Context(), c, Options{Type: dtype.Q8_0}) // reads metadata or vectors
			wantShrunk(err)
		})
	}
}

func TestFilesAreNotOverwritten(t *testing.T) {
	p, err := NewPlan(t.Context(), open(t, filepath.Join(fixtures, "llama")), Options{Type: dtype.Q8_0})
	if err != nil {
		t.Fatal(err)
	}
	out := filepath.Join(t.TempDir(), "out.gguf")
	if err := os.WriteFile(out, []byte("mine"), 0o666); err != nil {
		t.Fatal(err)
	}
	if err := p.Write(context.Background(), out, false); !errors.Is(err, fs.ErrExist) {
		t.Errorf("got %v", err)
	}
	if b, _ := os.ReadFile(out); string(b) != "mine" {
		t.Error("the file has changed")
	}
	if err := p.Write(context.Background(), out, true); err != nil {
		t.Error(err)
	}
	open(t, out)
}

func TestWeightsMustBeFinite(t *testing.T) {
	for _, c := range []struct {
		to    dtype.DType
		value float32
		ok    bool
	}{
		{dtype.Q8_0, float32(math.NaN()), false}, {dtype.Q8_0, float32(math.Inf(1)), false}, {dtype.F16, 65536, false}, {dtype.F16, -65504, true}, {dtype.BF16, 65536, true},
		{dtype.Q4_0, 8 * 65504, true}, {dtype.Q4_0, 8 * 65536, false}, {dtype.Q8_0, -1e9, false}, {dtype.Q4_1, 3e38, false}, // by the blocks' scales
	} {
		dir := t.TempDir()
		if err := os.CopyFS(dir, os.DirFS(filepath.Join(fixtures, "mistral"))); err != nil { // in F32
			t.Fatal(err)
		}
		file := filepath.Join(dir, "model.safetensors")
		c0 := open(t, dir)
		x, ok := c0.Tensor("model.layers.0.mlp.up_proj.weight")
		if !ok {
			t.Fatal("no up_proj")
		}
		b, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		dtype.F32.Encode(b[x.Offset+4*5:][:4], []float32{c.value})
		if err := os.WriteFile(file, b, 0o666); err != nil {
			t.Fatal(err)
		}
		p, err := NewPlan(t.Context(), open(t, dir), Options{Type: c.to})
		if err != nil {
			t.Fatal(err)
		}
		err = p.Write(context.Background(), filepath.Join(t.TempDir(), "out.gguf"), false)
		if c.ok && err != nil || !c.ok && (err == nil || !strings.Contains(err.Error(), "element 5 of row 0 is")) {
			t.Errorf("%v as %v: %v", c.value, c.to, err)
		}
	}
}
