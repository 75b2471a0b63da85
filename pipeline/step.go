package pipeline

import (
	"fmt"
	"math"
)

// A Step is one evaluation of a plan: where it stands in the KV cache, and its tokens.
// The shaders see it as shaders/include/step.glsl.
type Step struct {
	Position int   // cache position of Tokens[0]
	Tokens   []int // 1 to the number that the plan was built for

	// Lengths cuts Tokens into sequences. Each continues what the cache holds before Position and sees nothing of the
	// others: its queries, keys and positions are as if it ran alone. nil is one sequence.
	Lengths []int

	Next *int // the token after the last one, for Builder.LogProbs; nil: not known

	// Burst is how many steps the device takes by itself, 0 meaning 1: each after the first has the token that the one
	// before chose, one position on. More than one needs one token and Builder.Advance; MaxBurst is the most.
	Burst int
	Draw  *Draw // how tokens are chosen by Builder.AdvanceDraw; nil is the largest logit
}

const (
	// MaxBurst is the largest Step.Burst. advance.comp calls it LOG.
	MaxBurst = 32
	// TopLogits is how many of the largest logits AdvanceDraw draws a token from. advance.comp calls it MAX_DRAW.
	TopLogits = 64
)

// MaxSequences is how many sequences a Step can have.
const MaxSequences = 16

// Where shaders/include/step.glsl has what in the Step buffer.
const (
	stepCount     = 0
	stepRows      = 4
	stepSequences = 8
	stepBurst     = 12 // the count of steps, which the device continues
	stepNext      = 16
	stepRow       = 20 // the tokens whose results are wanted
	stepSequence  = stepRow + 4*MaxSequences
	stepTokens    = stepSequence + 12*MaxSequences
)

func stepBytes(tokens int) int64 { return alignUp(stepTokens+8*int64(tokens), 16) }

// write puts s into a Step buffer.
func (s Step) write(buf []byte) {
	put := func(at, v int) { setWord(buf, at, uint32(v)) }
	one := [1]int{len(s.Tokens)} // on the stack: a token costs no allocation
	lengths := s.Lengths
	if lengths == nil {
		lengths = one[:]
	}
	put(stepCount, len(s.Tokens))
	put(stepRows, len(lengths))
	put(stepSequences, 1)
	if s.Next != nil {
		put(stepNext, *s.Next)
	}
	put(stepSequence, s.Position)
	start := 0
	for i, n := range lengths {
		put(stepRow+4*i, start+n-1)
		for t := start; t < start+n; t++ {
			put(stepTokens+8*t, s.Tokens[t])
			put(stepTokens+8*t+4, start)
		}
		start += n
	}
}

// check says what is wrong with s for a plan of so many tokens and sequences.
func (s Step) check(tokens, sequences int) error {
	if len(s.Tokens) < 1 || len(s.Tokens) > tokens {
		return fmt.Errorf("%d tokens in a plan for %d", len(s.Tokens), tokens)
	}
	if s.Position < 0 || int64(s.Position)+int64(len(s.Tokens)) > math.MaxUint32 {
		return fmt.Errorf("position %d", s.Position)
	}
	if s.Lengths == nil {
		return nil
	}
	sum := 0
	for i, n := range s.Lengths {
		if sum += n; n < 1 || sum > len(s.Tokens) {
			return fmt.Errorf("sequence %d of %d tokens in a run of %d", i, n, len(s.Tokens))
		}
	}
	if sum != len(s.Tokens) {
		return fmt.Errorf("sequences of %d tokens in a run of %d", sum, len(s.Tokens))
	}
	if len(s.Lengths) > sequences {
		return fmt.Errorf("%d sequences in a plan for %d", len(s.Lengths), sequences)
	}
	return nil
}

// Followed reports whether a token of the step is known to follow token i.
func (s Step) Followed(i int) bool {
	for _, n := range s.Lengths {
		if i < n {
			return i+1 < n
		}
		i -= n
	}
	return i+1 < len(s.Tokens) || s.Next != nil
}

// A Draw says how a token is chosen from the largest logits: by softmax at a temperature over
// the first TopK, of which TopP keeps the fewest that reach it together and MinP those of at
// least so much of the largest. It is package sample's choice in float32.
type Draw struct {
	Temperature float32   // above 0
	TopK        int       // 1 to TopLogits
	TopP        float32   // 1 is off
	MinP        float32   // 0 is off
	Uniform     []float32 // a number in [0, 1) for each step
}
