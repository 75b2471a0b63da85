package pumice

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/rs/zerolog"

	"pumice/internal/dtype"
	"pumice/model"
	"pumice/pipeline/kernels"
)

// Options says how Open loads a model. The zero value is the default.
type Options struct {
	Device       string   // an index, a part of a name, or a UUID; "" = the best GPU, a CPU driver only if there is nothing else
	Devices      []string // spread the layers over these devices, named as Device does, in this order; nil = one device has them all
	Context      int      // positions that the KV cache holds; 0 = what the model was made for, at most 4096
	DType        string   // convert the matrices while loading: "f32", "q8_0", "q4_k" or another weight type; "" or "keep" = as they are stored
	KVType       string   // type of the KV cache: "f16" (also ""), "f32", "q8_0"
	LoRA         []string // PEFT adapters to apply while loading, each a directory, or directory:scale to scale what it changes
	KernelPath   string   // force one family of kernels, one of KernelPaths(); "" = the device's best
	ChatTemplate string   // a built-in format's name or the path of a Jinja template; "" = the model's own
	CacheDir     string   // where compiled pipelines are kept between runs; "" = nowhere
	Validation   bool     // load Vulkan's validation layer with synchronization validation; its messages go to Logger
	Profile      bool     // take a timestamp around every dispatch

	// HangTimeout is how long a device may work on one submission, of which a token or a piece of a prompt is one or several, before it
	// counts as hung. 0 = two minutes, and ten on a CPU driver.
	HangTimeout time.Duration

	Logger   zerolog.Logger          // the zero value logs nothing
	Progress func(done, total int64) // called while loading with bytes of the checkpoint; calls don't overlap
}

// PromptChunk is the most tokens of a prompt that are evaluated at once.
const PromptChunk = model.DefaultChunk

// An OptionError is a value that a field of Options or GenerateOptions can't have.
type OptionError struct {
	Field       string // its name, as "KVType"
	Value, Want string
}

func (e *OptionError) Error() string {
	return fmt.Sprintf("pumice: %s %q: want %s", e.Field, e.Value, e.Want)
}

// weightTypes and cacheTypes are what matrices and the KV cache may be converted to.
var (
	weightTypes = dtype.Weights()
	cacheTypes  = kernels.CacheTypes
)

// settings are Options in the types of the packages below.
type settings struct {
	weights, cache dtype.DType
	lora           []model.LoRA
	path           kernels.Path
}

func (o *Options) settings() (settings, error) {
	s := settings{path: kernels.Path(o.KernelPath)}
	var err error
	if o.DType != "keep" {
		if s.weights, err = parseType("DType", o.DType, weightTypes, "keep, "); err != nil {
			return s, err
		}
	}
	if s.cache, err = parseType("KVType", o.KVType, cacheTypes, ""); err != nil {
		return s, err
	}
	for _, text := range o.LoRA {
		l, err := parseLoRA(text)
		if err != nil {
			return s, err
		}
		s.lora = append(s.lora, l)
	}
	if s.path != "" && !slices.Contains(kernels.Paths, s.path) {
		return s, &OptionError{"KernelPath", o.KernelPath, fmt.Sprintf("one of %q", kernels.Paths)}
	}
	if len(o.Devices) > 0 && o.Device != "" {
		return s, &OptionError{"Device", o.Device, "one device or a list of several, not both"}
	}
	if slices.Contains(o.Devices, "") {
		return s, &OptionError{"Devices", strings.Join(o.Devices, ","),
			"the index, a part of the name, or the UUID of each device"}
	}
	if o.Context < 0 {
		return s, &OptionError{"Context", fmt.Sprint(o.Context), "0 (the model's own) or a number of tokens"}
	}
	return s, nil
}

// parseLoRA reads PATH or PATH:SCALE. A colon that no number follows belongs to the path.
func parseLoRA(text string) (model.LoRA, error) {
	l := model.LoRA{Path: text, Scale: 1}
	if i := strings.LastIndexByte(text, ':'); i >= 0 {
		if scale, err := strconv.ParseFloat(text[i+1:], 32); err == nil {
			l.Path, l.Scale = text[:i], float32(scale)
		}
	}
	if f := float64(l.Scale); l.Path == "" || f == 0 || math.IsNaN(f) || math.IsInf(f, 0) {
		return l, &OptionError{"LoRA", text, "an adapter's directory, with :SCALE after it where that is not 1"}
	}
	return l, nil
}

// parseType finds the type called value, dtype.Invalid for "".
func parseType(field, value string, known []dtype.DType, also string) (dtype.DType, error) {
	if value == "" {
		return dtype.Invalid, nil
	}
	if t, err := dtype.Parse(value); err == nil && slices.Contains(known, t) {
		return t, nil
	}
	return dtype.Invalid, &OptionError{field, value, "one of " + also + dtype.Names(known)}
}
