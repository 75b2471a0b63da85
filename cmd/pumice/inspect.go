package main

import (
	"encoding/json"
	"errors"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"

	"pumice"
	"pumice/checkpoint"
	"pumice/internal/humanize"
	"pumice/model"
)

func (p *program) inspectCommand() *cli.Command {
	return &cli.Command{
		Name:      "inspect",
		Usage:     "show a model's metadata, tensors and memory plan",
		ArgsUsage: "MODEL",
		Flags:     append(modelFlags(), chatTemplateFlag(), jsonFlag()),
		Action:    p.inspect,
	}
}

// inspection is what --json writes.
type inspection struct {
	Path             string              `json:"path"`
	Format           string              `json:"format"`
	Parameters       int64               `json:"parameters"`
	Bytes            int64               `json:"bytes"` // of the tensors as they are stored
	Config           *model.Config       `json:"config"`
	Metadata         jsonFields          `json:"metadata"`
	GenerationConfig jsonFields          `json:"generation_config,omitempty"`
	Tokenizer        *tokenizerInfo      `json:"tokenizer"`   // null without one
	ChatFormat       string              `json:"chat_format"` // "" without one
	Tensors          []tensorInfo        `json:"tensors"`
	Memory           *pumice.MemoryCheck `json:"memory"` // null where it could not be planned; memory_error says why
	MemoryError      string              `json:"memory_error,omitempty"`
}

type tokenizerInfo struct {
	Tokens int `json:"tokens"`
	BOS    int `json:"bos"` // -1 means none
	EOS    int `json:"eos"`
}

type tensorInfo struct {
	Name   string `json:"name"`
	DType  string `json:"dtype"`
	Shape  []int  `json:"shape"`
	Bytes  int64  `json:"bytes"`
	File   string `json:"file"`
	Offset int64  `json:"offset"`
}

// jsonFields are key-value pairs in the order of their file, long values shortened.
type jsonFields []field

type field struct{ key, value string }

func (f jsonFields) MarshalJSON() ([]byte, error) {
	var b strings.Builder
	b.WriteByte('{')
	for i, kv := range f {
		if i > 0 {
			b.WriteByte(',')
		}
		key, err := json.Marshal(kv.key)
		if err != nil {
			return nil, err
		}
		value := []byte(kv.value)
		if !json.Valid(value) {
			if value, err = json.Marshal(kv.value); err != nil {
				return nil, err
			}
		}
		b.Write(key)
		b.WriteByte(':')
		b.Write(value)
	}
	b.WriteByte('}')
	return []byte(b.String()), nil
}

func fieldsOf(f *checkpoint.Fields) jsonFields {
	out := jsonFields{}
	if f == nil {
		return out
	}
	for _, key := range f.Keys() {
		out = append(out, field{key, f.Describe(key)})
	}
	return out
}

func (p *program) inspect(c *cli.Context) error {
	if err := noMoreArgs(c, 1); err != nil {
		return err
	}
	path, err := pumice.Resolve(modelName(c))
	if err != nil {
		return err
	}
	ck, err := checkpoint.Open(c.Context, path)
	if err != nil {
		return err
	}
	defer ck.Close()
	info, err := inspectCheckpoint(ck)
	if err != nil {
		return err
	}
	if tok, err := pumice.OpenTokenizer(c.Context, path); err == nil {
		info.Tokenizer = &tokenizerInfo{Tokens: tok.VocabSize(), BOS: -1, EOS: -1}
		if id, ok := tok.BOS(); ok {
			info.Tokenizer.BOS = id
		}
		if id, ok := tok.EOS(); ok {
			info.Tokenizer.EOS = id
		}
		if format, err := pumice.OpenChatFormat(c.Context, path, c.String("chat-template")); err == nil {
			info.ChatFormat = format.Name()
		}
	} else if none := (*pumice.NoTokenizerError)(nil); !errors.As(err, &none) {
		return err
	}
	memory, err := pumice.CheckMemory(c.Context, ck, p.options(c))
	var option *pumice.OptionError
	switch {
	case errors.As(err, &option):
		return err
	case err != nil:
		info.MemoryError = err.Error()
	default:
		info.Memory = &memory
	}
	if c.Bool("json") {
		return p.writeJSON(info)
	}
	return p.printInspection(info)
}

func inspectCheckpoint(c *checkpoint.Checkpoint) (*inspection, error) {
	config, err := model.ReadConfig(c)
	if err != nil {
		return nil, err
	}
	info := &inspection{
		Path: c.Path(), Format: c.Format().String(), Bytes: c.NumBytes(), Config: config,
		Metadata: fieldsOf(c.Metadata()), Tensors: []tensorInfo{},
	}
	if c.Metadata() == nil {
		info.Metadata = fieldsOf(c.Config())
	}
	if c.GenerationConfig() != nil {
		info.GenerationConfig = fieldsOf(c.GenerationConfig())
	}
	for _, name := range c.Names() {
		t, _ := c.Tensor(name)
		n := int64(1)
		for _, d := range t.Shape {
			n *= int64(d)
		}
		info.Parameters += n
		info.Tensors = append(info.Tensors, tensorInfo{t.Name, t.DType.String(), slices.Clone(t.Shape), t.NumBytes(), t.File, t.Offset})
	}
	return info, nil
}

// weightTypes is what the device's matrices take by type.
func weightTypes(shares []model.TypeShare) string {
	var out []string
	for _, s := range shares {
		text := s.Type + " " + humanize.Bytes(s.Bytes)
		if s.Instead != "" {
			text += " (rows that " + s.Instead + "'s blocks do not divide)"
		}
		out = append(out, text)
	}
	return strings.Join(out, ", ")
}

func (p *program) printInspection(info *inspection) error {
	var b strings.Builder
	w := tabular{&b}
	w.row("path", "%s", info.Path)
	w.row("format", "%s, family %s", info.Format, info.Config.Family)
	w.row("size", "%s, %.1f million parameters, %d tensors", humanize.Bytes(info.Bytes), float64(info.Parameters)/1e6, len(info.Tensors))
	if info.Tokenizer != nil {
		w.row("tokenizer", "%d tokens, BOS %d, EOS %d", info.Tokenizer.Tokens, info.Tokenizer.BOS, info.Tokenizer.EOS)
	} else {
		w.row("tokenizer", "none: token ids only")
	}
	w.row("chat format", "%s", info.ChatFormat)
	if m := info.Memory; m != nil {
		w.row("memory", "%s with a context of %d (%s cache of %d tokens): weights %s, cache %s, activations %s, other %s", humanize.Bytes(m.TotalBytes), m.Context, m.KVType, m.CacheTokens,
			humanize.Bytes(m.WeightsBytes), humanize.Bytes(m.CacheBytes), humanize.Bytes(m.ArenaBytes), humanize.Bytes(m.TotalBytes-m.WeightsBytes-m.CacheBytes-m.ArenaBytes))
		word := "fits"
		if !m.Fits {
			word = "does not fit"
		}
		w.row("weight types", "%s", weightTypes(m.WeightTypes))
		w.row("", "%s: %s available on %s", word, humanize.Bytes(m.AvailableBytes), m.Device)
		if !m.Fits {
			w.row("", "%s", smaller(m.Would))
		}
	} else {
		w.row("memory", "%s", info.MemoryError)
	}
	for _, list := range []jsonFields{info.Metadata, info.GenerationConfig} {
		b.WriteByte('\n')
		for _, kv := range list {
			w.row(kv.key, "%s", kv.value)
		}
	}
	b.WriteByte('\n')
	for _, t := range info.Tensors {
		w.row(t.Name, "%s %v %s", t.DType, t.Shape, humanize.Bytes(t.Bytes))
	}
	return p.printf("%s", b.String())
}
