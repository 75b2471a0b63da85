package verify

import (
	"flag"
	"fmt"
	"slices"
	"testing"

	"pumice/internal/dtype"
	"pumice/internal/gputest"
	"pumice/pipeline"
	"pumice/pipeline/kernels"
	"pumice/shaders"
	"pumice/vk"
)

// Each benchmark replays one plan of many dispatches of one kernel. Bytes are those of the weights or of the live cache. The
// small shapes may stay in a cache; the cold ones take turns over more memory than a cache holds, each dispatch after the one
// before has ended, as in a model.

// scale is for CPU drivers and rehearsals, where the whole sizes take minutes.
var scale = flag.Int("scale", 1, "divide the sizes of cold benchmarks by `N`, a power of two up to 16")

// A benchShape is a matrix; columns are a multiple of every type's block.
type benchShape struct {
	rows, cols int
	cold       bool
}

// name is the shape's, before it was divided.
func (s benchShape) name() string {
	if s.cold {
		return fmt.Sprintf("cold/%dx%d", s.rows, s.cols)
	}
	return fmt.Sprintf("%dx%d", s.rows, s.cols)
}

// benchShapes are those of SmolLM2-135M's feed-forward and head and a square one, and the products of a 7B Llama: qkv, o, gate
// and up, down, head.
var benchShapes = []benchShape{
	{576, 1536, false}, {1536, 576, false}, {49152, 576, false}, {4096, 4096, false},
	{12288, 4096, true}, {4096, 4096, true}, {22016, 4096, true}, {4096, 11008, true}, {32000, 4096, true},
}

// sized is the shape in the size that is measured for weights of a type, and the number of matrices that take turns.
func (s benchShape) sized(t pipeline.DType) (rows, cols, matrices int) {
	if !s.cold {
		if s.cols%t.BlockSize() != 0 {
			s.cols = 768 // K-quantised matrices of SmolLM2's kind
		}
		return s.rows, s.cols, 1
	}
	const block = 256 // of K-quants
	rows, cols = s.rows / *scale, max(block, s.cols / *scale / block * block)
	return rows, cols, ceilDiv(benchCold(), rows*int(t.RowBytes(cols)))
}

// benchCold is how many bytes benchmarks take turns over.
func benchCold() int { return 2 * coldBytes / *scale }

func benchDevice(b *testing.B) *vk.Device {
	dev := gputest.OpenWith(b, gputest.Options{NoValidation: true})
	b.Logf("%s, %s", dev.PhysicalDevice().Name, dev.PhysicalDevice().Type)
	return dev
}

func (b *bench) matrixOf(t pipeline.DType, rows, cols int) *pipeline.Matrix {
	b.t.Helper()
	x, err := b.anyMatrix(t, rows, cols)
	if err != nil {
		b.t.Fatal(err)
	}
	return x
}

// replay runs a plan of so many dispatches of a kernel, of which each moves so many bytes.
func (b *bench) replay(tb *testing.B, p *pipeline.Builder, step pipeline.Step, dispatches int, bytes int64) {
	tb.Helper()
	plan := b.build(p)
	run(tb, plan, step)
	tb.SetBytes(int64(dispatches) * bytes)
	for tb.Loop() {
		run(tb, plan, step)
	}
	tb.ReportMetric(tb.Elapsed().Seconds()*1e6/float64(tb.N*dispatches), "us/dispatch")
}

func benchLinear(b *testing.B, op *kernels.Op[kernels.Product], tokens int) {
	dev := benchDevice(b)
	for _, path := range paths(dev) {
		if op.Of(path) == nil {
			continue
		}
		for _, t := range kernels.WeightTypes() {
			m := managerOn(b, dev, pipeline.Options{Path: path})
			name := "matvec_"
			if tokens > 1 {
				name = "matmul_"
			}
			if !m.HasKernel(path.Variant(name + kernels.Lower(t))) {
				continue
			}
			for _, s := range benchShapes {
				b.Run(fmt.Sprintf("%s/%s/%s", t, path, s.name()), func(b *testing.B) {
					bb := newBench(b, managerOn(b, dev, pipeline.Options{Path: path}))
					rows, cols, matrices := s.sized(t)
					if tokens > 1 { // they wait for arithmetic
						matrices = min(matrices, 4)
					}
					p := bb.m.NewBuilder("bench", tokens)
					x := bb.inputOf(p, bb.normal(tokens*cols), cols)
					dispatches := matrices
					if s.cold {
						y := p.Linear(x, bb.matrixOf(t, rows, cols), nil)
						for range matrices - 1 {
							p.LinearAdd(y, x, bb.matrixOf(t, rows, cols), nil)
						}
					} else {
						dispatches = max(1, min(20, 1<<25/(rows*cols)))
						w := bb.matrixOf(t, rows, cols)
						for range dispatches {
							p.Linear(x, w, nil)
						}
					}
					bb.replay(b, p, inputStep(0, tokens), dispatches, int64(rows)*t.RowBytes(cols))
					perSecond := float64(dispatches) * float64(rows) * float64(cols) * float64(b.N) / b.Elapsed().Seconds()
					if tokens == 1 {
						b.ReportMetric(perSecond/1e9, "Gweights/s")
					} else {
						b.ReportMetric(2*float64(tokens)*perSecond/1e9, "GFLOP/s")
					}
				})
			}
		}
	}
}

func BenchmarkMatvec(b *testing.B) { benchLinear(b, &kernels.Matvec, 1) }

func BenchmarkMatmul64(b *testing.B) { benchLinear(b, &kernels.Matmul, 64) }

func BenchmarkMatmul512(b *testing.B) { benchLinear(b, &kernels.Matmul, 512) }

// benchHeads are those of SmolLM2-135M, of a 7B Llama and of Llama 3's 8B, with lengths of the cache.
var benchHeads = []struct {
	name    string
	heads   pipeline.Heads
	lengths []int
	cold    bool
}{
	{"135M", pipeline.Heads{Heads: 9, KVHeads: 3, HeadDim: 64}, []int{128, 512, 2048}, false},
	{"7B", pipeline.Heads{Heads: 32, KVHeads: 32, HeadDim: 128}, []int{4096, 16384, 32768}, true},
	{"8B", pipeline.Heads{Heads: 32, KVHeads: 8, HeadDim: 128}, []int{4096, 16384, 32768}, true},
}

// Attention at several lengths of the cache: one token, and a run of 64 at the end.
func BenchmarkAttention(b *testing.B) {
	dev := benchDevice(b)
	for _, path := range paths(dev) {
		if kernels.Decode.Of(path) == nil && kernels.Attend.Of(path) == nil {
			continue
		}
		for _, t := range kernels.CacheTypes {
			for _, c := range benchHeads {
				for _, tokens := range []int{1, 64} {
					for _, length := range c.lengths {
						b.Run(fmt.Sprintf("%s/%s/%s/%dof%d", t, path, c.name, tokens, length), func(b *testing.B) {
							layers := 1
							bytes := 2 * int64(length*c.heads.KVHeads) * kernels.CacheRowBytes(t, c.heads.HeadDim)
							if c.cold {
								length = max(2*64, length / *scale)
								bytes = 2 * int64(length*c.heads.KVHeads) * kernels.CacheRowBytes(t, c.heads.HeadDim)
								layers = max(2, ceilDiv(benchCold(), int(bytes)))
							}
							benchAttention(b, newBench(b, managerOn(b, dev, pipeline.Options{Path: path})), t, c.heads, tokens, length, layers, bytes)
						})
					}
				}
			}
		}
	}
}

// benchAttention replays attention of each layer, five times if there is one. The caches hold a small number everywhere.
func benchAttention(b *testing.B, bb *bench, t pipeline.DType, h pipeline.Heads, tokens, length, layers int, bytes int64) {
	cache, err := bb.m.NewCache(pipeline.CacheShape{DType: t, Layers: layers, KVHeads: h.KVHeads, HeadDim: h.HeadDim, Positions: length})
	if err != nil {
		b.Skip(err) // more than the device binds
	}
	defer cache.Close()
	for page := range ceilDiv(length, kernels.PageSize) {
		cache.SetPages(0, page, page+1, page+1)
	}
	for _, l := range cache.Layers {
		for _, side := range []vk.Span{l.Keys, l.Values} {
			if err := bb.m.Device().Fill(bb.ctx, side, 0x2c002c00); err != nil { // 1/16 twice in float16; 1.8e-12 in float32
				b.Fatal(err)
			}
		}
	}
	p := bb.m.NewBuilder("bench", tokens)
	q := bb.inputOf(p, bb.normal(tokens*h.Heads*h.HeadDim), h.Heads*h.HeadDim)
	dispatches := layers
	if layers == 1 {
		dispatches = 5
	}
	for i := range dispatches {
		q = p.Attention(q, h, cache.Layers[i%layers], 0.125)
	}
	bb.replay(b, p, inputStep(length-tokens, tokens), dispatches, bytes)
}

// How fast the device reads memory that no cache holds, and memory that a second-level cache may hold.
func BenchmarkRead(b *testing.B) {
	dev := benchDevice(b)
	for _, mib := range []int{16, 2 * coldBytes >> 20} {
		b.Run(fmt.Sprintf("%dMiB", mib), func(b *testing.B) {
			size := max(1, int64(mib)<<20/int64(*scale))
			bb := newBench(b, managerOn(b, dev, pipeline.Options{}))
			memory, err := dev.NewBuffer(size, vk.DeviceLocal)
			if err != nil {
				b.Fatal(err)
			}
			defer memory.Close()
			if err := dev.Fill(bb.ctx, memory.Whole(), 0x01234567); err != nil {
				b.Fatal(err)
			}
			p := bb.m.NewBuilder("bench", 1)
			const part = 64 << 20 // every device binds as much
			passes := max(1, int(2*coldBytes/int64(*scale)/size))
			for range passes {
				for at := int64(0); at < size; at += part {
					p.Digest(memory.Whole().Slice(at, min(part, size-at)))
				}
			}
			bb.replay(b, p, inputStep(0, 1), passes*ceilDiv(int(size), part), min(part, size))
		})
	}
}

// What a dispatch costs, and a barrier before it: chains of workgroups that read a word and end. Apart: no barriers. All memory
// and buffers: barriers as vk.RecorderOptions has them. Split: those of all memory, split by an event (vk.Recorder.Split).
func BenchmarkBarrier(b *testing.B) {
	dev := benchDevice(b)
	const dispatches, part = 200, 256
	table := variants(b)
	add := table[slices.IndexFunc(table, func(v shaders.Variant) bool { return v.Name == "add" })]
	pipe, err := dev.NewPipeline(vk.PipelineConfig{
		Name: add.Name, SPIRV: add.SPIRV, PushBytes: add.PushBytes, Spec: []uint32{64},
		Bindings: []vk.BindingKind{vk.StorageBuffer, vk.StorageBuffer, vk.StorageBuffer},
	})
	if err != nil {
		b.Fatal(err)
	}
	defer pipe.Close()
	memory, err := dev.NewBuffer((2+dispatches)*part, vk.DeviceLocal)
	if err != nil {
		b.Fatal(err)
	}
	defer memory.Close()
	if err := dev.Fill(b.Context(), memory.Whole(), 0); err != nil { // a step without tokens
		b.Fatal(err)
	}
	step, x := memory.Whole().Slice(0, part), memory.Whole().Slice(part, part)
	for _, groups := range []int{1, 132, 1024} {
		for _, c := range []struct {
			name    string
			apart   int64 // bytes between what dispatches write
			options vk.RecorderOptions
			split   bool
		}{
			{"apart", part, vk.RecorderOptions{}, false}, {"all_memory", 0, vk.RecorderOptions{}, false},
			{"buffers", 0, vk.RecorderOptions{BufferBarriers: true}, false}, {"split", 0, vk.RecorderOptions{}, true},
		} {
			b.Run(fmt.Sprintf("%s/%d", c.name, groups), func(b *testing.B) {
				rec := dev.NewRecorder(c.options)
				for i := range dispatches {
					if c.split {
						rec.Split()
					}
					y := memory.Whole().Slice(2*part+int64(i)*c.apart, part)
					rec.Dispatch(pipe, []vk.Bind{{Span: step}, {Span: x}, {Span: y, Access: vk.ReadWrite}}, make([]byte, add.PushBytes), groups, 1, 1)
				}
				commands, err := rec.Finish()
				if err != nil {
					b.Fatal(err)
				}
				defer commands.Close()
				for b.Loop() {
					if err := commands.Run(b.Context()); err != nil {
						b.Fatal(err)
					}
				}
				b.ReportMetric(b.Elapsed().Seconds()*1e6/float64(b.N*dispatches), "us/dispatch")
			})
		}
	}
}

// What the shortest plan costs: one dispatch of one workgroup, submitted and waited for.
func BenchmarkSubmit(b *testing.B) {
	bb := newBench(b, managerOn(b, benchDevice(b), pipeline.Options{}))
	w := bb.matrixOf(dtype.F32, 1, 4)
	p := bb.m.NewBuilder("bench", 1)
	p.Embed(w, 1)
	plan := bb.build(p)
	for b.Loop() {
		run(b, plan, inputStep(0, 1))
	}
}
