package pipeline

import (
	"fmt"
	"math"
	"slices"

	"pumice/vk"
)

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

// logitsSize is how many rows of how many logits a plan adjusts; without rows there are none.
type logitsSize struct{ rows, cols int }

// Where adjust.comp has what in the adjustment buffer, and mask.glsl in the mask buffer, in words.
const (
	adjustRow    = 4
	adjustToken  = 3
	adjustHeader = adjustRow * MaxSequences
	maskHeader   = 1
)

// maskWords is the number of words of a row's mask.
func maskWords(cols int) int { return (cols + 31) / 32 }

// adjustBytes is the size of the adjustment buffer for logits of the size.
func (s logitsSize) adjustBytes() int64 {
	if s.rows == 0 {
		return 0
	}
	return 4 * int64(adjustHeader+adjustToken*MaxAdjusted*s.rows)
}

// maskBytes is the size of the mask buffer for logits of the size.
func (s logitsSize) maskBytes() int64 {
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

// begin makes every word 0, of a new buffer.
func (m *mirror) begin() {
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

// An adjuster is what the host keeps of the buffers with a step's Adjust.
type adjuster struct{ lists, masks mirror }

// sendAdjust sends what the device lacks of a step's Adjust, and returns the bytes. Rows without one have no tokens and no
// mask.
func (x *adjuster) sendAdjust(list []Adjust, adjusted, masked logitsSize) (bytes int64) {
	bits := math.Float32bits
	var none Adjust
	withMask := uint32(0)
	for row := range max(adjusted.rows, masked.rows) {
		a := &none
		if row < len(list) {
			a = &list[row]
		}
		if row < adjusted.rows {
			bytes += x.lists.send(adjustRow*row, uint32(len(a.Tokens)))
			if len(a.Tokens) > 0 {
				repeat := a.RepeatPenalty
				if repeat == 0 {
					repeat = 1
				}
				bytes += x.lists.send(adjustRow*row+1, bits(repeat), bits(a.FrequencyPenalty), bits(a.PresencePenalty))
			}
			at := adjustHeader + adjustToken*MaxAdjusted*row
			for i, t := range a.Tokens {
				bytes += x.lists.send(at+adjustToken*i, uint32(t.ID), bits(t.Bias), uint32(t.Count))
			}
		}
		if a.Allowed != nil {
			withMask |= 1 << row
			bytes += x.masks.send(maskHeader+len(a.Allowed)*row, a.Allowed...)
		}
	}
	if masked.rows > 0 {
		bytes += x.masks.send(0, withMask)
	}
	return bytes
}

// checkFor reports what is wrong with the Adjust of a row, for logits of these sizes and so many steps. seen has a bit for
// each token, all 0.
func (a *Adjust) checkFor(row int, adjusted, masked logitsSize, seen []uint32, steps int) error {
	real := func(x float32) bool { return x-x == 0 }
	switch {
	case a.Allowed != nil && row >= masked.rows:
		return fmt.Errorf("a mask, and the plan takes those of %d rows", masked.rows)
	case a.Allowed != nil && len(a.Allowed) != maskWords(masked.cols):
		return fmt.Errorf("a mask of %d words; the plan takes %d", len(a.Allowed), maskWords(masked.cols))
	case len(a.Tokens) == 0:
		return nil
	case row >= adjusted.rows:
		return fmt.Errorf("%d tokens are adjusted, and the plan adjusts %d rows", len(a.Tokens), adjusted.rows)
	case len(a.Tokens) > MaxAdjusted:
		return fmt.Errorf("%d tokens are adjusted; at most %d are possible", len(a.Tokens), MaxAdjusted)
	case !(a.RepeatPenalty >= 0 && a.RepeatPenalty <= math.MaxFloat32) || !real(a.FrequencyPenalty) || !real(a.PresencePenalty):
		return fmt.Errorf("penalties %g, %g, %g", a.RepeatPenalty, a.FrequencyPenalty, a.PresencePenalty)
	case steps > 1 && a.penalised():
		return fmt.Errorf("%d steps with penalties; one is possible", steps)
	}
	var wrong error
	marked := 0
	for _, t := range a.Tokens {
		if t.ID < 0 || t.ID >= adjusted.cols || t.Count < 0 || t.Count > math.MaxInt32 || !(t.Bias <= math.MaxFloat32) {
			wrong = fmt.Errorf("token %+v of %d", t, adjusted.cols)
			break
		}
		bit := uint32(1) << (t.ID % 32)
		if seen[t.ID/32]&bit != 0 {
			wrong = fmt.Errorf("token %d is adjusted twice", t.ID)
			break
		}
		seen[t.ID/32] |= bit
		marked++
	}
	for _, t := range a.Tokens[:marked] {
		seen[t.ID/32] = 0
	}
	return wrong
}
