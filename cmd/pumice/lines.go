package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
)

// lines reads messages from a terminal that can't be drawn on, or beside standard output that is none: the terminal's own line
// editing is what there is.
type lines struct {
	p  *program
	in *bufio.Reader
}

func (p *program) newLines() *lines { return &lines{p, bufio.NewReader(p.input("-"))} }

// message is console.message. Ctrl-C drops a message that has begun, and else asks how to leave.
func (l *lines) message(prompt string) (string, error) {
	interrupts := make(chan os.Signal, 1)
	signal.Notify(interrupts, os.Interrupt)
	defer signal.Stop(interrupts)
	text, prefix := "", prompt
	for {
		fmt.Fprint(l.p.stderr, prefix) // standard output has the answers alone
		line, err := l.in.ReadString('\n')
		if err == io.EOF && line == "" && text == "" {
			fmt.Fprintln(l.p.stderr)
			return "", io.EOF
		}
		if err != nil && err != io.EOF {
			return "", err
		}
		select {
		case <-interrupts:
			l.p.complain(errors.New("Ctrl-D or /bye leaves"))
			return "", errDropped
		default:
		}
		if text += visibleProse(strings.TrimSuffix(strings.TrimSuffix(line, "\n"), "\r")); err == io.EOF || !isOpen(text) {
			return unquoted(text), nil
		}
		text, prefix = text+"\n", more
	}
}
