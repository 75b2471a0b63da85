package lint

import (
	"slices"
	"strconv"
	"testing"
)

// deviceless are the packages whose tests reach package vk but open no device.
var deviceless = []string{"internal/coalesce", "internal/isareport", "internal/lab", "pipeline/kernels", "quantize", "tools/mutate"}

// Go's test cache would take over a result from another driver where a package's tests don't record the driver, which internal/gputest does.
func TestPackagesWithDevicesRecordTheDriver(t *testing.T) {
	imports, inTests := map[string][]string{}, map[string][]string{}
	for _, s := range sources(t) {
		for _, spec := range s.ast.Imports {
			importPath, err := strconv.Unquote(spec.Path.Value)
			if err != nil {
				t.Fatal(err)
			}
			imported, ok := ours(importPath)
			switch {
			case !ok:
			case s.test():
				inTests[s.pkg] = append(inTests[s.pkg], imported)
			default:
				imports[s.pkg] = append(imports[s.pkg], imported)
			}
		}
	}
	var reachesVK func(pkg string) bool
	reachesVK = func(pkg string) bool { return pkg == "vk" || slices.ContainsFunc(imports[pkg], reachesVK) }
	found := 0
	for pkg, list := range inTests {
		if !reachesVK(pkg) && !slices.ContainsFunc(list, reachesVK) {
			continue
		}
		found++
		if recorded := slices.Contains(list, "internal/gputest"); recorded == slices.Contains(deviceless, pkg) {
			t.Errorf("tests of %s reach package vk; import internal/gputest: %t, listed as deviceless: %t", pkg, recorded, !recorded)
		}
	}
	if found == 0 {
		t.Error("no package's tests reach package vk")
	}
}
