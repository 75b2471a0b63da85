package model

import (
	"compress/gzip"
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"pumice/checkpoint"
	"pumice/internal/dtype"
	"pumice/internal/ggufwrite"
	"pumice/pipeline"
)

// ggufFixtures are the fixtures that testdata/make_gguf.py has written as GGUF.
var ggufFixtures = []string{
	"baichuan", "baichuan2", "chatglm2", "falcon", "gemma2", "gemma3", "internlm", "llama", "llama3",
	"mistral", "mpt", "qwen2", "qwen3", "smollm2", "xverse",
}

// unpack is the path of a fixture's GGUF file.
func unpack(t *testing.T, name string) string {
	t.Helper()
	packed, err := os.Open(filepath.Join("../testdata/gguf", name+".gguf.gz"))
	if err != nil {
		t.Fatal(err)
	}
	defer packed.Close()
	r, err := gzip.NewReader(packed)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), name+".gguf")
	out, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	if _, err = io.Copy(out, r); err != nil {
		t.Fatal(err)
	}
	if err := out.Close(); err != nil {
		t.Fatal(err)
	}
	return path
}

// sameWeights bounds what two orders of the same sums differ by; goldens have exactBound.
const sameWeights = 1e-4

// TestGGUFMatchesDirectory runs the same weights from both formats: the logits equal the goldens
// and each other.
func TestGGUFMatchesDirectory(t *testing.T) {
	long(t)
	ctx := context.Background()
	for _, name := range ggufFixtures {
		t.Run(name, func(t *testing.T) {
			dir := filepath.Join(fixtureDir, name)
			g := readGolden(t, dir)
			file, directory := load(t, unpack(t, name), exact, pipeline.Options{}), load(t, dir, exact, pipeline.Options{})
			if a, b := file.cfg.MaxPositionEmbeddings, directory.cfg.MaxPositionEmbeddings; a != b {
				t.Errorf("trained for %d positions, the directory says %d", a, b)
			}
			if a, b := directory.cfg.EOSTokenIDs, file.cfg.EOSTokenIDs; len(a) > 0 && (len(b) == 0 || a[0] != b[0]) {
				t.Errorf("end tokens %v, the directory says %v", b, a) // the format has one
			}
			longest := 1 << 30
			if name == "mistral" { // the llama architecture has no window
				longest = directory.cfg.SlidingWindow
			}
			for _, p := range g.Prompts {
				if len(p.IDs) > longest {
					continue
				}
				want, err := directory.forward(ctx, p.IDs, 0, everyLogits)
				if err != nil {
					t.Fatal(err)
				}
				got, err := file.forward(ctx, p.IDs, 0, everyLogits)
				if err != nil {
					t.Fatal(err)
				}
				compare(t, p.Name+" beside the directory", got.Logits, want.Logits, sameWeights)
				compare(t, p.Name, got.Logits[(len(p.IDs)-1)*file.cfg.VocabSize:], g.floats(p.Logits), exactBound)
			}
			if longest > len(g.Prompts[3].IDs) {
				checkGolden(t, file, g, exactBound, 0)
			}
		})
	}
}

// TestMixedQuantisedTypes runs models whose projections have different types, as the mixes of
// GGUF's quantisers do, against the reference over the same dequantised weights.
func TestMixedQuantisedTypes(t *testing.T) {
	long(t)
	mixes := []map[string]dtype.DType{
		{ // in the manner of Q4_K_M
			"token_embd": dtype.Q8_0, "attn_q": dtype.Q4_K, "attn_k": dtype.Q4_K, "attn_v": dtype.Q6_K, "attn_output": dtype.Q4_K,
			"ffn_gate": dtype.Q4_K, "ffn_up": dtype.Q4_K, "ffn_down": dtype.Q6_K, "output": dtype.Q6_K,
		},
		{
			"token_embd": dtype.Q6_K, "attn_q": dtype.Q5_0, "attn_k": dtype.Q8_0, "attn_v": dtype.Q4_K, "attn_output": dtype.Q5_1,
			"ffn_gate": dtype.Q5_K, "ffn_up": dtype.Q5_K, "ffn_down": dtype.Q5_0, "output": dtype.Q8_0,
		},
		{
			"token_embd": dtype.Q4_K, "attn_q": dtype.BF16, "attn_k": dtype.Q4_0, "attn_v": dtype.Q4_1, "attn_output": dtype.Q5_K,
			"ffn_gate": dtype.Q4_1, "ffn_up": dtype.Q4_1, "ffn_down": dtype.Q4_0, "output": dtype.F16,
		},
		{
			"token_embd": dtype.Q5_K, "attn_q": dtype.Q6_K, "attn_k": dtype.Q5_0, "attn_v": dtype.Q8_0, "attn_output": dtype.Q6_K,
			"ffn_gate": dtype.Q6_K, "ffn_up": dtype.Q6_K, "ffn_down": dtype.Q5_1, "output": dtype.Q4_K,
		},
		{
			"token_embd": dtype.Q3_K, "attn_q": dtype.Q2_K, "attn_k": dtype.Q3_K, "attn_v": dtype.IQ4_NL, "attn_output": dtype.IQ4_XS,
			"ffn_gate": dtype.Q2_K, "ffn_up": dtype.Q2_K, "ffn_down": dtype.Q3_K, "output": dtype.IQ4_XS,
		},
		{
			"token_embd": dtype.IQ4_XS, "attn_q": dtype.IQ4_XS, "attn_k": dtype.IQ4_NL, "attn_v": dtype.Q2_K, "attn_output": dtype.Q2_K,
			"ffn_gate": dtype.IQ4_NL, "ffn_up": dtype.IQ4_NL, "ffn_down": dtype.IQ4_XS, "output": dtype.Q2_K,
		},
	}
	for i, types := range mixes {
		path := filepath.Join(t.TempDir(), fmt.Sprintf("mix%d.gguf", i))
		writeLlama(t, path, llamaShape{hidden: 256, layers: 2, heads: 8, kvHeads: 2, inner: 512, vocab: 1003, types: types})
		tokens := []int{5, 1002, 0, 77, 500, 501, 3, 940, 12}
		want := narrow(newReference(t, path).logits(t, tokens))
		for _, kernels := range paths(t) {
			t.Run(fmt.Sprintf("mix%d/%s", i, kernels), func(t *testing.T) {
				x := load(t, path, Options{KVType: dtype.F32, Context: 64}, pipeline.Options{Path: kernels})
				out, err := x.forward(context.Background(), tokens, 0, lastLogits) // by matrix products
				if err != nil {
					t.Fatal(err)
				}
				compare(t, "prefill", out.Logits, want, exactBound)
				for p := range tokens { // by matrix-vector products
					if out, err = x.forward(context.Background(), tokens[p:p+1], p, lastLogits); err != nil {
						t.Fatal(err)
					}
				}
				compare(t, "decode", out.Logits, want, exactBound)
			})
		}
	}
}

// TestConversionWhileLoading converts a file's matrices to every type: the logits are those of a
// file that was written in the type, to the bit. Rows that the type's blocks do not divide are
// kept in another, which the memory plan says.
func TestConversionWhileLoading(t *testing.T) {
	long(t)
	tokens := []int{5, 1002, 0, 77}
	logits := func(path string, d dtype.DType) ([]float32, MemoryPlan) {
		x := load(t, path, Options{KVType: dtype.F32, Context: 64, DType: d}, pipeline.Options{})
		out, err := x.forward(context.Background(), tokens, 0, lastLogits)
		if err != nil {
			t.Fatal(err)
		}
		return slices.Clone(out.Logits), x.Memory()
	}
	shape := llamaShape{hidden: 256, layers: 1, heads: 4, kvHeads: 2, inner: 288, vocab: 1003}
	dir := t.TempDir()
	source := filepath.Join(dir, "f32.gguf")
	writeLlama(t, source, shape)
	for _, d := range dtype.Weights() {
		t.Run(d.String(), func(t *testing.T) {
			as := shape
			as.types = map[string]dtype.DType{}
			for _, name := range []string{"token_embd", "attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate", "ffn_up", "output"} {
				as.types[name] = d
			}
			as.types["ffn_down"] = d.ForRow(shape.inner)
			written := filepath.Join(dir, d.String()+".gguf")
			writeLlama(t, written, as)
			want, _ := logits(written, dtype.Invalid)
			got, plan := logits(source, d)
			if !slices.Equal(got, want) {
				t.Errorf("converted while loading, the logits begin %v; of the file in %s they begin %v", got[:4], d, want[:4])
			}
			var shares []string
			for _, s := range plan.WeightTypes {
				shares = append(shares, strings.TrimSpace(s.Type+" "+s.Instead))
			}
			all := []string{d.String()}
			if other := d.ForRow(shape.inner); other != d {
				all = append(all, other.String()+" "+d.String())
			}
			slices.Sort(shares)
			slices.Sort(all)
			if !slices.Equal(shares, all) {
				t.Errorf("the memory plan lists %q, want %q", shares, all)
			}
		})
	}
}

// TestGGUFRopeScaling reads every way that files spell linear scaling.
func TestGGUFRopeScaling(t *testing.T) {
	long(t)
	kv := func(key string, v any) ggufwrite.KV { return ggufwrite.KV{Key: "llama.rope." + key, Value: v} }
	linear := RopeScaling{Type: "linear", Factor: 4}
	for _, c := range []struct {
		name string
		meta []ggufwrite.KV
		want RopeScaling
		fail string
	}{
		{name: "none"},
		{name: "type none", meta: []ggufwrite.KV{kv("scaling.type", "none"), kv("scaling.factor", float32(4))}},
		{name: "linear", meta: []ggufwrite.KV{kv("scaling.type", "linear"), kv("scaling.factor", float32(4))}, want: linear},
		{name: "no type", meta: []ggufwrite.KV{kv("scaling.factor", float32(4))}, want: linear},
		{name: "old key", meta: []ggufwrite.KV{kv("scale_linear", float32(4))}, want: linear},
		{name: "yarn", meta: []ggufwrite.KV{kv("scaling.type", "yarn"), kv("scaling.factor", float32(4))}, fail: "yarn"},
		{name: "zero", meta: []ggufwrite.KV{kv("scaling.factor", float32(0))}, fail: "positive"},
	} {
		t.Run(c.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "scaling.gguf")
			writeLlama(t, path, llamaShape{hidden: 64, layers: 1, heads: 2, kvHeads: 2, inner: 64, vocab: 32, meta: c.meta})
			file, err := checkpoint.Open(t.Context(), path)
			if err != nil {
				t.Fatal(err)
			}
			defer file.Close()
			cfg, err := ReadConfig(file)
			switch {
			case c.fail != "":
				if err == nil || !strings.Contains(err.Error(), c.fail) {
					t.Errorf("error %v, want one with %q", err, c.fail)
				}
			case err != nil:
				t.Error(err)
			case cfg.Rope.Scaling != c.want:
				t.Errorf("got %+v, want %+v", cfg.Rope.Scaling, c.want)
			}
		})
	}
}
