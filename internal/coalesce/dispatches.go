package main

import (
	"fmt"
	"math"
	"slices"

	"pumice/internal/dtype"
	"pumice/internal/simt"
	"pumice/pipeline/kernels"
	"pumice/shaders"
	"pumice/vk"
)

// A gpu is what kernels are chosen and specialised for.
type gpu struct {
	name    string
	lanes   int // of subgroups whose size no kernel asks for
	machine *kernels.Machine
}

// newGPU describes a GPU that has all that kernels need.
func newGPU(name string, vendor uint32, least, lanes, most int, matrix vk.MatrixShape) gpu {
	pd := &vk.PhysicalDevice{
		Name: name, VendorID: vendor, Type: vk.Discrete,
		Limits: vk.Limits{
			MaxComputeSharedMemorySize: 48 << 10, MaxComputeWorkGroupInvocations: 1024, MaxComputeWorkGroupCount: [3]int{65535, 65535, 65535},
			SubgroupSize: lanes, MinSubgroupSize: least, MaxSubgroupSize: most,
		},
		Features: vk.Features{
			SubgroupBasic: true, SubgroupArithmetic: true, SubgroupShuffle: true, SubgroupSizeControl: true, ComputeFullSubgroups: true,
			ShaderFloat16: true, IntegerDotProduct: true, VulkanMemoryModel: true, CooperativeMatrix: []vk.MatrixShape{matrix},
		},
	}
	return gpu{name, lanes, kernels.NewMachine(pd)}
}

// gpus are one of each size of subgroups: NVIDIA's 32; AMD's RDNA, 32 where a kernel asks and else 64; Intel's Xe2, 16.
func gpus() []gpu {
	shape := func(m, n, k int) vk.MatrixShape {
		return vk.MatrixShape{M: m, N: n, K: k, A: vk.Float16, B: vk.Float16, C: vk.Float32, Result: vk.Float32}
	}
	return []gpu{
		newGPU("NVIDIA", 0x10de, 32, 32, 32, shape(16, 16, 16)),
		newGPU("AMD", 0x1002, 32, 64, 64, shape(16, 16, 16)),
		newGPU("Intel", 0x8086, 16, 16, 32, shape(8, 16, 16)),
	}
}

// A dispatch is a kernel as a plan uses it.
type dispatch struct {
	variant  string
	path     kernels.Path
	what     string // the shape
	spec     []kernels.Constant
	push     []byte
	grid     [3]int
	bindings []binding
}

// A binding is memory with a name. What it holds matters only where addresses depend on it.
type binding struct {
	name string
	fill func(at int) uint32
}

// number is a float32 in [0, 1) that at determines.
func number(at int) uint32 {
	return math.Float32bits(float32(uint32(at)*2654435761>>8) / (1 << 24))
}

// noise is bits.
func noise(at int) uint32 { return uint32(at) * 2654435761 }

func bind(names ...string) []binding {
	var list []binding
	for _, n := range names {
		b := binding{n, number}
		switch n {
		case "weights", "scales", "weight scales":
			b.fill = noise
		case "arrivals":
			b.fill = func(int) uint32 { return 0 }
		case "pages":
			b.fill = func(at int) uint32 { return uint32(1 + at/2) }
		}
		list = append(list, b)
	}
	return list
}

// stepOf is the Step buffer of shaders/include/step.glsl: one sequence of tokens from a position on, all of them or, if they
// are single, each in a sequence of its own.
func stepOf(position, tokens int, single bool) binding {
	const most, sequence, token = 16, 22, 70
	words := map[int]uint32{0: uint32(tokens), 1: 1, 2: 1}
	sequences := 1
	if single {
		sequences = tokens
		words[3] = uint32(tokens)
	}
	words[2] = uint32(sequences)
	for i := range sequences {
		words[6+i] = uint32(i)
		words[sequence+3*i], words[sequence+3*i+1], words[sequence+3*i+2] = uint32(position), uint32(i), uint32(i*position/kernels.PageSize)
	}
	for i := range tokens {
		words[token+2*i] = uint32(37 * i)
	}
	return binding{"step", func(at int) uint32 { return words[at] }}
}

// launch is a dispatch of the kernel of a path.
func launch[S kernels.Shape](g gpu, op *kernels.Op[S], path kernels.Path, s S, what string, bindings ...binding) dispatch {
	k := op.Of(path)
	return dispatch{
		variant: path.Variant(s.Op()), path: path, what: what, spec: k.Spec(g.machine, s), push: op.PushOf(k, s), grid: k.Grid(g.machine, s), bindings: bindings,
	}
}

const (
	hidden  = 4096 // columns of a product of one token
	inner   = 256  // and of one of several, whose loop repeats itself
	context = 2048 // positions before attention
	prompt  = 64   // tokens of a prompt
)

// dispatches lists the kernels that rules choose on GPUs, and those that take what these don't, at the shapes of a 7B Llama with
// heads in groups.
func dispatches(g gpu) []dispatch {
	var list []dispatch
	m := g.machine
	step := stepOf(context, prompt, false)
	with := func(first binding, names ...string) []binding { return append([]binding{first}, bind(names...)...) }
	for _, t := range kernels.WeightTypes() {
		one := kernels.Product{Packed: kernels.RowMajor.Pack(m, t, 256, hidden), Tokens: 1, Stride: 256, Norm: true, Eps: 1e-5}
		for _, path := range []kernels.Path{kernels.SG, kernels.DP2, kernels.Base} {
			if path == kernels.DP2 && (t.BlockSize() == 1 || t == dtype.IQ4_NL || t == dtype.IQ4_XS) {
				continue
			}
			list = append(list, launch(g, &kernels.Matvec, path, one, fmt.Sprintf("1 token, rows of %d, with norm", hidden),
				bind("weights", "scales", "x", "gain", "bias", "y")...))
		}
		few := kernels.Product{Packed: kernels.RowMajor.Pack(m, t, 256, hidden), Tokens: 8, Stride: 256}
		list = append(list, launch(g, &kernels.Matmul, kernels.Few, few, fmt.Sprintf("8 tokens, rows of %d", hidden),
			with(stepOf(context, 8, false), "weights", "scales", "x", "bias", "y")...))
		many := kernels.Product{Packed: kernels.RowMajor.Pack(m, t, 256, inner), Tokens: prompt, Stride: 256}
		for _, path := range []kernels.Path{kernels.CM, kernels.FP16, kernels.DP, kernels.Base} {
			if path == kernels.DP && (t.BlockSize() == 1 || t == dtype.Q2_K) {
				continue
			}
			names := []string{"weights", "scales", "x", "bias", "y"}
			if path != kernels.Base {
				names = append(names, "x scales")
			}
			list = append(list, launch(g, &kernels.Matmul, path, many, fmt.Sprintf("%d tokens, rows of %d", prompt, inner),
				with(step, append(names, "parts", "arrivals")...)...))
		}
		lookup := kernels.Lookup{Packed: kernels.RowMajor.Pack(m, t, 32000, hidden), Tokens: prompt, Scale: 1}
		list = append(list, launch(g, &kernels.Embed, kernels.Base, lookup, fmt.Sprintf("%d tokens of %d columns", prompt, hidden),
			with(step, "weights", "scales", "y")...))
	}
	for _, t := range kernels.CacheTypes {
		a := kernels.Attention{
			Type: t, Tokens: prompt, Sequences: 1, Heads: 32, KVHeads: 8, HeadDim: 128, Positions: 4096, Places: 8192, Scale: 0.09, RotaryDim: 128,
		}
		for _, path := range []kernels.Path{kernels.CM, kernels.Base} {
			if path == kernels.CM && t == dtype.F32 {
				continue
			}
			at := 256
			list = append(list, launch(g, &kernels.Attend, path, a, fmt.Sprintf("%d tokens behind %d, 32/8 heads of 128", prompt, at),
				with(stepOf(at, prompt, false), "queries", "keys", "values", "slopes", "y", "pages")...))
		}
		a.Tokens, a.Single = 1, true
		for _, path := range []kernels.Path{kernels.SG, kernels.Base} {
			for _, rope := range []bool{false, true} {
				if a.Rope = rope; rope && path == kernels.Base && t == dtype.Q8_0 {
					continue
				}
				names := []string{"queries", "keys", "values", "slopes", "y", "pages"}
				if rope {
					names = append(names, "angles")
				}
				list = append(list, launch(g, &kernels.Decode, path, a, fmt.Sprintf("1 token behind %d, 32/8 heads of 128", context),
					with(stepOf(context, 1, true), append(names, "parts", "arrivals")...)...))
			}
		}
		how := binding{"which", func(at int) uint32 { return []uint32{0, 0, 256}[at] }}
		of := kernels.Weights{Attention: a, Totals: true, Into: 256}
		of.Rope, of.Heads, of.KVHeads = false, 1, 1
		names := []string{"queries", "keys", "slopes", "pages", "totals", "y"}
		for _, op := range []*kernels.Op[kernels.Weights]{&kernels.AttentionTotals, &kernels.AttentionWeights} {
			list = append(list, launch(g, op, kernels.Base, of, "1 token behind 255, a head of 128", append([]binding{stepOf(255, 1, true), how}, bind(names...)...)...))
			of.Totals = false
		}
		r := kernels.Rope{Type: t, Tokens: prompt, Heads: 32, KVHeads: 8, HeadDim: 128, RotaryDim: 128, Places: 8192}
		list = append(list, launch(g, &kernels.RopeStore, kernels.Base, r, fmt.Sprintf("%d tokens, 32/8 heads of 128", prompt),
			with(step, "qkv", "angles", "queries", "keys", "values", "pages")...))
	}
	rows := kernels.Rows{Rows: prompt, Cols: hidden, Eps: 1e-5, Scale: 1, Gated: true}
	named := func(name string) kernels.Rows { rows.Name = name; return rows }
	ofRows := fmt.Sprintf("%d rows of %d", prompt, hidden)
	heads := kernels.Heads{Tokens: prompt, Heads: 32, KVHeads: 8, HeadDim: 128, Eps: 1e-5}
	logits := kernels.Rows{Name: "logprob", Rows: prompt, Cols: 32000, Next: true, Sum: true}
	return append(list,
		launch(g, &kernels.RMSNorm, kernels.Base, named("rms_norm"), ofRows, with(step, "x", "gain", "y")...),
		launch(g, &kernels.LayerNorm, kernels.Base, named("layer_norm"), ofRows, with(step, "x", "gain", "bias", "y")...),
		launch(g, &kernels.HeadNorm, kernels.Base, heads, fmt.Sprintf("%d tokens, 32/8 heads of 128", prompt), with(step, "qkv", "query gain", "key gain")...),
		launch(g, &kernels.Activate, kernels.Base, named("act_mul"), ofRows, with(step, "gate and up", "y")...),
		launch(g, &kernels.SoftCap, kernels.Base, named("softcap"), ofRows, bind("x")...),
		launch(g, &kernels.Add, kernels.Base, named("add"), ofRows, with(step, "x", "y")...),
		launch(g, &kernels.AddPlaces, kernels.Base, named("add_places"), ofRows, with(step, "table", "y")...),
		launch(g, &kernels.Softmax, kernels.Base, named("softmax"), ofRows, bind("x", "y")...),
		launch(g, &kernels.LogProb, kernels.Base, logits, "32000 logits", with(step, "logits", "y")...),
		launch(g, &kernels.HalfActs, kernels.Base, kernels.Acts{To: kernels.Halves, Tokens: prompt, Cols: hidden}, ofRows, with(step, "x", "y", "scales")...),
		launch(g, &kernels.QuantizeActs, kernels.Base, kernels.Acts{To: kernels.Bytes, Tokens: prompt, Cols: hidden}, ofRows, with(step, "x", "y", "scales")...),
		launch(g, &kernels.TopK, kernels.Base, kernels.Best{Rows: 1, N: 32000, K: 1}, "the largest of 32000", bind("logits", "pairs")...),
		launch(g, &kernels.TopK, kernels.Base, kernels.Best{Rows: 1, N: 32000, K: 40, Masked: true}, "the 40 largest of 32000", bind("logits", "pairs", "mask")...),
		launch(g, &kernels.Digest, kernels.Base, kernels.Stretch{Units: 1 << 16}, "1 MiB", bind("weights", "y")...),
		launch(g, &kernels.Prefetch, kernels.Base, kernels.Ahead{Stretch: kernels.Stretch{Units: 1 << 16}}, "1 MiB", bind("weights", "arrivals")...),
	)
}

// load makes a dispatch of a variant ready to run.
func (d *dispatch) load(g gpu, v shaders.Variant) (*simt.Kernel, *simt.Dispatch, error) {
	values := make([]uint32, 0, len(v.Constants))
	for _, c := range v.Constants {
		for len(values) < c.ID {
			values = append(values, 0)
		}
		value, found := uint32(0), false
		for _, given := range d.spec {
			if given.Name == c.Name {
				value, found = given.Value, true
			}
		}
		if !found {
			return nil, nil, fmt.Errorf("%s: no value for constant %s", v.Name, c.Name)
		}
		values = append(values, value)
	}
	if len(d.spec) != len(v.Constants) || len(d.push) != v.PushBytes || len(d.bindings) < len(v.Bindings) {
		return nil, nil, fmt.Errorf("%s: %d constants, %d bytes of push constants, %d bindings; the kernel has %d, %d and %d", v.Name, len(d.spec), len(d.push),
			len(d.bindings), len(v.Constants), v.PushBytes, len(v.Bindings))
	}
	lanes, _ := g.machine.Subgroup(v.Needs)
	if lanes == 0 {
		lanes = g.lanes
	}
	k, err := simt.Load(v.SPIRV, values, lanes)
	if err != nil {
		return nil, nil, fmt.Errorf("%s: %w", v.Name, err)
	}
	run := &simt.Dispatch{Grid: d.grid, Push: d.push}
	for _, b := range d.bindings {
		run.Buffers = append(run.Buffers, &simt.Words{Fill: b.fill})
	}
	return k, run, nil
}

// trace executes workgroups of a dispatch: the first, one in the middle and the last.
func (d *dispatch) trace(g gpu, v shaders.Variant) (*Trace, error) {
	k, run, err := d.load(g, v)
	if err != nil {
		return nil, err
	}
	t := &Trace{}
	middle := [3]int{d.grid[0] / 2, d.grid[1] / 2, d.grid[2] / 2}
	last := [3]int{d.grid[0] - 1, d.grid[1] - 1, d.grid[2] - 1}
	for _, at := range slices.Compact([][3]int{{}, middle, last}) {
		if err := k.Run(run, at, t.Add); err != nil {
			return nil, fmt.Errorf("%s: %w", v.Name, err)
		}
		t.EndWorkgroup()
	}
	return t, nil
}
