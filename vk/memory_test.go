package vk_test

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"

	"pumice/internal/gputest"
	"pumice/vk"
)

// noise returns n reproducible bytes.
func noise(seed uint64, n int64) []byte {
	r := rand.New(rand.NewPCG(seed, 1))
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(r.Uint32())
	}
	return b
}

func TestUploadedBytesAreReadBack(t *testing.T) {
	for _, path := range []string{"direct", "staged", "transfer queue"} {
		t.Run(path, func(t *testing.T) {
			staged := path != "direct"
			d := gputest.OpenWith(t, gputest.Options{Device: vk.DeviceOptions{Staged: staged}})
			if path == "transfer queue" {
				d.Separate()
			}
			if staged && d.HostVisible() {
				t.Error("a staged device reports host-visible memory")
			}
			pool := d.NewPool(vk.DeviceLocal, 1<<20)
			defer pool.Close()
			up, err := d.NewUploader(ctx, 64<<10, 3)
			if err != nil {
				t.Fatal(err)
			}
			defer up.Close()
			const tensors = 60
			spans := make([]vk.Span, tensors)
			var total int64
			for i := range spans {
				size := int64(1 + i*1087)
				total += size
				if spans[i], err = pool.Alloc(size, 64); err != nil {
					t.Fatal(err)
				}
				if spans[i].Offset%64 != 0 {
					t.Errorf("span %d at %d", i, spans[i].Offset)
				}
			}
			if pool.UsedBytes() != total || pool.ReservedBytes() < total {
				t.Errorf("pool uses %d of %d, want %d", pool.UsedBytes(), pool.ReservedBytes(), total)
			}
			var wg sync.WaitGroup
			for w := range 4 {
				wg.Go(func() {
					for i := w; i < tensors; i += 4 {
						err := up.Write(spans[i], func(p []byte) error {
							if int64(len(p)) != spans[i].Size {
								return fmt.Errorf("given %d bytes for %d", len(p), spans[i].Size)
							}
							copy(p, noise(uint64(i), spans[i].Size))
							return nil
						})
						if err != nil {
							t.Error(err)
						}
						if w == 0 && i%8 == 0 { // beside the other writers
							if err := up.Flush(); err != nil {
								t.Error(err)
							}
						}
					}
				})
			}
			wg.Wait()
			if err := up.Flush(); err != nil {
				t.Fatal(err)
			}
			for i, s := range spans {
				if !bytes.Equal(read(t, d, s), noise(uint64(i), s.Size)) {
					t.Errorf("span %d differs", i)
				}
			}
			boom := errors.New("boom")
			if err := up.Write(spans[0], func([]byte) error { return boom }); err != boom {
				t.Errorf("error of fill: %v", err)
			}
			if err := up.Close(); err != nil {
				t.Error(err)
			}
		})
	}
}

// Reserve takes what its spans need, though two of them don't fit a block together.
func TestReservedPoolsHaveNothingLeftOver(t *testing.T) {
	d := gputest.Open(t)
	const mib = 1 << 20
	var sizes []int64
	var total int64
	for range 3 {
		sizes = append(sizes, 40*mib, mib/2, 9*mib, 70*mib, 256, 1)
	}
	for _, size := range sizes {
		total += (size + 255) &^ 255
	}
	before, err := d.Memory()
	if err != nil {
		t.Fatal(err)
	}
	pool := d.NewPool(vk.DeviceLocal, 64*mib)
	defer pool.Close()
	if err := pool.Reserve(256, sizes...); err != nil {
		t.Fatal(err)
	}
	var last vk.Span
	for i, size := range sizes {
		s, err := pool.Alloc(size, 256)
		if err != nil {
			t.Fatal(err)
		}
		if s.Size != size || s.Offset%256 != 0 || s.Buffer == last.Buffer && s.Offset < last.Offset+last.Size {
			t.Errorf("span %d: %d bytes at %d, want %d behind %d", i, s.Size, s.Offset, size, last.Offset+last.Size)
		}
		last = s
	}
	during, err := d.Memory()
	if err != nil {
		t.Fatal(err)
	}
	const rounding = 16 * 64 << 10 // of the driver, of fewer blocks than 16
	took := during.AllocatedBytes - before.AllocatedBytes
	if took != pool.ReservedBytes() || took > total+rounding || took < total-16*256 {
		t.Errorf("%d bytes taken, of them %d of the pool, for spans of %d", took, pool.ReservedBytes(), total)
	}
}

func TestReadIsStagedInChunks(t *testing.T) {
	d := gputest.OpenWith(t, gputest.Options{Device: vk.DeviceOptions{Staged: true}})
	const size = 5<<19 + 12 // two and a half chunks and 12 bytes
	src, dst := newBuffer(t, d, size, vk.Upload), newBuffer(t, d, size, vk.DeviceLocal)
	copy(src.Mapped(), noise(7, size))
	r := d.NewRecorder(vk.RecorderOptions{})
	r.Copy(dst.Whole(), src.Whole())
	c := finish(t, r)
	run(t, c)
	if s := c.Stats(); s.Copies != 1 || s.CopyBytes != size {
		t.Errorf("stats %+v", s)
	}
	if !bytes.Equal(read(t, d, dst.Whole()), noise(7, size)) {
		t.Error("bytes differ")
	}
}

func TestPoolGivesLargeSpansTheirOwnBlock(t *testing.T) {
	d := gputest.Open(t)
	pool := d.NewPool(vk.DeviceLocal, 4096)
	defer pool.Close()
	small, err := pool.Alloc(100, 0)
	if err != nil {
		t.Fatal(err)
	}
	large, err := pool.Alloc(10000, 256)
	if err != nil {
		t.Fatal(err)
	}
	again, err := pool.Alloc(100, 0)
	if err != nil {
		t.Fatal(err)
	}
	if large.Buffer == small.Buffer || again.Buffer != small.Buffer || again.Offset < 100 {
		t.Errorf("spans %+v %+v %+v", small, large, again)
	}
	for _, bad := range [][2]int64{{0, 16}, {-1, 16}, {16, 3}} {
		if _, err := pool.Alloc(bad[0], bad[1]); err == nil {
			t.Errorf("size %d, alignment %d accepted", bad[0], bad[1])
		}
	}
	pool.Close()
	if _, err := pool.Alloc(1, 1); !errors.Is(err, vk.ErrClosed) {
		t.Errorf("closed pool: %v", err)
	}
}

func TestMemoryCountsAllocations(t *testing.T) {
	d := gputest.Open(t)
	before, err := d.Memory()
	if err != nil {
		t.Fatal(err)
	}
	if before.TotalBytes <= 0 || before.FreeBytes > before.TotalBytes {
		t.Errorf("memory %+v", before)
	}
	b := newBuffer(t, d, 32<<20, vk.DeviceLocal)
	during, _ := d.Memory()
	if !before.Budget && before.FreeBytes-during.FreeBytes < 32<<20 {
		t.Errorf("free %d, then %d", before.FreeBytes, during.FreeBytes)
	}
	b.Close()
	if after, _ := d.Memory(); !before.Budget && after != before {
		t.Errorf("memory %+v, was %+v", after, before)
	}
}
