package bench

import (
	"encoding/xml"
	"io"
	"strings"
	"testing"
	"time"
)

// TestPage: rows, plots and provenance are there, a struck row is marked, and nothing in a file becomes markup.
func TestPage(t *testing.T) {
	hostile := `<script>alert(1)</script>`
	a := row(Test{Gen: 32}, 10, 11, 12)
	a.ModelType = hostile
	deep := row(Test{Gen: 32, Depth: 4096}, 5, 6, 7)
	deep.ModelType = hostile
	deep.Noisy, deep.Reasons = true, []string{"other processes took 40 % of the processors in the slowest run"}
	wrong := row(Test{Gen: 32}, 90, 91)
	wrong.Stamp = Stamp{Stamped: true, KernelsUsed: 9, KernelsVerified: 8, KernelsWrong: []string{"matvec_q4_1_sg"}, KernelNames: []string{"add", "matvec_q4_1_sg"}, Struck: true}
	together := ParallelResult{Setup: a.Setup, ParallelTest: ParallelTest{Prompt: 8, Gen: 4, Sequences: 2}, TestTime: a.TestTime}
	var b strings.Builder
	if err := WritePage(&b, "a title", []string{"b.html"}, NewFile("dir/one.json", []Result{a, deep, wrong}), NewFile("two.json", []ParallelResult{together})); err != nil {
		t.Fatal(err)
	}
	text := b.String()
	for want, times := range map[string]int{
		"<title>a title</title>": 1, `<a href="b.html">`: 1, "<tr>": 4, `<tr class="struck">`: 1, "<svg": 1, ">Generation over depth</text>": 1,
		">a spread of ": 1, ">wrong kernels: matvec_q4_1_sg": 1, "wrong results: 1.": 1, ">one.json<": 3, ">two.json<": 1,
		"<script>": 1, "http-equiv": 1, ">&lt;script&gt;alert(1)&lt;/script&gt;<": 5, // a cell of three rows, and two sources
	} {
		if got := strings.Count(text, want); got != times {
			t.Errorf("%q is there %d times, want %d", want, got, times)
		}
	}
	if strings.Contains(text, "ZgotmplZ") || strings.Contains(text, "http://") && !strings.Contains(text, `xmlns="http://www.w3.org/2000/svg"`) {
		t.Error("the page has what was filtered, or addresses")
	}
}

// Pictures are well-formed, and have axes with units.
func TestPlots(t *testing.T) {
	var rows []Result
	for _, depth := range []int{0, 512, 4096} {
		rows = append(rows, row(Test{Gen: 32, Depth: depth}, 100-float64(depth)/100), row(Test{Prompt: 128, Depth: depth}, 1000))
	}
	other := row(Test{Gen: 32}, 80)
	other.ModelType = "llama 135M Q8_0 <&>"
	pictures := plots(NewFile("x.json", append(rows, other)).measurements())
	if len(pictures) != 3 {
		t.Fatalf("%d pictures, want 3", len(pictures))
	}
	for i, want := range []string{"tokens in the KV cache", "tokens in the KV cache", "Generation of 32 tokens"} {
		if p := pictures[i]; !strings.HasPrefix(p, "<svg") || !strings.Contains(p, want) || !strings.Contains(p, "tokens a second (median)") {
			t.Errorf("picture %d: %.200s", i, p)
		}
		for d := xml.NewDecoder(strings.NewReader(pictures[i])); ; {
			if _, err := d.Token(); err == io.EOF {
				break
			} else if err != nil {
				t.Fatalf("picture %d: %v", i, err)
			}
		}
	}
	// Lines of programs are apart, and so are requests, whose speed is another one.
	peer, own := Setup{Program: "other", GPUInfo: "A", ModelType: "llama"}, Setup{Program: ours, GPUInfo: "A", ModelType: "llama"}
	f := &File{Path: "x.json"}
	for n := range 3 {
		for _, s := range []Setup{own, peer} {
			at := time.Duration(n+1) * time.Second
			test := ParallelTest{Prompt: 8, Gen: 4, Sequences: n + 1}
			r := ParallelResult{Setup: s, ParallelTest: test, Samples: []Columns{test.columns(at, at)}}
			r.summarise()
			f.Parallel = append(f.Parallel, r)
			f.Load = append(f.Load, LoadResult{Setup: s, Prompt: 8, Gen: 4, Concurrency: n + 1, SampleTS: []float64{7}})
		}
	}
	pictures = plots(f.measurements())
	if len(pictures) != 2 || !strings.Contains(pictures[0], "Sequences together") || !strings.Contains(pictures[1], "generated tokens a second") {
		t.Fatalf("%d pictures: %.200q", len(pictures), pictures)
	}
	for _, p := range pictures {
		if strings.Count(p, ">pp8 tg4, pumice<") != 1 || strings.Count(p, ">pp8 tg4, other<") != 1 {
			t.Error(p)
		}
	}
	var b strings.Builder
	if err := WritePage(&b, "x", nil, f); err != nil || !strings.Contains(b.String(), ">program<") || !strings.Contains(b.String(), "x.json: llama, other<") {
		t.Error(err, b.String())
	}
	if pictures := plots(nil); len(pictures) > 0 {
		t.Errorf("of nothing: %d", len(pictures))
	}
}

// Axes begin at 0 and end at a tick that is not below what they show, but not far above it.
func TestScale(t *testing.T) {
	for _, largest := range []float64{1e-6, 0.3, 1, 4.99, 5, 7, 10, 49, 51, 123, 4096, 999999, 1e12} {
		end, ticks := scale(largest)
		if end < largest || end > 1.5*largest || len(ticks) < 3 || len(ticks) > 7 || ticks[0] != 0 || ticks[len(ticks)-1] != end {
			t.Errorf("%g: to %g, ticks %v", largest, end, ticks)
		}
	}
}
