package vk_test

import (
	"context"
	"embed"
	"encoding/binary"
	"math"
	"testing"

	"pumice/internal/gputest"
	"pumice/vk"
)

var ctx = context.Background()

// The shaders were compiled with glslc 2023.2, --target-env=vulkan1.1 -O, from the .comp files beside them.
//
//go:embed testdata/*.spv
var testdata embed.FS

func spirv(t testing.TB, name string) []byte {
	t.Helper()
	b, err := testdata.ReadFile("testdata/" + name + ".spv")
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func newBuffer(t testing.TB, d *vk.Device, size int64, use vk.MemoryUse) *vk.Buffer {
	t.Helper()
	b, err := d.NewBuffer(size, use)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { b.Close() })
	return b
}

func newPipeline(t testing.TB, d *vk.Device, c vk.PipelineConfig) *vk.Pipeline {
	t.Helper()
	if c.SPIRV == nil {
		c.SPIRV = spirv(t, c.Name)
	}
	p, err := d.NewPipeline(c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.Close() })
	return p
}

var (
	storage1 = []vk.BindingKind{vk.StorageBuffer}
	storage3 = []vk.BindingKind{vk.StorageBuffer, vk.StorageBuffer, vk.StorageBuffer}
)

func addPipeline(t testing.TB, d *vk.Device, local uint32, bias float32) *vk.Pipeline {
	return newPipeline(t, d, vk.PipelineConfig{Name: "add", Bindings: storage3, PushBytes: 8, Spec: []uint32{local, math.Float32bits(bias)}})
}

func addPush(n int, scale float32) []byte {
	return binary.LittleEndian.AppendUint32(binary.LittleEndian.AppendUint32(nil, uint32(n)), math.Float32bits(scale))
}

func addBinds(x, y, z vk.Span) []vk.Bind {
	return []vk.Bind{{Span: x}, {Span: y}, {Span: z, Access: vk.Write}}
}

func finish(t testing.TB, r *vk.Recorder) *vk.Commands {
	t.Helper()
	c, err := r.Finish()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

func run(t testing.TB, c *vk.Commands) {
	t.Helper()
	if err := c.Run(ctx); err != nil {
		t.Fatal(err)
	}
}

func putFloats(p []byte, f func(i int) float32) {
	for i := range len(p) / 4 {
		binary.LittleEndian.PutUint32(p[4*i:], math.Float32bits(f(i)))
	}
}

func word(p []byte, i int) uint32   { return binary.LittleEndian.Uint32(p[4*i:]) }
func float(p []byte, i int) float32 { return math.Float32frombits(word(p, i)) }

func read(t testing.TB, d *vk.Device, s vk.Span) []byte {
	t.Helper()
	p := make([]byte, s.Size)
	if err := d.Read(s, p); err != nil {
		t.Fatal(err)
	}
	return p
}

// n is not a multiple of any workgroup size, so that the last workgroup is partly used.
func TestDispatchAddsWithPushAndSpecConstants(t *testing.T) {
	d := gputest.Open(t)
	for _, n := range []int{1, 7, 63, 64, 65, 4097} {
		x, y := newBuffer(t, d, int64(4*n), vk.Upload), newBuffer(t, d, int64(4*n), vk.Upload)
		z := newBuffer(t, d, int64(4*n), vk.DeviceLocal)
		putFloats(x.Mapped(), func(i int) float32 { return float32(i) })
		putFloats(y.Mapped(), func(i int) float32 { return float32(2 * i) })
		p := addPipeline(t, d, 32, 0.5)
		r := d.NewRecorder(vk.RecorderOptions{})
		r.Dispatch(p, addBinds(x.Whole(), y.Whole(), z.Whole()), addPush(n, 3), (n+31)/32, 1, 1)
		run(t, finish(t, r))
		got := read(t, d, z.Whole())
		for i := range n {
			if want := float32(i) + float32(2*i)*3 + 0.5; float(got, i) != want {
				t.Fatalf("n=%d: z[%d] = %v, want %v", n, i, float(got, i), want)
			}
		}
	}
}
