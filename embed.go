package pumice

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"

	"pumice/model"
	"pumice/model/pages"
)

// Poolings lists the Poolings.
func Poolings() []Pooling { return []Pooling{PoolingLast, PoolingMean, PoolingCLS} }

func poolingNames() string {
	var names []string
	for _, p := range Poolings() {
		names = append(names, string(p))
	}
	return strings.Join(names, ", ")
}

// A Normalization says what is done to the length of an embedding.
type Normalization string

const (
	NormalizeL2   Normalization = "l2"   // it becomes 1
	NormalizeNone Normalization = "none" // it stays
)

// EmbedOptions configure Embed. The zero value makes embeddings as the model's authors do.
type EmbedOptions struct {
	// Pooling "" is what the model's files say: modules.json and the configuration of its Pooling module, as
	// sentence-transformers writes them, or GGUF's pooling_type. Where they say nothing it is PoolingLast, and PoolingMean
	// of an encoder.
	Pooling Pooling
	// Normalization "" is NormalizeL2, or NormalizeNone if the model has a modules.json without a Normalize module.
	Normalization Normalization
	// Dimensions is how many of the first components are kept, before normalization, of a model that was trained for that
	// (Kusupati et al. 2022, arXiv:2205.13147); 0 keeps all.
	Dimensions int

	Progress func(done, total int) // called after each evaluation with the number of texts that have embeddings; may be nil
}

// Embeddings are the result of Embed.
type Embeddings struct {
	Vectors    [][]float32 // one for each text, in order
	Tokens     []int       // tokens of each text, with those that the tokenizer adds
	Pooling    Pooling     // that was used
	Normalized bool
	Counters   Counters // submissions, dispatches and bytes that the evaluations took
}

// A TextError is an error about one of several texts.
type TextError struct {
	Index int // of the text
	Err   error
}

func (e *TextError) Error() string {
	return fmt.Sprintf("pumice: text %d: %s", e.Index, strings.TrimPrefix(e.Err.Error(), "pumice: "))
}

func (e *TextError) Unwrap() error { return e.Err }

// Embed returns the embeddings of texts. A text is encoded as Encode does: the tokenizer adds its special tokens, such as
// the end token that Qwen3-Embedding pools, and special tokens that the text spells out are parsed. Texts are evaluated
// together, as many as a chunk holds, and a text's embedding depends on the others only by rounding. Nothing is cut off.
//
// Errors about a text are *TextError, with ErrEmptyPrompt for an empty one to which the tokenizer adds nothing, and
// *PromptError for one that the context can't hold.
func (e *Engine) Embed(ctx context.Context, texts []string, o EmbedOptions) (Embeddings, error) {
	tokens := make([][]int, len(texts))
	for i, text := range texts {
		if err := ctx.Err(); err != nil {
			return Embeddings{}, err
		}
		var err error
		if tokens[i], err = e.Encode(text); err != nil {
			if e.text.tokenizer != nil {
				err = &TextError{i, err}
			}
			return Embeddings{}, err
		}
	}
	return e.EmbedTokens(ctx, tokens, o)
}

// EmbedTokens is Embed for texts given as token ids, to which nothing is added. It needs no tokenizer.
func (e *Engine) EmbedTokens(ctx context.Context, texts [][]int, o EmbedOptions) (Embeddings, error) {
	how, err := e.embedding(o)
	if err != nil {
		return Embeddings{}, err
	}
	if len(texts) == 0 {
		return Embeddings{}, errors.New("pumice: no texts to embed")
	}
	out := Embeddings{Pooling: how.Pooling, Normalized: how.Normalization == NormalizeL2}
	for i, text := range texts {
		if err := e.checkPrompt(text); err != nil {
			return Embeddings{}, &TextError{i, err}
		}
		out.Tokens = append(out.Tokens, len(text))
	}
	for len(out.Vectors) < len(texts) {
		if err := e.embedSome(ctx, texts, how, &out); err != nil {
			return Embeddings{}, err
		}
		if o.Progress != nil {
			o.Progress(len(out.Vectors), len(texts))
		}
	}
	return out, nil
}

// embedding is o with the model's own choices filled in.
func (e *Engine) embedding(o EmbedOptions) (EmbedOptions, error) {
	if o.Pooling == "" {
		if e.model.embedErr != nil {
			return o, e.model.embedErr
		}
		if o.Pooling = cmp.Or(e.model.embed.Pooling, PoolingLast); e.encoder {
			o.Pooling = cmp.Or(e.model.embed.Pooling, PoolingMean)
		}
	}
	if o.Normalization == "" {
		o.Normalization = NormalizeNone
		if e.model.embed.Normalized {
			o.Normalization = NormalizeL2
		}
	}
	switch o.Pooling {
	case PoolingLast, PoolingMean, PoolingCLS:
	default:
		return o, &OptionError{"Pooling", string(o.Pooling), "one of " + poolingNames()}
	}
	if o.Normalization != NormalizeL2 && o.Normalization != NormalizeNone {
		return o, &OptionError{"Normalization", string(o.Normalization), fmt.Sprintf("%q or %q", NormalizeL2, NormalizeNone)}
	}
	if o.Dimensions < 0 || o.Dimensions > e.hidden {
		return o, &OptionError{"Dimensions", fmt.Sprint(o.Dimensions), fmt.Sprintf("0 (all) or 1 to %d", e.hidden)}
	}
	if o.Dimensions == 0 {
		o.Dimensions = e.hidden
	}
	return o, nil
}

// poolingTail is what an evaluation leaves for the pooling.
func (e *Engine) poolingTail(p Pooling) model.Tail {
	if p == PoolingMean || p == PoolingCLS && e.encoder {
		return model.Tail{Rows: model.EveryRow, Hidden: true}
	}
	return model.Tail{Rows: model.LastRows, Hidden: true}
}

// pooledTokens are the tokens of a text that the pooling needs. No decoder lets the first token see those after it.
func (e *Engine) pooledTokens(p Pooling, text []int) []int {
	if p == PoolingCLS && !e.encoder {
		return text[:1]
	}
	return text
}

// embedSome adds the vectors of the next texts: as many as can be evaluated together, or one.
func (e *Engine) embedSome(ctx context.Context, texts [][]int, how EmbedOptions, out *Embeddings) error {
	first := len(out.Vectors)
	most, room := e.work.model.MaxTails()
	room = min(room, e.context)
	var batch [][]int
	for _, text := range texts[first:] {
		text = e.pooledTokens(how.Pooling, text)
		if room -= len(text); len(batch) == most || room < 0 {
			break
		}
		batch = append(batch, text)
	}
	tail := e.poolingTail(how.Pooling)
	if len(batch) < 2 && !e.encoder {
		p := pool{index: first}
		if err := e.embedOne(ctx, e.pooledTokens(how.Pooling, texts[first]), tail, &p, out); err != nil {
			return err
		}
		return p.finish(how, out)
	}
	var rows []float32
	err := e.work.alone(ctx, nil, func(ctx context.Context) error {
		m := e.work.model
		q, err := m.Pages().Acquire(ctx, nil, 0, pages.Batched)
		if err != nil {
			return err
		}
		defer q.Release()
		result, err := m.Score(ctx, q, batch, tail)
		rows = slices.Clone(result.Hidden)
		out.Counters.Add(result.Counters)
		return err
	})
	if err != nil {
		return err
	}
	for i, text := range batch {
		p, n := pool{index: first + i}, e.hidden
		if tail.Rows == model.EveryRow {
			n *= len(text)
		}
		pooled := rows[:n]
		if how.Pooling == PoolingCLS {
			pooled = rows[:e.hidden]
		}
		p.add(pooled, e.hidden)
		rows = rows[n:]
		if err := p.finish(how, out); err != nil {
			return err
		}
	}
	return nil
}

// embedOne evaluates a text by itself. Rows of every token come a chunk at a time.
func (e *Engine) embedOne(ctx context.Context, text []int, t model.Tail, p *pool, out *Embeddings) error {
	s := e.NewSession()
	defer s.free(text)
	s.Reset() // the cache may hold the tokens, but not their rows
	step := len(text)
	if t.Rows == model.EveryRow {
		step = PromptChunk
	}
	for at := 0; at < len(text); at += step {
		end := min(at+step, len(text))
		from := at
		if t.Rows == model.LastRows {
			from = end - 1
		}
		_, counters, err := s.evaluate(ctx, text[:end], evaluation{tail: t, from: from, use: func(o model.Output, _ []int) error {
			p.add(o.Hidden, e.hidden)
			return nil
		}})
		if err != nil {
			return err
		}
		out.Counters.Add(counters)
	}
	return nil
}

// A pool is the mean of the rows of a text that its pooling takes.
type pool struct {
	index int // of the text
	sum   []float64
	rows  int
}

// add adds rows of so many components.
func (p *pool) add(rows []float32, size int) {
	if p.sum == nil {
		p.sum = make([]float64, size)
	}
	for ; len(rows) > 0; rows = rows[size:] {
		for i, v := range rows[:size] {
			p.sum[i] += float64(v)
		}
		p.rows++
	}
}

// finish adds the vector to out. Like torch's, its normalization divides by at least 1e-12.
func (p *pool) finish(how EmbedOptions, out *Embeddings) error {
	length := 0.0
	for i := range p.sum {
		p.sum[i] /= float64(p.rows)
		if v := p.sum[i]; math.IsNaN(v) || math.IsInf(v, 0) {
			return &TextError{p.index, fmt.Errorf("component %d of the embedding is %v: the model's output is not finite", i, v)}
		}
		if i < how.Dimensions {
			length += p.sum[i] * p.sum[i]
		}
	}
	scale := 1.0
	if how.Normalization == NormalizeL2 {
		scale = max(math.Sqrt(length), 1e-12)
	}
	vector := make([]float32, how.Dimensions)
	for i := range vector {
		vector[i] = float32(p.sum[i] / scale)
	}
	out.Vectors = append(out.Vectors, vector)
	return nil
}
