package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"pumice"
)

func (p *program) tuneCommand() *cli.Command {
	return &cli.Command{
		Name:     "tune",
		Category: ofDevices,
		Usage:    "check and measure the kernels on this device; every command then uses the fastest",
		Description: "The measurements are kept in --cache-dir for this device, its driver and this version's kernels, and every command reads\n" +
			"them. Fixed rules choose the kernel of a matrix product until all of its kernels have been measured. When the time limit\n" +
			"is reached, tune lists what is missing; run it again to continue. A kernel that computes wrong results on this device is\n" +
			"never used; pumice verify checks every kernel in more cases.",
		Flags: []cli.Flag{
			stringFlag("types", "",
				"measure the kernels for weights of `TYPE,...` (default: all, the common ones first)"),
			&cli.DurationFlag{Name: "budget", EnvVars: env("budget"), Value: 50 * time.Second, Usage: "stop after `TIME`; the next run measures the rest"},
			boolFlag("verbose", false, "print each measurement"),
			boolFlag("reset", false, "delete the measurements for this device, and measure nothing"),

			stringFlag("cache-dir", "auto",
				"keep the measurements and compiled pipelines in `DIR`; auto is the user's cache folder"),
			jsonFlag(),
		},
		Action: p.tune,
	}
}

// forgotten is what tune --reset --json writes.
type forgotten struct {
	File string `json:"file"` // that had the measurements
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
		return &usageError{"tune needs a folder for its measurements: --cache-dir DIR"}
	}
	ctx := c.Context
	d, err := pumice.OpenDevice(o)
	if err != nil {
		return err
	}
	defer d.Close()
	if c.Bool("reset") {
		file, err := d.ResetTuning()
		if err != nil {
			return err
		}
		if c.Bool("json") {
			return p.writeJSON(forgotten{file})
		}
		return p.printf("deleted the measurements in %s\n", file)
	}
	stopSpinner := func() {}
	bar := p.newCount("measuring")
	defer bar.close()
	result, err := d.Tune(ctx, pumice.TuneOptions{
		Types:  splitList(c.String("types")),
		Budget: c.Duration("budget"),
		OnCheck: func() {
			p.note("checking the kernels, once for each device and driver")
			stopSpinner = p.spin().stop
		},
		OnMeasure: func(m pumice.Measurement, done, total int) {
			stopSpinner()
			bar.ints(done, total)
			if c.Bool("verbose") && !c.Bool("json") {
				bar.close()
				tiling := ""
				if m.Tiling.Splits > 0 {
					tiling = "  " + m.Tiling.String()
				}
				if m.Nanoseconds == 0 {
					tiling += ": wrong, and not timed"
				}
				p.printf("%-16s %4d tokens  %-5s %10.1f us  %8.1f GFLOP/s%s\n", m.Op, m.Tokens, m.Path, float64(m.Nanoseconds)/1e3,
					2*float64(m.Tokens)*float64(m.Rows)*float64(m.Cols)/float64(max(m.Nanoseconds, 1)), tiling)
			}
		},
	})
	stopSpinner()
	bar.close()
	if result == nil {
		return err
	}
	if c.Bool("json") {
		err = errors.Join(err, p.writeJSON(result))
	} else {
		err = errors.Join(err, p.printf("%s", tuneSummary(result)))
	}
	switch {
	case errors.Is(err, context.Canceled) && result.File != "":
		p.note("the measurements so far are kept: run pumice tune again to continue")
	case err == nil && !result.Complete:
		p.note("the time limit of %v is reached: run pumice tune again to continue", c.Duration("budget"))
	}
	return err
}

// tuneSummary describes the measurements that are kept, for people.
func tuneSummary(r *pumice.TuneResult) string {
	var b strings.Builder
	if len(r.Refused) > 0 {
		var names []string
		for _, refused := range r.Refused {
			names = append(names, refused.Kernel)
		}
		fmt.Fprintf(&b, "wrong on this device and not used: %s\n", strings.Join(names, ", "))
	} else {
		b.WriteString("every checked kernel is correct\n")
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

// missingTypes lists the weight types that are not measured. For a type that is measured in part it adds the numbers
// of tokens that are missing.
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
		if slices.ContainsFunc(r.Timings, func(m pumice.Measurement) bool { return kind(m.Op) == name }) {
			name += fmt.Sprintf(" (%s tokens)", strings.Join(lengths, ", "))
		}
		list = append(list, name)
	}
	return strings.Join(list, ", ")
}
