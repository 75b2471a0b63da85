package model

import (
	"context"

	"pumice/model/pages"
	"pumice/pipeline"
)

// A mover copies pages for the pool of a model, on every device that has layers of their group.
type mover struct {
	x    *Model
	host [pages.Groups]map[int32][]byte // what is in the pages of host memory, of one device after another
}

// Move implements pages.Mover.
func (m *mover) Move(ctx context.Context, moves []pages.Move) error {
	for _, g := range m.x.stages {
		var copies []pipeline.PageCopy
		for _, move := range moves {
			local := move.Group == pages.Local
			if move.Kind == pages.Copy && g.cache.PageBytes(local) > 0 {
				copies = append(copies, pipeline.PageCopy{From: devicePage(move.Group, move.From), To: devicePage(move.Group, move.To)})
			}
		}
		if len(copies) == 0 {
			continue
		}
		if err := g.cache.CopyPages(ctx, copies...); err != nil {
			return err
		}
	}
	for _, move := range moves {
		var err error
		switch move.Kind {
		case pages.Save:
			err = m.save(ctx, move)
		case pages.Load:
			err = m.x.writePage(ctx, devicePage(move.Group, move.To), m.host[move.Group][move.From])
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func devicePage(g pages.Group, index int32) pipeline.Page {
	return pipeline.Page{Local: g == pages.Local, Index: int(index)}
}

// save copies a page to host memory, which takes that of the page that was there before.
func (m *mover) save(ctx context.Context, move pages.Move) error {
	host := &m.host[move.Group]
	if *host == nil {
		*host = map[int32][]byte{}
	}
	page := devicePage(move.Group, move.From)
	data := (*host)[move.To]
	if data == nil {
		data = make([]byte, m.x.PageBytes(move.Group))
		(*host)[move.To] = data
	}
	return m.x.readPage(ctx, page, data)
}

// PageBytes is the size of a page in all layers of a group, on all devices.
func (x *Model) PageBytes(g pages.Group) (n int64) {
	for _, s := range x.stages {
		n += s.cache.PageBytes(g == pages.Local)
	}
	return n
}

// ReadPage copies what a sequence has in a page to the host, PageBytes of its group. Rows that are not the sequence's are 0.
func (x *Model) ReadPage(ctx context.Context, e pages.Extent, dst []byte) error {
	if err := x.settle(ctx); err != nil {
		return err
	}
	page := devicePage(e.Group, e.Page)
	if err := x.readPage(ctx, page, dst); err != nil {
		return err
	}
	return x.eachPart(page.Local, dst, func(g *stage, part []byte) error {
		g.cache.ClearRows(page.Local, part, e.Rows)
		return nil
	})
}

// WritePage copies a page from the host, as ReadPage has left it.
func (x *Model) WritePage(ctx context.Context, e pages.Extent, src []byte) error {
	if err := x.settle(ctx); err != nil {
		return err
	}
	return x.writePage(ctx, devicePage(e.Group, e.Page), src)
}

// readPage copies a page of every device to the host.
func (x *Model) readPage(ctx context.Context, p pipeline.Page, dst []byte) error {
	return x.eachPart(p.Local, dst, func(g *stage, part []byte) error { return g.cache.ReadPage(ctx, p, part) })
}

// writePage copies a page from the host to every device.
func (x *Model) writePage(ctx context.Context, p pipeline.Page, src []byte) error {
	return x.eachPart(p.Local, src, func(g *stage, part []byte) error { return g.cache.WritePage(ctx, p, part) })
}

// eachPart divides the bytes of a page among the devices that have layers of its group.
func (x *Model) eachPart(local bool, page []byte, do func(g *stage, part []byte) error) error {
	for _, g := range x.stages {
		n := g.cache.PageBytes(local)
		if n == 0 {
			continue
		}
		if err := do(g, page[:n]); err != nil {
			return err
		}
		page = page[n:]
	}
	return nil
}
