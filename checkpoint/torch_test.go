package checkpoint

import (
	"os"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"pumice/internal/dtype"
)

// row returns the values of a row.
func row(x *Tensor, i int, scratch []byte) []float32 {
	v := make([]float32, x.Cols())
	x.DType.Decode(v, x.Row(i, scratch))
	return v
}

// The storage is 0, 1, 2...; the expected rows are torch's for as_strided of
// such a storage.
func TestTorchHonoursStridesAndOffsets(t *testing.T) {
	data := torchBytes(stateDict(
		pickled{"whole", "FloatStorage", "0", 24, 0, []int{4, 6}, []int{6, 1}},
		pickled{"transposed", "FloatStorage", "0", 24, 0, []int{6, 4}, []int{1, 6}},
		pickled{"column", "FloatStorage", "0", 24, 2, []int{4}, []int{6}},
		pickled{"block", "FloatStorage", "0", 24, 8, []int{2, 3}, []int{6, 1}},
		pickled{"deep", "FloatStorage", "0", 24, 1, []int{2, 2, 3}, []int{12, 6, 2}},
		pickled{"odd strides of ones", "FloatStorage", "0", 24, 6, []int{1, 6}, []int{99, 1}},
		pickled{"scalar", "FloatStorage", "0", 24, 23, []int{}, []int{}},
		pickled{"empty", "FloatStorage", "0", 24, 24, []int{0, 5}, []int{5, 1}},
	), counting(24))
	for _, bytes := range [][]byte{data, zipBytes(true,
		craftZip{name: "m/data.pkl", data: stateDict(pickled{"whole", "FloatStorage", "k", 24, 0, []int{4, 6}, []int{6, 1}})},
		craftZip{name: "m/data/k", data: counting(24)})} {
		tensors, err := parseTorch(t.Context(), "x.bin", bytes)
		if err != nil {
			t.Fatal(err)
		}
		checkRows(t, tensors)
	}
}

func checkRows(t *testing.T, tensors []*Tensor) {
	t.Helper()
	want := map[string][][]float32{
		"whole":               {{0, 1, 2, 3, 4, 5}, {6, 7, 8, 9, 10, 11}, {12, 13, 14, 15, 16, 17}, {18, 19, 20, 21, 22, 23}},
		"transposed":          {{0, 6, 12, 18}, {1, 7, 13, 19}, {2, 8, 14, 20}, {3, 9, 15, 21}, {4, 10, 16, 22}, {5, 11, 17, 23}},
		"column":              {{2, 8, 14, 20}},
		"block":               {{8, 9, 10}, {14, 15, 16}},
		"deep":                {{1, 3, 5}, {7, 9, 11}, {13, 15, 17}, {19, 21, 23}},
		"odd strides of ones": {{6, 7, 8, 9, 10, 11}},
		"scalar":              {{23}},
		"empty":               {},
	}
	contiguous := []string{"whole", "odd strides of ones", "scalar", "empty"}
	for _, x := range tensors {
		w := want[x.Name]
		if x.Rows() != len(w) || x.DType != dtype.F32 || (x.Strides == nil) != slices.Contains(contiguous, x.Name) {
			t.Errorf("%s: %d rows of %v, strides %v", x.Name, x.Rows(), x.DType, x.Strides)
			continue
		}
		var scratch []byte
		for i := range w {
			if got := row(x, i, scratch); !slices.Equal(got, w[i]) {
				t.Errorf("%s row %d: got %v, want %v", x.Name, i, got, w[i])
			}
			scratch = make([]byte, 3) // too short: Row must replace it
		}
	}
}

func TestTorchReadsEveryStorageType(t *testing.T) {
	for class, d := range torchStorages {
		data := torchBytes(stateDict(pickled{"x", class, "0", 4, 1, []int{3}, []int{1}}), make([]byte, 32))
		tensors, err := parseTorch(t.Context(), "x.bin", data)
		if err != nil {
			t.Errorf("%s: %v", class, err)
			continue
		}
		if x := tensors[0]; x.DType != d || len(x.Data) != 3*d.BlockBytes() || x.NumBytes() != int64(len(x.Data)) {
			t.Errorf("%s: %v, %d bytes", class, x.DType, len(x.Data))
		}
	}
}

// A module's state_dict() is an OrderedDict with an attribute, and parameters
// may be wrapped.
func TestTorchReadsOrderedDictOfParameters(t *testing.T) {
	p := []byte("\x80\x02ccollections\nOrderedDict\n)R(")
	p = append(pickleString(p, "w"), "ctorch._utils\n_rebuild_parameter\n("...)
	p = pickleTensor(p, pickled{"w", "HalfStorage", "0", 4, 0, []int{2, 2}, []int{2, 1}})
	p = append(p, "\x88ccollections\nOrderedDict\n)RtRu}"...)
	p = append(pickleString(p, "_metadata"), "ccollections\nOrderedDict\n)Rsb."...)
	tensors, err := parseTorch(t.Context(), "x.bin", torchBytes(p, make([]byte, 8)))
	if err != nil || len(tensors) != 1 || tensors[0].Name != "w" || tensors[0].DType != dtype.F16 {
		t.Errorf("got %d tensors, %v", len(tensors), err)
	}
}

// CPython's pickler wrote state_dict.pkl from the values in testdata/make_state_dict.py.
func TestTorchReadsPicklesOfCPython(t *testing.T) {
	program, err := os.ReadFile("testdata/state_dict.pkl")
	if err != nil {
		t.Fatal(err)
	}
	tensors, err := parseTorch(t.Context(), "x.bin", torchBytes(program, make([]byte, 24*4), make([]byte, 300*2), make([]byte, 70000*2)))
	if err != nil {
		t.Fatal(err)
	}
	type view struct {
		Name           string
		DType          dtype.DType
		Shape, Strides []int
		Bytes          int
	}
	want := []view{
		{"embed.weight", dtype.F32, []int{4, 6}, nil, 24 * 4},
		{"head.weight", dtype.F32, []int{6, 4}, []int{1, 6}, 24 * 4},
		{"größe", dtype.F16, []int{}, nil, 2},
		{"norm", dtype.F16, []int{3}, nil, 6},
		{"far", dtype.F16, []int{2, 2}, nil, 8},
	}
	var got []view
	for _, x := range tensors {
		got = append(got, view{x.Name, x.DType, x.Shape, x.Strides, len(x.Data)})
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
	if a, b := tensors[3].Offset, tensors[2].Offset; b-a != (299-256)*2 {
		t.Errorf("views of one storage begin at %d and %d", a, b)
	}
	for n := range len(program) - 1 { // every prefix is refused
		if _, err := parseTorch(t.Context(), "x.bin", torchBytes(program[:n], make([]byte, 24*4), make([]byte, 300*2), make([]byte, 70000*2))); !isTyped(err) {
			t.Fatalf("cut off after %d bytes: %v", n, err)
		}
	}
}
