//go:build !lab

package shaders

// spirv is the compiled kernel of a name.
func spirv(name string) ([]byte, error) { return files.ReadFile("spv/" + name + ".spv") }
