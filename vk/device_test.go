package vk_test

import (
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"pumice/internal/gputest"
	"pumice/vk"
)

func TestDeviceLostSticks(t *testing.T) {
	d := gputest.Open(t)
	b := newBuffer(t, d, 64, vk.DeviceLocal)
	r := d.NewRecorder(vk.RecorderOptions{})
	r.Fill(b.Whole(), 0)
	c := finish(t, r)
	d.FailNextSubmit(vk.ErrorDeviceLost)
	err := c.Run(ctx)
	var e *vk.Error
	if !errors.As(err, &e) || e.Call != "vkQueueSubmit" || !errors.Is(err, vk.ErrDeviceLost) || errors.Is(err, vk.ErrNoDevice) {
		t.Errorf("error %v", err)
	}
	if err := c.Run(ctx); !errors.Is(err, vk.ErrDeviceLost) {
		t.Errorf("the loss did not stick: %v", err)
	}
	if _, err := d.NewBuffer(64, vk.DeviceLocal); !errors.Is(err, vk.ErrDeviceLost) {
		t.Errorf("buffer on a lost device: %v", err)
	}
	if err := d.Read(b.Whole(), make([]byte, 64)); !errors.Is(err, vk.ErrDeviceLost) {
		t.Errorf("read from a lost device: %v", err)
	}
}

func TestSubmitOutOfMemoryDoesNotStick(t *testing.T) {
	d := gputest.Open(t)
	r := d.NewRecorder(vk.RecorderOptions{})
	c := finish(t, r)
	d.FailNextSubmit(vk.ErrorOutOfHostMemory)
	if err := c.Run(ctx); !errors.Is(err, vk.ErrOutOfHostMemory) {
		t.Errorf("error %v", err)
	}
	run(t, c)
}

func TestTooLargeBufferNamesTheSizes(t *testing.T) {
	d := gputest.Open(t)
	var heap int64
	for _, h := range d.PhysicalDevice().Heaps {
		heap = max(heap, h.Bytes)
	}
	limit := d.PhysicalDevice().Limits.MaxBufferSize
	_, err := d.NewBuffer(limit+1, vk.DeviceLocal)
	if !errors.Is(err, vk.ErrLimit) {
		t.Errorf("over the limit: %v", err)
	}
	if limit <= heap {
		t.Skipf("buffers are limited to %d bytes, below the heap", limit)
	}
	want := vk.ErrOutOfDeviceMemory
	if d.PhysicalDevice().Limits.MaxMemoryAllocationSize <= heap {
		want = vk.ErrLimit // the driver is not asked
	}
	if _, err = d.NewBuffer(heap+1, vk.DeviceLocal); !errors.Is(err, want) || !strings.Contains(err.Error(), "GiB") {
		t.Errorf("over the heap: %v, want %v", err, want)
	}
	for _, size := range []int64{0, -1} {
		if _, err := d.NewBuffer(size, vk.DeviceLocal); err == nil {
			t.Errorf("buffer of %d bytes", size)
		}
	}
}

func TestBadPipelinesAreRefused(t *testing.T) {
	d := gputest.Open(t)
	l := d.PhysicalDevice().Limits
	good := spirv(t, "add")
	for _, test := range []struct {
		name string
		c    vk.PipelineConfig
	}{
		{"empty", vk.PipelineConfig{}},
		{"text", vk.PipelineConfig{SPIRV: []byte("#version 450, no SPIR-V at all")}},
		{"half a word", vk.PipelineConfig{SPIRV: good[:len(good)-1]}},
		{"push constants", vk.PipelineConfig{SPIRV: good, PushBytes: l.MaxPushConstantsSize + 4}},
		{"odd push constants", vk.PipelineConfig{SPIRV: good, PushBytes: 7}},
		{"bindings", vk.PipelineConfig{SPIRV: good, Bindings: make([]vk.BindingKind, 33)}},
		{"constants", vk.PipelineConfig{SPIRV: good, Spec: make([]uint32, 65)}},
	} {
		test.c.Name = test.name
		if _, err := d.NewPipeline(test.c); err == nil || !strings.Contains(err.Error(), test.name) {
			t.Errorf("%s: error %v", test.name, err)
		}
	}
}

func TestCloseIsIdempotentAndClosesChildren(t *testing.T) {
	pd := gputest.Physical(t, true)
	d, err := pd.Open(vk.DeviceOptions{})
	if err != nil {
		t.Fatal(err)
	}
	b, err := d.NewBuffer(4096, vk.DeviceLocal)
	if err != nil {
		t.Fatal(err)
	}
	pool := d.NewPool(vk.DeviceLocal, 4096)
	if _, err := pool.Alloc(16, 0); err != nil {
		t.Fatal(err)
	}
	p, err := d.NewPipeline(vk.PipelineConfig{Name: "increment", SPIRV: spirv(t, "increment"), Bindings: storage1})
	if err != nil {
		t.Fatal(err)
	}
	up, err := d.NewUploader(ctx, 4096, 2)
	if err != nil {
		t.Fatal(err)
	}
	r := d.NewRecorder(vk.RecorderOptions{})
	r.Dispatch(p, []vk.Bind{{Span: b.Whole(), Access: vk.ReadWrite}}, nil, 16, 1, 1)
	c, err := r.Finish()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Submit(ctx); err != nil { // may still run during Close
		t.Fatal(err)
	}
	abandoned := d.NewRecorder(vk.RecorderOptions{})

	err = d.Close()
	if !vk.Invariants && err != nil {
		t.Error(err)
	}
	if vk.Invariants {
		for _, want := range []string{"device-local buffer of 4.0 KiB, made at", "pool with 16 B", "pipeline increment", "uploader with 2", "commands of 1 ", "device_test.go"} {
			if err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("leak report lacks %q: %v", want, err)
			}
		}
	}
	for _, x := range []interface{ Close() error }{b, pool, p, up, c, d} {
		if err := x.Close(); err != nil {
			t.Errorf("%T closed twice: %v", x, err)
		}
	}
	if b.Mapped() != nil {
		t.Error("a closed buffer is mapped")
	}
	abandoned.Fill(b.Whole(), 0)
	if _, err := abandoned.Finish(); !errors.Is(err, vk.ErrClosed) {
		t.Errorf("recorder of a closed device: %v", err)
	}
	if _, err := d.NewBuffer(1, vk.Upload); !errors.Is(err, vk.ErrClosed) {
		t.Errorf("buffer on a closed device: %v", err)
	}
	if err := c.Run(ctx); !errors.Is(err, vk.ErrClosed) {
		t.Errorf("closed commands: %v", err)
	}
}

func TestPipelineCacheFile(t *testing.T) {
	pd := gputest.Physical(t, true)
	dir := filepath.Join(t.TempDir(), "made", "when missing")
	open := func() {
		t.Helper()
		d, err := pd.Open(vk.DeviceOptions{CacheDir: dir})
		if err != nil {
			t.Fatal(err)
		}
		p, err := d.NewPipeline(vk.PipelineConfig{Name: "increment", SPIRV: spirv(t, "increment"), Bindings: storage1})
		if err != nil {
			t.Fatal(err)
		}
		p.Close()
		if err := d.Close(); err != nil {
			t.Fatal(err)
		}
	}
	open()
	files, err := filepath.Glob(filepath.Join(dir, "*"))
	if err != nil || len(files) != 1 || !strings.HasSuffix(files[0], ".pipelines") {
		t.Fatalf("files %v, %v", files, err)
	}
	good, err := os.ReadFile(files[0])
	if err != nil {
		t.Fatal(err)
	}
	open()
	bad := append([]byte(nil), good...)
	bad[len(bad)-1] ^= 1
	other := append([]byte(nil), good...)
	other[24] ^= 1 // the vendor
	for name, content := range map[string][]byte{"damaged": bad, "of another device": other, "truncated": good[:40], "empty": {}, "text": []byte("hello")} {
		if err := os.WriteFile(files[0], content, 0o644); err != nil {
			t.Fatal(err)
		}
		open()
		if got, _ := os.ReadFile(files[0]); string(got) != string(good) {
			t.Errorf("%s: not replaced: %d bytes, want %d", name, len(got), len(good))
		}
	}
	// A folder that can't be made: its parent is a file.
	dir = filepath.Join(files[0], "below a file")
	open()
	// A folder has the file's name: it can be neither read nor replaced.
	dir = t.TempDir()
	if err := os.MkdirAll(filepath.Join(dir, filepath.Base(files[0]), "x"), 0o755); err != nil {
		t.Fatal(err)
	}
	open()
	if left, _ := filepath.Glob(filepath.Join(dir, ".*")); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}

func TestFeaturesAndLimitsAreSensible(t *testing.T) {
	pd := gputest.Physical(t, true)
	l := pd.Limits
	t.Logf("%s, %s %s, API %v, %s, subgroup %d (%d to %d), features %+v", pd.Name, pd.Driver, pd.DriverInfo, pd.APIVersion, pd.Type, l.SubgroupSize,
		l.MinSubgroupSize, l.MaxSubgroupSize, pd.Features)
	// Minimum limits of the Vulkan 1.1 specification.
	if l.MaxStorageBufferRange < 1<<27 || l.MaxPushConstantsSize < 128 || l.MaxComputeSharedMemorySize < 16384 || l.MaxComputeWorkGroupInvocations < 128 ||
		l.MaxTexelBufferElements < 65536 || l.MaxMemoryAllocationSize < 1<<30 || l.MaxComputeWorkGroupCount[0] < 65535 || l.SubgroupSize < 1 ||
		l.MinStorageBufferOffsetAlignment > 256 || l.MinTexelBufferOffsetAlignment > 256 {
		t.Errorf("limits %+v", l)
	}
	if len(pd.Heaps) == 0 || pd.Name == "" || pd.UUID == [16]byte{} || !pd.APIVersion.AtLeast(1, 1) {
		t.Errorf("device %+v", pd)
	}
	for _, s := range pd.Features.CooperativeMatrix {
		if s.M <= 0 || s.N <= 0 || s.K <= 0 {
			t.Errorf("shape %v", s)
		}
	}
	for _, s := range pd.Features.FlexibleMatrix {
		if s.M <= 0 || s.N <= 0 || s.K <= 0 {
			t.Errorf("flexible shape %v", s)
		}
	}
}

// lavapipe takes its vector width from the environment when the driver is loaded, so each width is tried in its own
// process.
func TestSubgroupSizeFollowsLavapipeWidth(t *testing.T) {
	if pd := gputest.Physical(t, false); pd.Driver != "llvmpipe" {
		t.Skipf("driver %q is not lavapipe", pd.Driver)
	}
	for _, width := range []int{128, 256, 512} {
		cmd := gputest.Again("-test.run=^(TestSubgroupSizeIsWhatTheShaderSees|TestReportedSubgroupSize)$", "-test.v")
		cmd.Env = append(os.Environ(), "LP_NATIVE_VECTOR_WIDTH="+strconv.Itoa(width), "PUMICE_TEST_REQUIRE_DEVICE=1")
		out, err := cmd.CombinedOutput()
		if err != nil || !strings.Contains(string(out), "subgroup size is "+strconv.Itoa(width/32)+"\n") {
			t.Errorf("width %d: %v\n%s", width, err, out)
		}
	}
}

func TestReportedSubgroupSize(t *testing.T) {
	t.Logf("subgroup size is %d", gputest.Physical(t, false).Limits.SubgroupSize)
}

func TestNoDriverIsErrNoDevice(t *testing.T) {
	if os.Getenv("PUMICE_TEST_NO_DRIVER") == "" {
		cmd := gputest.Again("-test.run=^TestNoDriverIsErrNoDevice$", "-test.v")
		none := filepath.Join(t.TempDir(), "none.json")
		cmd.Env = append(os.Environ(), "PUMICE_TEST_NO_DRIVER=1", "VK_DRIVER_FILES="+none, "VK_ICD_FILENAMES="+none)
		if out, err := cmd.CombinedOutput(); err != nil || !strings.Contains(string(out), "--- PASS") {
			t.Errorf("%v\n%s", err, out)
		}
		return
	}
	in, err := vk.NewInstance(vk.InstanceOptions{})
	if err == nil {
		defer in.Close()
		var devices []*vk.PhysicalDevice
		if devices, err = in.Devices(); err == nil {
			_, err = vk.Select(devices, "")
		}
	}
	if !errors.Is(err, vk.ErrNoDevice) || !strings.Contains(err.Error(), "no Vulkan driver is installed (Debian: apt install mesa-vulkan-drivers)") {
		t.Errorf("error %v", err)
	}
}
