package markdown

import (
	"fmt"
	"strings"

	"github.com/charmbracelet/x/ansi"
	"github.com/rivo/uniseg"
)

// A style is how text looks. Colours are those of the terminal's own palette, which its user has made readable on a light or a
// dark background; yellow and white are not used, which are hard to read on a light one.
type style struct {
	bold, dim, italic, underline, strike bool
	colour                               int // an SGR number; 0: that of all text
}

const (
	red     = 31
	green   = 32
	blue    = 34
	magenta = 35
	cyan    = 36
)

// codes returns the SGR numbers of a style.
func (s style) codes(colour bool) string {
	var codes []string
	for _, c := range []struct {
		on   bool
		code string
	}{{s.bold, "1"}, {s.dim, "2"}, {s.italic, "3"}, {s.underline, "4"}, {s.strike, "9"}} {
		if c.on {
			codes = append(codes, c.code)
		}
	}
	if s.colour != 0 && colour {
		codes = append(codes, fmt.Sprint(s.colour))
	}
	return strings.Join(codes, ";")
}

// A span is text in one style. A newline in it ends a row.
type span struct {
	text string
	style
}

// A line is spans beside each other.
type line []span

func (l line) width() int {
	n := 0
	for _, s := range l {
		n += ansi.StringWidth(s.text)
	}
	return n
}

func (l line) text() string {
	var b strings.Builder
	for _, s := range l {
		b.WriteString(s.text)
	}
	return b.String()
}

// render returns the line with control sequences for its styles.
func (l line) render(colour bool) string {
	var b strings.Builder
	for _, s := range l {
		if codes := s.codes(colour); codes != "" {
			b.WriteString("\x1b[" + codes + "m" + s.text + "\x1b[m")
		} else {
			b.WriteString(s.text)
		}
	}
	return b.String()
}

// append adds text, to the last span if that has the style.
func (l line) append(text string, s style) line {
	if n := len(l); n > 0 && l[n-1].style == s {
		l[n-1].text += text
		return l
	}
	return append(l, span{text, s})
}

const tabStop = 8

// wrap breaks spans into lines of at most width columns, where Unicode allows it (UAX 14), and in the middle of words that are
// longer. Spaces where a line is broken are dropped. It keeps all others, and makes tabs into spaces.
func wrap(spans line, width int) []line {
	width = max(2, width)
	styles := make([]style, 0, 64) // of each byte
	for _, s := range spans {
		for range len(s.text) {
			styles = append(styles, s.style)
		}
	}
	var lines []line
	var current line
	x, at := 0, 0
	add := func(cluster string) {
		if cluster == "\t" {
			cluster = strings.Repeat(" ", tabStop-x%tabStop)
		}
		w := ansi.StringWidth(cluster)
		if x+w > width {
			lines, current, x = append(lines, current), nil, 0
		}
		current, x = current.append(cluster, styles[at]), x+w
	}
	for i, text := range strings.Split(spans.text(), "\n") {
		if i > 0 {
			lines, current, x = append(lines, current), nil, 0
			at++
		}
		state := -1
		for text != "" {
			var segment string
			segment, text, _, state = uniseg.FirstLineSegmentInString(text, state)
			word := strings.TrimRight(segment, " ")
			if x > 0 && x+ansi.StringWidth(word) > width && word != "" {
				lines, current, x = append(lines, current.trimRight()), nil, 0
			}
			for rest, cluster, clusters := segment, "", -1; rest != ""; {
				cluster, rest, _, clusters = uniseg.FirstGraphemeClusterInString(rest, clusters)
				if cluster != " " || x < width {
					add(cluster)
				}
				at += len(cluster)
			}
		}
	}
	return append(lines, current)
}

// trimRight removes spaces from the end.
func (l line) trimRight() line {
	for n := len(l); n > 0; n-- {
		if l[n-1].text = strings.TrimRight(l[n-1].text, " "); l[n-1].text != "" {
			break
		}
		l = l[:n-1]
	}
	return l
}
