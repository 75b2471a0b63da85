package eval

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"math"
)

// An Answer is what a model made of a question. Log-probabilities are over the whole vocabulary; they, the logits and the
// margin are rounded to four digits. Where a choice has several tokens its logit is the sum of their log-probabilities.
type Answer struct {
	Task         string    `json:"task"`
	ID           string    `json:"id"`
	NumShots     int       `json:"n_shot"`
	Truncated    bool      `json:"truncated"`
	NumTokens    int       `json:"n_tokens"`
	PromptSHA256 string    `json:"prompt_sha256"`
	IDsSHA256    string    `json:"ids_sha256"`
	ChoiceIDs    ChoiceIDs `json:"choice_ids"`
	Logits       []float64 `json:"logits"`
	LogProbs     []float64 `json:"logprobs"`
	Margin       float64   `json:"margin"` // the greatest less the second
	Pred         string    `json:"pred"`
	Gold         string    `json:"gold"`
	Correct      bool      `json:"correct"`

	Greedy []bool `json:"greedy,omitempty"` // whether a choice is what the model would go on with
}

// answer is what is known of the answer before the model is asked.
func (r *Request) answer() Answer {
	return Answer{
		Task: r.Task.Name, ID: r.Doc.ID, NumShots: r.NumShots, Truncated: r.Truncated, NumTokens: len(r.IDs),
		PromptSHA256: r.PromptSHA256, IDsSHA256: r.IDsSHA256, ChoiceIDs: r.Choices, Gold: r.Doc.Gold,
	}
}

// session is what scoring needs of a *pumice.Session; tests have one without a device.
type session interface {
	Logits(ctx context.Context, tokens []int, all bool) iter.Seq2[[]float32, error]
	Truncate(n int)
}

// A scorer asks a model questions one after another and keeps the keys and values of what the next one shares.
type scorer struct {
	session session
	last    *Request // whose steps the session holds
	ids     []int
}

// score asks one question.
func (s *scorer) score(ctx context.Context, r *Request) (Answer, error) {
	kept := 0
	if s.last != nil {
		kept = r.shared(s.last)
	}
	s.last = nil
	s.ids = s.ids[:0]
	for _, id := range r.IDs {
		s.ids = append(s.ids, int(id))
	}
	s.session.Truncate(kept)
	for _, step := range r.steps {
		if step <= kept {
			continue
		}
		if _, err := s.logits(ctx, s.ids[:step], nil); err != nil {
			return Answer{}, err
		}
	}
	a := r.answer()
	first, err := s.logits(ctx, s.ids, r.Choices)
	if err != nil {
		return Answer{}, fmt.Errorf("eval: %s: question %s: %w", a.Task, a.ID, err)
	}
	values := make([]float64, len(first)) // that the choices are compared by
	for i, f := range first {
		values[i] = f.logit
		logProb, greedy := f.logProb, f.greedy
		for n := 1; n < len(r.Choices[i]); n++ {
			more, err := s.logits(ctx, append(s.ids, r.Choices[i][:n]...), [][]int{r.Choices[i][n:]})
			if err != nil {
				return Answer{}, err
			}
			logProb += more[0].logProb
			greedy = greedy && more[0].greedy
			values[i] = logProb
		}
		a.LogProbs = append(a.LogProbs, logProb)
		a.Greedy = append(a.Greedy, greedy)
	}
	if severalTokens(r.Choices) {
		copy(values, a.LogProbs)
	}
	best, second := 0, math.Inf(-1)
	for i, v := range values[1:] {
		if v > values[best] {
			best, second = i+1, values[best]
		} else {
			second = max(second, v)
		}
	}
	a.Margin = round4(values[best] - second)
	a.Pred = letters[best : best+1]
	a.Correct = a.Pred == a.Gold
	for i := range values {
		a.Logits = append(a.Logits, round4(values[i]))
		a.LogProbs[i] = round4(a.LogProbs[i])
	}
	s.last = r
	return a, nil
}

func severalTokens(choices [][]int) bool {
	for _, c := range choices {
		if len(c) > 1 {
			return true
		}
	}
	return false
}

func round4(x float64) float64 { return math.Round(x*1e4) / 1e4 }

// A prospect is what a model gives the first token of a choice.
type prospect struct {
	logit, logProb float64
	greedy         bool // it is the likeliest token
}

var errNotFinite = errors.New("the model's logits are not finite numbers")

// logits evaluates ids and looks at the first token of each choice.
func (s *scorer) logits(ctx context.Context, ids []int, choices [][]int) ([]prospect, error) {
	var out []prospect
	for row, err := range s.session.Logits(ctx, ids, false) {
		if err != nil {
			return nil, err
		}
		if len(choices) == 0 {
			break
		}
		sum, argmax, err := logSumExp(row)
		if err != nil {
			return nil, err
		}
		for _, c := range choices {
			if c[0] >= len(row) {
				return nil, fmt.Errorf("a choice is token %d, the model has %d", c[0], len(row))
			}
			l := float64(row[c[0]])
			out = append(out, prospect{l, l - sum, c[0] == argmax})
		}
	}
	return out, nil
}

// logSumExp returns log(sum(exp(row))) and the place of the largest value, the first of equals.
func logSumExp(row []float32) (sum float64, argmax int, err error) {
	for i, v := range row {
		if v > row[argmax] {
			argmax = i
		}
	}
	top := float64(row[argmax])
	for _, v := range row {
		sum += math.Exp(float64(v) - top)
	}
	sum = top + math.Log(sum)
	if math.IsNaN(sum) || math.IsInf(sum, 0) {
		return 0, 0, errNotFinite
	}
	return sum, argmax, nil
}
