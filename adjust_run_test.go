package pumice

import (
	"errors"
	"fmt"
	"maps"
	"math"
	"path/filepath"
	"slices"
	"testing"

	"pumice/sample"
)

// A modulus is a Constraint: token n of the answer has the remainder n by divisor.
type modulus struct {
	divisor, n, vocab int
	accepted          []int
}

func (m *modulus) Mask(mask []uint32) error {
	clear(mask)
	for id := m.n % m.divisor; id < m.vocab; id += m.divisor {
		mask[id/32] |= 1 << (id % 32)
	}
	return nil
}

func (m *modulus) Accept(id int) error {
	if id%m.divisor != m.n%m.divisor {
		return fmt.Errorf("token %d is %d, which was not allowed", m.n, id)
	}
	m.n++
	m.accepted = append(m.accepted, id)
	return nil
}

// adjusted are sampling parameters and biases, and the divisor of a modulus.
type adjusted struct {
	params  sample.Params
	bias    map[int]float32
	divisor int
}

func adjustedCases() map[string]adjusted {
	sampled := sample.Params{Temperature: 1.5, TopK: 40, TopP: .95, MinP: .01, Seed: 9}
	penalised := sampled
	penalised.RepeatPenalty, penalised.FrequencyPenalty, penalised.PresencePenalty, penalised.RepeatLastN = 1.3, .4, .2, 6
	greedy := penalised
	greedy.Temperature = 0
	return map[string]adjusted{
		"greedy, penalised":          {params: greedy},
		"sampled, penalised":         {params: penalised},
		"greedy, biased":             {bias: map[int]float32{33: 3, 40: -2, 41: float32(math.Inf(-1))}},
		"sampled, constrained":       {params: sampled, divisor: 7},
		"greedy, with all of it":     {params: greedy, bias: map[int]float32{35: 2, 70: 1.5}, divisor: 5},
		"sampled, with all of it":    {params: penalised, bias: map[int]float32{35: 2, 70: 1.5}, divisor: 3},
		"sampled from all, biased":   {params: sample.Params{Temperature: 1, Seed: 4}, bias: map[int]float32{35: 5}, divisor: 3},
		"greedy, one token possible": {divisor: 600},
	}
}

func (c adjusted) options(e *Engine, n int) (GenerateOptions, *modulus) {
	o := GenerateOptions{MaxTokens: n, IgnoreEOS: true, Sampling: c.params, LogitBias: c.bias}
	if c.divisor == 0 {
		return o, nil
	}
	m := &modulus{divisor: c.divisor, vocab: e.vocab}
	o.Constraint = m
	return o, m
}

// TestAdjustedTokensAreThoseOfTheHost generates with penalties, biases and constraints where the host samples and where the device
// finds the largest logits, one text after another and all at once.
func TestAdjustedTokensAreThoseOfTheHost(t *testing.T) {
	if testing.Short() {
		t.Skip("-short: the run on the main driver has it")
	}
	e, m := metered(t, filepath.Join("testdata", "fixtures", "gemma2"), Options{Context: 128, DType: "f32", KVType: "f32"}) // has a soft cap
	own := e.devices[0].info.Type
	defer func() { e.devices[0].info.Type = own }()
	const n = 20
	prompt := someTokens(e, 9)
	host := map[string][]int{}
	for name, c := range adjustedCases() {
		var of [2][]int
		for i, device := range []string{"cpu", "discrete"} {
			e.devices[0].info.Type = device
			o, constraint := c.options(e, n)
			s := e.NewSession()
			generate(t, s, prompt, o)
			of[i] = s.Result().Tokens
			if constraint != nil && !slices.Equal(constraint.accepted, of[i]) {
				t.Errorf("%s, %s: the constraint was told of %v, the tokens are %v", name, device, constraint.accepted, of[i])
			}
			few := c.params.TopK > 0 || c.params.Temperature == 0
			if onDevice := device != "cpu" && few; m.tail.Adjusted != onDevice || m.tail.Logits == onDevice {
				t.Errorf("%s, %s: evaluated for %s", name, device, m.tail)
			}
			if onDevice := m.tail.Adjusted; onDevice && m.counters.DeviceToHostBytes > 8*64 {
				t.Errorf("%s: %d bytes come back", name, m.counters.DeviceToHostBytes)
			}
		}
		if len(of[0]) != n || !slices.Equal(of[0], of[1]) {
			t.Errorf("%s: the host chooses %v, the device %v", name, of[0], of[1])
		}
		host[name] = of[0]
	}
	if tokens := slices.Collect(maps.Values(host)); slices.Equal(tokens[0], tokens[1]) || slices.Equal(tokens[0], tokens[2]) {
		t.Errorf("cases have the same tokens: %v", tokens)
	}

	e.devices[0].info.Type = "discrete"
	before := e.Metrics().SharedSteps
	var calls []func() error
	for name, c := range adjustedCases() {
		calls = append(calls, func() error {
			o, _ := c.options(e, n)
			s := e.NewSession()
			for _, err := range s.Generate(t.Context(), prompt, o) {
				if err != nil {
					return fmt.Errorf("%s: %w", name, err)
				}
			}
			if got := s.Result().Tokens; !slices.Equal(got, host[name]) {
				return fmt.Errorf("%s: beside others %v, alone %v", name, got, host[name])
			}
			return nil
		})
	}
	if err := errors.Join(together(calls...)...); err != nil {
		t.Error(err)
	}
	if e.Metrics().SharedSteps == before {
		t.Error("no step was shared")
	}
}

// TestConstraintsBindGuessesToo has a Drafter guess what the constraint allows, and what it doesn't.
func TestConstraintsBindGuessesToo(t *testing.T) {
	if testing.Short() {
		t.Skip("-short: the run on the main driver has it")
	}
	e, _ := metered(t, filepath.Join("testdata", "fixtures", "smollm2"), Options{Context: 128, DType: "f32", KVType: "f32"})
	for _, params := range []sample.Params{{}, {Temperature: 1.2, TopK: 30, Seed: 2, PresencePenalty: .5}} {
		var of [2][]int
		for i, drafter := range []Drafter{nil, PromptLookup{}} {
			o, constraint := adjusted{params: params, bias: map[int]float32{60: 1}, divisor: 3}.options(e, 24)
			o.Drafter, o.DraftAlways = drafter, true
			s := e.NewSession()
			generate(t, s, append(someTokens(e, 9), someTokens(e, 9)...), o)
			of[i] = s.Result().Tokens
			if !slices.Equal(constraint.accepted, of[i]) {
				t.Errorf("the constraint was told of %v, the tokens are %v", constraint.accepted, of[i])
			}
		}
		if !slices.Equal(of[0], of[1]) {
			t.Errorf("%v with guesses, %v without", of[1], of[0])
		}
	}
}
