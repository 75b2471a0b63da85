package pipeline

import (
	"context"
	"errors"
	"fmt"
	"io"

	"pumice/internal/dtype"
	"pumice/pipeline/kernels"
	"pumice/vk"
)

// A Page names a page of a pool of a Cache.
type Page struct {
	Local bool // of the layers that keep a window
	Index int
}

// PageBytes is the size of a page of a pool, in all its layers.
func (c *Cache) PageBytes(local bool) int64 {
	var n int64
	for _, s := range c.regions(Page{Local: local}) {
		n += s.Size
	}
	return n
}

// regions are the parts of a page: of each layer of its pool keys and values, rows and in a Q8_0 cache their scales.
func (c *Cache) regions(p Page) []vk.Span {
	var list []vk.Span
	rows := int64(c.shape.KVHeads) * kernels.PageSize
	for _, l := range c.Layers {
		if l.Local != p.Local {
			continue
		}
		row := kernels.CacheRowBytes(l.DType, c.shape.HeadDim)
		scales := int64(0)
		if l.DType == dtype.Q8_0 {
			scales = row - int64(c.shape.HeadDim)
		}
		components := row - scales
		for _, side := range []vk.Span{l.Keys, l.Values} {
			list = append(list, side.Slice(int64(p.Index)*rows*components, rows*components))
			if scales > 0 {
				behind := int64(l.Pages) * rows * components
				list = append(list, side.Slice(behind+int64(p.Index)*rows*scales, rows*scales))
			}
		}
	}
	return list
}

// check reports a page that the cache does not have.
func (c *Cache) check(pages ...Page) error {
	for _, p := range pages {
		n := 0
		for _, l := range c.Layers {
			if l.Local == p.Local {
				n = l.Pages
			}
		}
		if p.Index < 0 || p.Index >= n {
			return fmt.Errorf("pipeline: page %d of a pool of %d", p.Index, n)
		}
	}
	return nil
}

// A PageCopy copies a page to another of the same pool.
type PageCopy struct {
	From, To Page
}

// CopyPages copies pages within the device, in order, and waits.
func (c *Cache) CopyPages(ctx context.Context, copies ...PageCopy) error {
	rec := c.m.dev.NewRecorder(vk.RecorderOptions{})
	for _, x := range copies {
		if err := c.check(x.From, x.To); err != nil {
			return err
		}
		from, to := c.regions(x.From), c.regions(x.To)
		if x.From.Local != x.To.Local {
			return errors.New("pipeline: a page copied to one of another pool")
		}
		for i := range from {
			rec.Copy(to[i], from[i])
		}
	}
	return c.runOnce(ctx, rec)
}

// ReadPage copies a page to the host: PageBytes.
func (c *Cache) ReadPage(ctx context.Context, p Page, dst []byte) error {
	return c.transfer(ctx, p, dst, vk.Readback)
}

// WritePage copies a page from the host, as ReadPage has left it.
func (c *Cache) WritePage(ctx context.Context, p Page, src []byte) error {
	return c.transfer(ctx, p, src, vk.Upload)
}

// ClearRows sets the rows of a page from a position on to 0, in memory as ReadPage has left it.
func (c *Cache) ClearRows(local bool, page []byte, from int) {
	for _, region := range c.regions(Page{Local: local}) {
		row := int(region.Size) / (c.shape.KVHeads * kernels.PageSize)
		for head := range c.shape.KVHeads {
			first := head * kernels.PageSize
			clear(page[(first+from)*row : (first+kernels.PageSize)*row])
		}
		page = page[region.Size:]
	}
}

// transfer copies between a page and host memory, through a buffer of its own.
func (c *Cache) transfer(ctx context.Context, p Page, host []byte, use vk.MemoryUse) (err error) {
	if err := c.check(p); err != nil {
		return err
	}
	if size := c.PageBytes(p.Local); int64(len(host)) != size {
		return fmt.Errorf("pipeline: %d bytes for a page of %d", len(host), size)
	}
	staging, err := c.m.dev.NewBuffer(int64(len(host)), use)
	if err != nil {
		return fmt.Errorf("pipeline: a page's buffer: %w", err)
	}
	if use == vk.Upload {
		copy(staging.Mapped(), host)
	}
	rec := c.m.dev.NewRecorder(vk.RecorderOptions{})
	at := int64(0)
	for _, region := range c.regions(p) {
		part := staging.Whole().Slice(at, region.Size)
		if use == vk.Upload {
			rec.Copy(region, part)
		} else {
			rec.Copy(part, region)
		}
		at += region.Size
	}
	if err := c.runOnce(ctx, rec, staging); err != nil {
		return err
	}
	if use == vk.Readback {
		copy(host, staging.Mapped())
	}
	return staging.Close()
}

// runOnce runs what was recorded, and waits. After an error the device may still be at work, so what it uses is kept until
// Close.
func (c *Cache) runOnce(ctx context.Context, rec *vk.Recorder, used ...io.Closer) error {
	commands, err := rec.Finish()
	if err != nil {
		for _, x := range used {
			err = errors.Join(err, x.Close())
		}
		return fmt.Errorf("pipeline: %w", err)
	}
	if err := commands.Run(ctx); err != nil {
		c.abandoned = append(append(c.abandoned, commands), used...)
		return err
	}
	return commands.Close()
}
