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
	b.WriteString("<defs>\n")
	for i := range rows {
		angle := 45 - 90*(i/len(fills)%2) // mirrored when the colours repeat
		fmt.Fprintf(&b, `<pattern id="published%d" width="6" height="6" patternUnits="userSpaceOnUse" patternTransform="rotate(%d)"><rect width="6" height="6" fill="white"/><rect width="3" height="6" fill="%s"/></pattern>`+"\n", i, angle, fills[i%len(fills)])
	}
	b.WriteString("</defs>\n")
	fmt.Fprintf(&b, `<rect width="%d" height="%d" fill="white"/>`+"\n", width, height)
	fmt.Fprintf(&b, `<text x="%d" y="32" font-size="16" font-weight="bold">%s</text>`+"\n", chartMargin, escapeXML(title))
	for i, r := range rows {
		x, y := chartMargin+i/lines*column, 48+legendRow*(i%lines)
		fmt.Fprintf(&b, `<rect x="%d" y="%d" width="18" height="12" fill="%s" stroke="#333"/>`, x, y, fill(i, r))
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

func fill(i int, r CardRow) string {
	if r.Published {
		return fmt.Sprintf("url(#published%d)", i)
	}
	return fills[i%len(fills)]
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
			fmt.Fprintf(b, `<rect x="%d" y="%.1f" width="%d" height="%.1f" fill="%s" stroke="#333"/>`, x, float64(base)-h, barWidth-3, h, fill(j, r))
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
