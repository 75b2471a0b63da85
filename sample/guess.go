package sample

import (
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
)

// A Guess is a token that was proposed before the logits that decide about it were known.
type Guess struct {
	ID   int
	From []Choice // the distribution that ID was drawn from; nil if ID is all that could have been proposed
}

// Validate reports a guess that Verify cannot decide about: its token or its distribution is not of a vocabulary of so
// many tokens, or the distribution is none, or gives the token no probability.
func (g Guess) Validate(vocab int) error {
	if g.ID < 0 || g.ID >= vocab {
		return fmt.Errorf("sample: guessed token %d: the vocabulary has %d tokens", g.ID, vocab)
	}
	if g.From == nil {
		return nil
	}
	total, own := 0.0, 0.0
	for _, c := range g.From {
		if c.ID < 0 || c.ID >= vocab || !(c.Probability >= 0) {
			return fmt.Errorf("sample: guessed token %d was drawn from token %d with probability %g: the vocabulary has %d tokens", g.ID, c.ID, c.Probability, vocab)
		}
		total += c.Probability
		if c.ID == g.ID {
			own += c.Probability
		}
	}
	const rounding = 1e-6
	switch {
	case !(math.Abs(total-1) <= rounding):
		return fmt.Errorf("sample: guessed token %d was drawn from probabilities that sum to %g", g.ID, total)
	case own == 0:
		return fmt.Errorf("sample: guessed token %d was drawn with probability 0", g.ID)
	}
	return nil
}

// Verify chooses a token for which there is a guess. Its distribution is that of Sample, or with ids that of
// SampleCandidates, whatever the guess is; the guess makes itself likelier to be chosen. The guess was right if it is
// returned.
//
// A guess that was drawn from probabilities q is accepted with probability min(1, p/q), where p is what the filters
// give it; else the token is drawn from max(0, p - q), normalised (Leviathan et al. 2023, arXiv:2211.17192, sec. 2.3;
// Chen et al. 2023, arXiv:2302.01318, theorem 1). A guess that was not drawn has q = 1. Then a draw from p that takes
// the guess with probability p does the same, so that Verify returns what Sample would return: with one seed the tokens
// do not depend on such guesses. Either way Verify uses one random number, as Sample does.
func (s *Sampler) Verify(g Guess, ids []int, logits []float32, history []int) (int, error) {
	if g.From == nil || s.p.Temperature == 0 {
		if ids == nil {
			return s.Sample(logits, history)
		}
		return s.SampleCandidates(ids, logits, history)
	}
	if err := checkCandidates(ids, logits); err != nil {
		return 0, err
	}
	if err := s.distribution(ids, logits, history); err != nil {
		return 0, err
	}
	for _, c := range g.From {
		if c.ID < 0 || c.ID >= maxID {
			return 0, fmt.Errorf("sample: guessed token %d was drawn from token %d, out of range", g.ID, c.ID)
		}
		if c.ID >= len(s.guessed) {
			s.guessed = append(s.guessed, make([]float64, c.ID+1-len(s.guessed))...)
		}
		s.guessed[c.ID] += c.Probability
	}
	id, err := s.accept(g.ID)
	for _, c := range g.From {
		s.guessed[c.ID] = 0
	}
	return id, err
}

// guessedAs is the probability with which a token was guessed.
func (s *Sampler) guessedAs(id int) float64 {
	if id >= len(s.guessed) {
		return 0
	}
	return s.guessed[id]
}

// accept returns guess, which was drawn from s.guessed, or another token of s.kept.
func (s *Sampler) accept(guess int) (int, error) {
	if guess < 0 || s.guessedAs(guess) == 0 {
		return 0, fmt.Errorf("sample: guessed token %d was drawn with probability 0", guess)
	}
	total, right := s.total(), 0.0
	for _, c := range s.kept {
		if c.id == guess {
			right = c.p / total / s.guessedAs(guess)
		}
	}
	u := uniform(s.random)
	if u < right {
		return guess, nil
	}
	// Above right, u is as good as a new number: (u-right)/(1-right) has any value in [0, 1) equally likely.
	rest := 0.0
	for _, c := range s.kept {
		rest += max(0, c.p/total-s.guessedAs(c.id))
	}
	r := (u - right) / (1 - right) * rest
	last := guess // p and q are equal but for rounding if there is no rest
	for _, c := range s.kept {
		if d := c.p/total - s.guessedAs(c.id); d > 0 && c.id != guess {
			if last = c.id; r < d {
				break
			}
			r -= d
		}
	}
	return last, nil
}

// Lead returns how far the largest logit after the penalties is above the second largest: whether greedy decoding is
// sure of its token. It is +Inf if there is no second one.
func (s *Sampler) Lead(logits []float32, history []int) (float32, error) {
	if err := s.collect(nil, logits, history); err != nil {
		return 0, err
	}
	first, second := math.Inf(-1), math.Inf(-1)
	for _, c := range s.kept {
		if l := float64(c.logit); l > first {
			first, second = l, first
		} else if l > second {
			second = l
		}
	}
	return float32(first - second), nil
}

// CandidateDistribution is Distribution over some tokens only, as SampleCandidates is Sample.
func (s *Sampler) CandidateDistribution(dst []Choice, ids []int, logits []float32, history []int) ([]Choice, error) {
	if ids == nil {
		return dst, errors.New("sample: no candidates")
	}
	if err := checkCandidates(ids, logits); err != nil {
		return dst, err
	}
	if err := s.distribution(ids, logits, history); err != nil {
		return dst, err
	}
	return s.choices(dst), nil
}

// Draw returns the token of a distribution that u, a random number in [0, 1), takes. The distribution is not empty.
func Draw(from []Choice, u float64) int {
	last := from[0].ID
	for _, c := range from {
		if c.Probability == 0 {
			continue
		}
		if last = c.ID; u < c.Probability {
			break
		}
		u -= c.Probability
	}
	return last
}

// Uniform returns a random number in [0, 1) for the guess at a position of a text. It depends on seed and position
// alone, and is independent of the numbers that a Sampler of that seed draws with.
func Uniform(seed uint64, position int) float64 {
	r := rand.NewPCG(seed, 0x6472616674<<24^uint64(position))
	r.Uint64()
	return uniform(r)
}
