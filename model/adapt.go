package model

import (
	"context"
	"slices"
	"sync"

	"pumice/checkpoint"
	"pumice/internal/dtype"
)

// An update is what an adapter adds to a matrix (rows, cols): scale * B A.
type update struct {
	a, b  *checkpoint.Tensor // (rank, cols), (rows, rank)
	scale float64
	used  bool // a matrix of the model took it

	mu      sync.Mutex
	loading int       // matrices and rows of matrices that are being loaded with it
	down    []float32 // A, while loading is not 0
}

// openAll opens every update, before rows are added to.
func openAll(ctx context.Context, updates []*update) error {
	for _, u := range updates {
		if err := u.open(ctx); err != nil {
			return err
		}
	}
	return nil
}

// closeAll closes every update.
func closeAll(updates []*update) {
	for _, u := range updates {
		u.close()
	}
}

// open decodes A before rows are added to; the last close forgets it. That takes at most twice
// A's bytes in the file.
func (u *update) open(ctx context.Context) error {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.loading++; u.loading > 1 { // other rows of the tensor have opened it
		return nil
	}
	rank, cols := u.a.Rows(), u.a.Cols()
	u.down = make([]float32, rank*cols)
	return checkpoint.Guard(func() error {
		for i := range rank {
			if err := ctx.Err(); err != nil {
				return err
			}
			u.a.DType.Decode(u.down[i*cols:][:cols], u.a.Row(i, nil))
		}
		return nil
	})
}

func (u *update) close() {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.loading--; u.loading == 0 {
		u.down = nil
	}
}

// add adds row r of scale * B A to values. Several goroutines may call it.
func (u *update) add(values []float32, r int) {
	up := make([]float32, u.b.Cols())
	u.b.DType.Decode(up, u.b.Row(r, nil))
	for k, v := range up {
		up[k] = float32(u.scale * float64(v))
	}
	u.addScaled(values, up)
}

// addScaled adds up A to values, four rows of A at a time: one by one, loading and storing values
// costs more than the products (39 us for a row of 4096 at rank 16, against 14 us, on one core of
// an AMD EPYC).
func (u *update) addScaled(values, up []float32) {
	row := func(k int) []float32 { return u.down[k*len(values):][:len(values)] }
	k := 0
	for ; k+4 <= len(up); k += 4 {
		a, b, c, d := row(k), row(k+1), row(k+2), row(k+3)
		va, vb, vc, vd := up[k], up[k+1], up[k+2], up[k+3]
		for j := range values {
			values[j] += va*a[j] + vb*b[j] + vc*c[j] + vd*d[j]
		}
	}
	for ; k < len(up); k++ {
		v := up[k]
		for j, x := range row(k) {
			values[j] += v * x
		}
	}
}

// adapt has the adapters that name t's module change the rows between the checkpoint and the device.
func (b *binder) adapt(s *source, t tensorRows) {
	for _, a := range b.adapters {
		u := a.updates[t.module]
		if u == nil {
			continue
		}
		u.used = true
		if u.b.Rows() != t.allModuleRows() || u.a.Cols() != s.Cols {
			b.fail("adapter %s: module %q has factors of shapes %v and %v for a matrix (%d, %d)",
				a.path, t.module, u.a.Shape, u.b.Shape, t.allModuleRows(), s.Cols)
			return
		}
		s.updates = append(s.updates, u)
	}
	if len(s.updates) == 0 {
		return
	}
	if b.opts.DType == dtype.Invalid && s.stored.BlockSize() > 1 {
		if !b.warnedRequantised {
			b.warnedRequantised = true
			b.opts.Logger.Warn().Str("tensor", s.Name).Stringer("type", s.stored).
				Msg("adapted matrices are quantised again, which rounds the adapter's changes more than F16 would")
		}
	}
	raw := s.Row
	s.DType = dtype.F32
	s.Row = func(i int, _ []byte) []byte {
		values := make([]float32, s.Cols)
		s.stored.Decode(values, raw(i, nil))
		for _, u := range s.updates {
			u.add(values, t.moduleRow(i))
		}
		out := make([]byte, 4*len(values))
		dtype.F32.Encode(out, values)
		return out
	}
}

// checkAdapters refuses an adapter of modules that no matrix of the model took.
func (b *binder) checkAdapters() {
	for _, a := range b.adapters {
		var unknown []string
		for module, u := range a.updates {
			if !u.used {
				unknown = append(unknown, module)
			}
		}
		if len(unknown) > 0 {
			slices.Sort(unknown)
			b.fail("adapter %s: %d of its modules are not matrices of this model: %s", a.path, len(unknown),
				quoted(unknown[:min(len(unknown), 4)]))
		}
	}
}
