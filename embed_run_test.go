package pumice_test

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"pumice"
	"pumice/chat"
)

// embeddingGolden is a fixture's embeddings.json (testdata/fixtures/README.md).
type embeddingGolden struct {
	Texts []struct {
		Text   string
		IDs    []int
		Pooled map[pumice.Pooling]span
		Unit   map[pumice.Pooling]span
	}
	blob []byte
}

type span struct{ Offset, Count int }

func (g *embeddingGolden) floats(s span) []float32 {
	out := make([]float32, s.Count)
	for i := range out {
		out[i] = math.Float32frombits(binary.LittleEndian.Uint32(g.blob[s.Offset+4*i:]))
	}
	return out
}

func readEmbeddings(t *testing.T, dir string) *embeddingGolden {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(dir, "embeddings.json"))
	if err != nil {
		t.Fatal(err)
	}
	g := &embeddingGolden{}
	if err := json.Unmarshal(text, g); err != nil {
		t.Fatal(err)
	}
	if g.blob, err = os.ReadFile(filepath.Join(dir, "embeddings.f32")); err != nil {
		t.Fatal(err)
	}
	return g
}

// Bounds of embeddings in float32: the largest absolute error and the cosine distance to transformers' float64, and the
// largest difference between a text in a batch and by itself. Components have a standard deviation of about 1.
const (
	embeddingBound = 1e-3
	cosineBound    = 1e-6
	batchBound     = 1e-4
)

// apart returns the largest absolute difference of two vectors and their cosine distance.
func apart(a, b []float32) (most, cosine float64) {
	var ab, aa, bb float64
	for i := range a {
		x, y := float64(a[i]), float64(b[i])
		most = max(most, math.Abs(x-y))
		ab, aa, bb = ab+x*y, aa+x*x, bb+y*y
	}
	return most, 1 - ab/math.Sqrt(aa*bb)
}

// exactPaths are the kernel paths of the test device that compute in float32.
func exactPaths(t *testing.T) []string {
	t.Helper()
	needDevice(t)
	d, err := pumice.OpenDevice(pumice.Options{Device: os.Getenv("PUMICE_DEVICE")})
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	return slices.DeleteFunc([]string{"base", "row", "addr", "sg"}, func(path string) bool {
		return path != "base" && !slices.Contains(d.Info().KernelPaths, path)
	})
}

// TestEmbeddingsMatchTransformers embeds texts of 1, 5 and 40 tokens and one that is longer than a chunk or several
// windows, together and one by one, with every pooling.
func TestEmbeddingsMatchTransformers(t *testing.T) {
	if testing.Short() {
		t.Skip("-short: the run on the main driver has it")
	}
	normalizations := []pumice.Normalization{pumice.NormalizeNone, pumice.NormalizeL2}
	for _, name := range []string{"qwen3-embedding", "mistral", "bert"} {
		for _, path := range exactPaths(t) {
			t.Run(name+"/"+path, func(t *testing.T) {
				dir := filepath.Join("testdata", "fixtures", name)
				g := readEmbeddings(t, dir)
				e := openEngine(t, dir, pumice.Options{DType: "f32", KVType: "f32", Context: 1024, KernelPath: path})
				var texts [][]int
				for _, x := range g.Texts {
					texts = append(texts, x.IDs)
				}
				for _, pooling := range pumice.Poolings() {
					for _, normalization := range normalizations {
						o := pumice.EmbedOptions{Pooling: pooling, Normalization: normalization}
						together, err := e.EmbedTokens(t.Context(), texts, o)
						if err != nil {
							t.Fatal(err)
						}
						var most, cosine, batch float64
						for i, x := range g.Texts {
							alone, err := e.EmbedTokens(t.Context(), texts[i:i+1], o)
							if err != nil {
								t.Fatal(err)
							}
							golden := x.Pooled
							if normalization == pumice.NormalizeL2 {
								golden = x.Unit
							}
							for _, got := range [][]float32{together.Vectors[i], alone.Vectors[0]} {
								m, c := apart(got, g.floats(golden[pooling]))
								most, cosine = max(most, m), max(cosine, c)
							}
							m, _ := apart(together.Vectors[i], alone.Vectors[0])
							batch = max(batch, m)
						}
						t.Logf("%s, %s: max abs %.2g, cosine distance %.2g, batch from alone %.2g", pooling, normalization, most, cosine, batch)
						if !(most <= embeddingBound && cosine <= cosineBound && batch <= batchBound) {
							t.Errorf("%s, %s: max abs %.2g, cosine distance %.2g, batch from alone %.2g", pooling, normalization, most, cosine, batch)
						}
					}
				}
			})
		}
	}
}

// TestEmbedTextsAsTheModelSays gives texts, the empty one among them, to models with a tokenizer and a modules.json, or
// GGUF's keys for both: the tokenizer adds its tokens, and the rows that the model says are pooled and normalized.
func TestEmbedTextsAsTheModelSays(t *testing.T) {
	if testing.Short() {
		t.Skip("-short: the run on the main driver has it")
	}
	exact, stored := pumice.Options{DType: "f32", KVType: "f32"}, pumice.Options{}
	dir := func(t *testing.T, name string) string { return filepath.Join("testdata", "fixtures", name) }
	gguf := func(t *testing.T, name string) string { return pumice.UnpackedGGUF(t, name+".gguf") }
	for _, c := range []struct {
		name, fixture string
		path          func(t *testing.T, name string) string
		pooling       pumice.Pooling
		o             pumice.Options
		most, cosine  float64
	}{
		{"qwen3-embedding, f32", "qwen3-embedding", dir, pumice.PoolingLast, exact, embeddingBound, cosineBound},
		{"qwen3-embedding as stored", "qwen3-embedding", dir, pumice.PoolingLast, stored, 0.01, 1e-4}, // 1.3e-4 and 4e-8 on lavapipe; fp16 and cm kernels round more
		{"bert, f32", "bert", dir, pumice.PoolingMean, exact, embeddingBound, cosineBound},
		{"bert as stored", "bert", dir, pumice.PoolingMean, stored, 0.01, 1e-4},
		{"bert from GGUF, f32", "bert", gguf, pumice.PoolingMean, exact, embeddingBound, cosineBound},
	} {
		t.Run(c.name, func(t *testing.T) {
			g := readEmbeddings(t, dir(t, c.fixture))
			c.o.Context = 1024
			e := openEngine(t, c.path(t, c.fixture), c.o)
			var texts []string
			var tokens []int
			for _, x := range g.Texts {
				texts, tokens = append(texts, x.Text), append(tokens, len(x.IDs))
				ids, err := e.Encode(x.Text)
				if err != nil || !slices.Equal(ids, x.IDs) {
					t.Fatalf("%q is %v, want %v; %v", x.Text, ids, x.IDs, err)
				}
			}
			got, err := e.Embed(t.Context(), texts, pumice.EmbedOptions{})
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tokens, got.Tokens); diff != "" || got.Pooling != c.pooling || !got.Normalized {
				t.Errorf("pooled by %s, normalized %t; tokens (-want +got):\n%s", got.Pooling, got.Normalized, diff)
			}
			for i, x := range g.Texts {
				most, cosine := apart(got.Vectors[i], g.floats(x.Unit[c.pooling]))
				t.Logf("text %d: max abs %.2g, cosine distance %.2g", i, most, cosine)
				if !(most <= c.most && cosine <= c.cosine) {
					t.Errorf("text %d: max abs %g, cosine distance %g", i, most, cosine)
				}
			}
		})
	}
}

// TestEncodersGenerateNothing: whatever needs a next token says what the model is, and what it is for.
func TestEncodersGenerateNothing(t *testing.T) {
	e := openEngine(t, filepath.Join("testdata", "fixtures", "bert"), pumice.Options{})
	s, prompt := e.NewSession(), []int{2, 9, 3}
	_, start := s.Start(pumice.Request{Prompt: prompt})
	_, format := e.ChatFormat()
	_, encode := e.EncodeChat(t.Context(), []chat.Message{{Role: "user", Content: "Hi"}}, chat.Options{})
	errs := map[string]error{"start": start, "chat format": format, "encode chat": encode}
	for _, err := range s.Generate(t.Context(), prompt, pumice.GenerateOptions{}) {
		errs["generate"] = err
	}
	for _, err := range s.Logits(t.Context(), prompt, true) {
		errs["logits"] = err
	}
	for _, name := range []string{"start", "chat format", "encode chat", "generate", "logits"} {
		if err := errs[name]; !errors.Is(err, pumice.ErrEncoder) || !strings.HasSuffix(err.Error(), "use embed") {
			t.Errorf("%s: %v", name, err)
		}
	}
	_, err := e.EmbedTokens(t.Context(), [][]int{{2, 3}, make([]int, 161)}, pumice.EmbedOptions{})
	var long *pumice.PromptError
	if !errors.As(err, &long) || long.Tokens != 161 || long.Context != 160 {
		t.Errorf("a text of 161 tokens: %v", err)
	}
}

// TestEmbedBetweenTurns embeds texts in the middle of a conversation, which goes on with the same tokens.
func TestEmbedBetweenTurns(t *testing.T) {
	if testing.Short() {
		t.Skip("-short: the run on the main driver has it")
	}
	e := openEngine(t, filepath.Join("testdata", "fixtures", "mistral"), pumice.Options{DType: "f32", KVType: "f32", Context: 512})
	g := readEmbeddings(t, filepath.Join("testdata", "fixtures", "mistral"))
	turns := func(between func()) (tokens []int) {
		s := e.NewSession()
		prompt := slices.Clone(g.Texts[2].IDs)
		for range 2 {
			for _, err := range s.Generate(t.Context(), prompt, pumice.GenerateOptions{MaxTokens: 12, IgnoreEOS: true}) {
				if err != nil {
					t.Fatal(err)
				}
			}
			tokens = append(tokens, s.Result().Tokens...)
			prompt = append(append(prompt, s.Result().Tokens...), 7, 8, 9)
			between()
		}
		return tokens
	}
	want := turns(func() {})
	for _, pooling := range pumice.Poolings() {
		got := turns(func() {
			if _, err := e.EmbedTokens(t.Context(), [][]int{g.Texts[1].IDs, g.Texts[2].IDs, g.Texts[3].IDs}, pumice.EmbedOptions{Pooling: pooling}); err != nil {
				t.Fatal(err)
			}
		})
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s: tokens (-without +with):\n%s", pooling, diff)
		}
	}
}
