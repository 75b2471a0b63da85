// Package gputest opens the device that tests run on.
//
// Environment variables configure it:
//
//   - PUMICE_DEVICE selects the device, as --device does.
//   - VK_DRIVER_FILES (or VK_ICD_FILENAMES) tells the Vulkan loader which driver to use.
//   - PUMICE_TEST_REQUIRE_DEVICE=1 makes a test fail, not skip, if there is no device.
//   - PUMICE_TEST_EXEC is the command that starts a test binary on a driver that needs a libc of its own; the programs
//     of tools/mesa.sh set it.
//   - PUMICE_TEST_COMPILES names a file to which each process appends lines `PIPELINES SECONDS`: how many pipelines it
//     compiled since its previous line, and the processor time that took (vk.Compiles).
//
// Go's test cache reuses a result if the test would read the same files and variables as before. It does not see what
// the Vulkan loader and the driver read, so everything that opens a device calls RecordDriver.
package gputest

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"

	"github.com/rs/zerolog"

	"pumice/vk"
)

// Options configure OpenWith. The zero value is that of Open.
type Options struct {
	Device       vk.DeviceOptions
	NoValidation bool // for benchmarks, and for tests that break rules on purpose
	Surfaces     bool // for windows
}

// Open opens the test device. If the validation layer is installed, it is on, with synchronization validation, and each
// of its messages fails the test. If there is no device, the test is skipped with the reason. The device is closed when
// the test ends.
func Open(t testing.TB) *vk.Device {
	t.Helper()
	return OpenWith(t, Options{})
}

// OpenWith is Open with options.
func OpenWith(t testing.TB, o Options) *vk.Device {
	t.Helper()
	pd := physical(t, !o.NoValidation, o.Surfaces)
	d, err := pd.Open(o.Device)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := d.Close(); err != nil {
			t.Error(err)
		}
	})
	return d
}

// Physical returns the test device without opening it. It is valid until the test ends.
func Physical(t testing.TB, validation bool) *vk.PhysicalDevice {
	t.Helper()
	return physical(t, validation, false)
}

func physical(t testing.TB, validation, surfaces bool) *vk.PhysicalDevice {
	t.Helper()
	in := instance(t, validation, surfaces)
	devices, err := in.Devices()
	if err != nil {
		t.Fatal(err)
	}
	pd, err := vk.Select(devices, os.Getenv("PUMICE_DEVICE"))
	if err != nil {
		missing(t, err)
	}
	return pd
}

// driverVariables decide which driver the loader finds and how it runs. tools/test.sh sets the first one to a hash of
// the driver's files.
var driverVariables = []string{
	"PUMICE_TEST_DRIVER", "PUMICE_DEVICE", "PUMICE_TEST_REQUIRE_DEVICE", "LP_NATIVE_VECTOR_WIDTH",
	"VK_DRIVER_FILES", "VK_ICD_FILENAMES", "VK_ADD_DRIVER_FILES", "VK_LAYER_PATH", "VK_INSTANCE_LAYERS",
}

// RecordDriver makes Go's test cache keep the package's result for the driver in use, so that the tests run again on
// another driver. Open and Physical call it. A test that opens a device in another way, or through another process,
// calls it first.
func RecordDriver(t testing.TB) {
	t.Helper()
	for _, name := range driverVariables {
		os.Getenv(name) // package testing records the name and the value
	}
}

func instance(t testing.TB, validation, surfaces bool) *vk.Instance {
	t.Helper()
	RecordDriver(t)
	m := &messages{t: t}
	o := vk.InstanceOptions{Validation: validation, Surfaces: surfaces, Logger: zerolog.Nop(), OnMessage: m.fail}
	in, err := vk.NewInstance(o)
	if validation && errors.Is(err, vk.ErrNoValidation) {
		t.Log("validation layer not installed: running without")
		o.Validation = false
		in, err = vk.NewInstance(o)
	}
	if err != nil {
		missing(t, err)
	}
	t.Cleanup(func() {
		if err := in.Close(); err != nil {
			t.Error(err)
		}
		m.stop()
		if err := ReportCompiles(); err != nil {
			t.Error(err)
		}
	})
	return in
}

var reported struct {
	sync.Mutex
	vk.CompileStats
}

// ReportCompiles appends what the process has compiled since the last call to the file that PUMICE_TEST_COMPILES names.
// This package calls it when a test ends; a test that opens a device in another way calls it itself.
func ReportCompiles() error {
	name := os.Getenv("PUMICE_TEST_COMPILES")
	if name == "" {
		return nil
	}
	reported.Lock()
	defer reported.Unlock()
	now := vk.Compiles()
	if now == reported.CompileStats {
		return nil
	}
	f, err := os.OpenFile(name, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(f, "%d %.3f\n", now.Pipelines-reported.Pipelines, (now.CPU - reported.CPU).Seconds())
	reported.CompileStats = now
	return errors.Join(err, f.Close())
}

// Again returns the command that runs this test binary in another process, with args.
func Again(args ...string) *exec.Cmd {
	line := append(strings.Fields(os.Getenv("PUMICE_TEST_EXEC")), os.Args[0])
	return exec.Command(line[0], append(line[1:], args...)...)
}

// missing ends a test that has no device.
func missing(t testing.TB, err error) {
	t.Helper()
	if !errors.Is(err, vk.ErrNoDevice) || os.Getenv("PUMICE_TEST_REQUIRE_DEVICE") == "1" {
		t.Fatal(err)
	}
	t.Skipf("SKIPPED, no device: %v", err)
}

// messages fails a test for each validation message. It drops messages after the test has ended, which a driver's
// thread may still send.
type messages struct {
	mu sync.Mutex
	t  testing.TB
}

func (m *messages) fail(msg vk.Message) {
	m.mu.Lock()
	defer m.mu.Unlock()
	switch {
	case m.t == nil:
	case msg.General: // from the loader or a driver, such as one that does not load
		m.t.Logf("%s: %s", msg.ID, msg.Text)
	default:
		m.t.Errorf("validation: %s: %s", msg.ID, msg.Text)
	}
}

func (m *messages) stop() {
	m.mu.Lock()
	m.t = nil
	m.mu.Unlock()
}
