package server

import (
	"net/http"
	"slices"
	"strings"

	"pumice"
)

// A completionRequest is the body of /v1/completions (OpenAI API reference, "Create completion").
type completionRequest struct {
	sampling
	format
	Model  string  `json:"model"`
	Prompt prompts `json:"prompt"`
	Suffix string  `json:"suffix"`
	N      *int    `json:"n"`
	BestOf *int    `json:"best_of"`
	Echo   bool    `json:"echo"`

	Stream        bool          `json:"stream"`
	StreamOptions streamOptions `json:"stream_options"`
	LogProbs      *int          `json:"logprobs"`
}

type textChoice struct {
	Index  int        `json:"index"`
	Text   string     `json:"text"`
	Probs  *textProbs `json:"logprobs"`
	Finish *string    `json:"finish_reason"`
}

func (s *Server) completions(w http.ResponseWriter, r *http.Request) error {
	var q completionRequest
	e, err := s.begin(w, r, &q, &q.Model)
	if err != nil {
		return err
	}
	defer e.leave()
	if q.MaxTokens == nil && q.MaxCompletionTokens == nil && q.Predict == nil {
		q.MaxTokens = new(int)
		*q.MaxTokens = 16 // OpenAI's
	}
	if q.Echo && q.MaxTokens != nil && *q.MaxTokens == 0 {
		return s.echo(w, r, &q, e)
	}
	groups, err := q.tasks(e)
	if err != nil {
		return err
	}
	tasks := flat(groups)
	if err := start(tasks); err != nil {
		return err
	}
	defer closeAll(tasks)
	if q.Stream {
		s.streamText(w, r, &q, tasks)
		return nil
	}
	echoed := make([][]pumice.LogProb, len(groups))
	for i, group := range groups { // before the answers, which then find their prompts in the cache
		if echoed[i], err = q.echoed(r, e, group[0].request.Prompt); err != nil {
			return err
		}
	}
	if err := run(r.Context(), tasks); err != nil {
		return err
	}
	out := newCompletion("cmpl", "text_completion", e.model.Name)
	used, took := usageOf(tasks), timingsOf(tasks[0])
	if q.Echo && q.LogProbs != nil {
		used.Details.CachedTokens = 0
	}
	out.Usage, out.Timings = &used, &took
	n, _, _ := choices(q.N, q.Stream, q.BestOf) // it was checked
	for i, group := range groups {
		if n < len(group) {
			group = likeliest(group, n)
		}
		for _, t := range group {
			c := q.choice(t, echoed[i])
			c.Index = len(out.Choices)
			out.Choices = append(out.Choices, c)
		}
	}
	reply(w, http.StatusOK, out)
	return nil
}

func flat(groups [][]*task) (all []*task) {
	for _, g := range groups {
		all = append(all, g...)
	}
	return all
}

// tasks are the answers that the request asks for, a list for each prompt.
func (q *completionRequest) tasks(e *use) ([][]*task, error) {
	n, generated, err := choices(q.N, q.Stream, q.BestOf)
	if err != nil {
		return nil, err
	}
	o, err := q.options(e)
	if err != nil {
		return nil, err
	}
	switch {
	case q.Suffix != "" && q.Echo:
		return nil, invalid("echo", "echo with a suffix is not supported")
	case q.Stream && q.Echo && q.LogProbs != nil:
		return nil, invalid("echo", "echo with logprobs can't be streamed")
	case len(q.Prompt) == 0:
		return nil, invalid("prompt", "there is no prompt")
	case len(q.Prompt)*generated > maxPrompts:
		return nil, invalid("n", "%d prompts with %d answers each; at most %d answers are possible", len(q.Prompt), generated, maxPrompts)
	}
	if q.LogProbs != nil {
		o.LogProbs, o.TopLogProbs = true, *q.LogProbs
	}
	o.LogProbs = o.LogProbs || generated > n
	g, err := q.format.compile(e, q.IgnoreEOS)
	if err != nil {
		return nil, err
	}
	var groups [][]*task
	for _, p := range q.Prompt {
		ids, err := q.encode(e, p, &o)
		if err != nil {
			return nil, err
		}
		var group []*task
		one := o
		for range generated {
			restrict(&one, g)
			t := &task{engine: e, cold: q.cold(), request: pumice.Request{Prompt: ids, GenerateOptions: one}}
			t.each = func(*task, pumice.Token) error { return nil }
			one.Sampling.Seed++
			group = append(group, t)
		}
		groups = append(groups, group)
	}
	for i, t := range flat(groups) {
		t.index = i
	}
	return groups, nil
}

// encode is a prompt's tokens, to which a suffix adds what ends the answer.
func (q *completionRequest) encode(e *use, p prompt, o *pumice.GenerateOptions) ([]int, error) {
	if q.Suffix == "" {
		return p.tokens(e)
	}
	if p.ids != nil {
		return nil, invalid("suffix", "a suffix needs a prompt that is a text")
	}
	ids, err := infill(e.Tokenizer(), p.text, q.Suffix)
	if err == nil {
		o.Stop = slices.Concat(q.Stop, fimStops(e.Tokenizer()))
	}
	return ids, err
}

// echoed evaluates a prompt whose tokens' log-probabilities the request asks for.
func (q *completionRequest) echoed(r *http.Request, e *use, prompt []int) ([]pumice.LogProb, error) {
	if !q.Echo || q.LogProbs == nil {
		return nil, nil
	}
	return e.NewSession().LogProbs(r.Context(), prompt, *q.LogProbs)
}

// choice is an answer, with what else the request asks to be told of it. The prompt's tokens are as likely as echoed says.
func (q *completionRequest) choice(t *task, echoed []pumice.LogProb) textChoice {
	result := t.g.Result()
	c := textChoice{Text: result.Text, Finish: &result.FinishReason}
	tok := t.engine.Tokenizer()
	if q.Echo && tok != nil {
		c.Text = tok.Decode(t.request.Prompt, false) + c.Text
	}
	if q.LogProbs == nil {
		return c
	}
	c.Probs = &textProbs{}
	if q.Echo {
		c.Probs.addPrompt(tok, t.request.Prompt, echoed)
	}
	for i, p := range t.probs {
		c.Probs.add(tok, before(t, i), p.ID, p)
	}
	return c
}

// echo answers a request that asks for nothing but its prompts' own log-probabilities, and generates nothing.
func (s *Server) echo(w http.ResponseWriter, r *http.Request, q *completionRequest, e *use) error {
	out := newCompletion("cmpl", "text_completion", e.model.Name)
	length, used := pumice.FinishLength, usage{}
	for i, p := range q.Prompt {
		ids, err := p.tokens(e)
		if err == nil && len(ids) == 0 {
			err = pumice.ErrEmptyPrompt
		}
		var probs []pumice.LogProb
		if err == nil {
			probs, err = q.echoed(r, e, ids)
		}
		if err != nil {
			return err
		}
		c, tok := textChoice{Index: i, Finish: &length}, e.Tokenizer()
		if q.LogProbs != nil {
			c.Probs = &textProbs{}
			c.Probs.addPrompt(tok, ids, probs)
		}
		if tok != nil {
			c.Text = tok.Decode(ids, false)
		}
		used.PromptTokens += len(ids)
		out.Choices = append(out.Choices, c)
	}
	used.TotalTokens = used.PromptTokens
	out.Usage = &used
	reply(w, http.StatusOK, out)
	return nil
}

// streamText sends answers as they come.
func (s *Server) streamText(w http.ResponseWriter, r *http.Request, q *completionRequest, tasks []*task) {
	out := newStream(w, s.ping)
	defer out.close()
	chunk := newCompletion("cmpl", "text_completion", tasks[0].engine.model.Name)
	send := func(c textChoice) error {
		chunk.Choices = []any{c}
		return out.send(chunk)
	}
	for _, t := range tasks {
		offset := 0
		if tok := t.engine.Tokenizer(); q.Echo && tok != nil {
			text := tok.Decode(t.request.Prompt, false)
			if err := send(textChoice{Index: t.index, Text: text}); err != nil {
				return
			}
		}
		t.each = func(t *task, token pumice.Token) error {
			c := textChoice{Index: t.index, Text: token.Text}
			if q.LogProbs != nil && token.Prob != nil {
				c.Probs = &textProbs{end: offset}
				c.Probs.add(t.engine.Tokenizer(), before(t, len(t.probs)-1), token.ID, token.Prob)
				offset = c.Probs.end
			}
			if c.Text == "" && c.Probs == nil {
				return nil
			}
			return send(c)
		}
	}
	if err := run(r.Context(), tasks); err != nil {
		s.broken(r, err, out.fail)
		return
	}
	for i, t := range tasks {
		finish := t.g.Result().FinishReason
		if i == len(tasks)-1 {
			took := timingsOf(tasks[0])
			chunk.Timings = &took
		}
		if err := send(textChoice{Index: t.index, Finish: &finish}); err != nil {
			return
		}
	}
	_ = q.StreamOptions.end(out, chunk, tasks) // the client may be gone
}

// A llamaRequest is the body of llama-server's /completion.
type llamaRequest struct {
	sampling
	format
	Model  string  `json:"model"`
	Prompt prompts `json:"prompt"`
	Stream bool    `json:"stream"`
	Probs  int     `json:"n_probs"`
}

type llamaAnswer struct {
	Index      int         `json:"index"`
	Content    string      `json:"content"`
	Tokens     []int       `json:"tokens"`
	Stop       bool        `json:"stop"`
	StopType   string      `json:"stop_type,omitempty"` // at the end: eos, word or limit
	Word       string      `json:"stopping_word,omitempty"`
	Model      string      `json:"model,omitempty"`
	Predicted  int         `json:"tokens_predicted"`
	Evaluated  int         `json:"tokens_evaluated"`
	Truncated  bool        `json:"truncated"`
	Timings    *timings    `json:"timings,omitempty"`
	TokenProbs []llamaProb `json:"completion_probabilities,omitempty"`
}

type llamaProb struct {
	ID int `json:"id"`
	chatProb
}

// completion is llama-server's way to continue a prompt.
func (s *Server) completion(w http.ResponseWriter, r *http.Request) error {
	var q llamaRequest
	e, err := s.begin(w, r, &q, &q.Model)
	if err != nil {
		return err
	}
	defer e.leave()
	return s.complete(w, r, e, &q)
}

func (s *Server) complete(w http.ResponseWriter, r *http.Request, e *use, q *llamaRequest) error {
	t, err := q.task(e)
	if err != nil {
		return err
	}
	if err := start([]*task{t}); err != nil {
		return err
	}
	defer closeAll([]*task{t})
	if !q.Stream {
		if err := run(r.Context(), []*task{t}); err != nil {
			return err
		}
		out := q.end(t)
		out.Content, out.Tokens = t.g.Result().Text, t.g.Result().Tokens
		for i := range t.probs {
			out.TokenProbs = append(out.TokenProbs, llamaProbOf(t, i))
		}
		reply(w, http.StatusOK, out)
		return nil
	}
	out := newStream(w, s.ping)
	defer out.close()
	t.each = func(t *task, token pumice.Token) error {
		x := llamaAnswer{Content: token.Text, Tokens: []int{token.ID}, Predicted: len(t.g.Result().Tokens), Evaluated: len(t.request.Prompt)}
		if token.Prob != nil {
			x.TokenProbs = []llamaProb{llamaProbOf(t, len(t.probs)-1)}
		}
		return out.send(x)
	}
	if err := run(r.Context(), []*task{t}); err != nil {
		s.broken(r, err, out.fail)
		return nil
	}
	_ = out.send(q.end(t)) // the client may be gone
	return nil
}

func (q *llamaRequest) task(e *use) (*task, error) {
	if len(q.Prompt) != 1 {
		return nil, invalid("prompt", "%d prompts; one is possible", len(q.Prompt))
	}
	o, err := q.options(e)
	if err != nil {
		return nil, err
	}
	if q.Probs > 0 {
		o.LogProbs, o.TopLogProbs = true, q.Probs
	}
	g, err := q.format.compile(e, q.IgnoreEOS)
	if err != nil {
		return nil, err
	}
	restrict(&o, g)
	ids, err := q.Prompt[0].tokens(e)
	if err != nil {
		return nil, err
	}
	return &task{engine: e, cold: q.cold(), request: pumice.Request{Prompt: ids, GenerateOptions: o}, each: func(*task, pumice.Token) error { return nil }}, nil
}

// end is what the last event says.
func (q *llamaRequest) end(t *task) llamaAnswer {
	result, took := t.g.Result(), timingsOf(t)
	x := llamaAnswer{Tokens: []int{}, Stop: true, StopType: "limit", Model: t.engine.model.Name, Predicted: len(result.Tokens), Evaluated: len(t.request.Prompt), Timings: &took}
	if result.FinishReason == pumice.FinishStop {
		x.StopType = "eos"
		if word := stopped(t, q.Stop); word != "" {
			x.StopType, x.Word = "word", word
		}
	}
	return x
}

// stopped is the stop string that ended an answer, or "".
func stopped(t *task, stops []string) string {
	tok, result := t.engine.Tokenizer(), t.g.Result()
	if tok == nil || len(stops) == 0 {
		return ""
	}
	rest := strings.TrimPrefix(tok.Decode(result.Tokens, false), result.Text)
	for _, stop := range stops {
		if strings.HasPrefix(rest, stop) {
			return stop
		}
	}
	return ""
}

func llamaProbOf(t *task, i int) llamaProb {
	return llamaProb{t.probs[i].ID, t.chatProbs(i)[0]}
}
