package present

import (
	_ "embed"
	"fmt"
	"math"
	"unicode"
	"unicode/utf8"

	"golang.org/x/image/font"
	"golang.org/x/image/font/opentype"
	"golang.org/x/image/font/sfnt"
	"golang.org/x/image/math/fixed"
)

// fontFile is a part of Noto Sans CJK SC, made by tools/font.sh: Latin, Greek, Cyrillic, punctuation, arrows, and the 3755
// Chinese characters of the first level of GB 2312. Its licence is the SIL Open Font License 1.1
// (internal/licenses/works/noto.txt).
//
//go:embed font.otf
var fontFile []byte

// glyphBytes is how many bytes of glyphs there is room for, in all sizes together: every character of the font at 24
// pixels has about half of that.
const glyphBytes = 4 << 20

// A Font turns characters into glyphs: pictures of the share of each pixel that is inside. It keeps those that it has made.
// It is for one goroutine.
type Font struct {
	file       *sfnt.Font
	faces      map[int]font.Face
	glyphs     map[glyphKey]glyph
	cover      []byte // of all glyphs, one behind another, each row by row
	generation uint64 // counts the times that cover was emptied
}

type glyphKey struct {
	size int
	r    rune
}

// A glyph has its upper left corner at (left, top) from the pen, which it moves by advance. Its cover begins at byte at.
type glyph struct {
	left, top, width, height int
	advance                  float64
	at                       uint32
}

// NewFont reads the font that the package comes with.
func NewFont() (*Font, error) {
	file, err := opentype.Parse(fontFile)
	if err != nil {
		return nil, fmt.Errorf("present: font: %w", err)
	}
	return &Font{file: file, faces: map[int]font.Face{}, glyphs: map[glyphKey]glyph{}}, nil
}

// settle makes room for new glyphs if little is left. Lists of before are then of no use.
func (f *Font) settle() {
	if len(f.cover) > glyphBytes/2 {
		clear(f.glyphs)
		f.cover = f.cover[:0]
		f.generation++
	}
}

// face returns the font at a size, the height of its lines. They are a third higher than the em square.
func (f *Font) face(size int) font.Face {
	if face := f.faces[size]; face != nil {
		return face
	}
	face, err := opentype.NewFace(f.file, &opentype.FaceOptions{Size: float64(size) * 0.75, DPI: 72, Hinting: font.HintingNone})
	if err != nil {
		panic("present: " + err.Error()) // of options that are not there
	}
	f.faces[size] = face
	return face
}

// replacement stands for characters that the font has not.
const replacement = '□'

// glyph returns the glyph of a character, and false if nothing is to be drawn for it.
func (f *Font) glyph(size int, r rune) (glyph, bool) {
	if unicode.IsControl(r) {
		return glyph{}, false
	}
	key := glyphKey{size, r}
	if g, ok := f.glyphs[key]; ok {
		return g, true
	}
	var buffer sfnt.Buffer
	if i, err := f.file.GlyphIndex(&buffer, r); err != nil || i == 0 {
		if r == replacement {
			return glyph{}, false
		}
		g, ok := f.glyph(size, replacement)
		f.glyphs[key] = g
		return g, ok
	}
	bounds, mask, corner, advance, ok := f.face(size).Glyph(fixed.Point26_6{}, r)
	if !ok {
		return glyph{}, false
	}
	g := glyph{left: bounds.Min.X, top: bounds.Min.Y, width: bounds.Dx(), height: bounds.Dy(), advance: float64(advance) / 64}
	if len(f.cover)+g.width*g.height > glyphBytes {
		g.width = 0 // until settle makes room
		return g, true
	}
	g.at = uint32(len(f.cover))
	for y := range g.height {
		for x := range g.width {
			_, _, _, a := mask.At(corner.X+x, corner.Y+y).RGBA()
			f.cover = append(f.cover, byte(a>>8))
		}
	}
	f.glyphs[key] = g
	return g, true
}

// Width returns how wide a text is.
func (f *Font) Width(size int, text string) float32 {
	width := 0.0
	for _, r := range text {
		if g, ok := f.glyph(size, r); ok {
			width += g.advance
		}
	}
	return float32(width)
}

// Fit returns the longest beginning of a text that is at most so wide, with a mark of omission if something is left out.
func (f *Font) Fit(size int, text string, width float32) string {
	const mark = "…"
	pen, room, end := float64(0), float64(width-f.Width(size, mark)), 0
	for i, r := range text {
		g, _ := f.glyph(size, r)
		if pen += g.advance; pen > float64(width) {
			return text[:end] + mark
		}
		if pen <= room {
			end = i + utf8.RuneLen(r)
		}
	}
	return text
}

// Ascent returns how far a line of text of a size reaches above its baseline.
func (f *Font) Ascent(size int) float32 {
	return float32(math.Round(float64(size) * 0.72))
}
