package main

import (
	"cmp"
	"context"
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"pumice"
	"pumice/bench"
	"pumice/internal/atomicfile"
)

func (p *program) benchCommand() *cli.Command {
	flags := slices.Concat(grouped(inTests,
		countsFlag("prompt-lengths", "measure prompts of `N,...` tokens", "p"),
		countsFlag("gen-lengths", "measure generations of `N,...` tokens", "n"),
		&cli.StringSliceFlag{Name: "prompt-gen", Aliases: []string{"pg"}, EnvVars: env("prompt-gen"), DefaultText: "none",
			Usage: "also measure a prompt of P tokens and N generated ones together, `P,N`; may be repeated"},
		countsFlag("depths", "run each test with `N,...` tokens already in the KV cache", "d"),
		countsFlag("parallel", "measure `N,...` sequences at once, with llama-batched-bench's columns", "np"),
		boolFlag("shared-prompt", false, "give all sequences of -np the same prompt, which the first one evaluates, as llama-batched-bench does with -pps", "pps"),
		&cli.StringSliceFlag{Name: "load", EnvVars: env("load"), DefaultText: "none",
			Usage: "measure `N,...` requests at a time, of one -p and one -n, through the HTTP server and in the engine"},
		&cli.Float64Flag{Name: "rate", EnvVars: env("rate"), DefaultText: "no limit",
			Usage: "let requests of --load come at random, `R` a second"},
		stringFlag("preset", "", "run the tests of `BENCHMARK`, LocalScore or MLPerf Client, and sum them up as it does: "+strings.Join(benchPresets(), ", ")),
		&cli.StringSliceFlag{Name: "peer", EnvVars: env("peer"), DefaultText: "none",
			Usage: "run the tests by another program too, in turn: `llama-bench=PATH`, llama-server=PATH, or http://HOST:PORT of a server on this machine; may be repeated"},
		stringFlag("text", "", "cut prompts from `FILE`, or from an English and Chinese text if that is "+builtIn+" (default: random tokens)"),
		&cli.StringSliceFlag{Name: "synthetic", EnvVars: env("synthetic"), Usage: "measure `SHAPE:TYPE` with random weights and no file, such as xverse-7b:q4_0, llama-3-8b:q8_0; may be repeated"},
	), grouped(inMeasuring,
		intFlag("reps", 5, "run all tests in `N` rounds, after each is warmed up until two runs agree", "r"),
		&cli.Float64Flag{Name: "max-spread", EnvVars: env("max-spread"), Value: 100 * bench.DefaultSpreadLimit,
			Usage: "mark a row whose runs spread by more than `PERCENT`, and look for the reason"},
		boolFlag("stamp", true, "compare the kernels with a float64 reference, and answers with those of base kernels and, of small models, with exact ones"),
		boolFlag("profile", false,
			"also report the device time of each kernel and size, with bytes and operations a second; timestamps cost a little, and tokens are not queued"),
	), grouped(inOutput,
		&cli.StringFlag{Name: "output-format", Aliases: []string{"o"}, EnvVars: env("output-format"), DefaultText: "table on a terminal, else md",
			Usage: "write results as `FORMAT`: " + strings.Join(benchFormats, ", ")},
		jsonFlag(),
		boolFlag("verbose", false, "report the time of each run on standard error"),
	))
	return &cli.Command{
		Name:      "bench",
		Category:  ofDevices,
		Usage:     "measure the speed of prompts and of generation, as llama-bench does",
		ArgsUsage: "[MODEL...] | roofline [MODEL...] | compare BASE FILE... | show FILE... | html FILE... | site DIR | validate FILE...",
		Description: "pumice bench measures models. roofline also measures what the device can do, in bandwidth and in each arithmetic, and says how\n" +
			"near each kernel of the tests is to what bounds it; -o svg draws that. compare sets the rows of files that -o json or\n" +
			"jsonl, or llama-bench, has written against those of the first; show writes files in another format of -o, html a page of\n" +
			"files, and site pages of all *.json and *.jsonl files in a folder; validate checks files.\n\nEach length of -p and each of -n is a test, at each depth of -d. These flags and -np may be repeated, and take ranges as\n" +
			"llama-bench does: 128-512 doubles, 128-512+128 adds.\n\n" +
			"With -np, each combination of -p, -n and -np is a test, as those of -npp, -ntg and -npl are in llama-batched-bench: -np\n" +
			"sequences evaluate prompts of -p tokens at once, and then generate -n tokens each at once. None of them is 0. -d and\n" +
			"--profile can't be combined with -np.\n\n" +
			"With several numbers in --device each test runs on each of these devices in turn, and with --peer by another program too;\n" +
			"then the rows are compared. With -np and --load the program has to be a server.\n\n" +
			"Each row says how many of the kernels that ran are right on this device, and is struck out where one is wrong. The first\n" +
			"time, comparing them takes a while; with --cache-dir it is remembered until driver or kernels change.",
		Flags:  slices.Concat(flags, modelFlags(), splitFlags(), windowFlags()),
		Action: p.bench,
	}
}

func (p *program) bench(c *cli.Context) error {
	switch c.Args().First() {
	case "compare":
		return p.benchCompare(c)
	case "html":
		return p.benchHTML(c)
	case "site":
		return p.benchSite(c)
	case "validate":
		return p.benchValidate(c)
	case "show":
		return p.benchShow(c)
	}
	if isRoofline(c) {
		if err := c.Set("profile", "true"); err != nil {
			return err
		}
	}
	o := bench.Options{Power: nvidiaPower, Reps: c.Int("reps"), Profile: c.Bool("profile"), SpreadLimit: c.Float64("max-spread") / 100}
	var err error
	if o.Text, err = p.benchText(c); err != nil {
		return err
	}
	for name, field := range map[string]*[]int{"prompt-lengths": &o.Prompt, "gen-lengths": &o.Gen, "depths": &o.Depth} {
		if *field, err = counts(name, givenCounts(c, name)); err != nil {
			return err
		}
	}
	for _, text := range c.StringSlice("prompt-gen") {
		both, err := counts("prompt-gen", text)
		if err != nil || len(both) != 2 || slices.Contains(both, 0) {
			return &usageError{fmt.Sprintf("-pg %q: want the tokens of a prompt and of a generation, such as 512,128", text)}
		}
		o.Both = append(o.Both, bench.Both{Prompt: both[0], Gen: both[1]})
	}
	if _, err := p.benchFormat(c); err != nil {
		return err
	}
	if o.Reps < 1 {
		return &usageError{fmt.Sprintf("-r %d: want at least 1", o.Reps)}
	}
	if !(o.SpreadLimit > 0) {
		return &usageError{fmt.Sprintf("--max-spread %v: want more than 0", c.Float64("max-spread"))}
	}
	if name := c.String("preset"); name != "" {
		if o.Preset = bench.FindPreset(name); o.Preset == nil {
			return &usageError{fmt.Sprintf("--preset %q: want %s", name, strings.Join(benchPresets(), ", "))}
		}
		if slices.ContainsFunc([]string{"prompt-lengths", "gen-lengths", "prompt-gen", "depths", "parallel", "load"}, c.IsSet) {
			return &usageError{"--preset has tests of its own: -p, -n, -pg, -d, -np and --load can't be combined with it"}
		}
	}
	var peers []peerFlag
	for _, text := range c.StringSlice("peer") {
		f, err := parsePeer(text)
		if err != nil {
			return err
		}
		if f.program != "" { // before anything is measured
			if f.path, err = exec.LookPath(f.path); err != nil {
				return fmt.Errorf("--peer %s: %w", f.program, err)
			}
		}
		peers = append(peers, f)
	}
	switch load := c.IsSet("load"); {
	case (load || c.IsSet("parallel")) && len(splitList(c.String("device"))) > 1:
		return &usageError{"several devices: not with -np and --load"}
	case (load || c.IsSet("parallel")) && slices.ContainsFunc(peers, func(f peerFlag) bool { return !f.server() }):
		return &usageError{"--peer llama-bench runs one sequence at a time: with -np and --load, give llama-server=PATH or a server's address"}
	case isRoofline(c) && (load || c.IsSet("parallel")):
		return &usageError{"bench roofline: -np and --load have no profile"}
	case load:
		return p.benchLoad(c, o, peers)
	case c.IsSet("rate"):
		return &usageError{"--rate needs --load"}
	case c.IsSet("parallel"):
		return p.benchParallel(c, o, peers)
	}
	if c.Bool("shared-prompt") {
		return &usageError{"--shared-prompt needs -np"}
	}
	if len(o.Tests()) == 0 {
		return &usageError{"nothing to measure: -p and -n are both 0"}
	}
	b := benchmark[bench.Result]{
		context: o.Context(),
		run: func(ctx context.Context, engines []*pumice.Engine, j benchJob[bench.Result]) (err error) {
			o.Name, o.Stamping, o.Progress, o.Partial = j.name, j.stamping, j.progress, j.partial
			list, end, err := openPeers(ctx, peers, engines[0], o.Context(), 1)
			if err != nil {
				return err
			}
			defer func() { err = errors.Join(err, end()) }()
			o.Peers = list
			return bench.RunAll(ctx, engines, o, j.each)
		},
		table: plainTable,
	}
	if isRoofline(c) {
		b.head, b.row, b.foot = "", func(bench.Result) string { return "" }, bench.RooflineTable
	}
	return benchWith(p, c, b)
}

// isRoofline reports whether the command line asks for bench roofline.
func isRoofline(c *cli.Context) bool { return c.Args().First() == "roofline" }

// benchParallel measures several sequences at once, with the lengths and repetitions of o.
func (p *program) benchParallel(c *cli.Context, o bench.Options, peers []peerFlag) error {
	sequences, err := counts("parallel", givenCounts(c, "parallel"))
	if err != nil {
		return err
	}
	for _, list := range []struct {
		numbers []int
		wrong   string
	}{
		{o.Prompt, "-p 0: with -np every sequence has a prompt"},
		{o.Gen, "-n 0: with -np every sequence generates tokens"},
		{sequences, "-np 0: at least one sequence is needed"},
	} {
		if slices.Contains(list.numbers, 0) {
			return &usageError{list.wrong}
		}
	}
	if slices.Max(o.Depth) > 0 {
		return &usageError{"-d and -np: give one of them; with -np longer prompts (-p) have the effect of -d"}
	}
	if len(o.Both) > 0 {
		return &usageError{"-pg and -np: give one of them; -np measures both parts"}
	}
	if o.Profile {
		return &usageError{"--profile and -np: give one of them"}
	}
	if c.Bool("shared-prompt") && len(peers) > 0 {
		return &usageError{"--shared-prompt and --peer: give one of them; a server can't be told to share a prompt"}
	}
	po := bench.ParallelOptions{Prompt: o.Prompt, Gen: o.Gen, Sequences: sequences, Shared: c.Bool("shared-prompt"), Text: o.Text, Reps: o.Reps,
		SpreadLimit: o.SpreadLimit, Power: o.Power}
	return benchWith(p, c, benchmark[bench.ParallelResult]{
		context: po.Context(),
		run: func(ctx context.Context, engines []*pumice.Engine, j benchJob[bench.ParallelResult]) (err error) {
			po.Name, po.Stamping, po.Progress, po.Partial = j.name, j.stamping, j.progress, j.partial
			list, end, err := openPeers(ctx, peers, engines[0], po.Context()+1, slices.Max(sequences))
			if err != nil {
				return err
			}
			defer func() { err = errors.Join(err, end()) }()
			po.Peers = list
			return bench.RunParallel(ctx, engines[0], po, j.each)
		},
		table: parallelTable,
	})
}

// benchmark is what benchWith runs and how its results are shown.
type benchmark[R bench.Row] struct {
	context int                                                                      // that a sequence needs
	run     func(ctx context.Context, engines []*pumice.Engine, j benchJob[R]) error // one engine for each device
	table[R]
}

// A table is how results are shown to people.
type table[R bench.Row] struct {
	head string
	row  func(R) string
	foot func([]R) string
	svg  func([]R) string // nil: there is no picture
}

var (
	plainTable = table[bench.Result]{head: bench.TableHead, row: bench.TableRow, svg: bench.RooflinePlot, foot: func(results []bench.Result) string {
		foot := bench.TableFoot(results)
		for _, r := range results {
			if len(r.Kernels) > 0 { // with --profile
				foot += bench.Profile(r)
			}
		}
		return foot
	}}
	parallelTable = table[bench.ParallelResult]{head: bench.ParallelHead, row: bench.ParallelRow, foot: bench.ParallelFoot}
	loadTable     = table[bench.LoadResult]{head: bench.LoadHead, row: bench.LoadRow, foot: bench.LoadFoot}
)

// benchFormat is the format of results: the one that the command line names, else plain columns on a terminal and Markdown elsewhere.
func (p *program) benchFormat(c *cli.Context) (string, error) {
	format := c.String("output-format")
	switch {
	case format != "" && c.Bool("json"):
		return "", &usageError{"-o and --json: give one of them"}
	case format != "" && !slices.Contains(benchFormats, format):
		return "", &usageError{fmt.Sprintf("-o %q: want %s", format, strings.Join(benchFormats, ", "))}
	case c.Bool("json"):
		return "json", nil
	case format == "" && p.stdout.terminal:
		return "table", nil
	}
	return cmp.Or(format, "md"), nil
}

// A benchJob is what a run of a benchmark is given besides the engines.
type benchJob[R bench.Row] struct {
	name     string // of the model; "" for its path
	stamping bench.Stamping
	progress func(bench.Progress)
	partial  func([]R) // takes the results of the rounds so far
	each     func(R)   // takes each result that is complete
}

// benchWith runs b with each model that the command line names, and shows the results.
func benchWith[R bench.Row](p *program, c *cli.Context, b benchmark[R]) error {
	if c.String("output-format") == "svg" && (b.svg == nil || !c.Bool("profile")) {
		return &usageError{"-o svg: want bench roofline, or --profile"}
	}
	models, err := benchModels(c)
	if err != nil {
		return err
	}
	if !c.IsSet("context") {
		if err := c.Set("context", strconv.Itoa(b.context)); err != nil {
			return err
		}
	}
	format, err := p.benchFormat(c)
	if err != nil {
		return err
	}
	for _, m := range models {
		if m.synthetic == nil {
			if err := p.find(c, m.path); err != nil {
				return err
			}
			if _, err := pumice.Resolve(m.path); err != nil { // before others are measured
				return err
			}
		}
	}
	out := benchWriter[R]{p: p, format: format, table: b.table, csv: csv.NewWriter(p.stdout), journal: benchJournal(p.options(c))}
	for _, m := range models {
		failed := m.run(p, c, func(path, name string) error { return benchModel(p, c, path, name, b, &out) })
		err = errors.Join(err, failed)
		if out.err != nil || failed != nil && !errors.Is(failed, pumice.ErrDeviceLost) && !errors.Is(failed, pumice.ErrHung) {
			break
		}
	}
	if errors.Is(err, context.Canceled) && len(out.results) > 0 { // of tests that have run at least once
		p.note("interrupted: rows that have runs are written, %d in all; -p, -n, -d, -pg and -np choose those that are left", len(out.results))
	}
	if out.err == nil && (len(out.results) > 0 || err == nil) {
		out.err = out.end()
	}
	return errors.Join(err, out.err, out.unkept)
}

// A benchedModel is one that pumice bench measures.
type benchedModel struct {
	path      string
	synthetic *synthetic // instead of path; nil: none
}

// benchModels are the models that the command line names, and the default one where it names none.
func benchModels(c *cli.Context) (models []benchedModel, err error) {
	random, names := c.StringSlice("synthetic"), c.Args().Slice()
	if isRoofline(c) {
		names = names[1:]
	}
	flagged := c.IsSet("model") || c.IsSet("hf-repo")
	if flagged || len(random)+len(names) == 0 {
		name, err := flaggedModel(c)
		if err != nil {
			return nil, err
		}
		names = slices.Insert(names, 0, name)
	}
	for _, name := range names {
		models = append(models, benchedModel{path: name})
	}
	for _, name := range random {
		s, err := parseSynthetic(name)
		if err != nil {
			return nil, err
		}
		models = append(models, benchedModel{synthetic: s})
	}
	return models, nil
}

// run measures a model that is at a path, and has a name of its own if it is not a file.
func (m benchedModel) run(p *program, c *cli.Context, measure func(path, name string) error) error {
	if m.synthetic == nil {
		return measure(m.path, "")
	}
	bar := p.newBar("random weights")
	defer bar.close()
	f, err := m.synthetic.file(c.Context, bar.set)
	if err != nil {
		return err
	}
	bar.close()
	return errors.Join(measure(f.Name(), m.synthetic.name), f.Close())
}

// benchFormats are the values of -o.
var benchFormats = []string{"table", "md", "csv", "json", "jsonl", "sql", "html", "svg"}

// A benchWriter writes results in a format, each as soon as it is there: what is killed has written those before.
type benchWriter[R bench.Row] struct {
	p      *program
	format string
	table[R]
	csv     *csv.Writer
	results []R
	left    []R       // of the tests that the last round has not ended yet
	kept    time.Time // when the journal was written
	journal string    // file that has the results so far too; "": none
	err     error     // the first of add: what is left is not measured
	unkept  error     // the first of keep
}

// benchJournal is the file in which a run keeps its results, for one that is killed; "" without a folder of the cache.
func benchJournal(o pumice.Options) string {
	if o.KVDir == "" {
		return ""
	}
	return filepath.Join(filepath.Dir(o.KVDir), "bench", "last.json")
}

// keep writes the results that are complete, and those of the tests that are under way, to the journal.
func (w *benchWriter[R]) keep(underWay []R) {
	if w.journal == "" {
		return
	}
	err := os.MkdirAll(filepath.Dir(w.journal), 0o755)
	if err == nil {
		err = atomicfile.Write(w.journal, func(f *os.File) error {
			return json.NewEncoder(f).Encode(slices.Concat(w.results, underWay))
		})
	}
	w.kept, w.unkept = time.Now(), cmp.Or(w.unkept, err)
}

// keepEvery is how long a round may take without being written to the journal.
const keepEvery = time.Second

func (w *benchWriter[R]) begin() error {
	switch w.format {
	case "md":
		return w.p.printf("%s", w.head)
	case "table":
		return w.p.printf("%s", bench.Plain(w.head))
	case "csv":
		return w.csv.Write(bench.CSVHead[R]())
	case "sql":
		return w.p.printf("%s", bench.SQLHead())
	}
	return nil
}

func (w *benchWriter[R]) add(r R) {
	if len(w.results) == 0 {
		w.err = cmp.Or(w.err, w.begin())
	}
	var err error
	switch w.format {
	case "md":
		err = w.p.printf("%s", w.row(r))
	case "table":
		err = w.p.printf("%s", bench.Plain(w.row(r)))
	case "csv":
		err = w.csv.Write(bench.CSVRow(r))
		w.csv.Flush()
	case "json":
		if err = w.p.printf("%c", "[,"[min(len(w.results), 1)]); err == nil {
			err = w.p.writeJSONPart(r)
		}
	case "jsonl":
		err = w.p.writeJSON(r)
	case "sql":
		var text string
		if text, err = bench.SQLRow(r); err == nil {
			err = w.p.printf("%s", text)
		}
	}
	w.results = append(w.results, r)
	w.err = cmp.Or(w.err, err)
	w.left = w.left[min(1, len(w.left)):]
	w.keep(w.left)
}

func (w *benchWriter[R]) end() error {
	if len(w.results) == 0 {
		if err := w.begin(); err != nil {
			return err
		}
	}
	switch w.format {
	case "md":
		return w.p.printf("%s", w.foot(w.results))
	case "table":
		return w.p.printf("%s", bench.Plain(w.foot(w.results)))
	case "csv":
		w.csv.Flush()
		return w.csv.Error()
	case "json":
		if len(w.results) == 0 {
			return w.p.writeJSON([]R{})
		}
		return w.p.printf("]\n")
	case "html":
		return bench.WritePage(w.p.stdout, "pumice bench", nil, bench.NewFile("this run", w.results))
	case "svg":
		return w.p.printf("%s\n", w.svg(w.results))
	}
	return nil
}

// benchModel loads a model and runs b with it.
func benchModel[R bench.Row](p *program, c *cli.Context, path, name string, b benchmark[R], out *benchWriter[R]) error {
	var stamping bench.Stamping
	if c.Bool("stamp") {
		reference, err := p.benchReference(c, path)
		if err != nil {
			return err
		}
		o := benchOptions(p.options(c))[0]
		stamping = bench.Stamping{Verify: &o, Reference: reference}
	}
	var engines []*pumice.Engine
	for i, o := range benchOptions(p.options(c)) {
		o.Surfaces = o.Surfaces && i == 0 // there is one window
		engine, err := p.openWith(c.Context, path, o)
		if err != nil {
			return err
		}
		defer engine.Close()
		engines = append(engines, engine)
	}
	bar := p.newCount("measuring")
	defer bar.close()
	stamping.Verifying = func() {
		bar.close()
		p.note("comparing kernels with a float64 reference, once for each device and driver")
	}
	return b.run(c.Context, engines, benchJob[R]{name: name, stamping: stamping, progress: func(r bench.Progress) {
		bar.ints(r.Done, r.Total)
		if c.Bool("verbose") {
			bar.close()
			name := fmt.Sprintf("run %d", r.Run)
			if r.Run == 0 {
				name = "warm-up"
			}
			p.note("%s, %s: %v", r.Test, name, r.Took.Round(time.Microsecond))
		}
	}, partial: func(list []R) {
		if out.left = list; time.Since(out.kept) > keepEvery {
			out.keep(list)
		}
	}, each: func(r R) {
		bar.close()
		out.add(r)
	}})
}

// benchOptions are the options of each device that a list names.
func benchOptions(o pumice.Options) (list []pumice.Options) {
	for _, device := range splitList(o.Device) {
		o.Device = device
		list = append(list, o)
	}
	if list == nil {
		list = []pumice.Options{o}
	}
	return list
}

// benchReference has base kernels answer, on the same devices. The engine's memory is free again when it returns.
func (p *program) benchReference(c *cli.Context, name string) (*bench.Reference, error) {
	base, err := p.openWith(c.Context, name, bench.ReferenceOptions(benchOptions(p.options(c))[0]))
	if err != nil {
		return nil, err
	}
	reference, err := bench.NewReference(c.Context, base)
	if err = errors.Join(err, base.Close()); err != nil {
		return nil, err
	}
	return reference, p.addExact(c, name, reference)
}

// addExact has a reference know exact probabilities, where they take seconds. Those of a model with adapters would be others.
func (p *program) addExact(c *cli.Context, name string, reference *bench.Reference) error {
	o := p.options(c)
	if len(o.LoRA) > 0 {
		return nil
	}
	m, err := pumice.OpenModel(c.Context, name)
	if err != nil {
		return err
	}
	defer m.Close()
	dir := ""
	if journal := benchJournal(o); journal != "" {
		dir = filepath.Dir(journal)
	}
	return reference.AddExact(c.Context, m, dir, func() { p.note("computing exact probabilities on the host, once for each model") })
}

// builtIn is the value of --text that is no file.
const builtIn = "built-in"

// benchPresets are the values of --preset.
func benchPresets() (names []string) {
	for _, p := range bench.Presets {
		names = append(names, p.Name)
	}
	return names
}

// benchText is the text that --text names, "" for random tokens.
func (p *program) benchText(c *cli.Context) (string, error) {
	switch name := c.String("text"); name {
	case "":
		return "", nil
	case builtIn:
		return bench.BuiltInText, nil
	default:
		return p.readFile(name)
	}
}

// benchDefaults are the lists of flags that are not given.
var benchDefaults = map[string]string{"prompt-lengths": "512", "gen-lengths": "128", "depths": "0", "parallel": "none", "load": "none"}

// countsFlag is a flag with lists of numbers, which may be repeated.
func countsFlag(name, usage, alias string) cli.Flag {
	return &cli.StringSliceFlag{Name: name, Aliases: []string{alias}, Usage: usage, EnvVars: env(name), DefaultText: benchDefaults[name]}
}

// givenCounts joins the lists that a flag gives.
func givenCounts(c *cli.Context, name string) string {
	if list := c.StringSlice(name); len(list) > 0 {
		return strings.Join(list, ",")
	}
	return benchDefaults[name]
}

// maxTests bounds what a range may stand for.
const maxTests = 1000

// counts reads numbers and ranges as llama-bench has them: 16,32, 128-256, which doubles, 128-256+64 or 128-256*2.
func counts(flag, list string) (out []int, err error) {
	wrong := &usageError{fmt.Sprintf("--%s %q: want numbers or ranges such as 128-512*2, with commas between", flag, list)}
	for _, s := range strings.Split(list, ",") {
		m := countRange.FindStringSubmatch(strings.TrimSpace(s))
		if m == nil {
			return nil, wrong
		}
		first, err1 := strconv.Atoi(m[1])
		last, step := first, 1
		var err2, err3 error
		by := m[3]
		if m[2] != "" {
			last, err2 = strconv.Atoi(m[2])
			if by, step = cmp.Or(by, "*"), 2; m[4] != "" {
				step, err3 = strconv.Atoi(m[4])
			}
			if by == "*" && (step < 2 || first == 0) || step < 1 {
				return nil, wrong
			}
		}
		if err1 != nil || err2 != nil || err3 != nil || last < first {
			return nil, wrong
		}
		for n := first; n <= last; {
			if out = append(out, n); len(out) > maxTests {
				return nil, wrong
			}
			if by == "*" {
				n *= step
			} else {
				n += step
			}
		}
	}
	return out, nil
}

var countRange = regexp.MustCompile(`^(\d+)(?:-(\d+)(?:([+*])(\d+))?)?$`)
