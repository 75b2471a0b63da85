package kernels

import (
	"testing"

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
