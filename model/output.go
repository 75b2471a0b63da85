package model

import (
	"fmt"
	"math"

	"pumice/pipeline"
)

// Output is the result of evaluating tokens: what the Tail asked for. It is valid until the model evaluates again.
type Output struct {
	Choices []Choice  // with Top or Margin, one for each row; one for each step of Decode
	Logits  []float32 // (rows, vocab)
	Hidden  []float32 // (rows, hidden size); may be NaN or infinite
	Stream  []float32 // (tokens, hidden size)

	LogProbs []LogProb // with Tail.LogProbs, one for each row

	Counters pipeline.Counters // submissions, dispatches and bytes that the evaluation took
}

// Row is what o has of row i of so many.
func (o Output) Row(i, rows int) Output {
	o.Logits, o.Hidden = rowOf(o.Logits, i, rows), rowOf(o.Hidden, i, rows)
	o.Choices, o.LogProbs = rowOf(o.Choices, i, rows), rowOf(o.LogProbs, i, rows)
	return o
}

// rowOf is row i of so many.
func rowOf[T any](list []T, i, rows int) []T {
	n := len(list) / rows
	return list[i*n : (i+1)*n]
}

// CopyTo makes dst a copy of o, in the memory that dst has.
func (o Output) CopyTo(dst *Output) {
	dst.Logits, dst.Hidden = append(dst.Logits[:0], o.Logits...), append(dst.Hidden[:0], o.Hidden...)
	dst.Stream, dst.LogProbs = append(dst.Stream[:0], o.Stream...), append(dst.LogProbs[:0], o.LogProbs...)
	dst.Choices = resize(dst.Choices, len(o.Choices))
	for i, c := range o.Choices {
		d := &dst.Choices[i]
		c.IDs, c.Logits = append(d.IDs[:0], c.IDs...), append(d.Logits[:0], c.Logits...)
		*d = c
	}
	dst.Counters = o.Counters
}

// A Choice is the token that the device chose after a position. The caller may choose another one of IDs.
type Choice struct {
	ID     int       // the token with the largest logit; with a draw of Decode the one that was drawn, in float32
	Margin float32   // with Tail.Margin, the difference of the largest and the second largest logit
	IDs    []int     // the Top tokens with the largest logits, largest first, or all; none if Top is 1 without LogProbs
	Logits []float32 // their logits
}

// A LogProb is what Tail.LogProbs leaves of the logits after a token.
type LogProb struct {
	Next float32 // with EveryRow, the log-probability of the token that follows; 0 if none does in this evaluation
	Sum  float32 // with LastRows or Top, the logarithm of the sum of the exponentials of all logits
}

// A NotFiniteError reports a logit that is NaN or infinite: the weights have such a value, or a result exceeds float32.
// No token is chosen, and no logits are returned.
type NotFiniteError struct {
	Position int     // cache position of the token that the logit follows
	ID       int     // the token that the logit belongs to; -1 if only the device knows that
	Value    float32 // the logit, NaN if ID is -1; +Inf may stand for NaN if the device compared the logits
}

func (e *NotFiniteError) Error() string {
	if e.ID < 0 {
		return fmt.Sprintf("model: a logit after position %d is NaN or infinite: the model's output is not finite", e.Position)
	}
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

// results are the memory of an Output, used again.
type results struct {
	Output
	logits []float32 // of the Choices
	ids    []int
	values []float32 // as they are read
}

// output has room for what a step leaves.
func (g *stage) output(t Tail, s pipeline.Step) (out Output) {
	r, rows := &g.results, t.rows(s)
	if t.Logits {
		r.Logits = resize(r.Logits, rows*g.cfg.VocabSize)
		out.Logits = r.Logits
	}
	if t.Hidden {
		r.Hidden = resize(r.Hidden, rows*g.cfg.HiddenSize)
		out.Hidden = r.Hidden
	}
	if t.Stream {
		r.Stream = resize(r.Stream, s.Len()*g.cfg.HiddenSize)
		out.Stream = r.Stream
	}
	out.Choices, out.LogProbs, r.logits, r.ids = r.Choices[:0], r.LogProbs[:0], r.logits[:0], r.ids[:0]
	return out
}

// candidates is memory for the largest logits of a Choice and their ids.
func (r *results) candidates(n int) (logits []float32, ids []int) {
	r.logits, r.ids = append(r.logits, make([]float32, n)...), append(r.ids, make([]int, n)...)
	end := len(r.ids)
	return r.logits[end-n : end : end], r.ids[end-n : end : end]
}

// read adds the results of a chunk to out; done tokens were evaluated before it. It returns the bytes that crossed from
// the device.
func (g *stage) read(p *pipeline.Plan, k planKey, s pipeline.Step, done int, out *Output) (bytes int64, err error) {
	t := k.tail
	rows, first := t.rows(s), 0
	if t.Rows == EveryRow {
		first = done
	}
	fetch := func(name string, dst []float32, first, n, width int) []float32 {
		dst = dst[first*width : (first+n)*width]
		if err == nil {
			var some int64
			some, err = p.Output(name, 0, n, dst)
			bytes += some
		}
		return dst
	}
	if t.Stream {
		fetch(outStream, out.Stream, done, s.Len(), g.cfg.HiddenSize)
	}
	if t.Hidden {
		fetch(outHidden, out.Hidden, first, rows, g.cfg.HiddenSize)
	}
	if t.Logits {
		logits := fetch(outLogits, out.Logits, first, rows, g.cfg.VocabSize)
		for i := 0; i < rows && err == nil; i++ {
			err = checkFinite(logits[i*g.cfg.VocabSize:][:g.cfg.VocabSize], t.position(s, i))
		}
	}
	if t.LogProbs {
		width := 1
		if t.Rows == EveryRow && t.sums() {
			width = 2
		}
		g.results.values = resize(g.results.values, rows*width)
		values := fetch(outProbs, g.results.values, 0, rows, width)
		for i := 0; i < rows && err == nil; i++ {
			row := values[i*width:][:width]
			if math.IsNaN(float64(row[0])) {
				err = &NotFiniteError{t.position(s, i), -1, row[0]}
			}
			var lp LogProb
			if t.sums() {
				lp.Sum = row[width-1]
			}
			if t.Rows == EveryRow && s.Followed(i) {
				lp.Next = row[0]
			}
			out.LogProbs = append(out.LogProbs, lp)
		}
		g.results.LogProbs = out.LogProbs
	}
	if t.pairs() == 0 || err != nil {
		return bytes, err
	}
	var some int64
	if k.advances() {
		some, err = g.readChosen(p, k, 0, t.position(s, 0), out)
	} else {
		some, err = g.readTop(p, k, s, out)
	}
	return bytes + some, err
}

// readChosen adds the choice of a step of a plan that advances, whose token is at position.
func (g *stage) readChosen(p *pipeline.Plan, k planKey, step, position int, out *Output) (int64, error) {
	logits, ids := g.results.candidates(k.tail.Top)
	id, bytes, err := p.Chosen(step, logits, ids)
	if err != nil {
		return 0, err
	}
	return bytes, g.choice(id, position, logits, ids, k.tail, out)
}

// readTop adds the choices of a step's rows.
func (g *stage) readTop(p *pipeline.Plan, k planKey, s pipeline.Step, out *Output) (int64, error) {
	n, rows := k.tail.pairs(), k.tail.rows(s)
	g.results.values = resize(g.results.values, 2*rows*n)
	pairs := g.results.values
	bytes, err := p.Output(outTop, 0, rows, pairs)
	if err != nil {
		return 0, err
	}
	for row := range rows {
		logits, ids := g.results.candidates(n)
		for i := range n {
			pair := pairs[2*(row*n+i):]
			logits[i], ids[i] = pair[0], int(math.Float32bits(pair[1]))
		}
		if err := g.choice(ids[0], k.tail.position(s, row), logits, ids, k.tail, out); err != nil {
			return 0, err
		}
	}
	return bytes, nil
}

// choice adds the choice after a position, or returns a *NotFiniteError. Pairs beyond the vocabulary are left out.
func (g *stage) choice(id, position int, logits []float32, ids []int, t Tail, out *Output) error {
	if ids[0] >= g.cfg.VocabSize { // no logit is above -Inf
		return &NotFiniteError{position, 0, float32(math.Inf(-1))}
	}
	if !finite(logits[0]) {
		return &NotFiniteError{position, ids[0], logits[0]}
	}
	c := Choice{ID: id}
	if t.Margin {
		c.Margin = logits[0] - logits[1]
	}
	if t.Top > 1 || t.Top == 1 && t.LogProbs {
		n := t.Top
		for ids[n-1] >= g.cfg.VocabSize {
			n--
		}
		c.IDs, c.Logits = ids[:n], logits[:n]
	}
	out.Choices = append(out.Choices, c)
	g.results.Choices = out.Choices
	return nil
}

// resize returns list with n elements: those that it had, some of them before it was cut, and others.
func resize[T any](list []T, n int) []T {
	if cap(list) < n {
		longer := make([]T, n)
		copy(longer, list[:cap(list)])
		return longer
	}
	return list[:n]
}
