package pipeline

import (
	"fmt"
	"math"
)

// A Step is one evaluation of a plan: the tokens of one or more sequences. The shaders see it as
// shaders/include/step.glsl.
type Step struct {
	Sequences []Sequence // 1 to MaxSequences

	Next *int // the token after the last one, for Builder.LogProbs; nil: not known

	// Burst is how many steps the device takes by itself, 0 meaning 1: each after the first has the token that the one
	// before chose, one position on. More than one needs one token and Builder.Advance; MaxBurst is the most.
	Burst int
	Draw  *Draw // how tokens are chosen by Builder.AdvanceDraw; nil is the largest logit

	// Draws says how Builder.Draw chooses the token of each row of results, with one number each.
	Draws []Draw

	// Adjust says how Builder.Adjust and Builder.Allow change the rows of logits, from the first on. Rows behind it stay
	// as they are. It is the same in all steps of a burst.
	Adjust []Adjust

	// Progress, if it is set, is called in Plan.Run after each submission, with the share of the work that is done.
	Progress func(share float64)
}

// A Sequence is what a step evaluates of a sequence. It goes on from what the KV cache holds of it.
type Sequence struct {
	Table    int   // its page table (Cache.Table)
	Position int   // place of Tokens[0]
	Tokens   []int // 1 or more

	// Endings cuts Tokens into runs of these lengths. Each goes on from what the cache holds before Position and sees
	// nothing of the others: its queries, keys and positions are as if it ran alone. nil is one run.
	Endings []int
}

// Len is the number of tokens.
func (s Step) Len() int {
	n := 0
	for i := range s.Sequences {
		n += len(s.Sequences[i].Tokens)
	}
	return n
}

// Rows is the number of endings, each of which has a row of results where only last tokens have.
func (s Step) Rows() int {
	n := 0
	for i := range s.Sequences {
		n += max(1, len(s.Sequences[i].Endings))
	}
	return n
}

// singles is how many of the first sequences have one token, at most as many as given.
func (s Step) singles(most int) int {
	n := 0
	for n < min(most, len(s.Sequences)) && len(s.Sequences[n].Tokens) == 1 {
		n++
	}
	return n
}

// live is how many positions of the KV cache the step reads, of single tokens or of the others, at step i of a burst. Keys
// that several tokens of a sequence see count once.
func (s Step) live(key kvKey, singles, i int) int64 {
	n := s.singles(singles)
	sequences := s.Sequences[n:]
	if key.single {
		sequences = s.Sequences[:n]
	}
	sum := 0
	for j := range sequences {
		live := sequences[j].Position + i + len(sequences[j].Tokens)
		if key.window > 0 {
			live = min(live, key.window+len(sequences[j].Tokens)-1)
		}
		sum += live
	}
	return int64(sum)
}

// pairs is how many pairs of a query and a key that it sees there are at step i of a burst, of single tokens or of the others.
func (s Step) pairs(key kvKey, singles, i int, bidirectional bool) int64 {
	n := s.singles(singles)
	sequences := s.Sequences[n:]
	if key.single {
		sequences = s.Sequences[:n]
	}
	var sum int64
	for _, q := range sequences {
		endings := q.Endings
		if endings == nil {
			endings = []int{len(q.Tokens)}
		}
		for _, length := range endings {
			for t := range length {
				seen := q.Position + i + t + 1
				if bidirectional {
					seen = q.Position + length
				}
				if key.window > 0 {
					seen = min(seen, key.window)
				}
				sum += int64(seen)
			}
		}
	}
	return sum
}

// longest is how many positions the longest sequence has after the step.
func (s Step) longest() int {
	n := 0
	for i := range s.Sequences {
		n = max(n, s.Sequences[i].Position+len(s.Sequences[i].Tokens))
	}
	return n
}

// Where shaders/include/step.glsl has what in the Step buffer.
const (
	stepCount     = 0
	stepRows      = 4
	stepSequences = 8
	stepSingles   = 12
	stepBurst     = 16 // the count of steps, which the device continues
	stepNext      = 20
	stepRow       = 24 // the tokens whose results are wanted
	stepSequence  = stepRow + 4*MaxSequences
	stepTokens    = stepSequence + 12*MaxSequences
)

func stepBytes(tokens int) int64 { return alignUp(stepTokens+8*int64(tokens), 16) }

// write puts s into a Step buffer, for a plan that takes so many single tokens.
func (s Step) write(buf []byte, singles int) {
	put := func(at, v int) { setWord(buf, at, uint32(v)) }
	put(stepCount, s.Len())
	put(stepRows, s.Rows())
	put(stepSequences, len(s.Sequences))
	put(stepSingles, s.singles(singles))
	if s.Next != nil {
		put(stepNext, *s.Next)
	}
	first, row := 0, 0
	for i := range s.Sequences {
		q := &s.Sequences[i]
		at := stepSequence + 12*i
		put(at, q.Position)
		put(at+4, first)
		put(at+8, q.Table)
		one := [1]int{len(q.Tokens)} // on the stack: a token costs no allocation
		endings := q.Endings
		if endings == nil {
			endings = one[:]
		}
		start := 0
		for _, n := range endings {
			put(stepRow+4*row, first+start+n-1)
			row++
			for t := start; t < start+n; t++ {
				put(stepTokens+8*(first+t), q.Tokens[t])
				put(stepTokens+8*(first+t)+4, start)
			}
			start += n
		}
		first += len(q.Tokens)
	}
}

// Followed reports whether a token of the step is known to follow token i.
func (s Step) Followed(i int) bool {
	for at, q := range s.Sequences {
		for _, n := range q.Endings {
			if i < n {
				return i+1 < n
			}
			i -= n
		}
		if q.Endings == nil {
			if i < len(q.Tokens) {
				return i+1 < len(q.Tokens) || at+1 == len(s.Sequences) && s.Next != nil
			}
			i -= len(q.Tokens)
		}
	}
	return false
}

// A Draw says how a token is chosen from the largest logits: by softmax at a temperature over
// the first TopK, of which TopP keeps the fewest that reach it together and MinP those of at
// least so much of the largest. It is package sample's choice in float32.
type Draw struct {
	Temperature float32   // 0 takes the largest, whatever the others say
	TopK        int       // 1 to TopLogits
	TopP        float32   // 1 is off
	MinP        float32   // 0 is off
	Uniform     []float32 // a number in [0, 1) for each step
}

// write puts all but the numbers into the draw buffer, as struct How of draw.glsl.
func (d *Draw) write(buf []byte) {
	inverse, topK := min(1/d.Temperature, math.MaxFloat32), d.TopK
	if d.Temperature == 0 {
		inverse, topK = 1, 1
	}
	setWord(buf, 0, math.Float32bits(inverse))
	setWord(buf, 4, uint32(topK))
	setWord(buf, 8, math.Float32bits(d.TopP))
	setWord(buf, 12, math.Float32bits(d.MinP))
}

// check says what is wrong with d for so many steps.
func (d *Draw) check(steps int) error {
	if d.Temperature == 0 && len(d.Uniform) == steps {
		return nil
	}
	if !(d.Temperature > 0) || d.TopK < 1 || d.TopK > TopLogits || len(d.Uniform) != steps {
		return fmt.Errorf("draw %+v of %d steps", *d, steps)
	}
	return nil
}
