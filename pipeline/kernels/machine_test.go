package kernels

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"pumice/internal/dtype"
	"pumice/vk"
)

func TestRowKernelsNeedEightLanes(t *testing.T) {
	device := func(kind vk.DeviceType, size, least, most int, control bool) *vk.PhysicalDevice {
		return &vk.PhysicalDevice{
			Type:     kind,
			Limits:   vk.Limits{SubgroupSize: size, MinSubgroupSize: least, MaxSubgroupSize: most},
			Features: vk.Features{SubgroupBasic: true, SubgroupShuffle: true, SubgroupSizeControl: control},
		}
	}
	for _, c := range []struct {
		name string
		pd   *vk.PhysicalDevice
		want bool
	}{
		{"CPU, eight alone", device(vk.CPU, 8, 8, 8, false), true},
		{"CPU, four alone", device(vk.CPU, 4, 4, 4, true), false},
		{"CPU, sixteen, eight on demand", device(vk.CPU, 16, 8, 16, true), false},
		{"CPU, eight by default", device(vk.CPU, 8, 4, 16, true), true},
		{"GPU, eight on demand", device(vk.Integrated, 32, 8, 32, true), true},
		{"GPU, varying without control", device(vk.Integrated, 8, 8, 32, false), false},
		{"GPU, thirty-two", device(vk.Discrete, 32, 32, 64, true), false},
	} {
		if got := hasLane8(c.pd); got != c.want {
			t.Errorf("%s: %t, want %t", c.name, got, c.want)
		}
	}
}

func TestAddrKernelsNeedScalarLoads(t *testing.T) {
	device := func(kind vk.DeviceType, driver string, major uint32, features vk.Features) *vk.PhysicalDevice {
		return &vk.PhysicalDevice{Type: kind, Driver: driver, DriverVersion: major << 22, Features: features}
	}
	all := vk.Features{BufferDeviceAddress: true, ShaderInt64: true, SubgroupBasic: true}
	for _, c := range []struct {
		name string
		pd   *vk.PhysicalDevice
		want bool
	}{
		{"lavapipe 26", device(vk.CPU, "llvmpipe", 26, all), true},
		{"lavapipe 22", device(vk.CPU, "llvmpipe", 22, all), false},
		{"lavapipe 26 without addresses", device(vk.CPU, "llvmpipe", 26, vk.Features{ShaderInt64: true, SubgroupBasic: true}), false},
		{"another CPU driver", device(vk.CPU, "SwiftShader driver", 26, all), false},
		{"GPU", device(vk.Discrete, "radv", 26, all), false},
	} {
		if got := hasAddresses(c.pd); got != c.want {
			t.Errorf("%s: %t, want %t", c.name, got, c.want)
		}
	}
}

func TestTeamHasSixteenBytesALane(t *testing.T) {
	for _, c := range []struct {
		t             DType
		headDim, want int
	}{
		{dtype.F16, 128, 16}, {dtype.F16, 64, 8}, {dtype.F16, 256, 32}, {dtype.F32, 128, 32}, {dtype.Q8_0, 128, 8}, {dtype.Q8_0, 16, 1},
		{dtype.F16, 80, 16}, {dtype.F16, 96, 16}, {dtype.F16, 112, 16}, {dtype.F16, 192, 32}, {dtype.F16, 4, 0}, {dtype.F32, 256, 0},
		{dtype.F32, 80, 32}, {dtype.Q8_0, 80, 8}, {dtype.Q8_0, 96, 8},
	} {
		if got := decodeTeam(c.t, c.headDim); got != c.want {
			t.Errorf("%s, heads of %d: %d lanes, want %d", c.t, c.headDim, got, c.want)
		}
	}
}

// The H200 has 132 multiprocessors, each with room for some four workgroups.
func TestDecodingIsSplitBetweenManyWorkgroups(t *testing.T) {
	for _, c := range []struct{ groups, positions, window, want int }{
		{32, 4096, 0, 16}, {8, 4096, 0, 32}, {32, 128, 0, 1}, {32, 100, 0, 1}, {4, 4096, 512, 4}, {1024, 8192, 0, 1},
	} {
		a := Attention{Type: dtype.F16, Heads: c.groups, KVHeads: c.groups, HeadDim: 128, Positions: c.positions, Window: c.window}
		if got := NewMachine(&vk.PhysicalDevice{Type: vk.Discrete}).splits(SG, a); got != c.want {
			t.Errorf("%d groups, %d positions, window %d: %d splits, want %d", c.groups, c.positions, c.window, got, c.want)
		}
	}
}

// flexible is a device with VK_NV_cooperative_matrix2, as NVIDIA's driver has it, and shapes.
func flexible(shapes ...vk.FlexibleShape) *vk.PhysicalDevice {
	return &vk.PhysicalDevice{
		Type: vk.Discrete, APIVersion: vk.Version(1<<22 | 4<<12),
		Features: vk.Features{ShaderFloat16: true, StorageBuffer16Bit: true, VulkanMemoryModel: true, Maintenance4: true, BufferDeviceAddress: true,
			MatrixPerElement: true, MatrixTensors: true, MatrixBlockLoads: true, FlexibleMatrix: shapes},
	}
}

// flexibleShape is float16 summed in float32.
func flexibleShape(m, n, k, invocations int) vk.FlexibleShape {
	return vk.FlexibleShape{MatrixShape: vk.MatrixShape{M: m, N: n, K: k, A: vk.Float16, B: vk.Float16, C: vk.Float32, Result: vk.Float32}, Invocations: invocations}
}

func TestMatricesOfWorkgroupsNeedTheWholeExtension(t *testing.T) {
	halves := flexibleShape(32, 32, 16, 256)
	halves.C, halves.Result = vk.Float16, vk.Float16
	for _, c := range []struct {
		name   string
		change func(pd *vk.PhysicalDevice)
		want   bool
	}{
		{"all of it", func(*vk.PhysicalDevice) {}, true},
		{"no tensors", func(pd *vk.PhysicalDevice) { pd.Features.MatrixTensors = false }, false},
		{"no blocks", func(pd *vk.PhysicalDevice) { pd.Features.MatrixBlockLoads = false }, false},
		{"no functions", func(pd *vk.PhysicalDevice) { pd.Features.MatrixPerElement = false }, false},
		{"no addresses", func(pd *vk.PhysicalDevice) { pd.Features.BufferDeviceAddress = false }, false},
		{"no float16 in memory", func(pd *vk.PhysicalDevice) { pd.Features.StorageBuffer16Bit = false }, false},
		{"Vulkan 1.2", func(pd *vk.PhysicalDevice) { pd.APIVersion = vk.Version(1<<22 | 2<<12) }, false},
		{"sums in float16", func(pd *vk.PhysicalDevice) { pd.Features.FlexibleMatrix = []vk.FlexibleShape{halves} }, false},
		{"of a subgroup", func(pd *vk.PhysicalDevice) {
			pd.Features.FlexibleMatrix = []vk.FlexibleShape{flexibleShape(16, 16, 16, 0)}
		}, false},
	} {
		pd := flexible(flexibleShape(32, 32, 16, 256))
		c.change(pd)
		m := NewMachine(pd)
		if m.Has([]string{"coopmat2"}) != c.want || m.Has([]string{"coopmat2e"}) {
			t.Errorf("%s: coopmat2 %t, coopmat2e %t; want %t, false", c.name, m.Has([]string{"coopmat2"}), m.Has([]string{"coopmat2e"}), c.want)
		}
	}
	cpu := flexible(flexibleShape(8, 8, 8, 0))
	cpu.Type = vk.CPU
	if m := NewMachine(cpu); !m.Has([]string{"coopmat2e"}) || m.Has([]string{"coopmat2"}) {
		t.Error("a CPU driver with matrices of a subgroup has no coopmat2e, or coopmat2")
	}
}

func TestTilesOfWorkgroups(t *testing.T) {
	small, large := flexibleShape(32, 16, 16, 128), flexibleShape(32, 32, 16, 256)
	for _, c := range []struct {
		shapes       []vk.FlexibleShape
		rows, tokens int
		want         *flexibleTile
	}{
		{[]vk.FlexibleShape{small, large}, 22016, 512, &flexibleTile{128, 128, 64, 256}},
		{[]vk.FlexibleShape{small, large}, 4096, 512, &flexibleTile{64, 64, 64, 128}},
		{[]vk.FlexibleShape{small, large}, 22016, 32, &flexibleTile{64, 32, 64, 128}},
		{[]vk.FlexibleShape{small, large}, 22016, 9, &flexibleTile{32, 16, 64, 128}},
		{[]vk.FlexibleShape{large}, 4096, 9, &flexibleTile{128, 128, 64, 256}},
		{[]vk.FlexibleShape{flexibleShape(64, 32, 16, 128)}, 4096, 9, &flexibleTile{64, 32, 64, 128}},
		{[]vk.FlexibleShape{flexibleShape(256, 16, 16, 128)}, 4096, 9, nil},
	} {
		got := NewMachine(flexible(c.shapes...)).workgroupTile(Product{Packed: Packed{Rows: c.rows}, Tokens: c.tokens})
		if diff := cmp.Diff(c.want, got, cmp.AllowUnexported(flexibleTile{})); diff != "" {
			t.Errorf("%v, %d rows, %d tokens: %s", c.shapes, c.rows, c.tokens, diff)
		}
	}
}

func TestNoRuleChoosesUnprovenKernels(t *testing.T) {
	for _, k := range Matmul.Kernels {
		if (k.Unproven || k.StandsFor != "") && k.Rule.On != OnRequest {
			t.Errorf("%s is unproven, or there for checks alone, and a rule chooses it: %+v", k.Path, k.Rule)
		}
	}
}

// TestAttentionByMatrices: which heads attention_cm takes, and where it holds less at once: on Intel's GPUs, and on a CPU driver
// for some heads, so that both ways are checked.
func TestAttentionByMatrices(t *testing.T) {
	device := func(kind vk.DeviceType, vendor uint32, least, most, rows, cols int) *vk.PhysicalDevice {
		return &vk.PhysicalDevice{
			Type: kind, VendorID: vendor,
			Limits: vk.Limits{SubgroupSize: most, MinSubgroupSize: least, MaxSubgroupSize: most, MaxComputeSharedMemorySize: 48 << 10, MaxComputeWorkGroupInvocations: 1024},
			Features: vk.Features{SubgroupSizeControl: true, ShaderFloat16: true, VulkanMemoryModel: true,
				CooperativeMatrix: []vk.MatrixShape{{M: rows, N: cols, K: 16, A: vk.Float16, B: vk.Float16, C: vk.Float32, Result: vk.Float32}}},
		}
	}
	hopper, xe2, cpu := device(vk.Discrete, vendorNVIDIA, 32, 32, 16, 16), device(vk.Discrete, vendorIntel, 16, 32, 8, 16), device(vk.CPU, 0, 8, 8, 8, 8)
	for _, c := range []struct {
		name              string
		pd                *vk.PhysicalDevice
		headDim           int
		slopes            bool
		takes, few        bool
		workgroup, blocks int // of queries
	}{
		{"NVIDIA", hopper, 128, true, true, false, 128, 8},
		{"Xe2", xe2, 128, false, true, true, 128, 8},
		{"Xe2 with slopes", xe2, 128, true, false, true, 128, 8},
		{"Xe2 with slopes", xe2, 96, true, true, true, 128, 8},
		{"CPU", cpu, 80, false, true, false, 64, 8},
		{"CPU", cpu, 96, false, true, true, 64, 8},
		{"large heads", hopper, 256, false, false, false, 128, 8},
	} {
		m, k := NewMachine(c.pd), Attend.Of(CM)
		a := Attention{Type: dtype.F16, Tokens: 512, Heads: 8, KVHeads: 8, HeadDim: c.headDim, Slopes: c.slopes}
		spec := map[string]uint32{}
		for _, x := range k.Spec(m, a) {
			spec[x.Name] = x.Value
		}
		if takes := k.Takes(m, a); takes != c.takes || spec["FEW_REGISTERS"] == 1 != c.few || int(spec["WORKGROUP"]) != c.workgroup || k.Grid(m, a)[0] != c.blocks {
			t.Errorf("%s, heads of %d: takes them: %t, %v, %d workgroups; want %+v", c.name, c.headDim, takes, spec, k.Grid(m, a)[0], c)
		}
	}
}
