package model

import (
	"context"
	"errors"
	"fmt"
	"math"

	"pumice/pipeline"
)

// allLogitsBytes bounds the logits that one run of AllLogits leaves on the device.
const allLogitsBytes = 16 << 20

// ErrContextFull is a run that does not fit the KV cache.
var ErrContextFull = errors.New("the context is full")

// A TokenError is a token id that the model does not have.
type TokenError struct {
	Index, ID, VocabSize int
}

func (e *TokenError) Error() string {
	return fmt.Sprintf("model: token %d is %d, the vocabulary has ids 0 to %d", e.Index, e.ID, e.VocabSize-1)
}

// A NotFiniteError is a logit that is no number: the weights have a NaN or an infinity, or what is computed with them
// exceeds float32. No token is chosen, and no logits are returned.
type NotFiniteError struct {
	Position int     // cache position of the token after which it is
	ID       int     // the token that it is of
	Value    float32 // +Inf for a NaN that the device looked at
}

func (e *NotFiniteError) Error() string {
	return fmt.Sprintf("model: the logit of token %d after position %d is %v: the model's output is not finite", e.ID, e.Position, e.Value)
}

func finite(v float32) bool { return !math.IsNaN(float64(v)) && !math.IsInf(float64(v), 0) }

// checkFinite looks at the logits after a position.
func checkFinite(logits []float32, position int) error {
	for id, v := range logits {
		if !finite(v) {
			return &NotFiniteError{position, id, v}
		}
	}
	return nil
}

type planKey struct {
	tokens int
	want   Want
}

func (x *Model) allLogitsRun() int {
	return max(1, min(x.opts.Chunk, allLogitsBytes/(4*x.cfg.VocabSize)))
}

// allArgmaxRun bounds the rows of logits that a run of AllArgmax has in device memory.
func (x *Model) allArgmaxRun() int { return min(x.opts.Chunk, MaxDraft+1) }

// MaxDraft is how many guessed tokens are worth evaluating at once to see which are right.
const MaxDraft = 31

func (x *Model) builder(k planKey) *pipeline.Builder {
	b := x.m.NewBuilder(fmt.Sprintf("plan of %d tokens for %s", k.tokens, k.want), k.tokens)
	if x.opts.Taps {
		b.EnableTaps()
	}
	decode(b, x.cfg, x.weights, x.cache, k.want)
	return b
}

func (x *Model) plan(ctx context.Context, k planKey) (*pipeline.Plan, error) {
	if p, ok := x.plans[k]; ok {
		return p, nil
	}
	p, err := x.builder(k).Build(ctx)
	if err != nil {
		return nil, fmt.Errorf("model: %w", err)
	}
	x.plans[k] = p
	return p, nil
}

// Plan returns the plan that the last position of a run of n tokens goes through, recorded if
// it was not yet: what profiles and taps are read from.
func (x *Model) Plan(ctx context.Context, n int, want Want) (*pipeline.Plan, error) {
	return x.plan(ctx, planKey{x.rung(n, want), want})
}

// Profile is the device time by kernel of the last run, of several queued tokens that of the last
// one. The Manager must have been made with Options.Profile.
func (x *Model) Profile() ([]pipeline.Timing, error) {
	if x.last == nil {
		return nil, errors.New("model: a profile before anything has run")
	}
	return x.last.Profile()
}

// rung is the length of the plan for a run of n tokens.
func (x *Model) rung(n int, want Want) int {
	if want == AllLogits {
		return x.allLogitsRun()
	}
	most := x.ladder[len(x.ladder)-1]
	if want == AllArgmax {
		most = x.allArgmaxRun()
	}
	for _, r := range x.ladder {
		if n <= r {
			return min(r, most)
		}
	}
	return most
}

// Output is what a run leaves.
type Output struct {
	Choices  []Choice  // with Argmax or Candidates one of the last position, or of each run of Decode; with AllArgmax of every position
	Logits   []float32 // with Logits (vocab), AllLogits (tokens, vocab) or Hidden (tokens, hidden size), of sequences (sequences, vocab); valid until the next run
	Counters pipeline.Counters
}

// Forward evaluates tokens at cache positions position, position+1, ..., writing their keys
// and values; positions before must hold what came before. Long runs go in pieces, between
// which ctx is looked at; what is under way when it ends is given up after half a second. After an
// error any of the run's positions may have been written. Errors: ErrContextFull, *TokenError,
// those of the device.
func (x *Model) Forward(ctx context.Context, tokens []int, position int, want Want) (Output, error) {
	var out Output
	if err := x.checkRun(tokens, position); err != nil {
		return out, err
	}
	if want.everyRow() && want != AllArgmax {
		x.logits = resize(x.logits, len(tokens)*x.rowSize(want))
		out.Logits = x.logits
	}
	for done := 0; done < len(tokens); {
		if err := ctx.Err(); err != nil {
			return out, err
		}
		n := min(len(tokens)-done, x.rung(len(tokens)-done, want))
		now := want
		if done+n < len(tokens) && !want.everyRow() {
			now = Nothing
		}
		step := pipeline.Step{Position: position + done, Tokens: tokens[done : done+n]}
		if now == Candidates && x.rung(n, now) == 1 {
			step.Draw = &pipeline.Draw{Temperature: 1, TopK: 1, TopP: 1, Uniform: make([]float32, 1)} // the caller chooses
		}
		if err := x.run(ctx, step, now, done, &out); err != nil {
			return out, err
		}
		done += n
	}
	return out, nil
}

// run evaluates a run, the first token of which is number done, and adds what it leaves to out.
func (x *Model) run(ctx context.Context, s pipeline.Step, want Want, done int, out *Output) error {
	n := len(s.Tokens)
	p, err := x.Plan(ctx, n, want)
	if err != nil {
		return err
	}
	var hidden int64
	if !x.weights.span.begins() {
		size := x.cfg.HiddenSize
		if hidden, err = p.Input(ctx, x.hidden[done*size:(done+n)*size]); err != nil {
			return err
		}
	}
	x.last = p
	c, err := p.Run(ctx, s)
	if err != nil {
		return err
	}
	c.HostToDeviceBytes += hidden
	rows := n
	if want == SequenceLogits {
		rows = len(s.Lengths)
	}
	if c.DeviceToHostBytes, err = x.read(p, s, want, done, rows, out); err != nil {
		return err
	}
	out.Counters.Add(c)
	return nil
}

// checkRun finds what is wrong with a run before anything is evaluated.
func (x *Model) checkRun(tokens []int, position int) error {
	if len(tokens) == 0 {
		return errors.New("model: no tokens to evaluate")
	}
	for i, id := range tokens {
		if id < 0 || id >= x.cfg.VocabSize {
			return &TokenError{Index: i, ID: id, VocabSize: x.cfg.VocabSize}
		}
	}
	if position < 0 || position+len(tokens) > x.opts.Context {
		return fmt.Errorf("model: %d tokens at position %d of a context of %d: %w", len(tokens), position, x.opts.Context, ErrContextFull)
	}
	return nil
}

// Sequences is how many sequences ForwardSequences takes at once, and how many tokens they may have together.
func (x *Model) Sequences() (n, tokens int) { return maxSequences(x.opts.Chunk), x.opts.Chunk }

// ForwardSequences evaluates several sequences at once, each of which goes on from what the cache holds before position as if it
// were the only one, and leaves the logits at the end of each. Together they take the positions from there on, whose keys and
// values are of no use afterwards. Errors are those of Forward.
func (x *Model) ForwardSequences(ctx context.Context, sequences [][]int, position int) (Output, error) {
	s, err := x.sequences(sequences, position)
	if err != nil {
		return Output{}, err
	}
	return x.runSequences(ctx, s, SequenceLogits)
}

func (x *Model) runSequences(ctx context.Context, s pipeline.Step, want Want) (out Output, err error) {
	if want.everyRow() {
		x.logits = resize(x.logits, len(s.Tokens)*x.rowSize(want))
		out.Logits = x.logits
	}
	err = x.run(ctx, s, want, 0, &out)
	return out, err
}

// sequences puts sequences into one run, unless something is wrong with them.
func (x *Model) sequences(sequences [][]int, position int) (s pipeline.Step, err error) {
	s.Position = position
	for i, q := range sequences {
		if len(q) == 0 {
			return s, fmt.Errorf("model: sequence %d has no tokens", i)
		}
		s.Tokens, s.Lengths = append(s.Tokens, q...), append(s.Lengths, len(q))
	}
	if err := x.checkRun(s.Tokens, position); err != nil {
		return s, err
	}
	if n, most := x.Sequences(); len(sequences) > n || len(s.Tokens) > most {
		return s, fmt.Errorf("model: %d sequences of %d tokens together; at most %d of %d are possible", len(sequences), len(s.Tokens), n, most)
	}
	return s, nil
}

// A Choice is the token that a device chose after some position. The caller may choose another one of the candidates.
type Choice struct {
	ID     int       // with Candidates of Decode: what Draw says, in float32
	Margin float32   // with AllArgmax: by which the largest logit exceeds the second
	IDs    []int     // with Candidates: of the largest logits, largest first
	Logits []float32 // and these
}

// MaxRuns is how many tokens Decode can be asked for: the device goes on by itself where the embedding and the head are on it.
func (x *Model) MaxRuns() int {
	if !x.weights.span.begins() || x.opts.Taps {
		return 1
	}
	return pipeline.MaxRuns
}

// Decode evaluates token at position, and after it runs - 1 tokens that the device chooses and the host hears of at the end. want is
// Argmax, or Candidates, which draw says how to choose from. Errors are those of Forward.
func (x *Model) Decode(ctx context.Context, token, position, runs int, want Want, draw *pipeline.Draw) (Output, error) {
	var out Output
	tokens := []int{token}
	if err := x.checkRun(tokens, position); err != nil {
		return out, err
	}
	if runs < 1 || runs > x.MaxRuns() || position+runs > x.opts.Context {
		return out, fmt.Errorf("model: %d tokens in one go at position %d of a context of %d; at most %d are possible: %w", runs, position, x.opts.Context, x.MaxRuns(), ErrContextFull)
	}
	p, err := x.Plan(ctx, 1, want)
	if err != nil {
		return out, err
	}
	x.last = p
	if out.Counters, err = p.Run(ctx, pipeline.Step{Position: position, Tokens: tokens, Runs: runs, Draw: draw}); err != nil {
		return out, err
	}
	for run := range runs {
		n, err := x.chosen(p, run, position+run, want, &out)
		if err != nil {
			return out, err
		}
		out.Counters.DeviceToHostBytes += n
	}
	return out, nil
}

// chosen adds the choice of a run of a plan that advances, whose token is at position.
func (x *Model) chosen(p *pipeline.Plan, run, position int, want Want, out *Output) (int64, error) {
	k := 1
	if want == Candidates {
		k = pipeline.DrawCandidates
	}
	logits, ids := make([]float32, k), make([]int, k)
	bytes, err := p.Candidates(run, logits, ids)
	if err != nil {
		return 0, err
	}
	if want == Candidates {
		bytes += 8 // the choice
	}
	return bytes, x.choice(p.Chosen(run), position, logits, ids, want, out)
}

// choice adds the choice after a position, or says why there is none. Pairs beyond the vocabulary are left out.
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

// read fetches n rows that a run has left, the first token of which is number done. Logits that are not finite are an error.
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
			k = pipeline.DrawCandidates
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

// readLogits fetches a row of logits for each of the positions that they are after.
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
