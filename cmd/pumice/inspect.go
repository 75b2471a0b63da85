package main

import (
	"encoding/json"
	"errors"
	"strings"

	"github.com/urfave/cli/v2"

	"pumice"
	"pumice/internal/humanize"
)

func (p *program) inspectCommand() *cli.Command {
	return &cli.Command{
		Name:      "inspect",
		Aliases:   []string{"show"},
		Category:  ofModels,
		Usage:     "show a model's metadata, tensors and memory plan",
		ArgsUsage: "[MODEL]",
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
	Config           *pumice.Config      `json:"config"`
	Metadata         jsonFields          `json:"metadata"`
	GenerationConfig jsonFields          `json:"generation_config,omitempty"`
	Tokenizer        *tokenizerInfo      `json:"tokenizer"`   // null without one
	ChatFormat       string              `json:"chat_format"` // "" without one
	Tensors          []pumice.Tensor     `json:"tensors"`
	Memory           *pumice.MemoryCheck `json:"memory"` // null where it could not be planned; memory_error says why
	MemoryError      string              `json:"memory_error,omitempty"`
}

type tokenizerInfo struct {
	Tokens int `json:"tokens"`
	BOS    int `json:"bos"` // -1 means none
	EOS    int `json:"eos"`
}

// jsonFields are written as one JSON object, whose keys stay in their order.
type jsonFields []pumice.Field

func (f jsonFields) MarshalJSON() ([]byte, error) {
	var b strings.Builder
	b.WriteByte('{')
	for i, kv := range f {
		if i > 0 {
			b.WriteByte(',')
		}
		key, err := json.Marshal(kv.Key)
		if err != nil {
			return nil, err
		}
		value := []byte(kv.Value)
		if !json.Valid(value) {
			if value, err = json.Marshal(kv.Value); err != nil {
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

func (p *program) inspect(c *cli.Context) error {
	name, err := onlyModel(c)
	if err != nil {
		return err
	}
	if err := p.fetchMissing(c, name); err != nil {
		return err
	}
	m, err := pumice.OpenModel(c.Context, name)
	if err != nil {
		return err
	}
	defer m.Close()
	metadata, err := m.Metadata()
	if err != nil {
		return err
	}
	source := m.Source()
	info := &inspection{
		Path: source.Path, Format: source.Format, Parameters: source.Parameters, Bytes: source.Bytes, Config: m.Config(),
		Metadata: metadata, GenerationConfig: m.GenerationConfig(), Tensors: m.Tensors(),
	}
	if tok, err := m.Tokenizer(c.Context); err == nil {
		info.Tokenizer = &tokenizerInfo{Tokens: tok.VocabSize(), BOS: -1, EOS: -1}
		if id, ok := tok.BOS(); ok {
			info.Tokenizer.BOS = id
		}
		if id, ok := tok.EOS(); ok {
			info.Tokenizer.EOS = id
		}
		if format, err := m.ChatFormat(c.Context, c.String("chat-template")); err == nil {
			info.ChatFormat = format.Name()
		}
	} else if none := (*pumice.NoTokenizerError)(nil); !errors.As(err, &none) {
		return err
	}
	memory, err := m.CheckMemory(c.Context, p.options(c))
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

// weightTypes is what the device's matrices take by type.
func weightTypes(shares []pumice.TypeShare) string {
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
	w := tabular{&b, 12}
	w.row("path", "%s", info.Path)
	w.row("format", "%s, family %s", info.Format, info.Config.Family)
	w.row("size", "%s, %.1f million parameters, %d tensors", humanize.Bytes(info.Bytes), float64(info.Parameters)/1e6, len(info.Tensors))
	if info.Tokenizer != nil {
		w.row("tokenizer", "%d tokens, BOS %d, EOS %d", info.Tokenizer.Tokens, info.Tokenizer.BOS, info.Tokenizer.EOS)
	} else {
		w.row("tokenizer", "none: token ids only")
	}
	switch info.ChatFormat {
	case "":
		w.row("chat format", "none: --chat-template gives one")
	case "chat_template":
		w.row("chat format", "the model's own template")
	default:
		w.row("chat format", "%s", info.ChatFormat)
	}
	w.row("context", "trained for %d tokens", info.Config.MaxPositionEmbeddings)
	if m := info.Memory; m != nil {
		word := "fits"
		if !m.Fits {
			word = "does not fit"
		}
		w.row("memory", "%s with a context of %d", humanize.Bytes(m.TotalBytes), m.Context)
		w.row("", "%s: %s available on %s", word, humanize.Bytes(m.AvailableBytes), m.Device)
		if !m.Fits {
			w.row("", "%s", smaller(m.Would))
		}
		w.row("", "weights %s, KV cache %s, activations %s, other %s", humanize.Bytes(m.WeightsBytes), humanize.Bytes(m.CacheBytes),
			humanize.Bytes(m.ArenaBytes), humanize.Bytes(m.TotalBytes-m.WeightsBytes-m.CacheBytes-m.ArenaBytes))
		w.row("KV cache", "%d tokens in %s, for all conversations together", m.CacheTokens, m.KVType)
		w.row("weight types", "%s", weightTypes(m.WeightTypes))
	} else {
		w.row("memory", "%s", info.MemoryError)
	}
	w.width = 36
	for _, list := range []jsonFields{info.Metadata, info.GenerationConfig} {
		b.WriteByte('\n')
		for _, kv := range list {
			w.row(kv.Key, "%s", kv.Value)
		}
	}
	b.WriteByte('\n')
	for _, t := range info.Tensors {
		w.row(t.Name, "%s %v %s", t.DType, t.Shape, humanize.Bytes(t.Bytes))
	}
	return p.printf("%s", b.String())
}
