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
// for each token but the first. It evaluates all tokens, and leaves them in the cache. The device
// finds the log-probabilities, so that a few bytes a token are read back, not a row of logits. The error is
// *NotFiniteError if a logit is NaN or infinite.
func (s *Session) LogProbs(ctx context.Context, tokens []int, top int) ([]LogProb, error) {
	if err := s.engine.checkPrompt(tokens); err != nil {
		return nil, err
	}
	if err := checkTop(top); err != nil {
		return nil, err
	}
	if err := s.use(); err != nil {
		return nil, err
	}
	defer s.free(tokens)
	list := make([]LogProb, 0, len(tokens)-1)
	rows := func(out model.Output, _ []int) error {
		for i := 0; i < len(out.LogProbs) && len(list) < len(tokens)-1; i++ {
			p := LogProb{TokenProb: TokenProb{tokens[len(list)+1], float64(out.LogProbs[i].Next)}}
			if top > 0 {
				p.Top = likeliest(out.Choices[i], out.LogProbs[i].Sum, top)
			}
			list = append(list, p)
		}
		return nil
	}
	tail := model.Tail{Rows: model.EveryRow, LogProbs: true, Top: top}
	rounds := s.engine.work.model.MaxRows(tail)
	chunk := max(1, PromptChunk/rounds) * rounds // cut as if all were evaluated at once
	s.Reset()                                    // the cache may hold the tokens, but not their logits
	for from := 0; from < len(tokens); from += chunk {
		end := min(from+chunk, len(tokens))
		what := evaluation{tail: tail, from: from, use: rows}
		if end < len(tokens) {
			what.next = &tokens[end]
		}
		if _, _, err := s.evaluate(ctx, tokens[:end], what); err != nil {
			return nil, err
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
