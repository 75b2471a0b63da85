package main

import (
	"fmt"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"

	"pumice/internal/licenses"
)

func (p *program) licensesCommand() *cli.Command {
	return &cli.Command{
		Name:        "licenses",
		Category:    ofProgram,
		Usage:       "list the third-party works in this program, with their licences",
		ArgsUsage:   "[NAME]",
		Description: "--full prints the copyright notices and licences of all works, NAME those of works whose names contain it.",
		Flags:       []cli.Flag{boolFlag("full", false, "print all copyright notices and licences"), jsonFlag()},
		Action:      p.licenses,
	}
}

func (p *program) licenses(c *cli.Context) error {
	if err := noMoreArgs(c, 1); err != nil {
		return err
	}
	works, err := licenses.Read(licenses.Files)
	if err != nil {
		return err
	}
	name := strings.ToLower(c.Args().First())
	works = slices.DeleteFunc(works, func(w licenses.Work) bool { return !strings.Contains(strings.ToLower(w.Name), name) })
	if len(works) == 0 {
		return &usageError{fmt.Sprintf("no work is called %q; see pumice licenses", c.Args().First())}
	}
	texts := c.Bool("full") || name != ""
	if c.Bool("json") {
		for i := range works {
			if !texts {
				works[i].Text = ""
			}
		}
		return p.writeJSON(works)
	}
	var b strings.Builder
	for _, w := range works {
		fmt.Fprintf(&b, "%s\n    %s; %s\n", strings.TrimSpace(w.Name+" "+w.Version), w.License, w.Use)
		if texts {
			fmt.Fprintf(&b, "\n%s\n\n", strings.TrimRight(w.Text, "\n"))
		}
	}
	return p.printf("%s", b.String())
}
