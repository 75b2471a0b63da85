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
	list, err := traces(gpus()[0], "")
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
	// A workgroup of one invocation has no lanes to compare. Peaks are of arithmetic; matrices of a workgroup are loaded as the
	// driver likes.
	single := []string{"adjust", "advance", "draw", "peak", "peak_fp16", "peak_dp", "peak_cm"}
	for _, v := range variants {
		if slices.Contains(v.Needs, "lane8") || slices.Contains(v.Needs, "address") || slices.Contains(single, v.Name) ||
			kernels.PathOf(v.Name) == kernels.CM2 || kernels.PathOf(v.Name) == kernels.CM2E {
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
// matvec_f32 one that lanes take by their columns.
func TestBranchesDivideAccesses(t *testing.T) {
	t.Parallel()
	list, err := shaders.Variants()
	if err != nil {
		t.Fatal(err)
	}
	of := map[string]string{"act_mul": "gate and up", "matvec_f32": "x"}
	want := map[string][]int{"act_mul": {8}, "matvec_f32": {4}}
	g, found := gpus()[0], 0
	for _, d := range dispatches(g) {
		if of[d.variant] == "" {
			continue
		}
		found++
		i := slices.IndexFunc(list, func(v shaders.Variant) bool { return v.Name == d.variant })
		trace, err := d.trace(g, list[i])
		if err != nil {
			t.Fatal(err)
		}
		var got []int
		for _, s := range trace.Sites {
			if s.Binding >= 0 && d.bindings[s.Binding].name == of[d.variant] && !s.Store {
				got = append(got, s.Bytes)
			}
		}
		slices.Sort(got)
		if got = slices.Compact(got); !slices.Equal(got, want[d.variant]) {
			t.Errorf("%s: loads of %d bytes of %s, want %d", d.variant, got, of[d.variant], want[d.variant])
		}
	}
	if found != len(of) {
		t.Errorf("%d kernels, want %d", found, len(of))
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
				names = []string{"units", "scales", "x", "bias", "y", "exponents", "parts", "arrivals"}
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

// A side is keys or values as a cache holds them.
type side struct {
	at   func(i int) float64 // number i, of (pages, kvHeads, PageSize, dim)
	fill func(at int) uint32 // words
}

// cacheSide makes numbers of a type for so many rows of dim.
func cacheSide(t dtype.DType, rows, dim, seed int) side {
	of := func(i int) float32 { return math.Float32frombits(number(3*i + seed)) }
	if t == dtype.F16 {
		return side{
			func(i int) float64 { return float64(half.FromF16(half.F16(of(i)))) },
			func(at int) uint32 { return uint32(half.F16(of(2*at))) | uint32(half.F16(of(2*at+1)))<<16 },
		}
	}
	// Q8_0: the integers of all rows, then the scales of blocks of 32, two a word.
	integer := func(i int) int8 { return int8(127 * of(i)) }
	scale := func(block int) float32 { return float32(1+block%3) / 256 }
	return side{
		func(i int) float64 { return float64(integer(i)) * float64(scale(i/32)) },
		func(at int) uint32 {
			if block := 2 * (at - rows*dim/4); block >= 0 {
				return uint32(half.F16(scale(block))) | uint32(half.F16(scale(block+1)))<<16
			}
			word := uint32(0)
			for b := range 4 {
				word |= uint32(uint8(integer(4*at+b))) << (8 * b)
			}
			return word
		},
	}
}

func TestTracedAttentionIsRight(t *testing.T) {
	t.Parallel()
	const heads, kvHeads, dim, tokens, before, scale, places = 8, 2, 64, 20, 70, 2, 4096
	query := func(i int) float64 { return float64(math.Float32frombits(number(i))) }
	row := func(kv, place int) int { // page 0 is nobody's
		return (((1+place/kernels.PageSize)*kvHeads+kv)*kernels.PageSize + place%kernels.PageSize) * dim
	}
	for _, g := range gpus() {
		for _, cache := range []dtype.DType{dtype.F16, dtype.Q8_0} {
			keys, values := cacheSide(cache, places*kvHeads, dim, 1), cacheSide(cache, places*kvHeads, dim, 2)
			for _, path := range []kernels.Path{kernels.Base, kernels.CM, kernels.SG} {
				a := kernels.Attention{
					Type: cache, Tokens: tokens, Sequences: 1, Heads: heads, KVHeads: kvHeads, HeadDim: dim, Positions: places, Places: places, Scale: scale,
				}
				op, names := &kernels.Attend, []string{"queries", "keys", "values", "slopes", "y", "pages"}
				if path == kernels.SG {
					a.Tokens, a.Single, op = 1, true, &kernels.Decode
					names = append(names, "parts", "arrivals")
				}
				bindings := append([]binding{stepOf(before, a.Tokens, a.Single)}, bind(names...)...)
				bindings[2].fill, bindings[3].fill = keys.fill, values.fill
				d := launch(g, op, path, a, "", bindings...)
				out := traceOf(t, g, d)[5]
				for token := range a.Tokens {
					for h := range heads {
						kv, total, sums := h/(heads/kvHeads), 0.0, make([]float64, dim)
						for place := range before + token + 1 {
							score := 0.0
							for i := range dim {
								score += query((token*heads+h)*dim+i) * keys.at(row(kv, place)+i)
							}
							w := math.Exp(scale * (score - dim/4))
							total += w
							for i := range dim {
								sums[i] += w * values.at(row(kv, place)+i)
							}
						}
						for i, sum := range sums {
							near(t, g.name+" "+d.variant, out.At((token*heads+h)*dim+i), sum/total, 2e-2)
						}
					}
				}
			}
		}
	}
}
