// Command spread writes a GGUF model as one in F32 whose weights no longer lie on the steps of the
// type they were stored in: each is moved at random within its step.
//
// It is for measuring what types cost in quality where no unquantised model is at hand. Levels of
// one type fall between those of another in a pattern (of sixteen Q4_1 levels, in the thirty-two of
// Q5_1 the middle ones are all moved outwards by half a step), so that converting stored levels
// measures how the two fit rather than the second type.
//
//	go run ./tools/spread MODEL.gguf OUT.gguf
package main

import (
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"math/rand/v2"
	"os"

	"pumice/checkpoint"
	"pumice/internal/dtype"
	"pumice/internal/ggufwrite"
	"pumice/internal/half"
)

func main() {
	if len(os.Args) != 3 {
		fmt.Fprintln(os.Stderr, "usage: spread MODEL.gguf OUT.gguf")
		os.Exit(2)
	}
	if err := checkpoint.Guard(func() error { return spread(os.Args[1], os.Args[2]) }); err != nil {
		fmt.Fprintln(os.Stderr, "spread:", err)
		os.Exit(1)
	}
}

func spread(from, to string) error {
	c, err := checkpoint.Open(context.Background(), from)
	if err != nil {
		return err
	}
	defer c.Close()
	if c.Format() != checkpoint.GGUF {
		return fmt.Errorf("%s: want a GGUF file", from)
	}
	var meta []ggufwrite.KV
	for key, value := range c.RawMetadata() {
		meta = append(meta, ggufwrite.KV{Key: key, Value: ggufwrite.Raw(value)})
	}
	var tensors []ggufwrite.Tensor
	for i, name := range c.Names() {
		t, _ := c.Tensor(name)
		switch t.DType {
		case dtype.F32, dtype.Q8_0, dtype.Q4_0, dtype.Q4_1, dtype.Q5_0, dtype.Q5_1:
		default:
			return fmt.Errorf("%s: tensor %s has type %s, whose steps are not known here", from, name, t.TypeName())
		}
		random := rand.New(rand.NewPCG(1, uint64(i)))
		fill := func(w io.Writer) error {
			for r := range t.Rows() {
				if _, err := w.Write(spreadRow(t, r, random)); err != nil {
					return err
				}
			}
			return nil
		}
		tensors = append(tensors, ggufwrite.Tensor{Name: name, DType: dtype.F32, Shape: t.Shape, Fill: fill})
	}
	return ggufwrite.Write(to, meta, tensors)
}

// spreadRow is row r in F32. A block begins with its step, an F16, which is negative where the
// levels run downwards.
func spreadRow(t *checkpoint.Tensor, r int, random *rand.Rand) []byte {
	b := t.Row(r, nil)
	values := make([]float32, t.Cols())
	t.DType.Decode(values, b)
	if n := t.DType.BlockSize(); n > 1 {
		for i := range values {
			step := half.FromF16(binary.LittleEndian.Uint16(b[i/n*t.DType.BlockBytes():]))
			values[i] += step * (random.Float32() - 0.5)
		}
	}
	out := make([]byte, 4*len(values))
	dtype.F32.Encode(out, values)
	return out
}
