//go:build cgo

package present

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"image"
	"slices"
	"time"

	"pumice/shaders"
	"pumice/vk"
)

// tileSide is the width and height of a tile in pixels, as paint.comp has it.
const tileSide = 16

// maxTiles is how many tiles a Canvas may have: every device takes a dispatch of so many workgroups.
const maxTiles = 65535

// A Canvas is a picture in device memory. Painting computes only the tiles of it whose shapes have changed. It is for one
// goroutine.
type Canvas struct {
	dev      *vk.Device
	pipeline *vk.Pipeline
	glyphs   *vk.Buffer
	pixels   *vk.Buffer // nil before the first Resize
	shapes   *vk.Buffer
	tiles    *vk.Buffer
	commands *vk.Commands
	timed    bool
	values   vk.Span // of Value's boxes; no Buffer: none

	width, height int
	bgra          bool
	lists         [][]uint32 // the shapes of each tile, row by row
	hashes        []uint64   // of each tile, when it was painted
	dirty         []int
	glyphsSent    int    // bytes
	generation    uint64 // of these
	last          *vk.Submission
}

// NewCanvas makes a Canvas without pixels. The caller closes it before the device.
func NewCanvas(dev *vk.Device) (*Canvas, error) {
	list, err := shaders.Drawing()
	if err != nil {
		return nil, err
	}
	i := slices.IndexFunc(list, func(v shaders.Variant) bool { return v.Name == "paint" })
	if i < 0 {
		return nil, errors.New("present: there is no kernel paint")
	}
	c := &Canvas{dev: dev, timed: dev.PhysicalDevice().Limits.TimestampValidBits > 0}
	const storage = vk.StorageBuffer
	c.pipeline, err = dev.NewPipeline(vk.PipelineConfig{
		Name: "paint", SPIRV: list[i].SPIRV, PushBytes: 12, Bindings: []vk.BindingKind{storage, storage, storage, storage, storage},
	})
	if err == nil {
		c.glyphs, err = dev.NewBuffer(glyphBytes, vk.Upload)
	}
	if err != nil {
		return nil, errors.Join(err, c.Close())
	}
	return c, nil
}

// SetValues names the float32 values that List.Value draws, in a buffer of the device, which stays the caller's. Frames read
// them from there. The zero Span is none: then nothing is drawn for them.
func (c *Canvas) SetValues(s vk.Span) error {
	if s == c.values {
		return nil
	}
	c.values = s
	return c.free(nil)
}

// Resize gives the Canvas another size in pixels, and says in which order their bytes are. All of it is painted next.
func (c *Canvas) Resize(width, height int, bgra bool) error {
	if width < 1 || height < 1 || tilesIn(width) > maxTiles/tilesIn(height) {
		return fmt.Errorf("present: a canvas of %d x %d: want at most %d tiles of %d x %d", width, height, maxTiles, tileSide, tileSide)
	}
	err := c.free(&c.pixels)
	if err != nil {
		return err
	}
	if c.pixels, err = c.dev.NewBuffer(int64(4*width*height), vk.DeviceLocal); err != nil {
		return err
	}
	c.width, c.height, c.bgra = width, height, bgra
	n := tilesIn(width) * tilesIn(height)
	c.lists, c.hashes = make([][]uint32, n), make([]uint64, n)
	return nil
}

func tilesIn(side int) int { return (side + tileSide - 1) / tileSide }

// Size returns the size in pixels.
func (c *Canvas) Size() (width, height int) { return c.width, c.height }

// Pixels are the pixels, row by row, of four bytes each. They are valid until the next Resize.
func (c *Canvas) Pixels() vk.Span { return c.pixels.Whole() }

// Busy reports whether the device is still at work on the last Paint.
func (c *Canvas) Busy() bool { return c.last != nil && !c.last.Ended() }

// Paint starts to paint what a List shows, after the last Paint has ended, and returns how many tiles are painted. If
// nothing has changed, that is none, and nothing is submitted.
func (c *Canvas) Paint(ctx context.Context, l *List) (tiles int, err error) {
	if c.pixels == nil {
		return 0, errors.New("present: a canvas without a size is painted")
	}
	if c.last != nil {
		if err := c.last.Wait(ctx); err != nil {
			return 0, err
		}
	}
	if words := c.sort(l); len(c.dirty) > 0 {
		if err := c.send(l, words); err != nil {
			return 0, err
		}
		if c.last, err = c.commands.Submit(ctx); err != nil {
			return 0, err
		}
	}
	return len(c.dirty), nil
}

// sort finds the shapes of each tile, and the tiles whose shapes have changed. It returns the number of words that tell
// the kernel of these.
func (c *Canvas) sort(l *List) (words int) {
	for i := range c.lists {
		c.lists[i] = c.lists[i][:0]
	}
	across, down := tilesIn(c.width), tilesIn(c.height)
	clamp := func(v float32, most int) int { return min(max(int(v), 0), most) }
	for i, s := range l.shapes {
		if s.size.X1 <= 0 || s.size.Y1 <= 0 {
			continue
		}
		x1, y1 := clamp((s.size.X1-1e-3)/tileSide, across-1), clamp((s.size.Y1-1e-3)/tileSide, down-1)
		for y := clamp(s.size.Y0/tileSide, down); y <= y1; y++ {
			for x := clamp(s.size.X0/tileSide, across); x <= x1; x++ {
				list := &c.lists[y*across+x]
				if s.kind == kindBox && s.colour&0xff == 0xff && s.covers(x, y) {
					*list = (*list)[:0] // what is behind it is not seen
				}
				*list = append(*list, uint32(i))
			}
		}
	}
	c.dirty, words = c.dirty[:0], 1
	for i, list := range c.lists {
		h := uint64(len(list)) + 1 // no tile that was painted has 0
		for _, s := range list {
			h = (h ^ l.shapes[s].hash) * 0x9e3779b97f4a7c15
		}
		if h != c.hashes[i] {
			c.hashes[i] = h
			c.dirty = append(c.dirty, i)
			words += 3 + len(list)
		}
	}
	return words
}

// covers reports whether a box covers a tile.
func (s *shape) covers(x, y int) bool {
	b, left, top := s.box, float32(x*tileSide), float32(y*tileSide)
	return b.X0 <= left && b.Y0 <= top && b.X1 >= left+tileSide && b.Y1 >= top+tileSide
}

// send writes what the kernel reads.
func (c *Canvas) send(l *List, words int) error {
	if err := c.reserve(int64(len(l.shapes)*shapeBytes), int64(4*words)); err != nil {
		return err
	}
	shapes, tiles := c.shapes.Mapped(), c.tiles.Mapped()
	for i := range l.shapes {
		s := l.shapes[i]
		if s.kind == kindValue && int64(s.a) >= c.values.Size/4 {
			s.kind, s.colour = kindBox, 0 // there is no such value
		}
		s.write(shapes[i*shapeBytes:])
	}
	put := func(i int, v uint32) { binary.LittleEndian.PutUint32(tiles[4*i:], v) }
	put(0, uint32(len(c.dirty)))
	across, at := tilesIn(c.width), 1+3*len(c.dirty)
	for i, tile := range c.dirty {
		list := c.lists[tile]
		put(1+3*i, uint32(tile%across)|uint32(tile/across)<<16)
		put(2+3*i, uint32(at))
		put(3+3*i, uint32(len(list)))
		for k, s := range list {
			put(at+k, s)
		}
		at += len(list)
	}
	if f := l.font; f.generation != c.generation {
		c.generation, c.glyphsSent = f.generation, 0
	}
	c.glyphsSent += copy(c.glyphs.Mapped()[c.glyphsSent:], l.font.cover[c.glyphsSent:])
	return nil
}

// reserve makes sure that there is room for what the kernel reads, and that its commands are recorded.
func (c *Canvas) reserve(shapes, tiles int64) error {
	for _, need := range []struct {
		buffer **vk.Buffer
		size   int64
	}{{&c.shapes, shapes}, {&c.tiles, tiles}} {
		if b := *need.buffer; b != nil && b.Size() >= need.size {
			continue
		}
		if err := c.free(need.buffer); err != nil {
			return err
		}
		var err error
		if *need.buffer, err = c.dev.NewBuffer(max(2*need.size, 64<<10), vk.Upload); err != nil {
			return err
		}
	}
	if c.commands != nil {
		return nil
	}
	push := binary.LittleEndian.AppendUint32(nil, uint32(c.width))
	push = binary.LittleEndian.AppendUint32(push, uint32(c.height))
	push = binary.LittleEndian.AppendUint32(push, map[bool]uint32{true: 1}[c.bgra])
	values := c.values
	if values.Buffer == nil {
		values = c.glyphs.Whole() // nothing reads them
	}
	r := c.dev.NewRecorder(vk.RecorderOptions{Timestamps: c.timed})
	r.Dispatch(c.pipeline, []vk.Bind{
		{Span: c.pixels.Whole(), Access: vk.Write}, {Span: c.shapes.Whole()}, {Span: c.tiles.Whole()}, {Span: c.glyphs.Whole()}, {Span: values},
	}, push, len(c.lists), 1, 1)
	var err error
	c.commands, err = r.Finish()
	return err
}

// free closes a buffer, after the commands that use it; nil: those alone.
func (c *Canvas) free(b **vk.Buffer) error {
	var err error
	if c.commands != nil {
		err = c.commands.Close()
		c.commands, c.last = nil, nil
	}
	if b != nil && *b != nil {
		err = errors.Join(err, (*b).Close())
		*b = nil
	}
	return err
}

// Took returns how long the device worked on the last Paint, which has ended; 0 on a device without timestamps.
func (c *Canvas) Took() time.Duration {
	if !c.timed || c.last == nil {
		return 0
	}
	times, err := c.commands.Timings()
	if err != nil || len(times) == 0 {
		return 0
	}
	return times[0]
}

// Image waits for the last Paint and reads the picture.
func (c *Canvas) Image() (*image.NRGBA, error) {
	if c.pixels == nil {
		return nil, errors.New("present: the image of a canvas without a size")
	}
	m := image.NewNRGBA(image.Rect(0, 0, c.width, c.height))
	if err := c.dev.Read(c.pixels.Whole(), m.Pix); err != nil {
		return nil, err
	}
	if c.bgra {
		for i := 0; i < len(m.Pix); i += 4 {
			m.Pix[i], m.Pix[i+2] = m.Pix[i+2], m.Pix[i]
		}
	}
	return m, nil
}

// Close frees the Canvas.
func (c *Canvas) Close() error {
	var errs []error
	for _, b := range []**vk.Buffer{&c.pixels, &c.shapes, &c.tiles, &c.glyphs} {
		errs = append(errs, c.free(b))
	}
	if c.pipeline != nil {
		errs = append(errs, c.pipeline.Close())
		c.pipeline = nil
	}
	return errors.Join(errs...)
}
