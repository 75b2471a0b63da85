package verify

import (
	"fmt"

	"pumice/internal/ref"
	"pumice/pipeline"
)

func (v *verifier) embedCases(t pipeline.DType) {
	for i, s := range v.shapes(t) {
		r := sizes[i%len(sizes)]
		v.embed(rowsOf(t, s[0]), s[1], r[0], r[1], []float32{1, 0.7}[i%2])
	}
}

func (v *verifier) embed(bands []pipeline.Band, cols, tokens, count int, scale float32) {
	v.check(fmt.Sprintf("embed %s, cols %d, scale %g, %d of %d tokens", describe(bands), cols, scale, count, tokens), func() error {
		rows := totalRows(bands)
		table, err := v.operand(bands, cols)
		if err != nil {
			return err
		}
		ids := make([]int, count)
		for i := range ids {
			ids[i] = v.rnd.IntN(rows)
		}
		ids[0], ids[count-1] = rows-1, 0
		s := pipeline.Step{Sequences: []pipeline.Sequence{{Tokens: ids}}}
		b := v.m.NewBuilder(v.name, tokens)
		got, err := v.evaluate(b, b.Embed(table.matrix, scale), s)
		if err != nil {
			return err
		}
		want := ref.Embed(table.values, cols, ids, float64(scale))
		terms := ref.Embed(table.terms, cols, ids, float64(scale))
		for _, k := range shardsByKernel(b, table.matrix) {
			pick := func(i int) bool { return k.has(ids[i/cols]) }
			if g, w, m := choose(got, want, terms, pick); len(g) > 0 {
				v.each(compare(k.kernel, v.name, g, w, m, tolerances.embed))
			}
		}
		return nil
	})
}
