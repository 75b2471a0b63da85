package bench

import (
	"cmp"
	"fmt"
	"html/template"
	"math"
	"slices"
	"strings"

	"pumice"
)

// A roofline bounds a kernel by what the device was measured to do: a kernel that does i operations for each byte that it is
// given can't do more a second than the peak of its arithmetic, nor more than i times the read bandwidth (Williams, Waterman
// and Patterson 2009, doi:10.1145/1498765.1498785). Caches serve bytes that a kernel reads twice faster than memory does, and
// bytes are counted once a call, so a small kernel may exceed it.

// readLimit is the Limit of kernels that memory bounds.
const readLimit = "read"

// place puts a kernel under the roofline of a device.
func (k *KernelTime) place(c *pumice.Ceilings) {
	if k.Bytes == 0 || c.ReadBandwidth <= 0 || k.NS == 0 {
		return
	}
	k.Limit, k.LimitShare = readLimit, k.ReadShare
	if k.Operations == 0 {
		return
	}
	k.Intensity = float64(k.Operations) / float64(k.Bytes)
	roof := k.Intensity * c.ReadBandwidth
	if peak := ceiling(c, k.Arithmetic); peak > 0 && peak < roof {
		k.Limit, roof = k.Arithmetic, peak
	}
	k.LimitShare = k.FLOPs / roof
}

// ceiling is the peak of an arithmetic by its name, 0 if it is not known.
func ceiling(c *pumice.Ceilings, name string) float64 {
	for _, a := range pumice.Arithmetics {
		if a.String() == name {
			return c.Peak(a)
		}
	}
	return 0
}

// bound fills in the peak of what the products of a prompt do. Products in several arithmetics have the peak at which each
// would run at its own.
func (r *Result) bound(peaks map[pumice.Arithmetic]float64) {
	seconds := 0.0
	var kinds []string
	for _, a := range pumice.Arithmetics {
		n := float64(r.Counters.OperationsBy(a))
		if n == 0 {
			continue
		}
		if peaks[a] <= 0 {
			return
		}
		seconds += n / peaks[a]
		kinds = append(kinds, a.String())
	}
	if r.NGen > 0 || seconds == 0 {
		return
	}
	r.PeakKind, r.PeakFLOPs = strings.Join(kinds, "+"), float64(r.Counters.Operations)/seconds
	r.PeakShare = r.FLOPs / r.PeakFLOPs
}

// limitCell is the share of what bounds a row: of the read bandwidth, or of the peak of an arithmetic.
func (r *Result) limitCell() string {
	switch {
	case r.ReadShare > 0:
		return fmt.Sprintf("%.0f%% %s", 100*r.ReadShare, readLimit)
	case r.PeakShare > 0:
		return fmt.Sprintf("%.0f%% %s", 100*r.PeakShare, r.PeakKind)
	}
	return "-"
}

// RooflineTable is the ceilings of a device, and how near each kernel of each result is to what bounds it, longest first. The
// results are of one device, measured with Options.Profile.
func RooflineTable(results []Result) string {
	i := slices.IndexFunc(results, func(r Result) bool { return r.Ceilings != nil })
	if i < 0 {
		return ""
	}
	var b strings.Builder
	c := results[i].Ceilings
	b.WriteString(deviceLines(results[i].Setup))
	b.WriteString("\n| ceiling | measured | FLOP/byte from which on it bounds |\n| --- | ---: | ---: |\n")
	row := func(name, value, ridge string) { fmt.Fprintf(&b, "| %s | %s | %s |\n", name, value, ridge) }
	row("read bandwidth", rate(c.ReadBandwidth, "B/s"), "0")
	row("copy bandwidth", rate(c.CopyBandwidth, "B/s"), "")
	for _, a := range pumice.Arithmetics {
		ridge := ""
		if c.ReadBandwidth > 0 && c.Peak(a) > 0 {
			ridge = fmt.Sprintf("%.3g", c.Peak(a)/c.ReadBandwidth)
		}
		row(a.String(), rate(c.Peak(a), "FLOP/s"), ridge)
	}
	row("submission", fmt.Sprintf("%.1f us", c.SubmitUS), "")
	row("dispatch", fmt.Sprintf("%.2f us", c.DispatchUS), "")
	row("barrier", fmt.Sprintf("%.2f us", c.BarrierUS), "")
	for _, r := range results {
		if len(r.Kernels) == 0 {
			continue
		}
		fmt.Fprintf(&b, "\n%s, %s, the last run:\n\n", r.ModelType, r.Test().Name())
		b.WriteString("| kernel | size | calls | ms | FLOP/byte | GFLOP/s | GB/s | bound by | of it |\n| --- | --- | ---: | ---: | ---: | ---: | ---: | --- | ---: |\n")
		for _, k := range longest(r.Kernels) {
			known := func(ok bool, format string, x float64) string {
				if !ok {
					return ""
				}
				return fmt.Sprintf(format, x)
			}
			fmt.Fprintf(&b, "| %s | %s | %d | %.3f | %s | %s | %s | %s | %s |\n", k.Kernel, k.Size, k.Calls, float64(k.NS)/1e6,
				known(k.Operations > 0, "%.3g", k.Intensity), known(k.Operations > 0, "%.2f", k.FLOPs/1e9), known(k.Bytes > 0, "%.2f", k.BytesPerSec/1e9),
				k.Limit, known(k.Limit != "", "%.0f %%", 100*k.LimitShare))
		}
	}
	return b.String()
}

// rate is a rate with the prefix that suits it.
func rate(x float64, unit string) string {
	switch {
	case x <= 0:
		return "not measured"
	case x >= 1e12:
		return fmt.Sprintf("%.2f T%s", x/1e12, unit)
	}
	return fmt.Sprintf("%.2f G%s", x/1e9, unit)
}

// longest are kernels in the order of their time.
func longest(list []KernelTime) []KernelTime {
	list = slices.Clone(list)
	slices.SortStableFunc(list, func(a, b KernelTime) int { return cmp.Compare(b.NS, a.NS) })
	return list
}

// plottedKernels is how many kernels of a result a picture has: those that take longest.
const plottedKernels = 8

// A roofKernel is a kernel at a size, which has one number in a picture.
type roofKernel struct {
	name        string
	least, most float64 // shares of its limits, of all tests
	limits      []string
}

// line is the kernel in the list below the picture.
func (k *roofKernel) line(number int) string {
	share := fmt.Sprintf("%.0f", 100*k.least)
	if most := fmt.Sprintf("%.0f", 100*k.most); most != share {
		share += " to " + most
	}
	return fmt.Sprintf("%d  %s: %s %% of %s", number, k.name, share, strings.Join(k.limits, " or "))
}

// RooflinePlot is an SVG picture of the ceilings of a device and of the kernels under them, on logarithmic axes; "" if no
// result has ceilings and kernels. A test's kernels have marks of one shape. The same kernel at the same size has the same number
// in each test, which the list below explains; where numbers would cover each other some are left out.
func RooflinePlot(results []Result) string {
	var c *pumice.Ceilings
	type point struct {
		KernelTime
		test, number int
	}
	var points []point
	var tests []string
	var list []*roofKernel
	device := ""
	number := func(k KernelTime) int { // from 1
		name := k.Kernel + " " + k.Size
		i := slices.IndexFunc(list, func(other *roofKernel) bool { return other.name == name })
		if i < 0 {
			i, list = len(list), append(list, &roofKernel{name, k.LimitShare, k.LimitShare, nil})
		}
		of := list[i]
		if of.least, of.most = min(of.least, k.LimitShare), max(of.most, k.LimitShare); !slices.Contains(of.limits, k.Limit) {
			of.limits = append(of.limits, k.Limit)
		}
		return i + 1
	}
	for _, r := range results {
		if r.Ceilings == nil || c != nil && *c != *r.Ceilings {
			continue
		}
		before := len(points)
		for _, k := range longest(r.Kernels) {
			if k.Intensity > 0 && k.FLOPs > 0 && len(points) < before+plottedKernels {
				points = append(points, point{k, len(tests), number(k)})
			}
		}
		if len(points) > before {
			c, device = r.Ceilings, r.device()
			tests = append(tests, r.Test().Name()+", "+r.ModelType)
		}
	}
	if c == nil || c.ReadBandwidth < 1 {
		return ""
	}
	// The axes hold all points, and where the roofs bend.
	left, right, low, high := math.Inf(1), math.Inf(-1), math.Inf(1), math.Inf(-1)
	hold := func(x, y float64) {
		left, right, low, high = min(left, x), max(right, x), min(low, y), max(high, y)
	}
	for _, p := range points {
		hold(p.Intensity, p.FLOPs)
	}
	for _, a := range pumice.Arithmetics {
		if peak := c.Peak(a); peak > 0 {
			hold(peak/c.ReadBandwidth, peak)
		}
	}
	left, low = math.Floor(math.Log10(left)-0.01), math.Floor(math.Log10(low)-0.01)
	right, high = math.Ceil(math.Log10(right)+0.3), math.Ceil(math.Log10(high)+0.01)
	const width, bottom = plotWidth - plotLeft - plotRight, plotTop + areaHeight
	x := func(v float64) float64 { return plotLeft + (math.Log10(v)-left)/(right-left)*width }
	y := func(v float64) float64 { return bottom - (math.Log10(v)-low)/(high-low)*areaHeight }

	p := &plot{}
	height := bottom + plotBottom + legendHeight*(len(tests)+len(list))
	fmt.Fprintf(p, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" role="img" aria-label="%s" font-family="Liberation Sans, Arial, sans-serif" font-size="12" fill="#000">`,
		plotWidth, height, template.HTMLEscapeString("Roofline, "+device))
	p.text(plotLeft, 18, `font-size="14" font-weight="bold"`, "Roofline")
	p.text(plotLeft+76, 18, `font-size="11"`, clip(device, 50))
	for e := int(low); e <= int(high); e++ {
		at := y(math.Pow10(e))
		fmt.Fprintf(p, `<path d="M%d %.1fH%d" stroke="#ccc"/>`, plotLeft, at, plotWidth-plotRight)
		p.text(plotLeft-6, at+4, `text-anchor="end"`, fmt.Sprintf("%g", math.Pow10(e-9)))
	}
	for e := int(left); e <= int(right); e++ {
		at := x(math.Pow10(e))
		fmt.Fprintf(p, `<path d="M%.1f %dv4" stroke="#000"/>`, at, bottom)
		p.text(at, bottom+17, `text-anchor="middle"`, fmt.Sprintf("%g", math.Pow10(e)))
	}
	p.text((plotLeft+plotWidth-plotRight)/2, bottom+36, `text-anchor="middle"`, "operations for each byte (FLOP/byte)")
	p.text(0, 0, fmt.Sprintf(`text-anchor="middle" transform="translate(14 %d) rotate(-90)"`, plotTop+areaHeight/2), "operations a second (GFLOP/s)")
	fmt.Fprintf(p, `<path d="M%d %dV%dH%d" stroke="#000" fill="none"/>`, plotLeft, plotTop, bottom, plotWidth-plotRight)

	type label struct {
		x, y             float64
		attributes, text string
	}
	var labels []label                             // are drawn last, with a white seam
	const roofLabel = 130                          // pixels
	marked := func(left, bottom float64) (n int) { // kernels where the label of a roof would be
		for _, at := range points {
			if px, py := x(at.Intensity), y(at.FLOPs); px > left-6 && px < left+roofLabel+6 && py > bottom-16 && py < bottom+6 {
				n++
			}
		}
		return n
	}
	top := 0.0
	lastLabel := math.Inf(1)
	kinds := slices.Clone(pumice.Arithmetics)
	slices.SortFunc(kinds, func(a, b pumice.Arithmetic) int { return cmp.Compare(c.Peak(a), c.Peak(b)) }) // upwards
	for _, a := range kinds {
		peak := c.Peak(a)
		if peak <= 0 {
			continue
		}
		top = max(top, peak)
		fmt.Fprintf(p, `<path d="M%.1f %.1fH%d" stroke="#000" stroke-width="1.4" stroke-dasharray="%s"/>`,
			max(plotLeft, x(peak/c.ReadBandwidth)), y(peak), plotWidth-plotRight, dashes[int(a)%len(dashes)])
		at := min(y(peak)-4, lastLabel-12) // above the label before
		name := label{plotWidth - plotRight - 2, at, `text-anchor="end"`, fmt.Sprintf("%s, %s", a, rate(peak, "FLOP/s"))}
		begin := x(peak/c.ReadBandwidth) + 6
		if begin >= plotLeft && begin < plotWidth-plotRight-roofLabel && marked(begin, at) < marked(name.x-roofLabel, at) {
			name.x, name.attributes = begin, `text-anchor="start"`
		}
		labels = append(labels, name)
		lastLabel = at
	}
	from := max(math.Pow10(int(left)), math.Pow10(int(low))/c.ReadBandwidth)
	fmt.Fprintf(p, `<path d="M%.1f %.1fL%.1f %.1f" stroke="#000" stroke-width="1.4"/>`, x(from), y(from*c.ReadBandwidth), x(top/c.ReadBandwidth), y(top))
	slope := -math.Atan(areaHeight/(high-low)/(width/(right-left))) * 180 / math.Pi
	labels = append(labels, label{0, 0, fmt.Sprintf(`transform="translate(%.1f %.1f) rotate(%.1f)"`, x(from)+4, y(from*c.ReadBandwidth)-8, slope), "memory, " + rate(c.ReadBandwidth, "B/s")})

	mark := func(test int, x, y float64) {
		ink, fill := inks[test%len(inks)], "#fff"
		if test/len(marks)%2 > 0 {
			fill = ink
		}
		fmt.Fprintf(p, `<path d="%s" transform="translate(%.1f %.1f)" stroke="%s" stroke-width="1.6" fill="%s"/>`, marks[test%len(marks)], x, y, ink, fill)
	}
	var numbers []label
	for _, at := range points {
		px, py := x(at.Intensity), y(at.FLOPs)
		mark(at.test, px, py)
		for _, place := range []label{{px + 6, py + 4, `text-anchor="start"`, ""}, {px - 6, py + 4, `text-anchor="end"`, ""}, {px + 6, py - 6, `text-anchor="start"`, ""}, {px + 6, py + 14, `text-anchor="start"`, ""}} {
			if !slices.ContainsFunc(numbers, func(n label) bool { return math.Abs(n.x-place.x) < 13 && math.Abs(n.y-place.y) < 10 }) {
				place.attributes, place.text = place.attributes+` font-size="10"`, fmt.Sprint(at.number)
				numbers = append(numbers, place)
				break
			}
		}
	}
	for _, l := range append(labels, numbers...) {
		p.text(l.x, l.y, l.attributes+` stroke="#fff" stroke-width="3" stroke-linejoin="round" paint-order="stroke"`, l.text)
	}
	line := bottom + plotBottom + 8
	for i, name := range tests {
		mark(i, plotLeft+4, float64(line-4))
		p.text(plotLeft+16, float64(line), "", clip(name, 60))
		line += legendHeight
	}
	for i, k := range list {
		p.text(plotLeft, float64(line), `font-size="11"`, clip(k.line(i+1), 66))
		line += legendHeight
	}
	p.WriteString("</svg>")
	return p.String()
}
