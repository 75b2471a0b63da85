package model

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"math"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"pumice/checkpoint"
)

// A LoRA is a low-rank adapter (Hu et al. 2021, arXiv:2106.09685) as PEFT saves it: a directory
// of adapter_config.json and adapter_model.safetensors (or .bin). Each matrix W it trained
// becomes W + Scale * alpha / r * B A while loading, in float32; the result has the type that W
// would have had, so on a quantised checkpoint it is quantised again unless Options.DType says
// otherwise. Adapters name matrices as the Hugging Face directory does, whatever the format of
// the checkpoint.
type LoRA struct {
	Path  string  // of the directory
	Scale float32 // factor of what the adapter adds; 0 means 1
}

// An adapter is an open LoRA.
type adapter struct {
	path    string
	c       *checkpoint.Checkpoint
	updates map[string]*update // by module: a tensor's name without ".weight"
}

type adapters []*adapter

// openAdapters opens every adapter. The caller closes them after the weights are loaded.
func openAdapters(ctx context.Context, list []LoRA) (adapters, error) {
	var open adapters
	for _, l := range list {
		a, err := openAdapter(ctx, l)
		if err != nil {
			return nil, errors.Join(err, open.Close())
		}
		open = append(open, a)
	}
	return open, nil
}

// Close unmaps the files.
func (list adapters) Close() error {
	var errs []error
	for _, a := range list {
		errs = append(errs, a.c.Close())
	}
	return errors.Join(errs...)
}

func openAdapter(ctx context.Context, l LoRA) (*adapter, error) {
	fields, err := checkpoint.ReadFields(filepath.Join(l.Path, "adapter_config.json"))
	if err != nil {
		return nil, fmt.Errorf("model: adapter %s: %w", l.Path, err)
	}
	config := readAdapterConfig(fields)
	if err := fields.Err(); err != nil {
		return nil, err
	}
	c, err := openAdapterWeights(ctx, l.Path)
	if err != nil {
		return nil, fmt.Errorf("model: adapter %s: %w", l.Path, err)
	}
	a := &adapter{path: l.Path, c: c, updates: map[string]*update{}}
	if err := a.pair(config, float64(cmp.Or(l.Scale, 1))); err != nil {
		return nil, errors.Join(err, c.Close())
	}
	return a, nil
}

// openAdapterWeights opens what PEFT saves, safetensors for preference.
func openAdapterWeights(ctx context.Context, dir string) (*checkpoint.Checkpoint, error) {
	c, err := checkpoint.OpenWeights(ctx, filepath.Join(dir, "adapter_model.safetensors"))
	if !errors.Is(err, fs.ErrNotExist) {
		return c, err
	}
	if c, other := checkpoint.OpenWeights(ctx, filepath.Join(dir, "adapter_model.bin")); !errors.Is(other, fs.ErrNotExist) {
		return c, other
	}
	return nil, err
}

// adapterConfig is what adapter_config.json says about the scale of the updates.
type adapterConfig struct {
	rank     int
	ranks    map[int]bool // that modules may have, rank among them
	alpha    float64
	alphas   map[string]moduleAlpha // by the end of a module's name
	rankRoot bool                   // divide alpha by the rank's root (Kalajdzievski 2023, arXiv:2312.03732)
}

type moduleAlpha struct {
	order int // among the patterns
	alpha float64
}

// plainModule is a pattern of modules that is a name: PEFT takes them for regular expressions.
var plainModule = regexp.MustCompile(`^[A-Za-z0-9_.]+$`)

func readAdapterConfig(f *checkpoint.Fields) adapterConfig {
	if kind := f.String("peft_type"); kind != "LORA" {
		f.Fail("peft_type", "%q is not supported; only LORA is", kind)
	}
	c := adapterConfig{
		rank: f.Int("r"), alpha: f.Float("lora_alpha"), alphas: map[string]moduleAlpha{}, rankRoot: f.BoolOr("use_rslora", false),
	}
	if c.rank < 1 {
		f.Fail("r", "%d must be positive", c.rank)
	}
	c.ranks = map[int]bool{c.rank: true}
	if bias := f.StringOr("bias", "none"); bias != "none" {
		f.Fail("bias", "%q is not supported; adapters must leave biases alone", bias)
	}
	refuseAdapters(f)
	if p := f.Object("rank_pattern"); p != nil {
		for _, key := range p.Keys() { // the factors' shapes say which module has which rank
			rank := p.Int(key)
			if rank < 1 {
				p.Fail(key, "%d must be positive", rank)
			}
			c.ranks[rank] = true
		}
	}
	if p := f.Object("alpha_pattern"); p != nil {
		for i, key := range p.Keys() {
			if !plainModule.MatchString(key) {
				p.Fail(key, "regular expressions are not supported")
			}
			c.alphas[key] = moduleAlpha{i, p.Float(key)}
		}
	}
	return c
}

// refuseAdapters refuses adapters that are not two factors a matrix.
func refuseAdapters(f *checkpoint.Fields) {
	for _, key := range []string{"fan_in_fan_out", "use_dora", "lora_bias", "use_qalora"} {
		mustBe(f, key, false)
	}
	// Modules that these name are trained or connected in other ways than by two factors of a matrix.
	for _, key := range []string{"modules_to_save", "trainable_token_indices", "layer_replication", "target_parameters",
		"alora_invocation_tokens", "megatron_config"} {
		if text := f.Describe(key); f.Has(key) && text != "[]" && text != "{}" {
			f.Fail(key, "%s is not supported", text)
		}
	}
	// Other initialisations change the weights that the adapter is added to.
	if text := f.Describe("init_lora_weights"); f.Has("init_lora_weights") {
		switch text {
		case "true", "false", `"gaussian"`, `"orthogonal"`, `"eva"`:
		default:
			f.Fail("init_lora_weights", "%s is not supported: such an adapter does not fit the original weights", text)
		}
	}
}

// scale is alpha / rank of a module. As in PEFT the first pattern that is the end of the
// module's name counts.
func (c *adapterConfig) scale(module string, rank int) float64 {
	alpha, first := c.alpha, len(c.alphas)
	for end, more := module, true; more; _, end, more = strings.Cut(end, ".") {
		if m, ok := c.alphas[end]; ok && m.order < first {
			alpha, first = m.alpha, m.order
		}
	}
	if c.rankRoot {
		return alpha / math.Sqrt(float64(rank))
	}
	return alpha / float64(rank)
}

// factorName is PEFT's name of a factor; "default" is the adapter's own, which it leaves out in
// files.
var factorName = regexp.MustCompile(`^base_model\.model\.(.+)\.lora_([AB])(?:\.default)?\.weight$`)

// pair finds both factors of every module.
func (a *adapter) pair(config adapterConfig, scale float64) error {
	fail := func(format string, args ...any) error {
		return &ConfigError{File: a.path, Msg: fmt.Sprintf(format, args...)}
	}
	for _, name := range a.c.Names() {
		t, _ := a.c.Tensor(name)
		m := factorName.FindStringSubmatch(name)
		switch {
		case m == nil:
			return fail("tensor %q is not a factor of a linear layer, the only kind that is supported", name)
		case len(t.Shape) != 2 || !t.DType.Weight() || t.DType.BlockSize() != 1:
			return fail("tensor %q has shape %v and type %s, want a matrix of floats", name, t.Shape, t.TypeName())
		}
		u := a.updates[m[1]]
		if u == nil {
			u = &update{}
			a.updates[m[1]] = u
		}
		factor := &u.a
		if m[2] == "B" {
			factor = &u.b
		}
		if *factor != nil {
			return fail("module %q has two factors lora_%s: %q and %q", m[1], m[2], (*factor).Name, name)
		}
		*factor = t
	}
	if len(a.updates) == 0 {
		return fail("the adapter has no tensors")
	}
	return a.checkPairs(config, scale)
}

// checkPairs checks the shapes of every module's factors and computes its scale.
func (a *adapter) checkPairs(config adapterConfig, scale float64) error {
	fail := func(format string, args ...any) error {
		return &ConfigError{File: a.path, Msg: fmt.Sprintf(format, args...)}
	}
	for _, module := range slices.Sorted(maps.Keys(a.updates)) {
		u := a.updates[module]
		if u.a == nil || u.b == nil {
			return fail("module %q has one of its factors lora_A and lora_B only", module)
		}
		rank := u.a.Rows()
		if u.b.Cols() != rank || !config.ranks[rank] {
			return fail("module %q has factors of shapes %v and %v, want a rank of %d", module, u.a.Shape, u.b.Shape, config.rank)
		}
		if full := min(u.b.Rows(), u.a.Cols()); rank > full {
			return fail("module %q has factors of shapes %v and %v: a rank of %d is more than the %d of a full matrix", module, u.a.Shape, u.b.Shape, rank, full)
		}
		if u.scale = scale * config.scale(module, rank); !(math.Abs(u.scale) <= math.MaxFloat32) {
			return fail("module %q is scaled by %g, which is no number that weights can have", module, u.scale)
		}
	}
	return nil
}
