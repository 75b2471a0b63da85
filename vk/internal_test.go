package vk

import (
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestSelect(t *testing.T) {
	discrete := &PhysicalDevice{Index: 2, Name: "AMD Radeon RX 7900 XT (RADV NAVI31)", Type: Discrete, UUID: [16]byte{0xab, 15: 1}}
	integrated := &PhysicalDevice{Index: 1, Name: "AMD Radeon 780M (RADV PHOENIX)", Type: Integrated, UUID: [16]byte{0xab, 15: 2}}
	cpu := &PhysicalDevice{Index: 0, Name: "llvmpipe (LLVM 15.0.6, 256 bits)", Type: CPU, UUID: [16]byte{15: 3}}
	virtual := &PhysicalDevice{Index: 3, Name: "Virtio-GPU Venus", Type: Virtual}
	twin := &PhysicalDevice{Index: 4, Name: discrete.Name, Type: Discrete, UUID: [16]byte{0xab, 15: 4}}
	for _, test := range []struct {
		name, selector string
		devices        []*PhysicalDevice
		want           *PhysicalDevice
		err            string
	}{
		{"none", "", nil, nil, "no Vulkan device"},
		{"best is discrete", "", []*PhysicalDevice{cpu, integrated, discrete}, discrete, ""},
		{"integrated before virtual", "", []*PhysicalDevice{cpu, virtual, integrated}, integrated, ""},
		{"CPU last", "", []*PhysicalDevice{cpu, virtual}, virtual, ""},
		{"CPU when alone", "", []*PhysicalDevice{cpu}, cpu, ""},
		{"first of equals", "", []*PhysicalDevice{cpu, discrete, twin}, discrete, ""},
		{"index", "0", []*PhysicalDevice{cpu, integrated, discrete}, cpu, ""},
		{"index out of range, in a name", "7900", []*PhysicalDevice{cpu, integrated, discrete}, discrete, ""},
		{"index out of range", "9", []*PhysicalDevice{cpu}, nil, `no device matches "9"`},
		{"name part, any case", "LLVMPIPE", []*PhysicalDevice{cpu, integrated}, cpu, ""},
		{"ambiguous", "radeon", []*PhysicalDevice{cpu, integrated, discrete}, nil, `"radeon" matches 2 devices`},
		{"whole name of twins", discrete.Name, []*PhysicalDevice{discrete, twin}, nil, "matches 2 devices"},
		{"UUID", "ab000000000000000000000000000004", []*PhysicalDevice{discrete, twin}, twin, ""},
		{"UUID with dashes", "AB000000-0000-0000-0000-000000000001", []*PhysicalDevice{discrete, twin}, discrete, ""},
		{"unknown lists devices", "geforce", []*PhysicalDevice{cpu}, nil, "devices: 0 = llvmpipe (LLVM 15.0.6, 256 bits) (cpu, 00000000000000000000000000000003)"},
	} {
		got, err := Select(test.devices, test.selector)
		if test.err == "" && (err != nil || got != test.want) {
			t.Errorf("%s: %v, %v", test.name, got, err)
		}
		if test.err != "" && (!errors.Is(err, ErrNoDevice) || !strings.Contains(err.Error(), test.err)) {
			t.Errorf("%s: error %v, want one with %q", test.name, err, test.err)
		}
	}
}

func TestChooseFamilies(t *testing.T) {
	const graphics, compute, transfer, sparse, video = 1, 2, 4, 8, 0x20
	for _, test := range []struct {
		name              string
		flags             []uint32
		compute, transfer int
	}{
		{"lavapipe", []uint32{graphics | compute | transfer}, 0, -1},
		{"NVIDIA", []uint32{graphics | compute | transfer | sparse, transfer | sparse, compute | transfer | sparse, transfer | video}, 0, 1},
		{"AMD", []uint32{graphics | compute | transfer, compute | transfer, transfer}, 0, 2},
		{"no compute", []uint32{transfer, video}, -1, 0},
		{"graphics alone first", []uint32{graphics, compute}, 1, -1},
	} {
		c, x := chooseFamilies(test.flags)
		if c != test.compute || x != test.transfer {
			t.Errorf("%s: compute %d, transfer %d; want %d, %d", test.name, c, x, test.compute, test.transfer)
		}
	}
}

func TestMemoryTypeChoice(t *testing.T) {
	const gib = 1 << 30
	const local, visible, coherent, cached = 1, 2, 4, 8
	type devices struct {
		types memoryTypes
		heaps []Heap
	}
	small := devices{ // a discrete device that maps 256 MiB of its memory for the host
		memoryTypes{{local, 0}, {visible | coherent, 1}, {local | visible | coherent, 2}, {visible | coherent | cached, 1}, {local | 0x40, 0}},
		[]Heap{{16 * gib, true}, {32 * gib, false}, {gib / 4, true}},
	}
	rebar := devices{
		memoryTypes{{local, 0}, {visible | coherent, 1}, {local | visible | coherent, 0}, {visible | coherent | cached, 1}},
		[]Heap{{16 * gib, true}, {32 * gib, false}},
	}
	cpu := devices{memoryTypes{{local | visible | coherent | cached, 0}}, []Heap{{2 * gib, true}}}
	for _, test := range []struct {
		name string
		d    devices
		use  MemoryUse
		bits uint32
		want []int
	}{
		{"small window, weights", small, DeviceLocal, ^uint32(0), []int{0, 2}},
		{"small window, upload", small, Upload, ^uint32(0), []int{2, 1, 3}},
		{"small window, readback", small, Readback, ^uint32(0), []int{3, 1, 2}},
		{"small window, staging", small, staging, ^uint32(0), []int{1, 3, 2}},
		{"resizable BAR, weights", rebar, DeviceLocal, ^uint32(0), []int{2, 0}},
		{"resizable BAR, not that type", rebar, DeviceLocal, 0b1011, []int{0}},
		{"CPU", cpu, DeviceLocal, 1, []int{0}},
		{"CPU, readback", cpu, Readback, 1, []int{0}},
		{"CPU, staging", cpu, staging, 1, []int{0}},
	} {
		if diff := cmp.Diff(test.want, test.d.types.candidates(test.bits, test.use, test.d.heaps)); diff != "" {
			t.Errorf("%s: %s", test.name, diff)
		}
	}
}

func TestErrorsAreTypedAndNamed(t *testing.T) {
	for _, test := range []struct {
		err  *Error
		is   error
		text string
	}{
		{&Error{"vkAllocateMemory", ErrorOutOfDevice, "16.0 GiB"}, ErrOutOfDeviceMemory, "vk: vkAllocateMemory (16.0 GiB): out of device memory"},
		{&Error{"vkQueueSubmit", ErrorDeviceLost, ""}, ErrDeviceLost, "vk: vkQueueSubmit: device lost"},
		{&Error{"vkMapMemory", ErrorOutOfHostMemory, ""}, ErrOutOfHostMemory, "vk: vkMapMemory: out of host memory"},
		{&Error{"vkCreateInstance", ErrorIncompatible, ""}, ErrNoDevice, "vk: vkCreateInstance: incompatible driver"},
		{&Error{"vkCreateInstance", ErrorLayerMissing, ""}, ErrNoValidation, "vk: vkCreateInstance: layer not present"},
		{&Error{"vkX", -12345, ""}, nil, "vk: vkX: VkResult -12345"},
	} {
		if got := test.err.Error(); got != test.text {
			t.Errorf("%q, want %q", got, test.text)
		}
		for _, sentinel := range []error{ErrNoDevice, ErrDeviceLost, ErrOutOfDeviceMemory, ErrOutOfHostMemory, ErrNoValidation, ErrClosed, ErrLimit} {
			if errors.Is(test.err, sentinel) != (sentinel == test.is) {
				t.Errorf("%v is %v: %v", test.err, sentinel, !(sentinel == test.is))
			}
		}
	}
}

func TestCacheFileBelongsToOneDriver(t *testing.T) {
	a := &PhysicalDevice{VendorID: 1, DeviceID: 2, DriverVersion: 3, cacheUUID: [16]byte{4}}
	data := []byte("compiled")
	file := encodeCache(cacheKey(a), "kernels", data)
	got, err := decodeCache(file, cacheKey(a), "kernels")
	if err != nil || string(got) != string(data) {
		t.Fatalf("%q, %v", got, err)
	}
	for name, b := range map[string]*PhysicalDevice{
		"vendor": {VendorID: 9, DeviceID: 2, DriverVersion: 3, cacheUUID: [16]byte{4}},
		"device": {VendorID: 1, DeviceID: 9, DriverVersion: 3, cacheUUID: [16]byte{4}},
		"driver": {VendorID: 1, DeviceID: 2, DriverVersion: 9, cacheUUID: [16]byte{4}},
		"uuid":   {VendorID: 1, DeviceID: 2, DriverVersion: 3, cacheUUID: [16]byte{9}},
	} {
		if _, err := decodeCache(file, cacheKey(b), "kernels"); err == nil {
			t.Errorf("%s differs, cache accepted", name)
		}
	}
	if _, err := decodeCache(file, cacheKey(a), "other kernels"); err == nil {
		t.Error("cache of other kernels accepted")
	}
	for n := range file {
		if _, err := decodeCache(file[:n], cacheKey(a), "kernels"); err == nil {
			t.Errorf("cache of %d of %d bytes accepted", n, len(file))
		}
	}
}
