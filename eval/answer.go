package eval

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"math"
	"slices"
)

// An Answer is a model's answer to a question. Log-probabilities are over the whole vocabulary; they, the logits and
// the margin are rounded to four digits. If a choice has several tokens, its logit is the sum of their
// log-probabilities.
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
	Margin       float64   `json:"margin"` // the greatest logit less the second
	Pred         string    `json:"pred"`
	Gold         string    `json:"gold"`
	Correct      bool      `json:"correct"`

	Greedy []bool `json:"greedy,omitempty"` // for each choice, whether it is the model's greedy continuation
}

// answer returns the answer for the prospects of the choices. Before the model is asked there are none.
func (r *Request) answer(found []prospect) Answer {
	a := Answer{
		Task: r.Task.Name, ID: r.Doc.ID, NumShots: r.NumShots, Truncated: r.Truncated, NumTokens: len(r.IDs),
		PromptSHA256: r.PromptSHA256, IDsSHA256: r.IDsSHA256, ChoiceIDs: r.Choices, Gold: r.Doc.Gold,
	}
	for _, f := range found {
		a.Logits = append(a.Logits, f.logit)
		a.LogProbs = append(a.LogProbs, f.logProb)
		a.Greedy = append(a.Greedy, f.greedy)
	}
	return a
}

// forward has the methods of a *pumice.Session that give logits; tests implement it without a device.
type forward interface {
	Logits(ctx context.Context, tokens []int, all bool) iter.Seq2[[]float32, error]
}

// session has the methods of a *pumice.Session that scoring needs.
type session interface {
	forward
	Score(ctx context.Context, prefix []int, tails [][]int) iter.Seq2[[]float32, error]
	Truncate(n int)
}

// A scorer asks a model questions one after another, and keeps the keys and values of the tokens that the next one
// shares.
type scorer struct {
	session session
	last    *Request // the request whose shared tokens the session holds
}

// score asks a batch of questions, which have the same lead.
func (s *scorer) score(ctx context.Context, batch []*Request) ([]Answer, error) {
	first, last := batch[0], batch[len(batch)-1]
	kept := 0
	if s.last != nil {
		kept = first.shared(s.last)
	}
	s.last = nil
	var tails [][]int
	for _, r := range batch {
		tails = append(tails, toInts(r.IDs[r.prefix():]))
	}
	prefix := toInts(first.IDs[:first.prefix()])
	s.session.Truncate(kept)
	for _, cut := range first.cuts {
		if cut <= kept {
			continue
		}
		for _, err := range s.session.Score(ctx, prefix[:cut], nil) {
			if err != nil {
				return nil, err
			}
		}
	}
	var out []Answer
	for row, err := range s.session.Score(ctx, prefix, tails) {
		if err != nil {
			if first == last {
				return nil, fmt.Errorf("eval: %s: question %q: %w", first.Task.Name, first.Doc.ID, err)
			}
			return nil, fmt.Errorf("eval: %s: questions %q to %q: %w", first.Task.Name, first.Doc.ID, last.Doc.ID, err)
		}
		r := batch[len(out)]
		found, err := prospects(row, r.Choices)
		if err != nil {
			return nil, fmt.Errorf("eval: %s: question %q: %w", r.Task.Name, r.Doc.ID, err)
		}
		out = append(out, r.answer(found))
	}
	if severalTokens(first.Choices) { // such a question is a batch by itself
		if err := s.goOn(ctx, first, &out[0]); err != nil {
			return nil, fmt.Errorf("eval: %s: question %q: %w", first.Task.Name, first.Doc.ID, err)
		}
	}
	s.last = last
	for i := range out {
		out[i].decide()
	}
	return out, nil
}

func toInts(ids []int32) []int {
	out := make([]int, len(ids))
	for i, id := range ids {
		out[i] = int(id)
	}
	return out
}

// goOn evaluates the choices of several tokens after a question that the session holds, and sets the choices' logits
// to their log-probabilities.
func (s *scorer) goOn(ctx context.Context, r *Request, a *Answer) error {
	ids := toInts(r.IDs)
	for i, c := range r.Choices {
		for n := 1; n < len(c); n++ {
			for row, err := range s.session.Logits(ctx, slices.Concat(ids, c[:n]), false) {
				if err != nil {
					return err
				}
				more, err := prospects(row, [][]int{c[n:]})
				if err != nil {
					return err
				}
				a.LogProbs[i] += more[0].logProb
				a.Greedy[i] = a.Greedy[i] && more[0].greedy
			}
		}
	}
	copy(a.Logits, a.LogProbs)
	return nil
}

// decide chooses the letter, and rounds the numbers.
func (a *Answer) decide() {
	best, second := 0, math.Inf(-1)
	for i, v := range a.Logits[1:] {
		if v > a.Logits[best] {
			best, second = i+1, a.Logits[best]
		} else {
			second = max(second, v)
		}
	}
	a.Margin = round4(a.Logits[best] - second)
	a.Pred = letters[best : best+1]
	a.Correct = a.Pred == a.Gold
	for i := range a.Logits {
		a.Logits[i] = round4(a.Logits[i])
		a.LogProbs[i] = round4(a.LogProbs[i])
	}
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

// A prospect has a model's logit and log-probability of the first token of a choice.
type prospect struct {
	logit, logProb float64
	greedy         bool // it is the likeliest token
}

var errNotFinite = errors.New("the model's logits are not finite numbers")

// prospects returns the prospects of the first token of each choice.
func prospects(row []float32, choices [][]int) ([]prospect, error) {
	sum, argmax, err := logSumExp(row)
	if err != nil {
		return nil, err
	}
	var out []prospect
	for _, c := range choices {
		if c[0] >= len(row) {
			return nil, fmt.Errorf("a choice is token %d, the model has %d tokens", c[0], len(row))
		}
		l := float64(row[c[0]])
		out = append(out, prospect{l, l - sum, c[0] == argmax})
	}
	return out, nil
}

// logSumExp returns log(sum(exp(row))) and the index of the largest value, the first of equals.
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
