package synth

import (
	"bytes"
	"context"
	"math"
	"os"
	"path/filepath"
	"testing"

	"pumice/checkpoint"
	"pumice/internal/dtype"
)

// TestPresetsHaveThePublishedSizes compares with the totals that the models' authors publish or
// that their files have.
func TestPresetsHaveThePublishedSizes(t *testing.T) {
	want := map[string]map[string]int64{
		"xverse":   {"7b": 7_299_846_144},
		"llama":    {"7b": 6_738_415_616, "2-7b": 6_738_415_616, "3-8b": 8_030_261_248, "135m": 134_515_008},
		"baichuan": {"7b": 7_000_559_616, "2-7b": 7_505_973_248},
		"bert":     {"minilm-l6": 22_713_216, "bge-small-en": 33_360_000, "bge-base-en": 109_482_240},
		"chatglm":  {"6b": 6_243_584_000},
		"falcon":   {"7b": 6_921_720_704},
		"internlm": {"7b": 7_321_948_160},
		"mpt":      {"7b": 6_649_286_656},
		"mistral":  {"7b": 7_241_732_096},
		"qwen2":    {"7b": 7_615_616_512},
		"qwen3":    {"8b": 8_190_735_360},
		"gemma2":   {"2b": 2_614_341_888},
		"gemma3":   {"270m": 268_098_176, "1b": 999_885_952},
		"phi3":     {"mini": 3_821_079_552},
		"smollm3":  {"3b": 3_075_098_624},
	}
	for _, family := range Families() {
		for _, size := range Sizes(family) {
			s, err := Lookup(family, size)
			if err != nil {
				t.Fatal(err)
			}
			got, err := s.Parameters()
			if err != nil || got != want[family][size] {
				t.Errorf("%s %s has %d parameters, want %d (%v)", family, size, got, want[family][size], err)
			}
			delete(want[family], size)
		}
		if len(want[family]) > 0 {
			t.Errorf("%s lacks the sizes %v", family, want[family])
		}
	}
}

func tinyShape(t *testing.T, family string) Shape {
	t.Helper()
	s, err := Lookup(family, Tiny)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestShardsHoldEveryTensorOnce(t *testing.T) {
	s := tinyShape(t, "xverse")
	whole, shards := t.TempDir(), t.TempDir()
	o := Options{DType: dtype.BF16, Seed: 7}
	if err := Write(context.Background(), whole, s, o); err != nil {
		t.Fatal(err)
	}
	o.ShardBytes = 1 << 20
	var last, total int64
	o.Progress = func(done, all int64) { last, total = done, all }
	if err := Write(context.Background(), shards, s, o); err != nil {
		t.Fatal(err)
	}
	if last <= 0 || last > total {
		t.Errorf("progress ended with %d of %d", last, total)
	}
	files, err := filepath.Glob(filepath.Join(shards, "model-*-of-*.safetensors"))
	if err != nil || len(files) < 3 {
		t.Fatalf("files %v, want several shards (%v)", files, err)
	}
	for _, f := range files {
		if info, err := os.Stat(f); err != nil || info.Size() > o.ShardBytes+16<<10 {
			t.Errorf("%s has %d bytes (%v)", f, info.Size(), err)
		}
	}
	a, b := open(t, whole), open(t, shards)
	if len(a.Names()) != len(b.Names()) || a.NumBytes() != b.NumBytes() || b.NumBytes() != total {
		t.Fatalf("%d tensors of %d bytes, want %d of %d", len(b.Names()), b.NumBytes(), len(a.Names()), a.NumBytes())
	}
	for _, name := range a.Names() {
		x, _ := a.Tensor(name)
		y, ok := b.Tensor(name)
		if !ok || !bytes.Equal(x.Data, y.Data) {
			t.Errorf("%s differs between one file and shards", name)
		}
	}
}

// TestWeightsHaveUnitGain checks mean and deviation of the weights.
func TestWeightsHaveUnitGain(t *testing.T) {
	s := tinyShape(t, "gemma2")
	for _, x := range []struct {
		o    Options
		path string
		norm float64
	}{
		{Options{DType: dtype.F16}, t.TempDir(), 0},
		{Options{DType: dtype.Q8_0, Format: GGUF}, filepath.Join(t.TempDir(), "x.gguf"), 1},
	} {
		if err := Write(context.Background(), x.path, s, x.o); err != nil {
			t.Fatal(err)
		}
		c := open(t, x.path)
		for _, name := range c.Names() {
			w, _ := c.Tensor(name)
			values := make([]float32, w.NumElements())
			w.DType.Decode(values, w.Data)
			var sum, squares float64
			for _, v := range values {
				sum += float64(v)
				squares += float64(v) * float64(v)
			}
			n := float64(len(values))
			mean, deviation := sum/n, math.Sqrt(squares/n-sum/n*sum/n)
			wantMean, want := 0.0, 1/math.Sqrt(float64(w.Cols()))
			if len(w.Shape) == 1 {
				wantMean, want = x.norm, 0.1
			}
			if math.Abs(mean-wantMean) > want/4 || math.Abs(deviation-want) > want/4 {
				t.Errorf("%s %s: mean %.4f, deviation %.4f; want %.4f and %.4f", x.o.Format, name, mean, deviation, wantMean, want)
			}
		}
	}
}

func TestSeedsGiveTheSameBytesAgain(t *testing.T) {
	s := tinyShape(t, "llama")
	var got [3][]byte
	for i, seed := range []uint64{1, 1, 2} {
		path := filepath.Join(t.TempDir(), "x.gguf")
		if err := Write(context.Background(), path, s, Options{Format: GGUF, DType: dtype.Q4_0, Seed: seed}); err != nil {
			t.Fatal(err)
		}
		var err error
		if got[i], err = os.ReadFile(path); err != nil {
			t.Fatal(err)
		}
	}
	if !bytes.Equal(got[0], got[1]) || bytes.Equal(got[0], got[2]) {
		t.Error("a seed must give the same file again, another seed another one")
	}
}

// What Fill writes is what Write has in a file, and a name finds its shape.
func TestFillWritesTheFile(t *testing.T) {
	s, err := Parse("qwen3-tiny")
	if err != nil || s != tinyShape(t, "qwen3") {
		t.Fatalf("%+v, %v", s, err)
	}
	o := Options{DType: dtype.Q8_0, Format: GGUF, Seed: 3}
	path := filepath.Join(t.TempDir(), "model.gguf")
	if err := Write(t.Context(), path, s, o); err != nil {
		t.Fatal(err)
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var got bytes.Buffer
	if err := Fill(t.Context(), &got, s, o); err != nil || !bytes.Equal(got.Bytes(), want) {
		t.Errorf("%d bytes, want the %d of the file (%v)", got.Len(), len(want), err)
	}
	if s, err := Parse("llama-3-8b"); err != nil || s.Vocab != 128256 {
		t.Errorf("%+v, %v", s, err)
	}
	for _, name := range []string{"llama", "bloom-7b", "llama-9b", ""} {
		if _, err := Parse(name); err == nil {
			t.Errorf("%q was found", name)
		}
	}
}

func TestWriteRefuses(t *testing.T) {
	tiny := func(family string, to Shape) Shape { return tinyShape(t, family).Resized(to) }
	for name, x := range map[string]struct {
		s Shape
		o Options
	}{
		"a family that is unknown":               {Shape{Family: "bloom"}, Options{DType: dtype.F16}},
		"quantised safetensors":                  {tiny("llama", Shape{}), Options{DType: dtype.Q8_0}},
		"a GGUF that has no architecture":        {tiny("internlm", Shape{}), Options{DType: dtype.Q8_0, Format: GGUF}},
		"rows that are not whole blocks":         {tiny("llama", Shape{Intermediate: 500}), Options{DType: dtype.Q8_0, Format: GGUF}},
		"a type that cannot be encoded":          {tiny("llama", Shape{}), Options{DType: dtype.IQ2_XS, Format: GGUF}},
		"no type":                                {tiny("llama", Shape{}), Options{}},
		"heads that do not divide":               {tiny("llama", Shape{Heads: 3}), Options{DType: dtype.F16}},
		"grouped heads where there are none":     {tiny("xverse", Shape{KVHeads: 2}), Options{DType: dtype.F16}},
		"a hidden size that is not heads' sum":   {tiny("xverse", Shape{HeadDim: 32}), Options{DType: dtype.F16}},
		"heads of an odd width":                  {tiny("xverse", Shape{Hidden: 12}), Options{DType: dtype.F16}},
		"an intermediate size that is no factor": {tiny("mpt", Shape{Intermediate: 500}), Options{DType: dtype.F16}},
		"negative sizes":                         {tiny("llama", Shape{Vocab: -1}), Options{DType: dtype.F16}},
	} {
		dir := filepath.Join(t.TempDir(), "out")
		if err := Write(context.Background(), dir, x.s, x.o); err == nil {
			t.Errorf("%s: no error", name)
		}
		if _, err := os.Stat(dir); err == nil {
			t.Errorf("%s: something was written", name)
		}
	}
	dir := t.TempDir()
	for i := range 2 {
		if err := Write(context.Background(), dir, tiny("llama", Shape{}), Options{DType: dtype.F16}); (err == nil) != (i == 0) {
			t.Errorf("written %d times into one directory: %v", i+1, err)
		}
	}
	if _, err := Lookup("llama", "9b"); err == nil {
		t.Error("an unknown size was found")
	}
	if _, err := ParseFormat("onnx"); err == nil {
		t.Error("format onnx was accepted")
	}
}

func open(t *testing.T, path string) *checkpoint.Checkpoint {
	t.Helper()
	c, err := checkpoint.Open(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	})
	return c
}
