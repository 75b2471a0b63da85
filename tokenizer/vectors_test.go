package tokenizer

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"encoding/json"
	"io"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/text/unicode/norm"
)

// The vectors were made with Hugging Face's tokenizers 0.23 and sentencepiece 0.2;
// testdata/README.md says how.
type vector struct {
	Text             string
	IDs              []int
	IDsSpecial       []int `json:"ids_special"`
	Decoded          string
	DecodedNoSpecial string    `json:"decoded_skip_special"`
	Stream           *[]string // text by token; nil for long texts
	StreamFlush      *string   `json:"stream_flush"`
}

// sharedDir returns a directory of the shared material, or skips the test.
func sharedDir(t testing.TB, elem ...string) string {
	t.Helper()
	root := os.Getenv("PUMICE_SHARED")
	if root == "" {
		root = filepath.Join("..", "..", "shared")
	}
	dir := filepath.Join(append([]string{root}, elem...)...)
	if _, err := os.Stat(dir); err != nil {
		t.Skipf("%s does not exist (PUMICE_SHARED is the directory of the shared material)", dir)
	}
	return dir
}

// readMaybeGzip reads a file, or its .gz.
func readMaybeGzip(t testing.TB, path string) []byte {
	t.Helper()
	data, err := os.ReadFile(path)
	if err == nil {
		return data
	}
	f, err := os.Open(path + ".gz")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	data, err = io.ReadAll(z)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func readVectors(t testing.TB, dir string) []vector {
	t.Helper()
	var vs []vector
	s := bufio.NewScanner(bytes.NewReader(readMaybeGzip(t, filepath.Join(dir, "vectors.jsonl"))))
	s.Buffer(nil, 1<<22)
	for s.Scan() {
		var v vector
		if err := json.Unmarshal(s.Bytes(), &v); err != nil {
			t.Fatal(err)
		}
		vs = append(vs, v)
	}
	if len(vs) != 161 {
		t.Fatalf("%s: %d vectors, want 161", dir, len(vs))
	}
	return vs
}

func open(t testing.TB, dir string, o Options) *Tokenizer {
	t.Helper()
	if _, err := os.Stat(filepath.Join(dir, "tokenizer.json.gz")); err == nil {
		file := filepath.Join(t.TempDir(), "tokenizer.json")
		if err := os.WriteFile(file, readMaybeGzip(t, filepath.Join(dir, "tokenizer.json")), 0o666); err != nil {
			t.Fatal(err)
		}
		dir = file
	}
	tok, err := OpenWith(t.Context(), dir, o)
	if err != nil {
		t.Fatal(err)
	}
	return tok
}

var testdataNames = []string{
	"xverse-a", "xverse-b", "bbpe-neox", "bbpe-falcon", "bbpe-llama3", "bbpe-qwen2",
	"spm-llama", "spm-baichuan", "spm-internlm", "spm-chatglm2", "spm-nfkc", "spm-unigram", "spm-suffix", "smollm2", "wordpiece", "wordpiece-cased",
}

func TestVectors(t *testing.T) {
	for _, name := range testdataNames {
		t.Run(name, func(t *testing.T) { checkVectors(t, filepath.Join("testdata", name), filepath.Join("testdata", name)) })
	}
	t.Run("qwen3", func(t *testing.T) {
		dir := sharedDir(t, "tokenizers", "qwen3")
		checkVectors(t, dir, dir)
	})
	for _, name := range []string{"llama3", "mistral-7b-v0.1"} {
		t.Run(name, func(t *testing.T) {
			files := os.Getenv("PUMICE_TEST_TOKENIZERS")
			if files == "" {
				t.Skip("PUMICE_TEST_TOKENIZERS names no directory with " + name + "/tokenizer.json")
			}
			checkVectors(t, filepath.Join(files, name), sharedDir(t, "tokenizers", name))
		})
	}
}

func checkVectors(t *testing.T, dir, vectors string) {
	name := filepath.Base(dir)
	tok := open(t, dir, Options{ChatGLM: name == "spm-chatglm2"})
	_, piece := tok.decoder.(*pieceDecoder)
	parse := !piece // the sentencepiece library never reads special tokens in text
	pass := 0
	for _, v := range readVectors(t, vectors) {
		ok := true
		check := func(what string, want, got any) {
			t.Helper()
			if diff := cmp.Diff(want, got); diff != "" {
				ok = false
				t.Errorf("%q: %s (-want +got):\n%s", v.Text, what, diff)
			}
		}
		check("ids", v.IDs, tok.Encode(v.Text, EncodeOptions{ParseSpecial: parse}))
		check("ids with special tokens", v.IDsSpecial, tok.Encode(v.Text, EncodeOptions{ParseSpecial: parse, AddSpecial: true}))
		check("decoded", v.Decoded, tok.Decode(v.IDs, false))
		check("decoded without special tokens", v.DecodedNoSpecial, tok.Decode(v.IDs, true))
		if v.Stream != nil {
			s := tok.Stream()
			got := []string{}
			for _, id := range v.IDs {
				got = append(got, s.Next(id))
			}
			check("stream", *v.Stream, got)
			flush := s.Flush()
			if v.StreamFlush == nil {
				t.Errorf("%q: no stream_flush", v.Text)
			} else {
				check("flush", *v.StreamFlush, flush)
			}
		}
		if ok {
			pass++
		}
	}
	t.Logf("%s: %d of 161", name, pass)
}

func isNFC(s string) bool { return norm.NFC.IsNormalString(s) }
