package synth

import (
	"fmt"
	"strings"

	"pumice/internal/dtype"
)

// kind says how a tensor's values are drawn.
type kind int

const (
	matrix kind = iota
	gain
	bias
)

// A tensor is a tensor to write.
type tensor struct {
	name       string
	kind       kind
	rows, cols int // one row for vectors
	dtype      dtype.DType
}

func (t *tensor) elements() int64 { return int64(t.rows) * int64(t.cols) }
func (t *tensor) bytes() int64    { return int64(t.rows) * t.dtype.RowBytes(t.cols) }

// shape returns the tensor's shape, outermost first.
func (t *tensor) shape() []int {
	if t.kind == matrix {
		return []int{t.rows, t.cols}
	}
	return []int{t.cols}
}

// tensors expands a list of lines "name dimensions". Dimensions are V for the vocabulary, P for the positions of the
// context, H for the hidden size, I for the intermediate size, Q and K for all query and all key heads, D for one head, a
// digit, or a sum such as Q+2K; one dimension is a vector, two are a matrix. # in a name is replaced by the layer's number. A line
// that ends in "untied" is left out if embedding and head are tied.
func (s *Shape) tensors(list string) []tensor {
	var out, layer []tensor
	flush := func() {
		for i := range s.Layers {
			for _, t := range layer {
				t.name = strings.Replace(t.name, "#", fmt.Sprint(i), 1)
				out = append(out, t)
			}
		}
		layer = nil
	}
	for line := range strings.Lines(list) {
		words := strings.Fields(line)
		if len(words) == 0 || words[len(words)-1] == "untied" && s.Tied {
			continue
		}
		t := tensor{name: words[0], rows: 1, cols: s.size(words[1])}
		switch {
		case len(words) > 2 && words[2] != "untied":
			t.rows, t.cols = t.cols, s.size(words[2])
		case strings.HasSuffix(t.name, ".bias"):
			t.kind = bias
		default:
			t.kind = gain
		}
		if strings.Contains(t.name, "#") {
			layer = append(layer, t)
			continue
		}
		flush()
		out = append(out, t)
	}
	flush()
	return out
}

// size returns the value of a dimension.
func (s *Shape) size(sum string) int {
	n := 0
	for term := range strings.SplitSeq(sum, "+") {
		times := 1
		if term[0] >= '2' && term[0] <= '9' {
			if times, term = int(term[0]-'0'), term[1:]; term == "" {
				n += times
				continue
			}
		}
		symbol, ok := map[string]int{
			"V": s.Vocab, "P": s.Context, "H": s.Hidden, "I": s.Intermediate, "D": s.HeadDim,
			"Q": s.Heads * s.HeadDim, "K": s.KVHeads * s.HeadDim,
		}[term]
		if !ok {
			panic("synth: unknown size " + sum)
		}
		n += times * symbol
	}
	return n
}
