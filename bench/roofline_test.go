package bench

import (
	"encoding/xml"
	"io"
	"math"
	"strings"
	"testing"
	"time"

	"pumice"
)

// TestKernelsAreUnderTheirRoof: a kernel with few operations for each byte is bounded by memory, one with many by its arithmetic.
func TestKernelsAreUnderTheirRoof(t *testing.T) {
	c := &pumice.Ceilings{ReadBandwidth: 1e11, F32: 1e12, Matrix: 8e12}
	second := pumice.Timing{Calls: 1, Total: time.Second, Bytes: 1e10}
	for _, want := range []struct {
		name             string
		operations       float64
		arithmetic       string
		limit            string
		intensity, share float64
	}{
		{"a norm", 0, "", "read", 0, 0.1},
		{"a product of a token", 2e10, "f32", "read", 2, 0.1},
		{"at the ridge", 1e11, "f32", "read", 10, 0.1},
		{"a product of many", 5e11, "f32", "f32", 50, 0.5},
		{"the same by matrices", 5e11, "matrix", "read", 50, 0.1},
		{"an arithmetic that was not measured", 5e11, "int8", "read", 50, 0.1},
	} {
		at := second
		at.Operations, at.Arithmetic = int64(want.operations), want.arithmetic
		k := kernelTime(at, c)
		if k.Limit != want.limit || k.Intensity != want.intensity || math.Abs(k.LimitShare-want.share) > 1e-9 {
			t.Errorf("%s: %+v", want.name, k)
		}
	}
	if k := kernelTime(second, &pumice.Ceilings{}); k.Limit != "" || k.LimitShare != 0 {
		t.Errorf("without a bandwidth: %+v", k)
	}
}

// TestPromptsHaveAPeak: that of the arithmetic of their products, or of several the one at which each runs at its own.
func TestPromptsHaveAPeak(t *testing.T) {
	peaks := map[pumice.Arithmetic]float64{}
	for i, a := range pumice.Arithmetics { // f32, f16, int8, matrix
		peaks[a] = float64(i+1) * 1e12
	}
	prompt := func(c pumice.Counters) Result {
		r := row(Test{Prompt: 100}, 50)
		r.Counters = c
		r.FLOPs = r.AvgTS * float64(c.Operations) / 100
		r.bound(peaks)
		return r
	}
	r := prompt(pumice.Counters{Operations: 1e12, MatrixOperations: 1e12})
	if r.PeakKind != "matrix" || r.PeakFLOPs != 4e12 || math.Abs(r.PeakShare-0.5e12/4e12) > 1e-9 || r.limitCell() != "12% matrix" {
		t.Errorf("%s %g %g %s", r.PeakKind, r.PeakFLOPs, r.PeakShare, r.limitCell())
	}
	r = prompt(pumice.Counters{Operations: 2e12, F16Operations: 1e12}) // a second of float32, half a second of float16
	if r.PeakKind != "f32+f16" || math.Abs(r.PeakFLOPs/(2e12/1.5)-1) > 1e-9 {
		t.Errorf("%s %g", r.PeakKind, r.PeakFLOPs)
	}
	delete(peaks, pumice.Arithmetics[2])
	if r = prompt(pumice.Counters{Operations: 2e12, Int8Operations: 1e12}); r.PeakFLOPs != 0 || r.limitCell() != "-" {
		t.Errorf("a peak that was not measured: %g", r.PeakFLOPs)
	}
	gen := row(Test{Gen: 8}, 50)
	gen.Counters.Operations, gen.ReadShare = 1e9, 0.625
	if gen.bound(peaks); gen.PeakFLOPs != 0 || gen.limitCell() != "62% read" {
		t.Errorf("generation: %g %s", gen.PeakFLOPs, gen.limitCell())
	}
}

// roofed is a result with kernels and ceilings.
func roofed(test Test, kernels ...KernelTime) Result {
	r := row(test, 100)
	r.Ceilings = &pumice.Ceilings{ReadBandwidth: 1e11, CopyBandwidth: 9e10, F32: 1e12, F16: 2e12, Matrix: 8e12, SubmitUS: 20, DispatchUS: 3, BarrierUS: 1}
	for _, k := range kernels {
		k.place(r.Ceilings)
		r.Kernels = append(r.Kernels, k)
	}
	return r
}

// TestRooflineTableAndPlot: ceilings and kernels are there, the picture is well-formed, and its points are under the roof.
func TestRooflineTableAndPlot(t *testing.T) {
	slow := KernelTime{Kernel: "matvec_q4_0_sg", Size: "4096x4096", Calls: 2, NS: 1e9, Bytes: 5e10, Operations: 1e11, BytesPerSec: 5e10, ReadShare: 0.5, FLOPs: 1e11, Arithmetic: "f32"}
	fast := KernelTime{Kernel: "matmul_q4_0_cm", Size: "<4096>", Calls: 1, NS: 2e9, Bytes: 1e9, Operations: 4e12, BytesPerSec: 5e8, ReadShare: 0.005, FLOPs: 2e12, Arithmetic: "matrix"}
	norm := KernelTime{Kernel: "rms_norm", Size: "1x4096", Calls: 1, NS: 1e6, Bytes: 1e6, BytesPerSec: 1e9, ReadShare: 0.01}
	results := []Result{roofed(Test{Gen: 8}, norm, slow), roofed(Test{Prompt: 64}, fast), row(Test{Prompt: 8}, 1)}
	table := RooflineTable(results)
	for _, want := range []string{
		"| read bandwidth | 100.00 GB/s | 0 |", "| f16 | 2.00 TFLOP/s | 20 |", "| int8 | not measured |  |", "| barrier | 1.00 us |  |",
		"| matvec_q4_0_sg | 4096x4096 | 2 | 1000.000 | 2 | 100.00 | 50.00 | read | 50 % |", "| <4096> | 1 | 2000.000 | 4e+03 | 2000.00 | 0.50 | matrix | 25 % |",
		"| rms_norm | 1x4096 | 1 | 1.000 |  |  | 1.00 | read | 1 % |",
	} {
		if !strings.Contains(table, want) {
			t.Errorf("there is no %q in\n%s", want, table)
		}
	}
	if strings.Index(table, "rms_norm") < strings.Index(table, "matvec_q4_0_sg") {
		t.Error("the longest kernel does not come first")
	}
	picture := RooflinePlot(results)
	for d := xml.NewDecoder(strings.NewReader(picture)); ; {
		if _, err := d.Token(); err == io.EOF {
			break
		} else if err != nil {
			t.Fatal(err)
		}
	}
	for want, times := range map[string]int{
		"operations for each byte (FLOP/byte)": 1, "operations a second (GFLOP/s)": 1, "memory, 100.00 GB/s": 1, "matrix, 8.00 TFLOP/s": 1,
		marks[0]: 2, marks[1]: 2, // of each test in the list and at its kernel; the norm has no operations
		"1  matvec_q4_0_sg 4096x4096: 50 % of read": 1, "2  matmul_q4_0_cm &lt;4096&gt;: 25 % of matrix": 1, "rms_norm": 0,
	} {
		if got := strings.Count(picture, want); got != times {
			t.Errorf("%q is there %d times, want %d", want, got, times)
		}
	}
	var page strings.Builder
	if err := WritePage(&page, "", nil, NewFile("x.json", results)); err != nil || !strings.Contains(page.String(), ">Roofline</text>") {
		t.Errorf("the page has no roofline: %v", err)
	}
	// The same kernel in another test has the same number, and a number that would cover it is left out.
	slower := slow
	slower.FLOPs, slower.BytesPerSec = 0.99e11, 4.95e10
	twice := RooflinePlot([]Result{roofed(Test{Gen: 8}, slow), roofed(Test{Gen: 8, Depth: 9}, slower), roofed(Test{Gen: 8, Depth: 10}, slower, slow), roofed(Test{Gen: 8, Depth: 11}, slower, slow)})
	if got := strings.Count(twice, ">1  matvec_q4_0_sg 4096x4096: 50 % of read<"); got != 1 || strings.Contains(twice, ">2  ") {
		t.Errorf("a kernel in several tests has %d lines in %s", got, twice)
	}
	if got := strings.Count(twice, ">1</text>"); got < 1 || got > 5 {
		t.Errorf("its number is there %d times beside six marks, and one is an axis's", got)
	}
	if RooflinePlot(results[2:]) != "" || RooflineTable(results[2:]) != "" {
		t.Error("a roofline of nothing")
	}
}
