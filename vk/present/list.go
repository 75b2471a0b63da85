package present

import (
	"encoding/binary"
	"hash/maphash"
	"math"
)

// A Colour is red, green, blue and opacity, from the highest byte on: 0xff0000ff is red.
type Colour uint32

// With returns the colour with an opacity from 0 to 1, times its own.
func (c Colour) With(opacity float64) Colour {
	a := float64(c&0xff) * min(max(opacity, 0), 1)
	return c&^0xff | Colour(math.Round(a))
}

// A Rect is a rectangle in pixels, from the upper left corner of the window on. X1 and Y1 are outside it.
type Rect struct{ X0, Y0, X1, Y1 float32 }

// Width and height, and what is inside.
func (r Rect) Width() float32             { return r.X1 - r.X0 }
func (r Rect) Height() float32            { return r.Y1 - r.Y0 }
func (r Rect) Contains(x, y float32) bool { return x >= r.X0 && x < r.X1 && y >= r.Y0 && y < r.Y1 }

// Inset returns the rectangle without a border of d pixels.
func (r Rect) Inset(d float32) Rect { return Rect{r.X0 + d, r.Y0 + d, r.X1 - d, r.Y1 - d} }

// What a shape is, in paint.comp too.
const (
	kindBox   = 0
	kindLine  = 1
	kindGlyph = 2
	kindValue = 3
)

// A shape is 32 bytes of what the kernel reads. box is the rectangle of a box or a glyph, or the ends of a line; a is the
// half width of a line, as bits, where the cover of a glyph begins, or the number of a value, of which b is the stamp.
type shape struct {
	box    Rect
	colour Colour
	kind   uint32
	a, b   uint32
	size   Rect // where it may paint; not for the kernel
	hash   uint64
}

const shapeBytes = 32

// A List is what a picture shows. Later shapes lie over earlier ones. It is for one goroutine.
type List struct {
	font   *Font
	shapes []shape
	buffer [shapeBytes]byte
	hash   maphash.Hash
}

// NewList returns an empty List with text in a font.
func NewList(f *Font) *List { return &List{font: f} }

// Font is the font of the List's text.
func (l *List) Font() *Font { return l.font }

// Len returns how many shapes the List has; a character of text is one.
func (l *List) Len() int { return len(l.shapes) }

// Reset empties the List for another picture.
func (l *List) Reset() {
	l.shapes = l.shapes[:0]
	l.font.settle()
}

// Box draws a filled rectangle.
func (l *List) Box(r Rect, c Colour) {
	if r.X1 > r.X0 && r.Y1 > r.Y0 {
		l.add(shape{box: r, colour: c, kind: kindBox, size: r})
	}
}

// Value draws a filled rectangle as opaque as the cube root of a value says, from 0 to 1, times the colour's opacity: value i of
// the buffer that Canvas.SetValues has named. It is painted anew when the stamp is another one.
func (l *List) Value(r Rect, i int, stamp uint32, c Colour) {
	if r.X1 > r.X0 && r.Y1 > r.Y0 && i >= 0 && i <= math.MaxInt32 {
		l.add(shape{box: r, colour: c, kind: kindValue, a: uint32(i), b: stamp, size: r})
	}
}

// Frame draws the border of a rectangle, inside it.
func (l *List) Frame(r Rect, width float32, c Colour) {
	l.Box(Rect{r.X0, r.Y0, r.X1, r.Y0 + width}, c)
	l.Box(Rect{r.X0, r.Y1 - width, r.X1, r.Y1}, c)
	l.Box(Rect{r.X0, r.Y0 + width, r.X0 + width, r.Y1 - width}, c)
	l.Box(Rect{r.X1 - width, r.Y0 + width, r.X1, r.Y1 - width}, c)
}

// Line draws a line with round ends.
func (l *List) Line(x0, y0, x1, y1, width float32, c Colour) {
	half := width / 2
	l.add(shape{box: Rect{x0, y0, x1, y1}, colour: c, kind: kindLine, a: math.Float32bits(half),
		size: Rect{min(x0, x1) - half - 1, min(y0, y1) - half - 1, max(x0, x1) + half + 1, max(y0, y1) + half + 1}})
}

// Text draws text from x on, with its baseline at y, and returns where it ends. size is the height of a line of the
// font, in pixels. Line breaks and other control characters are left out.
func (l *List) Text(x, y float32, size int, text string, c Colour) float32 {
	pen, base := float64(x), float32(math.Round(float64(y)))
	for _, r := range text {
		g, ok := l.font.glyph(size, r)
		if !ok {
			continue
		}
		if g.width > 0 && g.height > 0 {
			left := float32(math.Round(pen)) + float32(g.left)
			box := Rect{left, base + float32(g.top), left + float32(g.width), base + float32(g.top+g.height)}
			l.add(shape{box: box, colour: c, kind: kindGlyph, a: g.at, size: box})
		}
		pen += g.advance
	}
	return float32(pen)
}

// TextRight draws text that ends at x.
func (l *List) TextRight(x, y float32, size int, text string, c Colour) {
	l.Text(x-l.font.Width(size, text), y, size, text, c)
}

func (l *List) add(s shape) {
	s.write(l.buffer[:])
	l.hash.Reset()
	l.hash.Write(l.buffer[:])
	s.hash = l.hash.Sum64() ^ l.font.generation
	l.shapes = append(l.shapes, s)
}

// write puts the shape into 32 bytes as the kernel reads it.
func (s *shape) write(b []byte) {
	for i, v := range [4]float32{s.box.X0, s.box.Y0, s.box.X1, s.box.Y1} {
		binary.LittleEndian.PutUint32(b[4*i:], math.Float32bits(v))
	}
	binary.BigEndian.PutUint32(b[16:], uint32(s.colour)) // red in the lowest byte
	binary.LittleEndian.PutUint32(b[20:], s.kind)
	binary.LittleEndian.PutUint32(b[24:], s.a)
	binary.LittleEndian.PutUint32(b[28:], s.b)
}
