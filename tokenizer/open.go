package tokenizer

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"sort"
	"strconv"
	"strings"
)

// Config is what the files beside a tokenizer say about its use.
type Config struct {
	Class         string            // tokenizer_class
	ModelType     string            // model_type of config.json
	ChatTemplate  string            // Jinja; the one named "default" where there are several
	ChatTemplates map[string]string // by name, where there are several
	// Texts of the special tokens; "" where there is none.
	BOSToken, EOSToken, UNKToken, PADToken string
	// AddBOS and AddEOS are add_bos_token and add_eos_token; nil where they are not given.
	AddBOS, AddEOS *bool
}

// Options changes how a tokenizer is opened. The zero value takes everything from the files.
type Options struct {
	// ChatGLM gives a SentencePiece model the special tokens of ChatGLM2 and its
	// prefix [gMASK] sop. It is implied by a config.json of that model type.
	ChatGLM bool
}

const (
	maxFile   = 256 << 20 // bytes of a tokenizer.json
	maxModel  = 64 << 20  // bytes of a tokenizer.model
	maxConfig = 64 << 20  // bytes of the files beside it
)

// Open reads the tokenizer in a directory, from its tokenizer.json or else its
// tokenizer.model, or in such a file itself. The files tokenizer_config.json,
// special_tokens_map.json, added_tokens.json, chat_template.jinja,
// chat_template.json and config.json beside it are used where they exist.
//
// Errors are *FormatError, *UnsupportedError or those of package os.
func Open(path string) (*Tokenizer, error) { return OpenWith(path, Options{}) }

// OpenWith is Open with options.
func OpenWith(path string, o Options) (*Tokenizer, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, fmt.Errorf("tokenizer: %w", err)
	}
	dir, file := filepath.Dir(path), path
	if info.IsDir() {
		dir = path
		for _, name := range []string{"tokenizer.json", "tokenizer.model"} {
			file = filepath.Join(dir, name)
			if _, err = os.Stat(file); err == nil {
				break
			}
		}
		if err != nil {
			return nil, fmt.Errorf("tokenizer: %s holds neither tokenizer.json nor tokenizer.model: %w", dir, fs.ErrNotExist)
		}
	}
	data, err := readFile(file, maxFile)
	if err != nil {
		return nil, err
	}
	b, err := readBeside(dir)
	if err != nil {
		return nil, err
	}
	b.config.ModelType, err = b.modelType()
	if err != nil {
		return nil, err
	}
	var t *Tokenizer
	if looksLikeJSON(data) {
		t, err = parseJSON(file, data)
	} else {
		if len(data) > maxModel {
			return nil, &FormatError{File: file, Msg: fmt.Sprintf("larger than %d bytes", maxModel)}
		}
		chatGLM := o.ChatGLM || b.config.ModelType == "chatglm" || b.config.Class == "ChatGLMTokenizer"
		t, err = parsePiece(file, data, chatGLM)
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
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("tokenizer: %w", err)
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err != nil {
		return nil, fmt.Errorf("tokenizer: %w", err)
	}
	if int64(len(data)) > limit {
		return nil, &FormatError{File: path, Msg: fmt.Sprintf("larger than %d bytes", limit)}
	}
	return data, nil
}

// beside is what the files next to a tokenizer hold.
type beside struct {
	dir     string
	config  Config
	added   []AddedToken // of added_tokens_decoder and added_tokens.json
	addedIn string
	special []string // texts of the named special tokens
}

// object reads a JSON file of the directory; a file that is not there is an empty object.
func (b *beside) object(name string) (section, error) {
	r := &reader{file: filepath.Join(b.dir, name)}
	s := section{r: r}
	data, err := readFile(r.file, maxConfig)
	if errors.Is(err, fs.ErrNotExist) {
		return s, nil
	}
	if err != nil {
		return s, err
	}
	if err := json.Unmarshal(data, &s.fields); err != nil {
		return s, &FormatError{File: r.file, Msg: fmt.Sprintf("not a JSON object: %v", err)}
	}
	return s, nil
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

func readBeside(dir string) (*beside, error) {
	b := &beside{dir: dir}
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
			for i, raw := range s.list("additional_special_tokens") {
				item := section{r: s.r, path: fmt.Sprintf("additional_special_tokens[%d]", i), fields: map[string]json.RawMessage{"text": raw}}
				special(item.tokenText("text"))
			}
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

// templates reads chat_template: one text, or a list of named ones.
func (s section) templates(c *Config) {
	if !s.has("chat_template") {
		return
	}
	if s.fields["chat_template"][0] != '[' {
		c.ChatTemplate = s.text("chat_template", "")
		return
	}
	c.ChatTemplates = map[string]string{}
	for i, raw := range s.list("chat_template") {
		p := s.r.section(raw, fmt.Sprintf("chat_template[%d]", i))
		c.ChatTemplates[p.needText("name")] = p.needText("template")
	}
	c.ChatTemplate = c.ChatTemplates["default"]
}

// templateFiles reads the templates of newer directories, which win.
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
	d := s.section("added_tokens_decoder")
	for key := range d.fields {
		id, err := strconv.Atoi(key)
		if err != nil {
			s.r.fail(d.at(key), "want a token id")
			return
		}
		p := d.section(key)
		a := AddedToken{ID: id, Content: p.needText("content"), Special: p.flag("special", false),
			SingleWord: p.flag("single_word", false), LStrip: p.flag("lstrip", false), RStrip: p.flag("rstrip", false)}
		a.Normalized = p.flag("normalized", !a.Special)
		b.added = append(b.added, a)
	}
	b.addedIn = s.r.file
	sort.Slice(b.added, func(i, j int) bool { return b.added[i].ID < b.added[j].ID })
}

// addedTokens reads added_tokens.json, the older list of texts and ids. It says
// nothing about how they match; added_tokens_decoder wins where both exist.
func (b *beside) addedTokens() error {
	s, err := b.object("added_tokens.json")
	if err != nil || len(b.added) > 0 {
		return err
	}
	for text := range s.fields {
		b.added = append(b.added, AddedToken{ID: s.number(text, -1), Content: text})
	}
	b.addedIn = s.r.file
	sort.Slice(b.added, func(i, j int) bool { return b.added[i].ID < b.added[j].ID })
	return s.r.err
}

// apply adds what the files beside it say to a tokenizer.
func (t *Tokenizer) apply(b *beside) error {
	r := &reader{file: b.addedIn}
	t.config = b.config
	named := map[string]bool{}
	for _, text := range b.special {
		named[text] = true
	}
	for _, a := range b.added {
		if a.ID > len(t.pieces)+spareIDs {
			r.fail("", "token %q has id %d, far beyond the vocabulary of %d", a.Content, a.ID, len(t.pieces))
			return r.err
		}
		if old := t.added.byID[int32(a.ID)]; old == nil {
			a.Special = a.Special || named[a.Content]
			t.addToken(r, a, "")
		}
	}
	for _, text := range b.special {
		// A special token of the model's own vocabulary; one that is nowhere is not used.
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

// applyBOS follows add_bos_token and add_eos_token for the tokenizer classes that do:
// SentencePiece models and the Llama class, whose template is rebuilt from them.
// Other classes take what tokenizer.json says.
func (t *Tokenizer) applyBOS() {
	_, piece := t.decoder.(*pieceDecoder)
	if !piece && !strings.HasPrefix(t.config.Class, "Llama") && !strings.HasPrefix(t.config.Class, "CodeLlama") {
		return
	}
	set := func(add *bool, id int, list *[]int) {
		if add == nil || len(*list) > 1 {
			return // not said, or a prefix of several tokens, which is the model's own
		}
		*list = nil
		if *add && id >= 0 {
			*list = []int{id}
		}
	}
	set(t.config.AddBOS, t.bos, &t.prefix)
	set(t.config.AddEOS, t.eos, &t.suffix)
}
