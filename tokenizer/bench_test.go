package tokenizer

import (
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// benchText returns about n bytes: of the file PUMICE_BENCH_TEXT, or else of the vectors'
// texts in random order, for which the word cache works better than for real text.
func benchText(b *testing.B, n int) string {
	if path := os.Getenv("PUMICE_BENCH_TEXT"); path != "" {
		data, err := os.ReadFile(path)
		if err != nil {
			b.Fatal(err)
		}
		return string(data)
	}
	vs := readVectors(b, filepath.Join("testdata", "bbpe-llama3"))
	r := rand.New(rand.NewPCG(1, 2))
	var s strings.Builder
	for s.Len() < n {
		s.WriteString(vs[r.IntN(len(vs))].Text)
		s.WriteByte(' ')
	}
	return s.String()
}

func BenchmarkEncode(b *testing.B) {
	dirs := map[string]string{}
	for _, name := range []string{"xverse-a", "xverse-b", "spm-llama", "spm-nfkc", "smollm2"} {
		dirs[name] = filepath.Join("testdata", name)
	}
	if shared := os.Getenv("PUMICE_SHARED"); shared != "" {
		dirs["qwen3"] = filepath.Join(shared, "tokenizers", "qwen3")
	}
	if files := os.Getenv("PUMICE_TEST_TOKENIZERS"); files != "" {
		dirs["llama3"], dirs["mistral"] = filepath.Join(files, "llama3"), filepath.Join(files, "mistral-7b-v0.1")
	}
	text := benchText(b, 1<<20)
	for name, dir := range dirs {
		b.Run(name, func(b *testing.B) {
			tok := open(b, dir, Options{})
			b.SetBytes(int64(len(text)))
			b.ReportAllocs()
			for b.Loop() {
				tok.Encode(text, EncodeOptions{})
			}
		})
	}
}

// One word of a single repeated letter has as many equal merges as it has letters.
func BenchmarkEncodeOneLetter(b *testing.B) {
	text := strings.Repeat("a", 10_000_000)
	for _, name := range []string{"bbpe-llama3", "xverse-b", "spm-llama"} {
		b.Run(name, func(b *testing.B) {
			tok := open(b, filepath.Join("testdata", name), Options{})
			b.SetBytes(int64(len(text)))
			for b.Loop() {
				tok.Encode(text, EncodeOptions{})
			}
		})
	}
}

func BenchmarkDecode(b *testing.B) {
	tok := open(b, filepath.Join("testdata", "xverse-a"), Options{})
	text := benchText(b, 1<<20)
	ids := tok.Encode(text, EncodeOptions{})
	b.SetBytes(int64(len(text)))
	for b.Loop() {
		tok.Decode(ids, true)
	}
}

func BenchmarkOpen(b *testing.B) {
	dirs := []string{filepath.Join("testdata", "xverse-a")}
	if shared := os.Getenv("PUMICE_SHARED"); shared != "" {
		dirs = append(dirs, filepath.Join(shared, "tokenizers", "smollm2"), filepath.Join(shared, "tokenizers", "qwen3"))
	}
	for _, dir := range dirs {
		b.Run(filepath.Base(dir), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := Open(b.Context(), dir); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
