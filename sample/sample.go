// Package sample chooses the next token from a model's logits.
//
// Params configure the choice, and a Sampler holds the random state and the scratch memory. The steps and their order
// are those of Hugging Face's generate: penalties on the logits, then temperature, top-k, top-p and min-p, then one
// draw. Verify decides about a token that was guessed before its logits were known, by rejection sampling. The package
// knows nothing of text, models or devices, and keeps no history: the caller passes it.
package sample

import (
	"fmt"
	"math"
	"math/rand/v2"
)

// Params configure how a token is chosen. The zero value is greedy decoding without penalties.
//
// Steps are applied in the order of the fields from RepeatPenalty to MinP:
//
//	RepeatPenalty     l < 0 ? l*r : l/r, once for each distinct token of the history   (Keskar et al. 2019, arXiv:1909.05858, sec. 4.1)
//	FrequencyPenalty  l - f*count                                                     (OpenAI API reference, completions)
//	PresencePenalty   l - p if count > 0                                              (the same)
//	Temperature       l / T; 0 takes the largest logit, the lowest id of equal ones, and skips the next steps
//	TopK              keep the k largest
//	TopP              keep the fewest largest whose probabilities reach p             (Holtzman et al. 2020, arXiv:1904.09751, sec. 3.1)
//	MinP              keep those with probability >= m times the largest              (Nguyen et al. 2024, arXiv:2407.01082, sec. 3)
//
// TopP sees probabilities that are renormalised over the tokens that TopK keeps. The most probable token is always
// kept. Of equal logits the lower id comes first everywhere, so TopK keeps exactly k (Hugging Face keeps every token
// equal to the last).
type Params struct {
	RepeatPenalty    float32 // above 1 discourages repetition; 0 and 1 turn it off
	FrequencyPenalty float32 // -2 to 2; 0 turns it off
	PresencePenalty  float32 // -2 to 2; 0 turns it off
	RepeatLastN      int     // number of last tokens of the history that the penalties consider; 0 stands for all

	Temperature float32 // 0 is greedy
	TopK        int     // 0 turns it off
	TopP        float32 // 0 and 1 turn it off
	MinP        float32 // 0 turns it off

	Seed uint64 // the same seed, parameters and logits give the same tokens
}

// Default returns the parameters used if neither the user nor the checkpoint sets any: temperature 0.8, top-k 40, top-p
// 0.95, min-p 0.05, no penalties, the whole history. These are llama.cpp's, so that both programs can be compared
// without flags.
func Default() Params {
	return Params{RepeatPenalty: 1, Temperature: 0.8, TopK: 40, TopP: 0.95, MinP: 0.05}
}

// A ParamError says which field of Params is out of its range.
type ParamError struct {
	Field string // its name, as "TopK"
	Value float64
	Want  string
}

func (e *ParamError) Error() string {
	return fmt.Sprintf("sample: %s %g: want %s", e.Field, e.Value, e.Want)
}

// Validate returns a *ParamError for the first parameter that is not finite or out of its range.
func (p Params) Validate() error {
	check := func(field string, v, lo, hi float64, want string) error {
		if !(v >= lo && v <= hi) { // also NaN
			return &ParamError{Field: field, Value: v, Want: want}
		}
		return nil
	}
	for _, err := range []error{
		check("Temperature", float64(p.Temperature), 0, math.MaxFloat32, "0 (greedy) or a finite number above"),
		check("TopK", float64(p.TopK), 0, math.MaxInt32, "0 (off) or a count"),
		check("TopP", float64(p.TopP), 0, 1, "0 to 1"),
		check("MinP", float64(p.MinP), 0, 1, "0 to 1"),
		check("RepeatPenalty", float64(p.RepeatPenalty), 0, math.MaxFloat32, "1 (off) or a finite number above 0"),
		check("PresencePenalty", float64(p.PresencePenalty), -2, 2, "-2 to 2"),
		check("FrequencyPenalty", float64(p.FrequencyPenalty), -2, 2, "-2 to 2"),
		check("RepeatLastN", float64(p.RepeatLastN), 0, math.MaxInt32, "0 (whole history) or a count"),
	} {
		if err != nil {
			return err
		}
	}
	return nil
}

// Greedy reports whether the token is always that of the largest unmodified logit, so that a device need only find this
// one.
func (p Params) Greedy() bool { return p.Temperature == 0 && !p.Penalised() }

// Decides reports whether the token is always one of those with the n largest unmodified logits, so that a device need
// only find these.
func (p Params) Decides(n int) bool {
	return p.TopK > 0 && p.TopK <= n && p.Temperature > 0 && !p.Penalised()
}

// Unpenalised is p without penalties.
func (p Params) Unpenalised() Params {
	p.RepeatPenalty, p.FrequencyPenalty, p.PresencePenalty = 0, 0, 0
	return p
}

// Penalised reports whether a penalty is on.
func (p Params) Penalised() bool {
	return (p.RepeatPenalty != 0 && p.RepeatPenalty != 1) || p.PresencePenalty != 0 || p.FrequencyPenalty != 0
}

// A LogitError reports a logit that is NaN or +Inf, or, with ID -1, that no logit is above -Inf.
type LogitError struct {
	ID    int
	Value float32
}

func (e *LogitError) Error() string {
	if e.ID < 0 {
		return "sample: no logit is above -Inf"
	}
	return fmt.Sprintf("sample: logit of token %d is %g", e.ID, e.Value)
}

// A HistoryError reports a token id of the history that is negative or, if the logits of the whole vocabulary are
// given, beyond it.
type HistoryError struct{ ID, Vocab int }

func (e *HistoryError) Error() string {
	return fmt.Sprintf("sample: token %d in the history: the vocabulary has %d tokens", e.ID, e.Vocab)
}

// maxID bounds the ids of candidates and history, and so the size of the counts.
const maxID = 1 << 26

// A Sampler draws tokens. Only one goroutine at a time may use it. Its scratch memory grows to the vocabulary's size on
// the first call and is kept; later calls allocate nothing.
type Sampler struct {
	p      Params
	err    error // the error of Validate
	random *rand.PCG
	kept   []candidate // candidates that the filters keep, with probabilities not normalised
	counts []int32     // by token id: occurrences in the window; all zero between calls

	guessed []float64 // by token id: the probability with which Verify's token was guessed; all zero between calls
}

type candidate struct {
	id    int
	logit float32 // after penalties
	p     float64 // exp((logit-max)/T)
}

// before reports whether c comes before d: larger logits come first, and lower ids among equals.
func (c candidate) before(d candidate) bool {
	return c.logit > d.logit || (c.logit == d.logit && c.id < d.id)
}

// New returns a Sampler. If Validate refuses the parameters, every call that chooses a token returns its error.
func New(p Params) *Sampler {
	return &Sampler{p: p, err: p.Validate(), random: rand.NewPCG(p.Seed, 0x70756d696365)}
}

// Params returns the parameters that the Sampler was made with.
func (s *Sampler) Params() Params { return s.p }

// Sample chooses a token. logits has one entry for each token of the vocabulary and is not changed; -Inf forbids a
// token. history holds all tokens that the penalties may consider, prompt included, oldest first.
func (s *Sampler) Sample(logits []float32, history []int) (int, error) {
	if s.err == nil && s.p.Greedy() {
		return argmax(logits)
	}
	if err := s.distribution(nil, logits, history); err != nil {
		return 0, err
	}
	return s.draw(), nil
}

// SampleCandidates is Sample over some tokens only, such as the 64 with the largest logits that a device returns:
// logits[i] belongs to token ids[i]. It chooses the token that Sample would choose from all logits if the candidates
// include every token that the filters keep.
func (s *Sampler) SampleCandidates(ids []int, logits []float32, history []int) (int, error) {
	if ids == nil {
		ids = []int{}
	}
	if err := checkCandidates(ids, logits); err != nil {
		return 0, err
	}
	if err := s.distribution(ids, logits, history); err != nil {
		return 0, err
	}
	return s.draw(), nil
}

// checkCandidates checks the ids of candidates. They may be nil: logits[i] belongs to token i.
func checkCandidates(ids []int, logits []float32) error {
	if ids != nil && len(ids) != len(logits) {
		return fmt.Errorf("sample: %d candidates with %d logits", len(ids), len(logits))
	}
	for _, id := range ids {
		if id < 0 || id >= maxID {
			return fmt.Errorf("sample: candidate token %d out of range", id)
		}
	}
	return nil
}

// Preview appends to dst the n random numbers in [0, 1) with which the next n tokens will be drawn: each takes one,
// whatever the logits.
func (s *Sampler) Preview(dst []float64, n int) []float64 {
	ahead := *s.random
	for range n {
		dst = append(dst, uniform(&ahead))
	}
	return dst
}

func uniform(r *rand.PCG) float64 { return float64(r.Uint64()>>11) / (1 << 53) }

// A Choice is a token and its probability.
type Choice struct {
	ID          int
	Probability float64
}

// Distribution appends to dst the distribution that Sample would draw from: the tokens that the filters keep and their
// probabilities, which sum to 1. The most probable comes first if a filter is on; else they are in the order of ids.
// The random state does not change.
func (s *Sampler) Distribution(dst []Choice, logits []float32, history []int) ([]Choice, error) {
	if err := s.distribution(nil, logits, history); err != nil {
		return dst, err
	}
	return s.choices(dst), nil
}

// choices appends s.kept to dst, normalised.
func (s *Sampler) choices(dst []Choice) []Choice {
	total := s.total()
	for _, c := range s.kept {
		dst = append(dst, Choice{ID: c.id, Probability: c.p / total})
	}
	return dst
}

func argmax(logits []float32) (int, error) {
	best, at := float32(math.Inf(-1)), -1
	for id, l := range logits {
		if bad(l) {
			return 0, &LogitError{ID: id, Value: l}
		}
		if l > best {
			best, at = l, id
		}
	}
	if at < 0 {
		return 0, &LogitError{ID: -1}
	}
	return at, nil
}

// Adjust changes a row of logits before a token is chosen, in place. bias is added to the logits of its tokens, where -Inf
// forbids a token. With a mask, tokens whose bit is not set are forbidden: token i has bit i%32 of mask[i/32]. Logits that
// are not finite stay as they are, unless the mask forbids them, so that a broken model shows.
func Adjust(logits []float32, bias map[int]float32, mask []uint32) {
	for id, b := range bias {
		if l := logits[id]; l-l == 0 {
			logits[id] = min(l+b, math.MaxFloat32)
		}
	}
	if mask == nil {
		return
	}
	for id := range logits {
		if mask[id/32]>>(id%32)&1 == 0 {
			logits[id] = float32(math.Inf(-1))
		}
	}
}

func bad(l float32) bool { return l != l || l > math.MaxFloat32 }

// distribution sets s.kept to the tokens that the filters keep. ids nil means that logits[i] belongs to token i.
func (s *Sampler) distribution(ids []int, logits []float32, history []int) error {
	if err := s.collect(ids, logits, history); err != nil {
		return err
	}
	s.filter()
	return nil
}

// collect sets s.kept to the tokens with their logits after penalties, before any filter.
func (s *Sampler) collect(ids []int, logits []float32, history []int) error {
	if s.err != nil {
		return s.err
	}
	if cap(s.kept) < len(logits) {
		s.kept = make([]candidate, 0, len(logits))
	}
	window, err := s.count(ids, len(logits), history)
	if err != nil {
		return err
	}
	err = s.gather(ids, logits)
	for _, id := range window {
		s.counts[id] = 0
	}
	return err
}

// count fills s.counts from the history's window and returns the window, or nil if no penalty is on.
func (s *Sampler) count(ids []int, n int, history []int) ([]int, error) {
	if !s.p.Penalised() {
		return nil, nil
	}
	window := history
	if last := s.p.RepeatLastN; last > 0 && last < len(window) {
		window = window[len(window)-last:]
	}
	size := n
	for _, id := range ids {
		size = max(size, id+1)
	}
	for _, id := range window {
		if id < 0 || id >= maxID || (ids == nil && id >= n) {
			return nil, &HistoryError{ID: id, Vocab: n}
		}
		size = max(size, id+1)
	}
	if len(s.counts) < size {
		s.counts = make([]int32, size)
	}
	for _, id := range window {
		s.counts[id]++
	}
	return window, nil
}

// gather sets s.kept to every token above -Inf and applies the penalties.
func (s *Sampler) gather(ids []int, logits []float32) error {
	kept := s.kept[:0]
	penalised := s.p.Penalised()
	for i, l := range logits {
		id := i
		if ids != nil {
			id = ids[i]
		}
		if bad(l) {
			return &LogitError{ID: id, Value: l}
		}
		if penalised {
			if n := s.counts[id]; n > 0 {
				l = s.p.penalise(l, n)
				if l > math.MaxFloat32 {
					l = math.MaxFloat32
				}
			}
		}
		if l < -math.MaxFloat32 {
			continue
		}
		kept = append(kept, candidate{id: id, logit: l})
	}
	s.kept = kept
	if len(kept) == 0 {
		return &LogitError{ID: -1}
	}
	return nil
}

func (p Params) penalise(l float32, count int32) float32 {
	if r := p.RepeatPenalty; r != 0 {
		if l < 0 {
			l *= r
		} else {
			l /= r
		}
	}
	return l - float32(count)*p.FrequencyPenalty - p.PresencePenalty
}

// filter applies temperature, top-k, top-p and min-p to s.kept.
func (s *Sampler) filter() {
	if s.p.Temperature == 0 {
		best := s.kept[0]
		for _, c := range s.kept[1:] {
			if c.before(best) {
				best = c
			}
		}
		best.p = 1
		s.kept = append(s.kept[:0], best)
		return
	}
	sorted := false
	if k := s.p.TopK; k > 0 {
		s.kept = topK(s.kept, k)
		sorted = true
	}
	largest := s.kept[0].logit
	for _, c := range s.kept {
		largest = max(largest, c.logit)
	}
	total := 0.0
	for i := range s.kept {
		c := &s.kept[i]
		c.p = math.Exp((float64(c.logit) - float64(largest)) / float64(s.p.Temperature))
		total += c.p
	}
	if p := float64(s.p.TopP); p > 0 && p < 1 {
		s.kept = topP(s.kept, p*total, sorted)
		sorted = true
	}
	if m := float64(s.p.MinP); m > 0 {
		if !sorted {
			s.kept = aboveMinP(s.kept, m)
			sortBest(s.kept)
			return
		}
		n := 1 // the largest has p = 1 >= m
		for n < len(s.kept) && s.kept[n].p >= m {
			n++
		}
		s.kept = s.kept[:n]
	}
}

func aboveMinP(kept []candidate, m float64) []candidate {
	out := kept[:0]
	for _, c := range kept {
		if c.p >= m {
			out = append(out, c)
		}
	}
	return out
}

func (s *Sampler) total() float64 {
	total := 0.0
	for _, c := range s.kept {
		total += c.p
	}
	return total
}

// draw draws one token of s.kept by probability, with one 53-bit random number.
func (s *Sampler) draw() int {
	r := uniform(s.random) * s.total()
	for _, c := range s.kept {
		r -= c.p
		if r < 0 {
			return c.id
		}
	}
	// Rounding left r at or just above 0: take the last token that can be drawn.
	for i := len(s.kept) - 1; i > 0; i-- {
		if s.kept[i].p > 0 {
			return s.kept[i].id
		}
	}
	return s.kept[0].id
}
