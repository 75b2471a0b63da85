package bench

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"

	"pumice"
)

// The text of a stamp: so many of its tokens are evaluated, and so many are then generated.
const (
	stampPrompt = 96
	stampTokens = 32
)

// klLimit is the divergence in nats from which on answers are wrong. Float16 rounding and a Q8_0 cache stay below a tenth of it;
// a kernel that is wrong in the least exceeds it by far.
const klLimit = 0.1

// A Stamp says whether the model's answers were right on the device, with the kernels that its rows were measured with.
type Stamp struct {
	Stamped         bool     `json:"stamped"`                 // false: nobody asked, and the rest says nothing
	KernelsUsed     int      `json:"kernels_used"`            // that the model runs
	KernelsVerified int      `json:"kernels_verified"`        // of these, those that were right in every case against a float64 reference, on this device and driver
	KernelNames     []string `json:"kernel_names,omitempty"`  // of those used, as shaders/variants.txt has them
	KernelsWrong    []string `json:"kernels_wrong,omitempty"` // of these, those with wrong results
	KLBase          float64  `json:"kl_base"`                 // mean divergence in nats of the next token's probabilities from those of base kernels with an F32 cache
	KLPositions     int      `json:"kl_positions"`            // of a text, over which that is the mean

	KLExact          *float64 `json:"kl_exact,omitempty"`           // the same from exact probabilities: computed in float64 on the host from the weights in the file
	KLExactPositions int      `json:"kl_exact_positions,omitempty"` // of the same text, the first ones

	TokensEqual    int  `json:"tokens_equal"` // greedy tokens after the text that base kernels choose too, up to the first other one
	TokensCompared int  `json:"tokens_compared"`
	Struck         bool `json:"struck"` // a kernel is wrong or a divergence is above 0.1: the row does not count
}

// A Reference is what base kernels, the plainest ones, answer to a text.
type Reference struct {
	text     []int
	logProbs [][]float32 // of every token of the vocabulary, after each token of the text
	tokens   []int       // the greedy continuation
	exact    [][]float32 // logProbs of the text's first tokens in float64 on the host, from the weights in the file; may be nil
	model    string      // Engine.Fingerprint
}

// ReferenceOptions are the options of the Engine that NewReference takes, for a model whose rows are measured with o.
func ReferenceOptions(o pumice.Options) pumice.Options {
	o.KernelPath, o.KVType, o.Profile = "base", "f32", false
	o.Context = min(cmp.Or(o.Context, math.MaxInt), stampPrompt+stampTokens)
	o.KVMemory, o.KVHost, o.KVDisk = 0, 0, 0
	o.Logger = pumice.Options{}.Logger // what there is to say of the model is said when it is loaded to be measured
	return o
}

// NewReference has an Engine of ReferenceOptions answer the beginning of BuiltInText, or, of a model without a tokenizer, tokens
// at random.
func NewReference(ctx context.Context, e *pumice.Engine) (*Reference, error) {
	text := ""
	if e.Tokenizer() != nil {
		text = BuiltInText
	}
	tokens, err := tokenize(e, text)
	if err != nil {
		return nil, err
	}
	n := min(stampPrompt, max(1, e.Context()*stampPrompt/(stampPrompt+stampTokens)))
	if len(tokens) == 0 {
		tokens = randomTokens(newRand(0), n, e.Config().VocabSize)
	}
	r := &Reference{text: tokens[:min(n, len(tokens))], model: e.Fingerprint()}
	if r.logProbs, r.tokens, err = r.answer(ctx, e); err != nil {
		return nil, fmt.Errorf("bench: the answers of base kernels: %w", err)
	}
	return r, nil
}

// answer evaluates the text and continues it greedily.
func (r *Reference) answer(ctx context.Context, e *pumice.Engine) (logProbs [][]float32, tokens []int, err error) {
	s := e.NewSession()
	defer s.Close()
	for row, err := range s.Logits(ctx, r.text, true) {
		if err != nil {
			return nil, nil, err
		}
		logProbs = append(logProbs, logSoftmax(row))
	}
	n := min(stampTokens, e.Context()-len(r.text))
	if n <= 0 {
		return logProbs, nil, nil
	}
	s.Reset()
	result, _, err := generate(ctx, s, r.text, n)
	return logProbs, result.Tokens, err
}

// logSoftmax turns logits into logarithms of probabilities.
func logSoftmax[F float32 | float64](logits []F) []float32 {
	largest, sum := float64(slices.Max(logits)), 0.0
	for _, x := range logits {
		sum += math.Exp(float64(x) - largest)
	}
	sum = largest + math.Log(sum)
	out := make([]float32, len(logits))
	for i, x := range logits {
		out[i] = float32(float64(x) - sum)
	}
	return out
}

// divergence is KL(base || other) in nats. Each term is p (log p - log q) + q - p, which adds nothing over all tokens and is never
// negative, so that errors of rounding in two equal distributions count with their squares.
func divergence(base, other []float32) (kl float64) {
	for i, p := range base {
		if x := float64(p) - float64(other[i]); math.IsInf(float64(p), -1) { // a token that can't come
			kl += math.Exp(float64(other[i]))
		} else {
			kl += math.Exp(float64(p)) * (math.Expm1(-x) + x)
		}
	}
	return kl
}

// meanDivergence is the mean over positions; MaxFloat64 stands for what is not a number, which JSON has not.
func meanDivergence(base, other [][]float32) (kl float64) {
	for i, p := range base {
		kl += divergence(p, other[i]) / float64(len(base))
	}
	if math.IsNaN(kl) || math.IsInf(kl, 0) {
		return math.MaxFloat64
	}
	return kl
}

// compare fills in how the engine's answers compare with the reference's. A large divergence from exact probabilities strikes the
// row unless converted says that the weights are not those in the file.
func (r *Reference) compare(ctx context.Context, e *pumice.Engine, converted bool, s *Stamp) error {
	logProbs, tokens, err := r.answer(ctx, e)
	if err != nil {
		return fmt.Errorf("bench: comparing answers with those of base kernels: %w", err)
	}
	s.KLBase, s.KLPositions = meanDivergence(r.logProbs, logProbs), len(r.logProbs)
	s.Struck = s.KLBase > klLimit
	if len(r.exact) > 0 {
		kl := meanDivergence(r.exact, logProbs)
		s.KLExact, s.KLExactPositions = &kl, len(r.exact)
		s.Struck = s.Struck || kl > klLimit && !converted
	}
	s.TokensCompared = min(len(tokens), len(r.tokens))
	for s.TokensEqual < s.TokensCompared && tokens[s.TokensEqual] == r.tokens[s.TokensEqual] {
		s.TokensEqual++
	}
	return nil
}

// verify compares the kernels that the engine has used with the float64 reference, on a device of its own beside the engine's.
// Kernels that were right before, with the same driver, need no comparison.
func (s *Stamp) verify(ctx context.Context, e *pumice.Engine, o Stamping) error {
	s.KernelNames = e.Kernels().Used
	s.KernelsUsed = len(s.KernelNames)
	var types []string
	for _, t := range e.Memory().WeightTypes {
		types = append(types, strings.ToLower(t.Type))
	}
	unverified := map[string]bool{}
	for _, on := range e.Devices() {
		names, err := s.verifyOn(ctx, on.Info().UUID, types, o)
		if err != nil {
			return fmt.Errorf("bench: comparing the kernels with the float64 reference: %w", err)
		}
		for _, name := range names {
			unverified[name] = true
		}
	}
	s.KernelsVerified = s.KernelsUsed - len(unverified)
	s.Struck = s.Struck || len(s.KernelsWrong) > 0
	return nil
}

// verifyOn returns the kernels that were not right in every case on a device. types are those of the weights.
func (s *Stamp) verifyOn(ctx context.Context, uuid string, types []string, o Stamping) (_ []string, err error) {
	with := *o.Verify
	with.Device, with.Devices, with.On = uuid, nil, nil
	d, err := pumice.OpenDevice(with)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, d.Close()) }()
	if left := d.Unverified(s.KernelNames); len(left) > 0 {
		if o.Verifying != nil {
			o.Verifying()
		}
		err := d.Verify(ctx, pumice.VerifyOptions{Kernels: left, Types: types, Brief: true}, func(r pumice.VerifyResult) {
			if !r.OK && !slices.Contains(s.KernelsWrong, r.Kernel) {
				s.KernelsWrong = append(s.KernelsWrong, r.Kernel)
			}
		})
		if err != nil {
			return nil, err
		}
	}
	return d.Unverified(s.KernelNames), nil
}

// stamp compares answers and kernels.
func stamp(ctx context.Context, e *pumice.Engine, o Stamping) (s Stamp, err error) {
	s.Stamped = true
	if o.Reference != nil {
		if err := o.Reference.compare(ctx, e, o.Verify.DType != "" && o.Verify.DType != "keep", &s); err != nil {
			return s, err
		}
	}
	return s, s.verify(ctx, e, o)
}

// cell is how many kernels were right, of how many.
func (s Stamp) cell() string {
	switch {
	case !s.Stamped:
		return "-"
	case s.Struck:
		return "WRONG"
	}
	return fmt.Sprintf("%d/%d", s.KernelsVerified, s.KernelsUsed)
}

// line explains the stamp in a line; it is empty without one.
func (s Stamp) line() string {
	if !s.Stamped {
		return ""
	}
	text := fmt.Sprintf("kernels right against float64: %d of %d", s.KernelsVerified, s.KernelsUsed)
	if len(s.KernelsWrong) > 0 {
		text += ", wrong: " + strings.Join(s.KernelsWrong, ", ")
	}
	if s.KLPositions > 0 {
		text += fmt.Sprintf("; KL divergence from base kernels: %.2g over %d tokens; greedy tokens as base kernels choose: %d of %d",
			s.KLBase, s.KLPositions, s.TokensEqual, s.TokensCompared)
	}
	if s.KLExact != nil {
		text += fmt.Sprintf("; from exact probabilities: %.2g over %d", *s.KLExact, s.KLExactPositions)
	}
	if s.Struck {
		text = "WRONG: rows are struck out. " + text
	}
	return text + "\n"
}
