package shim

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

var (
	structPattern   = regexp.MustCompile(`(?s)typedef struct Vs(\w+) \{(.*?)\} Vs\w+;`)
	fieldPattern    = regexp.MustCompile(`[,\s*](\w+)(?:\[\d+\])?\s*[,;]`)
	constantPattern = regexp.MustCompile(`(?m)^#define VS_(\w+) \S+$`)
)

// layoutProgram writes a C file of static assertions: each structure of vulkan_types.h has the size of Vulkan's, each
// field the same offset and size, and each constant the same value.
func layoutProgram(header string) (program string, structs, fields, constants int) {
	var b strings.Builder
	b.WriteString("#include <stddef.h>\n#include <vulkan/vulkan_core.h>\n#include \"vulkan_types.h\"\n")
	for _, m := range structPattern.FindAllStringSubmatch(header, -1) {
		name := m[1]
		structs++
		guard := newerThanSome(name)
		if guard != "" {
			fmt.Fprintf(&b, "#ifdef %s\n", guard)
		}
		fmt.Fprintf(&b, "_Static_assert(sizeof(Vs%[1]s) == sizeof(Vk%[1]s), \"size of %[1]s\");\n", name)
		for _, line := range strings.Split(m[2], "\n") {
			// Each match takes the separator that the next one needs, so every comma is doubled.
			for _, f := range fieldPattern.FindAllStringSubmatch(strings.ReplaceAll(line, ",", ", ,"), -1) {
				fields++
				fmt.Fprintf(&b, "_Static_assert(offsetof(Vs%[1]s, %[2]s) == offsetof(Vk%[1]s, %[2]s) && sizeof(((Vs%[1]s *)0)->%[2]s) == sizeof(((Vk%[1]s *)0)->%[2]s), \"%[1]s.%[2]s\");\n", name, f[1])
			}
		}
		if guard != "" {
			b.WriteString("#endif\n")
		}
	}
	for _, m := range constantPattern.FindAllStringSubmatch(header, -1) {
		name := m[1]
		constants++
		guard := newerThanSome(name)
		if guard != "" {
			fmt.Fprintf(&b, "#ifdef %s\n", guard)
		}
		fmt.Fprintf(&b, "_Static_assert((long long)VS_%[1]s == (long long)VK_%[1]s, \"value of %[1]s\");\n", name)
		if guard != "" {
			b.WriteString("#endif\n")
		}
	}
	return b.String(), structs, fields, constants
}

// newerThanSome is the extension macro that guards a name which some distributions' headers lack, or "".
func newerThanSome(name string) string {
	name = strings.ToLower(strings.ReplaceAll(name, "_", ""))
	switch {
	case strings.Contains(name, "cooperativematrix2"), strings.Contains(name, "cooperativematrixflexible"):
		return "VK_NV_cooperative_matrix2"
	case strings.Contains(name, "cooperativematrix"):
		return "VK_KHR_cooperative_matrix"
	case strings.Contains(name, "mixedfloatdotproduct"):
		return "VK_VALVE_shader_mixed_float_dot_product"
	case strings.Contains(name, "layersetting"):
		return "VK_EXT_layer_settings"
	case strings.Contains(name, "shadercorebuiltins"):
		return "VK_ARM_shader_core_builtins"
	}
	return ""
}

func TestLayoutsAreVulkans(t *testing.T) {
	cc := os.Getenv("CC")
	if cc == "" {
		cc = "cc"
	}
	probe := exec.Command(cc, "-E", "-")
	probe.Stdin = strings.NewReader("#include <vulkan/vulkan_core.h>\n")
	if err := probe.Run(); err != nil {
		t.Skipf("SKIPPED, no Vulkan headers (libvulkan-dev) or no C compiler: %v", err)
	}
	header, err := os.ReadFile("vulkan_types.h")
	if err != nil {
		t.Fatal(err)
	}
	program, structs, fields, constants := layoutProgram(string(header))
	t.Logf("%d structures, %d fields, %d constants", structs, fields, constants)
	if structs < 70 || fields < 400 || constants < 70 {
		t.Errorf("found only %d structures, %d fields, %d constants in the header", structs, fields, constants)
	}
	if out, err := compile(t, cc, program); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
	// The comparison notices a field that moved.
	broken := strings.Replace(program, "offsetof(VkBufferCreateInfo, usage)", "offsetof(VkBufferCreateInfo, size)", 1)
	if _, err := compile(t, cc, broken); broken == program || err == nil {
		t.Error("a wrong offset was not noticed")
	}
}

func compile(t *testing.T, cc, program string) (string, error) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "layout.c")
	if err := os.WriteFile(file, []byte(program), 0o644); err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command(cc, "-std=c11", "-fsyntax-only", "-I", ".", file).CombinedOutput()
	return string(out), err
}
