package quantize

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"pumice/checkpoint"
	"pumice/internal/dtype"
	"pumice/internal/synth"
	"pumice/tokenizer"
)

// shaped makes a GGUF file of a size, without its weights, and opens it.
func shaped(t *testing.T, family, size string, to synth.Shape) *checkpoint.Checkpoint {
	t.Helper()
	s, err := synth.Lookup(family, size)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), family+".gguf")
	if err := synth.Write(t.Context(), path, s.Resized(to), synth.Options{DType: dtype.F16, Format: synth.GGUF, Hollow: true}); err != nil {
		t.Fatal(err)
	}
	return open(t, path)
}

func typesOf(t *testing.T, c *checkpoint.Checkpoint, o Options) map[string]dtype.DType {
	t.Helper()
	p, err := NewPlan(t.Context(), c, o)
	if err != nil {
		t.Fatal(err)
	}
	types := map[string]dtype.DType{}
	for _, x := range p.Tensors {
		types[x.Name] = x.DType
	}
	return types
}

// TestMixturesHaveLlamaCppsTypes compares how many matrices have which type with what llama.cpp's loader prints for published
// files: Mistral-7B-Instruct-v0.2 and Llama-3.1-8B-Instruct (Q3_K_L), which have 32 layers and 8 key-value heads of 32. The
// other rows follow from its rules for a model with as many key-value heads as heads, and for Falcon.
func TestMixturesHaveLlamaCppsTypes(t *testing.T) {
	mistral := shaped(t, "llama", "7b", synth.Shape{KVHeads: 8})
	ungrouped := shaped(t, "llama", "7b", synth.Shape{})
	large := shaped(t, "llama", "7b", synth.Shape{Hidden: 8192, Layers: 80, Heads: 64, KVHeads: 8, Intermediate: 28672})
	falcon := shaped(t, "falcon", "7b", synth.Shape{Hidden: 4096, Heads: 64})
	for _, tt := range []struct {
		name string
		c    *checkpoint.Checkpoint
		mix  string
		want map[dtype.DType]int
	}{
		{"mistral", mistral, "Q3_K_M", map[dtype.DType]int{dtype.Q3_K: 129, dtype.Q4_K: 92, dtype.Q5_K: 4, dtype.Q6_K: 1}},
		{"mistral", mistral, "q3_k_l", map[dtype.DType]int{dtype.Q3_K: 129, dtype.Q5_K: 96, dtype.Q6_K: 1}},
		{"mistral", mistral, "Q4_K_M", map[dtype.DType]int{dtype.Q4_K: 193, dtype.Q6_K: 33}},
		{"mistral", mistral, "Q5_K_M", map[dtype.DType]int{dtype.Q5_K: 193, dtype.Q6_K: 33}},
		{"mistral", mistral, "Q3_K_S", map[dtype.DType]int{dtype.Q3_K: 225, dtype.Q6_K: 1}},
		{"mistral", mistral, "Q4_K_S", map[dtype.DType]int{dtype.Q4_K: 217, dtype.Q5_K: 8, dtype.Q6_K: 1}},
		{"mistral", mistral, "Q2_K", map[dtype.DType]int{dtype.Q2_K: 129, dtype.Q3_K: 64, dtype.Q4_K: 32, dtype.Q6_K: 1}},
		{"mistral", mistral, "Q2_K_S", map[dtype.DType]int{dtype.Q2_K: 189, dtype.Q4_K: 36, dtype.Q6_K: 1}},
		{"mistral", mistral, "IQ4_XS", map[dtype.DType]int{dtype.IQ4_XS: 189, dtype.Q5_K: 36, dtype.Q6_K: 1}},
		{"ungrouped", ungrouped, "Q2_K", map[dtype.DType]int{dtype.Q2_K: 129, dtype.Q3_K: 96, dtype.Q6_K: 1}},
		{"ungrouped", ungrouped, "IQ4_NL", map[dtype.DType]int{dtype.IQ4_NL: 221, dtype.Q5_K: 4, dtype.Q6_K: 1}},
		{"80 layers", large, "Q4_K_M", map[dtype.DType]int{dtype.Q4_K: 441, dtype.Q5_K: 40, dtype.Q6_K: 81}},
		{"80 layers", large, "Q3_K_S", map[dtype.DType]int{dtype.Q3_K: 481, dtype.Q5_K: 80, dtype.Q6_K: 1}},
		{"falcon", falcon, "Q3_K_M", map[dtype.DType]int{dtype.Q3_K: 80, dtype.Q4_K: 44, dtype.Q5_K: 4, dtype.Q8_0: 1}},
		{"falcon", falcon, "Q4_K_M", map[dtype.DType]int{dtype.Q4_K: 96, dtype.Q5_K: 14, dtype.Q6_K: 18, dtype.Q8_0: 1}},
		{"falcon", falcon, "Q4_K_S", map[dtype.DType]int{dtype.Q4_K: 124, dtype.Q5_K: 4, dtype.Q8_0: 1}},
	} {
		t.Run(tt.name+" "+tt.mix, func(t *testing.T) {
			got := map[dtype.DType]int{}
			for _, d := range typesOf(t, tt.c, Options{Mix: MixNamed(tt.mix)}) {
				if d != dtype.F32 {
					got[d]++
				}
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

// TestMixtureOfAPublishedFile has the type of each tensor of gemma-3-270m-q4_k_m.gguf, which llama.cpp made. 256 does not divide
// its rows of 640, and its embedding is the head.
func TestMixtureOfAPublishedFile(t *testing.T) {
	text, err := os.ReadFile("../checkpoint/testdata/gemma.json")
	if err != nil {
		t.Fatal(err)
	}
	var published map[string][2]string // type and hash
	if err := json.Unmarshal(text, &published); err != nil {
		t.Fatal(err)
	}
	want := map[string]string{}
	for name, x := range published {
		want[name] = x[0]
	}
	got := map[string]string{}
	for name, d := range typesOf(t, shaped(t, "gemma3", "270m", synth.Shape{}), Options{Mix: MixNamed("Q4_K_M")}) {
		got[name] = d.String()
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// TestMixturesOfTheEmbedding: a head of its own has more bits, and an embedding that is the head; --pure turns that off.
func TestMixturesOfTheEmbedding(t *testing.T) {
	untied, tied := shaped(t, "llama", "7b", synth.Shape{}), shaped(t, "gemma3", "1b", synth.Shape{Hidden: 1024})
	for _, tt := range []struct {
		name        string
		c           *checkpoint.Checkpoint
		pure        bool
		embed, head dtype.DType
	}{
		{"untied", untied, false, dtype.Q4_K, dtype.Q6_K}, {"tied", tied, false, dtype.Q6_K, dtype.Invalid},
		{"untied, pure", untied, true, dtype.Q4_K, dtype.Q4_K}, {"tied, pure", tied, true, dtype.Q4_K, dtype.Invalid},
	} {
		got := typesOf(t, tt.c, Options{Mix: MixNamed("Q4_K_M"), Pure: tt.pure})
		if got["token_embd.weight"] != tt.embed || got["output.weight"] != tt.head {
			t.Errorf("%s: embedding %s, head %s", tt.name, got["token_embd.weight"], got["output.weight"])
		}
		if d := got["blk.0.ffn_down.weight"]; tt.pure != (d == dtype.Q4_K) {
			t.Errorf("%s: ffn_down is %s", tt.name, d)
		}
	}
}

// A file of a mixture says so, and is read.
func TestMixtureIsWritten(t *testing.T) {
	tok, err := tokenizer.Open(t.Context(), "../tokenizer/testdata/xverse-a")
	if err != nil {
		t.Fatal(err)
	}
	s, err := synth.Lookup("llama", synth.Tiny)
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(t.TempDir(), "model")
	s = s.Resized(synth.Shape{Hidden: 256, Intermediate: 256, Layers: 8, Vocab: tok.VocabSize()})
	if err := synth.Write(t.Context(), dir, s, synth.Options{DType: dtype.F32}); err != nil {
		t.Fatal(err)
	}
	for _, pure := range []bool{false, true} {
		file := write(t, dir, Options{Mix: MixNamed("Q5_K_M"), Pure: pure, Tokenizer: tok})
		want := 17
		if pure {
			want = int(fileTypes[dtype.Q5_K])
		}
		if got := file.Metadata().Int(fileTypeKey); got != want {
			t.Errorf("file type %d, want %d", got, want)
		}
		if x, _ := file.Tensor("blk.7.ffn_down.weight"); pure != (x.DType == dtype.Q5_K) {
			t.Errorf("pure %v: ffn_down of the last layer is %s", pure, x.DType)
		}
	}
	if names := strings.Join(MixNames(), " "); names != "q2_k_s q3_k_s q3_k_m q3_k_l q4_k_s q4_k_m q5_k_s q5_k_m" {
		t.Errorf("mixtures %s", names)
	}
}
