package tokenizer

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"pumice/checkpoint"
)

// openGGUF builds the vocabulary of a GGUF file as the root package does.
func openGGUF(t testing.TB, path string) *Tokenizer {
	t.Helper()
	c, err := checkpoint.Open(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	m := c.Metadata()
	const ns = "tokenizer.ggml."
	optional := func(key string) *bool {
		if !m.Has(ns + key) {
			return nil
		}
		v := m.Bool(ns + key)
		return &v
	}
	v := GGUFVocab{
		File: path, Model: m.String(ns + "model"), Pre: m.StringOr(ns+"pre", ""), Tokens: m.Strings(ns + "tokens"),
		Scores: m.Floats(ns + "scores"), Merges: m.Strings(ns + "merges"),
		BOS: m.IntOr(ns+"bos_token_id", -1), EOS: m.IntOr(ns+"eos_token_id", -1),
		UNK: m.IntOr(ns+"unknown_token_id", -1), PAD: m.IntOr(ns+"padding_token_id", -1),
		AddBOS: optional("add_bos_token"), AddEOS: optional("add_eos_token"), AddSpacePrefix: optional("add_space_prefix"),
	}
	for _, k := range m.Ints(ns + "token_type") {
		v.Types = append(v.Types, int32(k))
	}
	if err := m.Err(); err != nil {
		t.Fatal(err)
	}
	tok, err := NewGGUF(t.Context(), v)
	if err != nil {
		t.Fatal(err)
	}
	return tok
}

// ggmlPairs reads llama.cpp's .inp and .out files: texts and their ids without BOS.
func ggmlPairs(t testing.TB, path string) (texts []string, ids [][]int) {
	t.Helper()
	inp, err := os.ReadFile(path + ".inp")
	if err != nil {
		t.Fatal(err)
	}
	out, err := os.ReadFile(path + ".out")
	if err != nil {
		t.Fatal(err)
	}
	texts = strings.Split(string(inp), "\n__ggml_vocab_test__\n")
	for line := range strings.Lines(string(out)) {
		row := []int{}
		for _, f := range strings.Fields(line) {
			id, err := strconv.Atoi(f)
			if err != nil {
				t.Fatal(err)
			}
			row = append(row, id)
		}
		ids = append(ids, row)
	}
	if len(texts) != len(ids) && len(texts) != len(ids)+1 {
		t.Fatalf("%s: %d texts, %d rows of ids", path, len(texts), len(ids))
	}
	return texts[:len(ids)], ids
}

func TestGGUFVocabulariesMatchLlamaCpp(t *testing.T) {
	dir := sharedDir(t, "tokenizers", "llama.cpp-vocabs")
	for _, name := range []string{"llama-spm", "falcon", "gpt-2", "mpt"} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(dir, "ggml-vocab-"+name+".gguf")
			checkPairs(t, openGGUF(t, path), path)
		})
	}
	for _, name := range []string{"baichuan", "gpt-neox"} { // no pairs for these
		t.Run(name, func(t *testing.T) {
			tok := openGGUF(t, filepath.Join(dir, "ggml-vocab-"+name+".gguf"))
			const text = "Hello world, 你好 123\n"
			if got := tok.Decode(tok.Encode(text, EncodeOptions{}), true); got != text {
				t.Errorf("got %q, want %q", got, text)
			}
		})
	}
	t.Run("qwen2", func(t *testing.T) {
		checkPairs(t, open(t, sharedDir(t, "tokenizers", "qwen3"), Options{}), filepath.Join(dir, "ggml-vocab-qwen2.gguf"))
	})
	t.Run("llama-bpe", func(t *testing.T) {
		files := os.Getenv("PUMICE_TEST_TOKENIZERS")
		if files == "" {
			t.Skip("PUMICE_TEST_TOKENIZERS names no directory with llama3/tokenizer.json")
		}
		checkPairs(t, open(t, filepath.Join(files, "llama3"), Options{}), filepath.Join(dir, "ggml-vocab-llama-bpe.gguf"))
	})
}

func checkPairs(t *testing.T, tok *Tokenizer, path string) {
	t.Helper()
	texts, ids := ggmlPairs(t, path)
	for i, text := range texts {
		if diff := cmp.Diff(ids[i], append([]int{}, tok.Encode(text, EncodeOptions{})...)); diff != "" {
			t.Errorf("%q (-want +got):\n%s", text, diff)
		}
	}
	t.Logf("%d pairs", len(texts))
}

// vocabOf writes a byte-level tokenizer.json as a GGUF vocabulary.
func vocabOf(t testing.TB, dir, pre string) GGUFVocab {
	t.Helper()
	var f struct {
		Added []struct {
			ID      int
			Content string
			Special bool
		} `json:"added_tokens"`
		Model struct {
			Vocab  map[string]int
			Merges []json.RawMessage
		}
	}
	if err := json.Unmarshal(readMaybeGzip(t, filepath.Join(dir, "tokenizer.json")), &f); err != nil {
		t.Fatal(err)
	}
	n := 0
	for _, id := range f.Model.Vocab {
		n = max(n, id+1)
	}
	for _, a := range f.Added {
		n = max(n, a.ID+1)
	}
	v := GGUFVocab{File: dir, Model: "gpt2", Pre: pre, Tokens: make([]string, n), Types: make([]int32, n), BOS: -1, EOS: -1, UNK: -1, PAD: -1}
	for text, id := range f.Model.Vocab {
		v.Tokens[id], v.Types[id] = text, int32(pieceNormal)
	}
	for _, a := range f.Added {
		v.Tokens[a.ID], v.Types[a.ID] = a.Content, int32(pieceUserDefined)
		if a.Special {
			v.Types[a.ID] = int32(pieceControl)
		}
	}
	for _, raw := range f.Model.Merges {
		left, right, err := splitMerge(newReader(t.Context(), dir, 0), raw)
		if err != nil {
			t.Fatal(err)
		}
		v.Merges = append(v.Merges, left+" "+right)
	}
	return v
}

func TestGGUFPreTokenizersMatchVectors(t *testing.T) {
	for name, pre := range map[string]string{"bbpe-llama3": "llama-bpe", "bbpe-qwen2": "qwen2", "smollm2": "smollm", "bbpe-neox": "mpt"} {
		t.Run(name, func(t *testing.T) {
			dir := filepath.Join("testdata", name)
			tok, err := NewGGUF(t.Context(), vocabOf(t, dir, pre))
			if err != nil {
				t.Fatal(err)
			}
			for _, v := range readVectors(t, dir) {
				if (name == "bbpe-qwen2" || name == "bbpe-neox") && !isNFC(v.Text) {
					continue // GGUF has no normalizer
				}
				if diff := cmp.Diff(v.IDs, tok.Encode(v.Text, EncodeOptions{ParseSpecial: true})); diff != "" {
					t.Errorf("%q (-want +got):\n%s", v.Text, diff)
				}
				if got := tok.Decode(v.IDs, false); got != v.Decoded {
					t.Errorf("%v: decoded %q, want %q", v.IDs, got, v.Decoded)
				}
			}
		})
	}
}

func TestEveryGGUFPreTokenizerCompiles(t *testing.T) {
	for name, pre := range ggufPres {
		for _, expr := range pre.patterns {
			if _, err := ggufSplit(expr); err != nil {
				t.Errorf("%s: %q: %v", name, expr, err)
			}
		}
	}
}

func TestGGUFErrorsNameTheKey(t *testing.T) {
	base := func() GGUFVocab {
		return GGUFVocab{File: "x.gguf", Model: "gpt2", Pre: "gpt-2", Tokens: []string{"a", "b", "ab"}, Merges: []string{"a b"}, BOS: -1, EOS: -1, UNK: -1, PAD: -1}
	}
	for name, c := range map[string]struct {
		change func(*GGUFVocab)
		want   string
	}{
		"unknown pre":     {func(v *GGUFVocab) { v.Pre = "zorg" }, `pre-tokenizer "zorg"`},
		"unknown model":   {func(v *GGUFVocab) { v.Model = "rwkv" }, `vocabulary "rwkv"`},
		"no tokens":       {func(v *GGUFVocab) { v.Tokens = nil }, "tokenizer.ggml.tokens"},
		"twice":           {func(v *GGUFVocab) { v.Tokens[1] = "a" }, "tokenizer.ggml.tokens[1]"},
		"merge":           {func(v *GGUFVocab) { v.Merges[0] = "b a" }, "tokenizer.ggml.merges[0]"},
		"not a merge":     {func(v *GGUFVocab) { v.Merges[0] = "ab" }, "tokenizer.ggml.merges[0]"},
		"scores":          {func(v *GGUFVocab) { v.Scores = []float32{1} }, "tokenizer.ggml.scores"},
		"types":           {func(v *GGUFVocab) { v.Types = []int32{1} }, "tokenizer.ggml.token_type"},
		"bos":             {func(v *GGUFVocab) { v.BOS = 3 }, "tokenizer.ggml.bos_token_id"},
		"not utf-8 piece": {func(v *GGUFVocab) { v.Model, v.Tokens[0] = "llama", "\xff" }, "tokenizer.ggml.tokens[0]"},
	} {
		t.Run(name, func(t *testing.T) {
			v := base()
			c.change(&v)
			_, err := NewGGUF(t.Context(), v)
			var format *FormatError
			var unsupported *UnsupportedError
			if !errors.As(err, &format) && !errors.As(err, &unsupported) || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want an error with %q", err, c.want)
			}
		})
	}
}

// XVERSE's GGUF has neither scores nor merges: any two symbols that make a token are joined, leftmost first.
func TestGGUFWithoutScoresMergesLeftmostFirst(t *testing.T) {
	tokens := []string{"<unk>", "<|startoftext|>", "<|endoftext|>", "▁", "a", "b", "c", "ab", "bc", "abc", "cab", "▁a", "<b'\\x00'>"}
	types := []int32{2, 3, 3, 1, 1, 1, 1, 1, 1, 1, 1, 1, 6}
	for b := range 256 {
		tokens, types = append(tokens, byteToken(byte(b))), append(types, 6)
	}
	tok, err := NewGGUF(t.Context(), GGUFVocab{File: "x.gguf", Model: "llama", Pre: "default", Tokens: tokens, Types: types, BOS: 1, EOS: 2, UNK: 0, PAD: -1})
	if err != nil {
		t.Fatal(err)
	}
	for text, want := range map[string][]int{
		"":     {},
		"abc":  {11, 8},    // ▁a is joined first, then bc
		"cab":  {3, 10},    // ca is no token; ab is joined, then cab
		"abab": {11, 5, 7}, // the first a is joined with ▁
		"aé":   {11, 13 + 0xC3, 13 + 0xA9},
		"\x00": {3, 13},
	} {
		if diff := cmp.Diff(want, tok.Encode(text, EncodeOptions{})); diff != "" {
			t.Errorf("%q (-want +got):\n%s", text, diff)
		}
		if got := tok.Decode(want, true); got != text {
			t.Errorf("%v: decoded %q, want %q", want, got, text)
		}
	}
	if diff := cmp.Diff([]int{1, 11}, tok.Encode("a", EncodeOptions{AddSpecial: true})); diff != "" {
		t.Error(diff)
	}
}
