package tokenizer

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// vocabDir writes a tokenizer's tokens as vocab.txt, with a tokenizer_config.json.
func vocabDir(t *testing.T, tokens []string, config string) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range map[string]string{vocabFile: strings.Join(tokens, "\n") + "\n", "tokenizer_config.json": config} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// TestWordPieceVocabularies reads the vocabularies of both WordPiece tokenizers from a vocab.txt, and from a GGUF file that
// does not say whether it has capitals: ids and texts are the vectors'.
func TestWordPieceVocabularies(t *testing.T) {
	for _, name := range []string{"wordpiece", "wordpiece-cased"} {
		dir := filepath.Join("testdata", name)
		tok := open(t, dir, Options{})
		lower := name == "wordpiece"
		file := open(t, vocabDir(t, tok.pieces, fmt.Sprintf(`{"do_lower_case": %t, "tokenizer_class": "BertTokenizer"}`, lower)), Options{})
		v, err := tok.GGUF(t.Context(), tok.VocabSize()+100) // whose names have capitals
		if err != nil || *v.Lowercase != lower || *v.StripAccents != lower {
			t.Fatal(err, v.Lowercase, v.StripAccents)
		}
		v.Lowercase, v.StripAccents = nil, nil
		gguf, err := NewGGUF(t.Context(), v)
		if err != nil {
			t.Fatal(err)
		}
		for kind, got := range map[string]*Tokenizer{vocabFile: file, "GGUF": gguf} {
			t.Run(name+"/"+kind, func(t *testing.T) {
				for _, vec := range readVectors(t, dir) {
					if diff := cmp.Diff(vec.IDs, got.Encode(vec.Text, EncodeOptions{ParseSpecial: true})); diff != "" {
						t.Errorf("%q (-want +got):\n%s", vec.Text, diff)
					}
					if diff := cmp.Diff(vec.IDsSpecial, got.Encode(vec.Text, EncodeOptions{ParseSpecial: true, AddSpecial: true})); diff != "" {
						t.Errorf("%q with special tokens (-want +got):\n%s", vec.Text, diff)
					}
					if text := got.Decode(vec.IDs, false); text != vec.Decoded {
						t.Errorf("%v: decoded %q, want %q", vec.IDs, text, vec.Decoded)
					}
				}
			})
		}
	}
}

// TestWordPieceOfOddTexts: what is no UTF-8 counts as U+FFFD, which BERT drops; a word of more than a hundred characters is
// unknown, however long.
func TestWordPieceOfOddTexts(t *testing.T) {
	tok := open(t, filepath.Join("testdata", "wordpiece"), Options{})
	encode := func(text string) []int { return tok.Encode(text, EncodeOptions{}) }
	unk := tok.named(-1, bertUnknown)
	for text, same := range map[string]string{
		"ro\xffck": "rock", "\xf0\x9f\x98": "", "a\x00b\x1bc": "abc", "É\u0301LAN": "elan", "a\u00a0b\u3000c": "a b c",
		"浮石rock": "浮 石 rock", "don't": "don ' t", "a\u200bb": "ab", "": "", " \t\r\n": "",
	} {
		if diff := cmp.Diff(encode(same), encode(text)); diff != "" {
			t.Errorf("%q, as %q (-want +got):\n%s", text, same, diff)
		}
	}
	for n, want := range map[int]bool{100: false, 101: true, 1 << 20: true} {
		if got := slices.Equal(encode(strings.Repeat("a", n)), []int{unk}); got != want {
			t.Errorf("a word of %d characters is unknown: %t", n, got)
		}
	}
}

// TestHostileWordPieces: vocabularies that make no sense are errors that say where.
func TestHostileWordPieces(t *testing.T) {
	whole := []string{"[PAD]", "[UNK]", "[CLS]", "[SEP]", "a", "##b"}
	without := func(text string) []string {
		return slices.DeleteFunc(slices.Clone(whole), func(s string) bool { return s == text })
	}
	for _, c := range []struct {
		name, config, want string
		tokens             []string
	}{
		{"no unknown token", "{}", "[UNK]", without("[UNK]")},
		{"no end token", "{}", "[SEP]", without("[SEP]")},
		{"a long line", "{}", "line 7", append(slices.Clone(whole), strings.Repeat("a", maxPiece+1))},
		{"another class", `{"tokenizer_class": "BertJapaneseTokenizer"}`, "BertJapaneseTokenizer", whole},
		{"a setting of another type", `{"do_lower_case": 3}`, "do_lower_case", whole},
		{"Chinese in words", `{"tokenize_chinese_chars": false}`, "tokenize_chinese_chars", whole},
		{"too many lines", "{}", "out of range", slices.Repeat([]string{"x"}, maxVocab+1)},
		{"nothing", "{}", "[UNK]", nil},
	} {
		_, err := Open(t.Context(), vocabDir(t, c.tokens, c.config))
		var format *FormatError
		var unsupported *UnsupportedError
		if !errors.As(err, &format) && !errors.As(err, &unsupported) || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", c.name, err, c.want)
		}
	}
	for name, change := range map[string]func(v *GGUFVocab){
		"duplicate token":                        func(v *GGUFVocab) { v.Tokens[5] = "▁a" },
		"[UNK]":                                  func(v *GGUFVocab) { v.Tokens[1] = "▁x" },
		"tokenizer.ggml.cls_token_id":            func(v *GGUFVocab) { v.CLS = 6 },
		"tokenizer.ggml.seperator_token_id":      func(v *GGUFVocab) { v.SEP = -2 },
		"the limit is 4096":                      func(v *GGUFVocab) { v.Tokens[4] = strings.Repeat("a", maxPiece+1) },
		"tokenizer.ggml.token_type: 1 for 6 tok": func(v *GGUFVocab) { v.Types = []int32{1} },
	} {
		v := GGUFVocab{File: "x.gguf", Model: "bert", Tokens: []string{"[PAD]", "[UNK]", "[CLS]", "[SEP]", "▁a", "b"}, Types: []int32{3, 3, 3, 3, 1, 1},
			BOS: -1, EOS: -1, UNK: -1, PAD: -1, CLS: -1, SEP: -1}
		if tok, err := NewGGUF(t.Context(), v); err != nil || !slices.Equal(tok.Encode("ABÀ", EncodeOptions{AddSpecial: true}), []int{2, 1, 3}) {
			t.Fatalf("%v, %v", tok, err)
		}
		change(&v)
		if _, err := NewGGUF(t.Context(), v); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%v, want %q", err, name)
		}
	}
}
