package quantize

import (
	"cmp"
	"context"
	"maps"
	"path/filepath"
	"slices"
	"strings"

	"pumice/checkpoint"
	"pumice/internal/dtype"
	"pumice/internal/ggufwrite"
	"pumice/tokenizer"
)

// fileTypes are llama.cpp's numbers for files whose matrices are mostly of one type (llama.h,
// enum llama_ftype; for the K types the plain variants, "_S").
var fileTypes = map[dtype.DType]uint32{
	dtype.F32: 0, dtype.F16: 1, dtype.Q4_0: 2, dtype.Q4_1: 3, dtype.Q8_0: 7, dtype.Q5_0: 8, dtype.Q5_1: 9,
	dtype.Q2_K: 21, dtype.Q3_K: 11, dtype.Q4_K: 14, dtype.Q5_K: 16, dtype.Q6_K: 18, dtype.IQ4_NL: 25, dtype.IQ4_XS: 30, dtype.BF16: 32, dtype.TQ2_0: 37,
}

const (
	fileTypeKey = "general.file_type"
	versionKey  = "general.quantization_version"
	// quantizationVersion is ggml's GGML_QNT_VERSION, which identifies the layout of the blocks.
	quantizationVersion = uint32(2)
)

// metadata returns the file's key-value pairs.
func (p *Plan) metadata(ctx context.Context, c *checkpoint.Checkpoint) ([]ggufwrite.KV, error) {
	fileType := fileTypes[p.o.Type]
	if p.o.Mix != nil && !p.o.Pure {
		fileType = p.o.Mix.FileType
	}
	quantized := []ggufwrite.KV{
		{Key: fileTypeKey, Value: fileType},
		{Key: versionKey, Value: quantizationVersion},
	}
	if p.o.Keep { // as the file has it
		quantized = nil
	}
	if c.Metadata() != nil {
		var kv []ggufwrite.KV
		err := checkpoint.Guard(func() error {
			for key, value := range c.RawMetadata() {
				switch {
				case quantized != nil && (key == fileTypeKey || key == versionKey), key == "general.alignment", strings.HasPrefix(key, "split."):
				default:
					kv = append(kv, ggufwrite.KV{Key: key, Value: ggufwrite.Raw(value)})
				}
			}
			return nil
		})
		return append(kv, quantized...), err
	}
	kv := []ggufwrite.KV{
		{Key: "general.architecture", Value: p.Architecture},
		{Key: "general.type", Value: "model"},
		{Key: "general.name", Value: name(c.Path())},
	}
	sampling, err := samplingPairs(c.GenerationConfig())
	if err != nil {
		return nil, err
	}
	vocabulary, err := p.vocabulary(ctx)
	if err != nil {
		return nil, err
	}
	return slices.Concat(kv, sampling, p.export.Pairs, quantized, vocabulary), nil
}

// name returns the name of the checkpoint's directory.
func name(path string) string {
	if abs, err := filepath.Abs(path); err == nil {
		path = abs
	}
	if filepath.Ext(path) == ".safetensors" || filepath.Ext(path) == ".bin" {
		path = filepath.Dir(path)
	}
	return filepath.Base(path)
}

// samplingPairs returns the defaults of generation_config.json under the keys of llama.cpp's
// converter (gguf-py, Keys.General).
func samplingPairs(f *checkpoint.Fields) ([]ggufwrite.KV, error) {
	if f == nil {
		return nil, nil
	}
	var kv []ggufwrite.KV
	for _, k := range [][2]string{
		{"temperature", "temp"}, {"top_p", "top_p"}, {"min_p", "min_p"}, {"repetition_penalty", "penalty_repeat"},
	} {
		if f.Has(k[0]) {
			kv = append(kv, ggufwrite.KV{Key: "general.sampling." + k[1], Value: float32(f.Float(k[0]))})
		}
	}
	if f.Has("top_k") {
		kv = append(kv, ggufwrite.KV{Key: "general.sampling.top_k", Value: int32(f.Int("top_k"))})
	}
	return kv, f.Err()
}

// vocabulary returns the pairs of the tokenizer; without one, those of the special ids only.
func (p *Plan) vocabulary(ctx context.Context) ([]ggufwrite.KV, error) {
	v := tokenizer.GGUFVocab{Model: "no_vocab", BOS: -1, EOS: -1, UNK: -1, PAD: -1, CLS: -1, SEP: -1}
	var c tokenizer.Config
	if t := p.o.Tokenizer; t != nil {
		var err error
		if v, err = t.GGUF(ctx, p.export.VocabSize); err != nil {
			return nil, err
		}
		c = t.Config()
	}
	if v.BOS < 0 {
		v.BOS = p.export.BOSTokenID
	}
	ends := p.endTokens(v.EOS)
	kv := vocabularyPairs(&v)
	for i, key := range []string{"eos", "eot", "eom"} {
		if i < len(ends) {
			kv = append(kv, ggufwrite.KV{Key: "tokenizer.ggml." + key + "_token_id", Value: uint32(ends[i])})
		}
	}
	if c.ChatTemplate != "" {
		kv = append(kv, ggufwrite.KV{Key: "tokenizer.chat_template", Value: c.ChatTemplate})
	}
	var named []string
	for _, name := range slices.Sorted(maps.Keys(c.ChatTemplates)) {
		if name != "default" {
			named = append(named, name)
			kv = append(kv, ggufwrite.KV{Key: "tokenizer.chat_template." + name, Value: c.ChatTemplates[name]})
		}
	}
	if len(named) > 0 {
		kv = append(kv, ggufwrite.KV{Key: "tokenizer.chat_templates", Value: named})
	}
	return kv, nil
}

// endTokens returns the ids that end an answer, at most three, the tokenizer's own first.
func (p *Plan) endTokens(own int) []int {
	ids := slices.Clone(p.export.EOSTokenIDs)
	if len(ids) == 0 && own >= 0 {
		ids = []int{own}
	}
	slices.SortStableFunc(ids, func(a, b int) int { return cmp.Compare(btoi(a != own), btoi(b != own)) })
	if len(ids) > 3 {
		p.Notes = append(p.Notes, "the file names only three of the tokens that end an answer")
		ids = ids[:3]
	}
	return ids
}

func btoi(b bool) int {
	if b {
		return 1
	}
	return 0
}

// vocabularyPairs returns the pairs tokenizer.ggml.* (GGUF specification, "Tokenizer") except the end tokens.
func vocabularyPairs(v *tokenizer.GGUFVocab) []ggufwrite.KV {
	var kv []ggufwrite.KV
	add := func(key string, value any) { kv = append(kv, ggufwrite.KV{Key: "tokenizer.ggml." + key, Value: value}) }
	add("model", v.Model)
	if v.Pre != "" {
		add("pre", v.Pre)
	}
	if v.Tokens != nil {
		add("tokens", v.Tokens)
		add("token_type", v.Types)
	}
	if v.Scores != nil {
		add("scores", v.Scores)
	}
	if v.Merges != nil {
		add("merges", v.Merges)
	}
	for _, id := range []struct {
		key string
		id  int
	}{{"bos", v.BOS}, {"unknown", v.UNK}, {"padding", v.PAD}, {"cls", v.CLS}, {"seperator", v.SEP}} { // as gguf-py spells it
		if id.id >= 0 {
			add(id.key+"_token_id", uint32(id.id))
		}
	}
	for _, flag := range []struct {
		key string
		set *bool
	}{{"add_bos_token", v.AddBOS}, {"add_eos_token", v.AddEOS}, {"add_space_prefix", v.AddSpacePrefix}, {"remove_extra_whitespaces", v.RemoveExtraWhitespaces},
		{"normalizer.lowercase", v.Lowercase}, {"normalizer.strip_accents", v.StripAccents}} {
		if flag.set != nil {
			add(flag.key, *flag.set)
		}
	}
	if len(v.PrecompiledCharsmap) > 0 {
		add("precompiled_charsmap", v.PrecompiledCharsmap)
	}
	return kv
}
