package verify

import (
	"encoding/binary"
	"os"
	"slices"
	"strings"
	"testing"

	"pumice/internal/dtype"
	"pumice/pipeline"
	"pumice/pipeline/kernels"
	"pumice/shaders"
)

// A stage is one driver of tools/test.sh, with one size of its subgroups, and what TestVerify shows there.
type stage struct {
	name  string
	lanes int            // of a subgroup
	has   []string       // needs of shaders/variants.txt that the driver meets
	paths []kernels.Path // whose kernels are verified
	types []dtype.DType  // of weights and KV cache that they read; nil: all
}

// stages name the stage in PUMICE_TEST_STAGE. A kernel computes the same on every driver, so that each is verified on one for every
// size of a subgroup, on the default one at all shapes. What an addr kernel makes of a type's bits does not depend on the size, so
// that at other sizes one type of each form of units and records is enough. SwiftShader, which shares no code with Mesa, has those
// that run anywhere besides, and its own integer dot products.
var stages = []stage{
	{"lavapipe", 8, mesa22, []kernels.Path{kernels.Base, kernels.Row, kernels.SG, kernels.Few, kernels.FP16, kernels.DP, kernels.DP2}, nil},
	{"lavapipe-128", 4, mesa22[1:], []kernels.Path{kernels.SG, kernels.Few}, nil},
	{"lavapipe-512", 16, mesa22[1:], []kernels.Path{kernels.SG, kernels.Few, kernels.DP2}, nil},
	{"lavapipe-26", 8, slices.Concat(mesa22, mesa26), []kernels.Path{kernels.Addr, kernels.CM, kernels.CM2E}, nil},
	{"lavapipe-26-128", 4, slices.Concat(mesa22[1:], mesa26[:1]), []kernels.Path{kernels.Addr}, forms},
	{"lavapipe-26-512", 16, slices.Concat(mesa22[1:], mesa26[:1]), []kernels.Path{kernels.Addr}, forms},
	{"swiftshader", 4, mesa22[1:6], []kernels.Path{kernels.Base, kernels.DP, kernels.DP2}, nil},
}

var (
	mesa22 = []string{"lane8", "subgroup", "shuffle", "full", "team", "dot8", "fp16"}
	// Beside those. With 4 lanes there are no matrices; with 16 Mesa 26.1.6 lists them and crashes in compiling kernels with them.
	mesa26 = []string{"address", "coopmat", "coopmat2e"}
	// Units without records, with a half, with the halves of two units in a word, and with words of which a unit needs some.
	forms = []dtype.DType{dtype.F16, dtype.Q8_0, dtype.Q5_0, dtype.Q6_K}
)

// thisStage is the stage that runs, if one does.
func thisStage(t *testing.T) *stage {
	t.Helper()
	name := os.Getenv("PUMICE_TEST_STAGE")
	if name == "" {
		return nil
	}
	i := slices.IndexFunc(stages, func(s stage) bool { return s.name == name })
	if i < 0 {
		t.Fatalf("PUMICE_TEST_STAGE names no stage: %q", name)
	}
	return &stages[i]
}

// runs reports whether the stage's driver has what a kernel needs.
func (s stage) runs(v shaders.Variant) bool {
	return !slices.ContainsFunc(v.Needs, func(need string) bool { return !slices.Contains(s.has, need) })
}

// check compares a device with the row of its stage in the table.
func (s stage) check(t *testing.T, m *pipeline.Manager) {
	t.Helper()
	if lanes := m.Device().PhysicalDevice().Limits.SubgroupSize; lanes != s.lanes {
		t.Errorf("stage %s: subgroups of %d, want %d", s.name, lanes, s.lanes)
	}
	runnable := m.Variants()
	for _, v := range variants(t) {
		if s.runs(v) && !slices.Contains(runnable, v.Name) {
			t.Errorf("stage %s: the device does not run %s, which needs %v", s.name, v.Name, v.Needs)
		}
	}
}

func variants(t testing.TB) []shaders.Variant {
	t.Helper()
	list, err := shaders.Variants()
	if err != nil {
		t.Fatal(err)
	}
	return list
}

// verifies reports whether the kernel is among those of the stage.
func (s stage) verifies(v shaders.Variant) bool {
	other := func(define string) bool {
		kind, weights := strings.CutPrefix(define, "W_")
		kind, cache := strings.CutPrefix(kind, "KV_")
		return (weights || cache) && !slices.ContainsFunc(s.types, func(t dtype.DType) bool { return t.String() == kind })
	}
	return s.runs(v) && slices.Contains(s.paths, kernels.PathOf(v.Name)) && (s.types == nil || !slices.ContainsFunc(v.Defines, other))
}

// standIn is the kernel that is verified for another, which no driver runs.
func standIn(v shaders.Variant) string {
	path := kernels.PathOf(v.Name)
	for _, k := range kernels.Matmul.Kernels {
		if k.StandsFor == path {
			return k.Path.Variant(strings.TrimSuffix(v.Name, "_"+string(path)))
		}
	}
	return v.Name
}

// Between them the stages verify every row of shaders/variants.txt, or what stands for it, and every source at every size of a subgroup that one of their
// drivers can run it with. The size makes no difference to a kernel that has no subgroup operation.
func TestStagesCoverEveryKernel(t *testing.T) {
	type sized struct {
		source string
		lanes  int
	}
	possible, covered := map[sized]bool{}, map[sized]bool{}
	list := variants(t)
	for _, v := range list {
		verified := func(o shaders.Variant) bool {
			return o.Name == standIn(v) && o.Source == v.Source && slices.ContainsFunc(stages, func(s stage) bool { return s.verifies(o) })
		}
		if !slices.ContainsFunc(list, verified) {
			t.Errorf("%s, which needs %v: no stage verifies it", v.Name, v.Needs)
		}
		for _, s := range stages {
			at := sized{v.Source, s.lanes}
			if s.runs(v) && usesSubgroups(v.SPIRV) {
				possible[at] = true
				covered[at] = covered[at] || s.verifies(v)
			}
		}
	}
	for at := range possible {
		if !covered[at] {
			t.Errorf("%s: no stage verifies a kernel of it with subgroups of %d", at.source, at.lanes)
		}
	}
}

// usesSubgroups reports whether a module declares a capability of subgroup operations. Without one it cannot tell their size.
func usesSubgroups(spirv []byte) bool {
	const header, opCapability = 5, 17
	word := func(i int) uint32 { return binary.LittleEndian.Uint32(spirv[4*i:]) }
	for i := header; 4*i < len(spirv) && word(i)&0xffff == opCapability; i += int(word(i) >> 16) {
		switch capability := word(i + 1); {
		case capability >= 61 && capability <= 68: // GroupNonUniform to GroupNonUniformQuad
			return true
		case capability == 6022: // CooperativeMatrixKHR, which a subgroup shares
			return true
		}
	}
	return false
}

func TestUsesSubgroups(t *testing.T) {
	for _, v := range variants(t) {
		needs := strings.Join(v.Needs, " ")
		want := strings.Contains(needs, "lane8") || strings.Contains(needs, "subgroup") || strings.Contains(needs, "shuffle") ||
			strings.Contains(needs, "coopmat")
		if got := usesSubgroups(v.SPIRV); got != want && !strings.Contains(needs, "address") {
			t.Errorf("%s needs %q; uses subgroups: %t", v.Name, needs, got)
		}
	}
}
