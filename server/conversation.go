package server

import (
	"context"
	"errors"
	"maps"
	"net/http"
	"slices"
	"strings"

	"pumice"
	"pumice/chat"
	"pumice/chat/toolcall"
)

// A conversation is what a request of any chat protocol asks for.
type conversation struct {
	sampling
	format
	messages  []chat.Message
	tools     []function
	choice    toolChoice
	oneCall   bool           // an answer calls at most one function
	variables map[string]any // of the chat template

	n           int // answers
	logProbs    bool
	topLogProbs int
	stream      bool
}

// beginConversation decodes a request of a chat protocol into q, whose field name is that of a model, and loads that. The caller
// leaves it.
func (s *Server) beginConversation(w http.ResponseWriter, r *http.Request, q interface{ conversation() (*conversation, error) },
	name *string) (*use, *conversation, error) {
	e, err := s.begin(w, r, q, name)
	if err != nil {
		return nil, nil, err
	}
	c, err := q.conversation()
	if err != nil {
		e.leave()
		return nil, nil, err
	}
	return e, c, nil
}

// prompt is what the model is asked to continue.
func (q *conversation) prompt(ctx context.Context, e *use) (chat.Prompt, error) {
	if len(q.messages) == 0 {
		return chat.Prompt{}, invalid("messages", "there are no messages")
	}
	messages := slices.Clone(q.messages)
	for i := range messages {
		m := &messages[i]
		switch m.Role {
		case "developer":
			m.Role = "system"
		case "system", "user", "assistant", "tool":
		default:
			return chat.Prompt{}, invalid("messages", "message %d has the role %q; want system, developer, user, assistant or tool", i, m.Role)
		}
		m.Parts = slices.Clone(m.Parts)
		for j, p := range m.Parts {
			if p.Type == "input_text" || p.Type == "output_text" {
				m.Parts[j].Type = "text"
			}
		}
	}
	variables := map[string]any{}
	maps.Copy(variables, e.model.Variables)
	maps.Copy(variables, q.variables)
	return e.EncodeChat(ctx, messages, chat.Options{Tools: q.offered(), Variables: variables})
}

// A block is a piece of an answer: some reasoning, some content, or a call.
type block struct {
	kind     toolcall.Kind
	index    int    // among the answer's blocks, or of a call among its calls
	id, name string // of a call
	text     strings.Builder
}

// An answer is a task whose text is read as reasoning, content and calls.
type answer struct {
	*task
	blocks  []*block
	calls   int
	begun   bool // whether the stream has something of it
	told    int  // how many of its log-probabilities were sent
	thought int  // tokens of its reasoning

	parser  *toolcall.Parser
	oneCall bool
	to      writer // nil: it is not streamed
}

// A writer streams answers as the events of a protocol. An answer's blocks come one after another.
type writer interface {
	begin(list []*answer) error
	open(a *answer, b *block) error
	more(a *answer, b *block, text string) error
	shut(a *answer, b *block) error
	end(list []*answer) error
	fail(err *requestError) error
}

// A protocol is a way to write answers, all at once or as a stream.
type protocol interface {
	whole(list []*answer) any
	writer(out *stream) writer
}

// answers are those that a conversation asks for. The caller closes them.
func (q *conversation) answers(ctx context.Context, e *use) ([]*answer, error) {
	o, err := q.options(e)
	if err != nil {
		return nil, err
	}
	if !q.logProbs && q.topLogProbs > 0 {
		return nil, invalid("top_logprobs", "top_logprobs is %d without logprobs", q.topLogProbs)
	}
	o.LogProbs, o.TopLogProbs = q.logProbs, q.topLogProbs
	prompt, err := q.prompt(ctx, e)
	if err != nil {
		return nil, err
	}
	reading, err := q.reading(e, prompt.Thinking)
	if err != nil {
		return nil, err
	}
	f, err := e.ChatFormat()
	if err != nil {
		return nil, err
	}
	o.Stop = slices.Concat(o.Stop, f.Stop())
	var list []*answer
	for i := range q.n {
		one := o
		reading.restrict(&one)
		a := &answer{oneCall: q.oneCall, parser: toolcall.New(reading.syntax, reading.options),
			task: &task{index: i, engine: e, cold: q.cold(), request: pumice.Request{Prompt: prompt.IDs, GenerateOptions: one}}}
		a.each = func(_ *task, t pumice.Token) error {
			err := a.add(a.parser.Push(t.Text))
			if b := a.last(); b != nil && b.kind == toolcall.Reasoning {
				a.thought++
			}
			return err
		}
		list = append(list, a)
		o.Sampling.Seed++
	}
	return list, nil
}

// errEnough ends an answer before the model does.
var errEnough = errors.New("server: the answer is complete")

// add adds deltas.
func (a *answer) add(deltas []toolcall.Delta) error {
	for _, d := range deltas {
		b := a.last()
		if b == nil || b.kind != d.Kind || d.Kind == toolcall.Call && d.Index == a.calls {
			if a.oneCall && a.calls == 1 {
				return errEnough
			}
			if err := a.shut(); err != nil {
				return err
			}
			b = &block{kind: d.Kind, index: len(a.blocks), id: d.ID, name: d.Name}
			if d.Kind == toolcall.Call {
				a.calls++
			}
			a.blocks = append(a.blocks, b)
			if a.to != nil {
				if err := a.to.open(a, b); err != nil {
					return err
				}
			}
		}
		b.text.WriteString(d.Text)
		if a.to != nil && d.Text != "" {
			if err := a.to.more(a, b, d.Text); err != nil {
				return err
			}
		}
	}
	return nil
}

// last is the block under way, or nil.
func (a *answer) last() *block {
	if len(a.blocks) == 0 {
		return nil
	}
	return a.blocks[len(a.blocks)-1]
}

// shut ends the block under way.
func (a *answer) shut() error {
	if b := a.last(); b != nil && a.to != nil {
		return a.to.shut(a, b)
	}
	return nil
}

// text is what an answer has of a kind.
func (a *answer) text(kind toolcall.Kind) string {
	var all strings.Builder
	for _, b := range a.blocks {
		if b.kind == kind {
			all.WriteString(b.text.String())
		}
	}
	return all.String()
}

// finishCalls is the FinishReason of an answer that ends with calls.
const finishCalls = "tool_calls"

// finish is why an answer has ended.
func (a *answer) finish() string {
	reason := a.g.Result().FinishReason
	if a.calls > 0 && reason != pumice.FinishLength {
		return finishCalls
	}
	return reason
}

// tasksOf are the tasks of answers.
func tasksOf(list []*answer) []*task {
	var tasks []*task
	for _, a := range list {
		tasks = append(tasks, a.task)
	}
	return tasks
}

// converse answers a conversation by a protocol.
func (s *Server) converse(w http.ResponseWriter, r *http.Request, e *use, q *conversation, p protocol) error {
	list, err := q.answers(r.Context(), e)
	if err != nil {
		return err
	}
	defer func() {
		for _, a := range list {
			a.parser.Close()
		}
	}()
	tasks := tasksOf(list)
	if err := start(tasks); err != nil {
		return err
	}
	defer closeAll(tasks)
	if !q.stream {
		if err := generate(r.Context(), list); err != nil {
			return err
		}
		reply(w, http.StatusOK, p.whole(list))
		return nil
	}
	out := newStream(w, s.ping)
	defer out.close()
	to := p.writer(out)
	for _, a := range list {
		a.to = to
	}
	err = to.begin(list)
	if err == nil {
		err = generate(r.Context(), list)
	}
	if err == nil {
		err = to.end(list)
	}
	if err != nil {
		s.broken(r, err, to.fail)
	}
	return nil
}

// generate generates answers to their ends.
func generate(ctx context.Context, list []*answer) error {
	if err := run(ctx, tasksOf(list)); err != nil {
		return err
	}
	for _, a := range list {
		if err := a.add(a.parser.Close()); err != nil && err != errEnough {
			return err
		}
		if err := a.shut(); err != nil {
			return err
		}
	}
	return nil
}
