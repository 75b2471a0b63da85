package pipeline

import (
	"slices"
	"strings"

	"pumice/vk"
)

// A Path is a family of kernel variants written for one kind of machine. Its name is the
// suffix of the variants' names in shaders/variants.txt; base variants have none.
type Path string

const (
	PathBase Path = "base" // Vulkan 1.1, 32-bit storage, workgroups with shared memory
	PathRow  Path = "row"  // barrier-free: one subgroup of eight lanes, several rows a lane
	PathAddr Path = "addr" // products and attention, as row but at device addresses, for drivers with scalar loads
	PathSG   Path = "sg"   // products with one token and its attention, by subgroup arithmetic and shuffles
	PathFew  Path = "few"  // products with a few tokens, without tiles
	PathFP16 Path = "fp16" // products of float16 numbers, summed in float32
	PathDP   Path = "dp"   // products of 8-bit activations, by integer dot products
	PathCM   Path = "cm"   // products of float16 numbers and attention of several tokens, by cooperative matrices
)

// Paths lists every path, the one that runs everywhere first.
var Paths = []Path{PathBase, PathRow, PathAddr, PathSG, PathFew, PathFP16, PathDP, PathCM}

// barrierFree says that the path's kernels are for CPU drivers, one subgroup a workgroup.
func (p Path) barrierFree() bool { return p == PathRow || p == PathAddr }

// severalOnly says that the path has kernels for several tokens, products and cm's attention, and nothing else.
func (p Path) severalOnly() bool {
	return p != PathBase && !p.barrierFree() && p != PathSG
}

// variant is the name of an op's variant of the path.
func (p Path) variant(op string) string {
	if p == PathBase {
		return op
	}
	return op + "_" + string(p)
}

// pathOf is the path of a variant.
func pathOf(name string) Path {
	for _, path := range Paths {
		if path != PathBase && strings.HasSuffix(name, "_"+string(path)) {
			return path
		}
	}
	return PathBase
}

// A rule says which paths of an op are tried on some devices, best first, for runs of
// minTokens tokens and more. The base path is tried last whatever the rule.
type rule struct {
	op        string // prefix of the op's name; "" is every op
	cpu       bool   // of CPU drivers, or of GPUs
	minTokens int
	paths     []Path
}

// rules is the choice where nothing has been measured on the device (pumice tune): the first
// rule that applies decides. Each states the measurement it rests on.
var rules = []rule{
	// A CPU driver runs a workgroup barrier as a switch between coroutines: on lavapipe 22.3.6
	// (2 cores, AVX-512) a Q4_1 matrix of 1536 x 576 goes through matvec_q4_1 at 0.15 and
	// through matvec_q4_1_row at more than 8 billion weights a second. A GPU has no such cost,
	// and eight lanes would leave most of its subgroup idle.
	//
	// lavapipe 26.1.6 makes a call of a texel fetch, 130 instructions for 16 bytes a lane, and a scalar
	// load of an address that all lanes share, without a check. On it (2 cores, AVX2) a Q8_0 matrix of
	// 4096 x 4096 goes through matvec_q8_0_row at 5.8 and through matvec_q8_0_addr at 9.8 GB/s, F32 at
	// 4.4 and 15.4, Q6_K at 1.7 and 3.9; 64 tokens of Q4_1 at 20 and 33 GFLOP/s: docs/design/0003.
	{cpu: true, paths: []Path{PathAddr, PathRow}},
	// Up to eight tokens a product waits for the weights, which the few path reads
	// as a product of one token does, in more workgroups than there are tiles; not measured since it
	// has x in shared memory (docs/design/0004). Beyond, a
	// prompt of 512 tokens of a 7B Llama in Q4_0 took 224 ms by cm and 301 by fp16 on an H200
	// (docs/benchmarks.md, before loads were batched and fp16 summed in float32). The dp path took 155 there, but rounds activations to eight bits,
	// which shows in perplexity (docs/quantization.md): it is for who asks for it.
	{op: "matmul_", minTokens: fewTokens + 1, paths: []Path{PathCM, PathFP16}},
	{op: "matmul_", minTokens: 2, paths: []Path{PathFew}},
	// By what drivers' compilers make of them (docs/isa.md): matvec_q4_0_sg takes a
	// third of the instructions a weight of matvec_q4_0, in loads three times as wide.
	{op: "matvec_", paths: []Path{PathSG}},
	// H200 (NVIDIA 580.159): attention_rope_f16 of 32 heads of 128 took 195 us a layer at 2048
	// positions, 65 us for each block of 64 keys, where the cache's bytes need 8: it waits at
	// barriers for loads that were asked for one by one.
	{op: "attention_decode_", paths: []Path{PathSG}},
	{op: "attention_rope_", paths: []Path{PathSG}},
	// H200 (NVIDIA 580.159): attention_f16 of 512 tokens and 32 heads of 128 took 1.03 ms a layer, a tenth
	// to a fifth of a prompt: it waits for loads likewise, and sums in float32. Matrices are not measured.
	{op: "attention_", minTokens: fewTokens + 1, paths: []Path{PathCM}},
}

// pick names the variant of an op for a run of tokens: of the forced path, of the path that
// was measured to be best on this device, or of the first path of the rules, whichever is
// the first to exist, to run on the device and to suit the operands.
func (b *Builder) pick(op string, tokens int, suits func(Path) bool) (kernel string, path Path) {
	for _, path := range b.m.paths(op, tokens) {
		if suits(path) && b.m.offers(op, path) {
			return path.variant(op), path
		}
	}
	return op, PathBase
}

// offers says whether an op has a variant of the path that runs on the device and is not
// known to compute wrong results there.
func (m *Manager) offers(op string, path Path) bool {
	v, ok := m.variants[path.variant(op)]
	if strings.HasPrefix(op, "matmul_") && m.opts.Tuning.refuses(conversions[path]) {
		return false
	}
	return ok && m.runnable(v) && !m.opts.Tuning.refuses(v.Name)
}

// paths is the order in which an op's paths are tried.
func (m *Manager) paths(op string, tokens int) []Path {
	switch m.opts.Path {
	case "":
	case PathAddr: // the rest is the row path's on the drivers that it is for
		return []Path{PathAddr, PathRow}
	default:
		return []Path{m.opts.Path}
	}
	if tuned := m.tuned(op, tokens); tuned != nil {
		return tuned
	}
	for _, r := range rules {
		if r.cpu == m.cpu() && tokens >= r.minTokens && strings.HasPrefix(op, r.op) {
			return r.paths
		}
	}
	return nil
}

// tuned is an op's paths, the fastest first, as they were measured on this device with the
// longest run that is not longer than tokens. It is nil where that was not measured.
func (m *Manager) tuned(op string, tokens int) []Path {
	if m.opts.Tuning == nil {
		return nil
	}
	p := Product{op, 1}
	for _, n := range m.tunedLengths() {
		if n <= tokens {
			p.Tokens = n
		}
	}
	if candidates := m.candidates(p.Op); len(candidates) > 0 {
		return m.opts.Tuning.fastest(p, candidates)
	}
	return nil
}

// tunedLengths are the runs of tokens that products are measured with, from short to long.
func (m *Manager) tunedLengths() []int {
	if m.cpu() {
		return []int{1, 2, 8, 64}
	}
	return []int{1, 2, 8, 32, 128, 512}
}

// candidates lists the paths that a product can take on this device, if the matrix suits. It
// is empty for any other op: no rule but those of products is measured.
func (m *Manager) candidates(op string) []Path {
	kind, ok := strings.CutPrefix(op, "matvec_")
	if !ok {
		kind, ok = strings.CutPrefix(op, "matmul_")
	}
	if !ok {
		return nil
	}
	return slices.DeleteFunc(slices.Clone(Paths), func(p Path) bool { return !m.offers(op, p) || !m.laysOut(kind, p) })
}

// laysOut says whether matrices of a type, in lower case, can be laid out for the path: for
// the paths with a layout of their own, whether the kernels that read it are there.
func (m *Manager) laysOut(kind string, path Path) bool {
	switch path {
	case PathRow:
		return m.offers("matvec_"+kind, path)
	case PathAddr: // no other kernels read its layout
		return m.offers("matvec_"+kind, path) && m.offers("matmul_"+kind, path) && m.offers("embed_"+kind, path)
	}
	return true
}

// Chosen lists the paths that plans on this device take kernels from beside the base path,
// or that one alone.
func (m *Manager) Chosen() []Path {
	if m.opts.Path != "" {
		return []Path{m.opts.Path}
	}
	var list []Path
	for _, r := range rules {
		for _, path := range r.paths {
			if r.cpu == m.cpu() && slices.Contains(m.Paths(), path) && !slices.Contains(list, path) {
				list = append(list, path)
			}
		}
	}
	if list == nil {
		return []Path{PathBase}
	}
	return list
}

// takesHalves says whether products of several tokens with weights of a type may go through kernels that
// have them in float16.
func (m *Manager) takesHalves(t DType) bool {
	op := "matmul_" + lower(t)
	for tokens := 2; tokens <= 1<<12; tokens *= 2 {
		for _, path := range m.paths(op, tokens) {
			if conversions[path] == halfActs && m.offers(op, path) {
				return true
			}
		}
	}
	return false
}

// AttendsInHalves says whether attention of several tokens over a cache of a type may go through a kernel
// that has queries, times the scale of scores, in float16.
func (m *Manager) AttendsInHalves(t DType, headDim int) bool {
	op := "attention_" + lower(t)
	for tokens := 2; tokens <= 1<<12; tokens *= 2 {
		if slices.Contains(m.paths(op, tokens), PathCM) {
			return m.offers(op, PathCM) && m.attendsByMatrices(headDim)
		}
	}
	return false
}

func (m *Manager) cpu() bool { return m.dev.PhysicalDevice().Type == vk.CPU }

// rowIf suits every path, the row path only under a condition.
func rowIf(condition bool) func(Path) bool {
	return func(p Path) bool { return p != PathRow || condition }
}

// layoutPath is the path that matrices of a type and so many columns are laid out for. That is
// decided once, when they are loaded, by what the products of one token prefer.
func (m *Manager) layoutPath(t DType, cols int) Path {
	op := "matvec_" + lower(t)
	for _, path := range m.paths(op, 1) {
		if !m.offers(op, path) || !m.laysOut(lower(t), path) || path == PathRow && cols%4 != 0 || path == PathAddr && cols%addrBlockCols != 0 {
			continue
		}
		return path
	}
	return PathBase
}
