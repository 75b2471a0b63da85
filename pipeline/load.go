package pipeline

import (
	"cmp"
	"context"
	"encoding/binary"
	"fmt"
	"math"
	"sync"
	"sync/atomic"

	"golang.org/x/sync/errgroup"

	"pumice/vk"
)

// A RowSource gives the rows of a matrix as a checkpoint stores them.
type RowSource struct {
	Name  string
	DType DType
	Rows  int
	Cols  int
	// Row returns the bytes of row i in DType, in a slice that it owns or in scratch.
	// It is called from several goroutines at once, each with its own scratch.
	Row func(i int, scratch []byte) []byte
	// Prefetch says that rows first to first+n will be asked for soon; nil means there is no use in it.
	Prefetch func(first, n int)
}

// A Loader moves weights to the device: it converts, repacks and uploads a group of rows at
// a time, with bounded host memory.
type Loader struct {
	w        *Weights
	up       *vk.Uploader
	Workers  int           // goroutines that convert; 1 when zero
	Progress func(n int64) // called with the source bytes of each finished upload; may be nil
	// Guard runs what reads rows of RowSources, and may turn a panic into an error; nil calls it directly.
	Guard func(read func() error) error
}

// StagingBytes is the host memory of a Loader on devices whose memory the host cannot write.
const StagingBytes = 16 * uploadBytes

// uploadBytes is the most that is packed and uploaded at once, and a buffer of the staging ring: so little that the
// matrices of a layer keep every worker busy.
const uploadBytes = 2 << 20

// NewLoader prepares an upload into the store, which the end of ctx ends. The caller closes the Loader.
func (w *Weights) NewLoader(ctx context.Context) (*Loader, error) {
	up, err := w.m.dev.NewUploader(ctx, uploadBytes, StagingBytes/uploadBytes)
	if err != nil {
		return nil, err
	}
	return &Loader{w: w, up: up, Workers: 1}, nil
}

// reserve takes the memory of matrices, for which alloc is called next in the same order.
func (w *Weights) reserve(fills []Fill) error {
	var sizes []int64
	for _, f := range fills {
		for _, p := range f.Matrix.Shards {
			if sizes = append(sizes, p.UnitBytes()); p.MetaBytes() > 0 {
				sizes = append(sizes, p.MetaBytes())
			}
		}
	}
	if err := w.pool.Reserve(weightAlign, sizes...); err != nil {
		return fmt.Errorf("pipeline: memory of %d matrices: %w", len(fills), err)
	}
	return nil
}

// Close waits for the uploads and frees the staging memory.
func (l *Loader) Close() error {
	err := l.up.Flush()
	if cerr := l.up.Close(); err == nil {
		err = cerr
	}
	return err
}

// Flush waits for the uploads so far.
func (l *Loader) Flush() error { return l.up.Flush() }

// Vector allocates v and fills it with its v.Cols values.
func (l *Loader) Vector(v *Vector, values []float32) (err error) {
	if len(values) != v.Cols {
		return fmt.Errorf("pipeline: %s: %d values, want %d", v.Name, len(values), v.Cols)
	}
	if v.span, err = l.w.pool.Alloc(v.DeviceBytes(), weightAlign); err != nil {
		return fmt.Errorf("pipeline: %s: %w", v.Name, err)
	}
	b := make([]byte, v.DeviceBytes())
	for i, x := range values {
		binary.LittleEndian.PutUint32(b[4*i:], math.Float32bits(x))
	}
	if err := l.Write(v.span, b); err != nil {
		return fmt.Errorf("pipeline: %s: %w", v.Name, err)
	}
	return nil
}

// A Fill is a matrix to be filled.
type Fill struct {
	Matrix *Matrix
	// At names the source and its row that row r of the matrix is. It is called from several goroutines at once.
	At func(r int) (src *RowSource, row int)
	// Exponent returns e, where row r is multiplied by 2^e; nil means no row is. It is called from several goroutines at once.
	Exponent func(r int) int
	Finite   bool // a NaN or an infinity is an error, since it would not show in what is computed
	// Begin is called before the first row is read and End after the last one, from any goroutine; nil where the sources need
	// neither. After an error, Begin's too, End may be left out.
	Begin func(ctx context.Context) error
	End   func()
}

// Matrices allocates the matrices in their order and fills them. They are read one after another, but Workers goroutines pack
// whatever comes next: a small matrix occupies one of them.
func (l *Loader) Matrices(ctx context.Context, fills ...Fill) error {
	if err := l.w.reserve(fills); err != nil {
		return err
	}
	var uploads []upload
	for _, f := range fills {
		if err := l.w.alloc(f.Matrix); err != nil {
			return err
		}
		uploads = append(uploads, f.uploads()...)
	}
	g, running := errgroup.WithContext(ctx)
	g.SetLimit(max(l.Workers, 1))
	guard := l.Guard
	if guard == nil {
		guard = func(read func() error) error { return read() }
	}
	var begin error
	announced := 0
	for i, p := range uploads {
		if running.Err() != nil {
			break
		}
		for ; announced < min(i+lookahead, len(uploads)); announced++ {
			uploads[announced].prefetch()
		}
		if begin = p.begin(running); begin != nil {
			break
		}
		g.Go(func() error {
			if err := guard(func() error { return l.load(running, p) }); err != nil {
				return err
			}
			p.end()
			return nil
		})
	}
	if err := cmp.Or(g.Wait(), begin); err != nil {
		return err
	}
	return ctx.Err()
}

// lookahead is how many uploads the disk is asked for at a time.
const lookahead = 16

// An upload is rows of a shard that are packed and written together.
type upload struct {
	*filling
	shard       *Shard
	first, rows int // padding included
}

// filling is a Fill under way.
type filling struct {
	Fill
	left atomic.Int64 // uploads
}

func (f Fill) uploads() []upload {
	var list []upload
	fl := &filling{Fill: f}
	for _, p := range f.Matrix.Shards {
		rowBytes := p.UnitRowBytes() + p.MetaRowBytes()
		step := max(1, int(uploadBytes/rowBytes)/p.MetaGroup()) * p.MetaGroup()
		for first := 0; first < p.UnitRows(); first += step {
			list = append(list, upload{fl, p, first, min(step, p.UnitRows()-first)})
		}
	}
	fl.left.Store(int64(len(list)))
	return list
}

func (p upload) begin(ctx context.Context) error {
	if p.Begin != nil && p.first == 0 && p.shard == p.Matrix.Shards[0] {
		return p.Begin(ctx)
	}
	return nil
}

func (p upload) end() {
	if p.left.Add(-1) == 0 && p.End != nil {
		p.End()
	}
}

// sourced is the row of the shard before which sources give the rows; padding follows.
func (p upload) sourced() int { return min(p.first+p.rows, p.shard.Rows) }

// prefetch announces the rows.
func (p upload) prefetch() {
	type span struct{ lo, hi int }
	spans := map[*RowSource]span{}
	for r := p.first; r < p.sourced(); r++ {
		src, row := p.At(p.shard.First + r)
		if src.Prefetch == nil {
			return
		}
		s, ok := spans[src]
		if !ok {
			s.lo = row
		}
		spans[src] = span{min(s.lo, row), max(s.hi, row+1)}
	}
	for src, s := range spans {
		src.Prefetch(s.lo, s.hi-s.lo)
	}
}

// load packs rows and uploads them. Rows that adapters change can take milliseconds, so the context is looked at before each.
func (l *Loader) load(ctx context.Context, pc upload) error {
	s := scratchPool.Get().(*packScratch)
	defer scratchPool.Put(s)
	x, p, first, n := pc.Matrix, pc.shard, pc.first, pc.rows
	unitBytes := int64(n) * p.UnitRowBytes()
	lastPiece := first+n == p.UnitRows()
	metaLo, metaHi := int64(first)*p.MetaRowBytes(), int64(first+n)*p.MetaRowBytes()
	if lastPiece {
		metaHi = p.MetaBytes()
	}
	s.units = zeroed(s.units, int(unitBytes))
	s.meta = zeroed(s.meta, int(metaHi-metaLo))
	var read int64
	for r := first; r < pc.sourced(); r++ {
		if err := ctx.Err(); err != nil {
			return err
		}
		src, row := pc.At(p.First + r)
		if src.Cols != p.Cols {
			return fmt.Errorf("pipeline: %s: row %d has %d columns, want %d", x.Name, p.First+r, src.Cols, p.Cols)
		}
		b := src.Row(row, s.row)
		if want := src.DType.RowBytes(src.Cols); int64(len(b)) != want {
			return fmt.Errorf("pipeline: %s: row %d of %s has %d bytes, want %d", x.Name, row, src.Name, len(b), want)
		}
		read += int64(len(b))
		if pc.Finite {
			if err := s.finite(src, row, b); err != nil {
				return fmt.Errorf("pipeline: tensor %s: %w", src.Name, err)
			}
		}
		exponent := 0
		if pc.Exponent != nil {
			exponent = pc.Exponent(p.First + r)
		}
		if src.DType != p.DType || exponent != 0 {
			var err error
			if b, err = s.convert(p.DType, src, row, b, exponent); err != nil {
				return fmt.Errorf("pipeline: tensor %s: %w", src.Name, err)
			}
		}
		if p.measured {
			p.measure(b)
		}
		p.Pack(s.units, s.meta, r-first, b)
	}
	if err := l.Write(p.units.Slice(int64(first)*p.UnitRowBytes(), unitBytes), s.units); err != nil {
		return fmt.Errorf("pipeline: %s: %w", x.Name, err)
	}
	if len(s.meta) > 0 {
		if err := l.Write(p.meta.Slice(metaLo, metaHi-metaLo), s.meta); err != nil {
			return fmt.Errorf("pipeline: %s: %w", x.Name, err)
		}
	}
	if l.Progress != nil {
		l.Progress(read)
	}
	return nil
}

// Write uploads src to dst, in portions of the staging memory.
func (l *Loader) Write(dst vk.Span, src []byte) error {
	for len(src) > 0 {
		n := min(len(src), uploadBytes)
		err := l.up.Write(dst.Slice(0, int64(n)), func(p []byte) error {
			copy(p, src[:n])
			return nil
		})
		if err != nil {
			return err
		}
		src = src[n:]
		dst = dst.Slice(int64(n), dst.Size-int64(n))
	}
	return nil
}

// packScratch is what one goroutine needs to convert and repack.
type packScratch struct {
	units, meta, row, out []byte
	floats                []float32
}

var scratchPool = sync.Pool{New: func() any { return &packScratch{} }}

// decode returns the weights of b, a row of src.
func (s *packScratch) decode(src *RowSource, b []byte) []float32 {
	if cap(s.floats) < src.Cols {
		s.floats = make([]float32, src.Cols)
	}
	f := s.floats[:src.Cols]
	src.DType.Decode(f, b)
	return f
}

// finite says what is not finite in b, row number row of src.
func (s *packScratch) finite(src *RowSource, row int, b []byte) error {
	for i, v := range s.decode(src, b) {
		if math.IsNaN(float64(v)) || math.IsInf(float64(v), 0) {
			return fmt.Errorf("element %d of row %d is %v", i, row, v)
		}
	}
	return nil
}

// convert returns b, row number row of src, in another type and times 2^exponent.
func (s *packScratch) convert(to DType, src *RowSource, row int, b []byte, exponent int) ([]byte, error) {
	if src.DType == to {
		s.out = append(s.out[:0], b...)
		if !to.Scale(s.out, exponent) {
			return nil, fmt.Errorf("row %d times 2^%d leaves the range of %s", row, exponent, to)
		}
		return s.out, nil
	}
	f := s.decode(src, b)
	if exponent != 0 {
		power := math.Ldexp(1, exponent)
		for i, v := range f {
			f[i] = float32(float64(v) * power)
		}
	}
	size := int(to.RowBytes(src.Cols))
	if cap(s.out) < size {
		s.out = make([]byte, size)
	}
	return s.out[:size], to.EncodeFinite(s.out[:size], f, row)
}

func zeroed(b []byte, n int) []byte {
	if cap(b) < n {
		return make([]byte, n)
	}
	b = b[:n]
	clear(b)
	return b
}
