//go:build lab

package lab

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"pumice/pipeline"
	"pumice/shaders"
)

func TestApply(t *testing.T) {
	defer func() {
		_ = Apply("", "matvecSubgroups=4 decodeWorkgroups=512 bufferBarriers=0 walkers=0 prefetch=0 split=0")
	}()
	before, err := shaders.Hash()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "add.spv"), []byte("another kernel"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := Apply(dir, "matvecSubgroups=8 bufferBarriers=1 walkers=3 prefetch=4 split=5"); err != nil || !pipeline.BufferBarriers ||
		pipeline.Walkers != 3 || pipeline.PrefetchBytes != 4 || pipeline.SplitBytes != 5 {
		t.Errorf("error %v, barriers of buffers %t, %d walkers, %d bytes prefetched, %d at split barriers", err, pipeline.BufferBarriers,
			pipeline.Walkers, pipeline.PrefetchBytes, pipeline.SplitBytes)
	}
	list, err := shaders.Variants()
	if err != nil {
		t.Fatal(err)
	}
	for _, v := range list {
		if replaced := string(v.SPIRV) == "another kernel"; replaced != (v.Name == "add") {
			t.Errorf("%s: replaced %t", v.Name, replaced)
		}
	}
	if after, err := shaders.Hash(); err != nil || after == before {
		t.Errorf("the hash of the kernels is still %s (%v)", after, err)
	}
	for _, wrong := range []string{"matvecSubgroups", "matvecSubgroups=0", "matvecSubgroups=4,4", "matrixTile=4", "prefetch=1,2", "other=1"} {
		if err := Apply("", wrong); err == nil || !strings.Contains(err.Error(), strings.Split(wrong, "=")[0]) {
			t.Errorf("%s: error %v", wrong, err)
		}
	}
}
