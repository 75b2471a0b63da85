package monitor

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"image"
	"image/color"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"pumice"
	"pumice/internal/bounded"
	"pumice/internal/gputest"
	"pumice/server"
	"pumice/vk"
	"pumice/vk/present"
)

var start = time.Unix(1000, 0)

// step is an event some time after the start.
func step(after time.Duration, s pumice.Step) pumice.Event {
	return pumice.Event{Time: start.Add(after), Step: &s}
}

func TestRatesAreTokensOverTime(t *testing.T) {
	var s State
	for i := range 80 { // 20 tokens a second for 4 s, after a prompt
		s.Event(step(2*time.Second+time.Duration(i)*50*time.Millisecond, pumice.Step{Sequences: 1, Tokens: 1}))
	}
	s.Event(step(600*time.Millisecond, pumice.Step{Sequences: 1, PromptTokens: 37})) // late, and in its place all the same
	v := s.View(start.Add(6*time.Second + 10*time.Millisecond))
	if len(v.Decode) != spans-1 || len(v.Prompt) != spans-1 {
		t.Fatalf("%d and %d points", len(v.Decode), len(v.Prompt))
	}
	want := slices.Concat(make([]float64, spans-1-8), slices.Repeat([]float64{20}, 8))
	if !slices.Equal(v.Decode, want) {
		t.Errorf("decode %v", v.Decode)
	}
	want = make([]float64, spans-1)
	want[spans-1-11] = 74
	if !slices.Equal(v.Prompt, want) {
		t.Errorf("prompt %v", v.Prompt)
	}
	if v.Rate != 20 {
		t.Errorf("now %g", v.Rate)
	}
	if v := s.View(start.Add(time.Hour)); v.Rate != 0 || slices.Max(v.Decode) != 0 {
		t.Errorf("an hour later: %g, %v", v.Rate, v.Decode)
	}
}

func TestSessionsAndTheirTexts(t *testing.T) {
	s := State{pieces: func(ids []int) (list []string) {
		for _, id := range ids {
			list = append(list, fmt.Sprint(id, " "))
		}
		return list
	}}
	piece := func(after time.Duration, p pumice.Piece) {
		s.Event(step(after, pumice.Step{Sequences: 1, Pieces: []pumice.Piece{p}}))
	}
	text := func() string { return s.View(start).Text }
	piece(1*time.Second, pumice.Piece{Session: 1, Tokens: []int{1, 2, 3}, Pages: 2})
	piece(2*time.Second, pumice.Piece{Session: 2, Position: 64, Tokens: []int{9}, Pages: 3, Shared: 1})
	piece(3*time.Second, pumice.Piece{Session: 1, Position: 3, Tokens: []int{4, 5}, Pages: 2})
	if got := text(); got != "1 2 3 4 5 " {
		t.Errorf("%s", got)
	}
	piece(4*time.Second, pumice.Piece{Session: 1, Position: 4, Tokens: []int{6}}) // 5 was a guess
	if got := text(); got != "1 2 3 4 6 " {
		t.Errorf("%s", got)
	}
	piece(5*time.Second, pumice.Piece{Session: 2, Position: 65, Tokens: []int{10}, Pages: 3, Shared: 2})
	if got := text(); got != "9 10 " { // what comes before was in the cache
		t.Errorf("%s", got)
	}
	v := s.View(start.Add(6 * time.Second))
	want := []Session{
		{Number: 2, Tokens: 66, Pages: 3, Shared: 2, Since: start.Add(2 * time.Second), Last: start.Add(5 * time.Second)},
		{Number: 1, Tokens: 5, Since: start.Add(time.Second), Last: start.Add(4 * time.Second)},
	}
	if !slices.Equal(v.Sessions, want) {
		t.Errorf("%+v", v.Sessions)
	}
	for i := range 3 * textTokens {
		piece(7*time.Second, pumice.Piece{Session: 2, Position: 66 + i, Tokens: []int{i}})
	}
	if x := s.sessions[2]; len(x.ids) != textTokens || x.at+len(x.ids) != 66+3*textTokens || x.ids[textTokens-1] != 3*textTokens-1 {
		t.Errorf("%d tokens from %d on", len(x.ids), x.at)
	}
	for i := range 2 * maxSessions {
		piece(8*time.Second+time.Duration(i)*time.Millisecond, pumice.Piece{Session: 3 + i})
	}
	if v := s.View(start); len(v.Sessions) != maxSessions || v.Sessions[0].Number != 2+2*maxSessions {
		t.Errorf("%d sessions, the last one %d", len(v.Sessions), v.Sessions[0].Number)
	}
}

// What a server sends is taken in as what it has sent.
func TestReceive(t *testing.T) {
	var s State
	send := func(name string, v any) {
		t.Helper()
		data, err := json.Marshal(v)
		if err == nil {
			err = s.Receive(name, data)
		}
		if err != nil {
			t.Error(err)
		}
	}
	send("engine", server.Engine{Model: "m", Memory: pumice.MemoryPlan{TotalBytes: 5}})
	send("metrics", pumice.Metrics{Pages: pumice.Pages{InUse: 1, Cached: 2, Free: 3}})
	e := step(time.Second, pumice.Step{Tokens: 7})
	e.Missed = 4
	send("", e)
	send("of another version", "x")
	v := s.View(start.Add(2 * time.Second))
	if v.About.Model != "m" || v.About.Memory.TotalBytes != 5 || v.Metrics.Pages.Cached != 2 || slices.Max(v.Decode) != 14 || v.Missed != 4 || v.Text != "" {
		t.Errorf("%+v", v)
	}
	if err := s.Receive("metrics", []byte("{")); err == nil {
		t.Error("no error of half an object")
	}
	e.Step.Pieces = []pumice.Piece{{Session: 1, Pages: 3}}
	send("", e)
	if v := s.View(start); len(v.Sessions) != 1 {
		t.Errorf("%d sessions", len(v.Sessions))
	}
	send("engine", server.Engine{Model: "another"}) // whose sessions begin at 1 again
	if v := s.View(start); len(v.Sessions) != 0 || v.About.Model != "another" {
		t.Errorf("of another engine: %+v", v)
	}
	s.End(nil)
	if v := s.View(start); v.Ended == nil {
		t.Error("the end is not shown")
	}
}

func TestWrap(t *testing.T) {
	f, err := present.NewFont()
	if err != nil {
		t.Fatal(err)
	}
	width := f.Width(16, "eight ch")
	for text, want := range map[string][]string{
		"":                        {""},
		"a\n\nb":                  {"a", "", "b"},
		"eight chars":             {"eight", "chars"},
		"wwwwwwwwwwwwwwwwwwwwwww": nil,
		"词元词元词元词元词元词元":            nil,
	} {
		var got []string
		for _, line := range wrap(f, 16, text, width) {
			got = append(got, text[line.from:line.to])
		}
		if want != nil && !slices.Equal(got, want) {
			t.Errorf("%q: %q", text, got)
		}
		if want == nil && (len(got) < 2 || strings.Join(got, "") != text) {
			t.Errorf("%q: %q", text, got)
		}
		for _, line := range got {
			if f.Width(16, line) > width {
				t.Errorf("%q is too long", line)
			}
		}
	}
}

// A picture is what Draw shows of a View.
type picture struct{ *image.NRGBA }

// painter returns a function that draws pictures.
func painter(t *testing.T) func(v View, in present.Input, paused bool) picture {
	t.Helper()
	dev := gputest.Open(t)
	values, err := dev.NewBuffer(4*textTokens, vk.Upload)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { values.Close() })
	f, err := present.NewFont()
	if err != nil {
		t.Fatal(err)
	}
	l := present.NewList(f)
	c, err := present.NewCanvas(dev)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	if err := c.SetValues(values.Whole()); err != nil {
		t.Fatal(err)
	}
	return func(v View, in present.Input, paused bool) picture {
		t.Helper()
		for i, w := range v.Attention.Weights {
			binary.LittleEndian.PutUint32(values.Mapped()[4*i:], math.Float32bits(w))
		}
		l.Reset()
		Draw(l, v, in, paused, func(position int) (float32, bool) { return weightOf(v, position) })
		if w, h := c.Size(); w != int(in.Width) || h != int(in.Height) {
			if err := c.Resize(int(in.Width), int(in.Height), false); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := c.Paint(t.Context(), l); err != nil {
			t.Fatal(err)
		}
		m, err := c.Image()
		if err != nil {
			t.Fatal(err)
		}
		return picture{m}
	}
}

func (p picture) is(x, y int, c present.Colour) bool {
	return p.NRGBAAt(x, y) == color.NRGBA{uint8(c >> 24), uint8(c >> 16), uint8(c >> 8), 255}
}

// count returns the pixels of a colour in each of the first columns.
func (p picture) count(c present.Colour, columns int) []int {
	list := make([]int, columns)
	for x := range list {
		for y := range p.Rect.Dy() {
			if p.is(x, y, c) {
				list[x]++
			}
		}
	}
	return list
}

// longest returns the longest run of a colour in a row.
func (p picture) longest(c present.Colour) int {
	most := 0
	for y := range p.Rect.Dy() {
		run := 0
		for x := range p.Rect.Dx() {
			if run++; !p.is(x, y, c) {
				run = 0
			}
			most = max(most, run)
		}
	}
	return most
}

// shaded reports whether a pixel is of a ground behind a weight of attention, by the law that the weight's cube root is how opaque the
// colour is.
func (p picture) shaded(x, y int, ground present.Colour, weight float64) bool {
	at := p.NRGBAAt(x, y)
	for i, got := range []uint8{at.R, at.G, at.B} {
		behind, over := float64(ground>>(24-8*i)&0xff), float64(attentionColour>>(24-8*i)&0xff)
		if want := behind + math.Cbrt(weight)*(over-behind); math.Abs(float64(got)-want) > 1 {
			return false
		}
	}
	return true
}

// sample is a View with everything in it.
func sample() View {
	v := View{Now: start, Rate: 18.25, Text: "user\nWhy is the sky blue?\nassistant\nThe sky is blue because air scatters short waves. 天空是蓝色的，因为空气散射短波。"}
	v.About = server.Engine{Model: "SmolLM2-135M-Instruct-Q4_1", Devices: []pumice.DeviceInfo{{Name: "llvmpipe (LLVM 15.0.6, 256 bits)"}}}
	v.About.Memory = pumice.MemoryPlan{WeightsBytes: 100 << 20, CacheBytes: 50 << 20, ArenaBytes: 25 << 20, TotalBytes: 200 << 20, AvailableBytes: 400 << 20}
	v.Metrics.Pages = pumice.Pages{InUse: 30, Cached: 10, Free: 60}
	v.Decode, v.Prompt = make([]float64, spans-1), make([]float64, spans-1)
	for i := range 60 {
		v.Decode[spans-2-i] = 10 + 8*math.Sin(float64(i)/7)
	}
	v.Prompt[40], v.Prompt[41] = 400, 180
	v.Sessions = []Session{
		{Number: 3, Tokens: 1200, Pages: 19, Shared: 8, Since: start.Add(-30 * time.Second), Last: start},
		{Number: 1, Tokens: 500, Pages: 8, Shared: 8, Since: start.Add(-3 * time.Minute), Last: start.Add(-40 * time.Second)},
	}
	return v
}

// The bars' pixels have the proportions of the numbers they show.
func TestBarsShowTheirNumbers(t *testing.T) {
	v, drawn := sample(), painter(t)
	in := present.Input{Width: 1100, Height: 720, Scale: 1}
	v.Sessions, v.Text = nil, ""
	memory, cache := v, v
	memory.Decode, memory.Metrics, memory.Prompt = nil, pumice.Metrics{}, nil
	p := drawn(memory, in, false)
	weights, kv, arena, others := p.longest(decodeColour), p.longest(promptColour), p.longest(sharedColour), p.longest(otherColour)
	whole := weights + kv + arena + others
	for name, x := range map[string][2]int{"weights": {weights, 100}, "cache": {kv, 50}, "arena": {arena, 25}, "others": {others, 25}} {
		if want := whole * x[1] / 200; x[0] < want-2 || x[0] > want+2 || want < 20 {
			t.Errorf("%s are %d pixels of %d, want %d", name, x[0], whole, want)
		}
	}
	cache.Decode, cache.Prompt, cache.About.Memory = nil, nil, pumice.MemoryPlan{}
	p = drawn(cache, in, false)
	used, kept := p.longest(decodeColour), p.longest(otherColour)
	if want := 3 * kept; used < want-4 || used > want+4 || kept < 20 {
		t.Errorf("%d pixels for 30 pages in use, %d for 10 that are kept", used, kept)
	}

	// A rate of 20 reaches the top of an axis that ends at 20, and 5 a quarter of it.
	rates := v
	rates.Metrics, rates.About.Memory, rates.Prompt = pumice.Metrics{}, pumice.MemoryPlan{}, nil
	rates.Decode = make([]float64, spans-1)
	rates.Decode[spans-3], rates.Decode[spans-13] = 20, 5
	p = drawn(rates, in, false)
	columns := slices.DeleteFunc(p.count(decodeColour, 540), func(n int) bool { return n == 0 })
	low, high := slices.Min(columns), slices.Max(columns)
	if high < 100 || low < high/4-1 || low > high/4+1 {
		t.Errorf("bars of %d and %d pixels for 5 and 20 tokens/s", low, high)
	}
}

// The shades behind a text are those of the weights of its tokens.
func TestShadesShowWeightsOfAttention(t *testing.T) {
	f, err := present.NewFont()
	if err != nil {
		t.Fatal(err)
	}
	v, drawn := View{Now: start, Sessions: []Session{{Number: 3, Last: start}}, First: 40}, painter(t)
	in := present.Input{Width: 1100, Height: 720, Scale: 1, X: -1, Y: -1}
	words := []string{"stone", " wind", " over", "\n", "line"} // without descenders: the lowest row of a line has shades alone
	for _, word := range words {
		v.Text += word
		v.Ends = append(v.Ends, len(v.Text))
	}
	without := drawn(v, in, false)
	v.Attention = Attention{Choice: Choice{On: true, Head: pumice.MeanOfHeads}, Known: true, Session: 3, Position: 44, First: 38, Stamp: 1,
		Weights: []float32{0.3, 0.1, 0.04, 0.9, 0.25, 0.16, 0}}
	p := drawn(v, in, false)
	if string(p.Pix) == string(without.Pix) {
		t.Fatal("nothing is drawn")
	}
	// The word of most weight has a row of its own colour as wide as it is.
	size, from, row, width := 19, 0, 0, int(f.Width(19, " wind"))-1
	for y := 719; y > 0 && row == 0; y-- {
		run := 0
		for x := range 1100 {
			if run++; !p.shaded(x, y, panel, 0.9) {
				run = 0
			}
			if run == width-1 {
				from, row = x-run+1, y
			}
		}
	}
	if row == 0 {
		t.Fatal("the word of most weight is not found")
	}
	at := func(text string) int { return from + int(f.Width(size, text)) - int(f.Width(size, "stone")) }
	for _, x := range []struct {
		name   string
		x, y   int
		weight float64
	}{
		{"stone", at("") + 5, row, 0.04}, {"wind", at("stone") + 5, row, 0.9}, {"over", at("stone wind") + 5, row, 0.25},
		{"the line's end", at("stone wind over") + 2, row, 0.16}, {"behind it", at("stone wind over") + 9, row, 0}, {"the next line", at("") + 5, row + size, 0},
	} {
		if !p.shaded(x.x, x.y, panel, x.weight) {
			t.Errorf("%s: %v at (%d, %d), want the shade of %g", x.name, p.NRGBAAt(x.x, x.y), x.x, x.y, x.weight)
		}
	}
	if v.Attention.Session = 4; string(drawn(v, in, false).Pix) == string(p.Pix) {
		t.Error("a text has the weights of another session")
	}
	v.Attention.Session, in.X, in.Y = 3, float32(at("stone")+5), float32(row-5)
	tip := drawn(v, in, false)
	v.Attention.Weights[3] = 0.5
	if other := drawn(v, in, false); string(tip.Pix) == string(p.Pix) || string(other.Pix) == string(tip.Pix) {
		t.Error("no number is shown below the mouse")
	}
}

// Where texts are not known there is a cell for each token.
func TestCellsShowWeightsOfAttention(t *testing.T) {
	v, drawn := View{Now: start}, painter(t)
	in := present.Input{Width: 1100, Height: 720, Scale: 1, X: -1, Y: -1}
	v.Attention = Attention{Choice: Choice{On: true, Head: 2}, Known: true, Session: 3, Position: 109, First: 10, Stamp: 1}
	for i := range 100 {
		v.Attention.Weights = append(v.Attention.Weights, float32(i%10)/10)
	}
	p := drawn(v, in, false)
	// Rows of as many cells as there is room for, 12 pixels apart; of ten cells one has no weight.
	left, top := 0, 0
	for y := range 720 {
		for x := range 1100 {
			if top == 0 && p.is(x, y, grid) && p.shaded(x+12, y, grid, 0.1) && p.shaded(x+24, y, grid, 0.2) && p.shaded(x+108, y+5, grid, 0.9) {
				left, top = x, y
			}
		}
	}
	if top == 0 {
		t.Fatal("the first cells are not found")
	}
	columns := 1
	for p.shaded(left+5+12*columns, top+5, grid, float64(columns%10)/10) {
		columns++
	}
	if columns < 30 || columns > 60 {
		t.Fatalf("%d cells in a row", columns)
	}
	for i := range 100 {
		if x, y := left+5+i%columns*12, top+5+i/columns*16; !p.shaded(x, y, grid, float64(i%10)/10) {
			t.Errorf("cell %d is %v, want the shade of %g", i, p.NRGBAAt(x, y), float64(i%10)/10)
		}
	}
	if x, y := left+5+100%columns*12, top+5+100/columns*16; !p.is(x, y, panel) {
		t.Errorf("cell 100 is %v", p.NRGBAAt(x, y))
	}
}

// Text is read on every shade, and shades differ in brightness: relative luminance and contrast of WCAG 2.2.
func TestShadesAreReadWithoutColours(t *testing.T) {
	luminance := func(c present.Colour) float64 {
		sum := 0.0
		for i, part := range []float64{0.2126, 0.7152, 0.0722} {
			v := float64(c>>(24-8*i)&0xff) / 255
			if v <= 0.04045 {
				v /= 12.92
			} else {
				v = math.Pow((v+0.055)/1.055, 2.4)
			}
			sum += part * v
		}
		return sum
	}
	contrast := func(a, b present.Colour) float64 { return (luminance(a) + 0.05) / (luminance(b) + 0.05) }
	if text, shade := contrast(bright, attentionColour), contrast(attentionColour, panel); text < 4.5 || shade < 2.5 {
		t.Errorf("text has a contrast of %.2f to the strongest shade, that of %.2f to none", text, shade)
	}
}

// The longest kernel's bar is as wide as there is room, others are in proportion, and so is what of it reading takes at least.
func TestKernelsBesideTheRoofline(t *testing.T) {
	drawn, in := painter(t), present.Input{Width: 1100, Height: 720, Scale: 1, X: -1, Y: -1}
	v := View{Now: start, Bandwidth: 20e9, Kernels: []pumice.Timing{
		{Kernel: "attention", Calls: 30, Total: 2 * time.Millisecond},
		{Kernel: "matvec", Calls: 120, Total: 8 * time.Millisecond, Bytes: 80e6}, // 10 GB/s
	}}
	p := drawn(v, in, false)
	widths := map[int]int{} // of runs, with how many rows have them
	for y := range p.Rect.Dy() {
		run := 0
		for x := range p.Rect.Dx() {
			if p.is(x, y, decodeColour) {
				run++
			}
		}
		widths[run]++
	}
	reading := p.longest(promptColour)
	full := p.longest(decodeColour)
	if full < 100 || widths[full/4]+widths[full/4+1]+widths[full/4-1] < 9 {
		t.Errorf("bars of %v for 8 and 2 ms", widths)
	}
	if reading < full/2-1 || reading > full/2+1 {
		t.Errorf("%d of %d pixels for half of the bandwidth", reading, full)
	}
	for range 50 { // those that have no room are left out
		v.Kernels = append(v.Kernels, pumice.Timing{Kernel: "more", Total: 7 * time.Millisecond})
	}
	p = drawn(v, in, false)
	for x := range p.Rect.Dx() {
		run := 0
		for y := range p.Rect.Dy() {
			if run++; !p.is(x, y, decodeColour) {
				run = 0
			}
			if run > 11 {
				t.Fatalf("bars lie over each other at (%d, %d)", x, y)
			}
		}
	}
	v.Kernels = v.Kernels[:2]
	var s State
	s.Event(step(time.Second, pumice.Step{Tokens: 1, Kernels: v.Kernels}))
	s.Event(step(time.Second, pumice.Step{PromptTokens: 9, Kernels: v.Kernels[:1]}))
	if got := s.View(start).Kernels; len(got) != 2 {
		t.Errorf("%v: want those of the token", got)
	}
}

// What is under the mouse is told in numbers, and what a window is too small for is left out.
func TestHoverAndSmallWindows(t *testing.T) {
	v, drawn := sample(), painter(t)
	in := present.Input{Width: 1100, Height: 720, Scale: 1, X: -1, Y: -1}
	without := drawn(v, in, false)
	tips := 0
	for _, at := range [][2]float32{{500, 200}, {100, 410}, {60, 550}, {800, 300}} {
		in.X, in.Y = at[0], at[1]
		if p := drawn(v, in, false); string(p.Pix) != string(without.Pix) {
			tips++
		}
	}
	if tips != 3 { // there are no numbers in the text
		t.Errorf("%d tips, want 3", tips)
	}
	in.X, in.Y = -1, -1
	paused := drawn(v, in, true)
	if string(paused.Pix) == string(without.Pix) {
		t.Error("a pause is not shown")
	}
	v.Ended = errors.New("the server is gone")
	if p := drawn(v, in, false); string(p.Pix) == string(without.Pix) {
		t.Error("the end is not shown")
	}
	for _, size := range [][2]float32{{1, 1}, {40, 30}, {200, 100}, {300, 900}, {900, 120}, {2200, 1440}} {
		in.Width, in.Height, in.Scale = size[0], size[1], 1
		if size[0] > 2000 {
			in.Scale = 2
		}
		drawn(v, in, false)
		drawn(View{Now: start}, in, false)
	}
}

// weightOf is what a View's weights of attention say of a position.
func weightOf(v View, position int) (float32, bool) {
	i := position - v.Attention.First
	if i < 0 || i >= len(v.Attention.Weights) {
		return 0, false
	}
	return v.Attention.Weights[i], true
}

// Keys choose layers and heads, one after another and round.
func TestKeysChooseWeightsOfAttention(t *testing.T) {
	c, of := newControls(), server.Engine{Layers: 3, Heads: 2}
	up, down, left, right := string(present.KeyUp), string(present.KeyDown), string(present.KeyLeft), string(present.KeyRight)
	for _, x := range []struct {
		keys string
		want Choice
	}{
		{"", Choice{false, 0, -1}}, {"a", Choice{true, 0, -1}}, {up + up, Choice{true, 2, -1}}, {up, Choice{true, 0, -1}}, {down, Choice{true, 2, -1}},
		{right, Choice{true, 2, 0}}, {right + right, Choice{true, 2, -1}}, {left, Choice{true, 2, 1}}, {left, Choice{true, 2, 0}}, {"mA", Choice{false, 2, -1}},
	} {
		if c.press([]rune(x.keys), time.Time{}, of); c.Choice != x.want {
			t.Errorf("%q: %+v, want %+v", x.keys, c.Choice, x.want)
		}
	}
	if c.press(nil, time.Time{}, server.Engine{}); c.Choice != (Choice{false, 0, -1}) {
		t.Errorf("%+v of an engine without layers", c.Choice)
	}
}

// Whoever is asked for weights of attention is asked for one choice at a time, and says what is wrong.
func TestAskingIsOfOneChoice(t *testing.T) {
	var s State
	started := make(chan Choice)
	wrong := errors.New("no such layer")
	asking := 0
	s.Asks(func(ctx context.Context, c Choice) error {
		if asking++; asking > 1 {
			t.Error("two are asked for at once")
		}
		started <- c
		if c.Layer == 9 {
			asking--
			return wrong
		}
		s.weights(server.Attention{Attention: pumice.Attention{Session: 1, Position: 1, Layer: c.Layer, Weights: []float32{0.25, 0.75}}})
		s.weights(server.Attention{Attention: pumice.Attention{Layer: c.Layer + 1}}) // of what was asked before
		<-ctx.Done()
		asking--
		return ctx.Err()
	})
	for layer := range 3 {
		want := Choice{On: true, Layer: layer}
		s.Ask(want, nil)
		s.Ask(want, nil)
		if got := <-started; got != want {
			t.Errorf("asked for %+v, want %+v", got, want)
		}
		for !s.View(start).Attention.Known {
			time.Sleep(time.Millisecond)
		}
		if a := s.View(start).Attention; a.Choice != want || a.Session != 1 || !slices.Equal(a.Weights, []float32{0.25, 0.75}) {
			t.Errorf("%+v", a)
		}
	}
	s.Ask(Choice{On: true, Layer: 9}, nil)
	<-started
	s.Wait()
	if a := s.View(start).Attention; a.Known || !errors.Is(a.Err, wrong) {
		t.Errorf("%+v", a)
	}
	s.Ask(Choice{}, nil)
	s.Wait()
	if a := s.View(start).Attention; a.Known || a.On || a.Err != nil || asking != 0 {
		t.Errorf("%+v, %d are asked", a, asking)
	}
}

func TestKeys(t *testing.T) {
	c, of := newControls(), server.Engine{Layers: 3, Heads: 4}
	now := time.Date(2026, 11, 30, 17, 5, 9, 0, time.UTC)
	for _, x := range []struct {
		keys   string
		want   present.Reply
		paused bool
	}{
		{"", present.Reply{}, false},
		{" ", present.Reply{}, true},
		{"xs", present.Reply{Screenshot: "pumice-20261130-170509.png"}, true},
		{"   ", present.Reply{}, false},
		{string([]rune{present.KeyUp, present.KeyEscape}), present.Reply{Quit: true}, false},
		{"Q", present.Reply{Quit: true}, false},
	} {
		if got := c.press([]rune(x.keys), now, of); got != x.want || c.paused != x.paused {
			t.Errorf("%q: %+v, paused %t", x.keys, got, c.paused)
		}
	}
}

// FuzzReceive has a server send anything: there is an error or a picture, of no more shapes than a window has room for.
func FuzzReceive(f *testing.F) {
	for _, seed := range []string{
		`engine {"model":"m","devices":[{"name":"d"}],"memory":{"weights_bytes":5,"total_bytes":9,"available_bytes":-1}}`,
		`metrics {"pages":{"in_use":1,"cached":-2,"free":99999999999}}`,
		` {"time":"2026-11-30T17:00:00Z","step":{"tokens":9,"pieces":[{"session":1,"position":7,"tokens":[1,2],"pages":3,"shared_pages":9}]}}`,
		` {"time":"0001-01-01T00:00:00Z","step":{"tokens":-9,"pieces":[{"session":-1,"position":-7,"pages":-3},{"session":-1,"position":9223372036854775807}]}}`,
		` {"time":"2026-11-30T17:00:01Z","step":{"kernels":[{"Kernel":"k","Calls":0,"Total":-5,"Bytes":1000000},{"Kernel":"l","Total":7}]}}`,
		`attention {"session":1,"position":9,"first":7,"weights":[0.5,0.25,1e30]}` + "\n" + `attention {"first":-5,"position":9223372036854775807,"weights":null}`,
		` {"lookup":{}}` + "\n" + `other 5`, `metrics {`,
	} {
		f.Add(seed)
	}
	font, err := present.NewFont()
	if err != nil {
		f.Fatal(err)
	}
	l := present.NewList(font)
	now := time.Date(2026, 11, 30, 17, 0, 2, 0, time.UTC)
	f.Fuzz(func(t *testing.T, text string) {
		bounded.Run(t, len(text), func(context.Context) {
			s := State{attention: attention{Attention: Attention{Choice: Choice{On: true, Layer: 0}}}}
			for line := range strings.Lines(text) {
				name, data, _ := strings.Cut(line, " ")
				_ = s.Receive(name, []byte(data))
			}
			for _, at := range []float32{-1, 100, 700} {
				l.Reset()
				Draw(l, s.View(now), present.Input{Width: 1100, Height: 720, Scale: 1, X: at, Y: 420}, false, func(int) (float32, bool) { return 0.5, true })
			}
			if n := l.Len(); n > 20000 {
				t.Errorf("%d shapes", n)
			}
		})
	})
}

// BenchmarkFrame draws a window anew, and one in which only the plots have moved on.
func BenchmarkFrame(b *testing.B) {
	f, err := present.NewFont()
	if err != nil {
		b.Fatal(err)
	}
	l := present.NewList(f)
	c, err := present.NewCanvas(gputest.OpenWith(b, gputest.Options{NoValidation: true}))
	if err != nil {
		b.Fatal(err)
	}
	defer c.Close()
	v, in := sample(), present.Input{Width: 1100, Height: 720, Scale: 1, X: -1, Y: -1}
	for _, name := range []string{"all", "plots"} {
		b.Run(name, func(b *testing.B) {
			var device time.Duration
			tiles, frames := 0, 0
			for b.Loop() {
				if name == "all" || frames == 0 {
					if err := c.Resize(1100, 720, false); err != nil {
						b.Fatal(err)
					}
				}
				v.Decode = append(v.Decode[1:], float64(frames%30))
				l.Reset()
				Draw(l, v, in, false, nil)
				n, err := c.Paint(b.Context(), l)
				if err != nil {
					b.Fatal(err)
				}
				device += c.Took() // waits
				tiles += n
				frames++
			}
			b.ReportMetric(float64(device.Microseconds())/float64(frames), "device-us/op")
			b.ReportMetric(float64(tiles)/float64(frames), "tiles/op")
		})
	}
}

func TestCeilings(t *testing.T) {
	for v, want := range map[float64]float64{0: 1, 0.3: 0.5, 1: 1, 1.01: 2, 4.9: 5, 5.1: 10, 20: 20, 74: 100, 1001: 2000} {
		if got := ceiling(v); math.Abs(got-want) > 1e-9*want {
			t.Errorf("%g: %g, want %g", v, got, want)
		}
	}
}
