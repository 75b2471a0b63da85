package model

import (
	"fmt"
	"math"

	"pumice/pipeline"
)

// Output is the result of evaluating tokens.
type Output struct {
	// Choices has one choice after the last token with Argmax and Candidates, one after every token with AllArgmax, and
	// one for each step of Decode. With another Want it is empty.
	Choices []Choice
	// Logits has the shape (vocab) with Logits, (tokens, vocab) with AllLogits, and (sequences, vocab) with
	// SequenceLogits; with Hidden it is the residual stream (tokens, hidden size). It is valid until the model evaluates
	// again.
	Logits   []float32
	Counters pipeline.Counters // submissions, dispatches and bytes that the evaluation took
}

// A Choice is the token that the device chose after a position. With Candidates the caller may choose another one of
// IDs.
type Choice struct {
	ID     int       // the token with the largest logit; with Candidates of Decode the one that was drawn, in float32
	Margin float32   // with AllArgmax, the difference of the largest and the second largest logit
	IDs    []int     // with Candidates, the tokens with the largest logits, largest first
	Logits []float32 // with Candidates, their logits
}

// A NotFiniteError reports a logit that is NaN or infinite: the weights have such a value, or a result exceeds float32.
// No token is chosen, and no logits are returned.
type NotFiniteError struct {
	Position int     // cache position of the token that the logit follows
	ID       int     // the token that the logit belongs to
	Value    float32 // the logit; +Inf may stand for NaN if the device compared the logits
}

func (e *NotFiniteError) Error() string {
	return fmt.Sprintf("model: the logit of token %d after position %d is %v: the model's output is not finite", e.ID, e.Position, e.Value)
}

func finite(v float32) bool { return !math.IsNaN(float64(v)) && !math.IsInf(float64(v), 0) }

// checkFinite checks the logits after a position.
func checkFinite(logits []float32, position int) error {
	for id, v := range logits {
		if !finite(v) {
			return &NotFiniteError{position, id, v}
		}
	}
	return nil
}

// chosen adds the choice of a step of a plan that advances, whose token is at position.
func (x *Model) chosen(p *pipeline.Plan, step, position int, want Want, out *Output) (int64, error) {
	k := 1
	if want == Candidates {
		k = pipeline.TopLogits
	}
	logits, ids := make([]float32, k), make([]int, k)
	bytes, err := p.Top(step, logits, ids)
	if err != nil {
		return 0, err
	}
	if want == Candidates {
		bytes += 8 // the choice
	}
	return bytes, x.choice(p.Chosen(step), position, logits, ids, want, out)
}

// choice adds the choice after a position, or returns a *NotFiniteError. Pairs beyond the vocabulary are left out.
func (x *Model) choice(id, position int, logits []float32, ids []int, want Want, out *Output) error {
	if ids[0] >= x.cfg.VocabSize { // no logit is above -Inf
		return &NotFiniteError{position, 0, float32(math.Inf(-1))}
	}
	if !finite(logits[0]) {
		return &NotFiniteError{position, ids[0], logits[0]}
	}
	c := Choice{ID: id}
	if want == Candidates {
		n := len(ids)
		for ids[n-1] >= x.cfg.VocabSize {
			n--
		}
		c.IDs, c.Logits = ids[:n], logits[:n]
	}
	if want == AllArgmax {
		c.Margin = logits[0] - logits[1]
	}
	out.Choices = append(out.Choices, c)
	return nil
}

// readTop adds the choices of n rows of k pairs, the first of which is after a position.
func (x *Model) readTop(p *pipeline.Plan, position, n, k int, want Want, out *Output) (int64, error) {
	pairs := make([]float32, 2*n*k)
	bytes, err := p.Output(outTop, 0, n, pairs)
	if err != nil {
		return 0, err
	}
	for ; len(pairs) > 0; pairs, position = pairs[2*k:], position+1 {
		logits, ids := make([]float32, k), make([]int, k)
		for i := range k {
			logits[i], ids[i] = pairs[2*i], int(math.Float32bits(pairs[2*i+1]))
		}
		if err := x.choice(ids[0], position, logits, ids, want, out); err != nil {
			return 0, err
		}
	}
	return bytes, nil
}

// read adds the results of a chunk, n rows, to out; done tokens were evaluated before it.
func (x *Model) read(p *pipeline.Plan, s pipeline.Step, want Want, done, n int, out *Output) (int64, error) {
	last := s.Position + len(s.Tokens) - 1
	v := x.cfg.VocabSize
	switch want {
	case Argmax, Candidates:
		if p.Tokens() == 1 {
			return x.chosen(p, 0, last, want, out)
		}
		k := 1
		if want == Candidates {
			k = pipeline.TopLogits
		}
		return x.readTop(p, last, 1, k, want, out)
	case AllArgmax:
		return x.readTop(p, s.Position, n, 2, want, out)
	case Logits:
		x.logits = resize(x.logits, v)
		out.Logits = x.logits
		return readLogits(p, out.Logits, []int{last})
	case SequenceLogits:
		x.logits = resize(x.logits, n*v)
		out.Logits = x.logits
		ends, end := make([]int, n), s.Position-1
		for i, length := range s.Lengths {
			end += length
			ends[i] = end
		}
		return readLogits(p, out.Logits, ends)
	case AllLogits:
		positions := make([]int, n)
		for i := range positions {
			positions[i] = s.Position + i
		}
		return readLogits(p, out.Logits[done*v:(done+n)*v], positions)
	case Hidden:
		h := x.cfg.HiddenSize
		return p.Output(outHidden, 0, n, out.Logits[done*h:(done+n)*h])
	}
	return 0, nil
}

// readLogits fetches a row of logits for each of the positions that they follow, and checks that they are finite.
func readLogits(p *pipeline.Plan, rows []float32, positions []int) (int64, error) {
	n, err := p.Output(outLogits, 0, len(positions), rows)
	vocab := len(rows) / len(positions)
	for i, position := range positions {
		if err != nil {
			break
		}
		err = checkFinite(rows[i*vocab:(i+1)*vocab], position)
	}
	return n, err
}

// rowSize is the length of a row of Output.Logits.
func (x *Model) rowSize(want Want) int {
	if want == Hidden {
		return x.cfg.HiddenSize
	}
	return x.cfg.VocabSize
}

func resize(f []float32, n int) []float32 {
	if cap(f) < n {
		return make([]float32, n)
	}
	return f[:n]
}
