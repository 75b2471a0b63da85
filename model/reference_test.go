package model

import (
	"fmt"
	"math"
	"testing"

	"pumice/checkpoint"
	"pumice/internal/ref"
)

// reference is Llama's forward pass in float64 over the plainest operations: what a checkpoint
// without goldens is compared with. It finds tensors by name itself and takes only sizes from
// Config.
type reference struct {
	c           *checkpoint.Checkpoint
	cfg         *Config
	names       map[string]string // of llamaNames
	interleaved bool
	// weights replaces tensors of the file by their names, row-major; all but the embedding.
	weights map[string][]float64
	// attends, if it is set, is given each layer's rotated queries, (n, Heads, HeadDim), and keys, (KVHeads, n, HeadDim).
	attends func(layer int, h ref.Heads, q, keys []float64)
}

// llamaNames maps what a layer of Llama is made of to the two formats' names.
var llamaNames = map[checkpoint.Format]map[string]string{
	checkpoint.GGUF: {
		"embed": "token_embd.weight", "norm": "output_norm.weight", "head": "output.weight", "layer": "blk.%d.",
		"norm1": "attn_norm.weight", "q": "attn_q.weight", "k": "attn_k.weight", "v": "attn_v.weight", "o": "attn_output.weight",
		"norm2": "ffn_norm.weight", "gate": "ffn_gate.weight", "up": "ffn_up.weight", "down": "ffn_down.weight",
	},
	checkpoint.SafeTensors: {
		"embed": "model.embed_tokens.weight", "norm": "model.norm.weight", "head": "lm_head.weight", "layer": "model.layers.%d.",
		"norm1": "input_layernorm.weight",
		"q":     "self_attn.q_proj.weight", "k": "self_attn.k_proj.weight", "v": "self_attn.v_proj.weight", "o": "self_attn.o_proj.weight",
		"norm2": "post_attention_layernorm.weight",
		"gate":  "mlp.gate_proj.weight", "up": "mlp.up_proj.weight", "down": "mlp.down_proj.weight",
	},
}

// newReference opens a checkpoint of the llama architecture in either format.
func newReference(t *testing.T, path string) *reference {
	t.Helper()
	c, err := checkpoint.Open(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { check(t, c.Close()) })
	cfg, err := ReadConfig(c)
	if err != nil {
		t.Fatal(err)
	}
	return &reference{c: c, cfg: cfg, names: llamaNames[c.Format()], interleaved: c.Format() == checkpoint.GGUF}
}

// tensor is all values of a tensor, row-major.
func (r *reference) tensor(t *testing.T, name string) []float64 {
	t.Helper()
	if w, ok := r.weights[name]; ok {
		return w
	}
	x, ok := r.c.Tensor(name)
	if !ok {
		t.Fatalf("%s has no tensor %s", r.c.Path(), name)
	}
	out := make([]float64, 0, x.NumElements())
	for i := range x.Rows() {
		out = append(out, tensorRow(x, i)...)
	}
	return out
}

// tensorRow is the values of one row.
func tensorRow(x *checkpoint.Tensor, i int) []float64 {
	f := make([]float32, x.Cols())
	x.DType.Decode(f, x.Row(i, nil))
	out := make([]float64, len(f))
	for j, v := range f {
		out[j] = float64(v)
	}
	return out
}

// logits evaluates tokens from position 0 and returns the last one's logits.
func (r *reference) logits(t *testing.T, tokens []int) []float64 {
	t.Helper()
	cfg := r.cfg
	n, hidden, inner := len(tokens), cfg.HiddenSize, cfg.IntermediateSize
	h := ref.Heads{
		Heads: cfg.NumAttentionHeads, KVHeads: cfg.NumKeyValueHeads, HeadDim: cfg.HeadDim,
		RotaryDim: cfg.HeadDim, Interleaved: r.interleaved,
	}
	qRows, kvRows := h.Heads*h.HeadDim, h.KVHeads*h.HeadDim
	angles := make([]float64, n*h.HeadDim) // (n, HeadDim / 2, 2)
	for p := range n {
		for j := range h.HeadDim / 2 {
			a := float64(p) * math.Pow(cfg.Rope.Theta, -2*float64(j)/float64(h.HeadDim))
			angles[p*h.HeadDim+2*j], angles[p*h.HeadDim+2*j+1] = math.Cos(a), math.Sin(a)
		}
	}
	embed, ok := r.c.Tensor(r.names["embed"])
	if !ok {
		t.Fatalf("%s has no %s", r.c.Path(), r.names["embed"])
	}
	var x []float64 // (n, hidden)
	for _, id := range tokens {
		x = append(x, tensorRow(embed, id)...)
	}
	eps := float64(cfg.NormEps)
	for i := range cfg.NumHiddenLayers {
		w := func(name string) []float64 { return r.tensor(t, fmt.Sprintf(r.names["layer"], i)+r.names[name]) }
		a := ref.RMSNorm(x, w("norm1"), eps)
		q, k, v := ref.Linear(a, w("q"), nil, qRows, hidden), ref.Linear(a, w("k"), nil, kvRows, hidden), ref.Linear(a, w("v"), nil, kvRows, hidden)
		var qkv []float64
		for p := range n {
			qkv = append(qkv, q[p*qRows:][:qRows]...)
			qkv = append(qkv, k[p*kvRows:][:kvRows]...)
			qkv = append(qkv, v[p*kvRows:][:kvRows]...)
		}
		q, k, v = h.RopeStore(qkv, angles, 0)
		if r.attends != nil {
			r.attends(i, h, q, byHead(k, n, h))
		}
		attended := h.Attention(q, byHead(k, n, h), byHead(v, n, h), n, 0, 1/math.Sqrt(float64(h.HeadDim)))
		x = ref.Add(x, ref.Linear(attended, w("o"), nil, hidden, qRows))
		m := ref.RMSNorm(x, w("norm2"), eps)
		gate, up := ref.Linear(m, w("gate"), nil, inner, hidden), ref.Linear(m, w("up"), nil, inner, hidden)
		for j := range gate {
			gate[j] = ref.SiLU(gate[j]) * up[j]
		}
		x = ref.Add(x, ref.Linear(gate, w("down"), nil, hidden, inner))
	}
	last := ref.RMSNorm(x[(n-1)*hidden:], r.tensor(t, r.names["norm"]), eps)
	head, ok := r.c.Tensor(r.names["head"])
	if !ok {
		head = embed
	}
	if w, ok := r.weights[r.names["head"]]; ok {
		return ref.Linear(last, w, nil, len(w)/hidden, hidden)
	}
	out := make([]float64, head.Rows())
	for i := range out {
		out[i] = ref.Linear(last, tensorRow(head, i), nil, 1, hidden)[0]
	}
	return out
}

func narrow(x []float64) []float32 {
	out := make([]float32, len(x))
	for i, v := range x {
		out[i] = float32(v)
	}
	return out
}

// TestReferenceMatchesGoldens compares the reference itself with goldens of another program.
func TestReferenceMatchesGoldens(t *testing.T) {
	long(t)
	for _, name := range []string{"llama", "smollm2", "xverse-st"} {
		r := newReference(t, fixtureDir+"/"+name)
		g := readGolden(t, fixtureDir+"/"+name)
		p := g.Prompts[2]
		compare(t, name, narrow(r.logits(t, p.IDs)), g.floats(p.Logits), 1e-4)
	}
}
