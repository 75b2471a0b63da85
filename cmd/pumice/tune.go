package main

import (
	"errors"
	"fmt"
	"slices"
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
		Description: "What is found is kept for this device, its driver and these kernels under --cache-dir, and read by every command. A product counts\n" +
			"when all kernels for it were measured; until then fixed rules choose. When the budget is spent, tune says what is missing; run it\n" +
			"again to go on. A kernel that computes wrong results on this device is never used; pumice verify checks more cases of every one.",
		Flags: []cli.Flag{
			stringFlag("types", "", "`TYPE,...` of weights to measure (default: all, the common ones first)"),
			&cli.DurationFlag{Name: "budget", EnvVars: env("budget"), Value: 50 * time.Second, Usage: "`TIME` limit; what isn't measured by then is left for the next run"},
			boolFlag("reset", false, "forget the measurements kept for this device, and measure nothing"),

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
	o := p.options(c)
	if o.CacheDir == "" {
		return &usageError{"tune has nowhere to keep what it finds: --cache-dir DIR names a folder"}
	}
	ctx := c.Context
	k, err := pumice.OpenKernels(o)
	if err != nil {
		return err
	}
	defer k.Close()
	if c.Bool("reset") {
		file, err := k.ResetTuning()
		if err != nil {
			return err
		}
		if c.Bool("json") {
			return p.writeJSON(map[string]string{"file": file})
		}
		return p.printf("no measurements are kept in %s any more\n", file)
	}
	stopSpinner := func() {}
	result, err := k.Tune(ctx, pumice.TuneOptions{
		Types:  splitList(c.String("types")),
		Budget: c.Duration("budget"),
		OnCheck: func() {
			p.note("checking the kernels, which is done once for a device and its driver")
			stopSpinner = p.spin().stop
		},
		OnMeasure: func(m pipeline.Measurement) {
			stopSpinner()
			if !c.Bool("json") {
				p.printf("%-16s %4d tokens  %-5s %10.1f us  %8.1f GFLOP/s\n", m.Op, m.Tokens, m.Path, float64(m.Nanoseconds)/1e3,
					2*float64(m.Tokens)*float64(m.Rows)*float64(m.Cols)/float64(m.Nanoseconds))
			}
		},
	})
	stopSpinner()
	if result == nil {
		return err
	}
	if c.Bool("json") {
		err = errors.Join(err, p.writeJSON(result))
	} else {
		err = errors.Join(err, p.printf("%s", tuneSummary(result)))
	}
	if err == nil && !result.Complete {
		p.note("the budget of %v is spent: run pumice tune again to go on", c.Duration("budget"))
	}
	return err
}

// tuneSummary is what is known in the end, for people.
func tuneSummary(r *pumice.TuneResult) string {
	var b strings.Builder
	if len(r.Refused) > 0 {
		var names []string
		for _, refused := range r.Refused {
			names = append(names, refused.Kernel)
		}
		fmt.Fprintf(&b, "not used, since their results are wrong on this device: %s\n", strings.Join(names, ", "))
	} else {
		b.WriteString("every checked kernel is right\n")
	}
	if r.File != "" {
		fmt.Fprintf(&b, "kept %d measurements for %s in %s; ", len(r.Timings), r.Device, r.File)
	} else {
		fmt.Fprintf(&b, "%d measurements for %s are not kept; ", len(r.Timings), r.Device)
	}
	if r.Complete {
		b.WriteString("complete\n")
	} else {
		fmt.Fprintf(&b, "not measured: %s\n", missingTypes(r))
	}
	return b.String()
}

// missingTypes lists the types that are missing, with the runs of tokens where others of the type were measured.
func missingTypes(r *pumice.TuneResult) string {
	kind := func(op string) string {
		_, name, _ := strings.Cut(op, "_")
		return name
	}
	var list []string
	for i := 0; i < len(r.Missing); {
		name := kind(r.Missing[i].Op)
		var lengths []string
		for ; i < len(r.Missing) && kind(r.Missing[i].Op) == name; i++ {
			lengths = append(lengths, fmt.Sprint(r.Missing[i].Tokens))
		}
		if slices.ContainsFunc(r.Timings, func(m pipeline.Measurement) bool { return kind(m.Op) == name }) {
			name += fmt.Sprintf(" (%s tokens)", strings.Join(lengths, ", "))
		}
		list = append(list, name)
	}
	return strings.Join(list, ", ")
}
