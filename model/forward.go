package model

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"pumice/model/pages"
	"pumice/pipeline"
)

// ErrEncoder says that an encoder was to be used like a model that generates text.
var ErrEncoder = errors.New("the model is an encoder: it makes embeddings, and has no next token")

// ErrContextFull says that a sequence has no room for the tokens to evaluate.
var ErrContextFull = errors.New("the context is full")

// A TokenError reports a token id that the model does not have.
type TokenError struct {
	Index     int // position in the list of tokens
	ID        int
	VocabSize int
}

func (e *TokenError) Error() string {
	return fmt.Sprintf("model: token %d is %d, the vocabulary has ids 0 to %d", e.Index, e.ID, e.VocabSize-1)
}

// A Span is the tokens of a sequence that Run evaluates, after those that the cache has of it.
type Span struct {
	Sequence *pages.Sequence // of Model.Pages
	Tokens   []int

	Guesses int  // how many of the last tokens are not committed: the caller commits those that turn out right
	Next    *int // of a span by itself, the token after the last one, for Tail.LogProbs with EveryRow; nil: not known

	Adjust *pipeline.Adjust // with Tail.Adjusted, how the row of logits is changed; nil: it isn't

	// Progress, if it is set, is called while a span by itself is evaluated, with how many of its tokens the work so far
	// stands for.
	Progress func(tokens int)
}

// checkGuesses checks that guesses follow a token that is none, and are evaluated with it.
func (s Span) checkGuesses(most int) error {
	if n := s.Guesses; n < 0 || n > 0 && (n >= len(s.Tokens) || len(s.Tokens) > most) {
		return fmt.Errorf("model: %d guesses among %d tokens, of which %d can be evaluated together", n, len(s.Tokens), most)
	}
	return nil
}

// Run evaluates the tokens of spans, and commits them to their sequences, which may be the first to have those.
//
// A span by itself is evaluated in chunks of at most Options.Chunk tokens. ctx is checked before each; when it ends, a chunk
// that the device is working on is abandoned after half a second. After an error the sequence has the chunks before.
//
// Several spans are evaluated in one step, which reads the weights once. Spans of one token come first. With LastRows there
// is a row of results for each span, in order, with EveryRow one for each token. At most MaxSpans spans are possible, and
// MaxTokens together. After an error the sequences are as they were.
//
// Errors are ErrEncoder, ErrContextFull, *TokenError, *NotFiniteError, those of pages.Sequence.Reserve and those of the device, and one
// for a Tail that makes no sense or that the memory plan has no room for.
func (x *Model) Run(ctx context.Context, spans []Span, t Tail) (Output, error) {
	if x.cfg.Encoder {
		return Output{}, fmt.Errorf("model: %w", ErrEncoder)
	}
	if len(spans) != 1 {
		return x.runBatch(ctx, spans, t)
	}
	span := spans[0]
	q, tokens := span.Sequence, span.Tokens
	if err := errors.Join(x.checkTokens(tokens, q.Len()), span.checkGuesses(x.head().maxTokens(t)), t.check()); err != nil {
		return Output{}, err
	}
	out := x.head().output(t, pipeline.Step{Sequences: []pipeline.Sequence{{Tokens: tokens}}})
	for done := 0; done < len(tokens); {
		if err := ctx.Err(); err != nil {
			return out, err
		}
		n := min(len(tokens)-done, x.head().bucket(len(tokens)-done, t))
		now, next := t, span.Next
		if done+n < len(tokens) {
			now, next = t.before(), &tokens[done+n]
		}
		s, err := x.step(ctx, []Span{{Sequence: q, Tokens: tokens[done : done+n]}})
		if err != nil {
			return out, err
		}
		if s.Next = next; now.Adjusted {
			s.Adjust = x.adjust(spans)
		}
		if tell, before := span.Progress, done; tell != nil {
			s.Progress = func(share float64) { tell(before + int(share*float64(n))) }
		}
		if err := x.evaluate(ctx, x.head().key(n, false, now), s, done, &out); err != nil {
			return out, errors.Join(err, giveBack(q))
		}
		done += n
		if err := q.Commit(tokens[done-n : min(done, len(tokens)-span.Guesses)]...); err != nil {
			return out, fmt.Errorf("model: %w", err)
		}
	}
	return out, nil
}

// step reserves pages for the tokens of spans, names them in page tables and describes the step.
func (x *Model) step(ctx context.Context, spans []Span) (s pipeline.Step, err error) {
	x.tables.step++
	s.Sequences = x.sequences[:0]
	if err := x.settle(ctx); err != nil { // a step that was abandoned may still read page tables
		return s, err
	}
	for _, span := range spans {
		table, err := x.reserve(ctx, span.Sequence, len(span.Tokens))
		if err != nil {
			return s, err
		}
		s.Sequences = append(s.Sequences, pipeline.Sequence{Table: table, Position: span.Sequence.Len(), Tokens: span.Tokens})
	}
	x.sequences = s.Sequences
	return s, nil
}

// adjust lists how the rows of logits of spans are changed.
func (x *Model) adjust(spans []Span) []pipeline.Adjust {
	x.adjusts = x.adjusts[:0]
	for _, span := range spans {
		var a pipeline.Adjust
		if span.Adjust != nil {
			a = *span.Adjust
		}
		x.adjusts = append(x.adjusts, a)
	}
	return x.adjusts
}

// settle waits for what was abandoned.
func (x *Model) settle(ctx context.Context) error {
	for _, g := range x.stages {
		if err := g.m.Device().Settle(ctx); err != nil {
			return fmt.Errorf("model: %w", err)
		}
	}
	return nil
}

// giveBack gives up what a sequence has reserved beyond its tokens.
func giveBack(q *pages.Sequence) error {
	_, err := q.Truncate(q.Len())
	return err
}

// evaluate evaluates a chunk by the plan of a key, on one device after another, and adds its results to out, which has those
// of done tokens before it.
func (x *Model) evaluate(ctx context.Context, k planKey, s pipeline.Step, done int, out *Output) error {
	var stream []float32
	tell := s.Progress
	stage := func(i int) func(share float64) {
		if tell == nil {
			return nil
		}
		return func(share float64) { tell((float64(i) + share) / float64(len(x.stages))) }
	}
	for i, g := range x.stages[:len(x.stages)-1] {
		between, s := k.between(), s
		between.capture = g.captureFor(x.capture, between)
		s.Draw, s.Adjust, s.Progress = nil, nil, stage(i)
		part := g.output(between.tail, s)
		err := g.evaluate(ctx, between, s, stream, 0, &part)
		out.Counters.Add(part.Counters)
		if err != nil {
			return err
		}
		stream = part.Stream
	}
	s.Progress = stage(len(x.stages) - 1)
	k.capture = x.head().captureFor(x.capture, k)
	return x.head().evaluate(ctx, k, s, stream, done, out)
}

// checkTokens checks tokens and their positions before anything is evaluated.
func (x *Model) checkTokens(tokens []int, position int) error {
	if len(tokens) == 0 {
		return errors.New("model: no tokens to evaluate")
	}
	for i, id := range tokens {
		if id < 0 || id >= x.cfg.VocabSize {
			return &TokenError{Index: i, ID: id, VocabSize: x.cfg.VocabSize}
		}
	}
	if position+len(tokens) > x.opts.Context {
		return fmt.Errorf("model: %d tokens at position %d of a context of %d: %w", len(tokens), position, x.opts.Context, ErrContextFull)
	}
	return nil
}

// MaxTails returns how many tails Score takes at most, and how many tokens they may have together.
func (x *Model) MaxTails() (n, tokens int) { return maxSequences(x.opts.Chunk), x.opts.Chunk }

// Score evaluates tails, each of which continues the sequence and does not see the others; with LastRows there is a row of
// results for each. The sequence is as it was afterwards. Errors are those of Run. It is how an encoder evaluates texts, with
// an empty sequence.
func (x *Model) Score(ctx context.Context, q *pages.Sequence, tails [][]int, t Tail) (Output, error) {
	tokens := slices.Concat(tails...)
	if err := errors.Join(x.checkTails(q, tails, t), x.checkTokens(tokens, q.Len()), t.check()); err != nil {
		return Output{}, err
	}
	s, err := x.step(ctx, []Span{{Sequence: q, Tokens: tokens}})
	if err != nil {
		return Output{}, err
	}
	for _, tail := range tails {
		s.Sequences[0].Endings = append(s.Sequences[0].Endings, len(tail))
	}
	out := x.head().output(t, s)
	err = x.evaluate(ctx, x.head().key(s.Len(), true, t), s, 0, &out)
	return out, errors.Join(err, giveBack(q))
}

// checkTails checks that tails fit one chunk.
func (x *Model) checkTails(q *pages.Sequence, tails [][]int, t Tail) error {
	if x.cfg.Encoder && (t.head() || q.Len() > 0) {
		return fmt.Errorf("model: %w", ErrEncoder)
	}
	sum := 0
	for i, tail := range tails {
		if len(tail) == 0 {
			return fmt.Errorf("model: sequence %d has no tokens", i)
		}
		sum += len(tail)
	}
	n, most := x.MaxTails()
	if most = min(most, x.head().maxTokens(t)); len(tails) > n || sum > most {
		return fmt.Errorf("model: %d sequences of %d tokens together; at most %d of %d are possible", len(tails), sum, n, most)
	}
	return nil
}

// MaxSteps returns how many tokens one call of Decode can evaluate. It is 1 if no device can choose a token and evaluate it
// without the host: if none has both embedding and head, and with Options.Taps.
func (x *Model) MaxSteps() int {
	if len(x.stages) > 1 || x.opts.Taps {
		return 1
	}
	return pipeline.MaxBurst
}

// Decode evaluates token after those of the sequence and then steps - 1 tokens, each of which the device chooses from the
// logits of the one before. Output.Choices has one choice for each step: with a nil draw the token with the largest logit,
// else pipeline.TopLogits tokens and the one that was drawn from them. A draw has a random number for each step. Only token
// is committed: the caller commits the others. Errors are those of Run.
func (x *Model) Decode(ctx context.Context, q *pages.Sequence, token, steps int, draw *pipeline.Draw) (Output, error) {
	if x.cfg.Encoder {
		return Output{}, fmt.Errorf("model: %w", ErrEncoder)
	}
	t, tokens := decodeTail(draw), append(x.first[:0], token)
	out := x.head().output(t, pipeline.Step{})
	if err := x.checkTokens(tokens, q.Len()); err != nil {
		return out, err
	}
	if steps < 1 || steps > x.MaxSteps() || q.Len()+steps > x.opts.Context {
		return out, fmt.Errorf("model: %d tokens in one go at position %d of a context of %d; at most %d are possible: %w",
			steps, q.Len(), x.opts.Context, x.MaxSteps(), ErrContextFull)
	}
	position := q.Len()
	s, err := x.step(ctx, []Span{{Sequence: q, Tokens: tokens}})
	if err != nil {
		return out, err
	}
	if _, err := x.reserve(ctx, q, steps); err != nil {
		return out, errors.Join(err, giveBack(q))
	}
	s.Burst, s.Draw = steps, draw
	k := x.head().key(1, false, t)
	if err := x.evaluate(ctx, k, s, 0, &out); err != nil {
		return out, errors.Join(err, giveBack(q))
	}
	for step := 1; step < steps; step++ {
		n, err := x.head().readChosen(x.head().last, k, step, position+step, &out)
		if err != nil {
			return out, errors.Join(err, giveBack(q))
		}
		out.Counters.DeviceToHostBytes += n
	}
	if err := q.Commit(token); err != nil {
		return out, fmt.Errorf("model: %w", err)
	}
	return out, nil
}

// decodeTail is what Decode leaves.
func decodeTail(draw *pipeline.Draw) Tail {
	if draw != nil {
		return Tail{Rows: LastRows, Top: pipeline.TopLogits}
	}
	return Tail{Rows: LastRows, Top: 1}
}
