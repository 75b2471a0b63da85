package checkpoint

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"pumice/internal/dtype"
	"pumice/internal/ggufwrite"
)

// pages is a number of float32 values that fill a file of several pages.
const pages = 1 << 14

// shrinking returns files of each format with a tensor "w" of pages values.
func shrinking(t *testing.T) map[string]string {
	t.Helper()
	dir := t.TempDir()
	files := map[string]string{"GGUF": "x.gguf", "safetensors": "x.safetensors", "torch": "x.bin", "transposed torch": "y.bin"}
	for format, name := range files {
		files[format] = filepath.Join(dir, name)
	}
	writeGGUF := func(path string) {
		meta := []ggufwrite.KV{{Key: "words", Value: strings.Fields(strings.Repeat("word ", pages))}, {Key: "text", Value: strings.Repeat("x", pages)}, {Key: "n", Value: uint32(3)}}
		err := ggufwrite.Write(path, meta, []ggufwrite.Tensor{{Name: "w", DType: dtype.F32, Shape: []int{2, pages / 2}, Data: counting(pages)}})
		if err != nil {
			t.Fatal(err)
		}
	}
	writeGGUF(files["GGUF"])
	for path, data := range map[string][]byte{
		files["safetensors"]:              append(safetensorsBytes(`{"w":{"dtype":"F32","shape":[2,8192],"data_offsets":[0,65536]}}`, 0), counting(pages)...),
		files["torch"]:                    torchBytes(stateDict(pickled{"w", "FloatStorage", "0", pages, 0, []int{2, pages / 2}, []int{pages / 2, 1}}), counting(pages)),
		files["transposed torch"]:         torchBytes(stateDict(pickled{"w", "FloatStorage", "0", pages, 0, []int{2, pages / 2}, []int{1, 2}}), counting(pages)),
		filepath.Join(dir, "config.json"): []byte("{}"),
	} {
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return files
}

// checkShrunk checks that err says that the file shrank.
func checkShrunk(t *testing.T, path string, err error) {
	t.Helper()
	var f *FormatError
	if !errors.As(err, &f) || f.File != path || f.Offset < 0 || !strings.Contains(f.Msg, "shrank while it was read") {
		t.Errorf("got %v, want the error that %s shrank", err, path)
	}
}

func TestShrinkingFilesAreErrors(t *testing.T) {
	for format, path := range shrinking(t) {
		t.Run(format, func(t *testing.T) {
			c := open(t, path)
			x, _ := c.Tensor("w")
			sum := float32(0)
			read := func() error {
				var scratch []byte
				for i := range x.Rows() {
					for _, v := range row(x, i, scratch) {
						sum += v
					}
				}
				return nil
			}
			if err := Guard(read); err != nil || sum == 0 {
				t.Fatalf("before: sum %g, %v", sum, err)
			}
			if err := os.Truncate(path, 4096); err != nil {
				t.Fatal(err)
			}
			x.Prefetch(0, x.Rows()) // advice about missing pages must do no harm
			checkShrunk(t, path, Guard(read))
			if c.Metadata() == nil {
				return
			}
			for key, read := range map[string]func(*Fields){
				"words": func(f *Fields) { f.Strings("words") }, "text": func(f *Fields) { _ = f.String("text") }, "n": func(f *Fields) { f.Int("n") },
			} {
				f := c.Metadata()
				read(f)
				checkShrunk(t, path, f.Err())
				if text := c.Metadata().Describe(key); key != "words" && !strings.Contains(text, "shrank") {
					t.Errorf("%s is described as %q", key, text)
				}
			}
			checkShrunk(t, path, Guard(func() error {
				for range c.RawMetadata() {
				}
				return nil
			}))
		})
	}
}

func TestFilesThatShrinkWhileTheyAreParsedAreErrors(t *testing.T) {
	for format, path := range shrinking(t) {
		t.Run(format, func(t *testing.T) {
			m, err := mapFile(path)
			if err != nil {
				t.Fatal(err)
			}
			defer m.close()
			if err := os.Truncate(path, 0); err != nil {
				t.Fatal(err)
			}
			checkShrunk(t, path, Guard(func() error {
				switch filepath.Ext(path) {
				case ".gguf":
					_, err = parseGGUF(t.Context(), path, m.data)
				case ".bin":
					_, err = parseTorch(t.Context(), path, m.data)
				default:
					_, err = parseSafetensors(t.Context(), path, m.data)
				}
				return err
			}))
		})
	}
}

// A file that is overwritten in place gives its new numbers; one that is replaced gives the old ones.
func TestFilesMayChange(t *testing.T) {
	path := shrinking(t)["safetensors"]
	x, _ := open(t, path).Tensor("w")
	if err := os.Rename(path, path+".old"); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if got := row(x, 0, nil)[5]; got != 5 {
		t.Errorf("a replaced file gives %g", got)
	}
	f, err := os.OpenFile(path+".old", os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteAt(counting(2), x.Offset+5*4); err != nil {
		t.Fatal(err)
	}
	if got := row(x, 0, nil)[6]; got != 1 {
		t.Errorf("an overwritten file gives %g", got)
	}
}

func TestGuardLeavesOtherPanicsAlone(t *testing.T) {
	var none *Tensor
	var empty []byte
	for name, bug := range map[string]func(){
		"a value": func() { panic("bug") }, "nil": func() { _ = none.Name }, "an index": func() { _ = empty[0] },
	} {
		t.Run(name, func(t *testing.T) {
			defer func() {
				if recover() == nil {
					t.Error("no panic")
				}
			}()
			t.Errorf("Guard returned %v", Guard(func() error { bug(); return nil }))
		})
	}
	if err := Guard(func() error { return os.ErrNotExist }); err != os.ErrNotExist {
		t.Errorf("Guard returned %v instead of its function's error", err)
	}
}
