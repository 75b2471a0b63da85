package checkpoint

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"io/fs"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"pumice/internal/dtype"
	"pumice/internal/ggufwrite"
)

const fixtures = "../testdata/fixtures"

// open opens a checkpoint, which must be valid, and closes it when the test ends.
func open(t testing.TB, path string) *Checkpoint {
	t.Helper()
	c, err := Open(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	})
	return c
}

func TestOpenReadsEveryLayout(t *testing.T) {
	tests := []struct {
		dir     string
		format  Format
		tensors int
		name    string
		d       dtype.DType
		shape   []int
		files   int
	}{
		{"xverse", Torch, 23, "model.layers.1.mlp.down_proj.weight", dtype.BF16, []int{128, 172}, 3},
		{"xverse-st", SafeTensors, 21, "model.embed_tokens.weight", dtype.BF16, []int{613, 128}, 1},
		{"llama", SafeTensors, 30, "lm_head.weight", dtype.F16, []int{640, 128}, 1},
		{"llama-sharded", SafeTensors, 30, "model.norm.weight", dtype.F16, []int{128}, 3},
		{"smollm2", SafeTensors, 29, "model.layers.0.self_attn.k_proj.weight", dtype.BF16, []int{32, 96}, 1},
	}
	for _, tt := range tests {
		t.Run(tt.dir, func(t *testing.T) {
			c := open(t, filepath.Join(fixtures, tt.dir))
			if c.Format() != tt.format || len(c.Names()) != tt.tensors {
				t.Errorf("got %v with %d tensors, want %v with %d", c.Format(), len(c.Names()), tt.format, tt.tensors)
			}
			files := map[string]bool{}
			var total int64
			for _, name := range c.Names() {
				x, ok := c.Tensor(name)
				if !ok || x.Name != name {
					t.Fatalf("%s is listed but not found", name)
				}
				files[x.File] = true
				total += int64(len(x.Data))
				raw, err := os.ReadFile(x.File)
				if err != nil {
					t.Fatal(err)
				}
				if !bytes.Equal(raw[x.Offset:x.Offset+int64(len(x.Data))], x.Data) {
					t.Errorf("%s: Data differs from the file's bytes at Offset", name)
				}
			}
			if len(files) != tt.files || c.NumBytes() != total {
				t.Errorf("%d files and %d bytes, want %d and %d", len(files), c.NumBytes(), tt.files, total)
			}
			x, _ := c.Tensor(tt.name)
			if x == nil || x.DType != tt.d || !slices.Equal(x.Shape, tt.shape) || x.Strides != nil {
				t.Errorf("%s is not %v of %v", tt.name, tt.shape, tt.d)
			}
			if c.Config() == nil || c.GenerationConfig() == nil || c.Metadata() != nil {
				t.Error("want config and generation config and no metadata")
			}
			if _, ok := c.Tensor("nothing"); ok {
				t.Error("a missing tensor was found")
			}
		})
	}
}

// Torch and safetensors wrote the same weights.
func TestTorchAndSafetensorsAgree(t *testing.T) {
	bin, st := open(t, filepath.Join(fixtures, "xverse")), open(t, filepath.Join(fixtures, "xverse-st"))
	for _, name := range st.Names() {
		a, _ := bin.Tensor(name)
		b, _ := st.Tensor(name)
		if a == nil || a.DType != b.DType || !slices.Equal(a.Shape, b.Shape) || !bytes.Equal(a.Data, b.Data) {
			t.Errorf("%s differs", name)
		}
	}
}

func TestShardedAndWholeAgree(t *testing.T) {
	whole, sharded := open(t, filepath.Join(fixtures, "llama")), open(t, filepath.Join(fixtures, "llama-sharded"))
	for _, name := range whole.Names() {
		a, _ := whole.Tensor(name)
		b, _ := sharded.Tensor(name)
		if b == nil || !bytes.Equal(a.Data, b.Data) {
			t.Errorf("%s differs", name)
		}
	}
}

// golden.json has the embedding of the prompt's last token, to which the tensor's
// row must decode.
func TestEmbeddingRowMatchesGolden(t *testing.T) {
	for _, dir := range []string{"xverse", "xverse-st", "llama", "llama-sharded", "smollm2"} {
		c := open(t, filepath.Join(fixtures, dir))
		var golden struct {
			Prompts []struct {
				IDs    []int `json:"ids"`
				Hidden []struct {
					Vector struct{ Offset, Count int } `json:"vector"`
				} `json:"hidden_last_position"`
			} `json:"prompts"`
		}
		text, err := os.ReadFile(filepath.Join(fixtures, dir, "golden.json"))
		if err == nil {
			err = json.Unmarshal(text, &golden)
		}
		if err != nil || len(golden.Prompts) == 0 {
			t.Fatal(dir, err, len(golden.Prompts))
		}
		blob, err := os.ReadFile(filepath.Join(fixtures, dir, "golden.f32"))
		if err != nil {
			t.Fatal(err)
		}
		x, _ := c.Tensor("model.embed_tokens.weight")
		row := make([]float32, x.Cols())
		for _, p := range golden.Prompts {
			x.DType.Decode(row, x.Row(p.IDs[len(p.IDs)-1], nil))
			v := p.Hidden[0].Vector
			want := make([]float32, v.Count)
			dtype.F32.Decode(want, blob[v.Offset:v.Offset+4*v.Count])
			if d := cmp.Diff(want, row); d != "" {
				t.Errorf("%s: %s", dir, d)
			}
		}
	}
}

func TestOpenReadsSingleFiles(t *testing.T) {
	c := open(t, filepath.Join(fixtures, "llama", "model.safetensors"))
	if c.Format() != SafeTensors || len(c.Names()) != 30 || c.Config().Int("hidden_size") != 128 {
		t.Errorf("got %v, %d tensors", c.Format(), len(c.Names()))
	}
	c = open(t, filepath.Join(fixtures, "xverse", "pytorch_model-00002-of-00003.bin"))
	if c.Format() != Torch || c.Config().String("model_type") != "xverse" {
		t.Errorf("got %v, %v", c.Format(), c.Config().Err())
	}
}

// Hugging Face's cache consists of symbolic links.
func TestOpenFollowsSymbolicLinks(t *testing.T) {
	dir := t.TempDir()
	from, err := filepath.Abs(filepath.Join(fixtures, "llama-sharded"))
	if err != nil {
		t.Fatal(err)
	}
	entries, _ := os.ReadDir(from)
	for _, e := range entries {
		if err := os.Symlink(filepath.Join(from, e.Name()), filepath.Join(dir, e.Name())); err != nil {
			t.Skip(err)
		}
	}
	if c := open(t, dir); len(c.Names()) != 30 {
		t.Errorf("%d tensors", len(c.Names()))
	}
}

// Everything in ../shared/fixtures is a model directory of some family.
func TestOpenReadsSharedFixtures(t *testing.T) {
	dir := os.Getenv("PUMICE_SHARED")
	if dir == "" {
		dir = "../../shared"
	}
	dirs, _ := filepath.Glob(filepath.Join(dir, "fixtures", "*", "config.json"))
	if len(dirs) == 0 {
		t.Skip("no shared fixtures: set PUMICE_SHARED")
	}
	for _, config := range dirs {
		c := open(t, filepath.Dir(config))
		if len(c.Names()) < 10 || c.Config().Int("vocab_size") == 0 && c.Config().Has("vocab_size") {
			t.Errorf("%s: %d tensors", config, len(c.Names()))
		}
	}
}

func TestPrefetchSucceedsForAnyRows(t *testing.T) {
	for _, name := range []string{"llama", "xverse"} {
		c, err := Open(t.Context(), filepath.Join(fixtures, name))
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range c.Names() {
			x, _ := c.Tensor(name)
			rows := x.Rows()
			for _, r := range [][2]int{{0, rows}, {rows / 2, rows - rows/2}, {rows - 1, 1}, {rows, 0}} {
				x.Prefetch(r[0], r[1])
			}
			if err := willNeed(x.Data, x.Offset); err != nil {
				t.Errorf("%s at %d: %v", name, x.Offset, err)
			}
		}
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	}
}

func TestCloseIsIdempotent(t *testing.T) {
	c, err := Open(t.Context(), filepath.Join(fixtures, "llama"))
	if err != nil {
		t.Fatal(err)
	}
	x, _ := c.Tensor("model.norm.weight")
	for range 2 {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	}
	if x.Data != nil {
		t.Error("Data is not nil after Close")
	}
}

// writeGGUF writes a file of tensors in every type that weights have and
// returns their values as stored.
func writeGGUF(t testing.TB, path string, meta []ggufwrite.KV, names ...string) map[string][]float32 {
	t.Helper()
	rng := rand.New(rand.NewPCG(9, 10))
	values := map[string][]float32{}
	var tensors []ggufwrite.Tensor
	for _, name := range names {
		for _, d := range []dtype.DType{dtype.F32, dtype.F16, dtype.BF16, dtype.Q8_0, dtype.Q4_0, dtype.Q4_1} {
			x := make([]float32, 3*96)
			for i := range x {
				x[i] = float32(rng.NormFloat64())
			}
			tensor := ggufwrite.Float32s(name+"."+d.String(), d, []int{3, 96}, x)
			d.Decode(x, tensor.Data)
			values[tensor.Name] = x
			tensors = append(tensors, tensor)
		}
	}
	if err := ggufwrite.Write(path, meta, tensors); err != nil {
		t.Fatal(err)
	}
	return values
}

func checkValues(t *testing.T, c *Checkpoint, values map[string][]float32) {
	t.Helper()
	if len(c.Names()) != len(values) {
		t.Errorf("%d tensors, want %d", len(c.Names()), len(values))
	}
	for name, want := range values {
		x, ok := c.Tensor(name)
		if !ok || x.Rows() != 3 || x.Cols() != 96 {
			t.Errorf("%s is missing or of another shape", name)
			continue
		}
		got := make([]float32, 96)
		for i := range 3 {
			x.DType.Decode(got, x.Row(i, nil))
			if d := cmp.Diff(want[96*i:96*i+96], got); d != "" {
				t.Errorf("%s row %d: %s", name, i, d)
			}
		}
	}
}

func TestGGUFReadsTensorsAndMetadata(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "tiny.gguf")
	meta := []ggufwrite.KV{
		{Key: "general.architecture", Value: "llama"},
		{Key: "u8", Value: uint8(200)}, {Key: "i8", Value: int8(-100)}, {Key: "u16", Value: uint16(60000)}, {Key: "i16", Value: int16(-30000)},
		{Key: "u32", Value: uint32(4e9)}, {Key: "i32", Value: int32(-2e9)}, {Key: "u64", Value: uint64(1) << 62}, {Key: "i64", Value: int64(-1) << 62},
		{Key: "f32", Value: float32(0.5)}, {Key: "f64", Value: 1e-300}, {Key: "yes", Value: true}, {Key: "huge", Value: uint64(math.MaxUint64)},
		{Key: "words", Value: []string{"a", "", "Größe"}}, {Key: "scores", Value: []float32{0, -1.5}}, {Key: "kinds", Value: []int32{1, 3, -6}},
		{Key: "map", Value: []uint8{0, 255}}, {Key: "signed", Value: []int8{0, -1}}, {Key: "none", Value: []string{}},
	}
	values := writeGGUF(t, path, meta, "w")
	for _, p := range []string{path, dir} {
		c := open(t, p)
		if c.Format() != GGUF || c.Config() != nil || c.GenerationConfig() != nil {
			t.Error("want GGUF and no config")
		}
		checkValues(t, c, values)
		m := c.Metadata()
		got := []any{m.String("general.architecture"), m.Int("u8"), m.Int("i8"), m.Int("u16"), m.Int("i16"), m.Int("u32"), m.Int("i32"), m.Int("u64"), m.Int("i64"),
			m.Float("f32"), m.Float("f64"), m.Float("u8"), m.Bool("yes"), m.Strings("words"), m.Floats("scores"), m.Ints("kinds"), m.Bytes("map"), m.Bytes("signed"),
			m.Strings("none"), m.Strings("absent"), m.IntOr("absent", 7), m.Has("absent"), m.Has("u8"), m.Ints("u8"), m.Describe("words"), m.Describe("f32")}
		want := []any{"llama", 200, -100, 60000, -30000, 4000000000, -2000000000, 1 << 62, -1 << 62,
			0.5, 1e-300, 200.0, true, []string{"a", "", "Größe"}, []float32{0, -1.5}, []int{1, 3, -6}, []byte{0, 255}, []byte{0, 255},
			[]string{}, []string(nil), 7, false, true, []int{200}, `["a","","Größe"]`, "0.5"}
		if d := cmp.Diff(want, got); d != "" {
			t.Error(d)
		}
		if m.Err() != nil {
			t.Error(m.Err())
		}
		if len(m.Keys()) != len(meta) || m.Keys()[1] != "u8" {
			t.Error(m.Keys())
		}
		if m.Int("huge"); m.Err() == nil {
			t.Error("2^64-1 was accepted as an int")
		}
	}
}

func TestGGUFReadsSplitFiles(t *testing.T) {
	dir := t.TempDir()
	split := func(no int) []ggufwrite.KV {
		return []ggufwrite.KV{{Key: "split.no", Value: uint16(no)}, {Key: "split.count", Value: uint16(2)}, {Key: "split.tensors.count", Value: int32(12)}}
	}
	first, second := filepath.Join(dir, "m-00001-of-00002.gguf"), filepath.Join(dir, "m-00002-of-00002.gguf")
	values := writeGGUF(t, first, append(split(0), ggufwrite.KV{Key: "x", Value: "y"}), "a")
	for name, v := range writeGGUF(t, second, split(1), "b") {
		values[name] = v
	}
	for _, p := range []string{first, dir} {
		c := open(t, p)
		checkValues(t, c, values)
		if c.Metadata().String("x") != "y" {
			t.Error(c.Metadata().Err())
		}
	}
	if _, err := Open(t.Context(), second); !isTyped(err) {
		t.Errorf("second part: %v", err)
	}
	writeGGUF(t, second, split(1), "a")
	if _, err := Open(t.Context(), first); !isTyped(err) {
		t.Errorf("the same tensors twice: %v", err)
	}
	writeGGUF(t, second, split(0), "b")
	if _, err := Open(t.Context(), first); !isTyped(err) {
		t.Errorf("wrong part: %v", err)
	}
	os.Remove(second)
	if _, err := Open(t.Context(), first); !isTyped(err) {
		t.Errorf("missing part: %v", err)
	}
}

func TestDirectoryWithSeveralModelsIsRefused(t *testing.T) {
	dir := t.TempDir()
	if _, err := Open(t.Context(), dir); !isTyped(err) {
		t.Errorf("empty directory: %v", err)
	}
	writeGGUF(t, filepath.Join(dir, "a.gguf"), nil, "w")
	writeGGUF(t, filepath.Join(dir, "b.gguf"), nil, "w")
	if _, err := Open(t.Context(), dir); !isTyped(err) {
		t.Errorf("two models: %v", err)
	}
	if _, err := Open(t.Context(), filepath.Join(dir, "c.gguf")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("no such file: %v", err)
	}
}

func TestVocabularyLoadsFast(t *testing.T) {
	const n = 300_000
	words, scores, kinds := make([]string, n), make([]float32, n), make([]int32, n)
	for i := range words {
		words[i] = "token" + string(rune('a'+i%26))
	}
	path := filepath.Join(t.TempDir(), "v.gguf")
	err := ggufwrite.Write(path, []ggufwrite.KV{{Key: "t", Value: words}, {Key: "s", Value: scores}, {Key: "k", Value: kinds}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	c := open(t, path)
	m := c.Metadata()
	for name, load := range map[string]func() int{
		"tokens": func() int { return len(m.Strings("t")) },
		"scores": func() int { return len(m.Floats("s")) },
		"types":  func() int { return len(m.Ints("k")) },
	} {
		start := time.Now()
		if load() != n || m.Err() != nil {
			t.Errorf("%s: %v", name, m.Err())
		}
		// The goal is 100 ms; a loaded machine gets more time.
		if d := time.Since(start); d > time.Second {
			t.Errorf("%s took %v", name, d)
		} else {
			t.Logf("%s: %v", name, d)
		}
	}
}

// PUMICE_TEST_SMOLLM2 is the path of SmolLM2-135M-Instruct.Q4_1.gguf.
func TestRealModel(t *testing.T) {
	path := os.Getenv("PUMICE_TEST_SMOLLM2")
	if path == "" {
		t.Skip("PUMICE_TEST_SMOLLM2 is not set")
	}
	c := open(t, path)
	types := map[dtype.DType]int{}
	for _, name := range c.Names() {
		x, _ := c.Tensor(name)
		types[x.DType]++
	}
	if d := cmp.Diff(map[dtype.DType]int{dtype.Q4_1: 210, dtype.F32: 61, dtype.Q8_0: 1}, types); d != "" {
		t.Error(d)
	}
	m := c.Metadata()
	if m.Int("llama.block_count") != 30 || len(m.Strings("tokenizer.ggml.tokens")) != 49152 || len(m.Strings("tokenizer.ggml.merges")) != 48900 ||
		m.String("tokenizer.ggml.pre") != "smollm" || m.Float("llama.rope.freq_base") != 100000 || m.Err() != nil {
		t.Error(m.Err())
	}
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	x, _ := c.Tensor("token_embd.weight")
	if !slices.Equal(x.Shape, []int{49152, 576}) || sha256.Sum256(raw[x.Offset:x.Offset+49152*576/32*34]) != sha256.Sum256(x.Data) {
		t.Errorf("token_embd: %v", x.Shape)
	}
}

func isTyped(err error) bool {
	var f *FormatError
	var u *UnsupportedError
	return errors.As(err, &f) && f.File != "" && f.Msg != "" || errors.As(err, &u) && u.File != "" && u.Feature != ""
}

// Repositories of GGUF files often have the original model's config.json.
func TestGGUFBesideConfigOpens(t *testing.T) {
	dir := t.TempDir()
	values := writeGGUF(t, filepath.Join(dir, "a.gguf"), nil, "w")
	if err := os.WriteFile(filepath.Join(dir, "config.json"), []byte("{}"), 0o600); err != nil {
		t.Fatal(err)
	}
	c := open(t, dir)
	checkValues(t, c, values)
	if c.Config() != nil {
		t.Error("GGUF has no config")
	}
}
