package pumice

import (
	"errors"
	"fmt"
	"math"
	"slices"

	"pumice/pipeline"
	"pumice/sample"
)

// A Constraint says which tokens may follow a text, such as those of a grammar. A Generation calls its methods in turn.
type Constraint interface {
	// Mask sets the bits of the tokens that may come next and clears all others: token i has bit i%32 of mask[i/32]. Where
	// the text may end, end tokens are among them. At least one token is.
	Mask(mask []uint32) error

	// Accept takes note of the token that was chosen.
	Accept(id int) error
}

// A Forcer is a Constraint that knows tokens which must follow. They need no draw, and are evaluated together.
type Forcer interface {
	Constraint

	// Forced returns tokens that must come next, as far as it can tell without a choice. It changes nothing: Accept is called
	// with each of them.
	Forced() ([]int, error)
}

// ErrNothingAllowed says that a Constraint allows no token.
var ErrNothingAllowed = errors.New("pumice: the constraint allows no token")

// An adjustment is what changes the logits of a Generation before a token is chosen. A device that chooses among few of them
// is told of it; otherwise the host changes all logits as package sample does.
type adjustment struct {
	bias       map[int]float32
	constraint Constraint
	params     sample.Params

	mask []uint32        // of the constraint, for the next token
	row  pipeline.Adjust // what the device is told: the biases, and the tokens of the window
	at   map[int]int     // by token id, its place in row.Tokens

	first, end int // the window of the text that row counts, which penalties consider
}

func newAdjustment(o GenerateOptions, vocab int) (a adjustment, err error) {
	a = adjustment{bias: o.LogitBias, constraint: o.Constraint, params: o.Sampling}
	for id, b := range o.LogitBias {
		if id < 0 || id >= vocab {
			return a, &OptionError{"LogitBias", fmt.Sprint(id), fmt.Sprintf("tokens 0 to %d", vocab-1)}
		}
		if !(b <= math.MaxFloat32) {
			return a, &OptionError{"LogitBias", fmt.Sprint(b), "a finite number, or -Inf to forbid the token"}
		}
	}
	if a.constraint != nil {
		a.mask = make([]uint32, (vocab+31)/32)
	}
	return a, nil
}

// on reports whether logits are changed at all.
func (a *adjustment) on() bool {
	return len(a.bias) > 0 || a.constraint != nil || a.params.Penalised()
}

// next asks the constraint which tokens may come next.
func (a *adjustment) next() error {
	if a.constraint == nil {
		return nil
	}
	if err := a.constraint.Mask(a.mask); err != nil {
		return err
	}
	if !slices.ContainsFunc(a.mask, func(word uint32) bool { return word != 0 }) {
		return ErrNothingAllowed
	}
	return nil
}

// accept tells the constraint which token was chosen.
func (a *adjustment) accept(id int) error {
	if a.constraint == nil {
		return nil
	}
	return a.constraint.Accept(id)
}

// forced returns tokens that must come next. What a bias forbids is left to the draw, which fails.
func (a *adjustment) forced() ([]int, error) {
	f, ok := a.constraint.(Forcer)
	if !ok {
		return nil, nil
	}
	ids, err := f.Forced()
	if i := slices.IndexFunc(ids, func(id int) bool { return math.IsInf(float64(a.bias[id]), -1) }); i >= 0 {
		ids = ids[:i]
	}
	return ids, err
}

// onHost changes logits by bias and constraint. Sampling adds the penalties.
func (a *adjustment) onHost(logits []float32) { sample.Adjust(logits, a.bias, a.mask) }

// onDevice is what the device is told of the logits after a text, and nil if that is more than it takes. It is valid until the
// next call.
func (a *adjustment) onDevice(text []int) *pipeline.Adjust {
	r, p := &a.row, a.params
	if a.at == nil {
		a.at = map[int]int{}
		for id, b := range a.bias {
			a.place(id).Bias = b
		}
	}
	r.Allowed = a.mask
	if p.Penalised() {
		r.RepeatPenalty, r.FrequencyPenalty, r.PresencePenalty = p.RepeatPenalty, p.FrequencyPenalty, p.PresencePenalty
		for ; a.end < len(text); a.end++ {
			a.place(text[a.end]).Count++
		}
		if n := p.RepeatLastN; n > 0 {
			for ; a.first < len(text)-n; a.first++ {
				a.place(text[a.first]).Count--
			}
		}
	}
	if len(r.Tokens) > pipeline.MaxAdjusted {
		return nil
	}
	return r
}

// place is a token in the list for the device, which it is added to if need be.
func (a *adjustment) place(id int) *pipeline.AdjustedToken {
	i, ok := a.at[id]
	if !ok {
		i = len(a.row.Tokens)
		a.at[id] = i
		a.row.Tokens = append(a.row.Tokens, pipeline.AdjustedToken{ID: id})
	}
	return &a.row.Tokens[i]
}
