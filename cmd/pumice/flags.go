package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/urfave/cli/v2"

	"pumice"
	"pumice/internal/dtype"
	"pumice/internal/humanize"
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

// sizeFlag is a flag with a number of bytes.
func sizeFlag(name, usage, silent string) cli.Flag {
	return &cli.GenericFlag{Name: name, Usage: usage, EnvVars: env(name), DefaultText: silent, Value: new(humanize.Size)}
}

func size(c *cli.Context, name string) int64 {
	if n, ok := c.Generic(name).(*humanize.Size); ok {
		return int64(*n)
	}
	return 0
}

func boolFlag(name string, value bool, usage string, aliases ...string) cli.Flag {
	return &cli.BoolFlag{Name: name, Aliases: aliases, Value: value, Usage: usage, EnvVars: env(name)}
}

// floatFlag is a flag that defaults to the model's own value, and to silent for models that give none.
func floatFlag(name string, silent float32, usage string) cli.Flag {
	return &cli.Float64Flag{Name: name, Usage: usage, EnvVars: env(name), DefaultText: defaultText(silent)}
}

// defaultText describes the default of a sampling flag; silent is the default for models that give none.
func defaultText[T int | float32](silent T) string {
	return fmt.Sprintf("the model's, else %v", silent)
}

func globalFlags() []cli.Flag {
	return []cli.Flag{
		deviceFlag(),
		stringFlag("log-level", "warn", "log messages of this `LEVEL` and above: debug, info, warn or error"),
		stringFlag("log-format", "text", "write the log in this `FORMAT`: text or json"),
		boolFlag("quiet", false, "show no progress and no warnings"),
		&cli.BoolFlag{Name: "version", Usage: "print the program's version, commit, build and shaders, and exit"},
		boolFlag("validation", false, "load Vulkan's validation layer and log its messages"),
	}
}

// deviceFlag is a global flag that the help of commands with devices has too.
func deviceFlag() cli.Flag {
	return grouped(inDevice, stringFlag("device", "",
		"use the device with this `INDEX`, part of a name, or UUID (default: the best GPU, or a CPU driver if "+
			"there is no GPU)"))[0]
}

func jsonFlag() cli.Flag {
	return boolFlag("json", false, "write the result to standard output as one JSON value")
}

func modelFlags() []cli.Flag {
	return slices.Concat(grouped(inModel,
		&cli.StringFlag{Name: "model", Aliases: []string{"m"}, Usage: "use `MODEL`, instead of naming it before other arguments"},
		&cli.StringFlag{Name: "hf-repo", Aliases: []string{"hf"}, Usage: "use the model `OWNER/NAME[:FILE]` of the Hugging Face Hub, and fetch it if it is not on this machine"},
		&cli.IntFlag{Name: "context", Aliases: []string{"ctx-size", "c"}, EnvVars: env("context"), Usage: "limit prompt and answer together to `N` tokens", DefaultText: "the model's, at most 4096"},
		stringFlag("kv-type", "f16", "store the KV cache as `TYPE`: f16, f32 or q8_0 (about half the size of f16)", "cache-type-k", "ctk"),
		stringFlag("dtype", "keep", "convert all matrices to `TYPE` while loading: "+dtype.Names(dtype.Weights())+"; keep converts none"),
		&cli.StringSliceFlag{Name: "lora", EnvVars: env("lora"), Usage: "apply the PEFT adapter at `PATH[:SCALE]` while loading; may be repeated"},
	), grouped(inExpert,
		sizeFlag("kv-memory", "let the KV cache of all conversations together take `SIZE`, such as 512M or 2G",
			"room for 8 of the whole context, or half of what is left"),
		sizeFlag("kv-host", "keep what has no room in the KV cache in up to `SIZE` of host memory", "none"),
		sizeFlag("kv-disk", "keep what was in the KV cache, from which texts can be told, in up to `SIZE` of files in --cache-dir", "none"),
		stringFlag("kernel-path", "", "use the kernels of `PATH`, and base where it has none: "+strings.Join(pumice.KernelPaths(), ", ")+" (default: the best for the device)"),
		cacheDirFlag(),
	))
}

func cacheDirFlag() cli.Flag {
	return stringFlag("cache-dir", "auto",
		"keep compiled pipelines in `DIR`; auto is the user's cache folder, none turns this off")
}

// splitFlags are for commands that load a model.
func splitFlags() []cli.Flag {
	return grouped(inDevice, stringFlag("devices", "",
		"spread the layers over the devices `A,B,...`, named as for --device, if the model is too large for one"))
}

// windowFlags are for commands that can show what they do.
func windowFlags() []cli.Flag {
	f := boolFlag("window", false, "open a window that shows what the device does; for programs built with the tag window")
	f.(*cli.BoolFlag).Category = inDevice
	return []cli.Flag{f}
}

// profileFlags are for those of these commands that have no use for a profile without a window.
func profileFlags() []cli.Flag {
	f := boolFlag("profile", false, "with --window, show the device time of each kernel; timestamps cost a little, and tokens are not queued")
	f.(*cli.BoolFlag).Category = inDevice
	return []cli.Flag{f}
}

// checkProfile refuses --profile of a command that would show it in a window, without one.
func checkProfile(c *cli.Context) error {
	if c.Bool("profile") && !c.Bool("window") {
		return &usageError{"--profile is shown in a window: give --window too, or use pumice bench --profile"}
	}
	return nil
}

func chatTemplateFlag() cli.Flag {
	return grouped(inModel, stringFlag("chat-template", "",
		"use the chat format `NAME|FILE`, a built-in one or a Jinja template (default: the model's own)"))[0]
}

func samplingFlags() []cli.Flag {
	d := sample.Default()
	return grouped(inSampling,
		floatFlag("temp", d.Temperature, "sample with temperature `T`; 0 always takes the likeliest token"),
		&cli.IntFlag{Name: "top-k", EnvVars: env("top-k"), DefaultText: defaultText(d.TopK), Usage: "sample from the `K` likeliest tokens; 0 turns this off"},
		floatFlag("top-p", d.TopP,
			"sample from the likeliest tokens whose probabilities add up to `P`; 1 turns this off"),
		floatFlag("min-p", d.MinP,
			"sample from tokens with at least `P` times the probability of the likeliest; 0 turns this off"),
		floatFlag("repeat-penalty", d.RepeatPenalty,
			"penalise tokens already in the text by the factor `R`; 1 turns this off"),
		floatFlag("presence-penalty", d.PresencePenalty, "subtract `P` from the logits of tokens already in the text"),
		floatFlag("frequency-penalty", d.FrequencyPenalty,
			"subtract `P` from a token's logit for each time it is in the text"),
		&cli.GenericFlag{Name: "seed", Aliases: []string{"s"}, EnvVars: env("seed"), Value: new(seedValue), DefaultText: "random",
			Usage: "start random numbers from `SEED`; the same seed gives the same answer, and -1 takes a random one"},
		&cli.StringSliceFlag{Name: "stop", EnvVars: env("stop"), Usage: "stop before `TEXT` appears in the answer; may be repeated"},
	)
}

// speedFlags make generation faster and leave the tokens the same, or as likely where guesses are drawn.
func speedFlags() []cli.Flag {
	return grouped(inExpert,
		&cli.IntFlag{Name: "pipeline", EnvVars: env("pipeline"), DefaultText: "chosen for the device",
			Usage: "queue `N` tokens on the device at a time, which then come in bursts; 1 turns this off"},
		&cli.IntFlag{Name: "lookup", EnvVars: env("lookup"), DefaultText: "off",
			Usage: "guess up to `N` tokens at a time from repetitions in the text; 0 turns this off"},
		stringFlag("draft-model", "",
			"guess tokens with `MODEL`, a smaller one with the same vocabulary; with --seed it guesses even where that takes longer"),
		&cli.IntFlag{Name: "draft-tokens", EnvVars: env("draft-tokens"), DefaultText: "7",
			Usage: "let the draft model guess up to `N` tokens at a time"},
	)
}

// A seedValue is the value of --seed.
type seedValue struct {
	given bool
	seed  uint64
}

func (s *seedValue) Set(text string) (err error) {
	*s = seedValue{}
	if text == "-1" { // llama-cli's word for a random one
		return nil
	}
	s.given = true
	s.seed, err = strconv.ParseUint(text, 0, 64)
	return err
}

func (s *seedValue) String() string {
	if !s.given {
		return ""
	}
	return strconv.FormatUint(s.seed, 10)
}

// seed returns the seed that --seed gives, and whether it gives one.
func seed(c *cli.Context) (uint64, bool) {
	s, ok := c.Generic("seed").(*seedValue)
	if !ok {
		return 0, false
	}
	return s.seed, s.given
}

// generateOptions are the options that the flags give, and the model's defaults for sampling flags that are not given.
func generateOptions(c *cli.Context, defaults sample.Params) (o pumice.GenerateOptions, err error) {
	o = pumice.GenerateOptions{MaxTokens: max(0, c.Int("n")), Stop: c.StringSlice("stop"), Pipeline: c.Int("pipeline")}
	if n := c.Int("lookup"); n > 0 {
		o.Drafter, o.DraftTokens = pumice.PromptLookup{}, n
	}
	o.Sampling, err = sampling(c, defaults)
	return o, err
}

// sampling returns the sampling parameters p, the model's defaults, changed by the flags. --temp 0 also turns off the
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
	var given bool
	if p.Seed, given = seed(c); !given {
		p.Seed = randomSeed()
	}
	return p, p.Validate()
}

// randomSeed returns a seed that is short enough to be typed again.
func randomSeed() uint64 { return uint64(rand.Uint32()) }

// checkSampling finds mistakes in the sampling flags before a model is loaded.
func checkSampling(c *cli.Context) error {
	if _, err := sampling(c, sample.Params{}); err != nil {
		return err
	}
	if n := c.Int("pipeline"); n < 0 || n > pumice.MaxPipeline {
		return &usageError{fmt.Sprintf("--pipeline %d: want 1 to %d", n, pumice.MaxPipeline)}
	}
	if err := checkDraft(c); err != nil {
		return err
	}
	if slices.Contains(c.StringSlice("stop"), "") {
		return &usageError{"--stop: the text is empty"}
	}
	if c.Int("n") < -1 {
		return &usageError{fmt.Sprintf("-n %d: want a number of tokens, or 0 or -1 for no limit", c.Int("n"))}
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
		KVMemory:     size(c, "kv-memory"),
		KVHost:       size(c, "kv-host"),
		KVDisk:       size(c, "kv-disk"),
		LoRA:         c.StringSlice("lora"),
		KernelPath:   c.String("kernel-path"),
		ChatTemplate: c.String("chat-template"),
		Validation:   c.Bool("validation"),
		Profile:      c.Bool("profile"),
		Surfaces:     c.Bool("window"),
		Logger:       p.log,
	}
	switch dir := c.String("cache-dir"); dir {
	case "none":
	case "auto":
		if dir, err := pumice.CacheDir(); err == nil {
			o.CacheDir, o.KVDir = filepath.Join(dir, "pipelines"), filepath.Join(dir, "kv")
		}
	default:
		o.CacheDir, o.KVDir = dir, filepath.Join(dir, "kv")
	}
	return o
}

// splitList splits a list at its commas.
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
	if err := p.find(c, name); err != nil {
		return nil, err
	}
	return p.openWith(ctx, name, p.options(c))
}

// find fetches a model that is to be fetched, and says where a name means a file.
func (p *program) find(c *cli.Context, name string) error {
	if err := p.fetchMissing(c, name); err != nil {
		return err
	}
	if path, err := pumice.Resolve(name); err == nil && name == pumice.DefaultModel && path == name {
		p.note("(%s is a file or directory here, and taken for the model)", name)
	}
	return nil
}

// openWith loads a model and shows how far that is.
func (p *program) openWith(ctx context.Context, name string, o pumice.Options) (*pumice.Engine, error) {
	bar := p.newBar("loading")
	defer bar.close()
	o.Progress = bar.set
	return p.load(ctx, name, o)
}

// load loads a model, beside a window if the command line asks for one.
func (p *program) load(ctx context.Context, name string, o pumice.Options) (*pumice.Engine, error) {
	if !o.Surfaces {
		return pumice.Open(ctx, name, o)
	}
	if len(o.Devices) > 0 {
		return nil, &usageError{"--window and --devices: a window is drawn by the one device that computes"}
	}
	if err := p.openWindow(&o); err != nil {
		return nil, err
	}
	e, err := pumice.Open(ctx, name, o)
	if err == nil {
		p.window.follow(e, modelID(name), o.Profile)
	}
	return e, err
}

// defaultModelVariable names the model of commands whose command line names none.
const defaultModelVariable = "PUMICE_MODEL"

// modelArgs returns the model that the command line names, by -m or -hf or else as its first argument, and the other
// arguments.
func modelArgs(c *cli.Context) (name string, rest []string, err error) {
	rest = c.Args().Slice()
	if len(rest) > 0 && !c.IsSet("model") && !c.IsSet("hf-repo") {
		return rest[0], rest[1:], nil
	}
	name, err = flaggedModel(c)
	return name, rest, err
}

// hubModel returns the name of the model that -hf gives, "" if it gives none.
func hubModel(c *cli.Context) string {
	if repo := c.String("hf-repo"); repo != "" {
		return "hf:" + strings.TrimPrefix(repo, "hf:")
	}
	return ""
}

// flaggedModel returns the model that the flags name, else the default one.
func flaggedModel(c *cli.Context) (string, error) {
	name, repo := c.String("model"), c.String("hf-repo")
	switch {
	case name != "" && repo != "":
		return "", &usageError{"-m and -hf: give one of them"}
	case name != "":
		return name, nil
	case repo != "":
		return hubModel(c), nil
	case os.Getenv(defaultModelVariable) != "":
		return os.Getenv(defaultModelVariable), nil
	}
	return pumice.DefaultModel, nil
}

// onlyModel returns the model that the command line names, and refuses other arguments.
func onlyModel(c *cli.Context) (string, error) {
	name, rest, err := modelArgs(c)
	if err == nil && len(rest) > 0 {
		err = &usageError{fmt.Sprintf("%s: unexpected argument %q", c.Command.Name, rest[0])}
	}
	return name, err
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
			return nil, fmt.Errorf("%q is not a token id", field)
		}
		ids = append(ids, id)
	}
	return ids, nil
}
