package pumice

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/rs/zerolog"

	"pumice/chat"
	"pumice/model"
	"pumice/pipeline"
	"pumice/sample"
	"pumice/tokenizer"
)

// An Engine is a Model in the memory of one or more devices. It is safe for concurrent use: what its sessions evaluate at the
// same time shares steps.
type Engine struct {
	model     *Model // its files may be closed
	text      *text
	format    *chat.Format // nil if formatErr is set
	formatErr error
	endTokens []int

	devices   []*Device
	managers  []*pipeline.Manager // one per device
	loaded    *model.Model
	vocab     int
	hidden    int
	encoder   bool // of embeddings alone
	context   int
	loadTime  time.Duration
	closeOnce sync.Once
	closeErr  error

	work *executor
	disk *kvDisk // nil: texts are not kept
}

// Open opens and loads a model: it is OpenModel, Load and Close of the Model in one. It returns when the weights are in
// device memory; the files are closed by then. It opens the devices that the options select, or uses those of Options.On. The
// caller closes the Engine. Cancelling ctx stops the loading.
//
// A caller may want to distinguish these errors by errors.Is or errors.As: ErrNoDevice, *FitError, *CacheError, *FormatError,
// *UnsupportedError, *OptionError, *ModelError. An *OptionError, or a *sample.ParamError from a Session, reports a value
// given by the caller; errors in the model's files, sampling parameters included, are neither. After ErrDeviceLost or
// ErrHung, from Open or from a Session, the Engine can only be closed.
func Open(ctx context.Context, name string, o Options) (*Engine, error) {
	start := time.Now()
	m, err := OpenModel(ctx, name)
	if err != nil {
		return nil, err
	}
	defer m.Close()
	e, err := m.Load(ctx, o)
	if err != nil {
		return nil, err
	}
	e.loadTime = time.Since(start)
	return e, nil
}

// load reads the text side and uploads the weights. Building a tokenizer takes as long as uploading a small model, so both are
// done at once. An error of the tokenizer stops the upload.
func (e *Engine) load(ctx context.Context, o Options, s settings) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var wait sync.WaitGroup
	var textErr error
	wait.Go(func() {
		if textErr = e.readText(ctx, o); textErr != nil {
			cancel()
		}
	})
	err := e.upload(ctx, o, s)
	wait.Wait()
	if textErr != nil {
		return textErr
	}
	return err
}

// readText reads the tokenizer, the chat format and the end tokens.
func (e *Engine) readText(ctx context.Context, o Options) error {
	m := e.model
	t, err := m.readText(ctx)
	if err != nil {
		return err
	}
	e.text = t
	if e.format, e.formatErr = t.format(ctx, o.ChatTemplate); e.encoder {
		e.format, e.formatErr = nil, errEncoder
	}
	if err := ctx.Err(); err != nil { // formatErr would then only say that ctx has ended
		return err
	}
	if o.ChatTemplate != "" && e.formatErr != nil {
		return e.formatErr
	}
	if err := t.matches(m.source.Path, e.vocab, o.Logger); err != nil {
		return err
	}
	e.endTokens, err = endTokens(m.checkpoint, m.config, t.tokenizer)
	return err
}

// upload takes the devices, and opens those that Options.On does not have, and loads the weights into their memory.
func (e *Engine) upload(ctx context.Context, o Options, s settings) error {
	if err := e.take(ctx, o, s); err != nil {
		return err
	}
	x, err := model.Load(ctx, e.model.checkpoint, o.model(s), e.managers...)
	if err != nil {
		return err
	}
	if len(e.managers) > 1 {
		o.Logger.Info().Msg(x.String())
	}
	e.loaded, e.work, e.context = x, newExecutor(x, turnsOf(e.devices)...), x.Context()
	e.work.profile = o.Profile
	if o.KVDisk > 0 {
		e.disk, err = openKVDisk(e, o.KVDir, o.KVDisk, o.Logger)
	}
	return err
}

// take fills in devices and managers. Kernels that were not checked before are.
func (e *Engine) take(ctx context.Context, o Options, s settings) error {
	names := o.Devices
	if len(names) == 0 && len(o.On) == 0 {
		names = []string{o.Device}
	}
	for i := range len(o.On) + len(names) {
		var d *Device
		if i < len(o.On) {
			d = o.On[i]
		} else {
			o.Device = names[i]
			var err error
			if d, err = openDevice(o, s.path); err != nil {
				return err
			}
			d.implicit = true
		}
		if err := d.use(); err != nil {
			return err
		}
		e.devices = append(e.devices, d)
		if err := d.checkFor(ctx, e.model.checkpoint, s); err != nil {
			return err
		}
		m, err := d.newManager(o, s.path)
		if err != nil {
			return err
		}
		e.managers = append(e.managers, m)
	}
	return nil
}

// A MismatchError says that a tokenizer does not belong to the model.
type MismatchError struct {
	Path          string
	Tokens, Vocab int // tokens of the tokenizer, rows of the model's embedding
}

func (e *MismatchError) Error() string {
	return fmt.Sprintf("pumice: %s: the tokenizer has %d tokens, the model %d: they don't belong together", e.Path, e.Tokens, e.Vocab)
}

// matches compares the tokenizer's size with the model's vocabulary. The tokenizer may have a few added tokens more
// (Gemma 3's has one more than its text model), and the model rows of padding (Qwen pads by hundreds). The limits
// admit all known models.
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
		log.Info().Int("tokens", n).Int("vocabulary", vocab).Msg("the tokenizer has more tokens than the model")
	}
	return nil
}

// Close frees everything that the Engine has on its devices, and closes those that Load has opened for it, unless other
// Engines are on them: then the last of these does. It waits for an evaluation in progress, which ends after
// Options.HangTimeout at the latest, and for the step of another Engine that has the device's turn. The memory of a device
// that hangs is not freed until the process exits, and the error is ErrHung. Closing twice is fine.
func (e *Engine) Close() error {
	e.closeOnce.Do(func() {
		if e.disk != nil {
			e.disk.close()
		}
		if e.work != nil {
			e.work.close()
		}
		var errs []error
		if e.loaded != nil {
			errs = append(errs, e.loaded.Close())
		}
		for _, m := range e.managers {
			errs = append(errs, m.Close())
		}
		for _, d := range e.devices {
			errs = append(errs, d.free())
		}
		e.closeErr = errors.Join(errs...)
	})
	return e.closeErr
}

// ErrClosed is the error of using a closed Engine or a session of one.
var ErrClosed = errors.New("pumice: the engine is closed")

// Source describes the files that the model was loaded from.
func (e *Engine) Source() Source { return e.model.source }

// Config returns the model's configuration. The caller must not change it.
func (e *Engine) Config() *Config { return e.model.config }

// gpu reports whether the model is on GPUs only, not on a CPU driver.
func (e *Engine) gpu() bool {
	for _, d := range e.devices {
		if d.info.Type == "cpu" {
			return false
		}
	}
	return len(e.devices) > 0
}

// Devices are the devices that the model is on, in the order of its layers. Another Engine may be opened on them.
func (e *Engine) Devices() []*Device { return slices.Clone(e.devices) }

// Profile returns the device time by kernel and size of the last evaluation: that of the last chunk of a prompt, or of the
// last token. The row Gaps has what is not the device's. The Engine must have been opened with Options.Profile. With several
// devices the list has each kernel, and Gaps, once per device.
func (e *Engine) Profile() ([]Timing, error) {
	var list []Timing
	err := e.work.alone(context.Background(), nil, func(context.Context) (err error) {
		list, err = e.loaded.Profile()
		return err
	})
	return list, err
}

// CopyBandwidth is that of the first device, measured between two steps. It returns 0 if the model leaves too little memory
// for that.
func (e *Engine) CopyBandwidth(ctx context.Context) (float64, error) {
	return e.bandwidth(ctx, (*pipeline.Manager).CopyBandwidth)
}

// ReadBandwidth is that of the first device, as CopyBandwidth.
func (e *Engine) ReadBandwidth(ctx context.Context) (float64, error) {
	return e.bandwidth(ctx, (*pipeline.Manager).ReadBandwidth)
}

func (e *Engine) bandwidth(ctx context.Context, measure func(*pipeline.Manager, context.Context) (float64, error)) (rate float64, err error) {
	err = e.onFirst(ctx, func(ctx context.Context, m *pipeline.Manager) (err error) {
		rate, err = measure(m, ctx)
		return err
	})
	return rate, err
}

// onFirst calls measure between two steps.
func (e *Engine) onFirst(ctx context.Context, measure func(context.Context, *pipeline.Manager) error) error {
	return e.work.alone(ctx, nil, func(ctx context.Context) error { return measure(ctx, e.managers[0]) })
}

// Peak measures how many multiplications and additions a second the first device does in an arithmetic, as CopyBandwidth. It
// returns 0 if the device has no kernel for it.
func (e *Engine) Peak(ctx context.Context, a Arithmetic) (rate float64, err error) {
	err = e.onFirst(ctx, func(ctx context.Context, m *pipeline.Manager) (err error) {
		rate, err = m.Peak(ctx, a)
		return err
	})
	return rate, err
}

// Ceilings measures what bounds kernels on the first device, as CopyBandwidth.
func (e *Engine) Ceilings(ctx context.Context) (c Ceilings, err error) {
	err = e.onFirst(ctx, func(ctx context.Context, m *pipeline.Manager) (err error) {
		c, err = m.Ceilings(ctx)
		return err
	})
	return c, err
}

// Memory returns the memory that the model takes on all its devices together.
func (e *Engine) Memory() MemoryPlan { return e.loaded.Memory() }

// Fingerprint identifies the model: configuration, adapters, and name, type, shape and samples of each tensor, as the weights were
// loaded. Two models of one fingerprint differ in less than anyone changes by accident.
func (e *Engine) Fingerprint() string { return e.loaded.Fingerprint() }

// Context returns how many tokens a session can hold, counting prompt and answer.
func (e *Engine) Context() int { return e.context }

// LoadTime returns how long Open took, or Model.Load.
func (e *Engine) LoadTime() time.Duration { return e.loadTime }

// Tokenizer returns the model's tokenizer, or nil if it has none. Token ids can be used without one.
func (e *Engine) Tokenizer() *tokenizer.Tokenizer { return e.text.tokenizer }

// ChatFormat returns the format of conversations for this model: that of Options.ChatTemplate, else the template that
// came with the model, else the format that its family and vocabulary indicate. If there is none, the error is a
// *chat.NoFormatError.
func (e *Engine) ChatFormat() (*chat.Format, error) { return e.format, e.formatErr }

// EncodeChat returns the prompt for the answer to a conversation. If o.MaxTokens is set, old messages of a longer
// conversation are left out; the zero Options leave out nothing.
func (e *Engine) EncodeChat(ctx context.Context, messages []chat.Message, o chat.Options) (chat.Prompt, error) {
	if e.text.tokenizer == nil {
		return chat.Prompt{}, &NoTokenizerError{e.model.source.Path}
	}
	if e.formatErr != nil {
		return chat.Prompt{}, e.formatErr
	}
	return e.format.EncodeWith(ctx, e.text.tokenizer, messages, o)
}

// Encode returns the prompt for the continuation of text. Special tokens spelled out in text are parsed as such, and
// the tokenizer adds its usual ones, such as BOS.
func (e *Engine) Encode(text string) ([]int, error) {
	if e.text.tokenizer == nil {
		return nil, &NoTokenizerError{e.model.source.Path}
	}
	return e.text.tokenizer.TryEncode(text, tokenizer.EncodeOptions{AddSpecial: true, ParseSpecial: true})
}

// SamplingDefaults returns the sampling parameters that the model's authors recommend (Model.SamplingDefaults).
func (e *Engine) SamplingDefaults() sample.Params { return e.model.sampling }

// EndTokens returns the tokens that end a text. The caller must not change the list.
func (e *Engine) EndTokens() []int { return e.endTokens }
