package pumice

import (
	"context"
	"fmt"
	"math"
	"slices"

	"pumice/model"
	"pumice/pipeline"
)

// A TokenProb is a token and the natural logarithm of its probability in a place of a text.
type TokenProb struct {
	ID      int     `json:"id"`
	LogProb float64 `json:"logprob"`
}

// A LogProb is the probability that a model gives to a token after those before it: that of all logits, before
// temperature, penalties or any other option of sampling.
type LogProb struct {
	TokenProb
	Top []TokenProb // the likeliest tokens in its place, likeliest first, as many as were asked for
}

// MaxTopLogProbs is the largest number of likeliest tokens that a LogProb can have.
const MaxTopLogProbs = pipeline.TopLogits

// LogProbs returns how likely each token is after those before it, with the top likeliest tokens in its place: one element
// for each token but the first. It evaluates all tokens, from an empty cache, and leaves them in the cache. The device
// finds the log-probabilities, so that a few bytes a token are read back, not a row of logits. The error is
// *model.NotFiniteError if a logit is NaN or infinite.
func (s *Session) LogProbs(ctx context.Context, tokens []int, top int) ([]LogProb, error) {
	e := s.engine
	if err := e.checkPrompt(tokens); err != nil {
		return nil, err
	}
	if err := checkTop(top); err != nil {
		return nil, err
	}
	if err := e.turn.Acquire(ctx, 1); err != nil {
		return nil, err
	}
	defer e.turn.Release(1)
	if _, err := s.resume(nil, 0); err != nil { // the cache may hold the tokens, but not their logits
		return nil, err
	}
	s.written = max(s.written, len(tokens))
	out, err := e.evaluator.Forward(ctx, tokens, 0, model.Tail{Rows: model.EveryRow, LogProbs: true, Top: top})
	if err != nil {
		return nil, err
	}
	s.cached = append(s.cached, tokens...)
	list := make([]LogProb, len(tokens)-1)
	for i := range list {
		list[i].TokenProb = TokenProb{tokens[i+1], float64(out.LogProbs[i].Next)}
		if top > 0 {
			list[i].Top = likeliest(out.Choices[i], out.LogProbs[i].Sum, top)
		}
	}
	return list, nil
}

func checkTop(top int) error {
	if top < 0 || top > MaxTopLogProbs {
		return &OptionError{"TopLogProbs", fmt.Sprint(top), fmt.Sprintf("0 to %d", MaxTopLogProbs)}
	}
	return nil
}

// likeliest returns the n likeliest tokens of a choice; sum is the logarithm of the sum of the exponentials of all logits.
func likeliest(c model.Choice, sum float32, n int) []TokenProb {
	var list []TokenProb
	for i, id := range c.IDs[:min(n, len(c.IDs))] {
		list = append(list, TokenProb{id, float64(c.Logits[i]) - float64(sum)})
	}
	return list
}

// choiceProb returns the LogProb of a token that is among those of a choice.
func choiceProb(c model.Choice, sum float32, id, top int) *LogProb {
	logit := c.Logits[slices.Index(c.IDs, id)]
	return &LogProb{TokenProb{id, float64(logit) - float64(sum)}, likeliest(c, sum, top)}
}

// logitProb returns the LogProb of a token by a row of logits.
func logitProb(logits []float32, id, top int) *LogProb {
	largest := float64(slices.Max(logits))
	sum := 0.0
	for _, l := range logits {
		sum += math.Exp(float64(l) - largest)
	}
	sum = largest + math.Log(sum)
	p := &LogProb{TokenProb: TokenProb{id, float64(logits[id]) - sum}}
	for id, l := range logits {
		at := len(p.Top)
		for at > 0 && float64(l)-sum > p.Top[at-1].LogProb {
			at--
		}
		if at < top { // seldom, once the first logits have been seen
			p.Top = slices.Insert(p.Top[:min(len(p.Top), top-1)], at, TokenProb{id, float64(l) - sum})
		}
	}
	return p
}
