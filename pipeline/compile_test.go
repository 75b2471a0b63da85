package pipeline

import (
	"strings"
	"testing"

	"pumice/internal/dtype"
)

func TestCompilesListsEachKernelOnceAndItsTime(t *testing.T) {
	b := newBench(t, newManager(t, Options{}))
	w := b.matrix(dtype.F32, 64, 64)
	p := b.m.NewBuilder("compiles", 1)
	x := b.inputOf(p, b.normal(64), 64)
	p.Output("y", p.Linear(p.Linear(x, w.matrix, nil), w.matrix, nil))
	b.build(p)
	list := b.m.Compiles()
	if len(list) != 2 {
		t.Fatalf("%d kernels, want an embedding's and a product's: %v", len(list), list)
	}
	for i, c := range list {
		if c.MS <= 0 || len(c.Spec) == 0 || i > 0 && c.MS > list[i-1].MS {
			t.Errorf("%+v after %+v", c, list[max(0, i-1)])
		}
	}
	if names := list[0].Kernel + list[1].Kernel; !strings.Contains(names, "embed_f32") || !strings.Contains(names, "matvec_f32") {
		t.Errorf("kernels %v", list)
	}
}
