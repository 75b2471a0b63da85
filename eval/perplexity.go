package eval

import (
	"context"
	"fmt"
	"math"

	"pumice"
	"pumice/tokenizer"
)

// PerplexityOptions say which windows of a text are evaluated, with the meaning that they have in llama-perplexity
// (llama.cpp). The zero value is its default.
type PerplexityOptions struct {
	Context int // tokens of a window; 0 stands for 512
	Stride  int // distance of windows; with 0 windows are adjacent, and the second half of each counts
	Chunks  int // largest number of windows; 0 sets no limit

	BOS int // token that replaces a window's first one; -1 for none. It is not used with a stride.

	Base    *BaseWriter // receives the log-probabilities
	Compare *BaseReader // log-probabilities to compare with; its tokens are evaluated instead of the caller's

	// Progress is called after each window with the result so far and the number of windows; it may be nil.
	Progress func(PerplexityResult, int)
}

// A PerplexityResult has a model's perplexity on a text, and its divergence from another model.
type PerplexityResult struct {
	Tokens     int         `json:"tokens"` // predicted tokens
	Chunks     int         `json:"chunks"`
	Context    int         `json:"context"`
	Stride     int         `json:"stride,omitempty"`
	NLL        float64     `json:"nll"` // mean negative log-likelihood
	Perplexity float64     `json:"perplexity"`
	Error      float64     `json:"perplexity_stderr"`
	KL         *Divergence `json:"kl,omitempty"`
}

// A Divergence compares the next-token distributions of a model with those of a base.
type Divergence struct {
	BasePerplexity float64 `json:"base_perplexity"`
	Ratio          float64 `json:"perplexity_ratio"` // the model's over the base's
	Mean           float64 `json:"kl_mean"`          // of KL(base || model), in nats
	Error          float64 `json:"kl_stderr"`
	Greatest       float64 `json:"kl_greatest"`
	SameTop        float64 `json:"same_top"`         // share of positions with the same likeliest token
	ProbRMS        float64 `json:"probability_rms"`  // RMS difference of the right token's probability
	ProbGreatest   float64 `json:"probability_most"` // greatest such difference
}

// A ShortTextError says that a text is too short for the windows.
type ShortTextError struct{ Tokens, Need int }

func (e *ShortTextError) Error() string {
	return fmt.Sprintf("eval: the text has %d tokens, these windows need %d", e.Tokens, e.Need)
}

// PerplexityTokens tokenizes a text as llama-perplexity does: it adds the tokens that the tokenizer puts before a
// text, and takes the spelling of special tokens as plain text. bos is the value for PerplexityOptions.BOS.
func PerplexityTokens(tok *tokenizer.Tokenizer, text string) (ids []int, bos int, err error) {
	e := newEncoder(tok)
	ids, err = e.prompt(text, nil)
	if b, ok := tok.BOS(); ok && len(e.first) == 1 && e.first[0] == b {
		return ids, b, err
	}
	return ids, -1, err
}

// window is a sequence of tokens that are evaluated together, and the rows of logits in it that count.
type window struct {
	start, first, last int // rows first to last-1 count; each predicts the token after it
}

// windows divides n tokens into windows.
func (o *PerplexityOptions) windows(n int) ([]window, error) {
	if o.Context == 0 {
		o.Context = 512
	}
	length := o.Context
	if o.Context < 4 || o.Stride < 0 || o.Chunks < 0 {
		return nil, fmt.Errorf("eval: windows of %d tokens with stride %d: want at least 4, and no negative stride", o.Context, o.Stride)
	}
	if n < 2*length && o.Compare == nil { // a base may have a single window
		return nil, &ShortTextError{n, 2 * length}
	}
	if o.Stride >= length {
		return nil, fmt.Errorf("eval: stride %d: want less than the %d tokens of a window", o.Stride, length)
	}
	count := n / length
	if o.Stride > 0 {
		count = (n - length + o.Stride - 1) / o.Stride
	}
	if o.Chunks > 0 {
		count = min(count, o.Chunks)
	}
	var out []window
	for i := range count {
		w := window{start: i * length, first: length / 2, last: length - 1}
		if o.Stride > 0 {
			w = window{start: i * o.Stride, first: length - o.Stride - 1, last: length - 1}
		}
		out = append(out, w)
	}
	return out, nil
}

// Perplexity evaluates ids in windows, each from an empty cache. A window must fit into the engine's context.
func Perplexity(ctx context.Context, engine *pumice.Engine, ids []int, o PerplexityOptions) (PerplexityResult, error) {
	s := engine.NewSession()
	s.Alone = true
	defer s.Close()
	return perplexity(ctx, s, ids, o)
}

func perplexity(ctx context.Context, s prober, ids []int, o PerplexityOptions) (PerplexityResult, error) {
	if o.Compare != nil {
		if o.Stride != 0 || o.Context != 0 && o.Context != o.Compare.Context {
			return PerplexityResult{}, fmt.Errorf("eval: the base has adjacent windows of %d tokens", o.Compare.Context)
		}
		ids, o.Context = o.Compare.Tokens, o.Compare.Context
	}
	if o.Base != nil && o.Stride != 0 {
		return PerplexityResult{}, fmt.Errorf("eval: a base has adjacent windows, without a stride")
	}
	windows, err := o.windows(len(ids))
	if err != nil {
		return PerplexityResult{}, err
	}
	m := &measure{o: o}
	if o.Base != nil {
		if err := o.Base.begin(o.Context, len(windows), ids); err != nil {
			return PerplexityResult{}, err
		}
	}
	for i, w := range windows {
		if err := m.window(ctx, s, ids, w); err != nil {
			return PerplexityResult{}, err
		}
		if o.Progress != nil {
			o.Progress(m.result(i+1), len(windows))
		}
	}
	return m.result(len(windows)), nil
}

// prober has the methods of a *pumice.Session that a perplexity needs.
type prober interface {
	forward
	LogProbs(ctx context.Context, tokens []int, top int) ([]pumice.LogProb, error)
}

// measure accumulates sums over rows.
type measure struct {
	o          PerplexityOptions
	count      int
	nll, nll2  float64
	baseNLL    float64
	kl, kl2    float64
	worst      float64
	diff2, far float64
	same       int
}

func (m *measure) window(ctx context.Context, s prober, all []int, w window) error {
	length := m.o.Context
	ids := append([]int(nil), all[w.start:w.start+length]...)
	if m.o.BOS >= 0 && m.o.Stride == 0 {
		ids[0] = m.o.BOS
	}
	if m.o.Base == nil && m.o.Compare == nil { // nobody needs whole rows
		probs, err := s.LogProbs(ctx, ids, 0)
		if err != nil {
			return fmt.Errorf("eval: the window that begins with token %d: %w", w.start, err)
		}
		for _, p := range probs[w.first:w.last] {
			m.add(-p.LogProb)
		}
		return nil
	}
	at := 0
	for row, err := range s.Logits(ctx, ids, true) {
		if err != nil {
			return err
		}
		if at >= w.first && at < w.last {
			if err := m.row(row, all[w.start+at+1]); err != nil {
				return fmt.Errorf("eval: token %d: %w", w.start+at, err)
			}
		}
		at++
	}
	return nil
}

// add adds a token's negative log-likelihood.
func (m *measure) add(nll float64) {
	m.count++
	m.nll += nll
	m.nll2 += nll * nll
}

// row adds the logits that predict token.
func (m *measure) row(row []float32, token int) error {
	sum, argmax, err := logSumExp(row)
	if err != nil {
		return err
	}
	nll := sum - float64(row[token])
	m.add(nll)
	if m.o.Base != nil {
		if err := m.o.Base.row(row, sum); err != nil {
			return err
		}
	}
	if m.o.Compare == nil {
		return nil
	}
	base, err := m.o.Compare.row(len(row))
	if err != nil {
		return err
	}
	kl, top := 0.0, 0
	for i, logP := range base {
		if logP > base[top] {
			top = i
		}
		if logP > -baseRange {
			p := math.Exp(float64(logP))
			kl += p * (float64(logP) - float64(row[i]) + sum)
		}
	}
	m.kl += kl
	m.kl2 += kl * kl
	m.worst = max(m.worst, kl)
	if top == argmax {
		m.same++
	}
	m.baseNLL -= float64(base[token])
	d := math.Exp(-nll) - math.Exp(float64(base[token]))
	m.diff2 += d * d
	m.far = max(m.far, math.Abs(d))
	return nil
}

func (m *measure) result(chunks int) PerplexityResult {
	n := float64(m.count)
	r := PerplexityResult{Tokens: m.count, Chunks: chunks, Context: m.o.Context, Stride: m.o.Stride, NLL: m.nll / n}
	r.Perplexity = math.Exp(r.NLL)
	r.Error = stderrOf(m.nll, m.nll2, n) * r.Perplexity
	if m.o.Compare != nil {
		r.KL = &Divergence{
			BasePerplexity: math.Exp(m.baseNLL / n), Ratio: math.Exp((m.nll - m.baseNLL) / n), Mean: m.kl / n, Error: stderrOf(m.kl, m.kl2, n),
			Greatest: m.worst, SameTop: float64(m.same) / n, ProbRMS: math.Sqrt(m.diff2 / n), ProbGreatest: m.far,
		}
	}
	return r
}

// stderrOf returns the standard error of the mean of n values with the given sum and sum of squares.
func stderrOf(sum, sum2, n float64) float64 {
	v := sum2/n - sum/n*(sum/n)
	if !(v > 0) || n < 2 {
		return 0
	}
	return math.Sqrt(v / (n - 1))
}
