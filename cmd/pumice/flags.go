package main

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"fmt"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/urfave/cli/v2"

	"pumice"
	"pumice/internal/dtype"
	"pumice/sample"
)

// env is the environment variable that stands for a flag.
func env(name string) []string {
	return []string{"PUMICE_" + strings.ToUpper(strings.ReplaceAll(name, "-", "_"))}
}

func stringFlag(name, value, usage string, aliases ...string) cli.Flag {
	return &cli.StringFlag{Name: name, Aliases: aliases, Value: value, Usage: usage, EnvVars: env(name)}
}

func intFlag(name string, value int, usage string, aliases ...string) cli.Flag {
	return &cli.IntFlag{Name: name, Aliases: aliases, Value: value, Usage: usage, EnvVars: env(name)}
}

func boolFlag(name string, value bool, usage string) cli.Flag {
	return &cli.BoolFlag{Name: name, Value: value, Usage: usage, EnvVars: env(name)}
}

// floatFlag is a flag whose value is the model's where it is not given.
func floatFlag(name string, silent float32, usage string) cli.Flag {
	return &cli.Float64Flag{Name: name, Usage: usage, EnvVars: env(name), DefaultText: defaultText(silent)}
}

// defaultText says what a sampling flag is without being given; silent is for models that say nothing.
func defaultText[T int | float32](silent T) string {
	return fmt.Sprintf("the model's, else %v", silent)
}

func globalFlags() []cli.Flag {
	return []cli.Flag{
		stringFlag("device", "", "`INDEX`, part of a name, or UUID (default: the best GPU; a CPU driver only when there is nothing else)"),
		stringFlag("log-level", "warn", "`LEVEL`: debug, info, warn or error"),
		stringFlag("log-format", "text", "`FORMAT`: text or json"),
		boolFlag("quiet", false, "no progress and no warnings"),
		boolFlag("validation", false, "load Vulkan's validation layer; its messages are logged"),
	}
}

func jsonFlag() cli.Flag { return boolFlag("json", false, "write one JSON value to standard output") }

func modelFlags() []cli.Flag {
	return []cli.Flag{
		&cli.IntFlag{Name: "context", EnvVars: env("context"), Usage: "`N` tokens that prompt and answer may have", DefaultText: "the model's, at most 4096"},
		stringFlag("kv-type", "f16", "`TYPE` of the KV cache: f16, f32 or q8_0 (half of f16)"),
		stringFlag("dtype", "keep", "`TYPE` to convert all matrices to while loading: keep, "+dtype.Names(dtype.Weights())),
		&cli.StringSliceFlag{Name: "lora", EnvVars: env("lora"), Usage: "`PATH[:SCALE]` of a PEFT adapter to apply while loading; may be repeated"},
		stringFlag("kernel-path", "", fmt.Sprintf("`PATH` of kernels to force, of %s (default: the device's best); ops it has none of are base", strings.Join(pumice.KernelPaths(), ", "))),
		stringFlag("cache-dir", "auto", "`DIR` where compiled pipelines are kept; none keeps none"),
	}
}

// splitFlag is for commands that load a model.
func splitFlag() cli.Flag {
	return stringFlag("devices", "", "`A,B,...` devices, named as for --device, that each load some of the layers, for a model too large for one of them")
}

func chatTemplateFlag() cli.Flag {
	return stringFlag("chat-template", "", "`NAME|FILE` of a built-in chat format or a Jinja template (default: the model's own)")
}

func samplingFlags() []cli.Flag {
	d := sample.Default()
	return []cli.Flag{
		floatFlag("temp", d.Temperature, "temperature `T`, 0 is greedy"),
		&cli.IntFlag{Name: "top-k", EnvVars: env("top-k"), DefaultText: defaultText(d.TopK), Usage: "keep the `K` likeliest tokens, 0 = off"},
		floatFlag("top-p", d.TopP, "keep the likeliest tokens that reach `P` together, 1 = off"),
		floatFlag("min-p", d.MinP, "keep tokens of at least `P` times the likeliest, 0 = off"),
		floatFlag("repeat-penalty", d.RepeatPenalty, "divide logits of tokens that were there by `R`, 1 = off"),
		floatFlag("presence-penalty", d.PresencePenalty, "take `P` from logits of tokens that were there"),
		floatFlag("frequency-penalty", d.FrequencyPenalty, "take `P` from logits for each time a token was there"),
		&cli.Uint64Flag{Name: "seed", EnvVars: env("seed"), Usage: "`SEED`: the same one gives the same answer", DefaultText: "random"},
		&cli.StringSliceFlag{Name: "stop", EnvVars: env("stop"), Usage: "end before this `TEXT`; may be repeated"},
	}
}

// speedFlags say how tokens come sooner without being others.
func speedFlags() []cli.Flag {
	return []cli.Flag{
		&cli.IntFlag{Name: "pipeline", EnvVars: env("pipeline"), DefaultText: "as suits the device",
			Usage: "queue `N` tokens on the device, which come in bursts; 1 = one by one"},
		&cli.IntFlag{Name: "lookup", EnvVars: env("lookup"), DefaultText: "off",
			Usage: "guess up to `N` tokens at a time from repetitions in the text; needs --temp 0"},
	}
}

// generateOptions are how an answer is generated, as the flags say, with the model's sampling where they are silent.
func generateOptions(c *cli.Context, defaults sample.Params) (o pumice.GenerateOptions, err error) {
	o = pumice.GenerateOptions{MaxTokens: c.Int("n"), Stop: c.StringSlice("stop"), Pipeline: c.Int("pipeline"), Lookup: c.Int("lookup")}
	o.Sampling, err = sampling(c, defaults)
	return o, err
}

// sampling is how tokens are chosen: the model's defaults, and what the flags say. --temp 0 is greedy: it also drops the
// penalties that the model asks for, unless a flag asks for them.
func sampling(c *cli.Context, p sample.Params) (sample.Params, error) {
	if c.IsSet("temp") {
		p.Temperature = float32(c.Float64("temp"))
		if p.Temperature == 0 {
			p.RepeatPenalty, p.PresencePenalty, p.FrequencyPenalty = 1, 0, 0
		}
	}
	if c.IsSet("top-k") {
		p.TopK = c.Int("top-k")
	}
	for name, field := range map[string]*float32{
		"top-p": &p.TopP, "min-p": &p.MinP, "repeat-penalty": &p.RepeatPenalty,
		"presence-penalty": &p.PresencePenalty, "frequency-penalty": &p.FrequencyPenalty,
	} {
		if c.IsSet(name) {
			*field = float32(c.Float64(name))
		}
	}
	if c.IsSet("seed") {
		p.Seed = c.Uint64("seed")
	} else {
		var b [8]byte
		rand.Read(b[:])
		p.Seed = binary.LittleEndian.Uint64(b[:])
	}
	return p, p.Validate()
}

// checkSampling finds mistakes in the sampling flags before a model is loaded.
func checkSampling(c *cli.Context) error {
	p, err := sampling(c, sample.Params{})
	if err != nil {
		return err
	}
	if n := c.Int("pipeline"); n < 0 || n > pumice.MaxPipeline {
		return &usageError{fmt.Sprintf("--pipeline %d: want 1 to %d", n, pumice.MaxPipeline)}
	}
	if n := c.Int("lookup"); n < 0 || n > pumice.MaxLookup {
		return &usageError{fmt.Sprintf("--lookup %d: want 0 (off) to %d", n, pumice.MaxLookup)}
	}
	if c.Int("lookup") > 0 && !p.Greedy() {
		return &usageError{"--lookup guesses what greedy decoding chooses: it needs --temp 0 without penalties"}
	}
	if slices.Contains(c.StringSlice("stop"), "") {
		return &usageError{"--stop: the text is empty"}
	}
	if c.Int("n") < 0 {
		return &usageError{fmt.Sprintf("-n %d: want 0 (no limit) or a count", c.Int("n"))}
	}
	return nil
}

// options are the model's options as the flags give them.
func (p *program) options(c *cli.Context) pumice.Options {
	o := pumice.Options{
		Device:       c.String("device"),
		Devices:      splitList(c.String("devices")),
		Context:      c.Int("context"),
		DType:        c.String("dtype"),
		KVType:       c.String("kv-type"),
		LoRA:         c.StringSlice("lora"),
		KernelPath:   c.String("kernel-path"),
		ChatTemplate: c.String("chat-template"),
		Validation:   c.Bool("validation"),
		Profile:      c.Bool("profile"),
		Logger:       p.log,
	}
	switch dir := c.String("cache-dir"); dir {
	case "none":
	case "auto":
		if dir, err := pumice.CacheDir(); err == nil {
			o.CacheDir = filepath.Join(dir, "pipelines")
		}
	default:
		o.CacheDir = dir
	}
	return o
}

// splitList reads a list with commas.
func splitList(text string) []string {
	if text == "" {
		return nil
	}
	var list []string
	for _, d := range strings.Split(text, ",") {
		list = append(list, strings.TrimSpace(d))
	}
	return list
}

// open loads the model that the command line names.
func (p *program) open(ctx context.Context, c *cli.Context, name string) (*pumice.Engine, error) {
	o := p.options(c)
	bar := p.newBar("loading")
	defer bar.close()
	o.Progress = bar.set
	return pumice.Open(ctx, name, o)
}

// modelName is the model that the command line names, the default one where it names none.
func modelName(c *cli.Context) string {
	if name := c.Args().First(); name != "" {
		return name
	}
	return pumice.DefaultModel
}

// noMoreArgs refuses arguments after the first n.
func noMoreArgs(c *cli.Context, n int) error {
	if c.NArg() > n {
		return &usageError{fmt.Sprintf("%s: unexpected argument %q", c.Command.Name, c.Args().Get(n))}
	}
	return nil
}

// idArgument reads token ids that the command line gives.
func idArgument(text string) ([]int, error) {
	ids, err := parseIDs(text)
	if err != nil {
		return nil, &usageError{err.Error()}
	}
	return ids, nil
}

// parseIDs reads token ids separated by commas or white space, with or without brackets around them.
func parseIDs(text string) ([]int, error) {
	text = strings.TrimSpace(text)
	if inner, ok := strings.CutPrefix(text, "["); ok {
		text = strings.TrimSuffix(inner, "]")
	}
	ids := []int{}
	for field := range strings.FieldsFuncSeq(text, func(r rune) bool { return r == ',' || r == ' ' || r == '\t' || r == '\n' || r == '\r' }) {
		id, err := strconv.Atoi(field)
		if err != nil {
			return nil, fmt.Errorf("%q is no token id", field)
		}
		ids = append(ids, id)
	}
	return ids, nil
}
