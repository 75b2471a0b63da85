package main

import (
	"cmp"
	"context"
	"encoding/csv"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"pumice"
	"pumice/bench"
)

func (p *program) benchCommand() *cli.Command {
	flags := []cli.Flag{
		countsFlag("prompt-lengths", "measure prompts of `N,...` tokens", "p"),
		countsFlag("gen-lengths", "measure generations of `N,...` tokens", "n"),
		countsFlag("depths", "run each test with `N,...` tokens already in the KV cache", "d"),
		countsFlag("parallel", "measure `N,...` sequences at once, with llama-batched-bench's columns", "np"),
		&cli.StringSliceFlag{Name: "prompt-gen", Aliases: []string{"pg"}, EnvVars: env("prompt-gen"), DefaultText: "none",
			Usage: "also measure a prompt of P tokens and N generated ones together, `P,N`; may be repeated"},
		boolFlag("shared-prompt", false, "give all sequences of -np the same prompt, which the first one evaluates, as llama-batched-bench does with -pps", "pps"),
		intFlag("reps", 5, "repeat each test `N` times, after one warm-up run", "r"),
		boolFlag("profile", false,
			"also report the device time of each kernel and size, with bytes and operations a second; timestamps cost a little, and tokens are not queued"),
		stringFlag("output-format", "md", "write results as `FORMAT`: md, csv or jsonl", "o"),
		boolFlag("verbose", false, "report the time of each run on standard error"),
		jsonFlag(),
	}
	return &cli.Command{
		Name:      "bench",
		Category:  ofDevices,
		Usage:     "measure the speed of prompts and of generation, as llama-bench does",
		ArgsUsage: "[MODEL...]",
		Description: "Each length of -p and each of -n is a test, at each depth of -d. These flags and -np may be repeated, and take ranges as\n" +
			"llama-bench does: 128-512 doubles, 128-512+128 adds.\n\n" +
			"With -np, each combination of -p, -n and -np is a test, as those of -npp, -ntg and -npl are in llama-batched-bench: -np\n" +
			"sequences evaluate prompts of -p tokens at once, and then generate -n tokens each at once. None of them is 0. -d and\n" +
			"--profile can't be combined with -np.",
		Flags:  slices.Concat(flags, modelFlags(), splitFlags()),
		Action: p.bench,
	}
}

func (p *program) bench(c *cli.Context) error {
	o := bench.Options{Reps: c.Int("reps"), Profile: c.Bool("profile")}
	for name, field := range map[string]*[]int{"prompt-lengths": &o.Prompt, "gen-lengths": &o.Gen, "depths": &o.Depth} {
		var err error
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
	if format := c.String("output-format"); !slices.Contains([]string{"md", "csv", "jsonl"}, format) {
		return &usageError{fmt.Sprintf("-o %q: want md, csv or jsonl", format)}
	}
	if c.IsSet("output-format") && c.Bool("json") {
		return &usageError{"-o and --json: give one of them"}
	}
	if o.Reps < 1 {
		return &usageError{fmt.Sprintf("-r %d: want at least 1", o.Reps)}
	}
	if c.IsSet("parallel") {
		return p.benchParallel(c, o)
	}
	if c.Bool("shared-prompt") {
		return &usageError{"--shared-prompt needs -np"}
	}
	if len(o.Tests()) == 0 {
		return &usageError{"nothing to measure: -p and -n are both 0"}
	}
	return benchWith(p, c, benchmark[bench.Result]{
		context: o.Context(),
		run: func(ctx context.Context, e *pumice.Engine, progress func(bench.Progress), each func(bench.Result)) error {
			o.Progress = progress
			return bench.Run(ctx, e, o, each)
		},
		head: bench.TableHead, row: bench.TableRow,
		foot: func(results []bench.Result) string {
			foot := bench.TableFoot(results)
			if o.Profile {
				for _, r := range results {
					foot += bench.Profile(r)
				}
			}
			return foot
		},
	})
}

// benchParallel measures several sequences at once, with the lengths and repetitions of o.
func (p *program) benchParallel(c *cli.Context, o bench.Options) error {
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
	po := bench.ParallelOptions{Prompt: o.Prompt, Gen: o.Gen, Sequences: sequences, Shared: c.Bool("shared-prompt"), Reps: o.Reps}
	return benchWith(p, c, benchmark[bench.ParallelResult]{
		context: po.Context(),
		run: func(ctx context.Context, e *pumice.Engine, progress func(bench.Progress), each func(bench.ParallelResult)) error {
			po.Progress = progress
			return bench.RunParallel(ctx, e, po, each)
		},
		head: bench.ParallelHead, row: bench.ParallelRow, foot: bench.ParallelFoot,
	})
}

// benchmark is what benchWith runs and how its results are shown.
type benchmark[R bench.Result | bench.ParallelResult] struct {
	context int // that a sequence needs
	run     func(ctx context.Context, e *pumice.Engine, progress func(bench.Progress), each func(R)) error

	head string
	row  func(R) string
	foot func([]R) string
}

// benchWith runs b with each model that the command line names, and shows the results.
func benchWith[R bench.Result | bench.ParallelResult](p *program, c *cli.Context, b benchmark[R]) error {
	name, names, err := modelArgs(c)
	if err != nil {
		return err
	}
	if !c.IsSet("context") {
		if err := c.Set("context", strconv.Itoa(b.context)); err != nil {
			return err
		}
	}
	results := []R{}
	format := c.String("output-format")
	if c.Bool("json") {
		format = "json"
	}
	rows := csv.NewWriter(p.stdout)
	switch format {
	case "md":
		err = p.printf("%s", b.head)
	case "csv":
		err = rows.Write(bench.CSVHead[R]())
	}
	show := func(r R) {
		results = append(results, r)
		switch format {
		case "md":
			p.printf("%s", b.row(r))
		case "csv":
			rows.Write(bench.CSVRow(r))
			rows.Flush()
		case "jsonl":
			p.writeJSON(r)
		}
	}
	for _, name := range slices.Insert(names, 0, name) {
		if err == nil {
			err = benchModel(p, c, name, b, show)
		}
	}
	if errors.Is(err, context.Canceled) && len(results) > 0 { // of tests that ended before
		p.note("interrupted after %d tests: -p, -n, -d, -pg and -np choose those that are left", len(results))
	} else if err != nil {
		return err
	}
	switch format {
	case "md":
		err = errors.Join(err, p.printf("%s", b.foot(results)))
	case "csv":
		rows.Flush()
		err = errors.Join(err, rows.Error())
	case "json":
		err = errors.Join(err, p.writeJSON(results))
	}
	return err
}

// benchModel loads a model and runs b with it.
func benchModel[R bench.Result | bench.ParallelResult](p *program, c *cli.Context, name string, b benchmark[R], show func(R)) error {
	engine, err := p.open(c.Context, c, name)
	if err != nil {
		return err
	}
	defer engine.Close()
	bar := p.newCount("measuring")
	defer bar.close()
	return b.run(c.Context, engine, func(r bench.Progress) {
		bar.ints(r.Done, r.Total)
		if c.Bool("verbose") {
			bar.close()
			name := fmt.Sprintf("run %d", r.Run)
			if r.Run == 0 {
				name = "warm-up"
			}
			p.note("%s, %s: %v", r.Test, name, r.Took.Round(time.Microsecond))
		}
	}, func(r R) {
		bar.close()
		show(r)
	})
}

// benchDefaults are the lists of flags that are not given.
var benchDefaults = map[string]string{"prompt-lengths": "512", "gen-lengths": "128", "depths": "0", "parallel": "none"}

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
