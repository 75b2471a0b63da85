package main

import (
	"context"
	"fmt"
	"strings"
	"time"

	"pumice"
	"pumice/chat"
	"pumice/chat/toolcall"
	"pumice/internal/markdown"
)

// thinkingShown are the ways in which the reasoning of a model is shown: as one line that says how long it was, as dim text, or
// not at all.
var thinkingShown = []string{"fold", "show", "hide"}

// A view shows an answer while it is generated.
type view struct {
	r       *repl
	done    func()
	spinner *spinner // without a console

	begun  bool // a token has come
	answer toolcall.Answer
	parser *toolcall.Parser

	text, thoughts *markdown.Stream // nil before they begin, and after they end
	thinking       time.Time        // when the reasoning began; zero: it hasn't, or has ended
	words          int              // of the reasoning
	unended        bool             // without a console: what was written has no newline at its end
}

func (r *repl) newView(ctx context.Context, stop func()) *view {
	v := &view{r: r, done: r.stoppable("reading the prompt", stop)}
	if r.console == nil {
		v.spinner = r.p.spin()
	}
	return v
}

// close ends what end has not.
func (v *view) close() {
	if v.spinner != nil {
		v.spinner.stop()
	}
	v.done()
}

// settled is how long a stopped generation may take to end before it is left alone.
const settled = 20 * time.Millisecond

// generate shows the answer to a prompt. When ctx ends it returns at once, with the error of ctx: what the device has under way then
// ends in the background, and the conversation goes on with another session, for which the cache has the same.
func (v *view) generate(ctx context.Context, t *talk, prompt chat.Prompt) (pumice.Result, error) {
	format, err := t.engine.ChatFormat()
	if err != nil {
		return pumice.Result{}, err
	}
	v.parser = toolcall.New(toolcall.Detect(format.Template()), toolcall.Options{Thinking: prompt.Thinking})
	options := t.options
	if c := v.r.console; c != nil {
		options.OnPrompt = func(done, total int) {
			if done < total && ctx.Err() == nil {
				c.progress(fmt.Sprintf("reading the prompt: %d of %d tokens", done, total))
			}
		}
		if len(prompt.IDs) >= pumice.PromptChunk {
			c.progress(fmt.Sprintf("reading the prompt of %d tokens", len(prompt.IDs)))
		}
	}
	t.options.Sampling.Seed++ // or asking again would give the same answer
	session := t.session
	pieces, ended := make(chan string), make(chan error, 1)
	go func() {
		var err error
		for token, tokenErr := range session.Generate(ctx, prompt.IDs, options) {
			if err = tokenErr; err != nil {
				break
			}
			select {
			case pieces <- token.Text:
			case <-ctx.Done():
			}
		}
		ended <- err
	}()
	for {
		select {
		case text := <-pieces:
			if err := v.push(text); err != nil {
				return pumice.Result{}, err
			}
		case err := <-ended:
			if v.parser != nil {
				v.show(v.parser.Close())
			}
			return session.Result(), err
		case <-ctx.Done():
			v.show(v.parser.Close())
			select {
			case <-ended:
				return session.Result(), ctx.Err()
			case <-time.After(settled):
				t.session = t.engine.NewSession()
				return pumice.Result{}, ctx.Err()
			}
		}
	}
}

// push shows a piece of an answer.
func (v *view) push(text string) error {
	v.begun = true
	if v.spinner != nil {
		v.spinner.stop()
	}
	return v.show(v.parser.Push(text))
}

func (v *view) show(deltas []toolcall.Delta) error {
	for _, d := range deltas {
		v.answer.Add(d)
		if d.Text == "" {
			continue
		}
		if d.Kind == toolcall.Reasoning {
			if err := v.think(d.Text); err != nil {
				return err
			}
			continue
		}
		if err := v.thought(); err != nil {
			return err
		}
		if err := v.write(&v.text, d.Text, false); err != nil {
			return err
		}
	}
	return nil
}

// think shows a piece of the reasoning.
func (v *view) think(text string) error {
	if v.thinking.IsZero() {
		v.thinking = time.Now()
	}
	v.words += len(strings.Fields(text))
	if v.r.look.thinking == "show" {
		return v.write(&v.thoughts, text, true)
	}
	if c := v.r.console; c != nil {
		c.progress(fmt.Sprintf("thinking: about %s", counted(v.words, "word")))
	}
	return nil
}

// thought ends the reasoning.
func (v *view) thought() error {
	if v.thinking.IsZero() {
		return nil
	}
	took := time.Since(v.thinking).Round(100 * time.Millisecond)
	v.thinking = time.Time{}
	if err := v.finish(&v.thoughts); err != nil {
		return err
	}
	if v.r.look.thinking == "fold" {
		v.r.say("(thought for %v; /show thoughts shows it)", took)
	}
	return nil
}

// write shows text of a stream, which it begins if it has not.
func (v *view) write(s **markdown.Stream, text string, dim bool) error {
	if v.r.console == nil {
		v.unended = !strings.HasSuffix(text, "\n")
		if err := v.r.p.prose(text); err != nil {
			return &writeError{err}
		}
		return nil
	}
	if *s == nil {
		*s = v.r.stream(dim)
	}
	(*s).Push(text)
	v.r.console.show(*s)
	return nil
}

// finish shows what remains of a stream.
func (v *view) finish(s **markdown.Stream) error {
	if *s != nil {
		v.r.console.finish(*s)
		*s = nil
	}
	if v.unended {
		v.unended = false
		return v.r.printf("\n")
	}
	return nil
}

// end shows what remains.
func (v *view) end() error {
	v.close()
	v.done = func() {}
	if err := v.thought(); err != nil {
		return err
	}
	return v.finish(&v.text)
}
