package main

import (
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"pumice"
)

// TestPowerOfNvidia runs a program of that name that prints powers of one device.
func TestPowerOfNvidia(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("the program is a shell script")
	}
	dir := t.TempDir()
	script := `#!/bin/sh
[ "$1" = --id=GPU-00112233-4455-6677-8899-aabbccddeeff ] || { echo "No devices were found"; exit 6; }
while :; do echo 250.00; sleep 0.02; done
`
	if err := os.WriteFile(filepath.Join(dir, "nvidia-smi"), []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", dir+string(os.PathListSeparator)+os.Getenv("PATH"))
	d := pumice.DeviceInfo{Type: "discrete", PCIID: "10de:2330", UUID: "00112233445566778899aabbccddeeff"}
	x := nvidiaPower(d)
	if x == nil || x.Source != "nvidia-smi power.draw" {
		t.Fatalf("%+v", x)
	}
	defer x.Close()
	if got, ok := x.Watts(); !ok || got != 250 {
		t.Errorf("%g watts, known %t", got, ok)
	}
	d.UUID = strings.Repeat("0", 32)
	if other := nvidiaPower(d); other != nil {
		other.Close()
		t.Error("another device has a power")
	}
	d.PCIID = "1002:744c"
	if nvidiaPower(d) != nil {
		t.Error("a device of another maker has a power")
	}
}
