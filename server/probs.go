package server

import (
	"pumice"
	"pumice/tokenizer"
)

// spell is the text of a token after another, or at a text's beginning: -1. tok may be nil: then it has none.
func spell(tok *tokenizer.Tokenizer, before, id int) string {
	switch {
	case tok == nil:
		return ""
	case before < 0:
		return tok.Decode([]int{id}, false)
	}
	return tok.After(before, id)
}

// chatProbs are the log-probabilities of an answer's tokens, as chat completions have them.
type chatProbs struct {
	Content []chatProb `json:"content"`
}

type chatProb struct {
	Token   string     `json:"token"`
	LogProb float64    `json:"logprob"`
	Bytes   []int      `json:"bytes"`
	Top     []chatProb `json:"top_logprobs,omitempty"`
}

// probs are those of the answer's tokens from one on; nil if nobody asked.
func (q *chatRequest) probs(t *task, from int) *chatProbs {
	if !q.LogProbs {
		return nil
	}
	return &chatProbs{t.chatProbs(from)}
}

// chatProbs are the log-probabilities of an answer's tokens from one on.
func (t *task) chatProbs(from int) []chatProb {
	list := []chatProb{}
	tok := t.engine.Tokenizer()
	for i := from; i < len(t.probs); i++ {
		p, before := t.probs[i], before(t, i)
		c := chatProbOf(tok, before, p.TokenProb)
		c.Top = []chatProb{}
		for _, top := range p.Top {
			c.Top = append(c.Top, chatProbOf(tok, before, top))
		}
		list = append(list, c)
	}
	return list
}

func chatProbOf(tok *tokenizer.Tokenizer, before int, p pumice.TokenProb) chatProb {
	c := chatProb{Token: spell(tok, before, p.ID), LogProb: p.LogProb, Bytes: []int{}}
	for _, b := range []byte(c.Token) {
		c.Bytes = append(c.Bytes, int(b))
	}
	return c
}

// before is the token before token i of an answer.
func before(t *task, i int) int {
	if i > 0 {
		return t.probs[i-1].ID
	}
	return t.request.Prompt[len(t.request.Prompt)-1]
}

// textProbs are the log-probabilities of a text's tokens, as completions have them. What comes first has none: null.
type textProbs struct {
	Tokens        []string             `json:"tokens"`
	TokenLogProbs []*float64           `json:"token_logprobs"`
	TopLogProbs   []map[string]float64 `json:"top_logprobs"`
	TextOffset    []int                `json:"text_offset"` // in code points

	end int // of the text so far
}

// addPrompt adds the tokens of a text, of which all but the first have a probability.
func (x *textProbs) addPrompt(tok *tokenizer.Tokenizer, prompt []int, probs []pumice.LogProb) {
	x.add(tok, -1, prompt[0], nil)
	for i := range probs {
		x.add(tok, prompt[i], probs[i].ID, &probs[i])
	}
}

// add adds a token after another; p is nil for the first of a text, before which there is none: -1.
func (x *textProbs) add(tok *tokenizer.Tokenizer, before, id int, p *pumice.LogProb) {
	text := spell(tok, before, id)
	x.Tokens, x.TextOffset = append(x.Tokens, text), append(x.TextOffset, x.end)
	x.end += len([]rune(text))
	if p == nil {
		x.TokenLogProbs, x.TopLogProbs = append(x.TokenLogProbs, nil), append(x.TopLogProbs, nil)
		return
	}
	top := map[string]float64{}
	for _, q := range p.Top {
		if text := spell(tok, before, q.ID); top[text] == 0 { // of tokens with the same text the likeliest
			top[text] = q.LogProb
		}
	}
	x.TokenLogProbs, x.TopLogProbs = append(x.TokenLogProbs, &p.LogProb), append(x.TopLogProbs, top)
}
