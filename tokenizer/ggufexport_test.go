package tokenizer

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"golang.org/x/text/unicode/norm"
)

// A tokenizer's GGUF vocabulary gives the same tokens.
func TestGGUFKeepsTokens(t *testing.T) {
	for name, want := range map[string]struct {
		model, pre string
		apart      string // texts with this token differ: llama.cpp begins the text after it with another space
	}{
		"xverse-a": {"llama", "default", ""}, "xverse-b": {"llama", "default", ""}, "spm-llama": {"llama", "default", ""},
		"spm-baichuan": {"llama", "default", ""}, "spm-internlm": {"llama", "default", "<eoh>"}, "spm-chatglm2": {"llama", "chatglm-spm", ""},
		"bbpe-neox": {"gpt2", "gpt-2", ""}, "bbpe-falcon": {"gpt2", "falcon", ""}, "bbpe-llama3": {"gpt2", "llama-bpe", ""},
		"bbpe-qwen2": {"gpt2", "qwen2", ""}, "smollm2": {"gpt2", "smollm", ""}, "wordpiece": {"bert", "default", ""}, "wordpiece-cased": {"bert", "default", ""},
	} {
		t.Run(name, func(t *testing.T) {
			dir := "testdata/" + name
			tok := open(t, dir, Options{ChatGLM: name == "spm-chatglm2"})
			size := tok.VocabSize() + 3
			v, err := tok.GGUF(t.Context(), size)
			if err != nil {
				t.Fatal(err)
			}
			if v.Model != want.model || v.Pre != want.pre {
				t.Errorf("a vocabulary %s %s, want %s %s", v.Model, v.Pre, want.model, want.pre)
			}
			if last := v.Tokens[size-1]; len(v.Tokens) != size || !strings.HasPrefix(strings.TrimPrefix(last, spaceSymbol), "[PAD") || v.Types[size-1] != int32(pieceUnused) {
				t.Errorf("%d tokens, the last is %q of type %d; want %d, the last three unused", len(v.Tokens), last, v.Types[size-1], size)
			}
			other, err := NewGGUF(t.Context(), v)
			if err != nil {
				t.Fatal(err)
			}
			for i, vec := range readVectors(t, dir) {
				if !norm.NFC.IsNormalString(vec.Text) || want.apart != "" && strings.Contains(vec.Text, want.apart) {
					continue
				}
				for _, o := range []EncodeOptions{{}, {AddSpecial: true}, {ParseSpecial: true}} {
					if got, ids := other.Encode(vec.Text, o), tok.Encode(vec.Text, o); !slices.Equal(got, ids) {
						t.Errorf("text %d, %q, with %+v: got %v, want %v", i, vec.Text, o, got, ids)
					}
				}
			}
			for id := range size - 3 {
				if other.IsSpecial(id) != tok.IsSpecial(id) {
					t.Errorf("token %d, %q: special %t, want %t", id, tok.Piece(id), other.IsSpecial(id), tok.IsSpecial(id))
				}
			}
		})
	}
}

// Fitting a tokenizer to the model's size may remove only added tokens.
func TestGGUFOfFewerTokens(t *testing.T) {
	tok := open(t, "testdata/smollm2", Options{})
	var format *FormatError
	if _, err := tok.GGUF(t.Context(), 1000); !errors.As(err, &format) || !strings.Contains(err.Error(), "beyond the model's 1000 tokens") {
		t.Errorf("1000 tokens: %v", err)
	}
}

func TestGGUFRefusesWhatItCannotHold(t *testing.T) {
	for name, want := range map[string]string{
		"spm-nfkc": "normalises", "spm-suffix": "spaces after words", "spm-unigram": "no vocabulary of that format",
	} {
		tok := open(t, "testdata/"+name, Options{})
		var unsupported *UnsupportedError
		if _, err := tok.GGUF(t.Context(), tok.VocabSize()); !errors.As(err, &unsupported) || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", name, err, want)
		}
	}
}
