package main

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"slices"
	"strings"

	"pumice"
	"pumice/chat"
	"pumice/internal/atomicfile"
	"pumice/internal/humanize"
	"pumice/internal/regular"
)

// A slashCommand is what a line that begins with a slash asks for.
type slashCommand struct {
	name, also string // also: other names, separated by spaces
	argument   string
	about      string
	run        func(r *repl, argument string) error // errors of writing, which end the program, are *writeError
}

// commands is set in init, because /help lists it.
var commands []slashCommand

func init() {
	commands = []slashCommand{
		{"/regen", "", "", "answer the last question again", (*repl).regen},
		{"/edit", "", "", "edit the last question and ask it instead", (*repl).edit},
		{"/undo", "", "", "take back the last question and its answer", (*repl).undo},
		{"/copy", "", "[code]", "copy the last answer, or its last block of code", (*repl).copy},
		{"/system", "", "[TEXT|none]", "set the system message, remove it, or show it", (*repl).system},
		{"/set", "", "[NAME VALUE]", "change a parameter, or show all", (*repl).set},
		{"/show", "", "[WHAT]", "show the model, or its parts: Tab lists them", (*repl).show},
		{"/stats", "", "", "show the speed of the last answer, and the context's use", (*repl).stats},
		{"/verbose", "", "", "show the speed of each answer, or stop that", (*repl).toggleVerbose},
		{"/new", "", "[NAME]", "begin another conversation beside this one", (*repl).open},
		{"/list", "", "", "list the conversations", (*repl).list},
		{"/switch", "", "NAME", "go to a conversation by name or number", (*repl).goTo},
		{"/close", "", "[NAME]", "end a conversation, this one without a name", (*repl).close},
		{"/reset", "/clear", "", "forget this conversation", (*repl).reset},
		{"/resume", "", "[N|TEXT]", "list earlier conversations, or continue number N", (*repl).resume},
		{"/save", "", "FILE", "write this conversation as JSON", (*repl).save},
		{"/load", "", "FILE", "load a saved conversation in the place of this one", (*repl).load},
		{"/help", "/?", "", "show this list", (*repl).help},
		{"/bye", "/exit /quit", "", "leave (also Ctrl-D)", nil},
	}
}

const keysHelp = `@FILE             in a message adds the text of a file to it
"""               begins and ends a message of several lines
Alt-Enter         ends a line of a message
Up, Ctrl-R        earlier messages, and a search through them
Tab               completes commands and files
Ctrl-C            stops an answer, drops what is typed; twice leaves
Ctrl-Z            suspends the program
`

// findCommand returns the command with a name, nil if there is none.
func findCommand(name string) *slashCommand {
	for i := range commands {
		if c := &commands[i]; c.name == name || slices.Contains(strings.Fields(c.also), name) {
			return c
		}
	}
	return nil
}

// repl is the state of the conversations at the terminal.
type repl struct {
	p       *program
	console *console // nil where the terminal can't be drawn on, or standard output is none
	ask     func(prompt string) (string, error)
	talk    *talk   // the current one
	talks   []*talk // those that are not closed, in the order of their numbers
	begun   int     // the highest number so far; a number is given once
	fresh   talk    // what each begins as
	seeded  bool    // --seed is given: each begins with the same random numbers
	limit   context.Context
	dead    error // why the model can't answer any more

	saved   *archive // nil: conversations are not kept
	listed  []kept   // by the last /resume
	editing bool     // the next message takes the place of the last question
	look    look
	reopen  reopener // nil: not possible
}

// A reopener loads the model again, with another context.
type reopener func(context int, progress func(done, total int64)) (*pumice.Engine, error)

// look is how answers are shown.
type look struct {
	plain    bool
	thinking string // how reasoning is shown, one of thinkingShown
	verbose  bool
}

// A writeError is one of writing to standard output, which ends the program.
type writeError struct{ error }

func (e *writeError) Unwrap() error { return e.error }

// repl talks with the person at the terminal until they leave.
func (r *repl) talkOn() error {
	for {
		text, err := r.ask(r.prompt())
		if errors.Is(err, errDropped) {
			r.stopEditing()
			continue
		}
		if err == io.EOF {
			return r.dead
		}
		if err != nil {
			return err
		}
		leave, err := r.do(text)
		switch {
		case err != nil:
			return err
		case leave:
			return r.dead
		case r.limit.Err() != nil:
			return r.limit.Err()
		}
	}
}

// say answers the person. They asked for it, so --quiet does not hide it.
func (r *repl) say(format string, args ...any) { fmt.Fprintf(r.p.stderr, format+"\n", args...) }

// printf writes to standard output.
func (r *repl) printf(format string, args ...any) error {
	if err := r.p.printf(format, args...); err != nil {
		return &writeError{err}
	}
	return nil
}

// do acts on one message or command. It returns errors of writing to standard output, which end the program, and shows
// all others.
func (r *repl) do(text string) (leave bool, err error) {
	name, argument, _ := strings.Cut(strings.TrimSpace(text), " ")
	if name == "" {
		r.stopEditing()
		return false, nil
	}
	c := findCommand(name)
	isCommand := strings.HasPrefix(name, "/") && !strings.Contains(name[1:], "/") && !strings.Contains(text, "\n")
	if c == nil && !isCommand { // such as one that begins with a file's name
		return false, ends(r.question(text))
	}
	r.stopEditing()
	switch {
	case c == nil:
		r.say("unknown command %q; /help lists them", name)
		return false, nil
	case c.run == nil:
		return true, nil
	}
	err = c.run(r, strings.TrimSpace(argument))
	if ends(err) == nil && err != nil {
		r.p.complain(err)
	}
	return false, ends(err)
}

// ends returns an error if it ends the program.
func ends(err error) error {
	var unwritten *writeError
	if errors.As(err, &unwritten) {
		return unwritten.error
	}
	return nil
}

func (r *repl) help(string) error {
	var b strings.Builder
	for _, c := range commands {
		fmt.Fprintf(&b, "%-17s %s\n", strings.TrimSpace(c.name+" "+c.argument), c.about)
	}
	return r.printf("%s%s", &b, keysHelp)
}

func (r *repl) reset(string) error {
	t := r.talk
	t.messages = withSystem(nil, t.system())
	t.file = ""
	t.session.Reset()
	r.say("the conversation is forgotten")
	return nil
}

func (r *repl) undo(string) error {
	if !r.talk.undo() {
		return errors.New("there is nothing to take back")
	}
	r.say("taken back: the last question and its answer")
	r.keep()
	return nil
}

func (r *repl) regen(string) error {
	questions := r.talk.messages
	if n := len(questions); n > 0 && questions[n-1].Role == "assistant" {
		questions = questions[:n-1]
	}
	if n := len(questions); n == 0 || questions[n-1].Role != "user" {
		return errors.New("there is no question to answer")
	}
	_, err := r.answer(questions)
	return err
}

func (r *repl) edit(string) error {
	i := r.talk.lastQuestion()
	if i < 0 {
		return errors.New("there is no question to edit")
	}
	if r.console == nil {
		return errors.New("/edit needs a terminal that can be drawn on; /undo takes the question back")
	}
	r.console.refill(withoutFiles(r.talk.messages[i].Content))
	r.editing = true
	r.say("Enter asks the edited question in the place of the last one; Ctrl-C leaves it as it is")
	return nil
}

func (r *repl) stopEditing() {
	if r.editing {
		r.editing = false
		r.say("the last question stays as it is")
	}
}

// copy puts a text into the clipboard of the terminal (OSC 52). The terminal gets it in base64, so that nothing in it is
// obeyed.
func (r *repl) copy(argument string) error {
	if argument != "" && argument != "code" {
		return &usageError{"/copy takes nothing, or code"}
	}
	if r.console == nil {
		return errors.New("/copy needs a terminal that can be drawn on")
	}
	n := len(r.talk.messages)
	if n == 0 || r.talk.messages[n-1].Role != "assistant" {
		return errors.New("there is no answer to copy")
	}
	text := r.talk.messages[n-1].Content
	if argument == "code" {
		if text = lastCode(text); text == "" {
			return errors.New("the last answer has no block of code")
		}
	}
	r.console.send("\x1b]52;c;" + base64.StdEncoding.EncodeToString([]byte(text)) + "\a")
	r.say("%s sent to the terminal's clipboard", counted(len([]rune(text)), "character"))
	return nil
}

// lastCode returns the text of the last fenced block.
func lastCode(text string) string {
	var code, last []string
	fence := ""
	for _, l := range strings.Split(text, "\n") {
		trimmed := strings.TrimLeft(l, " ")
		switch {
		case fence == "" && strings.HasPrefix(trimmed, "```"):
			fence, code = "```", []string{}
		case fence != "" && strings.HasPrefix(trimmed, fence):
			fence, last = "", code
		case fence != "":
			code = append(code, l)
		}
	}
	if fence != "" {
		last = code
	}
	return strings.Join(last, "\n")
}

func (r *repl) toggleVerbose(string) error {
	r.look.verbose = !r.look.verbose
	if r.look.verbose {
		r.say("the speed of each answer is shown")
	} else {
		r.say("the speed of answers is not shown")
	}
	return nil
}

// question asks a question. One whose answer doesn't begin comes back into the input line.
func (r *repl) question(text string) error {
	content, err := r.attach(text)
	if err != nil {
		r.p.complain(err)
		r.takeBack(text)
		return nil
	}
	messages := r.talk.messages
	if i := r.talk.lastQuestion(); r.editing && i >= 0 {
		messages = messages[:i]
	}
	r.editing = false
	begun, err := r.answer(append(slices.Clip(messages), chat.Message{Role: "user", Content: content}))
	if !begun && err == nil {
		r.takeBack(text)
	}
	return err
}

func (r *repl) takeBack(text string) {
	if r.console != nil {
		r.console.refill(text)
	}
}

const deadHint = "the model can't answer any more; /save FILE keeps the conversation, /bye leaves"

// answer shows the answer to messages, which become the conversation once the answer has begun. If it does not begin,
// the conversation stays as it was: some chat formats refuse two questions in a row. Ctrl-C stops the answer, at once: if the
// device is in the middle of a prompt, that ends in the background.
func (r *repl) answer(messages []chat.Message) (begun bool, err error) {
	t, p := r.talk, r.p
	if r.dead != nil {
		r.say(deadHint)
		return false, nil
	}
	ctx, stop := context.WithCancel(r.limit)
	defer stop()
	v := r.newView(ctx, stop)
	defer v.close()

	before := t.messages
	t.messages = messages
	prompt, err := t.prompt(ctx, r.fresh.whenFull)
	if prompt.Dropped > 0 {
		r.say("(the context is full: %s forgotten; /set when-full stop prevents that)", counted(prompt.Dropped, "old message")+was(prompt.Dropped))
	}
	if prompt.Cut > 0 {
		r.say("(the context is full: the first %d tokens of the message are cut off)", prompt.Cut)
	}
	var result pumice.Result
	if err == nil {
		result, err = v.generate(ctx, t, prompt)
	}
	if ends(err) != nil {
		return true, err
	}
	if begun = v.begun || err == nil; begun {
		t.messages = append(slices.Clip(t.messages), v.answer.Message())
	} else {
		t.messages = before
	}
	if err := v.end(); err != nil {
		return begun, err
	}
	switch {
	case err == nil && result.FinishReason == pumice.FinishLength && t.options.MaxTokens > 0 && len(result.Tokens) >= t.options.MaxTokens:
		r.say("(cut off: %s, the limit of max-tokens)", counted(len(result.Tokens), "token"))
	case err == nil && result.FinishReason == pumice.FinishLength:
		r.say("(cut off: %s, the context is full)", counted(len(result.Tokens), "token"))
	case errors.Is(err, context.Canceled) && begun:
		r.say("(stopped)")
	case errors.Is(err, context.Canceled):
		r.say("(stopped) before the answer began: the conversation is as it was")
	case err != nil:
		p.complain(err)
		if errors.Is(err, pumice.ErrDeviceLost) || errors.Is(err, pumice.ErrClosed) {
			r.dead = err
			r.say(deadHint)
		}
	}
	if begun {
		p.reportDraft(result)
		if r.look.verbose && len(result.Tokens) > 0 {
			r.say("%s", statsLine(result))
		}
		r.keep()
	}
	return begun, nil
}

func was(n int) string {
	if n == 1 {
		return " is"
	}
	return " are"
}

// system sets, removes or shows the system message.
func (r *repl) system(argument string) error {
	t := r.talk
	switch system := t.system(); {
	case argument == "" && system != "":
		if err := r.p.prose(system + "\n"); err != nil {
			return &writeError{err}
		}
	case system == "" && (argument == "" || argument == "none"):
		r.say("there is no system message")
	case argument == "none":
		t.messages = withSystem(t.messages, "")
		r.say("the system message is removed")
	case r.setSystem(argument):
		r.say("the system message is set")
	}
	return nil
}

// setSystem makes text the system message, unless the model's chat format refuses it.
func (r *repl) setSystem(text string) bool {
	messages := withSystem(r.talk.messages, text)
	if err := r.check(messages); err != nil {
		r.p.complain(err)
		r.say("the system message is not kept")
		return false
	}
	r.talk.messages = messages
	return true
}

// check is talk.check until Ctrl-C.
func (r *repl) check(messages []chat.Message) error {
	ctx, stop := context.WithCancel(r.limit)
	defer stop()
	defer r.stoppable("checking the messages", stop)()
	return r.talk.check(ctx, messages)
}

// stoppable has Ctrl-C call stop until the work is done.
func (r *repl) stoppable(what string, stop func()) (done func()) {
	if r.console != nil {
		return r.console.work(what, stop)
	}
	interrupts := make(chan os.Signal, 1)
	signal.Notify(interrupts, os.Interrupt)
	ended := make(chan struct{})
	go func() {
		select {
		case <-interrupts:
			stop()
		case <-ended:
		}
	}()
	return func() {
		signal.Stop(interrupts)
		close(ended)
	}
}

func (r *repl) stats(string) error {
	t := r.talk
	result := t.session.Result()
	if len(result.Tokens) > 0 {
		if err := r.printf("%s\n", statsLine(result)); err != nil {
			return err
		}
	}
	used := len(result.PromptTokens) + len(result.Tokens)
	return r.printf("context %d of %d tokens; device memory %s\n", used, t.engine.Context(), humanize.Bytes(t.engine.Memory().TotalBytes))
}

func (r *repl) save(name string) error {
	if name == "" {
		return &usageError{"/save needs a file"}
	}
	if len(r.talk.messages) == 0 {
		return errors.New("there is nothing to save")
	}
	name = atHome(name)
	_, err := os.Stat(name)
	if err := writeMessages(name, r.talk.messages); err != nil { // a pipe would make the conversation wait for its reader
		return err
	}
	replaced := ""
	if err == nil {
		replaced = ", in the place of what was there"
	}
	r.say("%s saved in %s%s", counted(len(r.talk.messages), "message"), name, replaced)
	return nil
}

func writeMessages(name string, messages []chat.Message) error {
	text, err := json.MarshalIndent(messages, "", " ")
	if err != nil {
		return err
	}
	return atomicfile.Replace(name, func(f *os.File) error {
		_, err := f.Write(append(text, '\n'))
		return err
	})
}

func (r *repl) load(name string) error {
	if name == "" {
		return &usageError{"/load needs a file"}
	}
	messages, err := readMessagesFile(atHome(name))
	if err == nil {
		err = r.check(messages)
	}
	if err != nil {
		return err
	}
	r.talk.messages, r.talk.file = messages, ""
	r.say("%s loaded", counted(len(messages), "message"))
	return r.enter(r.talk)
}

func readMessagesFile(name string) ([]chat.Message, error) {
	f, err := regular.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return readMessages(f, name)
}

// counted writes a number of things, for people.
func counted(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}

// system returns the text of the system message, "" if there is none.
func (t *talk) system() string {
	if len(t.messages) > 0 && t.messages[0].Role == "system" {
		return t.messages[0].Content
	}
	return ""
}

// lastQuestion returns the index of the user's last message, -1 if there is none.
func (t *talk) lastQuestion() int {
	for i, m := range slices.Backward(t.messages) {
		if m.Role == "user" {
			return i
		}
	}
	return -1
}

// undo removes the last question and what came after it.
func (t *talk) undo() bool {
	i := t.lastQuestion()
	if i >= 0 {
		t.messages = t.messages[:i]
	}
	return i >= 0
}
