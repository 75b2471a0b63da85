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

// Options configure Open and Model.Load. The zero value is the default.
type Options struct {
	// Device is an index, text that one device's name contains, or a UUID. "" picks the best GPU, or a CPU driver if
	// there is no GPU.
	Device string
	// Devices spreads the layers over several devices, in this order, each selected as by Device. With nil one device
	// has all layers.
	Devices []string
	// On has the model on Devices that are open, in place of Device and Devices: several Engines can be on one. CacheDir,
	// Validation, Surfaces and HangTimeout are then those that the Devices were opened with.
	On []*Device
	// Context is how many tokens a session can have, prompt and answer together. 0 stands for the model's own context, but at
	// most 4096.
	Context int
	// KVMemory is the size of the KV cache in bytes. All sessions share it; it must have room for one with the whole context.
	// 0 stands for eight of these, or for as many as fit half of the device memory that is left beside weights and activations.
	KVMemory int64
	// KVHost is host memory, in bytes, for what has no room in the KV cache and no session uses at the moment. With 0 it is
	// evaluated again when it is needed.
	KVHost int64
	// KVDisk is how many bytes of files in KVDir keep what was in the KV cache, for this Engine and later ones with the same
	// model, weights, adapters and KVType: what a prompt has in common with a text of before is read from there instead of being
	// evaluated. The files used longest ago are given up first. Only their owner can read them, since keys and values tell
	// the texts. With 0 nothing is kept.
	KVDisk int64
	KVDir  string
	// DType converts the matrices while loading, to "f32", "q8_0", "q4_k" or another weight type. "" and "keep" leave
	// their types.
	DType  string
	KVType string // type of the KV cache: "f16" (also ""), "f32" or "q8_0"
	// LoRA lists PEFT adapters to apply while loading. Each is a directory, or directory:scale to scale its changes to
	// the weights.
	LoRA         []string
	KernelPath   string // use only this family of kernels, one of KernelPaths(); "" picks the device's best
	ChatTemplate string // name of a built-in format or path of a Jinja template; "" uses the model's own
	CacheDir     string // folder that keeps compiled pipelines for later processes; "" keeps none
	Validation   bool   // load Vulkan's validation layer with synchronization validation; its messages go to Logger
	Profile      bool   // take a timestamp around every dispatch
	Surfaces     bool   // open the device so that it can draw in windows too, see Device.Vulkan

	// HangTimeout is how long a device may work on one submission before it counts as hung; a token or a chunk of a
	// prompt takes one submission or several. 0 stands for two minutes, or ten on a CPU driver.
	HangTimeout time.Duration

	Logger   zerolog.Logger          // the zero value logs nothing
	Progress func(done, total int64) // called while loading, with bytes of the checkpoint; calls don't overlap
}

// PromptChunk is the most tokens of a prompt that are evaluated at once. Between two chunks Generate looks at its
// context.
const PromptChunk = model.DefaultChunk

// An OptionError reports an invalid value of a field of Options or GenerateOptions.
type OptionError struct {
	Field       string // name of the field, such as "KVType"
	Value, Want string
}

func (e *OptionError) Error() string {
	return fmt.Sprintf("pumice: %s %q: want %s", e.Field, e.Value, e.Want)
}

// weightTypes and cacheTypes are the types that matrices and the KV cache can have.
var (
	weightTypes = dtype.Weights()
	cacheTypes  = kernels.CacheTypes
)

// settings are the Options that lower packages need, in these packages' types.
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
		return s, &OptionError{"KernelPath", o.KernelPath, "one of " + strings.Join(KernelPaths(), ", ")}
	}
	if len(o.Devices) > 0 && o.Device != "" {
		return s, &OptionError{"Device", o.Device, "one device or a list of several, not both"}
	}
	if slices.Contains(o.Devices, "") {
		return s, &OptionError{"Devices", strings.Join(o.Devices, ","),
			"the index, a part of the name, or the UUID of each device"}
	}
	if len(o.On) > 0 && (o.Device != "" || len(o.Devices) > 0) {
		return s, &OptionError{"On", fmt.Sprintf("%d devices", len(o.On)), "open devices, or Device or Devices, not both"}
	}
	if o.Context < 0 {
		return s, &OptionError{"Context", fmt.Sprint(o.Context), "0 (the model's own) or a number of tokens"}
	}
	if o.KVMemory < 0 {
		return s, &OptionError{"KVMemory", fmt.Sprint(o.KVMemory), "0 (as suits the device) or a number of bytes"}
	}
	if o.KVHost < 0 {
		return s, &OptionError{"KVHost", fmt.Sprint(o.KVHost), "0 (none) or a number of bytes"}
	}
	if o.KVDisk < 0 {
		return s, &OptionError{"KVDisk", fmt.Sprint(o.KVDisk), "0 (none) or a number of bytes"}
	}
	if o.KVDisk > 0 && o.KVDir == "" {
		return s, &OptionError{"KVDir", "", "a folder, with KVDisk"}
	}
	return s, nil
}

// model returns the options of package model.
func (o *Options) model(s settings) model.Options {
	return model.Options{
		Context: o.Context, DType: s.weights, KVType: s.cache, CacheBytes: o.KVMemory, HostBytes: o.KVHost,
		LoRA: s.lora, Progress: o.Progress, Logger: o.Logger,
	}
}

// parseLoRA parses PATH or PATH:SCALE. A colon without a number after it belongs to the path.
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

// parseType returns the type called value, or dtype.Invalid for "".
func parseType(field, value string, known []dtype.DType, also string) (dtype.DType, error) {
	if value == "" {
		return dtype.Invalid, nil
	}
	if t, err := dtype.Parse(value); err == nil && slices.Contains(known, t) {
		return t, nil
	}
	return dtype.Invalid, &OptionError{field, value, "one of " + also + dtype.Names(known)}
}
