package pumice

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/rs/zerolog"
	"golang.org/x/sync/semaphore"

	"pumice/chat"
	"pumice/checkpoint"
	"pumice/model"
	"pumice/pipeline"
	"pumice/sample"
	"pumice/tokenizer"
)

// An Engine is a model in the memory of a device. It is safe for concurrent use: its sessions take turns, one evaluation
// at a time.
type Engine struct {
	path      string
	kernels   []*Kernels // one a device
	model     loaded
	text      *text
	format    *chat.Format // nil where formatErr is set
	formatErr error
	sampling  sample.Params
	endTokens []int
	vocab     int
	context   int
	loadTime  time.Duration
	closeOnce sync.Once
	closeErr  error
	source    Source

	turn  *semaphore.Weighted // taken while evaluating; a lock that waiting for ends with a context
	run   evaluator
	owner *Session // whose tokens the KV cache holds
}

// loaded is a model in device memory: a *model.Model, or a *model.Split on several devices.
type loaded interface {
	evaluator
	Config() *model.Config
	Memory() model.MemoryPlan
	Context() int
	Profile() ([]pipeline.Timing, error)
	Close() error
}

// evaluator is what a Session needs of a model; tests have one without a device.
type evaluator interface {
	Forward(ctx context.Context, tokens []int, position int, want model.Want) (model.Output, error)
	ForwardSequences(ctx context.Context, sequences [][]int, position int) (model.Output, error)
	Sequences() (n, tokens int)
	Decode(ctx context.Context, token, position, runs int, want model.Want, draw *pipeline.Draw) (model.Output, error)
	MaxSteps() int
	CanResume(length, position int) bool
}

// Source says what a model was loaded from.
type Source struct {
	Path   string // after Resolve
	Format string // "GGUF", "safetensors" or "torch"
	Bytes  int64  // of the tensors as they are stored

	Parameters int64 // elements of the tensors
}

// Open loads a model: a GGUF file, a Hugging Face directory, or the name of a model (see Resolve). It returns when the
// weights are in device memory; the files are closed by then. The caller closes the Engine. Cancelling ctx stops the loading.
//
// Errors that a caller may want to tell apart, by errors.Is or errors.As: vk.ErrNoDevice (also *vk.SelectError), *model.FitError,
// *checkpoint.FormatError, *checkpoint.UnsupportedError, *OptionError, *ModelError. An *OptionError, and a *sample.ParamError from a
// Session, is about what the caller gave; what is wrong in the model's files, sampling parameters included, is neither. After
// vk.ErrDeviceLost or vk.ErrHung, from here or from a session, the Engine can only be closed.
func Open(ctx context.Context, path string, o Options) (*Engine, error) {
	start := time.Now()
	s, err := o.settings()
	if err != nil {
		return nil, err
	}
	if path, err = Resolve(path); err != nil {
		return nil, err
	}
	e := &Engine{path: path, turn: semaphore.NewWeighted(1)}
	if err := e.open(ctx, o, s); err != nil {
		e.Close()
		return nil, err
	}
	e.loadTime = time.Since(start)
	return e, nil
}

func (e *Engine) open(ctx context.Context, o Options, s settings) error {
	c, err := checkpoint.Open(ctx, e.path)
	if err != nil {
		return err
	}
	defer c.Close()
	e.source = Source{Path: e.path, Format: c.Format().String(), Bytes: c.NumBytes()}
	for _, name := range c.Names() {
		if t, ok := c.Tensor(name); ok {
			e.source.Parameters += int64(t.NumElements())
		}
	}
	config, err := model.ReadConfig(c)
	if err != nil {
		return err
	}
	if e.sampling, err = samplingDefaults(c); err != nil {
		return err
	}
	e.vocab = config.VocabSize
	// A tokenizer takes as long to build as a small model to upload. If it can't be used there is no point in going on.
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var wait sync.WaitGroup
	var textErr error
	wait.Go(func() {
		if textErr = e.readText(ctx, c, config.Family, o); textErr != nil {
			cancel()
		}
	})
	err = e.load(ctx, c, o, s)
	wait.Wait()
	if textErr != nil {
		return textErr
	}
	if err != nil {
		return err
	}
	e.endTokens, err = endTokens(c, config, e.text.tokenizer)
	return err
}

// readText builds the tokenizer and the chat format.
func (e *Engine) readText(ctx context.Context, c *checkpoint.Checkpoint, family string, o Options) error {
	t, err := checkpointText(ctx, c)
	if err != nil {
		return err
	}
	if t.family == "" {
		t.family = family
	}
	e.text = t
	e.format, e.formatErr = t.format(ctx, o.ChatTemplate)
	if err := ctx.Err(); err != nil { // which is no reason to do without a format
		return err
	}
	if o.ChatTemplate != "" && e.formatErr != nil {
		return e.formatErr
	}
	return t.matches(e.path, e.vocab, o.Logger)
}

// load opens the devices and brings the weights to them.
func (e *Engine) load(ctx context.Context, c *checkpoint.Checkpoint, o Options, s settings) error {
	devices := o.Devices
	if len(devices) == 0 {
		devices = []string{o.Device}
	}
	var managers []*pipeline.Manager
	for _, d := range devices {
		o.Device = d
		k, err := openKernels(o, s)
		if err != nil {
			return err
		}
		e.kernels, managers = append(e.kernels, k), append(managers, k.manager)
		if err := k.checkFor(ctx, c, s); err != nil {
			return err
		}
	}
	mo := model.Options{Context: o.Context, DType: s.weights, KVType: s.cache, LoRA: s.lora, Progress: o.Progress, Logger: o.Logger}
	if len(managers) == 1 {
		x, err := model.Load(ctx, managers[0], c, mo)
		if err != nil {
			return err
		}
		e.model = x
	} else {
		x, err := model.LoadSplit(ctx, managers, c, mo)
		if err != nil {
			return err
		}
		o.Logger.Info().Msg(x.String())
		e.model = x
	}
	e.run, e.context = e.model, e.model.Context()
	return nil
}

// checkpointText is openText for an open checkpoint.
func checkpointText(ctx context.Context, c *checkpoint.Checkpoint) (*text, error) {
	if c.Format() == checkpoint.GGUF {
		return ggufText(ctx, c.Metadata())
	}
	return directoryText(ctx, c.Path())
}

// A MismatchError says that a tokenizer belongs to another model.
type MismatchError struct {
	Path          string
	Tokens, Vocab int // of the tokenizer, and rows of the model's embedding
}

func (e *MismatchError) Error() string {
	return fmt.Sprintf("pumice: %s: the tokenizer has %d tokens, the model %d: they don't belong together", e.Path, e.Tokens, e.Vocab)
}

// matches compares the tokenizer's size with the model's vocabulary. They differ by a few added tokens (Gemma 3's tokenizer
// has one more than its text model) or by rows of padding (Qwen pads by hundreds), but not by more than a known model's.
func (t *text) matches(path string, vocab int, log zerolog.Logger) error {
	if t.tokenizer == nil {
		return nil
	}
	n := t.tokenizer.VocabSize()
	const mayExceed = 256
	if n > vocab+mayExceed || n < vocab/2 {
		return &MismatchError{path, n, vocab}
	}
	if n > vocab {
		log.Info().Int("tokens", n).Int("vocabulary", vocab).Msg("the tokenizer has tokens that the model can't take")
	}
	return nil
}

// Close frees everything on the device. It waits for an evaluation that is under way, which ends at the latest after
// Options.HangTimeout. On a device that hangs the memory is left to the process, and the error is vk.ErrHung. Closing twice is fine.
func (e *Engine) Close() error {
	_ = e.turn.Acquire(context.Background(), 1) // which does not end
	defer e.turn.Release(1)
	e.closeOnce.Do(func() {
		e.run = nil
		var errs []error
		if e.model != nil {
			errs = append(errs, e.model.Close())
		}
		for _, k := range e.kernels {
			errs = append(errs, k.Close())
		}
		e.closeErr = errors.Join(errs...)
	})
	return e.closeErr
}

// ErrClosed is what using a closed Engine, or a session of one, gives.
var ErrClosed = errors.New("pumice: the engine is closed")

// Source says what was loaded.
func (e *Engine) Source() Source { return e.source }

// Config returns the model's configuration. The caller must not change it.
func (e *Engine) Config() *model.Config { return e.model.Config() }

// gpu reports whether the model is on GPUs, and not on a CPU driver.
func (e *Engine) gpu() bool {
	for _, k := range e.kernels {
		if k.info.Type == "cpu" {
			return false
		}
	}
	return len(e.kernels) > 0
}

// Device describes the device that the model is on, the first of several.
func (e *Engine) Device() Device { return e.kernels[0].info }

// Devices describes every device that the model is on.
func (e *Engine) Devices() []Device {
	var list []Device
	for _, k := range e.kernels {
		list = append(list, k.info)
	}
	return list
}

// Profile is the device time by kernel of the last evaluation: the last run of a prompt, or the last token. The Engine must have been
// opened with Options.Profile; on several devices a kernel is in the list once for each.
func (e *Engine) Profile() ([]pipeline.Timing, error) {
	_ = e.turn.Acquire(context.Background(), 1) // which does not end
	defer e.turn.Release(1)
	if e.run == nil {
		return nil, ErrClosed
	}
	return e.model.Profile()
}

// CopyBandwidth is Kernels.CopyBandwidth of the first device, where there is room beside the model.
func (e *Engine) CopyBandwidth(ctx context.Context) (float64, error) {
	if err := e.turn.Acquire(ctx, 1); err != nil {
		return 0, err
	}
	defer e.turn.Release(1)
	if e.run == nil {
		return 0, ErrClosed
	}
	return e.kernels[0].CopyBandwidth(ctx)
}

// Memory says what the model takes of its devices together.
func (e *Engine) Memory() model.MemoryPlan { return e.model.Memory() }

// Context returns how many tokens a session can hold, prompt and answer together.
func (e *Engine) Context() int { return e.context }

// LoadTime returns how long Open took.
func (e *Engine) LoadTime() time.Duration { return e.loadTime }

// Tokenizer returns the model's tokenizer, nil if it has none. Token ids can be used without.
func (e *Engine) Tokenizer() *tokenizer.Tokenizer { return e.text.tokenizer }

// ChatFormat returns the format that conversations are written in for this model: that of Options.ChatTemplate, else the
// template that came with the model, else the format that its family and vocabulary point to, else a *chat.NoFormatError.
func (e *Engine) ChatFormat() (*chat.Format, error) { return e.format, e.formatErr }

// EncodeChat returns the prompt for the answer to a conversation. Set o.MaxTokens to have old messages left out where the
// conversation is longer; the zero Options leave nothing out.
func (e *Engine) EncodeChat(ctx context.Context, messages []chat.Message, o chat.Options) (chat.Prompt, error) {
	if e.text.tokenizer == nil {
		return chat.Prompt{}, &NoTokenizerError{e.path}
	}
	if e.formatErr != nil {
		return chat.Prompt{}, e.formatErr
	}
	return e.format.EncodeWith(ctx, e.text.tokenizer, messages, o)
}

// Encode returns the prompt for the continuation of text. Special tokens spelled out in it count as such, and the tokenizer
// adds those that it adds by itself.
func (e *Engine) Encode(text string) ([]int, error) {
	if e.text.tokenizer == nil {
		return nil, &NoTokenizerError{e.path}
	}
	return e.text.tokenizer.TryEncode(text, tokenizer.EncodeOptions{AddSpecial: true, ParseSpecial: true})
}

// SamplingDefaults returns how the model's authors want tokens to be chosen. A value comes from generation_config.json
// (temperature, top_k, top_p, min_p, repetition_penalty) or GGUF's general.sampling keys, and where these are silent from
// sample.Default. do_sample false means temperature 0, whatever temperature stands beside it, as in transformers.
func (e *Engine) SamplingDefaults() sample.Params { return e.sampling }

// EndTokens returns the tokens that end a text. The caller must not change the list.
func (e *Engine) EndTokens() []int { return e.endTokens }

// NewSession returns a session without tokens. It needs no closing.
func (e *Engine) NewSession() *Session { return &Session{engine: e} }
