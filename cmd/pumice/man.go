package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/urfave/cli/v2"

	"pumice/internal/atomicfile"
)

func (p *program) manCommand() *cli.Command {
	return &cli.Command{
		Name:        "man",
		Category:    ofProgram,
		Usage:       "print the manual page of the program or of a command",
		ArgsUsage:   "[COMMAND]",
		Description: "The pages have what --help has, in the format of man(7).",
		Flags:       []cli.Flag{stringFlag("output-dir", "", "write all pages into `DIR`, as pumice.1 and pumice-COMMAND.1")},
		Action:      p.man,
	}
}

func (p *program) man(c *cli.Context) error {
	if err := noMoreArgs(c, 1); err != nil {
		return err
	}
	pages := []*helpPage{appPage(c.App)}
	for _, command := range c.App.Commands {
		if command.Name != "help" && !command.Hidden {
			pages = append(pages, commandPage(command))
		}
	}
	if dir := c.String("output-dir"); dir != "" {
		if c.NArg() > 0 {
			return &usageError{"man: COMMAND and --output-dir: give one of them"}
		}
		if err := os.MkdirAll(dir, 0o777); err != nil {
			return err
		}
		for _, page := range pages {
			name := filepath.Join(dir, strings.ReplaceAll(page.title(), " ", "-")+".1")
			if err := atomicfile.WriteBytes(name, []byte(page.roff())); err != nil {
				return err
			}
		}
		return nil
	}
	name := c.Args().First()
	if command := c.App.Command(name); command != nil {
		name = command.Name
	}
	for _, page := range pages {
		if page.command == name {
			return p.printf("%s", page.roff())
		}
	}
	return &usageError{fmt.Sprintf("man: unknown command %q; see pumice --help", name)}
}

// roff is the page in the format of man(7).
func (h *helpPage) roff() string {
	var b strings.Builder
	name := strings.ReplaceAll(h.title(), " ", "-")
	fmt.Fprintf(&b, ".TH %s 1\n.SH NAME\n%s \\- %s\n.SH SYNOPSIS\n%s\n.SH EXAMPLES\n.nf\n", strings.ToUpper(escapeRoff(name)), escapeRoff(name), escapeRoff(h.summary), escapeRoff(h.synopsis))
	for _, example := range examples[h.command] {
		fmt.Fprintf(&b, "%s\n", escapeRoff(example))
	}
	b.WriteString(".fi\n.SH DESCRIPTION\n")
	for i, p := range h.text {
		if i > 0 {
			b.WriteString(".PP\n")
		}
		fmt.Fprintf(&b, "%s\n", escapeRoff(p))
	}
	for _, g := range h.groups {
		fmt.Fprintf(&b, ".SH %s\n", strings.ToUpper(escapeRoff(g.title)))
		for _, item := range g.items {
			fmt.Fprintf(&b, ".TP\n\\fB%s\\fR\n%s\n", escapeRoff(item.name), escapeRoff(item.text))
		}
	}
	return b.String()
}

// escapeRoff makes a line of text stand for itself in roff: no request, no escape sequence, hyphens that can be copied.
func escapeRoff(text string) string {
	text = strings.NewReplacer(`\`, `\e`, "-", `\-`, "~", `\(ti`, "^", `\(ha`, "`", `\(ga`, "'", `\(aq`).Replace(text)
	if strings.HasPrefix(text, ".") {
		return `\&` + text
	}
	return text
}
