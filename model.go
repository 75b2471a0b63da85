package pumice

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"pumice/chat"
	"pumice/checkpoint"
	"pumice/model"
	"pumice/sample"
	"pumice/tokenizer"
)

// A Model is what a model is on disk: its configuration, tokenizer, chat format and weights. No device is needed for it; Load
// puts it on one, as often as one likes. The files are mapped and hold no memory of their own. It is safe for concurrent use.
type Model struct {
	source     Source
	checkpoint *checkpoint.Checkpoint
	config     *Config
	sampling   sample.Params
	embed      model.Embedding
	embedErr   error // why embed is not known

	files  sync.RWMutex // held for reading by what uses the files
	closed bool

	textMu sync.Mutex
	text   *text // nil until it is first needed
}

// Source describes the files of a model.
type Source struct {
	Path   string // after Resolve
	Format string // "GGUF", "safetensors" or "torch"
	Bytes  int64  // size of the tensors as stored

	Parameters int64 // number of elements in all tensors
}

// ErrModelClosed is the error of using the files of a closed Model.
var ErrModelClosed = errors.New("pumice: the model is closed")

// OpenModel opens a model: a GGUF file, a Hugging Face directory, or the name of a model (see Resolve). It reads the
// configuration, and neither the tokenizer nor the weights. The caller closes the Model. Cancelling ctx stops the opening.
func OpenModel(ctx context.Context, name string) (*Model, error) {
	path, err := Resolve(name)
	if err != nil {
		return nil, err
	}
	c, err := checkpoint.Open(ctx, path)
	if err != nil {
		return nil, err
	}
	m := &Model{checkpoint: c, source: Source{Path: path, Format: c.Format().String(), Bytes: c.NumBytes()}}
	if err := m.read(); err != nil {
		m.Close()
		return nil, err
	}
	return m, nil
}

// read reads what is small.
func (m *Model) read() (err error) {
	c := m.checkpoint
	for _, name := range c.Names() {
		if t, ok := c.Tensor(name); ok {
			m.source.Parameters += int64(t.NumElements())
		}
	}
	if m.config, err = model.ReadConfig(c); err != nil {
		return err
	}
	if m.sampling, err = samplingDefaults(c); err != nil {
		return err
	}
	m.embed, m.embedErr = model.ReadEmbedding(c)
	return nil
}

// use keeps the files open until free.
func (m *Model) use() error {
	m.files.RLock()
	if m.closed {
		m.files.RUnlock()
		return ErrModelClosed
	}
	return nil
}

func (m *Model) free() { m.files.RUnlock() }

// Close closes the files, after the calls that use them. Engines don't need them any more. Closing twice is fine.
func (m *Model) Close() error {
	m.files.Lock()
	defer m.files.Unlock()
	m.closed = true
	return m.checkpoint.Close()
}

// Load puts the model on the devices that the options select, or on those of Options.On. It returns when the weights are in
// device memory. The caller closes the Engine. Cancelling ctx stops the loading. Open says which errors there are.
func (m *Model) Load(ctx context.Context, o Options) (*Engine, error) {
	start := time.Now()
	s, err := o.settings()
	if err != nil {
		return nil, err
	}
	if err := m.use(); err != nil {
		return nil, err
	}
	defer m.free()
	e := &Engine{model: m, vocab: m.config.VocabSize, hidden: m.config.HiddenSize, encoder: m.config.Encoder}
	if err := e.load(ctx, o, s); err != nil {
		e.Close()
		return nil, err
	}
	e.loadTime = time.Since(start)
	return e, nil
}

// Source describes the files.
func (m *Model) Source() Source { return m.source }

// Config returns the configuration. The caller must not change it.
func (m *Model) Config() *Config { return m.config }

// SamplingDefaults returns the sampling parameters that the model's authors recommend. They come from
// generation_config.json (temperature, top_k, top_p, min_p, repetition_penalty) or GGUF's general.sampling keys;
// missing ones come from sample.Default. do_sample false means temperature 0, whatever the file's temperature, as in
// transformers.
func (m *Model) SamplingDefaults() sample.Params { return m.sampling }

// EndTokens returns the tokens that end a text.
func (m *Model) EndTokens(ctx context.Context) ([]int, error) {
	if err := m.use(); err != nil {
		return nil, err
	}
	defer m.free()
	t, err := m.readText(ctx)
	if err != nil {
		return nil, err
	}
	return endTokens(m.checkpoint, m.config, t.tokenizer)
}

// Tokenizer returns the tokenizer. The first call builds it, which takes up to a second for large vocabularies; cancelling
// ctx stops that. If there is none, the error is a *NoTokenizerError.
func (m *Model) Tokenizer(ctx context.Context) (*tokenizer.Tokenizer, error) {
	t, err := m.foundText(ctx)
	if err != nil {
		return nil, err
	}
	return t.tokenizer, nil
}

// ChatFormat returns the format of conversations: that of template, which is as Options.ChatTemplate is, or with "" the
// template that comes with the model, or the format that its family and vocabulary indicate. If there is none, the error is a
// *chat.NoFormatError.
func (m *Model) ChatFormat(ctx context.Context, template string) (*chat.Format, error) {
	t, err := m.foundText(ctx)
	if err != nil {
		return nil, err
	}
	return t.format(ctx, template)
}

// foundText is readText for those who need a tokenizer.
func (m *Model) foundText(ctx context.Context) (*text, error) {
	if err := m.use(); err != nil {
		return nil, err
	}
	defer m.free()
	return found(m.source.Path)(m.readText(ctx))
}

// readText returns the text side, which it reads once. An error is not kept, because it may be that of ctx. The files are in
// use.
func (m *Model) readText(ctx context.Context) (*text, error) {
	m.textMu.Lock()
	defer m.textMu.Unlock()
	if m.text != nil {
		return m.text, nil
	}
	t, err := checkpointText(ctx, m.checkpoint)
	if err != nil {
		return nil, err
	}
	if t.family == "" {
		t.family = m.config.Family
	}
	m.text = t
	return t, nil
}

// ExactLogits evaluates tokens on the host in float64, with the weights in the files and the plainest operations, and returns the
// logits after each token, (len(tokens), vocabulary). No device takes part: it is what a device's logits are compared with. It is
// slow: each token takes a product for each weight, of which a processor does one to three thousand million a second. Errors are
// *TokenError, that of an encoder, which has no logits, and those of the files; cancelling ctx stops it.
func (m *Model) ExactLogits(ctx context.Context, tokens []int) ([][]float64, error) {
	if err := m.use(); err != nil {
		return nil, err
	}
	defer m.free()
	return model.Exact(ctx, m.checkpoint, tokens)
}

// A Tensor describes a tensor of a Model.
type Tensor struct {
	Name   string `json:"name"`
	DType  string `json:"dtype"`
	Shape  []int  `json:"shape"` // outermost dimension first
	Bytes  int64  `json:"bytes"`
	File   string `json:"file"`
	Offset int64  `json:"offset"` // in File
}

// Tensors lists the tensors as they are stored, in the order of the files.
func (m *Model) Tensors() []Tensor {
	list := []Tensor{}
	for _, name := range m.checkpoint.Names() {
		if t, ok := m.checkpoint.Tensor(name); ok {
			list = append(list, Tensor{t.Name, t.DType.String(), slices.Clone(t.Shape), t.NumBytes(), t.File, t.Offset})
		}
	}
	return list
}

// A Field is a key of a configuration and its value: JSON, or another short form where the value is long or of a GGUF file.
type Field struct{ Key, Value string }

// Metadata lists the keys of a GGUF file, or of config.json, in their order.
func (m *Model) Metadata() ([]Field, error) {
	if err := m.use(); err != nil {
		return nil, err
	}
	defer m.free()
	if meta := m.checkpoint.Metadata(); meta != nil {
		return fieldsOf(meta), nil
	}
	return fieldsOf(m.checkpoint.Config()), nil
}

// GenerationConfig lists the keys of generation_config.json; it is nil if there is no such file.
func (m *Model) GenerationConfig() []Field { return fieldsOf(m.checkpoint.GenerationConfig()) }

func fieldsOf(f *checkpoint.Fields) []Field {
	if f == nil {
		return nil
	}
	list := []Field{}
	for _, key := range f.Keys() {
		list = append(list, Field{key, f.Describe(key)})
	}
	return list
}
