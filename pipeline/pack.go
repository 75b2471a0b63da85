package pipeline

import (
	"context"
	"encoding/binary"
	"fmt"
	"math"
	"sync"

	"golang.org/x/sync/errgroup"

	"pumice/internal/dtype"
	"pumice/vk"
)

// A Source gives the rows of a matrix as a checkpoint stores them.
type Source struct {
	Name  string
	DType DType
	Rows  int
	Cols  int
	// Row returns the bytes of row i in DType, in a slice that it owns or in scratch.
	// It is called from several goroutines at once, each with its own scratch.
	Row func(i int, scratch []byte) []byte
}

// A Loader moves weights to the device: it converts, repacks and uploads a group of rows at
// a time, with bounded host memory.
type Loader struct {
	w        *Weights
	up       *vk.Uploader
	Workers  int           // goroutines that convert; 1 when zero
	Progress func(n int64) // called with the source bytes of each finished piece, may be nil
}

// StagingBytes is the host memory of a Loader on devices whose memory the host cannot write.
const StagingBytes = 4 * chunkBytes

// chunkBytes is one piece of an upload and of the staging ring.
const chunkBytes = 8 << 20

// NewLoader prepares an upload into the store. The caller closes the Loader.
func (w *Weights) NewLoader() (*Loader, error) {
	up, err := w.m.dev.NewUploader(chunkBytes, StagingBytes/chunkBytes)
	if err != nil {
		return nil, err
	}
	return &Loader{w: w, up: up, Workers: 1}, nil
}

// Close waits for the uploads and frees the staging memory.
func (l *Loader) Close() error {
	err := l.up.Flush()
	if cerr := l.up.Close(); err == nil {
		err = cerr
	}
	return err
}

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
	if err := l.write(v.span, b); err != nil {
		return fmt.Errorf("pipeline: %s: %w", v.Name, err)
	}
	return nil
}

// Matrix allocates x and fills it. at(r) names the source and its row that row r of x is.
func (l *Loader) Matrix(ctx context.Context, x *Matrix, at func(r int) (src *Source, row int)) error {
	if err := l.w.alloc(x); err != nil {
		return err
	}
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(max(l.Workers, 1))
	for _, p := range x.Parts {
		rowBytes := p.unitRowBytes() + p.scaleRowBytes()
		groups := max(1, int(chunkBytes/(rowBytes*int64(p.Group))))
		if p.scaleRowBytes() > 0 && p.Group == 1 {
			// A piece of the scale plane must start and end on a whole 4-byte word.
			groups = max(2, groups&^1)
		}
		step := groups * p.Group
		for first := 0; first < p.paddedRows(); first += step {
			n := min(step, p.paddedRows()-first)
			g.Go(func() error {
				if err := ctx.Err(); err != nil {
					return err
				}
				return l.piece(x, p, first, n, at)
			})
		}
	}
	return g.Wait()
}

// piece packs rows first to first+n of a part, padding included, and uploads them.
func (l *Loader) piece(x *Matrix, p *Part, first, n int, at func(r int) (*Source, int)) error {
	s := scratchPool.Get().(*packScratch)
	defer scratchPool.Put(s)
	unitBytes := int64(n) * p.unitRowBytes()
	lastPiece := first+n == p.paddedRows()
	scaleLo, scaleHi := int64(first)*p.scaleRowBytes(), int64(first+n)*p.scaleRowBytes()
	if lastPiece {
		scaleHi = p.scalePlaneBytes()
	}
	s.units = zeroed(s.units, int(unitBytes))
	s.scales = zeroed(s.scales, int(scaleHi-scaleLo))
	var read int64
	for r := first; r < min(first+n, p.Rows); r++ {
		src, row := at(p.First + r)
		if src.Cols != p.cols {
			return fmt.Errorf("pipeline: %s: row %d has %d columns, want %d", x.Name, p.First+r, src.Cols, p.cols)
		}
		b := src.Row(row, s.row)
		if want := src.DType.RowBytes(src.Cols); int64(len(b)) != want {
			return fmt.Errorf("pipeline: %s: row %d of %s has %d bytes, want %d", x.Name, row, src.Name, len(b), want)
		}
		read += int64(len(b))
		if src.DType != p.DType {
			b = s.convert(p.DType, src.DType, b, p.cols)
		}
		p.pack(s.units, s.scales, r-first, b)
	}
	if err := l.write(p.units.Slice(int64(first)*p.unitRowBytes(), unitBytes), s.units); err != nil {
		return fmt.Errorf("pipeline: %s: %w", x.Name, err)
	}
	if len(s.scales) > 0 {
		if err := l.write(p.scales.Slice(scaleLo, scaleHi-scaleLo), s.scales); err != nil {
			return fmt.Errorf("pipeline: %s: %w", x.Name, err)
		}
	}
	if l.Progress != nil {
		l.Progress(read)
	}
	return nil
}

func (l *Loader) write(dst vk.Span, src []byte) error {
	for len(src) > 0 {
		n := min(len(src), chunkBytes)
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
	units, scales, row, out []byte
	floats                  []float32
}

var scratchPool = sync.Pool{New: func() any { return &packScratch{} }}

func (s *packScratch) convert(to, from DType, b []byte, cols int) []byte {
	if cap(s.floats) < cols {
		s.floats = make([]float32, cols)
	}
	f := s.floats[:cols]
	from.Decode(f, b)
	size := int(to.RowBytes(cols))
	if cap(s.out) < size {
		s.out = make([]byte, size)
	}
	to.Encode(s.out[:size], f)
	return s.out[:size]
}

// pack puts one row, in the checkpoint's blocks, at row r of a piece that starts on a
// group's first row.
func (p *Part) pack(units, scales []byte, r int, b []byte) {
	nunits, blocks := p.unitsPerRow(), p.blocksPerRow()
	group, in := r/p.Group, r%p.Group
	unit := func(u int) []byte { return units[16*((group*nunits+u)*p.Group+in):][:16] }
	scale := func(k int) int { return (group*blocks+k)*p.Group + in }
	switch p.DType {
	case dtype.Q8_0:
		for k := range blocks {
			blk := b[34*k:][:34]
			copy(scales[2*scale(k):], blk[:2])
			for h := range 2 {
				u, q := unit(2*k+h), blk[2+16*h:][:16]
				for i, v := range q {
					u[i] = v ^ 0x80 // q + 128
				}
			}
		}
	case dtype.Q4_0:
		for k := range blocks {
			blk := b[18*k:][:18]
			copy(scales[2*scale(k):], blk[:2])
			packNibbles(unit(k), blk[2:18])
		}
	case dtype.Q4_1:
		for k := range blocks {
			blk := b[20*k:][:20]
			copy(scales[4*scale(k):], blk[:4])
			packNibbles(unit(k), blk[4:20])
		}
	default:
		for u := range nunits {
			copy(unit(u), b[16*u:min(16*u+16, len(b))])
		}
	}
}

// packNibbles turns ggml's order (byte i: column i low, column i + 16 high) into
// ascending columns.
func packNibbles(dst, q []byte) {
	for i := range 8 {
		lo, hi := q[2*i], q[2*i+1]
		dst[i] = lo&15 | hi<<4
		dst[8+i] = lo>>4 | hi&0xf0
	}
}

func zeroed(b []byte, n int) []byte {
	if cap(b) < n {
		return make([]byte, n)
	}
	b = b[:n]
	clear(b)
	return b
}
