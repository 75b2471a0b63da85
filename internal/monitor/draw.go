package monitor

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"pumice"
	"pumice/internal/humanize"
	"pumice/server"
	"pumice/vk/present"
)

// Colours: of what is behind, of panels, text, and what is measured. They differ in brightness too.
const (
	ground present.Colour = 0x101419ff
	panel  present.Colour = 0x1a2028ff
	grid   present.Colour = 0x2c3541ff
	bright present.Colour = 0xe6ebf2ff
	dim    present.Colour = 0x93a0b0ff
	warn   present.Colour = 0xff7b72ff

	decodeColour present.Colour = 0x58a6ffff
	promptColour present.Colour = 0xffc263ff
	sharedColour present.Colour = 0xd2a8ffff
	otherColour  present.Colour = 0x56d39bff

	// attentionColour is behind text, which is read on it: bright has a contrast of 5 to it (WCAG 2.2, 1.4.3).
	attentionColour present.Colour = 0x2f62b8ff
)

// A controls is what keys change.
type controls struct {
	paused bool
	Choice
}

// newControls is what there is before a key is pressed.
func newControls() controls { return controls{Choice: Choice{Head: pumice.MeanOfHeads}} }

// press takes in keys that were typed at a time: space pauses and goes on, S asks for a screenshot, Q and Escape for the end, A for
// weights of attention and for none, up and down for those of another layer, left and right of another head, M for their mean.
func (c *controls) press(keys []rune, now time.Time, of server.Engine) (reply present.Reply) {
	turn := func(n, first, end int) int { // the last is followed by the first
		switch {
		case n >= end:
			return first
		case n < first:
			return end - 1
		}
		return n
	}
	layers, heads := max(1, of.Layers), max(1, of.Heads)
	c.Layer, c.Head = min(c.Layer, layers-1), min(c.Head, heads-1)
	for _, key := range keys {
		switch key {
		case ' ':
			c.paused = !c.paused
		case 's', 'S':
			reply.Screenshot = now.Format("pumice-20060102-150405.png")
		case 'q', 'Q', present.KeyEscape:
			reply.Quit = true
		case 'a', 'A':
			c.On = !c.On
		case present.KeyUp:
			c.Layer = turn(c.Layer+1, 0, layers)
		case present.KeyDown:
			c.Layer = turn(c.Layer-1, 0, layers)
		case present.KeyRight:
			c.Head = turn(c.Head+1, pumice.MeanOfHeads, heads)
		case present.KeyLeft:
			c.Head = turn(c.Head-1, pumice.MeanOfHeads, heads)
		case 'm', 'M':
			c.Head = pumice.MeanOfHeads
		}
	}
	return reply
}

// A screen has what is drawn and where the mouse is, in units of pixels at scale 1.
type screen struct {
	*present.List
	view  View
	scale float32
	mouse [2]float32
	tip   string // what is under the mouse; "": nothing

	weight func(position int) (w float32, ok bool) // of attention
}

// Draw draws a View for a window. It depends on nothing else: the same View and Input make the same picture. weight finds the
// weight of attention of a position, for the one that the mouse is over; where the values are drawn the device knows them.
func Draw(l *present.List, v View, in present.Input, paused bool, weight func(position int) (w float32, ok bool)) {
	s := &screen{List: l, view: v, scale: max(1, in.Scale), mouse: [2]float32{in.X, in.Y}, weight: weight}
	all := present.Rect{X1: in.Width, Y1: in.Height}
	l.Box(all, ground)
	gap := s.px(8)
	head, rest := cutTop(all.Inset(gap), s.px(26))
	s.head(head, in, paused)
	var rates, amounts, text present.Rect
	switch left, right := cutLeft(rest, (rest.Width()-gap)/2, gap); {
	case rest.Width() > s.px(520) && v.Text == "" && !v.Attention.On:
		rates, amounts = left, right
	case rest.Width() > s.px(520):
		rest, text = left, right
		fallthrough
	default:
		rates, amounts = cutTop(rest, rest.Height()*0.5-gap/2)
		amounts.Y0 += gap
	}
	memory, sessions := cutTop(amounts, s.px(88))
	sessions.Y0 += gap
	if len(v.Kernels) > 0 {
		var kernels present.Rect
		sessions, kernels = cutTop(sessions, min((sessions.Height()-gap)/2, s.px(float32(90+20*len(v.Sessions)))))
		kernels.Y0 += gap
		s.kernels(kernels)
	}
	s.rates(rates)
	s.memory(memory)
	s.sessions(sessions)
	s.text(text)
	s.hover(all)
}

// px is so many pixels at scale 1.
func (s *screen) px(n float32) float32 { return float32(math.Round(float64(n * s.scale))) }

// The heights of lines.
func (s *screen) small() int  { return int(s.px(16)) }
func (s *screen) normal() int { return int(s.px(19)) }
func (s *screen) large() int  { return int(s.px(34)) }

func cutTop(r present.Rect, height float32) (top, rest present.Rect) {
	top, rest = r, r
	top.Y1 = min(r.Y1, r.Y0+float32(math.Round(float64(height))))
	rest.Y0 = top.Y1
	return top, rest
}

func cutLeft(r present.Rect, width, gap float32) (left, rest present.Rect) {
	left, rest = r, r
	left.X1 = r.X0 + float32(math.Round(float64(width)))
	rest.X0 = left.X1 + gap
	return left, rest
}

// line draws a line of text whose upper edge is y, and returns where the next one is.
func (s *screen) line(x, y float32, size int, text string, c present.Colour) float32 {
	s.Text(x, y+s.Font().Ascent(size), size, text, c)
	return y + float32(size)
}

func (s *screen) lineRight(x, y float32, size int, text string, c present.Colour) {
	s.TextRight(x, y+s.Font().Ascent(size), size, text, c)
}

// panel draws the ground of a part of the window with a title, and returns what is inside. There is nothing of it where
// there is too little room.
func (s *screen) panel(r present.Rect, title string) (in present.Rect, ok bool) {
	if r.Height() < s.px(60) || r.Width() < s.px(120) {
		return in, false
	}
	s.Box(r, panel)
	in = r.Inset(s.px(10))
	in.Y0 = s.line(in.X0, r.Y0+s.px(6), s.small(), s.Font().Fit(s.small(), title, in.Width()), dim) + s.px(2)
	return in, true
}

// over has the tip say a text if the mouse is in r.
func (s *screen) over(r present.Rect, format string, args ...any) {
	if r.Contains(s.mouse[0], s.mouse[1]) {
		s.tip = fmt.Sprintf(format, args...)
	}
}

// head names the model and the device, and counts frames.
func (s *screen) head(r present.Rect, in present.Input, paused bool) {
	name := s.view.About.Model
	if name == "" {
		name = "waiting for a model"
	}
	for i, d := range s.view.About.Devices {
		name += map[bool]string{true: "  ·  ", false: " + "}[i == 0] + d.Name
	}
	frames := fmt.Sprintf("%d frames, %d dropped", in.Shown, in.Dropped)
	if s.view.Missed > 0 {
		frames = fmt.Sprintf("%d events missed  ·  ", s.view.Missed) + frames
	}
	c := dim
	switch {
	case s.view.Ended != nil:
		frames, c = s.Font().Fit(s.small(), s.view.Ended.Error(), r.Width()/2), warn
	case paused:
		frames, c = "paused  ·  "+frames, promptColour
	}
	s.lineRight(r.X1, r.Y0, s.small(), frames, c)
	left := r.Width() - s.Font().Width(s.small(), frames) - s.px(20)
	s.line(r.X0, r.Y0, s.normal(), s.Font().Fit(s.normal(), name, left), bright)
}

// rates plots tokens a second.
func (s *screen) rates(r present.Rect) {
	upper, lower := cutTop(r, r.Height()*0.6)
	lower.Y0 += s.px(8)
	v := s.view
	if in, ok := s.panel(upper, "generated, tokens/s, over the last minute"); ok {
		s.lineRight(in.X1, upper.Y0+s.px(6), s.large(), rate(v.Rate), bright)
		in.Y0 += s.px(14)
		s.plot(in, v.Decode, decodeColour)
	}
	if in, ok := s.panel(lower, "prompts, tokens/s"); ok {
		s.plot(in, v.Prompt, promptColour)
	}
}

// rate writes tokens a second with three digits.
func rate(v float64) string {
	switch {
	case v >= 99.95:
		return fmt.Sprintf("%.0f", v)
	case v >= 9.995:
		return fmt.Sprintf("%.1f", v)
	}
	return fmt.Sprintf("%.2f", v)
}

// ceiling is the end of an axis that has a value: 1, 2 or 5 times a power of ten.
func ceiling(v float64) float64 {
	if v <= 0 {
		return 1
	}
	base := math.Pow(10, math.Floor(math.Log10(v)))
	for _, f := range []float64{1, 2, 5, 10} {
		if v <= f*base*(1+1e-9) {
			return f * base
		}
	}
	return 10 * base
}

// plot draws values as bars from zero, the last one at the right edge.
func (s *screen) plot(r present.Rect, values []float64, c present.Colour) {
	most := 0.0
	for _, v := range values {
		most = max(most, v)
	}
	top := ceiling(most)
	label := s.Font().Width(s.small(), rate(top)) + s.px(6)
	area := present.Rect{X0: r.X0 + label, Y0: r.Y0 + s.px(6), X1: r.X1, Y1: r.Y1 - s.px(2)}
	if area.Height() < s.px(8) || len(values) == 0 {
		return
	}
	for _, part := range []float64{0, 0.5, 1} {
		y := float32(math.Round(float64(area.Y1) - part*float64(area.Height())))
		s.Box(present.Rect{X0: area.X0, Y0: y - 1, X1: area.X1, Y1: y}, grid)
		if part != 0.5 || area.Height() > s.px(50) {
			s.TextRight(area.X0-s.px(6), y+s.px(4), s.small(), strings.TrimSuffix(rate(part*top), ".00"), dim)
		}
	}
	width := area.Width() / float32(len(values))
	for i, v := range values {
		x := area.X0 + float32(i)*width
		bar := present.Rect{X0: x, Y0: area.Y1 - float32(v/top)*area.Height(), X1: x + max(width-1, width*0.8), Y1: area.Y1}
		s.Box(bar, c)
		ago := float64(len(values)-i) * spanTime.Seconds()
		s.over(present.Rect{X0: x, Y0: area.Y0, X1: x + width, Y1: area.Y1}, "%s tokens/s, %.1f s ago", rate(v), ago)
	}
}

// A share is a part of a bar.
type share struct {
	name   string
	amount float64
	text   string // of the amount
	colour present.Colour
}

// bar draws shares of a whole beside each other, and their names with amounts below.
func (s *screen) bar(r present.Rect, whole float64, shares []share) (below float32) {
	bar, _ := cutTop(r, s.px(16))
	s.Box(bar, grid)
	x := float64(bar.X0)
	perUnit := float64(bar.Width()) / max(whole, 1e-9)
	for _, p := range shares {
		end := x + p.amount*perUnit
		part := present.Rect{X0: float32(x), Y0: bar.Y0, X1: float32(end), Y1: bar.Y1}
		s.Box(part, p.colour)
		s.over(part, "%s: %s, %.1f %%", p.name, p.text, 100*p.amount/max(whole, 1e-9))
		x = end
	}
	at, y := bar.X0, bar.Y1+s.px(5)
	for _, p := range shares {
		text := p.name + " " + p.text
		width := s.px(14) + s.Font().Width(s.small(), text) + s.px(14)
		if at+width > r.X1+s.px(14) && at > bar.X0 {
			at, y = bar.X0, y+float32(s.small())
		}
		s.Box(present.Rect{X0: at, Y0: y + s.px(4), X1: at + s.px(9), Y1: y + s.px(13)}, p.colour)
		s.line(at+s.px(14), y, s.small(), text, bright)
		at += width
	}
	return y + float32(s.small())
}

// memory shows what the model takes of the device's memory.
func (s *screen) memory(r present.Rect) {
	m := s.view.About.Memory
	title := fmt.Sprintf("device memory: %s, of %s that were free", humanize.Bytes(m.TotalBytes), humanize.Bytes(m.AvailableBytes))
	in, ok := s.panel(r, title)
	if !ok {
		return
	}
	bytes := func(name string, n int64, c present.Colour) share {
		return share{name, float64(n), humanize.Bytes(n), c}
	}
	s.bar(in, float64(m.TotalBytes), []share{
		bytes("weights", m.WeightsBytes, decodeColour), bytes("KV cache", m.CacheBytes, promptColour),
		bytes("activations", m.ArenaBytes, sharedColour), bytes("others", m.TotalBytes-m.WeightsBytes-m.CacheBytes-m.ArenaBytes, otherColour),
	})
}

// sessions shows who has the pages of the KV cache.
func (s *screen) sessions(r present.Rect) {
	p := s.view.Metrics.Pages
	all := p.InUse + p.Cached + p.Free
	in, ok := s.panel(r, fmt.Sprintf("KV cache: %d pages of 64 tokens", all))
	if !ok {
		return
	}
	pages := func(name string, n int, c present.Colour) share { return share{name, float64(n), fmt.Sprint(n), c} }
	in.Y0 = s.bar(in, float64(all), []share{
		pages("in use", p.InUse, decodeColour), pages("kept", p.Cached, otherColour), pages("free", p.Free, grid),
	}) + s.px(6)
	most := 1
	for _, x := range s.view.Sessions {
		most = max(most, x.Pages)
	}
	size := s.small()
	for _, x := range s.view.Sessions {
		row, rest := cutTop(in, float32(size)+s.px(4))
		if rest.Y0+s.px(2) > in.Y1 {
			return
		}
		in = rest
		idle := s.view.Now.Sub(x.Last)
		c, state := bright, "at work"
		if idle > 2*time.Second {
			c, state = dim, "idle "+age(idle)
		}
		s.line(row.X0, row.Y0, size, fmt.Sprintf("#%d", x.Number), c)
		s.lineRight(row.X1, row.Y0, size, fmt.Sprintf("%d pages, %d shared · %s · %s", x.Pages, x.Shared, age(s.view.Now.Sub(x.Since)), state), c)
		bar := present.Rect{X0: row.X0 + s.px(40), Y0: row.Y0 + s.px(5), X1: row.X1 - s.px(245), Y1: row.Y0 + s.px(14)}
		unit := bar.Width() / float32(most)
		own := bar.X0 + float32(x.Pages-x.Shared)*unit
		fade := map[bool]float64{true: 1, false: 0.5}[c == bright]
		s.Box(present.Rect{X0: bar.X0, Y0: bar.Y0, X1: own, Y1: bar.Y1}, decodeColour.With(fade))
		s.Box(present.Rect{X0: own, Y0: bar.Y0, X1: bar.X0 + float32(x.Pages)*unit, Y1: bar.Y1}, sharedColour.With(fade))
		if x.Tokens > 0 {
			s.over(row, "session %d: %d tokens, %d pages of its own, %d shared with others", x.Number, x.Tokens, x.Pages-x.Shared, x.Shared)
		}
	}
}

// kernels shows how long a token's kernels take, the longest first, and how near those that read much come to the rate at which
// the device copies its memory.
func (s *screen) kernels(r present.Rect) {
	list := slices.Clone(s.view.Kernels)
	slices.SortStableFunc(list, func(a, b pumice.Timing) int { return cmp.Compare(b.Total, a.Total) })
	var total time.Duration
	for _, k := range list {
		total += k.Total
	}
	title := fmt.Sprintf("kernels of a token: %s", milliseconds(total))
	if s.view.Bandwidth > 0 {
		title += fmt.Sprintf(", and what they read, in per cent of the %.1f GB/s of copies", s.view.Bandwidth/1e9)
	}
	in, ok := s.panel(r, title)
	if !ok {
		return
	}
	size, name, numbers := s.small(), s.px(200), s.px(130)
	for _, k := range list {
		row, rest := cutTop(in, float32(size)+s.px(2))
		if row.Height() < float32(size) {
			return
		}
		in = rest
		title := strings.TrimSpace(k.Kernel + " " + k.Size)
		s.line(row.X0, row.Y0, size, s.Font().Fit(size, title, name-s.px(6)), bright)
		text, tip := milliseconds(k.Total), fmt.Sprintf("%s: %d calls of %s on average", title, k.Calls, milliseconds(k.Total/time.Duration(max(1, k.Calls))))
		bar := present.Rect{X0: row.X0 + name, Y0: row.Y0 + s.px(3), X1: row.X1 - numbers, Y1: row.Y0 + s.px(14)}
		end := bar.X0 + bar.Width()*float32(float64(k.Total)/float64(max(1, list[0].Total)))
		s.Box(present.Rect{X0: bar.X0, Y0: bar.Y0, X1: end, Y1: bar.Y1}, decodeColour)
		if rate := float64(k.Bytes) / max(k.Total.Seconds(), 1e-9); s.view.Bandwidth > 0 && k.Bytes > reads {
			part := rate / s.view.Bandwidth
			text += fmt.Sprintf(" · %.0f %%", 100*part)
			tip += fmt.Sprintf(", %s at %.1f GB/s", humanize.Bytes(k.Bytes), rate/1e9)
			reached := bar.X0 + (end-bar.X0)*float32(min(part, 1))
			s.Box(present.Rect{X0: bar.X0, Y0: bar.Y1 - s.px(3), X1: reached, Y1: bar.Y1}, promptColour)
		}
		s.lineRight(row.X1, row.Y0, size, text, bright)
		s.over(row, "%s", tip)
	}
}

// reads is how many bytes a kernel reads at least whose rate of reading is of interest.
const reads = 256 << 10

func milliseconds(d time.Duration) string {
	return fmt.Sprintf("%.2f ms", float64(d)/float64(time.Millisecond))
}

// age writes a time in one unit.
func age(d time.Duration) string {
	switch {
	case d < 100*time.Second:
		return fmt.Sprintf("%.0f s", d.Seconds())
	case d < 100*time.Minute:
		return fmt.Sprintf("%.0f min", d.Minutes())
	}
	return fmt.Sprintf("%.0f h", d.Hours())
}

// text shows the end of the text that is at work, and behind it the weights of attention of its last token if they are wanted.
func (s *screen) text(r present.Rect) {
	a := s.view.Attention
	if s.view.Text == "" && !a.On {
		return
	}
	title := "attention"
	if s.view.Text != "" {
		title = fmt.Sprintf("text of session %d", s.view.Sessions[0].Number)
	}
	in, ok := s.panel(r, title)
	if !ok {
		return
	}
	in.Y0 = s.choice(in, r.Y0+s.px(6))
	if s.view.Text == "" {
		s.cells(in)
		return
	}
	size := s.normal()
	lines := wrap(s.Font(), size, s.view.Text, in.Width())
	if fit := max(1, int(in.Height()/float32(size))); len(lines) > fit {
		lines = lines[len(lines)-fit:]
	}
	shaded := a.Known && a.Session == s.view.Sessions[0].Number
	for _, line := range lines {
		if shaded {
			s.shade(in.X0, in.Y0, size, line)
		}
		in.Y0 = s.line(in.X0, in.Y0, size, s.view.Text[line.from:line.to], bright)
	}
}

// choice says which weights of attention are shown, and by which keys others are. It returns where the next line begins; the line
// of the title is at y.
func (s *screen) choice(in present.Rect, y float32) float32 {
	a, size := s.view.Attention, s.small()
	if !a.On {
		s.lineRight(in.X1, y, size, "A: attention", dim)
		return in.Y0
	}
	what := "the mean of all heads"
	if a.Head != pumice.MeanOfHeads {
		what = fmt.Sprintf("head %d of %d", a.Head, s.view.About.Heads)
	}
	what = fmt.Sprintf("attention in layer %d of %d, %s", a.Layer, s.view.About.Layers, what)
	c := bright
	switch {
	case a.Err != nil:
		what, c = "no weights of attention: "+a.Err.Error(), warn
	case a.Known:
		what += fmt.Sprintf(", of token %d of session %d", a.Position, a.Session)
	default:
		what += ": waiting for a token"
	}
	y = s.line(in.X0, in.Y0, size, s.Font().Fit(size, what, in.Width()), c)
	x := in.X1
	for _, w := range []float64{1, 0.25, 0.05, 0.01} { // what shades stand for
		text := fmt.Sprint(w)
		x -= s.Font().Width(size, text) + s.px(6)
		s.Box(present.Rect{X0: x - s.px(3), Y0: y + 1, X1: x + s.Font().Width(size, text) + s.px(3), Y1: y + float32(size) - 1}, attentionColour.With(math.Cbrt(w)))
		s.line(x, y, size, text, bright)
		x -= s.px(3)
	}
	keys := "↑↓ layer   ←→ head   M mean   A off"
	return s.line(in.X0, y, size, s.Font().Fit(size, keys, x-in.X0-s.px(10)), dim) + s.px(4)
}

// shade draws the weights of attention of the tokens in a line of the text. A token that has no width, such as a line break, has
// a mark of its own.
func (s *screen) shade(x, y float32, size int, line span) {
	v, from := s.view, 0
	for i, to := range v.Ends {
		begin, end := max(from, line.from), min(to, line.to)
		empty := from == to && from >= line.from && from < line.to || from == line.to && from < to && v.Text[from] == '\n'
		if begin < end || empty {
			left := x + s.Font().Width(size, v.Text[line.from:begin])
			width := s.px(4)
			if begin < end {
				width = s.Font().Width(size, v.Text[begin:end]) - 1
			}
			s.token(present.Rect{X0: left, Y0: y + 1, X1: left + width, Y1: y + float32(size) - 1}, v.First+i)
		}
		from = to
	}
}

// cells draws the weights of attention of tokens whose text is not known, one behind another.
func (s *screen) cells(in present.Rect) {
	a := s.view.Attention
	if !a.Known {
		return
	}
	width, height := s.px(12), s.px(16)
	columns := max(1, int(in.Width()/width))
	first := max(a.First, a.Position+1-textTokens)
	for position := first; position <= a.Position; position++ {
		i := position - first
		x, y := in.X0+float32(i%columns)*width, in.Y0+float32(i/columns)*height
		if y+height > in.Y1 {
			return
		}
		cell := present.Rect{X0: x, Y0: y, X1: x + width - 1, Y1: y + height - 1}
		s.Box(cell, grid)
		s.token(cell, position)
	}
}

// token draws the weight of attention of the token at a position.
func (s *screen) token(r present.Rect, position int) {
	a := s.view.Attention
	if position < a.First || position > a.Position {
		return
	}
	s.Value(r, position-a.First, a.Stamp, attentionColour)
	if s.weight != nil && r.Contains(s.mouse[0], s.mouse[1]) {
		if w, ok := s.weight(position); ok {
			s.tip = fmt.Sprintf("token %d: %.4f", position, w)
		}
	}
}

// A span is a part of a text, in bytes.
type span struct{ from, to int }

// wrap divides a text into lines of at most a width: between words, or anywhere where a word has no room or is of a script
// without spaces.
func wrap(f *present.Font, size int, text string, width float32) []span {
	var lines []span
	start := 0
	for paragraph := range strings.SplitSeq(text, "\n") {
		begin, space, at := 0, -1, float32(0)
		for i, r := range paragraph {
			w := f.Width(size, string(r))
			if at+w > width && i > begin {
				end, next := i, i
				if space > begin {
					end, next = space, space+1
				}
				lines = append(lines, span{start + begin, start + end})
				begin, space = next, -1
				at = f.Width(size, paragraph[begin:i])
			}
			if r == ' ' {
				space = i
			}
			at += w
		}
		lines = append(lines, span{start + begin, start + len(paragraph)})
		start += len(paragraph) + 1
	}
	return lines
}

// hover shows what is under the mouse beside it, inside the window.
func (s *screen) hover(all present.Rect) {
	if s.tip == "" {
		return
	}
	tip := s.Font().Fit(s.small(), s.tip, all.Width()-s.px(12))
	width, height := s.Font().Width(s.small(), tip)+s.px(12), float32(s.small())+s.px(6)
	x := max(0, min(s.mouse[0]+s.px(12), all.X1-width))
	y := max(0, min(s.mouse[1]+s.px(14), all.Y1-height))
	box := present.Rect{X0: x, Y0: y, X1: x + width, Y1: y + height}
	s.Box(box, bright)
	s.Frame(box, 1, grid)
	s.line(x+s.px(6), y+s.px(3), s.small(), tip, ground)
}
