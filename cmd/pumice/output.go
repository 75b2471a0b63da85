package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/schollz/progressbar/v3"

	"pumice"
)

// colour reports whether s may be coloured (https://no-color.org).
func colour(s *stream) bool { return os.Getenv("NO_COLOR") == "" && s.redrawn() }

// writeJSON writes v to standard output as one line.
func (p *program) writeJSON(v any) error {
	e := json.NewEncoder(p.stdout)
	e.SetEscapeHTML(false)
	return e.Encode(v)
}

// writeJSONPart writes v to standard output as part of a line.
func (p *program) writeJSONPart(v any) error {
	var text bytes.Buffer
	e := json.NewEncoder(&text)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		return err
	}
	return p.printf("%s", bytes.TrimSuffix(text.Bytes(), []byte("\n")))
}

// printf writes to standard output.
func (p *program) printf(format string, args ...any) error {
	_, err := fmt.Fprintf(p.stdout, format, args...)
	return err
}

// prose writes text of a model to standard output.
func (p *program) prose(text string) error { return p.stdout.prose(text) }

// note writes a remark for the person at the terminal to standard error.
func (p *program) note(format string, args ...any) {
	if !p.quiet {
		fmt.Fprintf(p.stderr, format+"\n", args...)
	}
}

// complain writes an error to standard error.
func (p *program) complain(err error) { fmt.Fprintln(p.stderr, line(err)) }

// bar is a progress bar on standard error. Without a terminal it shows nothing.
type bar struct{ bar *progressbar.ProgressBar }

func (p *program) newBar(what string) *bar {
	if p.quiet || !p.stderr.redrawn() {
		return &bar{}
	}
	return &bar{progressbar.NewOptions64(1,
		progressbar.OptionSetDescription(what),
		progressbar.OptionSetWriter(p.stderr.styled()),
		progressbar.OptionShowBytes(true),
		progressbar.OptionUseIECUnits(true),
		progressbar.OptionThrottle(65*time.Millisecond),
		progressbar.OptionEnableColorCodes(false),
		progressbar.OptionSetWidth(30),
		progressbar.OptionClearOnFinish(),
	)}
}

// newCount is a bar of things to do, with an estimate of the time that is left.
func (p *program) newCount(what string) *bar {
	if p.quiet || !p.stderr.redrawn() {
		return &bar{}
	}
	return &bar{progressbar.NewOptions64(1,
		progressbar.OptionSetDescription(what),
		progressbar.OptionSetWriter(p.stderr.styled()),
		progressbar.OptionShowCount(),
		progressbar.OptionSetPredictTime(true),
		progressbar.OptionThrottle(65*time.Millisecond),
		progressbar.OptionEnableColorCodes(false),
		progressbar.OptionSetWidth(30),
		progressbar.OptionClearOnFinish(),
	)}
}

func (b *bar) set(done, total int64) {
	if b.bar == nil || total <= 0 {
		return
	}
	b.bar.ChangeMax64(total)
	b.bar.Set64(min(done, total-1)) // the last one would end the bar, which close does
}

func (b *bar) ints(done, total int) { b.set(int64(done), int64(total)) }

// close removes the bar; set shows it again.
func (b *bar) close() {
	if b.bar != nil {
		b.bar.Clear()
	}
}

// spinner shows that the program is working until it is stopped.
type spinner struct {
	stopped chan struct{}
	done    sync.WaitGroup
	once    sync.Once
}

// spin starts a spinner on standard error. Without a terminal it shows nothing.
func (p *program) spin() *spinner {
	s := &spinner{stopped: make(chan struct{})}
	if p.quiet || !p.stderr.redrawn() {
		return s
	}
	s.done.Go(func() {
		tick := time.NewTicker(100 * time.Millisecond)
		defer tick.Stop()
		out := p.stderr.styled()
		const frames = `|/-\`
		for i := 0; ; i++ {
			select {
			case <-s.stopped:
				fmt.Fprint(out, "\r \r")
				return
			case <-tick.C:
				fmt.Fprintf(out, "\r%c", frames[i%len(frames)])
			}
		}
	})
	return s
}

// stop removes the spinner. It may be called more than once.
func (s *spinner) stop() {
	s.once.Do(func() { close(s.stopped) })
	s.done.Wait()
}

// statsLine describes the speed of an answer, for people.
func statsLine(r pumice.Result) string {
	s := r.Stats
	var b strings.Builder
	fmt.Fprintf(&b, "prompt %d tokens", s.PromptN)
	if s.CachedN > 0 {
		fmt.Fprintf(&b, " (+%d reused)", s.CachedN)
	}
	fmt.Fprintf(&b, " %.1f t/s, answer %d tokens %.1f t/s, first token %.0f ms, loaded in %.0f ms",
		s.PromptPerSecond, s.PredictedN, s.PredictedPerSecond, s.FirstTokenMS, s.LoadMS)
	if s.DraftN > 0 {
		fmt.Fprintf(&b, ", %d of %d guesses kept", s.DraftNAccepted, s.DraftN)
	}
	if s.DraftPerSecond > 0 {
		fmt.Fprintf(&b, " (%.1f t/s with guesses, %.1f without)", s.DraftPerSecond, s.PlainPerSecond)
	}
	return b.String()
}

// tabular writes rows of a name, in a column of its width, and a value.
type tabular struct {
	b     *strings.Builder
	width int
}

func (t tabular) row(name, format string, args ...any) {
	fmt.Fprintf(t.b, "%-*s %s\n", t.width, name, fmt.Sprintf(format, args...))
}
