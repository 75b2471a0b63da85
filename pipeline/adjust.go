package pipeline

import (
	"fmt"
	"math"
	"slices"

	"pumice/pipeline/kernels"
	"pumice/vk"
)

// MaxAdjusted is how many tokens of a row an Adjust can change. adjust.comp calls it MAX_ADJUSTED.
const MaxAdjusted = 4096

// An Adjust says how a row of logits is changed before the largest are searched for. Biases and penalties need
// Builder.Adjust, which applies the biases first and then penalties as package sample does. Allowed needs Builder.Allow,
// which changes no logit, but leaves out the tokens that are not allowed.
type Adjust struct {
	Tokens []AdjustedToken // each once, in any order, at most MaxAdjusted; in a stable order little is sent

	// As sample.Params has them, for the tokens with a Count. Where they aren't 0, a burst has one step, since each token
	// changes the counts.
	RepeatPenalty, FrequencyPenalty, PresencePenalty float32

	Allowed []uint32 // token i is allowed if bit i%32 of word i/32 is set; nil allows every token
}

// An AdjustedToken is a token whose logit is changed.
type AdjustedToken struct {
	ID    int
	Bias  float32 // added; -Inf forbids the token
	Count int     // how often the history that penalties consider has it
}

// penalised reports whether a penalty changes a logit.
func (a *Adjust) penalised() bool {
	on := a.RepeatPenalty != 0 && a.RepeatPenalty != 1 || a.FrequencyPenalty != 0 || a.PresencePenalty != 0
	return on && slices.ContainsFunc(a.Tokens, func(t AdjustedToken) bool { return t.Count > 0 })
}

// Adjust changes logits, which have a row for each row of results of a step, as Step.Adjust says: at most MaxSequences
// rows. A soft cap comes before it. A plan has at most one.
func (b *Builder) Adjust(logits *Tensor) {
	b.adjusts("adjust", &b.adjusted, logits)
	shape := kernels.Rows{Name: "adjust", Rows: logits.Rows, Cols: logits.Cols}
	launch(b, &kernels.Adjust, shape, kernels.RowMajor, &node{}, bind{buffer: adjustBuffer, access: vk.Read, view: kernels.Storage}, readWrite(logits))
}

// Allow makes what follows find the largest logits, of Adjust's rows, among those that Adjust.Allowed has. It takes no
// dispatch: the search skips the others. A plan has at most one.
func (b *Builder) Allow(logits *Tensor) {
	b.adjusts("allow", &b.masked, logits)
	logits.masked = true
}

func (b *Builder) adjusts(what string, before **Tensor, logits *Tensor) {
	if *before != nil || logits.Rows > MaxSequences {
		b.Fail("%s: %d rows of logits, some before: %t; %d and once are possible", what, logits.Rows, *before != nil, MaxSequences)
	}
	*before = logits
}

// A shape is the size of a tensor; without rows there is none.
type shape struct{ rows, cols int }

func shapeOf(t *Tensor) shape {
	if t == nil {
		return shape{}
	}
	return shape{t.Rows, t.Cols}
}

// Where adjust.comp has what in the adjustment buffer, and mask.glsl in the mask buffer, in words.
const (
	adjustRow    = 4
	adjustToken  = 3
	adjustHeader = adjustRow * MaxSequences
	maskHeader   = 1
)

// maskWords is the number of words of a row's mask.
func maskWords(cols int) int { return (cols + 31) / 32 }

// adjustBytes is the size of the adjustment buffer for logits of the shape.
func (s shape) adjustBytes() int64 {
	if s.rows == 0 {
		return 0
	}
	return 4 * int64(adjustHeader+adjustToken*MaxAdjusted*s.rows)
}

// maskBytes is the size of the mask buffer for logits of the shape.
func (s shape) maskBytes() int64 {
	if s.rows == 0 {
		return 0
	}
	return alignUp(4*int64(maskHeader+maskWords(s.cols)*s.rows), 16)
}

// A mirror is a buffer that the host alone writes, and a copy of its words.
type mirror struct {
	buffer *vk.Buffer
	words  []uint32
}

// clear makes every word 0, of a new buffer.
func (m *mirror) clear() {
	clear(m.buffer.Mapped())
	m.words = make([]uint32, m.buffer.Size()/4)
}

// send writes those words from the one at on that the device does not have, and returns their bytes.
func (m *mirror) send(at int, words ...uint32) (bytes int64) {
	const piece = 64 // compared at once
	device := m.buffer.Mapped()
	for len(words) > 0 {
		n := min(piece, len(words))
		if has := m.words[at:][:n]; !slices.Equal(has, words[:n]) {
			for i, w := range words[:n] {
				if w != has[i] {
					setWord(device, 4*(at+i), w)
					bytes += 4
				}
			}
			copy(has, words)
		}
		at, words = at+n, words[n:]
	}
	return bytes
}

// sendAdjust sends what the device lacks of the step's Adjust, and returns the bytes. Rows without one have no tokens and
// no mask.
func (f *Frame) sendAdjust(p *Plan, s Step) (bytes int64) {
	bits := math.Float32bits
	var none Adjust
	masked := uint32(0)
	for row := range max(p.adjusted.rows, p.masked.rows) {
		a := &none
		if row < len(s.Adjust) {
			a = &s.Adjust[row]
		}
		if row < p.adjusted.rows {
			bytes += f.adjust.send(adjustRow*row, uint32(len(a.Tokens)))
			if len(a.Tokens) > 0 {
				repeat := a.RepeatPenalty
				if repeat == 0 {
					repeat = 1
				}
				bytes += f.adjust.send(adjustRow*row+1, bits(repeat), bits(a.FrequencyPenalty), bits(a.PresencePenalty))
			}
			at := adjustHeader + adjustToken*MaxAdjusted*row
			for i, t := range a.Tokens {
				bytes += f.adjust.send(at+adjustToken*i, uint32(t.ID), bits(t.Bias), uint32(t.Count))
			}
		}
		if a.Allowed != nil {
			masked |= 1 << row
			bytes += f.mask.send(maskHeader+len(a.Allowed)*row, a.Allowed...)
		}
	}
	if p.masked.rows > 0 {
		bytes += f.mask.send(0, masked)
	}
	return bytes
}

// checkAdjust reports what is wrong with the step's Adjust.
func (p *Plan) checkAdjust(s Step, steps int) error {
	if n := s.Rows(); len(s.Adjust) > n {
		return fmt.Errorf("%d rows of logits are adjusted, the step has %d", len(s.Adjust), n)
	}
	for row := range s.Adjust {
		if err := p.checkRow(row, &s.Adjust[row], steps); err != nil {
			return fmt.Errorf("row %d of logits: %w", row, err)
		}
	}
	return nil
}

func (p *Plan) checkRow(row int, a *Adjust, steps int) error {
	switch {
	case a.Allowed != nil && row >= p.masked.rows:
		return fmt.Errorf("a mask, and the plan takes those of %d rows", p.masked.rows)
	case a.Allowed != nil && len(a.Allowed) != maskWords(p.masked.cols):
		return fmt.Errorf("a mask of %d words; the plan takes %d", len(a.Allowed), maskWords(p.masked.cols))
	case len(a.Tokens) == 0:
		return nil
	case row >= p.adjusted.rows:
		return fmt.Errorf("%d tokens are adjusted, and the plan adjusts %d rows", len(a.Tokens), p.adjusted.rows)
	case len(a.Tokens) > MaxAdjusted:
		return fmt.Errorf("%d tokens are adjusted; at most %d are possible", len(a.Tokens), MaxAdjusted)
	case !(a.RepeatPenalty >= 0 && a.RepeatPenalty <= math.MaxFloat32) || !finite(a.FrequencyPenalty) || !finite(a.PresencePenalty):
		return fmt.Errorf("penalties %g, %g, %g", a.RepeatPenalty, a.FrequencyPenalty, a.PresencePenalty)
	case steps > 1 && a.penalised():
		return fmt.Errorf("%d steps with penalties; one is possible", steps)
	}
	var wrong error
	marked := 0
	for _, t := range a.Tokens {
		if t.ID < 0 || t.ID >= p.adjusted.cols || t.Count < 0 || t.Count > math.MaxInt32 || !(t.Bias <= math.MaxFloat32) {
			wrong = fmt.Errorf("token %+v of %d", t, p.adjusted.cols)
			break
		}
		bit := uint32(1) << (t.ID % 32)
		if p.seen[t.ID/32]&bit != 0 {
			wrong = fmt.Errorf("token %d is adjusted twice", t.ID)
			break
		}
		p.seen[t.ID/32] |= bit
		marked++
	}
	for _, t := range a.Tokens[:marked] {
		p.seen[t.ID/32] = 0
	}
	return wrong
}

func finite(x float32) bool { return x-x == 0 }
