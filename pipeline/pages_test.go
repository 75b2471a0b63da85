package pipeline

import (
	"bytes"
	"testing"

	"pumice/pipeline/kernels"
)

// A page is all there is of its positions, in every layer of its pool, and nothing else.
func TestPagesAreCopiedWhole(t *testing.T) {
	m := newManager(t, Options{})
	for _, kind := range kernels.CacheTypes {
		t.Run(kind.String(), func(t *testing.T) {
			c, err := m.NewCache(CacheShape{
				DType: kind, Layers: 3, KVHeads: 2, HeadDim: 36, Positions: 4 * kernels.PageSize, Local: []bool{false, true, false},
				LocalPositions: 10, Pages: 7, LocalPages: 5, Float: []bool{false, false, true},
			})
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			var total int64
			for _, pool := range []struct {
				local bool
				pages int
			}{{false, 8}, {true, 6}} {
				total += int64(pool.pages) * c.PageBytes(pool.local)
				content := func(page int) []byte {
					b := make([]byte, c.PageBytes(pool.local))
					for i := range b {
						b[i] = byte(i*7 + page*31 + i/251)
					}
					return b
				}
				expect := func(what string, page int, want []byte) {
					t.Helper()
					got := make([]byte, len(want))
					if err := c.ReadPage(t.Context(), Page{pool.local, page}, got); err != nil || !bytes.Equal(got, want) {
						t.Errorf("%s: page %d (local %t) differs, %v", what, page, pool.local, err)
					}
				}
				for page := range pool.pages {
					if err := c.WritePage(t.Context(), Page{pool.local, page}, content(page)); err != nil {
						t.Fatal(err)
					}
				}
				for page := range pool.pages {
					expect("written", page, content(page))
				}
				at := func(page int) Page { return Page{pool.local, page} }
				if err := c.CopyPages(t.Context(), PageCopy{at(1), at(4)}, PageCopy{at(4), at(0)}); err != nil {
					t.Fatal(err)
				}
				for page, from := range []int{1, 1, 2, 3, 1} {
					expect("copied", page, content(from))
				}
			}
			if total > c.Bytes || c.Bytes-total > 6*weightAlign {
				t.Errorf("pages have %d bytes together, the cache %d", total, c.Bytes)
			}
			wantError(t, "page", c.ReadPage(t.Context(), Page{true, 6}, nil), "page 6 of a pool of 6")
			wantError(t, "size", c.ReadPage(t.Context(), Page{true, 5}, make([]byte, 3)), "3 bytes for a page of")
			wantError(t, "pools", c.CopyPages(t.Context(), PageCopy{Page{false, 1}, Page{true, 1}}), "another pool")
		})
	}
}
