package pumice

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"pumice/chat"
	"pumice/checkpoint"
	"pumice/internal/regular"
	"pumice/tokenizer"
)

// text is the text side of a model. Its tokenizer is nil if the model has none.
type text struct {
	tokenizer *tokenizer.Tokenizer
	template  string // Jinja source; "" if there is none
	tools     string // of a second template, for conversations with tools; "" if there is none
	bos, eos  string // spelling of the tokens, for the template
	family    string // model_type of config.json or general.architecture; "" if unknown
}

// OpenTokenizer opens the tokenizer of a model that need not have weights. model is a directory or file with a tokenizer, a
// GGUF file, or a model's name. Cancelling ctx stops it.
func OpenTokenizer(ctx context.Context, model string) (*tokenizer.Tokenizer, error) {
	t, err := openText(ctx, model)
	if err != nil {
		return nil, err
	}
	return t.tokenizer, nil
}

// OpenChatFormat opens the chat format of a model that need not have weights. A template that is not empty overrides the
// model's own, as Options.ChatTemplate does. Cancelling ctx stops it.
func OpenChatFormat(ctx context.Context, model, template string) (*chat.Format, error) {
	t, err := openText(ctx, model)
	if err != nil {
		return nil, err
	}
	return t.format(ctx, template)
}

func openText(ctx context.Context, model string) (*text, error) {
	path, err := Resolve(model)
	if err != nil {
		return nil, err
	}
	info, err := os.Stat(path)
	if err != nil {
		return nil, fmt.Errorf("pumice: %w", err)
	}
	if gguf := ggufAt(path, info); gguf != "" {
		c, err := checkpoint.Open(ctx, gguf)
		if err != nil {
			return nil, err
		}
		defer c.Close()
		return found(path)(checkpointText(ctx, c))
	}
	return found(path)(directoryText(ctx, path))
}

// checkpointText reads the text side of a model that is open.
func checkpointText(ctx context.Context, c *checkpoint.Checkpoint) (*text, error) {
	if c.Format() == checkpoint.GGUF {
		return ggufText(ctx, c.Metadata())
	}
	return directoryText(ctx, c.Path())
}

// found turns a text without a tokenizer into a *NoTokenizerError.
func found(path string) func(*text, error) (*text, error) {
	return func(t *text, err error) (*text, error) {
		if err == nil && t.tokenizer == nil {
			return nil, &NoTokenizerError{path}
		}
		return t, err
	}
}

// A NoTokenizerError says that a call takes or returns text but the model has no tokenizer.
type NoTokenizerError struct{ Path string }

func (e *NoTokenizerError) Error() string {
	return fmt.Sprintf("pumice: %s has no tokenizer (tokenizer.json, tokenizer.model, vocab.txt, or a GGUF vocabulary): only token ids can be used", e.Path)
}

// ggufAt returns path if it is a GGUF file or a directory of GGUF files, else "".
func ggufAt(path string, info fs.FileInfo) string {
	if info.IsDir() {
		if hasTokenizer(path) || hasFile(path, "config.json") {
			return ""
		}
		if files, _ := filepath.Glob(filepath.Join(path, "*.gguf")); len(files) > 0 {
			return path
		}
		return ""
	}
	f, err := regular.Open(path)
	if err != nil {
		return ""
	}
	defer f.Close()
	magic := make([]byte, 4)
	if _, err := f.Read(magic); err != nil || string(magic) != "GGUF" {
		return ""
	}
	return path
}

func hasFile(dir, name string) bool {
	_, err := os.Stat(filepath.Join(dir, name))
	return !errors.Is(err, fs.ErrNotExist)
}

func hasTokenizer(dir string) bool {
	return slices.ContainsFunc(tokenizer.Files(), func(name string) bool { return hasFile(dir, name) })
}

// weightSuffixes are the extensions of files that Open accepts as weights. Their tokenizer is in the same directory.
var weightSuffixes = []string{".safetensors", ".bin", ".pt", ".pth"}

// directoryText reads the text side of a Hugging Face directory, of a weights file in one, or of a tokenizer's file.
func directoryText(ctx context.Context, path string) (*text, error) {
	dir := path
	if info, err := os.Stat(path); err == nil && !info.IsDir() {
		dir = filepath.Dir(path)
		if slices.Contains(weightSuffixes, filepath.Ext(path)) {
			path = dir
		}
	}
	t := &text{}
	if hasFile(dir, "config.json") {
		config, err := checkpoint.ReadFields(filepath.Join(dir, "config.json"))
		if err != nil {
			return nil, err
		}
		t.family = config.StringOr("model_type", "")
		if err := config.Err(); err != nil {
			return nil, err
		}
	}
	if path == dir && !hasTokenizer(dir) {
		return t, nil
	}
	tok, err := tokenizer.Open(ctx, path)
	if err != nil {
		return nil, err
	}
	c := tok.Config()
	t.tokenizer, t.template, t.tools, t.bos, t.eos = tok, c.ChatTemplate, c.ChatTemplates[toolUse], c.BOSToken, c.EOSToken
	return t, nil
}

// toolUse is the name of the template that transformers takes for conversations with tools if there are several.
const toolUse = "tool_use"

// ggufText reads the text side of a GGUF file.
func ggufText(ctx context.Context, meta *checkpoint.Fields) (*text, error) {
	t := &text{template: meta.StringOr("tokenizer.chat_template", ""), tools: meta.StringOr("tokenizer.chat_template."+toolUse, ""),
		family: meta.StringOr("general.architecture", "")}
	v := ggufVocab(meta)
	if err := meta.Err(); err != nil {
		return nil, err
	}
	if len(v.Tokens) == 0 {
		return t, nil
	}
	spelling := func(id int) string {
		if id < 0 || id >= len(v.Tokens) {
			return ""
		}
		return v.Tokens[id]
	}
	t.bos, t.eos = spelling(v.BOS), spelling(v.EOS)
	var err error
	if t.tokenizer, err = tokenizer.NewGGUF(ctx, v); err != nil {
		return nil, err
	}
	return t, nil
}

// ggufVocab reads tokenizer.ggml.* (GGUF specification, "Tokenizer").
func ggufVocab(meta *checkpoint.Fields) tokenizer.GGUFVocab {
	const prefix = "tokenizer.ggml."
	optional := func(key string) *bool {
		if !meta.Has(prefix + key) {
			return nil
		}
		b := meta.Bool(prefix + key)
		return &b
	}
	v := tokenizer.GGUFVocab{
		File:   meta.File(),
		Model:  meta.StringOr(prefix+"model", ""),
		Pre:    meta.StringOr(prefix+"pre", ""),
		Tokens: meta.Strings(prefix + "tokens"),
		Scores: meta.Floats(prefix + "scores"),
		Merges: meta.Strings(prefix + "merges"),

		BOS: meta.IntOr(prefix+"bos_token_id", -1),
		EOS: meta.IntOr(prefix+"eos_token_id", -1),
		UNK: meta.IntOr(prefix+"unknown_token_id", -1),
		PAD: meta.IntOr(prefix+"padding_token_id", -1),
		CLS: meta.IntOr(prefix+"cls_token_id", -1),
		SEP: meta.IntOr(prefix+"seperator_token_id", -1), // spelt so by the specification's writers

		AddBOS:                 optional("add_bos_token"),
		AddEOS:                 optional("add_eos_token"),
		AddSpacePrefix:         optional("add_space_prefix"),
		RemoveExtraWhitespaces: optional("remove_extra_whitespaces"),
		PrecompiledCharsmap:    meta.Bytes(prefix + "precompiled_charsmap"),
		Lowercase:              optional("normalizer.lowercase"),
		StripAccents:           optional("normalizer.strip_accents"),
	}
	for _, id := range meta.Ints(prefix + "token_type") {
		v.Types = append(v.Types, int32(id))
	}
	return v
}

// format chooses the chat format: the one named by override, else the model's own template, else the format that its
// family and vocabulary indicate.
func (t *text) format(ctx context.Context, override string) (*chat.Format, error) {
	if override == "" {
		f, err := chat.Detect(ctx, t.family, t.template, t.bos, t.eos, func(token string) bool {
			if t.tokenizer == nil {
				return false
			}
			_, ok := t.tokenizer.TokenID(token)
			return ok
		})
		if err == nil && t.template != "" && t.tools != "" {
			return f.WithToolTemplate(ctx, t.tools)
		}
		return f, err
	}
	if _, err := os.Stat(override); errors.Is(err, fs.ErrNotExist) && !slices.Contains(chat.Names(), override) {
		return nil, &OptionError{"ChatTemplate", override, "a file or one of " + strings.Join(chat.Names(), ", ")}
	}
	return chat.Open(ctx, override, t.bos, t.eos)
}
