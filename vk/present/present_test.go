package present

import (
	"encoding/binary"
	"image"
	"image/color"
	"image/draw"
	"math"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"golang.org/x/image/font"
	"golang.org/x/image/math/fixed"

	"pumice/internal/gputest"
	"pumice/vk"
)

const (
	white Colour = 0xffffffff
	black Colour = 0x000000ff
)

func newList(t testing.TB) *List {
	t.Helper()
	f, err := NewFont()
	if err != nil {
		t.Fatal(err)
	}
	return NewList(f)
}

func newCanvas(t testing.TB, width, height int, bgra bool) *Canvas {
	t.Helper()
	c, err := NewCanvas(gputest.Open(t))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	})
	if err := c.Resize(width, height, bgra); err != nil {
		t.Fatal(err)
	}
	return c
}

// paint returns the picture of a list, and how many tiles were painted.
func paint(t testing.TB, c *Canvas, l *List) (*image.NRGBA, int) {
	t.Helper()
	tiles, err := c.Paint(t.Context(), l)
	if err != nil {
		t.Fatal(err)
	}
	m, err := c.Image()
	if err != nil {
		t.Fatal(err)
	}
	return m, tiles
}

// reference paints boxes and lines by their definition, one pixel at a time, in float64: over is the share of a pixel inside a
// box, found for each side, or how far the pixel's middle is inside the line's border, half a pixel on each side of which is soft.
func reference(l *List, width, height int, values ...float32) *image.NRGBA {
	m := image.NewNRGBA(image.Rect(0, 0, width, height))
	for y := range height {
		for x := range width {
			var pixel [3]float64
			for _, s := range l.shapes {
				b := [4]float64{float64(s.box.X0), float64(s.box.Y0), float64(s.box.X1), float64(s.box.Y1)}
				over := 0.0
				switch s.kind {
				case kindBox, kindValue:
					share := func(at int, from, to float64) float64 {
						return math.Max(0, math.Min(float64(at+1), to)-math.Max(float64(at), from))
					}
					over = share(x, b[0], b[2]) * share(y, b[1], b[3])
					if s.kind == kindValue && int(s.a) >= len(values) {
						over = 0
					} else if s.kind == kindValue {
						over *= math.Cbrt(min(1, max(0, float64(values[s.a]))))
					}
				case kindLine:
					half := float64(math.Float32frombits(s.a))
					over = math.Min(1, math.Max(0, half+0.5-distance(float64(x)+0.5, float64(y)+0.5, b)))
				}
				for i := range pixel {
					a := over * float64(s.colour&0xff) / 255
					pixel[i] += a * (float64(s.colour>>(24-8*i)&0xff)/255 - pixel[i])
				}
			}
			m.SetNRGBA(x, y, color.NRGBA{level(pixel[0]), level(pixel[1]), level(pixel[2]), 255})
		}
	}
	return m
}

func level(v float64) uint8 { return uint8(math.Round(255 * v)) }

// distance is that of a point to a segment: to its line between its ends, to the nearer end beyond them.
func distance(x, y float64, b [4]float64) float64 {
	dx, dy := b[2]-b[0], b[3]-b[1]
	length := math.Hypot(dx, dy)
	along := ((x-b[0])*dx + (y-b[1])*dy) / length
	if length > 0 && along > 0 && along < length {
		return math.Abs((x-b[0])*dy-(y-b[1])*dx) / length
	}
	return math.Min(math.Hypot(x-b[0], y-b[1]), math.Hypot(x-b[2], y-b[3]))
}

// compare fails where a channel differs by more than one step of 255.
func compare(t *testing.T, got, want *image.NRGBA) {
	t.Helper()
	if got.Rect != want.Rect {
		t.Fatalf("%v, want %v", got.Rect, want.Rect)
	}
	bad := 0
	for i, w := range want.Pix {
		if d := int(got.Pix[i]) - int(w); d < -1 || d > 1 {
			if bad++; bad <= 5 {
				t.Errorf("pixel (%d, %d), channel %d: %d, want %d", i/4%want.Rect.Dx(), i/4/want.Rect.Dx(), i%4, got.Pix[i], w)
			}
		}
	}
	if bad > 5 {
		t.Errorf("%d channels differ", bad)
	}
}

// scatter fills a list with shapes in and around a picture.
func scatter(l *List, r *rand.Rand, n, width, height int) {
	x := func() float32 { return float32(r.Float64()*1.4-0.2) * float32(width) }
	y := func() float32 { return float32(r.Float64()*1.4-0.2) * float32(height) }
	for range n {
		c := Colour(r.Uint32())
		if r.IntN(3) == 0 {
			c |= 0xff
		}
		switch r.IntN(3) {
		case 0:
			l.Line(x(), y(), x(), y(), float32(r.Float64()*9), c)
		case 1:
			x0, y0 := float32(r.IntN(width)), float32(r.IntN(height))
			l.Box(Rect{x0, y0, x0 + float32(r.IntN(40)), y0 + float32(r.IntN(90))}, c)
		default:
			x0, y0 := x(), y()
			l.Box(Rect{x0, y0, x0 + float32(r.Float64()*60), y0 + float32(r.Float64()*60)}, c)
		}
	}
}

func TestPixelsAreThoseOfTheShapes(t *testing.T) {
	l := newList(t)
	for i, size := range [][2]int{{1, 1}, {16, 16}, {97, 75}, {160, 33}} {
		r := rand.New(rand.NewPCG(1, uint64(i)))
		c := newCanvas(t, size[0], size[1], i%2 == 1)
		l.Reset()
		l.Box(Rect{0, 0, float32(size[0]), float32(size[1])}, 0x203040ff)
		scatter(l, r, 40, size[0], size[1])
		got, _ := paint(t, c, l)
		compare(t, got, reference(l, size[0], size[1]))
	}
}

// What is painted of a picture after a change is what a canvas shows that never had another one.
func TestOnlyChangedTilesArePainted(t *testing.T) {
	const width, height = 200, 120
	l := newList(t)
	c := newCanvas(t, width, height, false)
	show := func(x float32) {
		l.Reset()
		l.Box(Rect{0, 0, width, height}, 0x102030ff)
		l.Text(10, 100, 20, "tokens/s 词元", white)
		l.Box(Rect{x, 40, x + 8, 48}, white)
	}
	show(20)
	if _, tiles := paint(t, c, l); tiles != 13*8 {
		t.Errorf("%d tiles at first, want all 104", tiles)
	}
	if _, tiles := paint(t, c, l); tiles != 0 {
		t.Errorf("%d tiles without a change", tiles)
	}
	show(100) // from tile (1, 2) to tile (6, 2), the last row of pixels in tile row 2
	got, tiles := paint(t, c, l)
	if tiles != 2 {
		t.Errorf("%d tiles, want the box's old and new one", tiles)
	}
	fresh := newCanvas(t, width, height, false)
	want, _ := paint(t, fresh, l)
	compare(t, got, want)
	if err := c.Resize(90, 50, true); err != nil {
		t.Fatal(err)
	}
	if got, tiles = paint(t, c, l); tiles != 6*4 || got.Rect.Dx() != 90 {
		t.Errorf("%d tiles of %v after a change of size, want 24", tiles, got.Rect)
	}
}

// Boxes are as opaque as values of a buffer say, which are painted anew when they are said to have changed.
func TestBoxesShowValuesOfTheDevice(t *testing.T) {
	const width, height = 160, 48
	l := newList(t)
	c := newCanvas(t, width, height, false)
	values := []float32{0, 1e-4, 0.01, 0.25, 0.5, 1, 7, -1}
	buffer, err := c.dev.NewBuffer(int64(4*len(values)), vk.Upload)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { buffer.Close() })
	write := func() {
		for i, v := range values {
			binary.LittleEndian.PutUint32(buffer.Mapped()[4*i:], math.Float32bits(v))
		}
	}
	write()
	show := func(stamp uint32) {
		l.Reset()
		l.Box(Rect{0, 0, width, height}, 0x1a2028ff)
		for i := range len(values) + 2 { // the last ones are not there
			x := float32(16 * i)
			l.Value(Rect{x + 2, 8, x + 13.5, 40}, i, stamp, 0xffc263c0)
		}
	}
	show(0)
	if got, _ := paint(t, c, l); !slices.Equal(got.Pix, reference(l, width, height).Pix) {
		t.Error("without a buffer something is drawn")
	}
	if err := c.SetValues(buffer.Whole()); err != nil {
		t.Fatal(err)
	}
	show(1)
	got, _ := paint(t, c, l)
	compare(t, got, reference(l, width, height, values...))
	values[3], values[4] = 0.01, 0.9
	write()
	if _, tiles := paint(t, c, l); tiles != 0 {
		t.Errorf("%d tiles without a change", tiles)
	}
	show(2)
	if got, tiles := paint(t, c, l); tiles != 30 {
		t.Errorf("%d tiles of values that have changed, want 30", tiles)
	} else {
		compare(t, got, reference(l, width, height, values...))
	}
	if err := c.SetValues(vk.Span{}); err != nil {
		t.Fatal(err)
	}
}

// A character is drawn as package font draws it.
func TestTextIsThatOfTheFont(t *testing.T) {
	const side = 48
	l := newList(t)
	c := newCanvas(t, side, side, false)
	for _, r := range "gW%я汉…→" {
		l.Reset()
		l.Box(Rect{0, 0, side, side}, black)
		end := l.Text(8, 36, 32, string(r), white)
		got, _ := paint(t, c, l)
		want := image.NewNRGBA(got.Rect)
		draw.Draw(want, want.Rect, image.Black, image.Point{}, draw.Src)
		d := font.Drawer{Dst: want, Src: image.White, Face: l.font.face(32), Dot: fixed.P(8, 36)}
		d.DrawString(string(r))
		compare(t, got, want)
		if got, want := end, float32(d.Dot.X)/64; got != want {
			t.Errorf("%c ends at %g, want %g", r, got, want)
		}
		if w := l.font.Width(32, string(r)); w != end-8 {
			t.Errorf("%c is %g wide and ends %g further", r, w, end-8)
		}
	}
}

// The font has what people write most; of the rest it shows that something is there.
func TestFontHasChinese(t *testing.T) {
	f, err := NewFont()
	if err != nil {
		t.Fatal(err)
	}
	box, ok := f.glyph(16, replacement)
	if !ok {
		t.Fatal("no replacement")
	}
	for _, r := range "Az09é€“”—…→≥×µяΩ，。！？、（）《》的一是不了人我在有他这为之大来以个中上们" {
		if g, ok := f.glyph(16, r); !ok || g.at == box.at {
			t.Errorf("the font has no %c", r)
		}
	}
	if g, ok := f.glyph(16, 'ﷺ'); !ok || g.at != box.at {
		t.Errorf("a character that the font has not: %v, %t", g, ok)
	}
	if _, ok := f.glyph(16, '\n'); ok {
		t.Error("a line break has a glyph")
	}
	if got := f.Fit(16, "a long text", f.Width(16, "a lon…")); got != "a lon…" {
		t.Errorf("fitted: %q", got)
	}
	if got := f.Fit(16, "short", 100); got != "short" {
		t.Errorf("fitted: %q", got)
	}
}

// Glyphs that have no room are made again when there is some.
func TestGlyphsOfManySizesHaveRoom(t *testing.T) {
	l := newList(t)
	c := newCanvas(t, 600, 400, false)
	const text = "这是一个很长的句子 with words"
	for size := 100; size < 200; size++ {
		l.Reset()
		l.Box(Rect{0, 0, 600, 400}, black)
		l.Text(3, 300, size, text, white)
		got, _ := paint(t, c, l)
		if len(l.font.cover) > glyphBytes {
			t.Fatalf("%d bytes of glyphs", len(l.font.cover))
		}
		if size%33 != 0 {
			continue
		}
		other := newList(t)
		other.Box(Rect{0, 0, 600, 400}, black)
		other.Text(3, 300, size, text, white)
		want, _ := paint(t, newCanvas(t, 600, 400, false), other)
		compare(t, got, want)
	}
	if l.font.generation == 0 {
		t.Error("the glyphs never had to make room")
	}
}

func TestCanvasRefusesSizes(t *testing.T) {
	c := newCanvas(t, 1, 1, false)
	for _, size := range [][2]int{{0, 5}, {5, -1}, {1 << 20, 1 << 10}} {
		if err := c.Resize(size[0], size[1], false); err == nil {
			t.Errorf("no error of %v", size)
		}
	}
}

// Drawing takes its share of the time, whatever a frame costs.
func TestPaceKeepsToItsShare(t *testing.T) {
	for cost, want := range map[time.Duration]int64{100 * time.Microsecond: 600, 40 * time.Millisecond: 5, time.Second: 1} {
		p := Pace{Share: 0.02}
		start := time.Unix(0, 0)
		due := int64(0)
		for at := time.Duration(0); at < 10*time.Second; at += time.Millisecond {
			if now := start.Add(at); p.Due(now) {
				due++
				p.Drew(now, cost)
				at += cost
			}
		}
		if p.Shown != due || p.Shown < want*9/10 || p.Shown > want+1 {
			t.Errorf("frames of %v: %d shown in 10 s, want about %d", cost, p.Shown, want)
		}
		if all := p.Shown + p.Dropped; cost > time.Millisecond && p.Dropped < all/2 {
			t.Errorf("frames of %v: %d of %d dropped", cost, p.Dropped, all)
		}
	}
	var p Pace
	p.Drop()
	if p.Dropped != 1 {
		t.Error("a dropped frame is not counted")
	}
}
