package server

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"net/http"
	"strconv"
	"strings"
	"time"

	"pumice"
	"pumice/sample"
)

// maxBody bounds a request: a context of a million tokens of text is below.
const maxBody = 16 << 20

// readTimeout is how long a client may take to send a request.
const readTimeout = time.Minute

// decode reads the JSON object that a request has. Fields that v lacks are ignored.
func decode(w http.ResponseWriter, r *http.Request, v any) error {
	c := http.NewResponseController(w)
	_ = c.SetReadDeadline(time.Now().Add(readTimeout)) // not every connection has one
	defer func() { _ = c.SetReadDeadline(time.Time{}) }()
	return parse(http.MaxBytesReader(w, r.Body, maxBody), v)
}

// parse is decode for what a request's body says.
func parse(body io.Reader, v any) error {
	d := json.NewDecoder(body)
	err := d.Decode(v)
	if err == nil {
		_, err = d.Token()
		if err == nil {
			return invalid("", "there is more after the JSON object")
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
	}
	var wrong *json.UnmarshalTypeError
	var large *http.MaxBytesError
	var own *requestError
	switch {
	case errors.As(err, &large), errors.As(err, &own):
		return err
	case errors.As(err, &wrong) && wrong.Field != "":
		field := strings.TrimPrefix(strings.TrimPrefix(wrong.Field, "sampling."), "format.") // which are embedded
		return invalid(field, "%s is a JSON %s, which it can't be", field, wrong.Value)
	case errors.As(err, &wrong):
		return invalid("", "the request is a JSON %s, and no object", wrong.Value)
	}
	return invalid("", "the request is no JSON object as it should be: %v", err)
}

// textOrList decodes a list, or a string, for which the element stands that one makes of it; null is no list.
func textOrList[T any](b []byte, list *[]T, one func(text string) T) error {
	switch b[0] {
	case 'n':
		*list = nil
		return nil
	case '"':
		var text string
		err := json.Unmarshal(b, &text)
		*list = []T{one(text)}
		return err
	}
	return json.Unmarshal(b, list)
}

// texts is a string or a list of strings; null is none.
type texts []string

func (t *texts) UnmarshalJSON(b []byte) error {
	return textOrList(b, (*[]string)(t), func(text string) string { return text })
}

// biases are logit biases: an object of token ids and numbers as OpenAI has them, or a list of pairs as llama-server does, where
// false forbids a token.
type biases map[int]float32

func (m *biases) UnmarshalJSON(b []byte) error {
	*m = biases{}
	if b[0] == 'n' {
		return nil
	}
	if b[0] == '[' {
		var pairs [][2]json.RawMessage
		if err := json.Unmarshal(b, &pairs); err != nil {
			return invalid("logit_bias", "logit_bias: want pairs of a token id and a number or false")
		}
		for _, p := range pairs {
			var id int
			bias := float32(math.Inf(-1))
			if err := json.Unmarshal(p[0], &id); err != nil {
				return invalid("logit_bias", "logit_bias: %s is no token id", p[0])
			}
			if string(p[1]) != "false" {
				if err := json.Unmarshal(p[1], &bias); err != nil {
					return invalid("logit_bias", "logit_bias: %s is neither a number nor false", p[1])
				}
			}
			(*m)[id] = bias
		}
		return nil
	}
	var byName map[string]float32
	if err := json.Unmarshal(b, &byName); err != nil {
		return invalid("logit_bias", "logit_bias: want token ids with numbers")
	}
	for name, bias := range byName {
		id, err := strconv.Atoi(name)
		if err != nil {
			return invalid("logit_bias", "logit_bias: %q is no token id", name)
		}
		if bias <= -100 { // as OpenAI has it: a ban
			bias = float32(math.Inf(-1))
		}
		(*m)[id] = bias
	}
	return nil
}

// sampling are the fields by which requests of all protocols say how tokens are chosen, when the text ends, and whether what the
// KV cache has of the prompt is reused.
type sampling struct {
	Temperature *float32 `json:"temperature"`
	TopP        *float32 `json:"top_p"`
	TopK        *int     `json:"top_k"`
	MinP        *float32 `json:"min_p"`
	Seed        *int64   `json:"seed"`

	FrequencyPenalty *float32 `json:"frequency_penalty"`
	PresencePenalty  *float32 `json:"presence_penalty"`
	RepeatPenalty    *float32 `json:"repeat_penalty"`
	Repetition       *float32 `json:"repetition_penalty"` // vLLM's name
	RepeatLastN      *int     `json:"repeat_last_n"`

	LogitBias biases `json:"logit_bias"`
	Stop      texts  `json:"stop"`
	IgnoreEOS bool   `json:"ignore_eos"`

	MaxTokens           *int `json:"max_tokens"`
	MaxCompletionTokens *int `json:"max_completion_tokens"`
	Predict             *int `json:"n_predict"` // llama-server's name; -1 is no limit

	CachePrompt *bool `json:"cache_prompt"`
}

// cold reports whether the whole prompt is to be evaluated.
func (s *sampling) cold() bool { return s.CachePrompt != nil && !*s.CachePrompt }

// maxStops bounds the stop strings, each of which is looked for after every token.
const maxStops = 64

// options are what a request asks of a Generation. What it does not say is as the model's authors recommend; without a seed
// each request has another.
func (q *sampling) options(m *use) (pumice.GenerateOptions, error) {
	o := pumice.GenerateOptions{Sampling: m.SamplingDefaults(), LogitBias: q.LogitBias, Stop: q.Stop, IgnoreEOS: q.IgnoreEOS, MaxTokens: m.model.MaxTokens}
	p := &o.Sampling
	if m.model.Sampling != nil {
		m.model.Sampling(p)
	}
	set(&p.Temperature, q.Temperature)
	set(&p.TopP, q.TopP)
	set(&p.TopK, q.TopK)
	set(&p.MinP, q.MinP)
	set(&p.FrequencyPenalty, q.FrequencyPenalty)
	set(&p.PresencePenalty, q.PresencePenalty)
	set(&p.RepeatPenalty, q.Repetition)
	set(&p.RepeatPenalty, q.RepeatPenalty)
	set(&p.RepeatLastN, q.RepeatLastN)
	if q.RepeatLastN != nil && *q.RepeatLastN == 0 { // off, where 0 is all for us
		p.RepeatPenalty, p.FrequencyPenalty, p.PresencePenalty = 0, 0, 0
	}
	p.RepeatLastN, p.TopK = max(0, p.RepeatLastN), max(0, p.TopK) // -1 is all
	p.Seed = rand.Uint64()
	if q.Seed != nil && *q.Seed >= 0 {
		p.Seed = uint64(*q.Seed)
	}
	if len(q.Stop) > maxStops {
		return o, invalid("stop", "%d stop strings; at most %d are possible", len(q.Stop), maxStops)
	}
	for _, limit := range []*int{q.Predict, q.MaxTokens, q.MaxCompletionTokens} {
		switch {
		case limit == nil || *limit == -1:
		case *limit < 0:
			return o, invalid("max_tokens", "max_tokens is %d", *limit)
		case *limit == 0:
			return o, invalid("max_tokens", "max_tokens is 0: there is nothing to generate")
		default:
			o.MaxTokens = *limit
		}
	}
	if err := p.Validate(); err != nil {
		var wrong *sample.ParamError
		errors.As(err, &wrong)
		return o, invalid(snake(wrong.Field), "%s is %g: want %s", snake(wrong.Field), wrong.Value, wrong.Want)
	}
	return o, nil
}

func set[T any](to *T, value *T) {
	if value != nil {
		*to = *value
	}
}

// snake spells a field of Go as JSON has it: TopK is top_k.
func snake(field string) string {
	var b []byte
	for i := range len(field) {
		c := field[i]
		if c >= 'A' && c <= 'Z' {
			if i > 0 && (field[i-1] < 'A' || field[i-1] > 'Z') {
				b = append(b, '_')
			}
			c += 'a' - 'A'
		}
		b = append(b, c)
	}
	return string(b)
}

// prompts are the prompts of a request: texts, or lists of token ids.
type prompts []prompt

type prompt struct {
	text string
	ids  []int // instead of the text; nil: there is one
}

// maxPrompts bounds how many prompts, or inputs to embed, a request has.
const maxPrompts = 2048

func (p *prompts) UnmarshalJSON(b []byte) error {
	one := func(b []byte) (prompt, error) {
		var x prompt
		if len(b) > 0 && b[0] == '"' {
			err := json.Unmarshal(b, &x.text)
			return x, err
		}
		x.ids = []int{}
		err := json.Unmarshal(b, &x.ids)
		return x, err
	}
	if b[0] == 'n' {
		*p = nil
		return nil
	}
	var list []json.RawMessage
	if b[0] == '[' {
		if err := json.Unmarshal(b, &list); err != nil {
			return err
		}
	}
	if len(list) == 0 || list[0][0] != '"' && list[0][0] != '[' { // a text, or a list of ids
		x, err := one(b)
		if err != nil {
			return fmt.Errorf("a prompt is a string, a list of token ids, or a list of these")
		}
		*p = prompts{x}
		return nil
	}
	if len(list) > maxPrompts {
		return invalid("prompt", "%d prompts; at most %d are possible", len(list), maxPrompts)
	}
	*p = make(prompts, len(list))
	for i, raw := range list {
		x, err := one(raw)
		if err != nil {
			return fmt.Errorf("prompt %d is neither a string nor a list of token ids", i)
		}
		(*p)[i] = x
	}
	return nil
}

// tokens are a prompt's ids, and its text where those have one.
func (p prompt) tokens(e *use) ([]int, error) {
	if p.ids != nil {
		return p.ids, nil
	}
	return e.Encode(p.text)
}
