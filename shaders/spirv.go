//go:build !lab

package shaders

// compiled is the compiled kernel of a name.
func compiled(name string) ([]byte, error) { return files.ReadFile("spv/" + name + ".spv") }
