package checkpoint

import (
	"math"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"pumice/internal/ggufwrite"
)

func newFields(t *testing.T, text string) *Fields {
	t.Helper()
	f, err := NewFields("config.json", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func TestFieldsReadJSON(t *testing.T) {
	f := newFields(t, "\xef\xbb\xbf"+`{"hidden_size": 4096, "eps": 1e-6, "theta": 10000.0, "exp": 1e4, "tie": false, "type": "llama", "none": null,
		"eos": [2, 3], "bos": 1, "names": ["a", "b"], "stop": "x", "scale": {"factor": 8, "type": "llama3", "deep": {"x": [1.5]}}, "big": 1, "big": 9007199254740993}`)
	scale := f.Object("scale")
	got := []any{f.Int("hidden_size"), f.Float("eps"), f.Int("theta"), f.Int("exp"), f.Float("hidden_size"), f.Bool("tie"), f.BoolOr("tie", true), f.BoolOr("none", true),
		f.String("type"), f.StringOr("none", "d"), f.IntOr("none", 5), f.IntOr("absent", 6), f.FloatOr("absent", 0.5), f.Ints("eos"), f.Ints("bos"), f.Ints("none"),
		f.Strings("names"), f.Strings("stop"), f.Floats("eos"), scale.Float("factor"), scale.Object("deep").Floats("x"), f.Object("none") == nil, f.Object("absent") == nil,
		f.Has("none"), f.Has("scale"), f.Has("absent"), f.Int("big"), f.File(), f.Describe("scale"), f.Describe("eps"), f.Describe("absent")}
	want := []any{4096, 1e-6, 10000, 10000, 4096.0, false, false, true,
		"llama", "d", 5, 6, 0.5, []int{2, 3}, []int{1}, []int(nil),
		[]string{"a", "b"}, []string{"x"}, []float32{2, 3}, 8.0, []float32{1.5}, true, true,
		false, true, false, 9007199254740993, "config.json", `{"factor":8,"type":"llama3","deep":{"x":[1.5]}}`, "1e-6", ""}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
	if f.Err() != nil {
		t.Error(f.Err())
	}
	if keys := f.Keys(); len(keys) != 13 || keys[0] != "hidden_size" || keys[12] != "big" {
		t.Error(keys)
	}
}

func TestListsOfObjects(t *testing.T) {
	list, err := parseList("modules.json", []byte(` [{"idx": 0, "path": ""}, {"idx": "one"}] `))
	if err != nil || len(list) != 2 {
		t.Fatalf("%d elements, %v", len(list), err)
	}
	if list[0].Int("idx") != 0 || list[0].String("path") != "" || list[0].Err() != nil {
		t.Error(list[0].Err())
	}
	list[1].Int("idx")
	const want = "modules.json: at byte 34: [1].idx: want an integer, got a string"
	if err := list[0].Err(); err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("got %v, want %q", err, want)
	}
	for text, want := range map[string]string{
		"{}": "want a JSON array", "[1]": "want a JSON object", "[{}": "cut off", "[{}] x": "text follows",
		"[{},]": "invalid character", "": "cut off",
	} {
		if _, err := parseList("modules.json", []byte(text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, want %q", text, err, want)
		}
	}
}

func TestFieldsRefuseWrongValues(t *testing.T) {
	const text = `{"s": "x", "n": 1, "f": 1.5, "huge": 1e999, "wide": 1e300, "far": 99999999999999999999, "l": [1, "x"], "deep": [[1]], "null": [null], "o": {"k": "v"}}`
	tests := []struct {
		name string
		read func(f *Fields)
		want string
	}{
		{"string as int", func(f *Fields) { f.Int("s") }, "s: want an integer, got a string"},
		{"string as float", func(f *Fields) { f.FloatOr("s", 1) }, "s: want a number, got a string"},
		{"string as bool", func(f *Fields) { f.Bool("s") }, "s: want true or false"},
		{"number as bool", func(f *Fields) { f.BoolOr("n", true) }, "n: want true or false"},
		{"number as string", func(f *Fields) { f.String("n") }, "n: want a string"},
		{"fraction as int", func(f *Fields) { f.Int("f") }, "f: want an integer, got 1.5"},
		{"infinite", func(f *Fields) { f.Float("huge") }, "huge: the number 1e999 is out of range"},
		{"infinite as int", func(f *Fields) { f.IntOr("huge", 1) }, "out of range"},
		{"int beyond 64 bits", func(f *Fields) { f.Int("far") }, "far: want an integer"},
		{"float beyond 32 bits", func(f *Fields) { f.Floats("wide") }, "out of range"},
		{"missing int", func(f *Fields) { f.Int("none") }, "none: the key is missing"},
		{"missing string", func(f *Fields) { f.String("none") }, "none: the key is missing"},
		{"mixed list", func(f *Fields) { f.Ints("l") }, "l: element 1: want an integer, got a string"},
		{"nested list", func(f *Fields) { f.Ints("deep") }, "deep: element 0: want an integer, got a list"},
		{"null in list", func(f *Fields) { f.Strings("null") }, "null: element 0: want a string, got null"},
		{"list as int", func(f *Fields) { f.Int("l") }, "l: want an integer, got a list"},
		{"object as int", func(f *Fields) { f.Int("o") }, "o: want an integer, got an object"},
		{"list as object", func(f *Fields) { f.Object("l") }, "l: want an object, got a list"},
		{"nested", func(f *Fields) { f.Object("o").Int("k") }, "o.k: want an integer"},
		{"own check", func(f *Fields) { f.Fail("n", "want at least %d", 2) }, "n: want at least 2"},
		{"first error wins", func(f *Fields) { f.Int("s"); f.Int("none") }, "s: want an integer"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			f := newFields(t, text)
			tt.read(f)
			if err := f.Err(); !isTyped(err) || !strings.Contains(err.Error(), tt.want) || !strings.Contains(err.Error(), "config.json") {
				t.Errorf("got %v, want %q", err, tt.want)
			}
			if f.IntOr("n", 1) != 0 || f.Strings("s") != nil {
				t.Error("a read after the error returned a value")
			}
		})
	}
}

func TestMetadataIsReadSideBySide(t *testing.T) {
	path := filepath.Join(t.TempDir(), "x.gguf")
	if err := ggufwrite.Write(path, []ggufwrite.KV{{Key: "s", Value: "a"}, {Key: "n", Value: int32(3)}}, nil); err != nil {
		t.Fatal(err)
	}
	c := open(t, path)
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			f := c.Metadata()
			if i%2 == 0 {
				if f.Int("s"); f.Err() == nil {
					t.Error("a string was read as a number")
				}
			} else if n := f.Int("n"); n != 3 || f.Err() != nil {
				t.Errorf("n = %d, %v", n, f.Err())
			}
		})
	}
	wg.Wait()
}

func TestConfigurationsAreReadSideBySide(t *testing.T) {
	c := open(t, "../testdata/fixtures/xverse")
	for name, fields := range map[string]func() *Fields{"config.json": c.Config, "generation_config.json": c.GenerationConfig} {
		var wg sync.WaitGroup
		for i := range 8 {
			wg.Go(func() {
				f := fields()
				if i%2 == 0 {
					f.Fail("eos_token_id", "wrong")
				} else if f.Int("eos_token_id"); f.Err() != nil {
					t.Errorf("%s: %v", name, f.Err())
				}
			})
		}
		wg.Wait()
	}
}

func TestFieldsRefuseWrongGGUFValues(t *testing.T) {
	path := filepath.Join(t.TempDir(), "x.gguf")
	err := ggufwrite.Write(path, []ggufwrite.KV{{Key: "nan", Value: float32(math.NaN())}, {Key: "inf", Value: math.Inf(1)}, {Key: "l", Value: []float32{1, float32(math.Inf(-1))}},
		{Key: "s", Value: []string{"a"}}, {Key: "half", Value: float32(0.5)}, {Key: "n", Value: []int32{300}}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	for name, read := range map[string]func(f *Fields){
		"nan": func(f *Fields) { f.Float("nan") }, "inf": func(f *Fields) { f.FloatOr("inf", 1) }, "l: element 1": func(f *Fields) { f.Floats("l") },
		"s: element 0": func(f *Fields) { f.Ints("s") }, "half": func(f *Fields) { f.Int("half") }, "s": func(f *Fields) { f.String("s") },
		"n: element 0": func(f *Fields) { f.Bytes("n") }, "s: GGUF": func(f *Fields) { f.Object("s") },
	} {
		f := open(t, path).Metadata()
		read(f)
		if err := f.Err(); !isTyped(err) || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: got %v", name, err)
		}
	}
}
