package verify

import (
	"fmt"
	"pumice/internal/dtype"
	"pumice/pipeline"
	"pumice/pipeline/kernels"
	"slices"
	"strings"
)

// cases runs everything on the base path, on the row and addr paths what may take other
// kernels or read another layout, on the sg path the ops of one token, and on dp2 products of
// one. The other paths have only products with several tokens, and cm attention of several
// tokens too.
func (v *verifier) cases() {
	switch v.path() {
	case kernels.DP2:
		v.oneTokenCases()
		return
	case kernels.SG:
		v.oneTokenCases()
		for _, t := range v.cacheTypes() {
			v.attentionCases(t)
		}
		return
	case kernels.CM:
		v.peakCases()
		v.tileCases()
		for _, t := range v.cacheTypes() {
			v.attentionCases(t)
		}
		return
	case kernels.Few, kernels.FP16, kernels.DP:
		v.peakCases()
		v.tileCases()
		return
	case kernels.CM2, kernels.CM2E:
		v.tileCases()
		return
	}
	for _, t := range v.types() {
		if !v.m.HasKernel(v.path().Variant("matvec_" + kernels.Lower(t))) {
			continue
		}
		v.embedCases(t)
		v.linearCases(t)
	}
	v.tilingCases(v.path())
	v.shardCases()
	for _, t := range v.cacheTypes() {
		v.attentionCases(t)
	}
	if v.path() == kernels.Addr {
		return
	}
	for _, t := range v.cacheTypes() {
		v.ropeCases(t)
	}
	if v.options.Types != nil && v.options.Kernels == nil { // the others have none
		return
	}
	v.normCases()
	v.softmaxCases()
	v.topKCases()
	v.maskCases()
	v.actCases()
	if v.path() == kernels.Row {
		return
	}
	for _, t := range v.cacheTypes() {
		v.weightsCases(t)
	}
	v.elementCases()
	v.adjustCases()
	v.advanceCases()
	v.drawCases()
}

// oneTokenCases are the products of one token whose columns fill the lanes that take any, in
// matrices that are whole and that are cut. What is fused to them, and cutting, is the same source on dp2 as on sg: there one
// type has them.
func (v *verifier) oneTokenCases() {
	for _, t := range v.types() {
		if !v.m.Offers("matvec_"+kernels.Lower(t), v.path()) {
			continue
		}
		n, all := 3, v.path() == kernels.SG || t == dtype.Q4_0
		for _, s := range append(v.shapes(t), [2]int{35, 4104}) {
			cols := ceilDiv(s[1], t.BlockSize()) * t.BlockSize()
			if !kernels.Matvec.Of(v.path()).Fits(v.m.Machine(), kernels.Product{Packed: kernels.Packed{DType: t, Cols: cols}}, kernels.RowMajor) {
				continue
			}
			n++
			v.linear(rowsOf(t, s[0]), cols, 1, 1, n%2 == 0, n/2%2 == 0)
			if all {
				v.fused(rowsOf(t, s[0]+s[0]%2), cols, 1, 1, kernels.Activation(n%3), true)
			}
		}
		if !all {
			continue
		}
		v.binding = 48 * t.RowBytes(max(64, t.BlockSize()))
		v.linear(rowsOf(t, 150), max(64, t.BlockSize()), 1, 1, true, true)
		v.fused(rowsOf(t, 150), max(64, t.BlockSize()), 1, 1, kernels.SiLU, true)
		v.binding = 0
	}
}

// types are the weights' types to check.
func (v *verifier) types() []pipeline.DType {
	if v.options.Types != nil {
		return v.options.Types
	}
	return kernels.WeightTypes()
}

// cacheTypes are the KV cache's types to check; named kernels are checked whatever they read.
func (v *verifier) cacheTypes() []pipeline.DType {
	if v.options.Kernels != nil {
		return kernels.CacheTypes
	}
	return slices.DeleteFunc(slices.Clone(kernels.CacheTypes), func(t pipeline.DType) bool { return !slices.Contains(v.types(), t) })
}

// shapes are the shapes to check: of Quick one with few rows, one with long rows, one with many rows.
func (v *verifier) shapes(t pipeline.DType) [][2]int {
	all := shapes(t)
	if !v.options.Quick {
		return all
	}
	if t.BlockSize() == 1 {
		return [][2]int{all[1], all[8], all[9]}
	}
	return [][2]int{all[1], all[4], all[5]}
}

// shapes are (rows, cols) of weight matrices: the sizes at which tiles, groups and units
// break, and every one of them not a multiple of some tile. A row kernel takes columns in
// fours; what it does not take goes to the base kernel on either path.
func shapes(t pipeline.DType) [][2]int {
	n := t.BlockSize()
	if n == 1 {
		return [][2]int{{1, 1}, {7, 63}, {64, 65}, {33, 4097}, {4097, 7}, {1, 4}, {7, 64}, {63, 68}, {65, 4100}, {4097, 36}, {64, 7}}
	}
	return [][2]int{{1, n}, {7, 2 * n}, {63, 3 * n}, {64, n}, {65, 4096 + n}, {4097, n}, {33, 4096}}
}

// sizes are the tokens that a plan is built for and those of its step.
var sizes = [][2]int{{65, 65}, {7, 7}, {64, 63}, {9, 1}, {65, 33}, {2, 2}, {8, 8}}

// mixed has some rows of every type to check; the columns of a matrix of it are a multiple of 256.
func (v *verifier) mixed() []pipeline.Band {
	var out []pipeline.Band
	for i, t := range v.types() {
		out = append(out, rowsOf(t, 37+i)...)
	}
	return out
}

// shardCases has matrices of several shards: of different types, and cut by a small limit on
// what one binding holds.
func (v *verifier) shardCases() {
	mixed := v.mixed()
	v.linear(mixed, 512, 1, 1, true, true)
	v.linear(mixed, 768, 1, 1, true, true)
	v.linear(mixed, 512, 17, 13, true, true)
	v.embed(mixed, 512, 65, 65, 1)

	defer func() { v.binding = 0 }()
	for _, t := range v.types() {
		cols := max(64, t.BlockSize())
		cut := rowsOf(t, 150)
		rows := 48 // a few groups of rows
		if v.path() == kernels.Addr {
			rows = max(rows, kernels.LaneWords.Pack(v.m.Machine(), t, 1, cols).Group)
		}
		v.binding = int64(rows) * t.RowBytes(cols)
		v.linear(cut, cols, 1, 1, true, true)
		v.linear(cut, cols, 11, 9, true, true)
		v.embed(cut, cols, 65, 65, 1)
	}
}

// kernelRows are the rows of a matrix that one kernel handled.
type kernelRows struct {
	kernel string
	parts  []*pipeline.Shard
}

func (k *kernelRows) has(row int) bool {
	for _, p := range k.parts {
		if p.First <= row && row < p.First+p.Rows {
			return true
		}
	}
	return false
}

// shardsByKernel sorts the shards of x by the kernels of the builder's last dispatches, one a shard.
func shardsByKernel(b *pipeline.Builder, x *pipeline.Matrix) []*kernelRows {
	var out []*kernelRows
	at := map[string]*kernelRows{}
	dispatched := b.Dispatched()
	for i, p := range x.Shards {
		name := dispatched[len(dispatched)-len(x.Shards)+i]
		if at[name] == nil {
			at[name] = &kernelRows{kernel: name}
			out = append(out, at[name])
		}
		at[name].parts = append(at[name].parts, p)
	}
	return out
}

func choose(got []float32, want, terms []float64, pick func(i int) bool) (g []float32, w, t []float64) {
	for i := range got {
		if pick(i) {
			g, w, t = append(g, got[i]), append(w, want[i]), append(t, terms[i])
		}
	}
	return g, w, t
}

// rowsOf is rows of one type.
func rowsOf(t pipeline.DType, rows int) []pipeline.Band {
	return []pipeline.Band{{DType: t, Rows: rows}}
}

func totalRows(bands []pipeline.Band) int {
	n := 0
	for _, r := range bands {
		n += r.Rows
	}
	return n
}

func describe(bands []pipeline.Band) string {
	var s []string
	for _, r := range bands {
		s = append(s, fmt.Sprintf("%d rows of %s", r.Rows, r.DType))
	}
	return strings.Join(s, " + ")
}

// lastKernel is the kernel of the newest dispatch.
func lastKernel(b *pipeline.Builder) string {
	list := b.Dispatched()
	if len(list) == 0 {
		return ""
	}
	return list[len(list)-1]
}

// one runs an op that has one float32 input x, (tokens, cols), and compares the rows of its
// result with want, relative to terms.
func (v *verifier) one(x []float64, tokens int, s pipeline.Step, op func(b *pipeline.Builder, x *pipeline.Tensor) (*pipeline.Tensor, error),
	want, terms []float64, tolerance float64) error {
	b := v.m.NewBuilder(v.name, tokens)
	xt, err := v.input(b, x, len(x)/tokens)
	if err != nil {
		return err
	}
	y, err := op(b, xt)
	if err != nil {
		return err
	}
	kernel := lastKernel(b)
	got, err := v.evaluate(b, y, s)
	if err != nil {
		return err
	}
	v.each(compare(kernel, v.name, got, want, terms, tolerance))
	return nil
}

func constant(n int, x float64) []float64 {
	out := make([]float64, n)
	for i := range out {
		out[i] = x
	}
	return out
}

func ceilDiv(a, b int) int { return (a + b - 1) / b }
