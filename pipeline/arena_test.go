package pipeline

import (
	"testing"

	"pgregory.net/rapid"
)

// Tensors whose lives overlap never share memory, whatever the lives and sizes.
func TestLayoutSeparatesWhatIsAlive(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		b := &Builder{}
		nodes := rapid.IntRange(1, 40).Draw(t, "nodes")
		var all int64
		for range rapid.IntRange(1, 30).Draw(t, "tensors") {
			x := b.tensor(rapid.IntRange(1, 40).Draw(t, "rows"), rapid.IntRange(1, 300).Draw(t, "cols"))
			x.first = rapid.IntRange(-1, nodes-1).Draw(t, "first")
			x.last = rapid.IntRange(max(x.first, 0), nodes-1).Draw(t, "last")
			all += alignUp(x.bytes(), arenaAlign)
			if x.first >= 0 && rapid.Bool().Draw(t, "output") {
				b.outputs = append(b.outputs, outputTensor{tensor: x, after: rapid.IntRange(x.first, nodes-1).Draw(t, "after")})
			}
		}
		total := b.layout()
		if total > all {
			t.Fatalf("%d bytes for tensors of %d", total, all)
		}
		for i, x := range b.tensors {
			if x.first < 0 {
				continue
			}
			if x.offset%arenaAlign != 0 || x.offset < 0 || x.offset+x.bytes() > total {
				t.Fatalf("tensor %d at %d, %d bytes, in %d", i, x.offset, x.bytes(), total)
			}
			for j, y := range b.tensors[:i] {
				alive := y.first >= 0 && x.first <= y.last && y.first <= x.last
				if alive && x.offset < y.offset+y.bytes() && y.offset < x.offset+x.bytes() {
					t.Fatalf("tensors %d [%d, +%d] and %d [%d, +%d] are alive together", i, x.offset, x.bytes(), j, y.offset, y.bytes())
				}
			}
		}
		for _, o := range b.outputs {
			if o.tensor.last < o.after {
				t.Fatalf("output of node %d from a tensor that lives to %d", o.after, o.tensor.last)
			}
		}
		if again := b.layout(); again != total {
			t.Fatalf("%d bytes, then %d", total, again)
		}
	})
}

// What is dead gives its memory to what comes: a chain needs two tensors, not all.
func TestLayoutReusesMemory(t *testing.T) {
	b := &Builder{}
	for i := range 100 {
		x := b.tensor(8, 64)
		x.first, x.last = i, i+1
	}
	if got, want := b.layout(), int64(2*8*64*4); got != want {
		t.Errorf("a chain of 100 tensors takes %d bytes, want %d", got, want)
	}
}
