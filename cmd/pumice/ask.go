package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"pumice"
	"pumice/chat"
	"pumice/chat/toolcall"
	"pumice/constrain"
)

func (p *program) askCommand() *cli.Command {
	return &cli.Command{
		Name:      "ask",
		Category:  ofTalk,
		Usage:     "answer one question and exit",
		ArgsUsage: "TEXT...",
		Description: "The question is TEXT, the text of --prompt-file and what is piped into standard input, with empty lines between them.\n" +
			"Standard output gets the answer alone: a model's reasoning is left out, and with --verbose goes to standard error. The same as pumice chat MODEL TEXT, without a\n" +
			"MODEL to name first.",
		Flags:  slices.Concat(chatFlags(), answerFlags(), samplingFlags(), speedFlags(), modelFlags(), splitFlags()),
		Action: p.ask,
	}
}

// chatFlags are those of messages to a model.
func chatFlags() []cli.Flag {
	return []cli.Flag{
		stringFlag("system", "", "use `TEXT` as the system message", "sys"),
		stringFlag("messages", "",
			"answer the conversation in `FILE`, [{\"role\":...,\"content\":...},...], and exit; - is standard input"),
		stringFlag("prompt-file", "", "add the text in `FILE` to the question, and exit after the answer", "file", "f"),
		chatTemplateFlag(),
		intFlag("max-tokens", 0, "generate at most `N` tokens for an answer; 0 or -1 is no limit but the context", "n"),
		boolFlag("verbose", false, "report the speed of each answer on standard error"),
	}
}

// answerFlags are those of answers that are written once.
func answerFlags() []cli.Flag {
	return []cli.Flag{
		stringFlag("schema", "", "write JSON that fits the JSON Schema in `FILE`; - is standard input"),
		intFlag("answers", 1, "write `N` answers, each with the next seed and a line --- before it; with --json a list of them"),
		&cli.IntFlag{Name: "logprobs", EnvVars: env("logprobs"), DefaultText: "off",
			Usage: "add to --json the log-probability of each token and of the `N` likeliest in its place; 0 adds no others"},
		jsonFlag(),
	}
}

// checkAnswer finds mistakes in the flags of answers before a model is loaded.
func checkAnswer(c *cli.Context) error {
	if n := c.Int("answers"); n < 1 {
		return &usageError{fmt.Sprintf("--answers %d: want 1 or more", n)}
	}
	if c.String("schema") != "" && c.Bool("ignore-eos") {
		return &usageError{"--schema and --ignore-eos: give one of them; JSON that fits a schema ends with it"}
	}
	var fromInput []string
	for _, name := range []string{"messages", "prompt-file", "schema"} {
		if c.String(name) == "-" {
			fromInput = append(fromInput, "--"+name)
		}
	}
	if len(fromInput) > 1 {
		return &usageError{strings.Join(fromInput, " and ") + ": only one can be standard input"}
	}
	if err := checkLogProbs(c); err != nil {
		return err
	}
	return checkSampling(c)
}

func (p *program) ask(c *cli.Context) error {
	if err := checkAnswer(c); err != nil {
		return err
	}
	messages, err := p.conversation(c, strings.Join(c.Args().Slice(), " "))
	if err == nil && messages == nil {
		err = errNothing
	}
	if err != nil {
		return err
	}
	name, err := flaggedModel(c)
	if err != nil {
		return err
	}
	schema, err := p.schema(c)
	if err != nil {
		return err
	}
	engine, err := p.open(c.Context, c, name)
	if err != nil {
		return err
	}
	defer engine.Close()
	t, err := newTalk(c, engine)
	if err != nil {
		return err
	}
	p.noteFormat(c, engine)
	closeDraft, err := p.openDraft(c.Context, c, engine, &t.options)
	defer closeDraft()
	if err != nil {
		return err
	}
	return p.answerOnce(c, t, messages, schema)
}

// errNothing says that a question is missing.
var errNothing = &usageError{"nothing to answer: give TEXT, --prompt-file, --messages or text on standard input"}

// conversation returns the messages that the command line and standard input give, nil if there are none and a person
// at the terminal may type them. What is piped in joins the question, unless another flag reads it or --messages
// already ends with one.
func (p *program) conversation(c *cli.Context, text string) ([]chat.Message, error) {
	var messages []chat.Message
	if name := c.String("messages"); name != "" {
		var err error
		if messages, err = p.readMessages(name); err != nil {
			return nil, err
		}
	}
	var parts []string
	if text != "" {
		parts = append(parts, text)
	}
	files := []string{c.String("prompt-file")}
	piped := p.piped(c) && (messages == nil || text != "")
	if piped {
		files = append(files, "-")
	}
	for _, name := range files {
		if name == "" {
			continue
		}
		part, err := p.readFile(name)
		if err != nil {
			return nil, err
		}
		if part = strings.TrimSuffix(part, "\n"); part != "" {
			parts = append(parts, part)
		}
	}
	if len(parts) > 0 {
		messages = append(messages, chat.Message{Role: "user", Content: strings.Join(parts, "\n\n")})
	}
	if messages == nil {
		if piped || readsInput(c) {
			return nil, errNothing
		}
		return nil, nil
	}
	if system := c.String("system"); system != "" {
		messages = withSystem(messages, system)
	}
	return messages, nil
}

// readsInput reports whether a flag reads standard input.
func readsInput(c *cli.Context) bool {
	return slices.ContainsFunc([]string{"messages", "prompt-file", "schema"}, func(name string) bool { return c.String(name) == "-" })
}

// piped reports whether standard input may have text for the prompt.
func (p *program) piped(c *cli.Context) bool { return !readsInput(c) && !isTerminal(p.stdin) }

// inputPatience is how long standard input may take to end before a person is told what the program is waiting for.
const inputPatience = time.Second

// readFile reads a whole file, standard input for "-".
func (p *program) readFile(name string) (string, error) {
	if name == "-" {
		told := time.AfterFunc(inputPatience, func() {
			p.note("(waiting for the end of standard input; </dev/null gives none)")
		})
		defer told.Stop()
	}
	text, err := io.ReadAll(p.input(name))
	return string(text), err
}

// schema returns the JSON Schema of --schema, nil without one. Mistakes in it are found before a model is loaded.
func (p *program) schema(c *cli.Context) ([]byte, error) {
	name := c.String("schema")
	if name == "" {
		return nil, nil
	}
	text, err := p.readFile(name)
	if err != nil {
		return nil, err
	}
	anyByte := make([]string, 256) // the least vocabulary
	for b := range anyByte {
		anyByte[b] = string([]byte{byte(b)})
	}
	v, err := constrain.NewVocabulary(append(anyByte, ""), []int{len(anyByte)})
	if err != nil {
		return nil, err
	}
	if _, err := constrain.CompileSchema(v, []byte(text), schemaOptions); err != nil {
		return nil, fmt.Errorf("%s: %s", name, strings.TrimPrefix(err.Error(), "constrain: "))
	}
	return []byte(text), nil
}

// schemaOptions are those of the server: objects have the properties that a schema names and no others, and integers are
// written without a fraction.
var schemaOptions = constrain.SchemaOptions{Closed: true, Whole: true}

// noteFormat says that a model brings no chat template: models that are not made for conversations have none, and answer in any format
// without an end.
func (p *program) noteFormat(c *cli.Context, engine *pumice.Engine) {
	format, err := engine.ChatFormat()
	if err == nil && format.Template() == "" && !c.IsSet("chat-template") {
		p.note("(the model has no chat template and may be no chat model: format %s of its family is used)", format.Name())
	}
}

// answerOnce writes the answers to messages.
func (p *program) answerOnce(c *cli.Context, t *talk, messages []chat.Message, schema []byte) error {
	prompt, err := t.engine.EncodeChat(c.Context, messages, chat.Options{})
	if err != nil {
		return err
	}
	return p.writeAnswers(c, t.engine, prompt.IDs, t.options, schema, func() *toolcall.Parser {
		return toolcall.New(toolcall.None, toolcall.Options{Thinking: prompt.Thinking})
	})
}

// An answer is what --json writes.
type answer struct {
	pumice.Result
	LogProbs []tokenProb `json:"logprobs,omitempty"` // of each token, with --logprobs
}

// writeAnswers writes as many answers to a prompt as --answers asks for, each of which fits the schema, if there is one.
// After a signal, what there is of them is still written. newReader makes what reads reasoning from an answer, which is not part of
// it and is written to standard error with --verbose; nil: there is none.
func (p *program) writeAnswers(c *cli.Context, engine *pumice.Engine, prompt []int, o pumice.GenerateOptions, schema []byte, newReader func() *toolcall.Parser) error {
	var grammar *constrain.Grammar
	if schema != nil {
		v, err := engine.Vocabulary()
		if err != nil {
			return err
		}
		if grammar, err = constrain.CompileSchema(v, schema, schemaOptions); err != nil {
			return err
		}
	}
	o.LogProbs, o.TopLogProbs = c.IsSet("logprobs"), c.Int("logprobs")
	session := engine.NewSession()
	several := c.Int("answers") > 1
	all := []answer{}
	var err error
	for i := range c.Int("answers") {
		if several && !c.Bool("json") {
			if err := p.printf("---\n"); err != nil {
				return err
			}
		}
		if grammar != nil {
			o.Constraint = grammar.Matcher()
		}
		o := o
		o.Sampling.Seed += uint64(i)
		w := &answerWriter{program: p, reasoning: c.Bool("verbose")}
		if newReader != nil && grammar == nil { // what fits a schema is no reasoning
			w.reader = newReader()
		}
		var a answer
		a, err = w.answer(c, engine, session, prompt, o)
		if err != nil && !errors.Is(err, context.Canceled) {
			return err
		}
		if len(a.PromptTokens) > 0 { // it was begun
			all = append(all, a)
			err = errors.Join(err, w.finish(c, a))
		}
		if err != nil {
			break
		}
	}
	switch {
	case !c.Bool("json") || len(all) == 0:
	case several:
		err = errors.Join(err, p.writeJSON(all))
	default:
		err = errors.Join(err, p.writeJSON(all[0]))
	}
	return err
}

// An answerWriter writes one answer.
type answerWriter struct {
	*program
	reader    *toolcall.Parser // nil: all is content
	reasoning bool             // is written to standard error
	last      string           // what was written to standard output last
}

// text writes the next piece of an answer's text, end the last one.
func (w *answerWriter) text(text string, end bool) error {
	if w.reader == nil {
		return w.content(text)
	}
	deltas := w.reader.Push(text)
	if end {
		deltas = append(deltas, w.reader.Close()...)
	}
	for _, d := range deltas {
		var err error
		switch {
		case d.Kind == toolcall.Content:
			err = w.content(d.Text)
		case d.Kind == toolcall.Reasoning && w.reasoning:
			err = w.stderr.prose(d.Text)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (w *answerWriter) content(text string) error {
	if text == "" {
		return nil
	}
	w.last = text
	return w.prose(text)
}

// answer writes the answer as it comes, and returns it. With --json it only returns it.
func (w *answerWriter) answer(c *cli.Context, engine *pumice.Engine, session *pumice.Session, prompt []int, o pumice.GenerateOptions) (answer, error) {
	spinner := w.spin()
	defer spinner.stop()
	var probs []*pumice.LogProb
	var err error
	for token, tokenErr := range session.Generate(c.Context, prompt, o) {
		if err = tokenErr; err != nil {
			break
		}
		if token.Prob != nil {
			probs = append(probs, token.Prob)
		}
		text := token.Text
		if engine.Tokenizer() == nil {
			text = fmt.Sprint(token.ID, " ")
		}
		if text == "" {
			continue
		}
		spinner.stop()
		if c.Bool("json") {
			continue
		}
		if err = w.text(text, false); err != nil {
			break
		}
	}
	if !c.Bool("json") {
		err = errors.Join(err, w.text("", true))
	}
	r := session.Result()
	if r.Tokens == nil {
		r.Tokens = []int{} // interrupted before the first
	}
	return answer{r, spellProbs(engine.Tokenizer(), prompt, probs)}, err
}

// finish writes what comes after the text of an answer.
func (w *answerWriter) finish(c *cli.Context, r answer) error {
	defer w.reportDraft(r.Result)
	if c.Bool("verbose") {
		defer w.note("%s", statsLine(r.Result))
	}
	if c.Bool("json") {
		return nil
	}
	if len(r.Tokens) > 0 && !strings.HasSuffix(w.last, "\n") {
		if err := w.printf("\n"); err != nil {
			return err
		}
	}
	if n := c.Int("n"); r.FinishReason == pumice.FinishLength && n > 0 && len(r.Tokens) >= n {
		w.note("(cut off after %d tokens, the limit of -n)", n)
	} else if r.FinishReason == pumice.FinishLength {
		w.note("(cut off: the context is full)")
	}
	return nil
}
