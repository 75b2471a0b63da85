package main

import (
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"pumice"
	"pumice/pipeline"
)

func (p *program) tuneCommand() *cli.Command {
	return &cli.Command{
		Name:  "tune",
		Usage: "check and measure the kernels on this device, and use the fastest from then on",
		Description: "What is found is kept for this device, its driver and these kernels under --cache-dir, and read by every command. A kernel that\n" +
			"computes wrong results on this device is never used; pumice verify checks more cases of every one.",
		Flags: []cli.Flag{
			stringFlag("types", "", "`TYPE,...` of weights to measure (default: all, the common ones first)"),
			&cli.DurationFlag{Name: "budget", EnvVars: env("budget"), Value: 50 * time.Second, Usage: "`TIME` after which nothing new is started"},
			stringFlag("cache-dir", "auto", "`DIR` where the result and compiled pipelines are kept"),
			jsonFlag(),
		},
		Action: p.tune,
	}
}

func (p *program) tune(c *cli.Context) error {
	if err := noMoreArgs(c, 0); err != nil {
		return err
	}
	if c.Duration("budget") <= 0 {
		return &usageError{"--budget " + c.Duration("budget").String() + ": want a time such as 50s"}
	}
	if c.String("cache-dir") == "none" {
		return &usageError{"--cache-dir none: tune has nowhere to keep what it finds"}
	}
	ctx, stop := interruptible(c.Context)
	defer stop()
	k, err := pumice.OpenKernels(p.options(c))
	if err != nil {
		return err
	}
	defer k.Close()
	tuning, err := k.Tune(ctx, splitList(c.String("types")), c.Duration("budget"), func(m pipeline.Measurement) {
		if !c.Bool("json") {
			p.printf("%-16s %4d tokens  %-5s %10.1f us  %8.1f GFLOP/s\n", m.Op, m.Tokens, m.Path, float64(m.Nanoseconds)/1e3,
				2*float64(m.Tokens)*float64(m.Rows)*float64(m.Cols)/float64(m.Nanoseconds))
		}
	})
	if err != nil {
		return err
	}
	if c.Bool("json") {
		return p.writeJSON(tuning)
	}
	if len(tuning.Refused) > 0 {
		var names []string
		for _, r := range tuning.Refused {
			names = append(names, r.Kernel)
		}
		return p.printf("not used, since their results are wrong on this device: %s\n", strings.Join(names, ", "))
	}
	return p.printf("%d measurements kept; every checked kernel is right\n", len(tuning.Timings))
}
