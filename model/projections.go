package model

import (
	"cmp"
	"fmt"
)

// A tensorRows is consecutive rows of a tensor of the checkpoint: a projection, which may be one of several in a
// tensor, the embedding, or the head.
type tensorRows struct {
	name  string // of the tensor, without ".weight" and ".bias"
	first int    // row of the tensor that is row 0 here
	rows  int
	of    int // rows of the whole tensor; 0 means first + rows

	// Where a Hugging Face directory has these rows: adapters name matrices as it does.
	module      string // the tensor's name there, without ".weight"
	moduleFirst int    // row of that tensor that is row 0 of this one
	moduleRows  int    // of that tensor; 0 means as many as this one has
	// permuted is the size of heads whose rows j and j + permuted/2 in the directory lie side by side here; 0 means that
	// the order is the same.
	permuted int
}

// allRows is how many rows the whole tensor has.
func (t tensorRows) allRows() int { return cmp.Or(t.of, t.first+t.rows) }

// allModuleRows is how many rows the Hugging Face directory's tensor has.
func (t tensorRows) allModuleRows() int { return cmp.Or(t.moduleRows, t.allRows()) }

// moduleRow is the row of the Hugging Face directory's tensor that is row i here.
func (t tensorRows) moduleRow(i int) int { return t.moduleFirst + unpermuted(t.first+i, t.permuted) }

// unpermuted maps row r of a tensor whose rotation pairs neighbours to its row where rotation pairs the halves of each
// head of d rows: rows 2j and 2j + 1 of a head are j and j + d/2. It returns r where d is 0.
func unpermuted(r, d int) int {
	if d == 0 {
		return r
	}
	in := r % d
	return r + in%2*(d/2) + in/2 - in
}

// layerTensors is where the checkpoint has the projections of a layer. A plain MLP has no gate.
type layerTensors struct {
	qkv               []tensorRows // q, k and v, or one that holds all three
	o, gate, up, down tensorRows
}

// layerTensors says where the checkpoint has the projections of layer i.
func (c *Config) layerTensors(i int) layerTensors {
	n, hf := c.names, c.modules
	prefix, modulePrefix := fmt.Sprintf(n.Layer, i), fmt.Sprintf(hf.Layer, i)
	at := func(name, module string, rows int) tensorRows {
		return tensorRows{name: prefix + name, module: modulePrefix + module, rows: rows}
	}
	heads, kvHeads, inner := c.NumAttentionHeads*c.HeadDim, c.NumKeyValueHeads*c.HeadDim, c.IntermediateSize
	qkv := []tensorRows{at(n.QProj, hf.QProj, heads), at(n.KProj, hf.KProj, kvHeads), at(n.VProj, hf.VProj, kvHeads)}
	if c.permutedQK {
		qkv[0].permuted, qkv[1].permuted = c.HeadDim, c.HeadDim
	}
	switch {
	case n.QKVProj != "":
		qkv = []tensorRows{at(n.QKVProj, hf.QKVProj, heads+2*kvHeads)}
	case hf.QKVProj != "": // one tensor in the directory, three in this checkpoint
		first := 0
		for i := range qkv {
			qkv[i].module, qkv[i].moduleFirst, qkv[i].moduleRows = modulePrefix+hf.QKVProj, first, heads+2*kvHeads
			first += qkv[i].rows
		}
	}
	gate, up := at(n.GateProj, hf.GateProj, inner), at(n.UpProj, hf.UpProj, inner)
	if n.GateUpProj != "" {
		gate = at(n.GateUpProj, hf.GateUpProj, inner)
		up = gate
		gate.of, up.first = 2*inner, inner
	}
	return layerTensors{qkv, at(n.OProj, hf.OProj, c.HiddenSize), gate, up, at(n.DownProj, hf.DownProj, c.HiddenSize)}
}
