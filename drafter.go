package pumice

import (
	"context"
	"fmt"

	"pumice/model"
	"pumice/pipeline"
	"pumice/sample"
)

// A Drafter guesses the tokens of an answer, so that several can be evaluated at once (speculative decoding). The
// answer is as likely as without it: greedy decoding gives the same tokens, and sampling draws from the same
// distribution.
type Drafter interface {
	// Draft guesses up to n tokens, at least one, that follow tokens; the text is to be sampled with p. Each guess says
	// which distribution it was drawn from, or nothing if it was not drawn. Guesses may be fewer than n, or none, but
	// their number must not depend on how they were drawn: leaving out guesses that turn out unlikely would change the
	// distribution of the answer. They are valid until the next call, and tokens belongs to the caller.
	//
	// An error ends the guessing, not the answer: Stats.DraftError has its text.
	Draft(ctx context.Context, tokens []int, n int, p sample.Params) ([]sample.Guess, error)
}

// A VocabularyError says that a model can't guess tokens for another one because their vocabularies differ.
type VocabularyError struct {
	Draft, Target string // paths of the models

	// ID is the first token whose text differs, or -1 if the numbers of tokens differ.
	ID                    int
	DraftText, TargetText string
	DraftSize, TargetSize int
}

func (e *VocabularyError) Error() string {
	what := fmt.Sprintf("%d tokens and %d", e.DraftSize, e.TargetSize)
	if e.ID >= 0 {
		what = fmt.Sprintf("token %d is %q and %q", e.ID, e.DraftText, e.TargetText)
	}
	return fmt.Sprintf("pumice: %s can't guess tokens for %s: their vocabularies differ: %s", e.Draft, e.Target, what)
}

// sharedVocabulary returns how many ids mean the same token to both models. Tokenizers must be equal; beyond their
// tokens, embeddings may have rows of padding.
func sharedVocabulary(target, draft *Engine) (int, error) {
	e := &VocabularyError{Draft: draft.model.source.Path, Target: target.model.source.Path, ID: -1, DraftSize: draft.vocab, TargetSize: target.vocab}
	a, b := draft.text.tokenizer, target.text.tokenizer
	if a == nil || b == nil {
		if e.DraftSize != e.TargetSize {
			return 0, e
		}
		return e.TargetSize, nil
	}
	if e.DraftSize, e.TargetSize = a.VocabSize(), b.VocabSize(); e.DraftSize != e.TargetSize {
		return 0, e
	}
	for id := range e.TargetSize {
		if e.DraftText, e.TargetText = a.Piece(id), b.Piece(id); e.DraftText != e.TargetText {
			e.ID = id
			return 0, e
		}
	}
	return min(draft.vocab, target.vocab), nil
}

// An EngineDrafter guesses tokens with a smaller model of the same vocabulary. It has a KV cache of its own, in which it
// evaluates the text from where that differs from the one before. Only one goroutine at a time may use it.
type EngineDrafter struct {
	session *Session
	vocab   int // ids below mean the same token to both models
	sampler *sample.Sampler
	tokens  []int // the text and the guesses
	guesses []sample.Guess
	from    [][]sample.Choice // memory of the guesses' distributions
}

// NewEngineDrafter returns a Drafter that guesses with draft the tokens of target. The engines remain the caller's, who
// closes draft after the last use of the Drafter. If the models' vocabularies differ, the error is a *VocabularyError.
func NewEngineDrafter(target, draft *Engine) (*EngineDrafter, error) {
	n, err := sharedVocabulary(target, draft)
	if err != nil {
		return nil, err
	}
	return &EngineDrafter{session: draft.NewSession(), vocab: n}, nil
}

// Draft implements Drafter. Where the text is sampled, guesses are drawn with the same parameters.
func (d *EngineDrafter) Draft(ctx context.Context, tokens []int, n int, p sample.Params) ([]sample.Guess, error) {
	if d.sampler == nil || d.sampler.Params() != p {
		d.sampler = sample.New(p)
	}
	if err := d.session.use(); err != nil {
		return nil, err
	}
	defer func() { d.session.free(d.tokens) }()
	d.tokens, d.guesses = append(d.tokens[:0], tokens...), d.guesses[:0]
	n = min(n, d.session.engine.context-len(tokens)+1)
	for len(d.guesses) < n {
		before := len(d.guesses)
		_, _, err := d.session.evaluate(ctx, d.tokens, evaluation{
			tail: d.tail(p), from: len(d.tokens) - 1, steps: n - before,
			draw: func(n int) *pipeline.Draw {
				return newDraw(p, n, func(i int) float64 { return sample.Uniform(p.Seed, len(d.tokens)+i) })
			},
			use: func(out model.Output, _ []int) error { return d.choose(out, p) },
		})
		if err != nil {
			return nil, err
		}
		if len(d.guesses) == before { // a token that only this model has
			break
		}
	}
	return d.guesses, nil
}

// tail returns what choosing a guess needs. On a GPU, sampled tokens are drawn there and confirmed here, in bursts.
func (d *EngineDrafter) tail(p sample.Params) model.Tail {
	switch {
	case p.Greedy():
		return model.Tail{Rows: model.LastRows, Top: 1}
	case p.Decides(pipeline.TopLogits) && d.session.engine.gpu():
		return model.Tail{Rows: model.LastRows, Top: pipeline.TopLogits}
	}
	return model.Tail{Rows: model.LastRows, Logits: true}
}

// choose adds the guesses that an evaluation determines.
func (d *EngineDrafter) choose(out model.Output, p sample.Params) error {
	if len(out.Choices) == 0 {
		_, err := d.draw(nil, out.Logits[:min(len(out.Logits), d.vocab)], p)
		return err
	}
	for _, c := range out.Choices {
		switch {
		case p.Greedy() && c.ID >= d.vocab:
			return nil
		case p.Greedy():
			d.add(sample.Guess{ID: c.ID})
		default:
			ids, logits := c.IDs[:0:0], c.Logits[:0:0]
			for j, id := range c.IDs {
				if id < d.vocab {
					ids, logits = append(ids, id), append(logits, c.Logits[j])
				}
			}
			if len(ids) == 0 {
				return nil
			}
			if id, err := d.draw(ids, logits, p); err != nil || id != c.ID {
				return err
			}
		}
	}
	return nil
}

// draw adds a guess that is drawn as the text's tokens will be, with a random number for its position.
func (d *EngineDrafter) draw(ids []int, logits []float32, p sample.Params) (id int, err error) {
	n := len(d.guesses)
	if n == len(d.from) {
		d.from = append(d.from, nil)
	}
	if ids == nil {
		d.from[n], err = d.sampler.Distribution(d.from[n][:0], logits, d.tokens)
	} else {
		d.from[n], err = d.sampler.CandidateDistribution(d.from[n][:0], ids, logits, d.tokens)
	}
	if err != nil {
		return 0, err
	}
	g := sample.Guess{ID: sample.Draw(d.from[n], sample.Uniform(p.Seed, len(d.tokens))), From: d.from[n]}
	if len(g.From) == 1 {
		g.From = nil
	}
	d.add(g)
	return g.ID, nil
}

func (d *EngineDrafter) add(g sample.Guess) {
	d.tokens, d.guesses = append(d.tokens, g.ID), append(d.guesses, g)
}
