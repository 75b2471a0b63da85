package main

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"
	"golang.org/x/term"

	"pumice"
	"pumice/internal/edit"
)

// terminalFlags are for a conversation with a person at a terminal.
func terminalFlags() []cli.Flag {
	return []cli.Flag{
		boolFlag("resume", false, "continue the last conversation"),
		boolFlag("no-history", false, "keep neither conversations nor the history of what was typed"),
		boolFlag("plain", false, "show answers as they are written, without Markdown's layout"),
		stringFlag("thinking", thinkingShown[0], "show a model's reasoning in this `WAY`: "+strings.Join(thinkingShown, ", ")),
		stringFlag("when-full", forget, "when the context is full, do `WHAT`: forget old messages, or stop"),
	}
}

// checkTerminal finds mistakes in terminalFlags before a model is loaded.
func checkTerminal(c *cli.Context) error {
	for name, words := range map[string][]string{"thinking": thinkingShown, "when-full": {forget, stop}} {
		if value := c.String(name); !slices.Contains(words, value) {
			return &usageError{fmt.Sprintf("--%s %s: want %s", name, value, strings.Join(words, " or "))}
		}
	}
	return nil
}

// converse talks with the person at the terminal until they leave. terminal is its state at the beginning. reopen closes the
// engine and opens one with other options.
func (p *program) converse(c *cli.Context, t *talk, terminal *term.State, reopen func(o pumice.Options) (*pumice.Engine, error)) (err error) {
	p.interrupt.converse()
	_, seeded := seed(c)
	r := &repl{p: p, talk: t, seeded: seeded, limit: c.Context,
		look: look{plain: c.Bool("plain"), thinking: c.String("thinking"), verbose: c.Bool("verbose")}}
	if c.String("draft-model") == "" {
		r.reopen = func(context int, progress func(done, total int64)) (*pumice.Engine, error) {
			o := p.options(c)
			o.Context, o.Progress = context, progress
			return reopen(o)
		}
	}
	history := ""
	if !c.Bool("no-history") {
		dir, err := stateDir()
		if err != nil {
			p.note("(conversations are not kept: %v)", err)
		} else {
			r.saved, history = &archive{filepath.Join(dir, "conversations")}, filepath.Join(dir, "history")
		}
	}
	if p.stdout.redrawn() {
		h, historyErr := edit.OpenHistory(history)
		if r.console, err = p.openConsole(terminal, h); err != nil {
			return err
		}
		defer r.console.Close()
		r.console.complete, r.ask = r.complete, r.console.message
		if historyErr != nil {
			p.note("(the history can't be read: %v)", historyErr)
		}
	} else {
		r.ask = p.newLines().message
	}
	p.note("%s on %s. /help lists the commands.", t.engine.Source().Path, t.engine.Devices()[0].Info().Name)
	if system := c.String("system"); system != "" {
		r.setSystem(system)
	}
	r.fresh = *t
	r.begin("")
	if c.Bool("resume") {
		if err := r.resumeLast(); ends(err) != nil {
			return ends(err)
		} else if err != nil {
			p.complain(err)
		}
	}
	return r.talkOn()
}
