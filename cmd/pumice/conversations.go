package main

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"pumice/internal/markdown"
)

// begin adds a conversation as the command line asks for it, and goes there. Without a name it has its number.
func (r *repl) begin(name string) {
	r.begun++
	t := r.fresh
	t.number, t.name, t.session = r.begun, name, t.engine.NewSession()
	if !r.seeded {
		t.options.Sampling.Seed = randomSeed() // or the same question would have the same answer everywhere
	}
	r.talk = &t
	r.talks = append(r.talks, r.talk)
}

// open is /new.
func (r *repl) open(argument string) error {
	name := readName(argument)
	if err := r.checkName(name); err != nil {
		return err
	}
	before := r.talk
	r.begin(name)
	r.say("conversation %s begins; /switch %s goes back", r.talk.label(), before.label())
	return nil
}

// goTo is /switch.
func (r *repl) goTo(argument string) error {
	t, err := r.find(argument)
	if err != nil {
		return err
	}
	return r.enter(t)
}

// close is /close, by default of the current conversation, after which it goes to the one before in the list.
func (r *repl) close(argument string) error {
	t, err := r.talk, error(nil)
	if argument != "" {
		t, err = r.find(argument)
	}
	if err == nil && len(r.talks) == 1 {
		err = errors.New("this is the only conversation; /reset forgets it, /bye leaves")
	}
	if err != nil {
		return err
	}
	i := slices.Index(r.talks, t)
	r.talks = slices.Delete(r.talks, i, i+1)
	r.say("conversation %s is closed", t.label())
	if t != r.talk {
		return nil
	}
	return r.enter(r.talks[max(0, i-1)])
}

// list is /list.
func (r *repl) list(string) error {
	for _, t := range r.talks {
		mark, about := ' ', t.name
		if t == r.talk {
			mark = '*'
		}
		if i := t.lastQuestion(); i >= 0 {
			question := beginning(t.messages[i].Content, 40)
			if about != "" {
				question = about + ": " + question
			}
			about = question
		}
		line := fmt.Sprintf("%c%3d  %-12s  %s", mark, t.number, counted(len(t.messages), "message"), cut(about, 56))
		if err := r.printf("%s\n", strings.TrimRight(line, " ")); err != nil {
			return err
		}
	}
	return nil
}

// enter goes to a conversation and shows its last question and answer as they were seen there.
func (r *repl) enter(t *talk) error {
	r.talk = t
	role := ""
	for _, m := range t.messages[max(0, t.lastQuestion()):] {
		var err error
		switch m.Role {
		case "user":
			err = r.p.prose(r.prompt() + beginning(m.Content, 200) + "\n")
		case "assistant":
			err = r.showAnswer(m.Content)
		default:
			continue
		}
		if role = m.Role; err != nil {
			return &writeError{err}
		}
	}
	switch role {
	case "":
		r.say("conversation %s is empty", t.label())
	case "user":
		r.say("(no answer yet; /regen asks for one)")
	}
	return nil
}

// showAnswer shows a whole answer as it was shown when it was written.
func (r *repl) showAnswer(text string) error {
	if r.console == nil {
		return r.p.prose(text + "\n")
	}
	s := r.stream(false)
	s.Push(text)
	r.console.finish(s)
	return nil
}

// stream shows text of a model.
func (r *repl) stream(dim bool) *markdown.Stream {
	return markdown.NewStream(markdown.Options{Plain: r.look.plain, Colour: colour(r.p.stdout), Dim: dim, Visible: visibleProse})
}

// prompt stands before what a person types. It has the conversation's name only if there are others.
func (r *repl) prompt() string {
	if len(r.talks) < 2 {
		return ">>> "
	}
	return r.talk.label() + " >>> "
}

// find returns the conversation with a number or a name, or the only one whose name begins so.
func (r *repl) find(argument string) (*talk, error) {
	name := readName(argument)
	if name == "" {
		return nil, &usageError{"/switch needs a name or a number; /list shows them"}
	}
	var like []*talk
	var labels []string
	for _, t := range r.talks {
		if name == t.name || name == strconv.Itoa(t.number) {
			return t, nil
		}
		if strings.HasPrefix(t.name, name) && !numeric(name) {
			like, labels = append(like, t), append(labels, t.label())
		}
	}
	switch short := beginning(name, maxName); len(like) {
	case 0:
		return nil, fmt.Errorf("there is no conversation %q; /list shows all", short)
	case 1:
		return like[0], nil
	default:
		return nil, fmt.Errorf("%q begins the names of several conversations: %s", short, strings.Join(labels, ", "))
	}
}

// maxName is the most characters of a name, which is part of the prompt.
const maxName = 32

// checkName reports why a new conversation can't have a name.
func (r *repl) checkName(name string) error {
	if n := utf8.RuneCountInString(name); n > maxName {
		return fmt.Errorf("the name has %d characters; at most %d fit", n, maxName)
	}
	if name != "" && numeric(name) {
		return fmt.Errorf("the name %q would be taken for a number", name)
	}
	for _, t := range r.talks {
		if name != "" && t.name == name {
			return fmt.Errorf("there is a conversation %q already; /switch goes there", name)
		}
	}
	return nil
}

// readName returns a name as it is kept, compared and shown: in one line, and with nothing in it that drives a terminal.
func readName(argument string) string { return visible(strings.Join(strings.Fields(argument), " ")) }

// numeric reports whether a person could mean a number, in any script.
func numeric(name string) bool {
	return strings.TrimFunc(strings.TrimLeft(name, "#+-"), unicode.IsNumber) == ""
}

// beginning returns the first line of a text, or the first n characters of it.
func beginning(text string, n int) string {
	text = strings.TrimSpace(text)
	end := len(text)
	for i, r := range text {
		if n == 0 || r == '\n' {
			end = i
			break
		}
		n--
	}
	if end == len(text) {
		return text
	}
	return strings.TrimSpace(text[:end]) + "..."
}

// label is what a conversation is called.
func (t *talk) label() string {
	if t.name != "" {
		return t.name
	}
	return strconv.Itoa(t.number)
}
