// Package screen draws the last rows of a terminal again and again, while what stands above them scrolls as usual: the
// program writes no other place, and what is finished can be copied from the terminal's scrollback.
//
// A Screen doesn't know which characters may be shown: texts hold no control sequences but styles.
package screen

import (
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/charmbracelet/x/ansi"
)

// A Frame is what is drawn. Its rows have fewer columns than the terminal, and there are no more of them than it has rows.
type Frame struct {
	Rows   []string
	Row    int // has the cursor
	Before int // so many bytes of that row stand before the cursor
}

// A Screen is the end of a terminal's screen. One goroutine at a time may use it.
type Screen struct {
	out    io.Writer
	width  int
	reflow bool  // the terminal breaks long rows anew when its width changes
	widths []int // of the rows up to the cursor's, which counts up to the cursor
	frame  Frame
	buffer strings.Builder
}

// New returns a Screen of a terminal whose cursor is in the first column. Reflow says that the terminal breaks rows anew when its
// width changes, as most do.
func New(out io.Writer, width int, reflow bool) *Screen {
	return &Screen{out: out, width: width, reflow: reflow, widths: []int{0}}
}

// Synchronized updates keep a terminal from showing half of one; others ignore these modes.
const (
	begin = "\x1b[?2026h"
	end   = "\x1b[?2026l"
)

// Draw writes rows above for good, and the frame below them in the place of the one before. The column of the cursor is what the
// terminal itself makes of the text before it, also where it takes characters for wider than this program does.
func (s *Screen) Draw(above []string, f Frame) error {
	if len(above) == 0 && f.Row == s.frame.Row && f.Before == s.frame.Before && slices.Equal(f.Rows, s.frame.Rows) {
		return nil
	}
	b := &s.buffer
	b.Reset()
	b.WriteString(begin)
	same := 0 // rows that need not be drawn again
	for same < min(len(f.Rows)-1, f.Row, s.frame.Row) && len(above) == 0 && f.Rows[same] == s.frame.Rows[same] {
		same++
	}
	s.up(same)
	for _, row := range above {
		b.WriteString("\x1b[K")
		b.WriteString(row)
		b.WriteString("\r\n")
	}
	b.WriteString("\x1b[J")
	if n := len(f.Rows) - same; n > 1 { // scrolls before the cursor is saved
		b.WriteString(strings.Repeat("\n", n-1))
		fmt.Fprintf(b, "\x1b[%dA", n-1)
	}
	s.widths = s.widths[:min(same, len(s.widths))]
	for i, row := range f.Rows {
		if i < same {
			continue
		}
		if i > same {
			b.WriteString("\r\n")
		}
		if i == f.Row {
			b.WriteString(row[:f.Before] + "\x1b7" + row[f.Before:])
			row = row[:f.Before]
		} else {
			b.WriteString(row)
		}
		if i <= f.Row {
			s.widths = append(s.widths, ansi.StringWidth(row))
		}
	}
	if len(f.Rows) > 0 {
		b.WriteString("\x1b8")
	} else {
		s.widths = append(s.widths, 0)
	}
	s.frame = Frame{slices.Clone(f.Rows), f.Row, f.Before}
	b.WriteString(end)
	_, err := io.WriteString(s.out, b.String())
	return err
}

// up moves the cursor to the beginning of a row of the frame.
func (s *Screen) up(row int) {
	s.buffer.WriteString("\r")
	if n := len(s.widths) - 1 - row; n > 0 {
		fmt.Fprintf(&s.buffer, "\x1b[%dA", n)
	}
}

// Resize says that the terminal has another width, and that the next Draw must draw all.
func (s *Screen) Resize(width int) {
	if s.reflow && width > 0 && width < s.width {
		rows := 0
		for i, w := range s.widths {
			if i+1 < len(s.widths) {
				rows += max(1, (w+width-1)/width)
			} else {
				rows += w / width
			}
		}
		s.widths = make([]int, rows+1)
	}
	s.width = width
	s.frame.Row = -1
}

// Restart says that the cursor is in the first column of an empty row, as after another program has run.
func (s *Screen) Restart() {
	s.widths, s.frame = []int{0}, Frame{Row: -1}
}

// Clear empties the terminal; the next Draw begins in its first row.
func (s *Screen) Clear() error {
	s.Restart()
	_, err := io.WriteString(s.out, "\x1b[H\x1b[2J")
	return err
}

// Wrap breaks a line, which may have styles, into rows of at most width columns at its spaces. The rows of a longer word are full.
func Wrap(text string, width int) []string {
	return strings.Split(ansi.Wrap(strings.ReplaceAll(text, "\t", "    "), max(2, width), ""), "\n")
}

// Cut leaves of a text what fits into a row of width columns.
func Cut(text string, width int) string { return ansi.Truncate(text, width, "…") }
