package model

import (
	"context"
	"encoding/binary"
	"fmt"
	"math"
	"path/filepath"
	"slices"
	"testing"

	"pumice/internal/dtype"
	"pumice/internal/ggufwrite"
	"pumice/pipeline"
)

// TestHeadBeyondOneBinding runs a model whose head and embedding, 138 MB each, exceed the 128 MiB
// that Vulkan promises for one binding, where one must be cut by rows.
func TestHeadBeyondOneBinding(t *testing.T) {
	if testing.Short() {
		t.Skip("-short: writes a checkpoint of 280 MB")
	}
	const vocab = 270_000
	path := filepath.Join(t.TempDir(), "bighead.gguf")
	writeLlama(t, path, llamaShape{hidden: 128, layers: 2, heads: 4, kvHeads: 2, inner: 256, vocab: vocab})

	x := load(t, path, exact, pipeline.Options{})
	limit := x.head().m.Device().PhysicalDevice().Limits.MaxStorageBufferRange
	for _, w := range []*pipeline.Matrix{x.head().weights.Embed, x.head().weights.LMHead} {
		bytes := int64(w.Rows) * int64(w.Cols) * 4
		if bytes > limit && len(w.Shards) < 2 {
			t.Errorf("%s: %d bytes in one shard; the device binds at most %d", w.Name, bytes, limit)
		}
		t.Logf("%s: %d bytes in %d shards, the device binds at most %d", w.Name, bytes, len(w.Shards), limit)
	}
	// Where the head is one shard nothing is at the border, but the tokens are good anyway.
	shards := x.head().weights.Embed.Shards
	border := shards[len(shards)-1].First
	if border == 0 {
		border = vocab / 2
	}
	r := newReference(t, path)
	for _, tokens := range [][]int{
		{vocab - 1},
		{0, border - 1, border, border + 1, vocab - 2, 7, vocab - 1, border + 4097, 99_999},
	} {
		want := r.logits(t, tokens)
		ctx := context.Background()
		out, err := x.forward(ctx, tokens, 0, lastLogits)
		if err != nil {
			t.Fatal(err)
		}
		compare(t, "logits", out.Logits, narrow(want), exactBound)
		if out, err = x.forward(ctx, tokens, 0, lastTop); err != nil {
			t.Fatal(err)
		}
		if best := argmax(narrow(want)); out.Choices[0].ID != best {
			t.Errorf("argmax %d, want %d", out.Choices[0].ID, best)
		}
	}
}

// llamaShape is a model to write. types are the matrices' types by the tensors' names without
// layer and suffix ("attn_q", "output"); the others are F32.
type llamaShape struct {
	hidden, layers, heads, kvHeads, inner, vocab int
	types                                        map[string]dtype.DType
	meta                                         []ggufwrite.KV // beside what the shape says
}

// writeLlama writes a GGUF of the llama architecture with random weights, deviation
// 1 / sqrt(columns).
func writeLlama(t testing.TB, path string, s llamaShape) {
	t.Helper()
	kv := s.kvHeads * s.hidden / s.heads
	random := new(splitmix)
	var tensors []ggufwrite.Tensor
	vector := func(name string, n int) {
		w := make([]float32, n)
		for i := range w {
			w[i] = 1 + random.uniform()/2
		}
		tensors = append(tensors, ggufwrite.Float32s(name+".weight", dtype.F32, []int{n}, w))
	}
	matrix := func(prefix, name string, rows, cols int) {
		d, ok := s.types[name]
		if !ok {
			d = dtype.F32
		}
		scale := float32(math.Sqrt(3 / float64(cols)))
		data := make([]byte, int64(rows)*d.RowBytes(cols))
		switch d {
		case dtype.F32: // in place: the head is large
			for i := range rows * cols {
				binary.LittleEndian.PutUint32(data[4*i:], math.Float32bits(scale*random.uniform()))
			}
		default:
			w := make([]float32, rows*cols)
			for i := range w {
				w[i] = scale * random.uniform()
			}
			d.Encode(data, w)
		}
		tensors = append(tensors, ggufwrite.Tensor{Name: prefix + name + ".weight", DType: d, Shape: []int{rows, cols}, Data: data})
	}
	matrix("", "token_embd", s.vocab, s.hidden)
	for i := range s.layers {
		prefix := fmt.Sprintf("blk.%d.", i)
		vector(prefix+"attn_norm", s.hidden)
		matrix(prefix, "attn_q", s.hidden, s.hidden)
		matrix(prefix, "attn_k", kv, s.hidden)
		matrix(prefix, "attn_v", kv, s.hidden)
		matrix(prefix, "attn_output", s.hidden, s.hidden)
		vector(prefix+"ffn_norm", s.hidden)
		matrix(prefix, "ffn_gate", s.inner, s.hidden)
		matrix(prefix, "ffn_up", s.inner, s.hidden)
		matrix(prefix, "ffn_down", s.hidden, s.inner)
	}
	vector("output_norm", s.hidden)
	matrix("", "output", s.vocab, s.hidden)
	meta := []ggufwrite.KV{
		{Key: "general.architecture", Value: "llama"},
		{Key: "llama.context_length", Value: uint32(512)},
		{Key: "llama.embedding_length", Value: uint32(s.hidden)},
		{Key: "llama.block_count", Value: uint32(s.layers)},
		{Key: "llama.feed_forward_length", Value: uint32(s.inner)},
		{Key: "llama.attention.head_count", Value: uint32(s.heads)},
		{Key: "llama.attention.head_count_kv", Value: uint32(s.kvHeads)},
		{Key: "llama.attention.layer_norm_rms_epsilon", Value: float32(1e-5)},
	}
	if err := ggufwrite.Write(path, slices.Concat(meta, s.meta), tensors); err != nil {
		t.Fatal(err)
	}
}

// splitmix is the generator of Steele, Lea and Flood 2014: fast, and the same everywhere.
type splitmix uint64

func (s *splitmix) next() uint64 {
	*s += 0x9e3779b97f4a7c15
	z := uint64(*s)
	z = (z ^ z>>30) * 0xbf58476d1ce4e5b9
	z = (z ^ z>>27) * 0x94d049bb133111eb
	return z ^ z>>31
}

// uniform is between -1 and 1.
func (s *splitmix) uniform() float32 { return float32(int32(s.next()>>40)-1<<23) / (1 << 23) }
