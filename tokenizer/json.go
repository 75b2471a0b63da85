package tokenizer

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"math"
	"slices"
	"time"
	"unicode/utf8"
)

// This file reads Hugging Face's tokenizer.json, in its current and older forms.
// Fields that the format doesn't define are ignored, as in the reference library;
// unknown component types and values are errors.

const (
	maxDepth       = 16      // nesting of Sequences
	maxStages      = 128     // components in all Sequences
	maxFields      = 1 << 10 // of an object with named fields
	maxVocab       = 1 << 20 // ids; Gemma's vocabulary has 2^18
	maxPiece       = 1 << 12 // bytes of a token, of any kind
	maxAdded       = 2 << 20 // bytes of all added tokens
	maxAround      = 256     // tokens put around a text
	maxReplacement = 1 << 9  // bytes of the replacement of a pattern or character
	maxLength      = 1 << 20 // limit of numbers such as Strip's counts
	spareIDs       = 1 << 16 // how much ids may exceed the number of tokens
)

// reader carries the file name and the first error through the nested sections.
type reader struct {
	ctx      context.Context
	file     string
	size     int // bytes of the file
	stages   int // number of components read
	added    int // bytes of the added tokens read
	patterns time.Duration
	err      error
}

func newReader(ctx context.Context, file string, size int) *reader {
	return &reader{ctx: ctx, file: file, size: size}
}

// going reports whether to continue with item n of a list: nothing has failed and the context has not ended.
func (r *reader) going(n int) bool {
	if n%1024 == 0 && r.err == nil {
		if err := r.ctx.Err(); err != nil {
			r.err = fmt.Errorf("tokenizer: %s: %w", r.file, err)
		}
	}
	return r.err == nil
}

// section is one JSON object and its path. The section of an absent or null value has no fields.
type section struct {
	r      *reader
	path   string
	fields map[string]json.RawMessage
}

func (r *reader) fail(path, format string, args ...any) {
	if r.err == nil {
		r.err = &FormatError{File: r.file, Path: path, Msg: fmt.Sprintf(format, args...)}
	}
}

func (r *reader) unsupported(path, format string, args ...any) {
	if r.err == nil {
		r.err = &UnsupportedError{File: r.file, Path: path, Feature: fmt.Sprintf(format, args...)}
	}
}

func isNull(raw json.RawMessage) bool { return len(raw) == 0 || string(raw) == "null" }

func (r *reader) section(raw json.RawMessage, path string) section {
	s := section{r: r, path: path}
	if isNull(raw) {
		return s
	}
	if raw[0] != '{' {
		r.fail(path, "want an object")
		return s
	}
	s.fields = map[string]json.RawMessage{}
	r.members(raw, func(key string, value json.RawMessage) bool {
		s.fields[key] = value
		if len(s.fields) > maxFields {
			r.fail(path, "more than %d fields", maxFields)
		}
		return true
	})
	return s
}

// parse returns the JSON object of a file.
func (r *reader) parse(data []byte) section {
	trimmed := bytes.TrimSpace(data)
	if !json.Valid(data) || len(trimmed) == 0 || trimmed[0] != '{' {
		var object map[string]json.RawMessage
		r.fail("", "not a JSON object: %v", json.Unmarshal(data, &object))
		return section{r: r}
	}
	return r.section(trimmed, "")
}

func (s section) at(key string) string {
	if s.path == "" {
		return key
	}
	return s.path + "." + key
}

func (s section) has(key string) bool { return !isNull(s.fields[key]) }

func (s section) section(key string) section { return s.r.section(s.fields[key], s.at(key)) }

// into decodes a field if it is present and not null, and reports whether it was.
func (s section) into(key string, v any, want string) bool {
	if !s.has(key) {
		return false
	}
	if err := json.Unmarshal(s.fields[key], v); err != nil {
		s.r.fail(s.at(key), "want %s", want)
		return false
	}
	return true
}

func (s section) text(key string, def string) string {
	s.into(key, &def, "a string")
	return def
}

func (s section) needText(key string) string {
	if !s.has(key) {
		s.r.fail(s.at(key), "missing")
	}
	return s.text(key, "")
}

// shortText reads a text of bounded length, because it is inserted into other texts.
func (s section) shortText(key string) string {
	text := s.needText(key)
	if len(text) > maxReplacement {
		s.r.fail(s.at(key), "%d bytes", len(text))
	}
	return text
}

func (s section) flag(key string, def bool) bool {
	s.into(key, &def, "true or false")
	return def
}

func (s section) number(key string, def int) int {
	v := float64(def)
	if s.into(key, &v, "a number") && (v != math.Trunc(v) || math.Abs(v) > math.MaxInt32) {
		s.r.fail(s.at(key), "want an integer, got %g", v)
		return def
	}
	return int(v)
}

// each calls yield with each element of a list, which may be absent.
func (s section) each(key string, yield func(i int, raw json.RawMessage)) {
	if !s.has(key) {
		return
	}
	if s.fields[key][0] != '[' {
		s.r.fail(s.at(key), "want a list")
		return
	}
	s.r.elements(s.fields[key], func(i int, raw json.RawMessage) bool {
		yield(i, raw)
		return s.r.err == nil
	})
}

// components returns the components of a Sequence.
func (s section) components(key string, depth int) []section {
	if depth >= maxDepth {
		s.r.fail(s.at(key), "nested more than %d deep", maxDepth)
		return nil
	}
	var parts []section
	s.each(key, func(i int, raw json.RawMessage) {
		if s.r.stages++; s.r.stages > maxStages {
			s.r.fail(s.at(key), "more than %d components in all", maxStages)
			return
		}
		parts = append(parts, s.r.section(raw, fmt.Sprintf("%s[%d]", s.at(key), i)))
	})
	return parts
}

// parseJSON builds a tokenizer from the contents of a tokenizer.json.
func parseJSON(ctx context.Context, file string, data []byte) (*Tokenizer, error) {
	r := newReader(ctx, file, len(data))
	if !utf8.Valid(data) {
		return nil, &FormatError{File: file, Msg: "not UTF-8"}
	}
	top := r.parse(data)
	if r.err != nil {
		return nil, r.err
	}
	t := newTokenizer(file)
	if !top.has("model") {
		r.fail("model", "missing")
	}
	added := readAdded(top)
	m := top.section("model")
	t.model = readModel(t, m)
	if r.err != nil {
		return nil, r.err
	}
	if top.has("normalizer") {
		t.normalizer = readNormalizer(top.section("normalizer"), 0)
	}
	if top.has("pre_tokenizer") {
		t.pre = readPreTokenizer(top.section("pre_tokenizer"), 0)
	}
	if top.has("post_processor") {
		readPostProcessor(t, top.section("post_processor"), 0)
	}
	if top.has("decoder") {
		d := decoderReader{local: true}
		t.decoder = d.read(top.section("decoder"), 0)
		t.local = d.local
	} else {
		t.local = true
	}
	if r.err != nil {
		return nil, r.err
	}
	for i, a := range added {
		if !r.going(i) {
			break
		}
		if id, ok := t.ids[a.Content]; ok {
			a.ID = int(id) // the model's id wins, as in the reference library
		}
		if a.ID > len(t.pieces)+spareIDs {
			path := fmt.Sprintf("added_tokens[%d].id", i)
			r.fail(path, "%d is too large for a vocabulary of %d tokens", a.ID, len(t.pieces))
		}
		t.addToken(r, a, fmt.Sprintf("added_tokens[%d]", i))
	}
	for _, id := range slices.Concat(t.prefix, t.suffix) {
		if id >= len(t.pieces) || t.flags[id]&flagToken == 0 {
			r.fail("post_processor", "adds id %d, which has no token", id)
		}
	}
	t.buildAdded(r)
	t.useRawBytes()
	if r.err != nil {
		return nil, r.err
	}
	return t, nil
}

func readAdded(top section) []AddedToken {
	var added []AddedToken
	top.each("added_tokens", func(i int, raw json.RawMessage) {
		s := top.r.section(raw, fmt.Sprintf("added_tokens[%d]", i))
		if !s.has("id") {
			top.r.fail(s.at("id"), "missing")
		}
		a := AddedToken{
			ID: s.number("id", -1), Content: s.needText("content"), Special: s.flag("special", false),
			SingleWord: s.flag("single_word", false), LStrip: s.flag("lstrip", false), RStrip: s.flag("rstrip", false),
		}
		a.Normalized = s.flag("normalized", !a.Special)
		added = append(added, a)
	})
	return added
}
