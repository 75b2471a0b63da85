package pipeline

import (
	"fmt"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"pumice/internal/dtype"
	"pumice/pipeline/kernels"
	"pumice/shaders"
	"pumice/vk"
)

// choices are the paths that rules choose on a device.
type choices struct {
	Matvec, Few, Matmul, Decode, Attend kernels.Path
	Lanes                               int // of a product of one token
}

func (g gpu) choices(t *testing.T) choices {
	t.Helper()
	list, err := shaders.Variants()
	if err != nil {
		t.Fatal(err)
	}
	m := &Manager{machine: kernels.NewMachine(g.physical()), variants: map[string]shaders.Variant{}}
	for _, v := range list {
		m.variants[v.Name] = v
	}
	linear := func(op *kernels.Op[kernels.Product], tokens int) kernels.Path {
		name, _ := pick(m, op, kernels.Product{Packed: kernels.Packed{DType: dtype.Q4_0, Rows: 4096, Cols: 4096}, Tokens: tokens}, kernels.RowMajor)
		return kernels.PathOf(name)
	}
	attention := func(op *kernels.Op[kernels.Attention], tokens int) kernels.Path {
		name, _ := pick(m, op, kernels.Attention{Type: dtype.F16, Heads: 32, KVHeads: 8, HeadDim: 128, Tokens: tokens, Single: tokens == 1, Positions: 4096, Places: 4096}, kernels.RowMajor)
		return kernels.PathOf(name)
	}
	c := choices{linear(&kernels.Matvec, 1), linear(&kernels.Matmul, 4), linear(&kernels.Matmul, 64), attention(&kernels.Decode, 1), attention(&kernels.Attend, 64), 0}
	if v, ok := m.variants[c.Matvec.Variant("matvec_q4_0")]; ok && (c.Matvec == kernels.SG || c.Matvec == kernels.DP2) {
		c.Lanes, _ = m.machine.Subgroup(v.Needs)
	}
	return c
}

// TestRulesOnRealDevices: what rules choose on devices as their drivers report themselves.
func TestRulesOnRealDevices(t *testing.T) {
	t.Parallel()
	const base, sg, few, fp16, dp2, cm = kernels.Base, kernels.SG, kernels.Few, kernels.FP16, kernels.DP2, kernels.CM
	for _, c := range []struct {
		gpu
		want choices
	}{
		{h100, choices{dp2, few, cm, sg, cm, 32}},
		{rtx4090, choices{dp2, few, cm, sg, cm, 32}},
		{gtx1660, choices{dp2, few, fp16, sg, base, 32}},
		{gtx1080, choices{dp2, few, base, sg, base, 32}},
		{rx7900xtx, choices{dp2, few, cm, sg, cm, 32}},
		{rx7900xtxAMD, choices{dp2, few, cm, sg, cm, 32}},
		{rx6800, choices{dp2, few, fp16, sg, base, 32}},
		{rx6800AMD, choices{dp2, few, fp16, sg, base, 32}},
		{w6800x, choices{base, base, fp16, base, base, 0}},
		{rx580, choices{sg, few, base, sg, base, 64}},
		{radeon780M, choices{dp2, few, cm, sg, cm, 32}},
		{a770, choices{dp2, few, fp16, sg, base, 8}},
		{b580, choices{dp2, few, cm, sg, cm, 16}},
		{arc140T, choices{dp2, few, cm, sg, cm, 8}},
		{uhd770, choices{dp2, few, fp16, sg, base, 8}},
		{uhd630, choices{base, base, fp16, base, base, 0}},
		{appleM2, choices{sg, few, fp16, sg, base, 32}},
		{honeykrisp, choices{sg, few, fp16, sg, base, 32}},
		{adreno740, choices{sg, few, fp16, sg, base, 64}},
		{adreno6xx, choices{sg, few, fp16, sg, base, 64}},
		{g715, choices{dp2, few, fp16, sg, base, 16}},
		{v3d, choices{dp2, few, fp16, sg, base, 16}},
	} {
		if diff := cmp.Diff(c.want, c.choices(t)); diff != "" {
			t.Errorf("%s (by %s): %s", c.name, c.source, diff)
		}
	}
}

// TestTilesOnRealDevices: how workgroups share the products of a 7B Llama with 16, 64, 128 and 512 tokens, where rules decide.
// Each is rows x tokens of a tile, and splits of the columns if there are several.
func TestTilesOnRealDevices(t *testing.T) {
	t.Parallel()
	products := []kernels.Packed{
		{DType: dtype.Q4_0, Rows: 12288, Cols: 4096}, {DType: dtype.Q4_0, Rows: 4096, Cols: 4096},
		{DType: dtype.Q4_0, Rows: 22016, Cols: 4096}, {DType: dtype.Q4_0, Rows: 4096, Cols: 11008},
	}
	for _, c := range []struct {
		gpu
		path kernels.Path
		want [4][4]string // of qkv, o, gate and up, down
	}{
		{h100, kernels.CM, [4][4]string{
			{"64x16 in 3", "64x16 in 8", "64x16 in 2", "64x16 in 8"},
			{"64x64 in 3", "64x64 in 8", "64x64 in 2", "64x64 in 8"},
			{"64x64", "64x64 in 4", "128x64", "64x64 in 4"},
			{"128x64", "128x64", "128x64", "128x64"},
		}},
		{rtx4090, kernels.CM, [4][4]string{
			{"64x16 in 3", "64x16 in 8", "64x16", "64x16 in 8"},
			{"64x64 in 3", "64x64 in 8", "64x64", "64x64 in 8"},
			{"64x64", "64x64 in 4", "128x64", "64x64 in 4"},
			{"128x64", "128x64", "128x64", "128x64"},
		}},
		{rx7900xtx, kernels.CM, [4][4]string{
			{"64x16 in 2", "64x16 in 6", "64x16", "64x16 in 6"},
			{"64x64 in 2", "64x64 in 6", "128x64", "64x64 in 6"},
			{"128x64", "64x64 in 3", "128x128", "64x64 in 3"},
			{"128x128", "128x64", "128x128", "128x64"},
		}},
		{radeon780M, kernels.CM, [4][4]string{
			{"64x16", "64x16", "64x16", "64x16"},
			{"128x64", "128x64", "128x64", "128x64"},
			{"128x128", "128x128", "128x128", "128x128"},
			{"128x128", "128x128", "128x128", "128x128"},
		}},
		{b580, kernels.CM, [4][4]string{
			{"32x16", "32x16", "32x16", "32x16"},
			{"64x64", "64x64", "64x64", "64x64"},
			{"64x64", "64x64", "64x64", "64x64"},
			{"64x64", "64x64", "64x64", "64x64"},
		}},
		{rx6800, kernels.FP16, [4][4]string{
			{"64x16", "64x16 in 4", "64x16", "64x16 in 4"},
			{"64x64", "64x64 in 4", "64x64", "64x64 in 4"},
			{"64x128", "64x64 in 2", "64x128", "64x64 in 2"},
			{"64x128", "64x128", "64x128", "64x128"},
		}},
		{appleM2, kernels.FP16, [4][4]string{
			{"64x16", "64x16", "64x16", "64x16"},
			{"64x64", "64x64", "64x64", "64x64"},
			{"64x64", "64x64", "64x64", "64x64"},
			{"64x64", "64x64", "64x64", "64x64"},
		}},
	} {
		m := kernels.NewMachine(c.physical())
		k := kernels.Matmul.Of(c.path)
		var got [4][4]string
		for i, tokens := range []int{16, 64, 128, 512} {
			for j, p := range products {
				shape := kernels.Product{Packed: p, Tokens: tokens}
				grid, tile := k.Grid(m, shape), k.Tilings(m, shape)[0]
				got[i][j] = fmt.Sprintf("%dx%d", tile.Subgroups[0]*tile.Matrices[0]*c.matrix[0], tile.Subgroups[1]*tile.Matrices[1]*c.matrix[1])
				if c.path == kernels.FP16 {
					got[i][j] = fmt.Sprintf("64x%d", tokens/grid[1])
				}
				if grid[2] > 1 {
					got[i][j] += fmt.Sprintf(" in %d", grid[2])
				}
			}
		}
		if diff := cmp.Diff(c.want, got); diff != "" {
			t.Errorf("%s: %s", c.name, diff)
		}
	}
}

// TestTilesFitRegisters: a lane of Intel's GPUs has a quarter to a half of the registers of others, for tiles that a measurement
// may choose too.
func TestTilesFitRegisters(t *testing.T) {
	t.Parallel()
	tile := func(subgroups, matrices int) kernels.Tiling {
		return kernels.Tiling{Subgroups: [2]int{subgroups, 2}, Matrices: [2]int{matrices, 2}}
	}
	large := kernels.Tiling{Subgroups: [2]int{2, 2}, Matrices: [2]int{4, 4}}
	for _, c := range []struct {
		gpu
		kind        DType
		rows        int
		want        kernels.Tiling
		invocations int // of a workgroup
		large       bool
	}{
		{b580, dtype.Q4_0, 22016, tile(4, 2), 128, false},
		{b580, dtype.F16, 22016, tile(4, 2), 128, false},
		{b580, dtype.F32, 22016, tile(4, 1), 128, false}, // the next columns are twice as many numbers
		{b580, dtype.Q4_0, 256, tile(4, 1), 128, false},  // half as many invocations would each have twice the next columns
		{arc140T, dtype.Q4_0, 22016, tile(4, 1), 128, false},
		{h100, dtype.F32, 22016, tile(4, 2), 256, true},
		{h100, dtype.Q4_0, 1024, tile(2, 2), 128, true},
	} {
		m := kernels.NewMachine(c.physical())
		p := kernels.Product{Packed: kernels.Packed{DType: c.kind, Rows: c.rows, Cols: 4096}, Tokens: 512}
		k := kernels.Matmul.Of(kernels.CM)
		offered := k.Tilings(m, p)
		for i := range offered {
			offered[i].Splits = 0
		}
		var invocations uint32
		for _, x := range k.Spec(m, p) {
			if x.Name == "WORKGROUP" {
				invocations = x.Value
			}
		}
		if offered[0] != c.want || int(invocations) != c.invocations || slices.Contains(offered, large) != c.large {
			t.Errorf("%s, %s, %d rows: %v by %d invocations, of %v; want %v by %d", c.name, c.kind, c.rows, offered[0], invocations, offered, c.want, c.invocations)
		}
	}
}

// TestMeasuredTilingsDecide: a product is shared as the fastest measurement with the next more tokens was, with as many workgroups;
// by the rule where that doesn't fit, or nothing was measured, or a file has what no kernel takes.
func TestMeasuredTilingsDecide(t *testing.T) {
	t.Parallel()
	large := kernels.Tiling{Subgroups: [2]int{2, 4}, Matrices: [2]int{4, 2}, Splits: 4} // 128 x 128
	timed := func(kind string, tokens int, ns int64, tiling kernels.Tiling) Measurement {
		return Measurement{Op: "matmul_" + kind, Path: kernels.CM, Tokens: tokens, Rows: 4096, Cols: 4096, Nanoseconds: ns, Tiling: tiling}
	}
	tile := func(subgroups, matrices, splits int) kernels.Tiling {
		return kernels.Tiling{Subgroups: [2]int{subgroups, 2}, Matrices: [2]int{matrices, 2}, Splits: splits}
	}
	x := &Tuning{Timings: []Measurement{
		timed("q4_0", 32, 5, kernels.Tiling{}), timed("q4_0", 32, 6, tile(2, 2, 2)),
		timed("q4_0", 128, 10, kernels.Tiling{}), timed("q4_0", 128, 9, tile(2, 2, 4)), timed("q4_0", 128, 8, large), timed("q4_0", 128, 0, tile(4, 2, 1)),
		timed("q8_0", 128, 10, kernels.Tiling{}), timed("q8_0", 128, 1, tile(7, 2, 1)),
		timed("f16", 128, 10, kernels.Tiling{}), timed("f16", 128, 1, tile(2, 2, 9)),
		{Op: "matmul_f32", Path: kernels.CM, Tokens: 128, Nanoseconds: 1, Tiling: large},
	}}
	m := &Manager{machine: kernels.NewMachine(h100.physical()), opts: Options{Tuning: x}}
	none := kernels.Tiling{}
	in := func(n int) kernels.Tiling { large.Splits = n; return large }
	for _, c := range []struct {
		name         string
		kind         DType
		rows, tokens int
		want         kernels.Tiling
	}{
		{"as measured", dtype.Q4_0, 4096, 128, in(4)},
		{"fewer tokens, in the same tile", dtype.Q4_0, 4096, 100, in(4)},
		{"half as many rows, and twice as many splits", dtype.Q4_0, 2048, 128, in(8)},
		{"more rows than workgroups had", dtype.Q4_0, 22016, 128, in(1)},
		{"too few tokens for the tile", dtype.Q4_0, 4096, 40, none},
		{"the rule was faster", dtype.Q4_0, 4096, 32, none},
		{"more tokens than were measured", dtype.Q4_0, 4096, 512, none},
		{"a tile that is none", dtype.Q8_0, 4096, 128, none},
		{"more splits than there may be", dtype.F16, 4096, 128, none},
		{"of a matrix without rows", dtype.F32, 4096, 128, none},
		{"a type that was not measured", dtype.Q6_K, 4096, 128, none},
	} {
		p := kernels.Product{Packed: kernels.Packed{DType: c.kind, Rows: c.rows, Cols: 4096}, Tokens: c.tokens}
		if got := m.tiling(p, kernels.Matmul.Of(kernels.CM)); got != c.want {
			t.Errorf("%s: %v, want %v", c.name, got, c.want)
		}
	}
}

// A kernel that no device has run is neither chosen by a rule nor measured before it was found right.
func TestUnprovenKernelsWaitForACheck(t *testing.T) {
	t.Parallel()
	list, err := shaders.Variants()
	if err != nil {
		t.Fatal(err)
	}
	pd := h100.physical()
	pd.APIVersion = vk.Version(1<<22 | 4<<12)
	f := &pd.Features
	f.StorageBuffer16Bit, f.Maintenance4, f.BufferDeviceAddress = true, true, true
	f.MatrixPerElement, f.MatrixTensors, f.MatrixBlockLoads = true, true, true
	f.FlexibleMatrix = []vk.FlexibleShape{{MatrixShape: vk.MatrixShape{M: 32, N: 16, K: 16, A: vk.Float16, B: vk.Float16, C: vk.Float32, Result: vk.Float32}, Invocations: 128}}
	m := &Manager{machine: kernels.NewMachine(pd), variants: map[string]shaders.Variant{}, opts: Options{Tuning: &Tuning{}}}
	for _, v := range list {
		m.variants[v.Name] = v
	}
	const op = "matmul_q4_0"
	if !m.Offers(op, kernels.CM2) || slices.Contains(m.Candidates(op), kernels.CM2) || slices.Contains(m.Chosen(), kernels.CM2) {
		t.Errorf("offers %t; candidates %v, chosen %v", m.Offers(op, kernels.CM2), m.Candidates(op), m.Chosen())
	}
	m.opts.Tuning.Pass(kernels.CM2.Variant(op))
	if !slices.Contains(m.Candidates(op), kernels.CM2) || slices.Contains(m.Candidates("matmul_f16"), kernels.CM2) {
		t.Errorf("after a check: %v and %v", m.Candidates(op), m.Candidates("matmul_f16"))
	}
	for i, path := range m.Candidates(op) {
		ns := int64(100 + i)
		if path == kernels.CM2 {
			ns = 1
		}
		m.opts.Tuning.Timings = append(m.opts.Tuning.Timings, Measurement{Op: op, Path: path, Tokens: 512, Nanoseconds: ns})
	}
	shape := kernels.Product{Packed: kernels.Packed{DType: dtype.Q4_0, Rows: 4096, Cols: 4096}, Tokens: 512}
	if name, _ := pick(m, &kernels.Matmul, shape, kernels.RowMajor); name != "matmul_q4_0_cm2" {
		t.Errorf("the fastest by measurement is cm2, chosen is %s", name)
	}
}
