// Package vkfault lets tests run a program on a fake Vulkan loader that fails on purpose: calls return errors, fences
// are never signalled, and it reports objects that are destroyed at the wrong time (testdata/standin.c).
package vkfault

import (
	_ "embed"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"pumice/internal/gputest"
)

//go:embed testdata/standin.c
var source []byte

// Mark begins each line on standard error in which the fake loader reports an error of the program.
const Mark = "[vkfault]"

// Variable is the environment variable that lists the faults, in the form that testdata/standin.c describes.
const Variable = "PUMICE_VKFAULT"

// After is the environment variable that names a file: calls are counted from the moment that it exists.
const After = Variable + "_AFTER"

// Env returns the environment of this process with the settings to run a program on the fake loader, except Variable.
// The program uses one device. The test is skipped if the fake loader can't be built: without a device, a C compiler,
// or Linux.
func Env(t testing.TB) []string {
	t.Helper()
	return append(os.Environ(), "LD_PRELOAD="+build(t), Variable+"_LOADER="+loader(t))
}

// build compiles the fake loader. It has the real loader's file name and is loaded first, so that the program uses it.
func build(t testing.TB) string {
	t.Helper()
	if runtime.GOOS != "linux" {
		t.Skip("the fake Vulkan loader needs Linux")
	}
	cc, err := exec.LookPath("cc")
	if err != nil {
		t.Skipf("no C compiler: %v", err)
	}
	dir := t.TempDir()
	c, lib := filepath.Join(dir, "standin.c"), filepath.Join(dir, "libvulkan.so.1")
	if err := os.WriteFile(c, source, 0o644); err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command(cc, "-std=gnu11", "-shared", "-fPIC", "-O1", "-Wall", "-Werror", "-Wl,-soname,libvulkan.so.1", "-o", lib, c, "-ldl", "-lpthread").CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return lib
}

// loader returns the path of the loader that this process has opened.
func loader(t testing.TB) string {
	t.Helper()
	gputest.Physical(t, false)
	maps, err := os.ReadFile("/proc/self/maps")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(maps)) {
		if i := strings.IndexByte(line, '/'); i >= 0 && strings.Contains(line[i:], "/libvulkan.so.1") {
			return strings.TrimSpace(line[i:])
		}
	}
	t.Skip("no libvulkan.so.1 is loaded")
	return ""
}
