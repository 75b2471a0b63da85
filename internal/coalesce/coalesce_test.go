package main

import (
	"math"
	"os"
	"slices"
	"strings"
	"testing"

	"pumice/internal/dtype"
	"pumice/internal/half"
	"pumice/internal/simt"
	"pumice/pipeline/kernels"
	"pumice/shaders"
)

// The kernels ask for no more than the committed table says, and than they may. Of the three GPUs this traces the first;
// `go run ./internal/coalesce docs/coalescing.md` traces all and writes the table.
func TestKernelsAskForWhatTheTableSays(t *testing.T) {
	t.Parallel()
	report, err := os.ReadFile("../../docs/coalescing.md")
	if err != nil {
		t.Fatal(err)
	}
	list, err := traces(gpus()[0])
	if err != nil {
		t.Fatal(err)
	}
	for _, k := range list {
		if row := k.row(); !strings.Contains(string(report), "\n"+row) {
			t.Errorf("docs/coalescing.md doesn't have %s (go run ./internal/coalesce docs/coalescing.md)", row)
		}
	}
	if err := check(list); err != nil {
		t.Error(err)
	}
}

// Every kernel that runs on GPUs is traced, and no exception is for nothing.
func TestEveryKernelOfGPUsIsTraced(t *testing.T) {
	t.Parallel()
	list := dispatches(gpus()[0])
	has := func(name string) bool {
		return slices.ContainsFunc(list, func(d dispatch) bool { return d.variant == name })
	}
	variants, err := shaders.Variants()
	if err != nil {
		t.Fatal(err)
	}
	// A workgroup of one invocation has no lanes to compare.
	single := []string{"adjust", "advance", "draw"}
	for _, v := range variants {
		if slices.Contains(v.Needs, "lane8") || slices.Contains(v.Needs, "address") || slices.Contains(single, v.Name) {
			continue
		}
		if !has(v.Name) {
			t.Errorf("%s is not traced", v.Name)
		}
	}
	for _, e := range exceptions {
		if !slices.ContainsFunc(list, func(d dispatch) bool { return e.kernels.MatchString(d.variant) }) {
			t.Errorf("no kernel is one of %s", e.names)
		}
	}
}

func lanes(n int, at func(l int) int) []int64 {
	var list []int64
	for l := range n {
		list = append(list, int64(at(l)))
	}
	return list
}

func TestFootprint(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name                         string
		at                           []int64
		bytes                        int
		different, sectors, lineages int
	}{
		{"adjacent words", lanes(32, func(l int) int { return 4 * l }), 4, 128, 4, 1},
		{"adjacent words, between sectors", lanes(32, func(l int) int { return 16 + 4*l }), 4, 128, 5, 2},
		{"the same word", lanes(32, func(int) int { return 64 }), 4, 4, 1, 1},
		{"every other quad", lanes(32, func(l int) int { return 32 * l }), 16, 512, 32, 8},
		{"words far apart", lanes(32, func(l int) int { return 4096 * l }), 4, 128, 32, 32},
		{"quads in descending order", lanes(32, func(l int) int { return 16 * (31 - l) }), 16, 512, 16, 4},
		{"that overlap", lanes(2, func(l int) int { return 8 * l }), 16, 24, 1, 1},
	} {
		different, sectors, lines := footprint(c.at, c.bytes)
		if different != c.different || sectors != c.sectors || lines != c.lineages {
			t.Errorf("%s: %d bytes, %d sectors, %d lines; want %d, %d, %d", c.name, different, sectors, lines, c.different, c.sectors, c.lineages)
		}
	}
}

func TestConflicts(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name                 string
		at                   []int64
		bytes                int
		phases, cycles, ways int
	}{
		{"adjacent words", lanes(32, func(l int) int { return 4 * l }), 4, 1, 1, 1},
		{"the same word", lanes(32, func(int) int { return 0 }), 4, 1, 1, 1},
		{"every other word", lanes(32, func(l int) int { return 8 * l }), 4, 1, 2, 2},
		{"a column of rows of 32 words", lanes(32, func(l int) int { return 128 * l }), 4, 1, 32, 32},
		{"a column of rows of 33 words", lanes(32, func(l int) int { return 132 * l }), 4, 1, 1, 1},
		{"adjacent quads", lanes(32, func(l int) int { return 16 * l }), 16, 4, 4, 1},
		{"every fourth quad", lanes(32, func(l int) int { return 64 * l }), 16, 4, 16, 4},
		{"adjacent pairs of 64 lanes", lanes(64, func(l int) int { return 8 * l }), 8, 4, 4, 1},
	} {
		phases, cycles, ways := conflicts(c.at, c.bytes)
		if phases != c.phases || cycles != c.cycles || ways != c.ways {
			t.Errorf("%s: %d phases, %d cycles, %d ways; want %d, %d, %d", c.name, phases, cycles, ways, c.phases, c.cycles, c.ways)
		}
	}
}

// Accesses of a block that are side by side are one request, unless something is stored between them or they would not be aligned.
func TestCompilersJoinAdjacentAccesses(t *testing.T) {
	t.Parallel()
	access := func(at, bytes, sequence int, store bool) simt.Access {
		return simt.Access{Bytes: bytes, At: lanes(32, func(l int) int { return 64*l + at }), Sequence: sequence, Store: store}
	}
	for _, c := range []struct {
		name string
		list []simt.Access
		want []int // bytes of requests
	}{
		{"four words", []simt.Access{access(0, 4, 1, false), access(4, 4, 1, false), access(8, 4, 1, false), access(12, 4, 1, false)}, []int{16}},
		{"in another order", []simt.Access{access(12, 4, 1, false), access(4, 4, 1, false), access(8, 4, 1, false), access(0, 4, 1, false)}, []int{8, 8}},
		{"of two blocks", []simt.Access{access(0, 4, 1, false), access(4, 4, 2, false)}, []int{4, 4}},
		{"not aligned", []simt.Access{access(4, 4, 1, false), access(8, 4, 1, false)}, []int{4, 4}},
		{"around a store", []simt.Access{access(0, 4, 1, false), access(32, 4, 1, true), access(4, 4, 1, false)}, []int{4, 4, 4}},
		{"stores", []simt.Access{access(0, 8, 1, true), access(8, 8, 1, true)}, []int{16}},
	} {
		trace := &Trace{}
		for i, a := range c.list {
			a.Site = i
			trace.Add(a)
		}
		trace.EndWorkgroup()
		var got []int
		for _, s := range trace.Sites {
			got = append(got, s.Bytes)
		}
		if !slices.Equal(got, c.want) {
			t.Errorf("%s: requests of %d bytes, want %d", c.name, got, c.want)
		}
	}
}

// Whether loads of neighbouring numbers are one depends on what is between them: of act_mul a branch that a constant decides, of
// rope one that lanes take by their components.
func TestBranchesDivideAccesses(t *testing.T) {
	t.Parallel()
	list, err := shaders.Variants()
	if err != nil {
		t.Fatal(err)
	}
	g := gpus()[0]
	for _, d := range dispatches(g) {
		binding, want := map[string]string{"act_mul": "gate and up", "rope_f16": "qkv"}[d.variant], map[string]int{"act_mul": 8, "rope_f16": 4}[d.variant]
		if want == 0 {
			continue
		}
		i := slices.IndexFunc(list, func(v shaders.Variant) bool { return v.Name == d.variant })
		trace, err := d.trace(g, list[i])
		if err != nil {
			t.Fatal(err)
		}
		found := 0
		for _, s := range trace.Sites {
			if s.Binding >= 0 && d.bindings[s.Binding].name == binding && !s.Store {
				found++
				if s.Bytes != want {
					t.Errorf("%s: a load of %d bytes of %s, want %d", d.variant, s.Bytes, binding, want)
				}
			}
		}
		if found == 0 {
			t.Errorf("%s: no loads of %s", d.variant, binding)
		}
	}
}

// A kernel whose lanes are far apart is found.
func TestCheckFindsLanesFarApart(t *testing.T) {
	t.Parallel()
	far := &Trace{}
	far.Add(simt.Access{Bytes: 16, At: lanes(32, func(l int) int { return 256 * l })})
	far.EndWorkgroup()
	err := check([]traced{{dispatch{variant: "add", bindings: bind("x")}, far, "GPU"}})
	if err == nil || !strings.Contains(err.Error(), "add takes 2.00 times the least sectors") {
		t.Errorf("got %v", err)
	}
}

// traceOf executes a dispatch as a whole and returns what is in its bindings.
func traceOf(t *testing.T, g gpu, d dispatch) []*simt.Words {
	t.Helper()
	list, err := shaders.Variants()
	if err != nil {
		t.Fatal(err)
	}
	i := slices.IndexFunc(list, func(v shaders.Variant) bool { return v.Name == d.variant })
	k, run, err := d.load(g, list[i])
	if err != nil {
		t.Fatal(err)
	}
	for z := range d.grid[2] {
		for y := range d.grid[1] {
			for x := range d.grid[0] {
				if err := k.Run(run, [3]int{x, y, z}, func(simt.Access) {}); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
	return run.Buffers
}

func near(t *testing.T, what string, got uint32, want, tolerance float64) {
	t.Helper()
	if g := float64(math.Float32frombits(got)); !(math.Abs(g-want) <= tolerance*math.Abs(want)) {
		t.Fatalf("%s: got %g, want %g", what, g, want)
	}
}

// What is traced is what kernels do: they compute what they should, on every size of subgroups.
func TestTracedProductsAreRight(t *testing.T) {
	t.Parallel()
	const rows, cols = 70, 260
	at := func(i int) float64 { return float64(math.Float32frombits(number(i))) }
	for _, g := range gpus() {
		for _, path := range []kernels.Path{kernels.SG, kernels.Base, kernels.Few, kernels.FP16, kernels.CM} {
			tokens, op, x, y := 7, &kernels.Matmul, 3, 5
			if path == kernels.SG {
				tokens, op, x, y = 1, &kernels.Matvec, 2, 5
			}
			p := kernels.Product{Packed: kernels.RowMajor.Pack(g.machine, dtype.F32, rows, cols), Tokens: tokens, Stride: rows}
			names := []string{"units", "scales", "x", "gain", "y", "y"}
			if tokens > 1 {
				names = []string{"units", "scales", "x", "bias", "y", "exponents"}
			}
			bindings := bind(names...)
			if tokens > 1 {
				bindings = append([]binding{stepOf(0, tokens, false)}, bindings...)
				bindings[6].fill = func(int) uint32 { return 0 }
			}
			tolerance := 1e-5
			if path == kernels.FP16 || path == kernels.CM {
				bindings[x].fill = func(at int) uint32 { // two halves a word
					a, b := math.Float32frombits(number(2*at)), math.Float32frombits(number(2*at+1))
					return uint32(half.F16(a)) | uint32(half.F16(b))<<16
				}
				tolerance = 2e-3
			}
			d := launch(g, op, path, p, "", bindings...)
			out := traceOf(t, g, d)[y]
			for token := range tokens {
				for r := range rows {
					want := 0.0
					for c := range cols {
						want += at(r*cols+c) * at(token*cols+c)
					}
					near(t, g.name+" "+d.variant, out.At(token*rows+r), want, tolerance)
				}
			}
		}
	}
}

// Attention over values that are the same at all positions gives these values, and nothing of positions that are not there.
func TestTracedAttentionIsRight(t *testing.T) {
	t.Parallel()
	const heads, kvHeads, dim, tokens, before = 8, 2, 64, 20, 70
	for _, g := range gpus() {
		for _, path := range []kernels.Path{kernels.Base, kernels.CM, kernels.SG} {
			a := kernels.Attention{
				Type: dtype.F16, Tokens: tokens, Sequences: 1, Heads: heads, KVHeads: kvHeads, HeadDim: dim, Positions: 4096, Places: 4096, Scale: 0.1,
			}
			op, names := &kernels.Attend, []string{"queries", "keys", "values", "slopes", "y", "pages"}
			if path == kernels.SG {
				a.Tokens, a.Single, op = 1, true, &kernels.Decode
				names = append(names, "parts", "arrivals")
			}
			bindings := append([]binding{stepOf(before, a.Tokens, a.Single)}, bind(names...)...)
			value := func(d int) float32 { return 1 + float32(d)/dim }
			bindings[3].fill = func(at int) uint32 {
				place := at/(dim/2)%kernels.PageSize + (at/(dim/2*kernels.PageSize*kvHeads)-1)*kernels.PageSize
				if place >= before+a.Tokens {
					return 0x7bff7bff // 65504
				}
				d := 2 * at % dim
				return uint32(half.F16(value(d))) | uint32(half.F16(value(d+1)))<<16
			}
			bindings[2].fill = func(at int) uint32 { return uint32(half.F16(float32(at%7))) | uint32(half.F16(float32(at%5)))<<16 }
			d := launch(g, op, path, a, "", bindings...)
			out := traceOf(t, g, d)[5]
			for i := range a.Tokens * heads * dim {
				near(t, g.name+" "+d.variant, out.At(i), float64(value(i%dim)), 2e-3)
			}
		}
	}
}
