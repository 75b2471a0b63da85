package tokenizer

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sort"
	"strconv"
	"strings"

	"pumice/internal/regular"
)

// Config holds the settings for a tokenizer's use from the files beside it.
type Config struct {
	Class         string            // tokenizer_class
	ModelType     string            // model_type of config.json
	ChatTemplate  string            // Jinja; the one named "default" if there are several
	ChatTemplates map[string]string // by name, if there are several
	// Texts of the special tokens; "" if there is none.
	BOSToken, EOSToken, UNKToken, PADToken string
	// AddBOS and AddEOS are add_bos_token and add_eos_token; nil if absent.
	AddBOS, AddEOS *bool
}

// Options configure OpenWith. The zero value takes everything from the files.
type Options struct {
	// ChatGLM gives a SentencePiece model the special tokens of ChatGLM2 and its
	// prefix [gMASK] sop. It is implied by a config.json of that model type.
	ChatGLM bool
}

const (
	maxFile   = 128 << 20 // bytes of a tokenizer.json; Gemma's has 33 MB
	maxModel  = 64 << 20  // bytes of a tokenizer.model
	maxConfig = 64 << 20  // bytes of each file beside it
)

// Files lists the names of the files that a directory's tokenizer may be in; the first one that is there counts.
func Files() []string { return []string{"tokenizer.json", "tokenizer.model", vocabFile} }

// Open reads the tokenizer of a directory, from its tokenizer.json or else its tokenizer.model or vocab.txt, or from such a
// file given as path. It also uses the files tokenizer_config.json, special_tokens_map.json, added_tokens.json,
// chat_template.jinja, chat_template.json and config.json beside it, if they exist.
//
// Errors are *FormatError, *UnsupportedError, those of package os, or that of ctx, whose end stops it. Only regular
// files are read.
func Open(ctx context.Context, path string) (*Tokenizer, error) {
	return OpenWith(ctx, path, Options{})
}

// OpenWith is Open with options.
func OpenWith(ctx context.Context, path string, o Options) (*Tokenizer, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, fmt.Errorf("tokenizer: %w", err)
	}
	dir, file := filepath.Dir(path), path
	if info.IsDir() {
		dir = path
		for _, name := range Files() {
			file = filepath.Join(dir, name)
			if _, err = os.Stat(file); err == nil {
				break
			}
		}
		if err != nil {
			return nil, fmt.Errorf("tokenizer: %s holds none of %s: %w", dir, strings.Join(Files(), ", "), fs.ErrNotExist)
		}
	}
	data, err := readFile(file, maxFile)
	if err != nil {
		return nil, err
	}
	b, err := readBeside(ctx, dir)
	if err != nil {
		return nil, err
	}
	b.config.ModelType, err = b.modelType()
	if err != nil {
		return nil, err
	}
	var t *Tokenizer
	switch {
	case looksLikeJSON(data):
		t, err = parseJSON(ctx, file, data)
	case filepath.Base(file) == vocabFile:
		t, err = parseVocab(ctx, file, data, b)
	default:
		if len(data) > maxModel {
			return nil, &FormatError{File: file, Msg: fmt.Sprintf("larger than %d bytes", maxModel)}
		}
		chatGLM := o.ChatGLM || b.config.ModelType == "chatglm" || b.config.Class == "ChatGLMTokenizer"
		t, err = parsePiece(ctx, file, data, chatGLM)
	}
	if err != nil {
		return nil, err
	}
	if err := t.apply(b); err != nil {
		return nil, err
	}
	return t, nil
}

func looksLikeJSON(data []byte) bool {
	s := strings.TrimLeft(string(data[:min(len(data), 64)]), " \t\r\n\ufeff")
	return strings.HasPrefix(s, "{")
}

func readFile(path string, limit int64) ([]byte, error) {
	data, err := regular.ReadFile(path, limit)
	if odd := (*regular.Error)(nil); errors.As(err, &odd) {
		return nil, &FormatError{File: path, Msg: odd.Msg}
	}
	if err != nil {
		return nil, fmt.Errorf("tokenizer: %w", err)
	}
	return data, nil
}

// beside holds the content of the files next to a tokenizer.
type beside struct {
	ctx     context.Context
	dir     string
	config  Config
	added   []AddedToken // from added_tokens_decoder and added_tokens.json
	addedIn string
	special []string // texts of the named special tokens
}

// object reads a JSON file of the directory; a missing file gives an empty object.
func (b *beside) object(name string) (section, error) {
	r := newReader(b.ctx, filepath.Join(b.dir, name), 0)
	s := section{r: r}
	data, err := readFile(r.file, maxConfig)
	if errors.Is(err, fs.ErrNotExist) {
		return s, nil
	}
	if err != nil {
		return s, err
	}
	s = r.parse(data)
	return s, r.err
}

func (b *beside) modelType() (string, error) {
	s, err := b.object("config.json")
	if err != nil {
		return "", err
	}
	name := s.text("model_type", "")
	return name, s.r.err
}

// tokenText reads a token written as a string or as an object with its content.
func (s section) tokenText(key string) string {
	if s.has(key) && s.fields[key][0] == '{' {
		return s.section(key).needText("content")
	}
	return s.text(key, "")
}

func readBeside(ctx context.Context, dir string) (*beside, error) {
	b := &beside{ctx: ctx, dir: dir}
	c := &b.config
	seen := map[string]bool{}
	special := func(text string) {
		if text != "" && !seen[text] {
			seen[text] = true
			b.special = append(b.special, text)
		}
	}
	for _, name := range []string{"tokenizer_config.json", "special_tokens_map.json"} {
		s, err := b.object(name)
		if err != nil {
			return nil, err
		}
		for key, field := range map[string]*string{"bos_token": &c.BOSToken, "eos_token": &c.EOSToken,
			"unk_token": &c.UNKToken, "pad_token": &c.PADToken} {
			if text := s.tokenText(key); *field == "" {
				*field = text
			}
		}
		for _, key := range []string{"bos_token", "eos_token", "unk_token", "pad_token", "cls_token", "sep_token", "mask_token"} {
			special(s.tokenText(key))
		}
		if s.has("additional_special_tokens") && s.fields["additional_special_tokens"][0] == '[' {
			s.each("additional_special_tokens", func(i int, raw json.RawMessage) {
				item := section{r: s.r, path: fmt.Sprintf("additional_special_tokens[%d]", i), fields: map[string]json.RawMessage{"text": raw}}
				special(item.tokenText("text"))
				if i == spareIDs {
					s.r.fail("additional_special_tokens", "more than %d", i)
				}
			})
		}
		if name == "tokenizer_config.json" {
			c.Class = s.text("tokenizer_class", "")
			for key, field := range map[string]**bool{"add_bos_token": &c.AddBOS, "add_eos_token": &c.AddEOS} {
				if s.has(key) {
					v := s.flag(key, false)
					*field = &v
				}
			}
			s.templates(c)
			b.decoderTokens(s)
		}
		if s.r.err != nil {
			return nil, s.r.err
		}
	}
	if err := b.templateFiles(); err != nil {
		return nil, err
	}
	return b, b.addedTokens()
}

// templates reads chat_template: one template, or a list of named ones.
func (s section) templates(c *Config) {
	if !s.has("chat_template") {
		return
	}
	if s.fields["chat_template"][0] != '[' {
		c.ChatTemplate = s.text("chat_template", "")
		return
	}
	c.ChatTemplates = map[string]string{}
	s.each("chat_template", func(i int, raw json.RawMessage) {
		p := s.r.section(raw, fmt.Sprintf("chat_template[%d]", i))
		c.ChatTemplates[p.needText("name")] = p.needText("template")
	})
	c.ChatTemplate = c.ChatTemplates["default"]
}

// templateFiles reads the template files of newer directories, which take precedence.
func (b *beside) templateFiles() error {
	s, err := b.object("chat_template.json")
	if err != nil {
		return err
	}
	s.templates(&b.config)
	if s.r.err != nil {
		return s.r.err
	}
	data, err := readFile(filepath.Join(b.dir, "chat_template.jinja"), maxConfig)
	if err == nil {
		b.config.ChatTemplate = string(data)
	} else if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// decoderTokens reads added_tokens_decoder: tokens by id.
func (b *beside) decoderTokens(s section) {
	raw, path := s.fields["added_tokens_decoder"], s.at("added_tokens_decoder")
	if isNull(raw) {
		return
	}
	if raw[0] != '{' {
		s.r.fail(path, "want an object")
		return
	}
	s.r.members(raw, func(key string, raw json.RawMessage) bool {
		id, err := strconv.Atoi(key)
		if err != nil {
			s.r.fail(path+"."+key, "want a token id")
			return false
		}
		p := s.r.section(raw, path+"."+key)
		a := AddedToken{ID: id, Content: p.needText("content"), Special: p.flag("special", false),
			SingleWord: p.flag("single_word", false), LStrip: p.flag("lstrip", false), RStrip: p.flag("rstrip", false)}
		a.Normalized = p.flag("normalized", !a.Special)
		b.added = append(b.added, a)
		return true
	})
	b.addedIn = s.r.file
	sort.Slice(b.added, func(i, j int) bool { return b.added[i].ID < b.added[j].ID })
}

// addedTokens reads added_tokens.json, the older list of texts and ids, which has no
// flags for matching. If both exist, added_tokens_decoder takes precedence.
func (b *beside) addedTokens() error {
	if len(b.added) > 0 {
		return nil
	}
	r := newReader(b.ctx, filepath.Join(b.dir, "added_tokens.json"), 0)
	data, err := readFile(r.file, maxConfig)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	data = bytes.TrimSpace(data)
	if !json.Valid(data) || data[0] != '{' {
		return &FormatError{File: r.file, Msg: "not a JSON object"}
	}
	r.members(data, func(text string, raw json.RawMessage) bool {
		one := section{r: r, fields: map[string]json.RawMessage{text: raw}}
		b.added = append(b.added, AddedToken{ID: one.number(text, -1), Content: text})
		return true
	})
	b.addedIn = r.file
	sort.Slice(b.added, func(i, j int) bool { return b.added[i].ID < b.added[j].ID })
	return r.err
}

// apply applies the content of the files beside a tokenizer to it.
func (t *Tokenizer) apply(b *beside) error {
	r := newReader(b.ctx, b.addedIn, 0)
	r.added = t.addedBytes()
	t.config = b.config
	named := map[string]bool{}
	for _, text := range b.special {
		named[text] = true
	}
	for i, a := range b.added {
		if !r.going(i) {
			return r.err
		}
		if a.ID > len(t.pieces)+spareIDs {
			r.fail("", "token %q has id %d, too large for a vocabulary of %d tokens", a.Content, a.ID, len(t.pieces))
			return r.err
		}
		if old := t.added.byID[int32(a.ID)]; old == nil {
			a.Special = a.Special || named[a.Content]
			t.addToken(r, a, "")
		}
	}
	for _, text := range b.special {
		// A special token may be in the model's own vocabulary; one in no vocabulary is ignored.
		if id, ok := t.ids[text]; ok && t.added.byID[id] == nil {
			t.addToken(r, AddedToken{ID: int(id), Content: text, Special: true}, "")
		}
	}
	if r.err != nil {
		return r.err
	}
	if d, ok := t.decoder.(*pieceDecoder); ok {
		for id := range t.added.byID {
			d.plain[id] = true
		}
	}
	t.buildAdded(r)
	if r.err != nil {
		return r.err
	}
	for text, id := range map[string]*int{t.config.BOSToken: &t.bos, t.config.EOSToken: &t.eos} {
		if k, ok := t.ids[text]; ok && text != "" {
			*id = int(k)
		}
	}
	t.applyBOS()
	return nil
}

// applyBOS applies add_bos_token and add_eos_token for the tokenizer classes that use them:
// SentencePiece models and the Llama class, whose template is rebuilt from them.
// Other classes follow tokenizer.json.
func (t *Tokenizer) applyBOS() {
	_, piece := t.decoder.(*pieceDecoder)
	if !piece && !strings.HasPrefix(t.config.Class, "Llama") && !strings.HasPrefix(t.config.Class, "CodeLlama") {
		return
	}
	set := func(add *bool, id int, list *[]int) {
		if add == nil || len(*list) > 1 {
			return // absent, or the model has its own sequence of several tokens
		}
		*list = nil
		if *add && id >= 0 {
			*list = []int{id}
		}
	}
	set(t.config.AddBOS, t.bos, &t.prefix)
	set(t.config.AddEOS, t.eos, &t.suffix)
}
