package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"pumice"
	"pumice/chat"
	"pumice/eval"
	"pumice/internal/atomicfile"
	"pumice/tokenizer"
)

func (p *program) evalCommand() *cli.Command {
	flags := []cli.Flag{
		stringFlag("tasks", "",
			"evaluate the tasks and groups `NAME,...`, which pumice eval ls lists; * matches any text"),
		stringFlag("data", "data",
			"read mmlu, ceval, agieval, gaokao_bench and gaokao_english, as downloaded, from `DIR`"),
		&cli.StringSliceFlag{Name: "data-dir", EnvVars: env("data-dir"), Usage: "read one benchmark from another folder, `BENCHMARK=DIR`; may be repeated"},
		intFlag("num-fewshot", eval.NumShots, "put `N` examples before each question"),
		stringFlag("limit", "",
			"ask only the first `N` questions of each task, or a share of them such as 0.1; this is not the "+
				"benchmark's result"),
		stringFlag("samples", "", "ask only the questions that `JSON` lists, such as {\"task\":[0,1]}"),
		&cli.IntFlag{Name: "max-length", EnvVars: env("max-length"), Usage: "leave out examples until a prompt has at most `N` tokens", DefaultText: "the context the model was trained for"},
		stringFlag("split", "val", "score this `SPLIT` of C-Eval: val, or test, which also writes the file to submit"),
		stringFlag("prompt-style", "authors", "write prompts of MMLU and C-Eval in this `STYLE`: authors or harness"),
		stringFlag("shots", "file",
			"take the examples of AGIEval from this `SOURCE`: file (its first questions) or official"),
		boolFlag("apply-chat-template", false, "ask each question as a chat message; the published results did not"),
		chatTemplateFlag(),
		stringFlag("output-path", "",
			"write results and journal to `DIR`; a run that was stopped continues from there"),
		boolFlag("log-samples", false, "also write each question with its answer"),
		stringFlag("replicas", "",
			"load the whole model on each of the devices `A,B,...`, named as for --device, which share the questions"),
		stringFlag("shard", "", "answer only part I of N, written `I/N`; pumice eval merge puts the parts together"),
		boolFlag("verbose", false, "print each answer on standard error"),
		boolFlag("strict", false, "stop at the first mistake in the data files"),
		boolFlag("write-out", false, "print the first prompt of each task before the run"),
		stringFlag("published", "XVERSE-7B-Chat", "compare with the published results of `MODEL,...`; all or none"),
		stringFlag("published-file", "", "read published results from `FILE` instead of the XVERSE-7B-Chat card"),
		stringFlag("chart", "", "draw the results into `FILE.svg`"),
		jsonFlag(),
	}
	return &cli.Command{
		Name:      "eval",
		Category:  ofQuality,
		Usage:     "score a model on MMLU, C-Eval, AGIEval, GAOKAO-Bench and GAOKAO-English",
		ArgsUsage: "[MODEL] | ls [tasks|groups] | merge --output-path DIR RESULTS... | compare RESULTS RESULTS",
		Description: "pumice eval MODEL asks the questions of --tasks. ls lists tasks and groups, merge puts the results of --shard together, and\n" +
			"compare compares two results that have samples. RESULTS is a results file or its directory.",
		Flags:  slices.Concat(flags, modelFlags(), splitFlags()),
		Action: p.eval,
	}
}

func (p *program) eval(c *cli.Context) error {
	switch c.Args().First() {
	case "ls":
		return p.evalList(c)
	case "merge":
		return p.evalMerge(c)
	case "compare":
		return p.evalCompare(c)
	}
	r, err := newEvalRun(p, c)
	if err != nil {
		return err
	}
	ctx := c.Context
	return r.run(ctx)
}

// evalRun is one run of `pumice eval MODEL`.
type evalRun struct {
	p     *program
	c     *cli.Context
	name  string
	model *pumice.Model

	data      eval.Data
	selection *eval.Selection
	planned   eval.PlanOptions
	replicas  []string // devices that each get the whole model; nil uses --device and --devices
	identity  eval.Identity
	shard     [2]int // of; 1 of 1 for all
	published []eval.CardRow
	started   time.Time
	last      eval.Progress // how far it came
}

// newEvalRun checks the flags.
func newEvalRun(p *program, c *cli.Context) (*evalRun, error) {
	r := &evalRun{p: p, c: c, shard: [2]int{1, 1}, started: time.Now()}
	var err error
	if r.name, err = onlyModel(c); err != nil {
		return nil, err
	}
	names := slices.DeleteFunc(strings.Split(c.String("tasks"), ","), func(s string) bool { return strings.TrimSpace(s) == "" })
	if len(names) == 0 {
		return nil, &usageError{"--tasks: want names of tasks or groups; pumice eval ls lists them"}
	}
	if r.selection, err = eval.Select(names); err != nil {
		return nil, &usageError{strings.TrimPrefix(err.Error(), "eval: ") + "; pumice eval ls lists them"}
	}
	for flag, allowed := range map[string][]string{"split": {"val", "test"}, "prompt-style": {"authors", "harness"}, "shots": {"file", "official"}} {
		if !slices.Contains(allowed, c.String(flag)) {
			return nil, &usageError{fmt.Sprintf("--%s %q: want %s", flag, c.String(flag), strings.Join(allowed, " or "))}
		}
	}
	if c.Int("num-fewshot") < 0 || c.Int("max-length") < 0 {
		return nil, &usageError{"--num-fewshot and --max-length can't be negative"}
	}
	r.planned = eval.PlanOptions{NumShots: c.Int("num-fewshot"), MaxLength: c.Int("max-length")}
	if text := c.String("limit"); text != "" {
		if r.planned.Limit, err = strconv.ParseFloat(text, 64); err != nil || !(r.planned.Limit > 0 && r.planned.Limit < 1e9) {
			return nil, &usageError{fmt.Sprintf("--limit %q: want a number of questions, or a share of them below 1", text)}
		}
	}
	if text := c.String("samples"); text != "" {
		if err := json.Unmarshal([]byte(text), &r.planned.Samples); err != nil {
			return nil, &usageError{fmt.Sprintf("--samples: %v", err)}
		}
		for task := range r.planned.Samples {
			if !slices.Contains(r.selection.Tasks, task) {
				return nil, &usageError{fmt.Sprintf("--samples: %q is not a task of --tasks", task)}
			}
		}
	}
	if text := c.String("shard"); text != "" {
		i, n, ok := strings.Cut(text, "/")
		r.shard[0], err = strconv.Atoi(i)
		if r.shard[1], _ = strconv.Atoi(n); !ok || err != nil || r.shard[0] < 1 || r.shard[1] < r.shard[0] {
			return nil, &usageError{fmt.Sprintf("--shard %q: want I/N, such as 2/8", text)}
		}
		if c.String("output-path") == "" {
			return nil, &usageError{"--shard needs --output-path"}
		}
	}
	if r.replicas = splitList(c.String("replicas")); r.replicas != nil {
		if slices.Contains(r.replicas, "") {
			return nil, &usageError{fmt.Sprintf("--replicas %q: want the index, a part of the name, or the UUID of each device",
				c.String("replicas"))}
		}
		if c.String("device") != "" || c.String("devices") != "" {
			return nil, &usageError{"--replicas loads the whole model on each device, " +
				"--device and --devices load it once: give one of the three"}
		}
	}
	r.data = eval.Data{
		Root: c.String("data"), Dirs: map[string]string{}, Split: c.String("split"), Strict: c.Bool("strict"),
		HarnessStyle: c.String("prompt-style") == "harness", OfficialShots: c.String("shots") == "official",
	}
	for _, text := range c.StringSlice("data-dir") {
		benchmark, dir, ok := strings.Cut(text, "=")
		benchmark = strings.ReplaceAll(benchmark, "-", "_")
		if !ok || dir == "" || !slices.Contains(eval.Benchmarks(), benchmark) {
			return nil, &usageError{fmt.Sprintf("--data-dir %q: want one of %s, =, and a directory", text, strings.Join(eval.Benchmarks(), ", "))}
		}
		r.data.Dirs[benchmark] = dir
	}
	if r.published, err = publishedRows(c); err != nil {
		return nil, err
	}
	r.identity = eval.Identity{
		DType: strings.ToLower(c.String("dtype")), KVType: strings.ToLower(c.String("kv-type")), KernelPath: c.String("kernel-path"), Tasks: names,
		NumShots: r.planned.NumShots, Limit: r.planned.Limit, Samples: r.planned.Samples, Split: c.String("split"),
		PromptStyle: c.String("prompt-style"), Shots: c.String("shots"),
	}
	return r, nil
}

// publishedRows are the rows that --published names.
func publishedRows(c *cli.Context) ([]eval.CardRow, error) {
	card := eval.PublishedCard()
	if name := c.String("published-file"); name != "" {
		var err error
		if card, err = eval.ReadCard(name); err != nil {
			return nil, err
		}
		if !c.IsSet("published") {
			return card.Rows, nil
		}
	}
	switch c.String("published") {
	case "all":
		return card.Rows, nil
	case "none", "":
		return nil, nil
	}
	var out []eval.CardRow
	for name := range strings.SplitSeq(c.String("published"), ",") {
		at := slices.IndexFunc(card.Rows, func(r eval.CardRow) bool { return strings.EqualFold(r.Model, strings.TrimSpace(name)) })
		if at < 0 {
			var known []string
			for _, r := range card.Rows {
				known = append(known, r.Model)
			}
			return nil, &usageError{fmt.Sprintf("--published %q: want all, none or some of %s", name, strings.Join(known, ", "))}
		}
		out = append(out, card.Rows[at])
	}
	return out, nil
}

func (r *evalRun) run(ctx context.Context) error {
	tasks, absent, err := r.load()
	if err != nil {
		return err
	}
	if err := r.p.fetchMissing(r.c, r.name); err != nil {
		return err
	}
	if r.model, err = pumice.OpenModel(ctx, r.name); err != nil {
		return err
	}
	defer r.model.Close()
	tok, err := r.readModel(ctx)
	if err != nil {
		return err
	}
	plan, err := eval.NewPlan(ctx, tok, tasks, r.planned)
	if err != nil {
		return err
	}
	requests, err := plan.Shard(r.shard[0], r.shard[1])
	if err != nil {
		return err
	}
	if r.c.Bool("write-out") {
		for _, t := range tasks {
			if len(t.Docs) > 0 {
				r.p.note("--- %s\n%s", t.Name, t.FirstPrompt(r.planned.NumShots))
			}
		}
	}
	dir, suffix := r.c.String("output-path"), ""
	if r.shard[1] > 1 {
		suffix = fmt.Sprintf("%d/%d", r.shard[0], r.shard[1])
		dir = filepath.Join(dir, fmt.Sprintf("shard-%d-of-%d", r.shard[0], r.shard[1]))
	}
	var journal *eval.Journal
	if r.c.String("output-path") != "" {
		if journal, err = eval.OpenJournal(filepath.Join(dir, "journal.jsonl"), r.identity); err != nil {
			return err
		}
		defer journal.Close()
	}
	summary := &eval.Summary{Identity: r.identity, Shard: suffix, Devices: []string{}, Absent: absent, Problems: r.data.Problems, Notes: r.data.Notes}
	if summary.Problems == nil {
		summary.Problems = []eval.Problem{}
	}
	entries, err := r.ask(ctx, plan, requests, journal, summary)
	if err != nil {
		if last := r.last; last.Done > 0 && last.Done < last.Total {
			r.p.note("%d of %d questions are answered, %d right", last.Done, last.Total, last.Right)
		}
		switch {
		case journal != nil:
			r.p.note("the answers so far are in %s: run the same command again to continue", filepath.Join(dir, "journal.jsonl"))
		case errors.Is(err, context.Canceled):
			r.p.note("the answers so far are not kept: --output-path DIR keeps them, and continues from there")
		}
		return err
	}
	summary.Tasks = eval.Summarize(plan, requests, entries)
	summary.Groups = r.selection.Group(summary.Tasks)
	for _, e := range entries {
		summary.Seconds += e.Seconds
	}
	if journal != nil {
		var samples map[string][]eval.Sample
		if r.c.Bool("log-samples") || r.shard[1] > 1 || r.data.Split == "test" {
			if samples, err = eval.Samples(requests, entries); err != nil {
				return err
			}
		}
		name, err := eval.Write(dir, summary, samples, r.started)
		if err != nil {
			return err
		}
		r.p.note("results: %s", name)
	}
	if summary.Shard != "" {
		r.p.note("pumice eval merge puts the shards together")
	}
	return r.p.showResults(r.c, summary, r.published)
}

// load reads the tasks. It returns the names of those whose files are absent.
func (r *evalRun) load() (tasks []*eval.Task, absent []string, err error) {
	absent = []string{}
	for _, name := range r.selection.Tasks {
		t, err := r.data.Load(name)
		switch {
		case errors.Is(err, fs.ErrNotExist):
			absent = append(absent, name)
		case err != nil:
			return nil, nil, err
		default:
			tasks = append(tasks, t)
		}
	}
	for _, problem := range r.data.Problems {
		r.p.log.Warn().Str("file", problem.File).Int("line", problem.Line).Msg(problem.Msg)
	}
	if len(tasks) == 0 {
		return nil, nil, fmt.Errorf("eval: %s holds no files of these tasks: name their folder with --data", r.c.String("data"))
	}
	return tasks, absent, nil
}

// readModel reads what the plan needs of the model: tokenizer, trained context, chat format and hashes.
func (r *evalRun) readModel(ctx context.Context) (*tokenizer.Tokenizer, error) {
	tok, err := r.model.Tokenizer(ctx)
	if err != nil {
		return nil, err
	}
	longest := r.model.Config().MaxPositionEmbeddings
	for _, flag := range []string{"max-length", "context"} {
		if n := r.c.Int(flag); n > 0 {
			longest = min(longest, n)
		}
	}
	r.planned.MaxLength, r.identity.MaxLength = longest, longest
	if r.c.Bool("apply-chat-template") {
		format, err := r.model.ChatFormat(ctx, r.c.String("chat-template"))
		if err != nil {
			return nil, err
		}
		r.identity.ChatTemplate = format.Name()
		r.planned.Chat = func(text string) ([]int, error) {
			return format.Encode(ctx, tok, []chat.Message{{Role: "user", Content: text}})
		}
	}
	path := r.model.Source().Path
	r.identity.Model = strings.TrimSuffix(filepath.Base(path), ".gguf")
	r.identity.ModelSHA256, err = eval.ModelSHA256(ctx, path)
	if err != nil {
		return nil, err
	}
	for _, adapter := range r.c.StringSlice("lora") {
		path := adapter
		if at := strings.LastIndex(adapter, ":"); at >= 0 {
			if _, err := strconv.ParseFloat(adapter[at+1:], 64); err == nil {
				path = adapter[:at]
			}
		}
		sum, err := eval.ModelSHA256(ctx, path)
		if err != nil {
			return nil, err
		}
		r.identity.LoRA = append(r.identity.LoRA, adapter+" "+sum)
	}
	return tok, nil
}

// contextStep rounds contexts, so that nearly equal plans record the same shapes.
const contextStep = 256

// ask loads the model, once for each replica, with no more context than the plan has use for, closes its files, and asks the
// questions.
func (r *evalRun) ask(ctx context.Context, plan *eval.Plan, requests []*eval.Request, journal *eval.Journal, s *eval.Summary) (entries []eval.Entry, err error) {
	o := r.p.options(r.c)
	o.Context = (plan.Widest() + contextStep - 1) / contextStep * contextStep
	o.Context = max(plan.Longest(), min(o.Context, plan.Options.MaxLength))
	replicas := r.replicas
	if replicas == nil {
		replicas = []string{o.Device}
	}
	var engines []*pumice.Engine
	defer func() {
		for _, e := range engines {
			err = errors.Join(err, e.Close())
		}
	}()
	for _, device := range replicas {
		o.Device = device
		bar := r.p.newBar("loading")
		o.Progress = bar.set
		e, err := r.model.Load(ctx, o)
		bar.close()
		if err != nil {
			return nil, err
		}
		engines = append(engines, e)
		for _, d := range e.Devices() {
			s.Devices = append(s.Devices, d.Info().Name)
		}
	}
	if err := r.model.Close(); err != nil {
		return nil, err
	}
	return eval.Run(ctx, engines, requests, journal, r.progress(len(requests)))
}

// progress shows how far a run is: continuously on a terminal, otherwise at every tenth of the questions. With --verbose each
// answer is a line.
func (r *evalRun) progress(total int) func(eval.Progress) {
	bar := r.p.newCount("evaluating")
	next, resumed := 0, false
	return func(p eval.Progress) {
		r.last = p
		if p.Reused > 0 && !resumed {
			resumed = true
			r.p.note("continuing after %d questions, which the journal has", p.Reused)
		}
		bar.ints(p.Done, p.Total)
		switch {
		case r.c.Bool("verbose"):
			bar.close()
			word := "wrong"
			if p.Answer.Correct {
				word = "right"
			}
			r.p.note("%-5s  %s %s: %s, the key has %s", word, p.Answer.Task, p.Answer.ID, p.Answer.Pred, p.Answer.Gold)
		case bar.bar == nil && p.Done*10 >= next*total:
			left := ""
			if p.Remaining > 0 || p.Done == p.Total {
				left = fmt.Sprintf(", %s left", p.Remaining.Round(time.Second))
			}
			r.p.note("%d of %d questions, %d right%s", p.Done, p.Total, p.Right, left)
			next = p.Done*10/max(1, total) + 1
		}
		if p.Done == p.Total {
			bar.close()
		}
	}
}

// showResults writes the tables to standard output, and the chart that --chart asks for.
func (p *program) showResults(c *cli.Context, s *eval.Summary, published []eval.CardRow) error {
	rows := append([]eval.CardRow{s.CardRow()}, published...)
	if name := c.String("chart"); name != "" {
		if err := atomicfile.WriteBytes(name, []byte(eval.Chart("Multiple-choice benchmarks: "+s.Identity.Model, rows))); err != nil {
			return err
		}
	}
	if c.Bool("json") {
		return p.writeJSON(s)
	}
	text := eval.Table(s)
	if card := eval.CardTables(rows); card != "" {
		text += "\n" + card
	}
	return p.printf("%s", text)
}

// A catalogue is what eval ls --json writes.
type catalogue struct {
	Groups []eval.Group `json:"groups"`
	Tasks  []string     `json:"tasks"`
}

// evalList is `pumice eval ls`.
func (p *program) evalList(c *cli.Context) error {
	what := c.Args().Get(1)
	if c.NArg() > 2 || what != "" && what != "tasks" && what != "groups" {
		return &usageError{"eval ls: want tasks, groups or no argument"}
	}
	if c.Bool("json") {
		return p.writeJSON(catalogue{eval.Groups(), eval.TaskNames()})
	}
	if what != "tasks" {
		for _, g := range eval.Groups() {
			if err := p.printf("%-24s %3d tasks, %s mean  %s\n", g.Name, len(g.Tasks), g.Headline, g.Title); err != nil {
				return err
			}
		}
	}
	if what != "groups" {
		for _, name := range eval.TaskNames() {
			if err := p.printf("%s\n", name); err != nil {
				return err
			}
		}
	}
	return nil
}

// evalMerge is `pumice eval merge`.
func (p *program) evalMerge(c *cli.Context) error {
	out := c.String("output-path")
	names := c.Args().Slice()[1:]
	if out == "" {
		return &usageError{"eval merge needs --output-path, where it writes the results"}
	}
	if len(names) == 0 {
		found, err := filepath.Glob(filepath.Join(out, "shard-*-of-*"))
		if err != nil {
			return err
		}
		names = found
	}
	if len(names) == 0 {
		return &usageError{"eval merge: want the directories of the shards; there are none in " + out}
	}
	published, err := publishedRows(c)
	if err != nil {
		return err
	}
	var summaries []*eval.Summary
	var samples []map[string][]eval.Sample
	for _, name := range names {
		s, err := eval.ReadSummary(name)
		if err != nil {
			return err
		}
		read, err := eval.ReadSamples(name)
		if err != nil {
			return err
		}
		summaries, samples = append(summaries, s), append(samples, read)
	}
	merged, err := eval.Merge(summaries)
	if err != nil {
		return err
	}
	name, err := eval.Write(out, merged, eval.MergeSamples(samples), time.Now())
	if err != nil {
		return err
	}
	p.note("results: %s", name)
	return p.showResults(c, merged, published)
}

// evalCompare is `pumice eval compare`.
func (p *program) evalCompare(c *cli.Context) error {
	if c.NArg() != 3 {
		return &usageError{"eval compare: want two results, each with its samples (--log-samples)"}
	}
	var runs [2]map[string][]eval.Sample
	for i := range runs {
		var err error
		if runs[i], err = eval.ReadSamples(c.Args().Get(1 + i)); err != nil {
			return err
		}
	}
	comparison, err := eval.Compare(runs[0], runs[1])
	if err != nil {
		return err
	}
	if c.Bool("json") {
		return p.writeJSON(comparison)
	}
	return p.printf("%s", comparison)
}
