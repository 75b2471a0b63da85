package eval

import (
	"encoding/xml"
	"fmt"
	"strings"
)

// Sizes of the chart, in pixels.
const (
	chartMargin = 48
	panelHeight = 220 // height of the axis from 0 to 100
	panelGap    = 86
	barWidth    = 26
	clusterGap  = 30
	minCluster  = 108 // wide enough for the longest name below it
	legendRow   = 22
)

// fills are the bars' colours, alternately light and dark so that they also differ in grey.
var fills = []string{"#1f4e79", "#e8a33d", "#6aa6d6", "#8c3b3b", "#b9d48b", "#4b4b4b", "#d9b8e8", "#2e7d5b"}

// Chart draws rows as an SVG picture: bars for the benchmarks, and grouped bars for the categories of MMLU and C-Eval.
// Bars of published scores are hatched. Panels for which no row has a score are left out.
func Chart(title string, rows []CardRow) string {
	var b strings.Builder
	var panels []cardTable
	width := 0
	for _, t := range cardTables() {
		if shown := t.with(rows); len(shown.groups) > 0 {
			panels = append(panels, shown)
			width = max(width, len(shown.groups)*clusterWidth(rows))
		}
	}
	width += 2 * chartMargin
	longest := 0
	for _, r := range rows {
		longest = max(longest, len(r.label()))
	}
	width = max(width, 2*chartMargin+60+8*longest, 2*chartMargin+9*len(title))
	column := 26 + 8*longest + 16 // width of a legend column
	lines := ceilDiv(len(rows), max(1, (width-2*chartMargin)/column))
	top := 64 + legendRow*lines
	height := top + len(panels)*(panelHeight+panelGap) + 8
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" width="%d" height="%d" viewBox="0 0 %d %d" font-family="Helvetica, Arial, sans-serif" font-size="12">`+"\n", width, height, width, height)
	fmt.Fprintf(&b, `<rect width="%d" height="%d" fill="white"/>`+"\n", width, height)
	fmt.Fprintf(&b, `<text x="%d" y="32" font-size="16" font-weight="bold">%s</text>`+"\n", chartMargin, escapeXML(title))
	for i, r := range rows {
		x, y := chartMargin+i/lines*column, 48+legendRow*(i%lines)
		drawBar(&b, i, r, float64(x), float64(y), 18, 12)
		fmt.Fprintf(&b, `<text x="%d" y="%d">%s</text>`+"\n", x+26, y+11, escapeXML(r.label()))
	}
	for i, p := range panels {
		p.draw(&b, rows, top+i*(panelHeight+panelGap)+24, width)
	}
	b.WriteString("</svg>\n")
	return b.String()
}

func ceilDiv(a, b int) int { return (a + b - 1) / b }

// clusterWidth returns the width of one group of bars.
func clusterWidth(rows []CardRow) int { return max(len(rows)*barWidth+clusterGap, minCluster) }

// hatchGap is the distance of a hatched bar's lines along its edges, in pixels.
const hatchGap = 8

// drawBar draws the bar of row i. Those of published scores are hatched by lines, since not every program draws SVG's patterns.
// The lines lean to the other side where the colours repeat.
func drawBar(b *strings.Builder, i int, r CardRow, x, y, width, height float64) {
	colour := fills[i%len(fills)]
	if !r.Published {
		fmt.Fprintf(b, `<rect x="%.0f" y="%.1f" width="%.0f" height="%.1f" fill="%s" stroke="#333"/>`, x, y, width, height, colour)
		return
	}
	fmt.Fprintf(b, `<rect x="%.0f" y="%.1f" width="%.0f" height="%.1f" fill="white"/><path class="published%d" d="`, x, y, width, height, i)
	for at := float64(hatchGap) / 2; at < width+height; at += hatchGap { // the line of points whose distances from left and top add up to at
		left, right := max(0, at-height), min(width, at)
		from, to := x+left, x+right
		if i/len(fills)%2 == 1 {
			from, to = x+width-left, x+width-right
		}
		fmt.Fprintf(b, "M%.1f %.1fL%.1f %.1f", from, y+at-left, to, y+at-right)
	}
	fmt.Fprintf(b, `" stroke="%s" stroke-width="3"/><rect x="%.0f" y="%.1f" width="%.0f" height="%.1f" fill="none" stroke="#333"/>`, colour, x, y, width, height)
}

// with returns the table without the columns for which no row has a score.
func (t cardTable) with(rows []CardRow) cardTable {
	out := cardTable{heading: t.heading}
	for i, g := range t.groups {
		for _, r := range rows {
			if _, ok := r.Scores[g]; ok {
				out.groups, out.titles = append(out.groups, g), append(out.titles, t.titles[i])
				break
			}
		}
	}
	return out
}

// draw draws one panel with a percent axis that begins at zero.
func (t cardTable) draw(b *strings.Builder, rows []CardRow, y, width int) {
	fmt.Fprintf(b, `<text x="%d" y="%d" font-weight="bold">%s</text>`+"\n", chartMargin, y, t.heading+", percent of answers right")
	base := y + 18 + panelHeight
	for v := 0; v <= 100; v += 20 {
		at := base - v*panelHeight/100
		fmt.Fprintf(b, `<line x1="%d" y1="%d" x2="%d" y2="%d" stroke="#ddd"/><text x="%d" y="%d" text-anchor="end">%d</text>`+"\n", chartMargin, at, width-chartMargin/2, at, chartMargin-6, at+4, v)
	}
	for i, g := range t.groups {
		left := chartMargin + i*clusterWidth(rows) + (clusterWidth(rows)-len(rows)*barWidth)/2
		for j, r := range rows {
			v, ok := r.Scores[g]
			if !ok {
				continue
			}
			h := v * panelHeight / 100
			x := left + j*barWidth
			drawBar(b, j, r, float64(x), float64(base)-h, barWidth-3, h)
			fmt.Fprintf(b, `<text x="%d" y="%.1f" text-anchor="middle" font-size="10">%.1f</text>`+"\n", x+(barWidth-3)/2, float64(base)-h-4, v)
		}
		fmt.Fprintf(b, `<text x="%d" y="%d" text-anchor="middle">%s</text>`+"\n", left+len(rows)*barWidth/2, base+18, escapeXML(t.titles[i]))
	}
	fmt.Fprintf(b, `<line x1="%d" y1="%d" x2="%d" y2="%d" stroke="#333"/>`+"\n", chartMargin, base, width-chartMargin/2, base)
}

// escapeXML escapes text for use between tags. Characters that XML does not allow, such as the escape character,
// become U+FFFD.
func escapeXML(text string) string {
	var b strings.Builder
	xml.EscapeText(&b, []byte(text))
	return b.String()
}
