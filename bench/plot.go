package bench

import (
	"fmt"
	"html/template"
	"math"
	"slices"
	"strings"
)

// A point of a line.
type point struct{ x, y float64 }

// A line is a series of a plot.
type line struct {
	name   string
	points []point
}

// inks, dashes and marks tell lines apart, in grey too: neighbours differ in lightness, in dashes and in the shape of their points.
var (
	inks   = []string{"#000", "#1f5fa8", "#c86a10", "#709c3a", "#8a3ba0"}
	dashes = []string{"", "7 3", "2 3", "9 3 2 3"}
	marks  = []string{"M-3 -3h6v6h-6z", "M0 -4L4 3H-4z", "M0 -4L4 0L0 4L-4 0z", "M-3 -3L3 3M-3 3L3 -3", "M0 4L4 -3H-4z"}
)

// The size of a plot, and the room around its area for ticks and labels, in pixels of SVG.
const (
	plotWidth, areaHeight      = 480, 220
	plotLeft, plotRight        = 62, 14
	plotTop, plotBottom        = 34, 46
	legendHeight, barLabelRoom = 18, 18
)

// A plot is an SVG picture that grows.
type plot struct {
	strings.Builder
	xMax, yMax float64
}

// newPlot draws the axes of a plot from 0 to at least x and y, with a title and what the axes are in. Without an x there are no
// ticks below.
func newPlot(title, xLabel, yLabel string, x, y float64, below int) *plot {
	p := &plot{}
	height := plotTop + areaHeight + plotBottom + below
	fmt.Fprintf(p, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" role="img" aria-label="%s" font-family="Liberation Sans, Arial, sans-serif" font-size="12" fill="#000">`,
		plotWidth, height, template.HTMLEscapeString(title))
	p.text(plotLeft, 18, `font-size="14" font-weight="bold"`, title)
	var ticks []float64
	p.yMax, ticks = scale(y)
	for _, t := range ticks {
		at := p.y(t)
		fmt.Fprintf(p, `<path d="M%d %.1fH%d" stroke="#ccc"/>`, plotLeft, at, plotWidth-plotRight)
		p.text(plotLeft-6, at+4, `text-anchor="end"`, fmt.Sprintf("%g", t))
	}
	if x > 0 {
		p.xMax, ticks = scale(x)
		for _, t := range ticks {
			fmt.Fprintf(p, `<path d="M%.1f %dv4" stroke="#000"/>`, p.x(t), plotTop+areaHeight)
			p.text(p.x(t), plotTop+areaHeight+17, `text-anchor="middle"`, fmt.Sprintf("%g", t))
		}
	}
	p.text((plotLeft+plotWidth-plotRight)/2, plotTop+areaHeight+36, `text-anchor="middle"`, xLabel)
	p.text(0, 0, fmt.Sprintf(`text-anchor="middle" transform="translate(14 %d) rotate(-90)"`, plotTop+areaHeight/2), yLabel)
	fmt.Fprintf(p, `<path d="M%d %dV%dH%d" stroke="#000" fill="none"/>`, plotLeft, plotTop, plotTop+areaHeight, plotWidth-plotRight)
	return p
}

func (p *plot) x(v float64) float64 { return plotLeft + v/p.xMax*(plotWidth-plotLeft-plotRight) }
func (p *plot) y(v float64) float64 { return plotTop + areaHeight*(1-v/p.yMax) }

func (p *plot) text(x, y float64, attributes, text string) {
	fmt.Fprintf(p, `<text x="%.1f" y="%.1f" %s>%s</text>`, x, y, attributes, template.HTMLEscapeString(text))
}

// scale returns the end of an axis that goes to at least largest, and its ticks: about five, at 1, 2 or 5 times a power of ten.
func scale(largest float64) (end float64, ticks []float64) {
	if !(largest > 0) {
		largest = 1
	}
	power := math.Pow(10, math.Floor(math.Log10(largest/5)))
	step := 10 * power
	for _, n := range []float64{1, 2, 5} {
		if n*power >= largest/5 {
			step = n * power
			break
		}
	}
	n := math.Ceil(largest / step)
	for i := range int(n) + 1 {
		ticks = append(ticks, float64(i)*step)
	}
	return n * step, ticks
}

// linePlot is an SVG picture of lines over numbers.
func linePlot(title, xLabel, yLabel string, lines []line) string {
	x, y := 0.0, 0.0
	for _, l := range lines {
		for _, at := range l.points {
			x, y = max(x, at.x), max(y, at.y)
		}
	}
	p := newPlot(title, xLabel, yLabel, x, y, legendHeight*len(lines))
	for i, l := range lines {
		slices.SortFunc(l.points, func(a, b point) int { return int(math.Copysign(1, a.x-b.x)) })
		style := fmt.Sprintf(`stroke="%s" stroke-width="1.6"`, inks[i%len(inks)])
		dashed := fmt.Sprintf(`%s stroke-dasharray="%s" fill="none"`, style, dashes[i%len(dashes)])
		var path strings.Builder
		for j, at := range l.points {
			fmt.Fprintf(&path, "%c%.1f %.1f", "ML"[min(j, 1)], p.x(at.x), p.y(at.y))
		}
		fmt.Fprintf(p, `<path d="%s" %s/>`, path.String(), dashed)
		mark := func(x, y float64) {
			fmt.Fprintf(p, `<path d="%s" transform="translate(%.1f %.1f)" %s fill="#fff"/>`, marks[i%len(marks)], x, y, style)
		}
		for _, at := range l.points {
			mark(p.x(at.x), p.y(at.y))
		}
		below := float64(plotTop + areaHeight + plotBottom + legendHeight*i + 8)
		fmt.Fprintf(p, `<path d="M%d %.1fh34" %s/>`, plotLeft, below, dashed)
		mark(plotLeft+17, below)
		p.text(plotLeft+42, below+4, "", l.name)
	}
	p.WriteString("</svg>")
	return p.String()
}

// barPlot is an SVG picture of a bar for each name, with its value above it and its name below.
func barPlot(title, yLabel string, names []string, values []float64) string {
	p := newPlot(title, "", yLabel, 0, 1.05*slices.Max(values), barLabelRoom*len(names))
	room := float64(plotWidth-plotLeft-plotRight) / float64(len(values))
	for i, v := range values {
		middle, width := plotLeft+room*(float64(i)+0.5), min(44, 0.7*room)
		fmt.Fprintf(p, `<rect x="%.1f" y="%.1f" width="%.1f" height="%.1f" fill="#777"/>`, middle-width/2, p.y(v), width, p.y(0)-p.y(v))
		p.text(middle, p.y(v)-4, `text-anchor="middle"`, fmt.Sprintf("%.4g", v))
		p.text(middle, plotTop+areaHeight+17, `text-anchor="middle"`, fmt.Sprint(i+1))
		p.text(plotLeft, float64(plotTop+areaHeight+plotBottom+barLabelRoom*i), "", fmt.Sprintf("%d  %s", i+1, names[i]))
	}
	p.WriteString("</svg>")
	return p.String()
}

// plots draws what the rows have enough of: speed over depth, over sequences, and by model.
func plots(rows []measurement) (pictures []string) {
	several := func(of func(measurement) string) bool {
		return slices.ContainsFunc(rows, func(m measurement) bool { return of(m) != of(rows[0]) })
	}
	label := func(m measurement, parts ...string) string { // what tells lines apart
		if several(func(m measurement) string { return m.ModelType }) {
			parts = append(parts, m.ModelType)
		}
		if m.Program != "" && several(func(m measurement) string { return m.Program }) {
			parts = append(parts, m.Program)
		}
		if !m.ofPeer() && several(func(m measurement) string { return m.device() }) {
			parts = append(parts, m.device())
		}
		if several(func(m measurement) string { return m.file }) {
			parts = append(parts, m.file)
		}
		return clip(strings.Join(parts, ", "), 58)
	}
	counts := func(m measurement) bool { return !m.Struck && m.median > 0 }
	for _, kind := range []struct {
		title, x, y string
		of          func(m measurement) (name string, x int, ok bool)
	}{
		{"Generation over depth", "tokens in the KV cache", "tokens a second (median)", func(m measurement) (string, int, bool) {
			return fmt.Sprintf("tg%d", m.gen), m.depth, m.prompt == 0 && m.sequences == 1
		}},
		{"Prompt over depth", "tokens in the KV cache", "tokens a second (median)", func(m measurement) (string, int, bool) {
			return fmt.Sprintf("pp%d", m.prompt), m.depth, m.gen == 0 && m.sequences == 1
		}},
		{"Sequences together", "sequences", "tokens a second (median)", func(m measurement) (string, int, bool) {
			return fmt.Sprintf("pp%d tg%d", m.prompt, m.gen), m.sequences, m.prompt > 0 && m.gen > 0 && m.depth == 0 && !m.load
		}},
		{"Requests at a time", "requests", "generated tokens a second (median)", func(m measurement) (string, int, bool) {
			return fmt.Sprintf("pp%d tg%d", m.prompt, m.gen), m.sequences, m.load
		}},
	} {
		var lines []line
		for _, m := range rows {
			name, x, ok := kind.of(m)
			if !ok || !counts(m) {
				continue
			}
			name = label(m, name)
			i := slices.IndexFunc(lines, func(l line) bool { return l.name == name })
			if i < 0 {
				i = len(lines)
				lines = append(lines, line{name: name})
			}
			lines[i].points = append(lines[i].points, point{float64(x), m.median})
		}
		lines = slices.DeleteFunc(lines, func(l line) bool {
			return !slices.ContainsFunc(l.points, func(at point) bool { return at.x != l.points[0].x })
		})
		if len(lines) > 0 {
			pictures = append(pictures, linePlot(kind.title, kind.x, kind.y, lines))
		}
	}
	for _, kind := range []struct {
		title string
		of    func(m measurement) (tokens int, ok bool)
	}{
		{"Generation", func(m measurement) (int, bool) { return m.gen, m.prompt == 0 }},
		{"Prompt", func(m measurement) (int, bool) { return m.prompt, m.gen == 0 }},
	} {
		var names []string
		var values []float64
		tokens := 0
		for _, m := range rows {
			n, ok := kind.of(m)
			if !ok || !counts(m) || m.depth > 0 || m.sequences > 1 || tokens > 0 && n != tokens {
				continue
			}
			tokens = n
			names, values = append(names, label(m)), append(values, m.median)
		}
		if len(values) > 1 {
			pictures = append(pictures, barPlot(fmt.Sprintf("%s of %d tokens", kind.title, tokens), "tokens a second (median)", names, values))
		}
	}
	return pictures
}
