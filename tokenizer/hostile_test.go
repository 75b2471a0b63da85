package tokenizer

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"pumice/internal/bounded"
)

const tinyModel = `{"type": "BPE", "vocab": {"a": 0, "b": 1, "ab": 2}, "merges": ["a b"]}`

func tiny(fields string) string { return `{"model": ` + tinyModel + `, ` + fields + `}` }

func TestErrorsNameTheComponent(t *testing.T) {
	deep := strings.Repeat(`{"type": "Sequence", "normalizers": [`, 40) + strings.Repeat(`]}`, 40)
	for name, c := range map[string]struct{ json, want string }{
		"not json":          {`{"model": `, "not a JSON object"},
		"a list":            {`[]`, "not a SentencePiece model"},
		"no model":          {`{}`, "model: missing"},
		"unknown model":     {`{"model": {"type": "Zorg"}}`, `model.type: unsupported model "Zorg"`},
		"no vocab":          {`{"model": {"type": "BPE", "merges": []}}`, "model.vocab: missing"},
		"negative id":       {`{"model": {"type": "BPE", "vocab": {"a": -1}, "merges": []}}`, `token "a" has id -1`},
		"huge id":           {`{"model": {"type": "BPE", "vocab": {"a": 4000000000}, "merges": []}}`, "id 4000000000"},
		"fraction id":       {`{"model": {"type": "BPE", "vocab": {"a": 1.5}, "merges": []}}`, "model.vocab"},
		"same id":           {`{"model": {"type": "BPE", "vocab": {"a": 1, "b": 1}, "merges": []}}`, "id 1 is both"},
		"merge of nothing":  {`{"model": {"type": "BPE", "vocab": {"a": 0, "b": 1}, "merges": ["a b"]}}`, "model.merges[0]"},
		"merge of three":    {`{"model": {"type": "BPE", "vocab": {"a": 0, "b": 1}, "merges": ["a b c"]}}`, "model.merges[0]"},
		"merge of numbers":  {`{"model": {"type": "BPE", "vocab": {"a": 0, "b": 1}, "merges": [[1, 2]]}}`, "model.merges[0]"},
		"dropout":           {`{"model": {"type": "BPE", "dropout": 0.1, "vocab": {"a": 0}, "merges": []}}`, "BPE dropout"},
		"unk not there":     {`{"model": {"type": "BPE", "unk_token": "u", "vocab": {"a": 0}, "merges": []}}`, "model.unk_token"},
		"unigram unk":       {`{"model": {"type": "Unigram", "unk_id": 7, "vocab": [["a", 0]]}}`, "model.unk_id"},
		"unigram pair":      {`{"model": {"type": "Unigram", "vocab": [["a", "b"]]}}`, "model.vocab[0]"},
		"word piece":        {`{"model": {"type": "WordPiece", "vocab": {"a": 0}}}`, "model.unk_token"},
		"normalizer":        {tiny(`"normalizer": {"type": "Zorg"}`), `normalizer.type: unsupported normalizer "Zorg"`},
		"nested normalizer": {tiny(`"normalizer": {"type": "Sequence", "normalizers": [{"type": "NFC"}, {"type": "Q"}]}`), "normalizer.normalizers[1].type"},
		"deep":              {tiny(`"normalizer": ` + deep), "nested more than 16 deep"},
		"pre-tokenizer":     {tiny(`"pre_tokenizer": {"type": "Zorg"}`), "pre_tokenizer.type"},
		"behavior":          {tiny(`"pre_tokenizer": {"type": "Split", "pattern": {"String": "a"}, "behavior": "Zorg"}`), "pre_tokenizer.behavior"},
		"scheme":            {tiny(`"pre_tokenizer": {"type": "Metaspace", "replacement": "_", "prepend_scheme": "zorg"}`), "pre_tokenizer.prepend_scheme"},
		"bad regex":         {tiny(`"pre_tokenizer": {"type": "Split", "pattern": {"Regex": "(a"}, "behavior": "Isolated"}`), "pre_tokenizer.pattern.Regex"},
		"catastrophe":       {tiny(`"pre_tokenizer": {"type": "Split", "pattern": {"Regex": "(a+)+$"}, "behavior": "Isolated"}`), "more than linear time"},
		"class operator":    {tiny(`"pre_tokenizer": {"type": "Split", "pattern": {"Regex": "[a-z&&[^b]]"}, "behavior": "Isolated"}`), "unsupported pattern"},
		"post-processor":    {tiny(`"post_processor": {"type": "Zorg"}`), "post_processor.type"},
		"template":          {tiny(`"post_processor": {"type": "TemplateProcessing", "single": [{"SpecialToken": {"id": "x"}}], "special_tokens": {}}`), "special_tokens.x"},
		"template sequence": {tiny(`"post_processor": {"type": "TemplateProcessing", "single": [{"Sequence": {"id": "B"}}]}`), "post_processor.single[0]"},
		"template id":       {tiny(`"post_processor": {"type": "BertProcessing", "sep": ["s", 77], "cls": ["c", 0]}`), "adds id 77"},
		"decoder":           {tiny(`"decoder": {"type": "Sequence", "decoders": [{"type": "Zorg"}]}`), "decoder.decoders[0].type"},
		"charsmap":          {tiny(`"normalizer": {"type": "Precompiled", "precompiled_charsmap": "AAAA/w=="}`), "precompiled_charsmap"},
		"added id":          {tiny(`"added_tokens": [{"id": -5, "content": "x"}]`), "added_tokens[0]"},
		"far added id":      {tiny(`"added_tokens": [{"id": 9000000, "content": "x"}]`), "added_tokens[0]"},
		"added over model":  {tiny(`"added_tokens": [{"id": 1, "content": "x"}]`), `id 1 is both "b" and "x"`},
		"wrong type":        {tiny(`"added_tokens": [{"id": "1", "content": "x"}]`), "added_tokens[0].id"},
	} {
		t.Run(name, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "tokenizer.json")
			if err := os.WriteFile(file, []byte(c.json), 0o666); err != nil {
				t.Fatal(err)
			}
			_, err := Open(t.Context(), file)
			var format *FormatError
			var unsupported *UnsupportedError
			if !errors.As(err, &format) && !errors.As(err, &unsupported) {
				t.Fatalf("got %v, want a typed error", err)
			}
			if !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), "tokenizer.json") {
				t.Errorf("got %v, want %q in it", err, c.want)
			}
		})
	}
}

// A slow pattern that the probes don't detect still can't hang an encoder.
func TestSlowPatternEndsInAnError(t *testing.T) {
	file := tiny(`"pre_tokenizer": {"type": "Split", "pattern": {"Regex": "(x+x+)+y"}, "behavior": "Isolated"}`)
	tok, err := parseJSON(t.Context(), "slow.json", []byte(file))
	if err != nil {
		t.Skipf("refused when opened: %v", err)
	}
	start := time.Now()
	_, err = tok.TryEncode(strings.Repeat("x", 5000), EncodeOptions{})
	var e *EncodeError
	if !errors.As(err, &e) {
		t.Errorf("got %v, want an EncodeError", err)
	}
	if took := time.Since(start); took > 10*time.Second {
		t.Errorf("took %v", took)
	}
	if got := tok.Encode("ab", EncodeOptions{}); len(got) != 1 || got[0] != 2 {
		t.Errorf("afterwards: got %v", got)
	}
}

func TestNormalizerThatGrowsWithoutEnd(t *testing.T) {
	double := strings.TrimSuffix(strings.Repeat(`{"type": "Replace", "pattern": {"String": "a"}, "content": "aa"},`, 60), ",")
	long := `{"type": "Replace", "pattern": {"Regex": "a"}, "content": "` + strings.Repeat("b", 500) + `"}`
	for _, list := range []string{double, long} {
		tok, err := parseJSON(t.Context(), "grow.json", []byte(tiny(`"normalizer": {"type": "Sequence", "normalizers": [`+list+`]}`)))
		if err != nil {
			t.Fatal(err)
		}
		var e *EncodeError
		if _, err := tok.TryEncode(strings.Repeat("a", 10_000), EncodeOptions{}); !errors.As(err, &e) || e.File != "grow.json" {
			t.Errorf("got %v, want an EncodeError", err)
		}
	}
}

// Merges that form a cycle still end: each makes the word shorter.
func TestCyclicMergesEnd(t *testing.T) {
	vocab := map[string]int{"": 4, "a": 0, "aa": 1, "aaa": 2, "aaaa": 3}
	file, err := json.Marshal(map[string]any{"model": map[string]any{
		"type": "BPE", "vocab": vocab, "merges": []string{"aa aa", "a aaa", "aaa a", "aa a", "a aa", "a a"}}})
	if err != nil {
		t.Fatal(err)
	}
	tok, err := parseJSON(t.Context(), "cyclic.json", file)
	if err != nil {
		t.Fatal(err)
	}
	if got := tok.Encode(strings.Repeat("a", 100_000), EncodeOptions{}); tok.Decode(got, false) == "" {
		t.Errorf("%d tokens", len(got))
	}
}

func TestModelWithoutUnknownTokenSaysSo(t *testing.T) {
	tok, err := parseJSON(t.Context(), "words.json", []byte(`{"model": {"type": "WordLevel", "vocab": {"a": 0}, "unk_token": "[UNK]"}}`))
	if err != nil {
		t.Fatal(err)
	}
	var e *EncodeError
	if _, err := tok.TryEncode("b", EncodeOptions{}); !errors.As(err, &e) || e.File != "words.json" {
		t.Errorf("got %v", err)
	}
	if got := tok.Encode("b", EncodeOptions{}); got != nil {
		t.Errorf("got %v, want nil", got)
	}
}

func TestBrokenPieceModels(t *testing.T) {
	good := readMaybeGzip(t, filepath.Join("testdata", "spm-llama", "tokenizer.model"))
	for name, data := range map[string][]byte{
		"empty":     {},
		"truncated": good[:len(good)/2],
		"cut piece": good[:5],
		"text":      []byte("not a model at all"),
		"twice":     append(append([]byte{}, good...), good...),
		"huge size": {0x0a, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := parsePiece(t.Context(), "m.model", data, false)
			var format *FormatError
			if name == "truncated" && err == nil {
				return // the file may have been cut between two pieces
			}
			if !errors.As(err, &format) {
				t.Errorf("got %v, want a FormatError", err)
			}
		})
	}
}

func TestOpenReadsWhatLiesBeside(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o666); err != nil {
			t.Fatal(err)
		}
	}
	write("tokenizer.json", tiny(`"added_tokens": [{"id": 3, "content": "<s>", "special": true}]`))
	write("tokenizer_config.json", `{"tokenizer_class": "LlamaTokenizer", "bos_token": {"content": "<s>"}, "eos_token": "</s>", "add_bos_token": true,
		"chat_template": [{"name": "default", "template": "D"}, {"name": "rag", "template": "R"}],
		"added_tokens_decoder": {"3": {"content": "<s>", "special": true}, "4": {"content": "</s>", "special": true}, "5": {"content": "<tool>"}}}`)
	tok, err := Open(t.Context(), dir)
	if err != nil {
		t.Fatal(err)
	}
	c := tok.Config()
	if c.ChatTemplate != "D" || c.ChatTemplates["rag"] != "R" || c.BOSToken != "<s>" || c.EOSToken != "</s>" || c.AddBOS == nil || !*c.AddBOS {
		t.Errorf("config %+v", c)
	}
	if bos, _ := tok.BOS(); bos != 3 {
		t.Errorf("BOS %d", bos)
	}
	if eos, _ := tok.EOS(); eos != 4 {
		t.Errorf("EOS %d", eos)
	}
	if got := fmt.Sprint(tok.Encode("ab<tool></s>", EncodeOptions{AddSpecial: true, ParseSpecial: true})); got != "[3 2 5 4]" {
		t.Errorf("got %s", got)
	}
	if got := tok.VocabSize(); got != 6 {
		t.Errorf("vocabulary of %d", got)
	}
	write("chat_template.jinja", "J")
	if tok, err = Open(t.Context(), dir); err != nil || tok.Config().ChatTemplate != "J" {
		t.Errorf("chat_template.jinja: %v", err)
	}
	write("tokenizer_config.json", `{"added_tokens_decoder": {"0": {"content": "q"}}}`)
	var format *FormatError
	if _, err := Open(t.Context(), dir); !errors.As(err, &format) || filepath.Base(format.File) != "tokenizer_config.json" {
		t.Errorf("clash of added_tokens_decoder: %v", err)
	}
	if _, err := Open(t.Context(), t.TempDir()); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("empty directory: %v", err)
	}
}

func TestChatGLMIsToldByItsConfig(t *testing.T) {
	dir := t.TempDir()
	model := readMaybeGzip(t, filepath.Join("testdata", "spm-chatglm2", "tokenizer.model"))
	if err := os.WriteFile(filepath.Join(dir, "tokenizer.model"), model, 0o666); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "config.json"), []byte(`{"model_type": "chatglm"}`), 0o666); err != nil {
		t.Fatal(err)
	}
	tok, err := Open(t.Context(), dir)
	if err != nil {
		t.Fatal(err)
	}
	mask, _ := tok.TokenID("[gMASK]")
	sop, _ := tok.TokenID("sop")
	if got := tok.Encode("", EncodeOptions{AddSpecial: true}); len(got) != 2 || got[0] != mask || got[1] != sop || mask != 4201 || sop != 4203 {
		t.Errorf("got %v, want [%d %d]", got, mask, sop)
	}
}

func FuzzTokenizerJSON(f *testing.F) {
	for _, row := range readComponents(f) {
		if row.Kind == "tokenizer" {
			continue
		}
		f.Add([]byte(fmt.Sprintf(`{"model": %s, %q: %s}`, tinyModel, row.Kind, row.Config)), "ab é <s> 12")
	}
	f.Add([]byte(`{"model": {"type": "Unigram", "unk_id": 0, "vocab": [["<unk>", 0], ["a", -1]]}}`), "aab")
	f.Add([]byte(`{"model": {"type": "WordPiece", "unk_token": "u", "vocab": {"u": 0, "a": 1, "##b": 2}}}`), "ab c")
	if fuzzing() {
		for _, c := range hostileJSON(f, 2000) {
			f.Add(c.data, "aaaa é x")
		}
	}
	f.Fuzz(func(t *testing.T, data []byte, text string) {
		if len(data) > 1<<16 || len(text) > 1<<10 {
			return
		}
		exercise(t, len(data), text, func(ctx context.Context) (*Tokenizer, error) { return parseJSON(ctx, "fuzz", data) })
	})
}

func FuzzSentencePiece(f *testing.F) {
	for _, name := range []string{"spm-llama", "spm-unigram", "spm-suffix"} {
		data := readMaybeGzip(f, filepath.Join("testdata", name, "tokenizer.model"))
		f.Add(data[:min(len(data), 4000)], "▁ab é")
		f.Add(data[max(0, len(data)-4000):], "ab")
	}
	if fuzzing() {
		for _, c := range hostilePieces(4000) {
			data := []byte{2<<3 | 2, 2, 3 << 3, 2}
			for _, p := range c.pieces {
				data = append(data, protoPiece(p.text, p.score, p.kind)...)
			}
			f.Add(data, "aaaa é")
		}
	}
	f.Add([]byte("\x0a\x09\x0a\x05<unk>\x18\x02\x0a\x03\x0a\x01a\x12\x02\x18\x02"), "aaa")
	f.Fuzz(func(t *testing.T, data []byte, text string) {
		if len(data) > 1<<16 || len(text) > 1<<10 {
			return
		}
		exercise(t, len(data), text, func(ctx context.Context) (*Tokenizer, error) { return parsePiece(ctx, "fuzz", data, len(data)%2 == 0) })
	})
}

// fuzzing reports whether fuzz targets do more than run their seeds; the hostile seeds have tests of their own.
func fuzzing() bool {
	f := flag.Lookup("test.fuzz")
	return f != nil && f.Value.String() != ""
}

// exercise checks properties of any tokenizer, from a file of n bytes, with any text: errors are typed, ids are in the
// vocabulary, and time and memory are bounded.
func exercise(t *testing.T, n int, text string, open func(context.Context) (*Tokenizer, error)) {
	var tok *Tokenizer
	bounded.Run(t, n, func(ctx context.Context) {
		var err error
		tok, err = open(ctx)
		var format *FormatError
		var unsupported *UnsupportedError
		if err != nil && !errors.As(err, &format) && !errors.As(err, &unsupported) && !errors.Is(err, context.Canceled) {
			t.Errorf("error of type %T: %v", err, err)
		}
	})
	if tok == nil || t.Failed() {
		return
	}
	for _, o := range []EncodeOptions{{}, {ParseSpecial: true, AddSpecial: true}} {
		bounded.Run(t, n+len(text), func(context.Context) {
			ids, err := tok.TryEncode(text, o)
			if err != nil {
				return
			}
			s := tok.Stream()
			for _, id := range ids {
				if id < 0 || id >= tok.VocabSize() {
					t.Errorf("id %d of %d", id, tok.VocabSize())
				}
				s.Next(id)
			}
			s.Flush()
			tok.Decode(ids, true)
		})
	}
}
