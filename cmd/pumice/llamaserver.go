package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"pumice"
	"pumice/internal/regular"
	"pumice/sample"
	"pumice/server"
)

// llamaServerName is the name under which the program takes llama-server's command line, as a command or as the file's name.
const llamaServerName = "llama-server"

// fallbackVariable names a program that is run in place of this one, with the same arguments, for a model or a command line that
// pumice does not take.
const fallbackVariable = "PUMICE_FALLBACK_SERVER"

// calledAs returns the arguments of a call by the name of another program, which is a command or the file's name.
func calledAs(name string, args []string) ([]string, bool) {
	switch {
	case len(args) > 0 && filepath.Base(args[0]) == name:
		return args[1:], true
	case len(args) > 1 && args[1] == name:
		return args[2:], true
	}
	return nil, false
}

// llamaSettings are what llama-server's flags say.
type llamaSettings struct {
	options   pumice.Options
	model     string
	names     []string // what requests call it; the first is its own
	hubRepo   string   // owner/name[:quantisation], which is not fetched
	hubFile   string
	host      string
	port      int
	parallel  int
	keys      []string
	cacheV    string
	predict   int
	sampling  []func(p *sample.Params)
	variables map[string]any // of the chat template
	pooling   pumice.Pooling
	list      bool
	help      bool
	version   bool
	noPage    bool
	verbose   bool
	ignored   []string // flags that change nothing here
}

// llamaBuild is the build of llama.cpp whose flags are taken.
const llamaBuild = 10434

// A llamaFlag is a flag of llama-server (common/arg.cpp of llamaBuild).
type llamaFlag struct {
	names  string                                     // separated by spaces
	env    string                                     // variables that stand for it, separated by spaces
	value  string                                     // what it takes; "": nothing; "?": on, off or auto, or nothing
	set    func(s *llamaSettings, value string) error // nil: it changes no answer here
	refuse string                                     // why it is refused: it would change answers
}

func toText(field func(s *llamaSettings) *string) func(*llamaSettings, string) error {
	return func(s *llamaSettings, v string) error { *field(s) = v; return nil }
}

func toInt(field func(s *llamaSettings) *int) func(*llamaSettings, string) error {
	return func(s *llamaSettings, v string) (err error) {
		if *field(s), err = strconv.Atoi(v); err != nil {
			return errors.New("want a number")
		}
		return nil
	}
}

// readKeys reads keys from a file, one a line; # begins a comment.
func (s *llamaSettings) readKeys(name string) error {
	text, err := regular.ReadFile(name, 1<<20)
	if err != nil {
		return err
	}
	before := len(s.keys)
	for line := range strings.Lines(string(text)) {
		if line = strings.TrimSpace(line); line != "" && line[0] != '#' {
			s.keys = append(s.keys, line)
		}
	}
	if len(s.keys) == before {
		return errors.New("it has no key")
	}
	return nil
}

// think has the chat template ask for reasoning or not, as Qwen3's and those made after it can.
func (s *llamaSettings) think(yes bool) { s.variables["enable_thinking"] = yes }

// toParam has requests that don't say otherwise sample with a parameter.
func toParam(set func(p *sample.Params, v float64)) func(*llamaSettings, string) error {
	return func(s *llamaSettings, text string) error {
		v, err := strconv.ParseFloat(text, 64)
		if err != nil {
			return errors.New("want a number")
		}
		s.sampling = append(s.sampling, func(p *sample.Params) { set(p, v) })
		return nil
	}
}

var llamaFlags = []llamaFlag{
	{names: "-m --model", env: "LLAMA_ARG_MODEL", value: "FILE", set: toText(func(s *llamaSettings) *string { return &s.model })},
	{names: "-a --alias", env: "LLAMA_ARG_ALIAS", value: "NAME,...", set: func(s *llamaSettings, v string) error {
		if s.names = splitList(v); slices.Contains(s.names, "") {
			return errors.New("want names, separated by commas")
		}
		return nil
	}},
	{names: "--host", env: "LLAMA_ARG_HOST", value: "ADDRESS", set: toText(func(s *llamaSettings) *string { return &s.host })},
	{names: "--port", env: "LLAMA_ARG_PORT", value: "N", set: toInt(func(s *llamaSettings) *int { return &s.port })},
	{names: "-c --ctx-size", env: "LLAMA_ARG_CTX_SIZE", value: "N", set: toInt(func(s *llamaSettings) *int { return &s.options.Context })},
	{names: "-np --parallel", env: "LLAMA_ARG_N_PARALLEL", value: "N", set: toInt(func(s *llamaSettings) *int { return &s.parallel })},
	{names: "-dev --device", env: "LLAMA_ARG_DEVICE", value: "NAME", set: func(s *llamaSettings, v string) error {
		s.options.Device, s.options.Devices = "", nil
		if strings.Contains(v, ",") {
			for _, d := range splitList(v) {
				s.options.Devices = append(s.options.Devices, deviceIndex(d))
			}
			return nil
		}
		s.options.Device = deviceIndex(v)
		return nil
	}},
	{names: "-mg --main-gpu", env: "LLAMA_ARG_MAIN_GPU", value: "N", set: toText(func(s *llamaSettings) *string { return &s.options.Device })},
	{names: "-ctk --cache-type-k", env: "LLAMA_ARG_CACHE_TYPE_K", value: "TYPE", set: toText(func(s *llamaSettings) *string { return &s.options.KVType })},
	{names: "-ctv --cache-type-v", env: "LLAMA_ARG_CACHE_TYPE_V", value: "TYPE", set: toText(func(s *llamaSettings) *string { return &s.cacheV })},
	{names: "--chat-template --chat-template-file", env: "LLAMA_ARG_CHAT_TEMPLATE LLAMA_ARG_CHAT_TEMPLATE_FILE", value: "NAME", set: toText(func(s *llamaSettings) *string { return &s.options.ChatTemplate })},
	{names: "--lora", value: "FILE,...", set: func(s *llamaSettings, v string) error {
		s.options.LoRA = append(s.options.LoRA, splitList(v)...)
		return nil
	}},
	{names: "--api-key", env: "LLAMA_API_KEY", value: "KEY", set: func(s *llamaSettings, v string) error { s.keys = append(s.keys, splitList(v)...); return nil }},
	{names: "--api-key-file", env: "LLAMA_ARG_API_KEY_FILE", value: "FILE", set: (*llamaSettings).readKeys},
	{names: "-n --predict --n-predict", env: "LLAMA_ARG_N_PREDICT", value: "N", set: toInt(func(s *llamaSettings) *int { return &s.predict })},
	{names: "-h --help --usage", set: func(s *llamaSettings, _ string) error { s.help = true; return nil }},
	{names: "--version", set: func(s *llamaSettings, _ string) error { s.version = true; return nil }},
	{names: "--chat-template-kwargs", env: "LLAMA_CHAT_TEMPLATE_KWARGS LLAMA_ARG_CHAT_TEMPLATE_KWARGS", value: "JSON", set: func(s *llamaSettings, v string) error {
		var variables map[string]any
		if json.Unmarshal([]byte(v), &variables) != nil {
			return errors.New("want a JSON object")
		}
		maps.Copy(s.variables, variables)
		return nil
	}},
	{names: "-rea --reasoning", env: "LLAMA_ARG_REASONING", value: "on|off|auto", set: func(s *llamaSettings, v string) error {
		switch v {
		case "on", "off":
			s.think(v == "on")
		case "auto":
		default:
			return errors.New("want on, off or auto")
		}
		return nil
	}},
	{names: "--reasoning-effort", env: "LLAMA_ARG_REASONING_EFFORT", value: "LEVEL", set: func(s *llamaSettings, v string) error {
		if v != "default" {
			s.variables["reasoning_effort"] = v
		}
		return nil
	}},
	{names: "--reasoning-budget", env: "LLAMA_ARG_THINK_BUDGET", value: "N", set: func(s *llamaSettings, v string) error {
		switch v {
		case "0":
			s.think(false)
		case "-1": // no limit
		default:
			return errors.New("a budget of tokens is not supported: want 0 for no reasoning, or -1 for no limit")
		}
		return nil
	}},
	{names: "--pooling", env: "LLAMA_ARG_POOLING", value: "TYPE", set: func(s *llamaSettings, v string) error {
		s.pooling = pumice.Pooling(v)
		if !slices.Contains(pumice.Poolings(), s.pooling) {
			return fmt.Errorf("want one of %q", pumice.Poolings())
		}
		return nil
	}},
	{names: "--list-devices", set: func(s *llamaSettings, _ string) error { s.list = true; return nil }},
	{names: "--ui --webui", set: func(s *llamaSettings, _ string) error { s.noPage = false; return nil }},
	{names: "--no-ui --no-webui", set: func(s *llamaSettings, _ string) error { s.noPage = true; return nil }},
	{names: "-v --verbose --log-verbose", set: func(s *llamaSettings, _ string) error { s.verbose = true; return nil }},

	{names: "--temp --temperature", env: "LLAMA_ARG_TEMPERATURE", value: "N", set: toParam(func(p *sample.Params, v float64) { p.Temperature = float32(v) })},
	{names: "--top-k", env: "LLAMA_ARG_TOP_K", value: "N", set: toParam(func(p *sample.Params, v float64) { p.TopK = int(v) })},
	{names: "--top-p", env: "LLAMA_ARG_TOP_P", value: "N", set: toParam(func(p *sample.Params, v float64) { p.TopP = float32(v) })},
	{names: "--min-p", env: "LLAMA_ARG_MIN_P", value: "N", set: toParam(func(p *sample.Params, v float64) { p.MinP = float32(v) })},
	{names: "--repeat-penalty", env: "LLAMA_ARG_REPEAT_PENALTY", value: "N", set: toParam(func(p *sample.Params, v float64) { p.RepeatPenalty = float32(v) })},
	{names: "--repeat-last-n", value: "N", set: toParam(func(p *sample.Params, v float64) { p.RepeatLastN = int(max(0, v)) })},
	{names: "--presence-penalty", env: "LLAMA_ARG_PRESENCE_PENALTY", value: "N", set: toParam(func(p *sample.Params, v float64) { p.PresencePenalty = float32(v) })},
	{names: "--frequency-penalty", env: "LLAMA_ARG_FREQUENCY_PENALTY", value: "N", set: toParam(func(p *sample.Params, v float64) { p.FrequencyPenalty = float32(v) })},

	// These are so anyway, or say how llama.cpp computes.
	{names: "--jinja --metrics --slots --no-slots --props --embedding --embeddings --offline --mlock --no-mmap --mmap --warmup --no-warmup " +
		"-cb --cont-batching -nocb --no-cont-batching --log-prefix --no-log-prefix --log-timestamps --no-log-timestamps --log-disable " +
		"--context-shift --no-context-shift --no-kv-offload -nkvo --kv-unified -kvu --no-perf --swa-full --no-repack -nr --op-offload --no-op-offload " +
		"--check-tensors --direct-io -dio --cpu-moe -cmoe"},
	{names: "-ngl --gpu-layers --n-gpu-layers -t --threads -tb --threads-batch -b --batch-size -ub --ubatch-size --keep -lv --verbosity --log-verbosity " +
		"--log-file -to --timeout --threads-http --cache-reuse --cache-ram -cram --ctx-checkpoints --swa-checkpoints --sse-ping-interval --slot-prompt-similarity -sps --prio " +
		"--poll --numa --split-mode -sm --tensor-split -ts --load-mode --fit --fit-target -fitt --fit-ctx -fitc --defrag-thold -dt --reasoning-format " +
		"-cpent --override-tensor -ot --n-cpu-moe -ncmoe --slot-save-path --path --media-path --tags", value: "VALUE"},
	{names: "-fa --flash-attn --log-colors", value: "?"},
	// Guesses change no answer.
	{names: "--spec-type --spec-draft-n-max --spec-draft-n-min --spec-draft-model -md --model-draft --draft-max --draft-min --draft-p-min -ngld -devd -cd --ctx-size-draft", value: "VALUE"},

	{names: "--no-jinja", set: func(*llamaSettings, string) error { return nil }},
	{names: "--mmproj -mm --mmproj-url -mmu", env: "LLAMA_ARG_MMPROJ LLAMA_ARG_MMPROJ_URL", value: "FILE", refuse: "images and sounds are not supported"},
	{names: "-hf -hfr --hf-repo", env: "LLAMA_ARG_HF_REPO", value: "NAME", set: toText(func(s *llamaSettings) *string { return &s.hubRepo })},
	{names: "-hff --hf-file", env: "LLAMA_ARG_HF_FILE", value: "NAME", set: toText(func(s *llamaSettings) *string { return &s.hubFile })},
	{names: "-mu --model-url -dr --docker-repo", env: "LLAMA_ARG_MODEL_URL LLAMA_ARG_DOCKER_REPO", value: "NAME", refuse: "nothing is fetched from a network: give -m FILE"},
	{names: "--rope-scaling --rope-scale --rope-freq-base --rope-freq-scale --yarn-ext-factor --yarn-attn-factor --override-kv --grammar --grammar-file --json-schema -j " +
		"--lora-scaled --control-vector --attention --logit-bias -l --samplers --mirostat --dry-multiplier --xtc-probability " +
		"--typical --top-nsigma --dynatemp-range --seed -s --models-dir --models-preset --ssl-key-file --ssl-cert-file --api-prefix --json-schema-file -jf " +
		"--reverse-prompt -r --yarn-orig-ctx --yarn-beta-slow --yarn-beta-fast --embd-normalize", value: "VALUE", refuse: "it is not supported"},
	{names: "--ignore-eos --special -sp --spm-infill", refuse: "it is not supported"},
	{names: "--rerank --reranking", refuse: "reranking is not supported"},
}

// deviceIndex is the index of a device that llama.cpp calls Vulkan0.
func deviceIndex(name string) string {
	if n, ok := strings.CutPrefix(name, "Vulkan"); ok {
		return n
	}
	return name
}

// apply acts on a flag, which is called name, or on a variable in its place.
func (f *llamaFlag) apply(s *llamaSettings, name, value string) error {
	switch {
	case f.refuse != "":
		return &usageError{fmt.Sprintf("%s %s: %s", llamaServerName, name, f.refuse)}
	case f.set == nil:
		s.ignored = append(s.ignored, name)
		return nil
	}
	if err := f.set(s, value); err != nil {
		return &usageError{fmt.Sprintf("%s %s %q: %v", llamaServerName, name, value, err)}
	}
	return nil
}

// parseLlama reads llama-server's variables of the environment and its command line, which is stronger.
func parseLlama(args []string) (*llamaSettings, error) {
	byName := map[string]*llamaFlag{}
	for i := range llamaFlags {
		for name := range strings.FieldsSeq(llamaFlags[i].names) {
			byName[name] = &llamaFlags[i]
		}
	}
	s := &llamaSettings{host: "127.0.0.1", port: 8080, parallel: 1, predict: -1, variables: map[string]any{}}
	for i := range llamaFlags {
		for name := range strings.FieldsSeq(llamaFlags[i].env) {
			if value := os.Getenv(name); value != "" {
				if err := llamaFlags[i].apply(s, name, value); err != nil {
					return nil, err
				}
			}
		}
	}
	for i := 0; i < len(args); i++ {
		name := args[i]
		f, ok := byName[name]
		switch {
		case !ok && !strings.HasPrefix(name, "-"):
			return nil, &usageError{fmt.Sprintf("%s: unexpected argument %q", llamaServerName, name)}
		case !ok: // of another version; whether it takes a value shows in what follows
			s.ignored = append(s.ignored, name)
			if i+1 < len(args) && !strings.HasPrefix(args[i+1], "-") {
				i++
			}
			continue
		}
		value := ""
		switch {
		case f.refuse != "": // whatever its value
		case f.value == "?":
			if i+1 < len(args) && (args[i+1] == "on" || args[i+1] == "off" || args[i+1] == "auto") {
				i++
			}
		case f.value != "":
			if i++; i == len(args) {
				return nil, &usageError{fmt.Sprintf("%s %s needs a value", llamaServerName, name)}
			}
			value = args[i]
		}
		if err := f.apply(s, name, value); err != nil {
			return nil, err
		}
	}
	return s, s.check()
}

// check makes options of what the flags say together.
func (s *llamaSettings) check() error {
	o := &s.options
	if s.cacheV != "" && o.KVType == "" {
		o.KVType = "f16"
	}
	if s.cacheV != "" && s.cacheV != o.KVType || s.cacheV == "" && o.KVType != "" && o.KVType != "f16" {
		return &usageError{fmt.Sprintf("%s: keys as %q and values as %q: they have one type", llamaServerName, o.KVType, s.cacheV)}
	}
	if s.parallel < 1 {
		s.parallel = 1
	}
	switch { // it is divided among slots; Docker's -1 is no limit but the model's
	case o.Context > 0:
		o.Context = max(1, o.Context/s.parallel)
	case o.Context < 0:
		o.Context = 0
	}
	if s.hubRepo != "" && s.model == "" {
		s.model = "hf:" + s.hubRepo
		if s.hubFile != "" {
			repo, _, _ := strings.Cut(s.hubRepo, ":")
			s.model = "hf:" + repo + ":" + s.hubFile
		}
	}
	if len(s.names) == 0 {
		s.names = []string{modelID(s.model)}
	}
	return nil
}

// llamaServer is llama-server: its flags, the lines of its log that hosts look for, and its endpoints.
func (p *program) llamaServer(ctx context.Context, args []string) error {
	s, err := parseLlama(args)
	if err != nil {
		return p.fallBack(err, args)
	}
	switch {
	case s.help:
		return p.printf("%s", llamaHelp())
	case s.version: // as Lemonade looks for it
		return p.printf("version: %d (pumice)\nbuilt with %s for %s/%s\n", llamaBuild, runtime.Version(), runtime.GOOS, runtime.GOARCH)
	}
	base := pumice.Options{Logger: p.log}
	if dir, err := pumice.CacheDir(); err == nil {
		base.CacheDir = filepath.Join(dir, "pipelines")
	}
	if s.list {
		return p.listDevices(base)
	}
	s.options.Logger, s.options.CacheDir = base.Logger, base.CacheDir
	if len(s.ignored) > 0 {
		p.note("warn: these flags change nothing here: %s", strings.Join(s.ignored, " "))
	}
	devices, err := pumice.Devices(base)
	if err != nil {
		return err
	}
	for _, d := range devices {
		p.note("ggml_vulkan: %d = %s (%s) | uma: %d | fp16: 1", d.Index, d.Name, d.Driver, uma(d))
	}
	p.note("system_info: n_threads = %d | Vulkan : 1 | pumice", runtime.NumCPU())
	o := server.Options{Keys: s.keys, NoPage: s.noPage, Logger: p.log}
	if s.model != "" {
		m := server.Model{Name: s.names[0], Aliases: s.names[1:], MaxTokens: max(0, s.predict), Variables: s.variables, Pooling: s.pooling,
			Open: func(ctx context.Context) (*pumice.Engine, error) { return p.openLlama(ctx, s, args) }}
		m.Sampling = func(params *sample.Params) {
			for _, set := range s.sampling {
				set(params)
			}
		}
		o.Models = []server.Model{m}
	}
	l, err := listen(s.host, s.port)
	if err != nil {
		return err
	}
	return p.serveOn(ctx, l, o, 30*time.Second, func(l net.Listener) string {
		if _, ok := l.Addr().(*net.TCPAddr); ok {
			return fmt.Sprintf("main: server is listening on http://%s - starting the main loop", l.Addr())
		}
		return fmt.Sprintf("main: server is listening on %s - starting the main loop", l.Addr())
	}, "main: model loaded")
}

// llamaHelp says what becomes of each flag.
func llamaHelp() string {
	var taken, ignored, refused strings.Builder
	for _, f := range llamaFlags {
		line := "  " + strings.ReplaceAll(f.names, " ", ", ")
		switch {
		case f.value == "?":
			line += " [on|off|auto]"
		case f.value != "":
			line += " " + f.value
		}
		switch {
		case f.refuse != "":
			fmt.Fprintf(&refused, "%s: %s\n", line, f.refuse)
		case f.set == nil:
			fmt.Fprintln(&ignored, line)
		default:
			fmt.Fprintln(&taken, line)
		}
	}
	return fmt.Sprintf("usage: %s [flags]\n\nThe flags of llama.cpp's server, b%d:\n%s\nThese change nothing here:\n%s\nThese are refused:\n%s", llamaServerName, llamaBuild,
		&taken, &ignored, &refused)
}

func uma(d pumice.DeviceInfo) int {
	if d.Type == "integrated" || d.Type == "cpu" {
		return 1
	}
	return 0
}

const mib = 1 << 20

// listDevices prints the devices as llama-server does.
func (p *program) listDevices(o pumice.Options) error {
	devices, err := pumice.Devices(o)
	if err != nil {
		return err
	}
	if err := p.printf("Available devices:\n"); err != nil {
		return err
	}
	for _, d := range devices {
		if d.Error != "" {
			continue
		}
		if err := p.printf("  Vulkan%d: %s (%d MiB, %d MiB free)\n", d.Index, d.Name, d.MemoryTotal/mib, d.MemoryFree/mib); err != nil {
			return err
		}
	}
	return nil
}

// fallBack has the other program take over, if there is one. It returns only an error.
func (p *program) fallBack(err error, args []string) error {
	fallback := os.Getenv(fallbackVariable)
	if fallback == "" {
		return err
	}
	p.note("%v: %s takes over", err, fallback)
	return errors.Join(err, syscall.Exec(fallback, append([]string{fallback}, args...), os.Environ()))
}

// openLlama loads the model, and says what it takes in the words that hosts look for. args are the command line.
func (p *program) openLlama(ctx context.Context, s *llamaSettings, args []string) (*pumice.Engine, error) {
	e, err := pumice.Open(ctx, s.model, s.options)
	var foreign *pumice.UnsupportedError
	if errors.As(err, &foreign) {
		err = p.fallBack(err, args)
	}
	if err != nil {
		return nil, err
	}
	for _, d := range e.Devices() {
		i := d.Info()
		p.note("llama_model_load_from_file_impl: using device Vulkan%d (%s) (%s) - %d MiB free", i.Index, i.Name, i.UUID, i.MemoryFree/mib)
	}
	i, m, layers := e.Devices()[0].Info().Index, e.Memory(), e.Config().NumHiddenLayers+1
	p.note("load_tensors: offloaded %d/%d layers to GPU", layers, layers)
	p.note("load_tensors: Vulkan%d model buffer size = %.2f MiB", i, float64(m.WeightsBytes)/mib)
	p.note("llama_kv_cache: Vulkan%d KV buffer size = %.2f MiB", i, float64(m.CacheBytes)/mib)
	p.note("llama_context: Vulkan%d compute buffer size = %.2f MiB", i, float64(m.ArenaBytes+m.OutputBytes)/mib)
	return e, nil
}
