package verify

import (
	"fmt"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"testing"

	"pumice/internal/dtype"
	"pumice/internal/gputest"
	"pumice/pipeline"
	"pumice/pipeline/kernels"
	"pumice/vk"
)

// Each benchmark replays one plan of many dispatches of one kernel. Bytes are those of the
// weights or of the live cache. On a CPU driver small matrices stay in its cache.

// benchShapes are (rows, cols) of SmolLM2-135M's feed-forward and head, and of a 7B model's
// attention. K-quantised matrices have 768 columns instead of 576.
var benchShapes = [][2]int{{576, 1536}, {1536, 576}, {49152, 576}, {4096, 4096}}

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

func benchLinear(b *testing.B, tokens int, report func(b *testing.B, weights float64)) {
	dev := benchDevice(b)
	for _, path := range paths(dev) {
		for _, t := range kernels.WeightTypes() {
			for _, s := range benchShapes {
				rows, cols := s[0], s[1]
				if cols%t.BlockSize() != 0 {
					cols = 768
				}
				m := managerOn(b, dev, pipeline.Options{Path: path})
				if (path == kernels.Row || path == kernels.Addr) && !m.HasKernel(path.Variant("matvec_"+kernels.Lower(t))) {
					continue
				}
				b.Run(fmt.Sprintf("%s/%s/%dx%d", t, path, rows, cols), func(b *testing.B) {
					bb := newBench(b, managerOn(b, dev, pipeline.Options{Path: path}))
					w := bb.matrixOf(t, rows, cols)
					p := bb.m.NewBuilder("bench", tokens)
					x := bb.inputOf(p, bb.normal(tokens*cols), cols)
					dispatches := max(1, min(20, 1<<25/(rows*cols)))
					for range dispatches {
						p.Linear(x, w, nil)
					}
					plan := bb.build(p)
					step := inputStep(0, tokens)
					run(b, plan, step)
					b.SetBytes(int64(dispatches) * int64(rows) * t.RowBytes(cols))
					for b.Loop() {
						run(b, plan, step)
					}
					report(b, float64(dispatches)*float64(rows)*float64(cols)*float64(b.N)/b.Elapsed().Seconds())
				})
			}
		}
	}
}

func BenchmarkMatvec(b *testing.B) {
	benchLinear(b, 1, func(b *testing.B, weights float64) { b.ReportMetric(weights/1e9, "Gweights/s") })
}

func BenchmarkMatmul64(b *testing.B) {
	benchLinear(b, 64, func(b *testing.B, weights float64) { b.ReportMetric(2*64*weights/1e9, "GFLOP/s") })
}

// SmolLM2's heads, at several lengths of the cache: one token, and a run of 64 at the end.
func BenchmarkAttention(b *testing.B) {
	dev := benchDevice(b)
	h := pipeline.Heads{Heads: 9, KVHeads: 3, HeadDim: 64}
	for _, path := range paths(dev) {
		for _, t := range kernels.CacheTypes {
			for _, tokens := range []int{1, 64} {
				for _, length := range []int{128, 512, 2048} {
					b.Run(fmt.Sprintf("%s/%s/%dof%d", t, path, tokens, length), func(b *testing.B) {
						bb := newBench(b, managerOn(b, dev, pipeline.Options{Path: path}))
						cache, err := bb.newCache(t, h, length-tokens, tokens, length)
						if err != nil {
							b.Fatal(err)
						}
						defer cache.Close()
						for _, s := range []vk.Span{cache.Layers[0].Keys, cache.Layers[0].Values} {
							if _, err := bb.cacheSide(cache, s, length, false); err != nil {
								b.Fatal(err)
							}
						}
						p := bb.m.NewBuilder("bench", tokens)
						q := bb.inputOf(p, bb.normal(tokens*h.Heads*h.HeadDim), h.Heads*h.HeadDim)
						const dispatches = 5
						for range dispatches {
							p.Attention(q, h, cache.Layers[0], 0.125)
						}
						plan := bb.build(p)
						step := inputStep(length-tokens, tokens)
						run(b, plan, step)
						b.SetBytes(dispatches * 2 * int64(length*h.KVHeads) * kernels.CacheRowBytes(t, h.HeadDim))
						for b.Loop() {
							run(b, plan, step)
						}
						b.ReportMetric(b.Elapsed().Seconds()*1e6/float64(b.N*dispatches), "us/dispatch")
					})
				}
			}
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

// What reading memory costs the processor, with every thread: the bound of a CPU driver's products. 64 MiB
// may stay in a cache that the cores share.
func BenchmarkReadMemory(b *testing.B) {
	for _, mib := range []int{64, 512} {
		b.Run(fmt.Sprintf("%dMiB", mib), func(b *testing.B) {
			words := make([]uint64, mib<<20/8)
			for i := range words {
				words[i] = uint64(i)
			}
			var total atomic.Uint64
			b.SetBytes(int64(mib) << 20)
			for b.Loop() {
				var wait sync.WaitGroup
				for part := range slices.Chunk(words, ceilDiv(len(words), runtime.GOMAXPROCS(0))) {
					wait.Go(func() { total.Add(sum(part)) })
				}
				wait.Wait()
			}
			if total.Load() == 0 {
				b.Error("nothing was read")
			}
		})
	}
}

// sum touches every cache line once: one word of eight.
func sum(words []uint64) uint64 {
	var s uint64
	for i := 0; i+32 <= len(words); i += 32 {
		s += words[i] + words[i+8] + words[i+16] + words[i+24]
	}
	return s
}
