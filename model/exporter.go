package model

import (
	"fmt"
	"math"

	"pumice/internal/dtype"
)

// An exporter walks a directory's tensors in the order of a GGUF file.
type exporter struct {
	tensors
	x        *Export
	names    Names // in the file
	permuted bool  // rows of q and k are reordered
}

// model adds all tensors.
func (e *exporter) model() {
	c, from, to := e.cfg, e.cfg.names, e.names
	e.matrix(to.Embed, EmbeddingMatrix, 0, tensorRows{name: from.Embed, rows: c.VocabSize})
	if c.LearnedPositions {
		e.matrix(to.Positions, AsStored, 0, tensorRows{name: from.Positions, rows: c.MaxPositionEmbeddings})
		e.matrix(to.TokenTypes, AsStored, 0, tensorRows{name: from.TokenTypes, rows: c.TypeVocabSize})
	}
	for i := range c.NumHiddenLayers {
		if e.err != nil {
			return
		}
		e.layer(i)
	}
	e.norm(to.inputNorm(c.NumHiddenLayers, c.NumHiddenLayers), from.inputNorm(c.NumHiddenLayers, c.NumHiddenLayers))
	if !c.TieWordEmbeddings && !c.Encoder {
		head := tensorRows{name: from.LMHead, rows: c.VocabSize}
		if c.NormalizedHead {
			if s := e.find(head, c.HiddenSize); s != nil {
				e.rows(to.LMHead, HeadMatrix, 0, unitRows(s))
			}
		} else {
			e.matrix(to.LMHead, HeadMatrix, 0, head)
		}
	}
	if s := c.Rope.Scaling; s.Type == "llama3" {
		divisors := make([]float32, c.Rope.Dim/2)
		for j := range divisors {
			f := math.Pow(c.Rope.Theta, -2*float64(j)/float64(c.Rope.Dim))
			divisors[j] = float32(f / s.llama3(f))
		}
		e.values(ropeFactors, divisors)
	}
}

func (e *exporter) layer(i int) {
	c, from, to := e.cfg, e.cfg.names, e.names
	p, prefix := c.layerTensors(i), fmt.Sprintf(to.Layer, i)
	in := fmt.Sprintf(from.Layer, i)
	e.norm(to.inputNorm(i, c.NumHiddenLayers), from.inputNorm(i, c.NumHiddenLayers))
	if c.QKNorm {
		e.vector(prefix+to.QNorm+".weight", in+from.QNorm+".weight", c.HeadDim)
		e.vector(prefix+to.KNorm+".weight", in+from.KNorm+".weight", c.HeadDim)
	}
	e.qkv(prefix, p.qkv)
	e.projection(prefix+to.OProj, 0, c.NumAttentionHeads*c.HeadDim, c.OBias, p.o)
	if c.PostNorms {
		e.norm(prefix+to.AttnPostNorm, in+from.AttnPostNorm)
	}
	if !c.Parallel {
		e.norm(prefix+to.MLPNorm, in+from.MLPNorm)
	}
	switch {
	case c.PlainMLP:
		e.projection(prefix+to.UpProj, 0, c.HiddenSize, c.MLPBias, p.up)
	case to.GateUpProj != "":
		whole := p.gate
		whole.rows = whole.of
		e.projection(prefix+to.GateUpProj, 0, c.HiddenSize, c.MLPBias, whole)
	default:
		e.projection(prefix+to.GateProj, 0, c.HiddenSize, c.MLPBias, p.gate)
		e.projection(prefix+to.UpProj, 0, c.HiddenSize, c.MLPBias, p.up)
	}
	e.projection(prefix+to.DownProj, 0, c.IntermediateSize, c.MLPBias, p.down)
	if c.PostNorms {
		e.norm(prefix+to.MLPPostNorm, in+from.MLPPostNorm)
	}
}

// qkv adds the query, key and value projections of a layer, as one tensor or three, as the architecture has them.
func (e *exporter) qkv(prefix string, qkv []tensorRows) {
	c, to := e.cfg, e.names
	if len(qkv) == 1 && to.QKVProj != "" {
		e.projection(prefix+to.QKVProj, 0, c.HiddenSize, c.QKVBias, qkv[0])
		return
	}
	if len(qkv) == 1 { // one tensor in the checkpoint, three in the file
		whole, first := qkv[0], 0
		qkv = nil
		for _, heads := range []int{c.NumAttentionHeads, c.NumKeyValueHeads, c.NumKeyValueHeads} {
			rows := heads * c.HeadDim
			qkv = append(qkv, tensorRows{name: whole.name, first: first, rows: rows, of: whole.rows})
			first += rows
		}
	}
	permuted := 0
	if e.permuted {
		permuted = c.HeadDim
	}
	e.projection(prefix+to.QProj, permuted, c.HiddenSize, c.QKVBias, qkv[0])
	e.projection(prefix+to.KProj, permuted, c.HiddenSize, c.QKVBias, qkv[1])
	e.projection(prefix+to.VProj, 0, c.HiddenSize, c.QKVBias, qkv[2])
}

// projection adds a matrix and its bias; permuted is the size of the heads whose rows are reordered, or 0.
func (e *exporter) projection(name string, permuted, cols int, bias bool, p tensorRows) {
	if s := e.find(p, cols); s != nil {
		e.rows(name, Matrix, permuted, s)
	}
	if !bias || e.err != nil {
		return
	}
	all, err := e.floats(p.name+".bias", p.allRows())
	if err != nil {
		e.err = err
		return
	}
	values := make([]float32, p.rows)
	for i := range values {
		values[i] = all[p.first+unpermuted(i, permuted)]
	}
	e.values(name+".bias", values)
}

func (e *exporter) matrix(name string, role Role, permuted int, p tensorRows) {
	if s := e.find(p, e.cfg.HiddenSize); s != nil {
		e.rows(name, role, permuted, s)
	}
}

// rows adds the matrix of a source.
func (e *exporter) rows(name string, role Role, permuted int, s *source) {
	row := func(i int, scratch []byte) []byte { return s.Row(unpermuted(i, permuted), scratch) }
	e.x.Tensors = append(e.x.Tensors, ExportTensor{
		Name: name + ".weight", Role: role, Shape: []int{s.Rows, s.Cols}, DType: s.DType, Row: row, Prefetch: s.Prefetch,
	})
}

// norm adds the weights of a normalisation over the hidden size, as gains, and its bias.
func (e *exporter) norm(name, from string) {
	e.vector(name+".weight", from+".weight", e.cfg.HiddenSize)
	if e.cfg.NormBias {
		e.copied(name+".bias", from+".bias", e.cfg.HiddenSize)
	}
}

// vector adds the n weights of a norm, as gains.
func (e *exporter) vector(name, from string, n int) {
	f, err := e.gains(from, n)
	if err != nil && e.err == nil {
		e.err = err
	}
	e.values(name, f)
}

func (e *exporter) copied(name, from string, n int) {
	f, err := e.floats(from, n)
	if err != nil && e.err == nil {
		e.err = err
	}
	e.values(name, f)
}

// values adds a vector of floats.
func (e *exporter) values(name string, f []float32) {
	data := make([]byte, 4*len(f))
	dtype.F32.Encode(data, f)
	e.x.Tensors = append(e.x.Tensors, ExportTensor{
		Name: name, Shape: []int{len(f)}, DType: dtype.F32, Row: func(int, []byte) []byte { return data },
	})
}
