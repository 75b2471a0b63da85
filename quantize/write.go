package quantize

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"

	"pumice/checkpoint"
	"pumice/internal/atomicfile"
	"pumice/internal/dtype"
	"pumice/model"
)

// batchBytes is about how many bytes are converted between two writes.
const batchBytes = 8 << 20

// Write writes the file path. It writes a temporary file beside path and renames it when it is complete; after
// an error the temporary file is removed. If path exists, the error matches fs.ErrExist, unless overwrite is
// set. Only a regular file is ever replaced.
//
// Before it converts the first tensor, Write reads the header back like any GGUF file. If that does not describe
// the same model, because llama.cpp's architecture can't express some property, Write returns an error.
func (p *Plan) Write(ctx context.Context, path string, overwrite bool) error {
	write := atomicfile.Create
	if overwrite {
		write = atomicfile.Replace
	}
	err := write(path, func(f *os.File) error { return p.write(ctx, f, path) })
	if err != nil {
		return fmt.Errorf("quantize: %w", err)
	}
	return nil
}

// WriteIn replaces the content of a file that is open for writing, for callers that others hand such a file. After an error it
// has a part.
func (p *Plan) WriteIn(ctx context.Context, f *os.File) error {
	err := f.Truncate(0)
	if err == nil {
		_, err = f.Seek(0, io.SeekStart)
	}
	if err == nil {
		err = p.write(ctx, f, f.Name())
	}
	if err != nil {
		return fmt.Errorf("quantize: %w", err)
	}
	return nil
}

// write writes the file f, which is or will be called path.
func (p *Plan) write(ctx context.Context, f *os.File, path string) error {
	if _, err := f.Write(p.file.Header); err != nil {
		return err
	}
	if err := f.Truncate(p.file.Size); err != nil {
		return err
	}
	if err := p.check(ctx, f.Name(), path); err != nil {
		return err
	}
	var total int64
	for _, t := range p.Tensors {
		total += t.Bytes
	}
	var done int64
	for _, r := range p.rows {
		r.ctx = ctx
		r.progress = func(n int64) {
			if done += n; p.o.Progress != nil {
				p.o.Progress(done, total)
			}
		}
	}
	return p.file.WriteTensors(f)
}

// check reads back the header of name, the temporary file of path.
func (p *Plan) check(ctx context.Context, name, path string) error {
	c, err := checkpoint.Open(ctx, name)
	if err != nil {
		return err
	}
	defer c.Close()
	if err := p.export.Check(c); err != nil {
		var config *model.ConfigError
		if errors.As(err, &config) {
			config.File = filepath.Base(path) // name is removed before the error is shown
		}
		return err
	}
	return nil
}

// fill converts the rows of one tensor.
type fill struct {
	plan *Plan
	from *model.ExportTensor
	to   dtype.DType

	ctx      context.Context
	progress func(n int64)
}

// write converts and writes the rows in batches, each divided among the workers.
func (f *fill) write(w io.Writer) error {
	rows, size := f.from.Rows(), int(f.to.RowBytes(f.from.Cols()))
	batch := max(f.plan.o.Workers, batchBytes/max(size, 1))
	buf := make([]byte, min(batch, rows)*size)
	for first := 0; first < rows; first += batch {
		if err := f.ctx.Err(); err != nil {
			return err
		}
		n := min(batch, rows-first)
		if next := min(batch, rows-first-n); f.from.Prefetch != nil && next > 0 {
			f.from.Prefetch(first+n, next)
		}
		if err := f.convert(buf[:n*size], first, n); err != nil {
			return err
		}
		if _, err := w.Write(buf[:n*size]); err != nil {
			return err
		}
		f.progress(int64(n * size))
	}
	return nil
}

// convert converts n rows from row first on, on all workers.
func (f *fill) convert(dst []byte, first, n int) error {
	workers := min(f.plan.o.Workers, n)
	size := len(dst) / n
	errs := make([]error, workers)
	var wait sync.WaitGroup
	for k := range workers {
		wait.Go(func() {
			errs[k] = checkpoint.Guard(func() error {
				begin, end := n*k/workers, n*(k+1)/workers
				return f.convertRows(dst[begin*size:end*size], first+begin, end-begin)
			})
		})
	}
	wait.Wait()
	return errors.Join(errs...)
}

// convertRows is convert for one worker.
func (f *fill) convertRows(dst []byte, first, n int) error {
	var scratch []byte
	floats := make([]float32, f.from.Cols())
	size := len(dst) / n
	for i := range n {
		b := f.from.Row(first+i, scratch)
		if f.to == f.from.DType {
			copy(dst[i*size:], b)
			continue
		}
		f.from.DType.Decode(floats, b)
		if err := f.to.EncodeFinite(dst[i*size:][:size], floats, first+i); err != nil {
			return fmt.Errorf("tensor %q: %w", f.from.Name, err)
		}
	}
	return nil
}
