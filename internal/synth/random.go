package synth

import (
	"context"
	"hash/fnv"
	"io"
	"math"
	"math/rand/v2"

	"pumice/internal/dtype"
)

// poolBlocks is how many different blocks the weights of a kind have. Blocks are encoded once, and
// a matrix is a random choice of them, which costs a copy per block: encoding each weight would
// take longer than writing to the disk.
const poolBlocks = 4096

// minRun is the number of weights that are drawn as one block in types without blocks.
const minRun = 32

// A drawer makes the bytes of tensors.
type drawer struct {
	ctx          context.Context // of the call of Write
	seed         uint64
	gainMinusOne bool
	pools        map[poolKey][]byte
	done, total  int64
	progress     func(done, total int64)
}

type poolKey struct {
	dtype dtype.DType
	fanIn int
}

func newDrawer(ctx context.Context, seed uint64, gainMinusOne bool, tensors []tensor, progress func(done, total int64)) *drawer {
	d := &drawer{ctx: ctx, seed: seed, gainMinusOne: gainMinusOne, pools: map[poolKey][]byte{}, progress: progress}
	for i := range tensors {
		d.total += tensors[i].bytes()
	}
	return d
}

// write writes a tensor row by row. Its values depend only on the seed and the name.
func (d *drawer) write(w io.Writer, t *tensor) error {
	h := fnv.New64a()
	io.WriteString(h, t.name)
	r := rand.New(rand.NewPCG(d.seed, h.Sum64()))
	row := make([]byte, t.dtype.RowBytes(t.cols))
	if t.kind != matrix {
		t.dtype.Encode(row, d.vector(r, t))
		_, err := w.Write(row)
		return err
	}
	pool, size := d.pool(t.dtype, t.cols)
	for range t.rows {
		for at := 0; at < len(row); at += size {
			i := int(r.Uint64()%poolBlocks) * size
			copy(row[at:], pool[i:i+size])
		}
		if _, err := w.Write(row); err != nil {
			return err
		}
		if err := d.ctx.Err(); err != nil {
			return err
		}
		d.done += int64(len(row))
		if d.progress != nil {
			d.progress(d.done, d.total)
		}
	}
	return nil
}

// vector draws gains near 1, or biases near 0.
func (d *drawer) vector(r *rand.Rand, t *tensor) []float32 {
	mean, scale := 0.0, 0.02
	if t.kind == gain {
		scale = 0.1
		if !d.gainMinusOne {
			mean = 1
		}
	}
	out := make([]float32, t.cols)
	for i := range out {
		out[i] = float32(mean + scale*r.NormFloat64())
	}
	return out
}

// pool returns poolBlocks encoded blocks of size bytes, of normal weights with variance 1 / fanIn, so
// that a row's product with a vector of unit variance has unit variance too.
func (d *drawer) pool(t dtype.DType, fanIn int) (pool []byte, size int) {
	weights := max(t.BlockSize(), minRun)
	size = int(t.RowBytes(weights))
	key := poolKey{t, fanIn}
	if pool, ok := d.pools[key]; ok {
		return pool, size
	}
	r := rand.New(rand.NewPCG(d.seed, uint64(fanIn)))
	scale := 1 / math.Sqrt(float64(fanIn))
	values := make([]float32, poolBlocks*weights)
	for i := range values {
		values[i] = float32(scale * r.NormFloat64())
	}
	pool = make([]byte, poolBlocks*size)
	t.Encode(pool, values)
	d.pools[key] = pool
	return pool, size
}
