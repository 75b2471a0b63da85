package main

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/urfave/cli/v2"

	"pumice/bench"
)

func (p *program) benchCommand() *cli.Command {
	flags := []cli.Flag{
		stringFlag("prompt-lengths", "512", "measure prompts of `N,...` tokens", "p"),
		stringFlag("gen-lengths", "128", "measure generations of `N,...` tokens", "n"),
		stringFlag("depths", "0", "run each test with `N,...` tokens already in the KV cache", "d"),
		intFlag("reps", 5, "repeat each test `N` times, after one warm-up run", "r"),
		boolFlag("profile", false,
			"also report the device time of each kernel; timestamps cost a little, and tokens are not queued"),
		jsonFlag(),
	}
	return &cli.Command{
		Name:      "bench",
		Usage:     "measure the speed of prompts and of generation, as llama-bench does",
		ArgsUsage: "MODEL",
		Flags:     append(flags, append(modelFlags(), splitFlag())...),
		Action:    p.bench,
	}
}

func (p *program) bench(c *cli.Context) error {
	if err := noMoreArgs(c, 1); err != nil {
		return err
	}
	o := bench.Options{Reps: c.Int("reps"), Profile: c.Bool("profile")}
	for name, field := range map[string]*[]int{"prompt-lengths": &o.Prompt, "gen-lengths": &o.Gen, "depths": &o.Depth} {
		var err error
		if *field, err = counts(name, c.String(name)); err != nil {
			return err
		}
	}
	if o.Reps < 1 {
		return &usageError{fmt.Sprintf("-r %d: want at least 1", o.Reps)}
	}
	if len(o.Tests()) == 0 {
		return &usageError{"nothing to measure: -p and -n are both 0"}
	}
	if !c.IsSet("context") {
		if err := c.Set("context", strconv.Itoa(o.Context())); err != nil {
			return err
		}
	}
	ctx := c.Context
	engine, err := p.open(ctx, c, modelName(c))
	if err != nil {
		return err
	}
	defer engine.Close()

	results := []bench.Result{}
	asJSON := c.Bool("json")
	if !asJSON {
		if err := p.printf("%s", bench.TableHead); err != nil {
			return err
		}
	}
	err = bench.Run(ctx, engine, o, func(r bench.Result) {
		results = append(results, r)
		if !asJSON {
			p.printf("%s", bench.TableRow(r))
		}
	})
	if err != nil {
		return err
	}
	if asJSON {
		return p.writeJSON(results)
	}
	if err := p.printf("%s", bench.TableFoot(results)); err != nil || !o.Profile {
		return err
	}
	for _, r := range results {
		if err := p.printf("%s", bench.Profile(r)); err != nil {
			return err
		}
	}
	return nil
}

// counts reads a list of numbers.
func counts(flag, list string) ([]int, error) {
	var out []int
	for _, s := range strings.Split(list, ",") {
		n, err := strconv.Atoi(strings.TrimSpace(s))
		if err != nil || n < 0 {
			return nil, &usageError{fmt.Sprintf("--%s %q: want numbers with commas between", flag, list)}
		}
		out = append(out, n)
	}
	return out, nil
}
