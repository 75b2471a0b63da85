package verify

import (
	"encoding/binary"
	"os"
	"slices"
	"strings"
	"testing"

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
}

// stages name the stage in PUMICE_TEST_STAGE. A kernel computes the same on every driver, so that each is verified on one for every
// size of a subgroup, on the default one at all shapes. SwiftShader, which shares no code with Mesa, has those that run anywhere
// besides, and its own integer dot products.
var stages = []stage{
	{"lavapipe", 8, mesa22, []kernels.Path{kernels.Base, kernels.Row, kernels.SG, kernels.Few, kernels.FP16, kernels.DP}},
	{"lavapipe-128", 4, mesa22[1:], []kernels.Path{kernels.SG, kernels.Few}},
	{"lavapipe-512", 16, mesa22[1:], []kernels.Path{kernels.SG, kernels.Few}},
	{"lavapipe-26", 8, slices.Concat(mesa22, mesa26), []kernels.Path{kernels.Addr, kernels.CM}},
	{"lavapipe-26-128", 4, slices.Concat(mesa22[1:], mesa26[:1]), []kernels.Path{kernels.Addr}},
	{"lavapipe-26-512", 16, slices.Concat(mesa22[1:], mesa26[:1]), []kernels.Path{kernels.Addr}},
	{"swiftshader", 4, mesa22[1:6], []kernels.Path{kernels.Base, kernels.DP}},
}

var (
	mesa22 = []string{"lane8", "subgroup", "shuffle", "full", "team", "dot8", "fp16"}
	// Beside those. With 4 lanes there are no matrices; with 16 Mesa 26.1.6 lists them and crashes in compiling kernels with them.
	mesa26 = []string{"address", "coopmat"}
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

func variants(t *testing.T) []shaders.Variant {
	t.Helper()
	list, err := shaders.Variants()
	if err != nil {
		t.Fatal(err)
	}
	return list
}

// Between them the stages verify every row of shaders/variants.txt, at every size of a subgroup that one of their drivers can run it with.
// The size makes no difference to a kernel that has no subgroup operation.
func TestStagesCoverEveryKernel(t *testing.T) {
	for _, v := range variants(t) {
		possible, covered := map[int]bool{}, map[int]bool{}
		for _, s := range stages {
			lanes := s.lanes
			if !usesSubgroups(v.SPIRV) {
				lanes = 0
			}
			if s.runs(v) {
				possible[lanes] = true
				covered[lanes] = covered[lanes] || slices.Contains(s.paths, kernels.PathOf(v.Name))
			}
		}
		if len(possible) == 0 {
			t.Errorf("%s: no stage runs what needs %v", v.Name, v.Needs)
		}
		for lanes := range possible {
			if !covered[lanes] {
				t.Errorf("%s: no stage verifies it with subgroups of %d", v.Name, lanes)
			}
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
